"""The grid of a shot in blocks over devices: the same data and derivatives as on one device."""

import collections
import dataclasses
import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from devices import on_devices
from helpers import STRATEGIES, relative, with_memory
from jax.sharding import Mesh, PartitionSpec

import jaxfwi as jf
from jaxfwi.grid.blocks import Split
from jaxfwi.shots.aperture import cutouts
from jaxfwi.shots.devices import split_of

REPLICATED = PartitionSpec()
# The same numbers, on nodes to the bit but for how a program was compiled; receivers between nodes sum over blocks.
# Measured: 7e-16 of a component's largest value.
DATA = 1e-14
# The same sums in another order, of 60 steps. Measured: 4.7e-15 of gradients, 1.5e-14 of the Hessian product.
SAME = 2e-13
FIELDS = {
    jf.Acoustic: (("u",), ("u",)),
    jf.VariableDensityAcoustic: (("p", "vx"), ("vz", "p")),
    jf.Elastic: (("explosion", "vx"), ("vz", "sxz")),
}


class Case(NamedTuple):
    shape: tuple
    domains: int | tuple
    order: int
    width: int | tuple
    spare: int  # cells that the last block has too many
    equation: type = jf.Acoustic
    strategies: tuple = ("boundary",)
    ways: tuple = ("outside",)
    free_surface: bool = False
    whole: bool = False  # the absorber's material is differentiated
    on_nodes: bool = False  # the survey, whose positions are not differentiated then


ALL, WAYS = tuple(STRATEGIES), ("outside", "inside", "by hand")
CASES = {
    "1D in 4": Case((40,), 4, 8, ((2, 1),), 1, strategies=ALL),
    "2D in 3": Case((7, 27), 3, 4, ((2, 0), (2, 1)), 2, ways=WAYS),
    "2D whole along the first axis": Case((24, 7), (3, 1), 2, ((1, 2), (2, 0)), 1, whole=True),
    "elastic, surface": Case((9, 21), 2, 4, ((0, 2), (2, 0)), 1, jf.Elastic, free_surface=True, on_nodes=True),
}
SLOW = {
    "2D in 3, full": Case((7, 26), 3, 4, 2, 2, strategies=("full",), ways=WAYS),
    "2D in 3, checkpoints": Case((7, 27), 3, 4, 2, 1, strategies=("checkpoints",), ways=WAYS),
    "2D in 2 along the first axis": Case((21, 6), (2, 1), 2, ((0, 3), (1, 2)), 1),
    "2D in 4, blocks of the least size": Case((5, 31), 4, 4, ((1, 2), (4, 1)), 0, strategies=("full", "boundary")),
    "2D whole": Case((9, 30), 3, 4, ((2, 1), (0, 3)), 1, whole=True, strategies=ALL),
    "2D in 4, surface, no layers": Case((6, 20), (1, 4), 4, ((0, 2), (0, 0)), 0, free_surface=True),
    "variable density": Case((6, 23), 3, 4, ((2, 1), (0, 2)), 0, jf.VariableDensityAcoustic),
    "variable density along the first axis": Case((23, 6), (2, 1), 4, 2, 1, jf.VariableDensityAcoustic, ALL),
    "elastic": Case((8, 26), 3, 4, ((2, 1), (2, 1)), 0, jf.Elastic, ALL, WAYS),
    "elastic along the first axis": Case((23, 6), (2, 1), 4, ((0, 2), (2, 1)), 1, jf.Elastic),
    "elastic whole": Case((7, 19), 3, 2, ((1, 2), (2, 1)), 0, jf.Elastic, whole=True),
    "elastic, order 8": Case((10, 30), 2, 8, ((2, 0), (0, 3)), 1, jf.Elastic),
    "3D": Case((4, 19, 5), (1, 3, 1), 2, ((1, 1), (2, 1), (0, 1)), 0),
    "elastic 3D, surface": Case((4, 5, 15), 2, 2, ((1, 1), (2, 1), (1, 2)), 0, jf.Elastic, free_surface=True),
}


