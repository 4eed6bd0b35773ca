"""What several test files use: problems and runs by plain options, memory strategies, how results are compared."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

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


def assert_same_bits(a, b):
    """All leaves are the same, bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def with_memory(simulator, memory):
    return dataclasses.replace(simulator, memory=memory)


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


def rough_shot(shape, *, order=4, seed=0, sources=2, receivers=3, spacing=(10.0, 12.0, 11.0), **options):
    """A simulator, a rough acoustic model and one shot anywhere, one of its sources in a corner and one receiver on an
    edge.

    The wavelet is complete within the time axis and resolved by the grid; waves cross the model several times.
    """
    spacing, rng = spacing[: len(shape)], np.random.default_rng(seed)
    vp = 2000.0 + 100.0 * rng.uniform(-1.0, 1.0, shape)
    one = jf.Grid(shape, spacing, 1.0, 1)
    frequency = one.safe_frequency(vp.min(), order) / 1.8
    dt = 0.7 * one.stable_dt(2200.0, order)
    grid = jf.Grid(shape, spacing, dt, max(100, math.ceil(3.0 / frequency / dt)))
    where = rng.uniform(0.0, grid.extent, (sources + receivers, len(shape)))
    where[0], where[-1, 0] = 0.0, 0.0
    wavelet = jf.ricker(grid, frequency)[None, :, None] * jnp.asarray(rng.uniform(0.5, 1.5, sources))
    survey = jf.Survey.from_arrays(where[None, :sources], where[sources:], wavelet)
    options = {"absorber": jf.CPML(width=4), **options}
    return jf.Simulator(grid, space_order=order, **options), jf.Acoustic(vp=jnp.asarray(vp)), survey[0]


def rough_shots(shots, shape=(20,), seed=5, **options):
    """A simulator, a model, a survey of several shots with sources and receivers on nodes, and observed data."""
    simulator, model, _ = rough_shot(shape, seed=seed, **options)
    grid, rng = simulator.grid, np.random.default_rng(seed)
    source = rng.integers(0, grid.shape, (shots, 1, grid.ndim)) * np.asarray(grid.spacing)
    receiver = rng.integers(0, grid.shape, (shots, 3, grid.ndim)) * np.asarray(grid.spacing)
    safe = grid.safe_frequency(float(model.vp.min()), simulator.space_order)
    survey = jf.Survey.from_arrays(source, receiver, jf.ricker(grid, safe / 1.8)).on_nodes(grid)
    return simulator, model, survey, jnp.asarray(rng.standard_normal((shots, grid.nt, 3, 1)))
