"""How many programs jax compiles in a block of code, and what is in them."""

import contextlib
import re

import jax

import jaxfwi as jf

_compiled = 0


def _listen(event, duration, **_):
    global _compiled
    _compiled += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_listen)


@contextlib.contextmanager
def compilations():
    """Yields a function that tells how many were compiled since."""
    start = _compiled
    yield lambda: _compiled - start


def loops(function, *arguments):
    """Of each loop of the program that `function` compiles to, how many kernels one pass through it starts."""
    text = jax.jit(function).lower(*arguments).compile(jf.compiler_options()).as_text()
    bodies = set(re.findall(r"body=%?([\w.\-]+)", text))
    counts = []
    for computation in re.split(r"\n(?=%|ENTRY)", text):
        if re.match(r"%?([\w.\-]+)", computation).group(1) in bodies:
            operations = re.findall(r"^\s+(?:ROOT )?%?[\w.\-]+ = (?:\(.*?\)|\S+) ([\w\-]+)\(", computation, re.M)
            counts.append(sum(name in ("fusion", "copy", "dynamic-update-slice", "scatter") for name in operations))
    return counts