class Setting(NamedTuple):
    simulator: jf.Simulator
    model: jf.WaveEquation
    survey: jf.Survey  # two shots
    weights: jax.Array  # of their data in a misfit
    split: Split

    def mesh(self, rows=1):
        devices = np.array(jax.devices()[: rows * self.split.blocks])
        return Mesh(devices.reshape(rows, self.split.blocks), ("shots", "domains"))


def setting(case):
    """Rough media, with water beside rock, and points on the ends of blocks, across them, in corners and anywhere."""
    rng, ndim = np.random.default_rng(len(case.shape)), len(case.shape)
    spacing, staggered = (10.0, 12.0, 11.0)[:ndim], case.equation.staggered
    one = jf.Grid(case.shape, spacing, 1.0, 1)
    grid = jf.Grid(case.shape, spacing, 0.6 * one.stable_dt(2300.0, case.order, staggered), 60)
    source_fields, receiver_fields = FIELDS[case.equation]
    simulator = jf.Simulator(
        grid,
        case.order,
        jf.CPML(width=case.width),
        free_surface=case.free_surface,
        differentiate_absorber=case.whole,
        source_fields=source_fields,
        receiver_fields=receiver_fields,
    )
    frame = simulator.frame
    split = split_of(frame, case.domains)
    length, _, spare = frame.room(split)
    assert spare == case.spare
    vp, rho = (2000.0 + 100.0 * rng.uniform(-1.0, 1.0, case.shape) for _ in range(2))
    vs = vp / 1.8
    vs[: case.shape[0] // 2] = 0.0
    parameters = {jf.Acoustic: (vp,), jf.VariableDensityAcoustic: (vp, rho), jf.Elastic: (vp, vs, rho)}[case.equation]
    model = case.equation(*map(jnp.asarray, parameters))
    # in cells: two shots, each of two sources and five receivers
    edge = length - frame.pads[split.axis][0]  # the first node of the second block
    last = np.array(case.shape) - 1.0
    where = rng.uniform(0.0, last, (2, 7, ndim))
    where[:, 0] = np.floor(where[:, 0])
    where[:, 0, split.axis] = edge - 0.5, edge
    where[0, 1], where[1, 1] = 0.0, last
    where[:, 2:4] = np.floor(where[:, 2:4])
    where[:, 2:4, split.axis] = edge - 1, edge
    where[:, 4, split.axis] = edge - 0.3
    where[:, 5], where[:, 6, 0] = last, 0.0
    where = np.floor(where) if case.on_nodes else where
    # pulses of two steps' width; forces of a size that moves as much as the moments do
    pulse = np.exp(-(((np.arange(60) - 8) / 2.5) ** 2))
    size = np.where([name[0] == "v" for name in source_fields], 1e6, 1.0)
    size = size * rng.uniform(0.5, 1.5, (2, 2, len(source_fields)))
    survey = jf.Survey.from_arrays(where[:, :2] * spacing, where[:, 2:] * spacing, pulse[:, None, None] * size[:, None])
    weights = rng.standard_normal((2, 60, 5, len(receiver_fields)))
    weights = weights * np.where([name[0] == "v" for name in receiver_fields], 1e6, 1.0)
    survey = survey.on_nodes(grid) if case.on_nodes else survey
    return Setting(simulator, model, survey, jnp.asarray(weights), split)


def undivided(simulator):
    """Data of a model and a shot, by plain differentiation."""
    return lambda model, shot: simulator.one_shot(type(model)).data(model, shot)


def compare(ours, plain, tolerance, name):
    """Values of the largest of each array; a component of data is an array."""
    assert jax.tree.structure(ours) == jax.tree.structure(plain)
    ours, plain = jax.tree.map(np.asarray, (ours, plain))  # from whatever devices
    for (path, a), b in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(plain), strict=True):
        where = f"{name}{jax.tree_util.keystr(path)}"
        assert a.shape == b.shape, where
        assert np.isfinite(a).all(), where
        difference = relative(a, b)
        assert np.abs(b).max() > 0.0, where
        assert difference < tolerance, f"{where}: {difference:.2g}"


