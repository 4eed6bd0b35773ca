"""Derivatives in double precision: dot products, Taylor series, finite differences."""

import functools
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfwi as jf

# What is asked is what comes out, not how fast.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

STRATEGIES = {"full": jf.FullStorage(), "checkpoints": jf.Checkpointing(), "boundary": jf.BoundarySaving()}


def problem(shape, *, order=4, seed=0, sources=2, receivers=3, spacing=(10.0, 12.0, 11.0), **options):
    """A simulator, a rough model and one shot anywhere, one of its sources in a corner and one receiver on an edge.

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


def with_memory(simulator, memory):
    return eqx.tree_at(lambda s: s, simulator, memory)


def dot(a, b):
    return float(sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)))


class Case(NamedTuple):
    shape: tuple
    order: int
    width: int | tuple = 4
    free_surface: bool = False
    whole: bool = False  # the absorber's material is differentiated
    on_nodes: bool = False


CASES = {
    "1D": Case((30,), 8),
    "1D whole, surface": Case((25,), 4, ((0, 3),), free_surface=True, whole=True),
    "2D": Case((9, 12), 4),
    "2D order 2, surface, mixed sides": Case((11, 8), 2, ((9, 3), (0, 1)), free_surface=True),
    "2D order 8, no layer": Case((10, 11), 8, 0),
    "2D whole, mixed sides": Case((9, 10), 4, ((2, 0), (1, 4)), whole=True),
    "2D one cell deep": Case((1, 20), 4, 3),
    "2D on nodes, surface": Case((12, 9), 8, 3, free_surface=True, on_nodes=True),
    "3D surface, mixed sides": Case((5, 7, 6), 2, ((2, 1), (0, 2), (3, 0)), free_surface=True),
    "3D whole": Case((6, 3, 7), 4, 2, whole=True),
    "3D order 8": Case((5, 6, 4), 8, ((2, 1), (1, 0), (0, 3))),
}
SLOW = {"3D whole", "3D order 8"}
PLAIN_ENOUGH = {"2D order 2, surface, mixed sides", "2D order 8, no layer", "2D whole, mixed sides", "2D one cell deep"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in CASES])
def test_dot_products_in_every_strategy(name):
    """``<J v, d> = <v, J^T d>`` for the derivative J by model, wavelet, source and receiver positions; and one J."""
    case = CASES[name]
    simulator, model, shot = problem(
        case.shape,
        order=case.order,
        absorber=jf.CPML(width=case.width),
        free_surface=case.free_surface,
        differentiate_absorber=case.whole,
    )
    if case.on_nodes:
        spacing = jnp.asarray(simulator.grid.spacing)
        nearest = [jnp.round(x / spacing) * spacing for x in (shot.source, shot.receiver)]
        shot = jf.Survey(*nearest, shot.wavelet).on_nodes(simulator.grid)
        assert shot.source_on_nodes
        assert shot.receiver_on_nodes
    data_shape = jax.eval_shape(simulator, model, shot)
    rng = np.random.default_rng(1)
    at = (model.vp, shot.wavelet, *(() if case.on_nodes else (shot.source, shot.receiver)))
    directions = tuple(jnp.asarray(rng.standard_normal(x.shape)) for x in at)
    weights = jnp.asarray(rng.standard_normal(data_shape.shape))

    def products(simulator, at, directions):
        def data(vp, wavelet, source=shot.source, receiver=shot.receiver):
            return simulator(
                jf.Acoustic(vp=vp), jf.Survey(source, receiver, wavelet, shot.source_on_nodes, shot.receiver_on_nodes)
            )

        values, change = jax.jvp(data, at, directions)
        return values, change, jax.vjp(data, *at)[1](weights)

    reference = None
    for strategy, memory in STRATEGIES.items():
        if strategy == "checkpoints" and name in PLAIN_ENOUGH:
            continue
        run = jit(functools.partial(products, dataclasses.replace(simulator, memory=memory)))
        together = run(at, directions)
        values, _, adjoint = together
        # The data are linear in the wavelet.
        left, right = dot(values, weights), dot(shot.wavelet, adjoint[1])
        assert abs(left - right) < DOT * abs(left), strategy
        for i, (direction, pulled) in enumerate(zip(directions, adjoint, strict=True)):
            alone = tuple(d if j == i else jnp.zeros_like(d) for j, d in enumerate(directions))
            left, right = dot(run(at, alone)[1], weights), dot(direction, pulled)
            assert abs(left - right) < DOT * abs(left), (strategy, i)
            assert left != 0.0
        reference = reference or together
        for ours, plain in zip(jax.tree.leaves(together), jax.tree.leaves(reference), strict=True):
            assert relative(ours, plain) < SAME, strategy
