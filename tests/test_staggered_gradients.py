"""Derivatives of variable-density and elastic waves: strategies, dot products, Taylor series, memory."""

import dataclasses
import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import DOT, SAME, STRATEGIES, dot, problem_with, relative

import jaxfwi as jf


class Case(NamedTuple):
    equation: type
    shape: tuple
    order: int
    width: int | tuple = 3
    free_surface: bool = False
    absorber: bool = False  # its material is differentiated
    water: bool = False


CASES = {
    "acoustic": Case(jf.VariableDensityAcoustic, (9, 12), 4),
    "acoustic, surface, mixed sides": Case(jf.VariableDensityAcoustic, (9, 8), 4, ((9, 3), (0, 1)), free_surface=True),
    "elastic": Case(jf.Elastic, (10, 9), 4),
    "elastic, order 8, one cell wide": Case(jf.Elastic, (12, 1), 8, 2),
    "elastic, surface, water": Case(jf.Elastic, (9, 11), 4, ((9, 3), (2, 0)), free_surface=True, water=True),
    "elastic, surface": Case(jf.Elastic, (9, 11), 4, ((9, 3), (2, 0)), free_surface=True),
    "elastic, absorber differentiated": Case(jf.Elastic, (9, 8), 2, ((2, 0), (1, 3)), absorber=True),
    "elastic 3D, surface, water": Case(
        jf.Elastic, (4, 5, 3), 2, ((2, 1), (0, 2), (2, 2)), free_surface=True, water=True
    ),
}
MARKS = {
    "acoustic, surface, mixed sides": pytest.mark.telling,
    "elastic": pytest.mark.slow,
    "elastic, order 8, one cell wide": pytest.mark.slow,
    "elastic, surface": pytest.mark.slow,
    "elastic, absorber differentiated": pytest.mark.slow,
    "elastic 3D, surface, water": pytest.mark.slow,
}


def problem(case, seed=0, **options):
    """A simulator, a rough model and one shot anywhere, driving and recording all there is."""
    rng, ndim = np.random.default_rng(seed), len(case.shape)
    spacing = (10.0, 12.0, 11.0)[:ndim]
    dt = 0.6 * jf.Grid(case.shape, spacing, 1.0, 1).stable_dt(2300.0, case.order, staggered=True)
    grid = jf.Grid(case.shape, spacing, dt, 60)
    vp, rho = (2000.0 + 100.0 * rng.uniform(-1.0, 1.0, case.shape) for _ in range(2))
    vs = vp / 1.8
    if case.water:
        vs[: case.shape[0] // 2] = 0.0
    parameters = (vp, rho) if case.equation is jf.VariableDensityAcoustic else (vp, vs, rho)
    model = case.equation(*map(jnp.asarray, parameters))
    where = rng.uniform(0.0, grid.extent, (5, ndim))
    where[0], where[-1, 0] = 0.0, 0.0
    driven, recorded = tuple(case.equation.driven(ndim)), tuple(case.equation.recorded(ndim))
    if ndim == 3:  # fewer, for a smaller program
        driven, recorded = ("vy", "explosion"), ("vx", "vz", "syz")
    # pulses of two steps' width, one for each field; forces of a size that moves as much as the moments do
    pulse = np.exp(-(((np.arange(60) - 8) / 2.5) ** 2))
    size = np.where([name[0] == "v" for name in driven], 1e6, 1.0) * rng.uniform(0.5, 1.5, (2, len(driven)))
    survey = jf.Survey.from_arrays(where[None, :2], where[2:], (pulse[:, None, None] * size)[None])
    simulator = jf.Simulator(
        grid,
        case.order,
        jf.CPML(width=case.width),
        free_surface=case.free_surface,
        differentiate_absorber=case.absorber,
        source_fields=driven,
        receiver_fields=recorded,
        **options,
    )
    weights = rng.standard_normal((60, 3, len(recorded))) * np.where([name[0] == "v" for name in recorded], 1e6, 1.0)
    return simulator, model, survey[0], jnp.asarray(weights)


@pytest.mark.parametrize("name", [pytest.param(n, marks=MARKS.get(n, ())) for n in CASES])
def test_dot_products_in_every_strategy(name):
    """``<J v, d> = <v, J^T d>`` for the derivative J by model, wavelet and positions, together; and one J."""
    simulator, model, shot, weights = problem(CASES[name])
    rng = np.random.default_rng(1)
    directions = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape)), (model, shot))

    def products(simulator, at, directions):
        values, change = jax.jvp(simulator, at, directions)
        return values, change, jax.vjp(simulator, *at)[1](weights)

    reference = None
    # checkpoints are the same plain differentiation: one case is enough
    for strategy in STRATEGIES if name == "elastic" else ("full", "boundary"):
        run = jax.jit(functools.partial(products, dataclasses.replace(simulator, memory=STRATEGIES[strategy])))
        values, change, adjoint = together = run((model, shot), directions)
        left, right = dot(change, weights), dot(directions, adjoint)
        assert abs(left - right) < DOT * abs(left), strategy
        # The data are linear in the wavelet.
        left, right = dot(values, weights), dot(shot.wavelet, adjoint[1].wavelet)
        assert abs(left - right) < DOT * abs(left), strategy
        reference = reference or together
        for ours, plain in zip(jax.tree.leaves(together), jax.tree.leaves(reference), strict=True):
            # Measured: 2e-14 at most, of positions.
            assert relative(ours, plain) < SAME, strategy