def components(data):
    return [data[..., i] for i in range(data.shape[-1])]


def names(cases, **options):
    return [pytest.param(name, strategy, **options) for name in cases for strategy in cases[name].strategies]


@functools.cache
def expected(name):
    """The data of a case's first shot and their derivatives on one device, of a misfit that is linear in the data."""
    case = {**CASES, **SLOW}[name]
    s = setting(case)
    shot = s.survey[0]
    inputs = {n: getattr(shot, n) for n in (("wavelet",) if case.on_nodes else ("wavelet", "source", "receiver"))}

    def misfit(data, model, inputs):
        predicted = data(model, dataclasses.replace(shot, **inputs))
        return jnp.vdot(s.weights[0], predicted), predicted

    data = undivided(with_memory(s.simulator, jf.FullStorage()))
    run = jax.jit(jax.value_and_grad(functools.partial(misfit, data), (0, 1), has_aux=True))
    (_, data), gradient = run(s.model, inputs)
    return case, s, misfit, inputs, data, gradient


@pytest.mark.parametrize(("name", "strategy"), [*names(CASES), *names(SLOW, marks=pytest.mark.slow)])
@on_devices(8)
def test_data_and_gradients(name, strategy):
    """By model, wavelet and positions; differentiated outside of `jax.shard_map`, inside, and as the engine does it."""
    case, s, misfit, inputs, expected_data, gradient = expected(name)
    program = with_memory(s.simulator, STRATEGIES[strategy]).one_shot(type(s.model), s.split)
    both = (s.split.spec, REPLICATED)
    spread = functools.partial(jax.shard_map, mesh=s.mesh(), in_specs=both)
    total = functools.partial(misfit, program.data)

    def by_hand(coefficients, inputs):
        """No derivative of what sums over devices: right without check_vma too."""
        one, pull = jax.vjp(lambda c, i: misfit(program.block_data, c, i)[1], coefficients, inputs)
        predicted = program.sum_of_blocks(one)
        of_coefficients, of_inputs = pull(jax.grad(lambda d: jnp.vdot(s.weights[0], d))(predicted))
        return (0.0, predicted), (of_coefficients, jax.tree.map(s.split.total, of_inputs))

    inside = jax.value_and_grad(total, (0, 1), has_aux=True)
    ways = {
        "outside": lambda: jax.value_and_grad(spread(total, out_specs=REPLICATED), (0, 1), has_aux=True),
        "inside": lambda: spread(inside, out_specs=(REPLICATED, both)),
        "by hand": lambda: spread(by_hand, out_specs=(REPLICATED, both), check_vma=False),
    }

    @jax.jit
    def in_blocks(model, inputs):
        coefficients, pull = jax.vjp(program.coefficients, model)
        done = {way: ways[way]()(coefficients, inputs) for way in case.ways}
        return {way: (data, (pull(c)[0], i)) for way, ((_, data), (c, i)) in done.items()}

    for way, (predicted, ours) in in_blocks(s.model, inputs).items():
        compare(components(predicted), components(expected_data), DATA, f"data, {way}")
        compare(ours, gradient, SAME, f"gradient, {way}")


