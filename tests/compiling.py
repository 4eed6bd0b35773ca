"""How many programs jax compiles in a block of code."""

import contextlib

import jax

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