@pytest.mark.parametrize("equation", [jf.VariableDensityAcoustic, jf.Elastic])
@pytest.mark.parametrize("free_surface", [False, pytest.param(True, marks=pytest.mark.telling)])
def test_taylor_over_all_cells(equation, free_surface):
    """Each parameter in every cell, the layer's copies of the edge included, and water."""
    case = Case(equation, (9, 8), 4, ((2, 3), (3, 0)), free_surface=free_surface, absorber=True, water=True)
    simulator, model, shot, weights = problem(case)
    observed = 0.9 * jax.jit(simulator)(model, shot)

    def misfit(model):
        return 0.5 * jnp.sum(((simulator(model, shot) - observed) * weights) ** 2)

    run = jax.jit(jax.value_and_grad(misfit))
    value, gradient = run(model)
    rng = np.random.default_rng(2)
    for field in dataclasses.fields(model):
        draw = rng.uniform(-1.0, 1.0, case.shape)
        if field.name == "vs":  # water stays water: the harmonic mean is not smooth there
            draw = np.where(model.vs > 0, draw, 0.0)
        rest = []
        for h in (4.0, 2.0, 1.0):
            moved = dataclasses.replace(model, **{field.name: getattr(model, field.name) + h * jnp.asarray(draw)})
            rest.append(abs(run(moved)[0] - value - h * jnp.vdot(getattr(gradient, field.name), draw)))
        slopes = [math.log2(a / b) for a, b in itertools.pairwise(rest)]
        # The remainder of third order.
        assert max(abs(s - 2.0) for s in slopes) < 0.05, (field.name, slopes)


def test_water_has_no_gradient_by_vs():
    simulator, model, shot, weights = problem(CASES["elastic, surface, water"])
    gradient = jax.jit(jax.grad(lambda m: jnp.vdot(simulator(m, shot), weights)))(model)
    water = np.asarray(model.vs) == 0
    assert (np.asarray(gradient.vs)[water] == 0).all()
    assert (np.asarray(gradient.vs)[~water] != 0).all()
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_transformations_of_an_elastic_gradient():
    """Batches, second derivatives and `vmap` go through the stages as through a single step."""
    simulator, model, shot, _ = problem(Case(jf.Elastic, (8, 7), 2, 2, free_surface=True))
    survey = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x, 0.8 * x]), shot)
    observed = jnp.zeros((3, 60, 3, len(simulator.receiver_fields)))

    def gradient(memory, model, **options):
        s = dataclasses.replace(simulator, memory=memory)
        return problem_with(s, survey, observed, **options).misfit_and_gradient(model)[1]

    one_by_one = jax.jit(functools.partial(gradient, jf.BoundarySaving()))(model)
    together = jax.jit(functools.partial(gradient, jf.BoundarySaving(), batch=2))(model)
    direction = jax.tree.map(jnp.cos, model)
    products = [
        jax.jit(lambda m, memory=memory: jax.jvp(functools.partial(gradient, memory), (m,), (direction,)))(model)
        for memory in (jf.BoundarySaving(), jf.FullStorage())
    ]
    for a, b in itertools.chain(
        zip(jax.tree.leaves(together), jax.tree.leaves(one_by_one), strict=True),
        zip(jax.tree.leaves(products[0]), jax.tree.leaves(products[1]), strict=True),
    ):
        assert relative(a, b) < SAME


@pytest.mark.slow
def test_memory_of_an_elastic_gradient():
    """The ring holds no more than going backwards needs: at order 8 four fields a side, 3 or 4 cells of each."""
    shape, steps = (173, 561), 2000
    grid = jf.Grid(shape, 20.0, 2e-3, steps)
    survey = jf.Survey.fixed_spread(
        source_x=[5600.0],
        source_z=20.0,
        receiver_x=np.arange(0, 561, 4) * 20.0,
        receiver_z=20.0,
        wavelet=jf.ricker(grid, 5.0).astype(jnp.float32),
    ).on_nodes(grid)
    survey = jax.tree.map(lambda x: x.astype(jnp.float32), survey)
    model = jf.Elastic(*(jnp.full(shape, x, jnp.float32) for x in (2000.0, 1150.0, 2000.0)))
    observed = jnp.zeros((1, steps, 141, 2), jnp.float32)

    def temporary_bytes(memory):
        simulator = jf.Simulator(grid, 8, jf.CPML(20), memory=memory, receiver_fields=("vx", "vz"))
        run = jax.jit(lambda m: jf.Problem(simulator, survey, observed).misfit_and_gradient(m))
        return run.lower(model).compile().memory_analysis().temp_size_in_bytes

    boundary = temporary_bytes(jf.BoundarySaving())
    ring = 2 * (4 + 3 + 3 + 4) * (173 + 561)
    # The ring, the data thrice (raw, at samples, residual), and the working set.
    assert boundary < 4 * steps * (ring + 3 * 2 * 141) + 4 * 40 * 229 * 617
    assert boundary < temporary_bytes(jf.FullStorage()) / 15