@pytest.mark.parametrize("how", ["map", pytest.param("vmap", marks=pytest.mark.slow)])
@on_devices(8)
def test_shots_and_domains(how):
    """Four shots over two rows of devices, each in two blocks; inside by `vmap` or by `lax.map`."""
    s = setting(Case((6, 21), 2, 4, 2, 1))
    rows = PartitionSpec("shots")
    survey, weights = jax.tree.map(lambda x: jnp.concatenate([x, 0.9 * x]), (s.survey, s.weights))
    program = s.simulator.one_shot(type(s.model), s.split)

    def summed(data, parameters, survey, weights):
        """The gradient of a misfit, summed over shots, and the data."""

        def misfit(parameters, shot, weight):
            predicted = data(parameters, shot)
            return jnp.sum(weight * predicted**2), predicted

        of_shot = functools.partial(jax.grad(misfit, has_aux=True), parameters)
        if how == "vmap":
            gradients, predicted = jax.vmap(of_shot)(survey, weights)
        else:
            gradients, predicted = jax.lax.map(lambda shot: of_shot(*shot), (survey, weights))
        return jax.tree.map(lambda x: x.sum(axis=0), gradients), predicted

    def divided(model, *shots):
        def on_device(coefficients, *shots):
            # each row of devices has its own, and so its own gradient
            own = jax.tree.map(lambda x: jax.lax.pcast(x, "shots", to="varying"), coefficients)
            gradient, predicted = summed(program.data, own, *shots)
            return jax.lax.psum(gradient, "shots"), predicted

        specs = {"in_specs": (s.split.spec, rows, rows), "out_specs": (s.split.spec, rows)}
        coefficients, pull = jax.vjp(program.coefficients, model)
        gradient, predicted = jax.shard_map(on_device, mesh=s.mesh(rows=2), **specs)(coefficients, *shots)
        return pull(gradient)[0], predicted

    gradient, data = jax.jit(functools.partial(summed, undivided(s.simulator)))(s.model, survey, weights)
    ours, predicted = jax.jit(divided)(s.model, survey, weights)
    compare(components(predicted), components(data), DATA, "data")
    compare(ours, gradient, SAME, "gradient")


@pytest.mark.slow
@on_devices(8)
def test_forward_over_reverse():
    """Inside and through boundary saving."""
    s = setting(Case((40,), 2, 8, ((2, 1),), 1))
    direction = jax.tree.map(lambda x: jnp.sin(jnp.arange(x.size)), s.model)
    shot, weight = s.survey[0], s.weights[0]
    program = s.simulator.one_shot(type(s.model), s.split)
    data = undivided(with_memory(s.simulator, jf.FullStorage()))

    def product(data, model):
        by_model = jax.grad(lambda m: jnp.sum(weight * data(m) ** 2))
        return jax.jvp(by_model, (model,), (direction,))[1]

    def divided(model):
        specs = {"in_specs": (s.split.spec, REPLICATED), "out_specs": REPLICATED}
        spread = jax.shard_map(program.data, mesh=s.mesh(), **specs)
        return product(lambda m: spread(program.coefficients(m), shot), model)

    plain = jax.jit(functools.partial(product, lambda m: data(m, shot)))
    compare(jax.jit(divided)(s.model), plain(s.model), SAME, "product")


@pytest.mark.slow
@on_devices(8)
def test_short_ring():
    """Blocks further in hold model where the outermost have rings: it is not shortened, nor does it share a scale."""
    s = setting(Case((40,), 4, 8, ((2, 1),), 1))
    simulator = with_memory(s.simulator, jf.BoundarySaving("int8"))
    shot, weight = s.survey[0], s.weights[0]
    program = simulator.one_shot(type(s.model), s.split)

    def gradient(data):
        return jax.jit(jax.grad(lambda m: jnp.sum(weight * data(m, shot) ** 2)))(s.model).vp

    spread = jax.shard_map(program.data, mesh=s.mesh(), in_specs=(s.split.spec, REPLICATED), out_specs=REPLICATED)
    exact, plain = (gradient(undivided(one)) for one in (with_memory(simulator, jf.FullStorage()), simulator))
    ours = gradient(lambda m, shot: spread(program.coefficients(m), shot))
    # Measured: 9.8e-3, and 1.7e-7 where a value falls to the next of 255 levels.
    assert relative(plain, exact) > 1e-3
    assert relative(ours, plain) < 1e-5


