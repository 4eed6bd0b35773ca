"""Derivatives in double precision: dot products, Taylor series, finite differences."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import DOT, SAME, STRATEGIES, dot, relative, rough_shot

import jaxfwi as jf


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
SLOW = {"2D order 2, surface, mixed sides", "2D one cell deep", "3D whole", "3D order 8"}
WITH_CHECKPOINTS = {"1D", *SLOW}  # for the others it would take long, and is the same plain differentiation


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in CASES])
def test_dot_products_in_every_strategy(name):
    """``<J v, d> = <v, J^T d>`` for the derivative J by model, wavelet, source and receiver positions; and one J."""
    case = CASES[name]
    simulator, model, shot = rough_shot(
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
        assert shot.source_lattice
        assert shot.receiver_lattice
    data_shape = jax.eval_shape(simulator, model, shot)
    rng = np.random.default_rng(1)
    at = (model.vp, shot.wavelet, *(() if case.on_nodes else (shot.source, shot.receiver)))
    directions = tuple(jnp.asarray(rng.standard_normal(x.shape)) for x in at)
    weights = jnp.asarray(rng.standard_normal(data_shape.shape))

    def products(simulator, at, directions):
        def data(vp, wavelet, source=shot.source, receiver=shot.receiver):
            return simulator(
                jf.Acoustic(vp=vp), jf.Survey(source, receiver, wavelet, shot.source_lattice, shot.receiver_lattice)
            )

        values, change = jax.jvp(data, at, directions)
        return values, change, jax.vjp(data, *at)[1](weights)

    reference = None
    for strategy, memory in STRATEGIES.items():
        if strategy == "checkpoints" and name not in WITH_CHECKPOINTS:
            continue
        run = jax.jit(functools.partial(products, dataclasses.replace(simulator, memory=memory)))
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


class Around(NamedTuple):
    """The misfit of a shot along a line through a model and a survey, and its gradient there."""

    value: Callable
    gradient: tuple

    def slopes(self, direction, steps):
        """By which power of the step the remainder after the gradient shrinks, at each of the steps."""
        along = dot(self.gradient, direction)
        start = self.value(direction, 0.0)
        rest = [abs(self.value(direction, h) - start - h * along) for h in (*steps, steps[-1] / 2)]
        return [math.log2(a / b) for a, b in itertools.pairwise(rest)]

    def by_differences(self, direction, h):
        """The derivative along the line from five points, right to the fourth power of the step."""
        near, far = (self.value(direction, k * h) - self.value(direction, -k * h) for k in (1, 2))
        return (8.0 * near - far) / (12.0 * h)

    def by_differences_ahead(self, direction, h):
        """The same from points on the positive side alone, to the third power."""
        values = [self.value(direction, k * h) for k in range(4)]
        return float(np.dot([-11.0, 18.0, -9.0, 2.0], values)) / (6.0 * h)


def around(simulator, model, shot, simulate=jf.Simulator.__call__):
    """Where the derivatives by ``(vp, source, receiver)`` are tested."""
    at = (model.vp, shot.source, shot.receiver)
    observed = 0.7 * simulator(jf.Acoustic(vp=1.05 * model.vp), shot)

    def misfit(vp, source, receiver):
        data = simulate(simulator, jf.Acoustic(vp=vp), jf.Survey(source, receiver, shot.wavelet))
        return jf.misfits.l2(data, observed)

    run = jax.jit(jax.value_and_grad(misfit, (0, 1, 2)))

    def value(direction, h):
        return float(run(*jax.tree.map(lambda x, d: x + h * d, at, direction))[0])

    return Around(value, run(*at)[1])


def placed(shot, spacing, source, receiver):
    """The shot with its sources and receivers at these places in cells."""
    h = np.asarray(spacing)
    return jf.Survey(jnp.asarray(source * h), jnp.asarray(receiver * h), shot.wavelet)


def only(around_, **given):
    """A direction that is zero but in what is given."""
    names = ("vp", "source", "receiver")
    return tuple(given.get(n, jnp.zeros_like(g)) for n, g in zip(names, around_.gradient, strict=True))


# Steps at which the remainder is far above rounding, and its third-order part a per cent of the second at most.
CELLS, METRES = [8.0, 4.0, 2.0], [0.01, 0.005, 0.0025]
# What third order is left. Measured: 2.0013 at most for the model, 1.977 to 2.0001 for positions.
SLOPE = 0.05


def check_slopes(here, directions):
    for name, steps in (("vp", CELLS), ("source", METRES), ("receiver", METRES)):
        slopes = here.slopes(only(here, **{name: directions[name]}), steps)
        assert max(abs(s - 2.0) for s in slopes) < SLOPE, (name, slopes)


def random_directions(here, seed):
    rng = np.random.default_rng(seed)
    drawn = (jnp.asarray(rng.uniform(-1.0, 1.0, g.shape)) for g in here.gradient)
    return dict(zip(("vp", "source", "receiver"), drawn, strict=True))


@pytest.fixture(scope="module")
def at_a_surface():
    """All cells of a model under a free surface, absorbing and reflecting sides; places by surface, edge and corner."""
    simulator, model, shot = rough_shot(
        (9, 11), absorber=jf.CPML(width=((0, 4), (3, 0))), free_surface=True, differentiate_absorber=True
    )
    source = np.array([[0.37, 5.4], [0.61, 0.28]])
    receiver = np.array([[0.55, 8.3], [4.4, 9.62], [7.64, 0.33]])
    return around(simulator, model, placed(shot, simulator.grid.spacing, source, receiver))


@pytest.mark.telling
def test_taylor_over_all_cells_and_places(at_a_surface):
    check_slopes(at_a_surface, random_directions(at_a_surface, 2))


@pytest.mark.telling
def test_uniform_shift_with_a_source_near_the_surface(at_a_surface):
    direction = only(at_a_surface, vp=jnp.ones((9, 11)))
    exact = at_a_surface.by_differences(direction, 0.5)
    # Five points half a metre per second apart: 1e-16 / 2.5e-4 of rounding. Measured: 7e-12.
    assert abs(dot(at_a_surface.gradient, direction) / exact - 1.0) < 1e-9


def test_taylor_with_the_absorber_held_fixed():
    simulator, model, shot = rough_shot((9, 11), absorber=jf.CPML(width=((3, 2), (4, 1))))
    source = np.array([[0.3, 0.6], [7.6, 9.4]])
    receiver = np.array([[0.55, 8.3], [4.4, 5.62], [7.64, 0.33]])
    here = around(simulator, model, placed(shot, simulator.grid.spacing, source, receiver))
    directions = random_directions(here, 3)
    everywhere = directions["vp"]
    check_slopes(here, {**directions, "vp": jnp.pad(everywhere[1:-1, 1:-1], 1)})
    # The test can fail: the layer is filled with copies of the edge, and these move the data. Measured: 0.98 to 0.995.
    slopes = here.slopes(only(here, vp=everywhere), CELLS)
    assert max(abs(s - 1.0) for s in slopes) < 0.05


@pytest.mark.slow
def test_taylor_in_three_dimensions():
    simulator, model, shot = rough_shot(
        (5, 6, 4), absorber=jf.CPML(width=2), free_surface=True, differentiate_absorber=True
    )
    source = np.array([[0.4, 0.3, 2.6], [3.3, 4.7, 0.5]])
    receiver = np.array([[0.6, 3.4, 1.3], [2.3, 0.4, 2.7], [3.7, 4.6, 2.6]])
    here = around(simulator, model, placed(shot, simulator.grid.spacing, source, receiver))
    check_slopes(here, random_directions(here, 4))


def test_data_are_linear_in_the_wavelet():
    simulator, model, shot = rough_shot((9, 12), free_surface=True)
    other = jnp.flip(shot.wavelet, axis=0) ** 2
    run = jax.jit(lambda model, wavelet: simulator(model, jf.Survey(shot.source, shot.receiver, wavelet)))
    first, second, mixed = (run(model, w) for w in (shot.wavelet, other, 2.0 * shot.wavelet - 3.0 * other))
    # Rounding of 100 steps. Measured: 9e-16.
    assert relative(mixed, 2.0 * first - 3.0 * second) < 1e-13


def test_positions_that_happen_to_lie_on_nodes():
    simulator, model, shot = rough_shot((9, 11), free_surface=True, absorber=jf.CPML(width=3))
    source, receiver = np.array([[2.0, 4.0], [5.0, 7.0]]), np.array([[3.0, 8.0], [4.0, 3.0], [8.0, 10.0]])
    shot = placed(shot, simulator.grid.spacing, source, receiver)

    def simulate(simulator, model, shot):
        return jf.simulate(simulator, model, jax.tree.map(lambda x: x[None], shot))[0]

    here = around(simulator, model, shot, simulate)
    for name, gradient in zip(("source", "receiver"), here.gradient[1:], strict=True):
        for index in np.ndindex(gradient.shape):
            direction = only(here, **{name: jnp.zeros(gradient.shape).at[index].set(1.0)})
            # The window is eight nodes wide and not quite zero at its ends, so the derivative jumps a little where the
            # eight nodes change. What is returned belongs to the positive side. Measured: 2.2e-8, from points 2 cm
            # apart.
            assert here.by_differences_ahead(direction, 0.02) == pytest.approx(float(gradient[index]), rel=1e-6)
            # The mean of both sides: measured up to 0.6 % of the largest derivative away.
            away = abs(here.by_differences(direction, 0.02) - float(gradient[index]))
            assert away < 0.01 * float(jnp.abs(gradient).max())


def test_positions_marked_as_on_nodes_are_refused():
    simulator, model, shot = rough_shot((6, 7), absorber=jf.CPML(width=0))
    nodes = [jnp.round(x / jnp.array([10.0, 12.0])) * jnp.array([10.0, 12.0]) for x in (shot.source, shot.receiver)]
    shot = jf.Survey(*nodes, shot.wavelet)
    marked = shot.on_nodes(simulator.grid)
    for function in (jax.grad, jax.jacfwd):
        with pytest.raises(
            ValueError, match=r"marked by Survey.on_nodes\(grid\) cannot be differentiated: .*before on_nodes"
        ):
            function(lambda s: jnp.sum(simulator(model, s)))(marked)
    # the wavelet of such a survey can
    gradient = jax.grad(lambda w: jnp.sum(simulator(model, dataclasses.replace(marked, wavelet=w))))(marked.wavelet)
    assert float(jnp.abs(gradient).max()) > 0.0
