"""What several test files use: problems and runs by plain options, memory strategies, how results are compared."""

import jax
import jax.numpy as jnp

import jaxfwi as jf

STRATEGIES = {"full": jf.FullStorage(), "checkpoints": jf.Checkpointing(), "boundary": jf.BoundarySaving()}

# Both sides are the same sums of 1e4 to 1e6 terms in another order. Measured: 7e-13 where the product nearly cancels
# (3D at a free surface, boundary saving), else below 1e-13.
DOT = 1e-11
# Boundary saving rebuilds the fields of some 100 steps, each rounded. Measured: 1.1e-12 in the same case, else below
# 1.1e-13.
SAME = 1e-11

_ON = ("devices", "batch", "domains")
_OF_PROBLEM = (*_ON, "misfit", "weights", "aperture")


def dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def relative(a, b):
    """The largest difference as a part of the largest value."""
    return float(jnp.abs(a - b).max() / jnp.abs(b).max())


def with_on(options):
    """Options with devices, batch and domains gathered in `jf.On`."""
    return {
        **{name: x for name, x in options.items() if name not in _ON},
        "on": jf.On(**{name: x for name, x in options.items() if name in _ON}),
    }


def simulate_with(simulator, model, survey, **options):
    return jf.simulate(simulator, model, survey, **with_on(options))


def problem_with(simulator, survey, observed=None, **options):
    return jf.Problem(simulator, survey, observed, **with_on(options))


def invert_with(simulator, start, survey, observed, **options):
    """An inversion, with the options of its problem among its own."""
    own = {name: options.pop(name) for name in _OF_PROBLEM if name in options}
    return jf.invert(problem_with(simulator, survey, observed, **own), start, **options)