@on_devices(8)
def test_traffic():
    """A step talks to neighbours only, forwards and backwards; all devices together once, to sum the data."""
    s = setting(CASES["2D in 3"])
    shot, weight = s.survey[0].on_nodes(s.simulator.grid), s.weights[0]
    program = s.simulator.one_shot(type(s.model), s.split)

    def gradient(coefficients):
        return jax.grad(lambda c: jnp.sum(weight * program.data(c, shot) ** 2))(coefficients)

    spread = jax.shard_map(gradient, mesh=s.mesh(), in_specs=s.split.spec, out_specs=s.split.spec)
    text = jax.jit(spread).lower(program.coefficients(s.model)).compile().as_text()
    calls = collections.Counter(re.findall(r" (all-[a-z]+|collective-[a-z]+|reduce-scatter)\(", text))
    # to both neighbours, for three Laplacians: of the step forwards, of its transpose, and of the rebuild, which the
    # gradient reads too
    assert calls == {"collective-permute": 6, "all-reduce": 1}, calls


def cosh(predicted, observed):
    """A misfit whose second derivative is not constant."""
    return jnp.sum(jnp.cosh(predicted - observed) - 1.0)


class Posed(NamedTuple):
    """A problem of three shots, a model, and a direction of it."""

    problem: jf.Problem
    model: jf.WaveEquation
    direction: jf.WaveEquation

    def on(self, **options):
        return dataclasses.replace(self.problem, on=jf.On(**options))


@functools.cache
def posed(name):
    """Data are scaled so that `cosh` is far from a parabola and from overflow."""
    s = setting(POSED[name])
    survey = jax.tree.map(lambda x: jnp.concatenate([x, 0.9 * x[:1]]), s.survey)
    data = jax.jit(jf.simulate, static_argnums=0)(s.simulator, s.model, survey)
    scale = 1.0 / jnp.abs(data).max(axis=(0, 1, 2))
    problem = jf.Problem(s.simulator, survey, 0.8 * data, misfit=cosh, weights=jnp.broadcast_to(scale, data.shape))
    rng = np.random.default_rng(1)
    return Posed(problem, s.model, jax.tree.map(lambda x: jnp.asarray(rng.uniform(-1.0, 1.0, x.shape)), s.model))


POSED = {
    "1D": Case((40,), 2, 8, ((2, 1),), 1),
    "variable density": Case((6, 23), 3, 4, ((2, 1), (0, 2)), 0, jf.VariableDensityAcoustic),
    "elastic": Case((8, 26), 3, 4, ((2, 1), (2, 1)), 0, jf.Elastic),
}
# Each further row of devices takes a share of the three shots, and a copy of one where they do not divide.
ROWS = [
    ("1D", 2),
    *(pytest.param(*row, marks=pytest.mark.slow) for row in (("1D", 1), ("variable density", 2), ("elastic", 2))),
]


@functools.cache
def product_on_one_device(kind, name):
    _, model, direction = posed(name)
    return getattr(posed(name).on(devices=1), kind)(model, direction)


@pytest.mark.parametrize("kind", ["hessian_product", "gauss_newton_product"])
@pytest.mark.parametrize(("name", "rows"), ROWS)
@on_devices(8)
def test_products_with_second_derivatives(name, rows, kind):
    """Of divided grids, with shots over rows of devices; called again; and in a program of the user's."""
    domains = POSED[name].domains
    problem = posed(name).on(devices=rows * domains, domains=domains)
    _, model, direction = posed(name)
    ours = getattr(problem, kind)(model, direction)
    compare(ours, product_on_one_device(kind, name), SAME, "product")
    jax.tree.map(np.testing.assert_array_equal, getattr(problem, kind)(model, direction), ours)
    under_jit = jax.jit(lambda problem, *arguments: getattr(problem, kind)(*arguments))(problem, model, direction)
    compare(under_jit, ours, SAME, "under jit")


@on_devices(8)
def test_one_flat_vector():
    """Called twice, with a mask."""
    problem, model, _ = posed("1D")
    mask = jf.Acoustic(vp=np.arange(40) > 5)
    one, divided = (
        jf.AsVector(p, model, mask=mask, scale=1.0) for p in (problem, posed("1D").on(devices=4, domains=2, batch=2))
    )
    for vector in (one.start, 1.01 * one.start):
        (value, gradient), (expected_value, expected_gradient) = divided(vector), one(vector)
        assert gradient.shape == (34,)
        compare((jnp.asarray(value), gradient), (jnp.asarray(expected_value), expected_gradient), SAME, "vector")


@on_devices(8)
def test_one_flat_vector_with_an_aperture():
    s = setting(Case((6, 21), 2, 4, 2, 1))
    survey = dataclasses.replace(s.survey, source=0.5 * s.survey.source, receiver=0.5 * s.survey.receiver)
    problem = jf.Problem(s.simulator, survey, jnp.zeros((2, 60, 5, 1)), aperture=30.0)
    assert cutouts(s.simulator.grid, survey, 30.0)[0] < (6, 21)
    value, gradient = dataclasses.replace(problem, on=jf.On(devices=1)).misfit_and_gradient(s.model)
    objective = jf.AsVector(dataclasses.replace(problem, on=jf.On(devices=2)), s.model, scale=1.0)
    ours = objective(objective.start)
    assert relative(jnp.asarray(ours[0]), value) < SAME
    assert relative(ours[1].reshape(6, 21), gradient.vp) < SAME


@on_devices(8)
def test_an_inversion_by_truncated_gauss_newton():
    options = {"optimizer": jf.optimise.truncated_gauss_newton(3), "iterations": 2}
    expected_states, states = (
        list(jf.invert(posed("1D").on(**on), posed("1D").model, **options))
        for on in ({"devices": 1}, {"devices": 4, "domains": 2})
    )
    for ours, plain in zip(states, expected_states, strict=True):
        # The products' rounding, through three conjugate gradients. Measured: 8e-15.
        compare((ours.model, ours.misfit), (plain.model, plain.misfit), 1e-11, "state")
    assert float(states[1].misfit) < float(states[0].misfit)


@pytest.mark.parametrize(("name", "rows"), ROWS)
@on_devices(8)
def test_an_estimated_diagonal(name, rows):
    """Of divided grids, with a filter: each shot's gradient is joined from the blocks before it is squared."""
    domains, low = POSED[name].domains, jf.filters.Butterworth(high=40.0)
    one, divided = (
        posed(name).on(**on).gauss_newton_diagonal(posed(name).model, 3, 2, low)
        for on in ({"devices": 1}, {"devices": rows * domains, "domains": domains})
    )
    # Squares of gradients, which differ by rounding. Measured: 1.3e-14.
    compare(divided, one, SAME, "diagonal")


def test_how_a_grid_can_be_cut():
    simulator = jf.Simulator(jf.Grid((30, 100), 10.0, 1e-3, 10), absorber=jf.CPML(((0, 5), (10, 8))), free_surface=True)
    assert split_of(simulator.frame, 1) is None
    assert split_of(simulator.frame, (1, 1)) is None
    # 122 cells with the layers: the last of four blocks of 31 has two to spare; 23 + 1 needed
    split = split_of(simulator.frame, 4)
    assert split == split_of(simulator.frame, (1, 4), "domains") == Split(1, 4, "domains")
    for domains, message in {
        5: r"domains = 5 leaves blocks of 25 cells along axis 1, of 122 .* each needs 26.* At most 4 fit",
        (1, 1, 2): r"domains must be a number, or one for each of the grid's 2 axes, got \(1, 1, 2\)",
        (2, 2): r"domains can cut the grid along one axis only, got \(2, 2\)",
        (2, 1): r"domains = \(2, 1\) cuts the axis of the free surface: cut a horizontal axis instead",
    }.items():
        with pytest.raises(ValueError, match=message):
            split_of(simulator.frame, domains)
    # the stencil reaches no further than the neighbour
    wide = jf.Simulator(jf.Grid((16,), 10.0, 1e-3, 10), 8, jf.CPML(width=0))
    assert split_of(wide.frame, 4) is not None
    with pytest.raises(ValueError, match=r"blocks of 3 cells .* each needs 4.* At most 4 fit"):
        split_of(wide.frame, 6)
