"""The grid of a shot in blocks over devices: the same data and derivatives as on one device.

Several devices need a process of their own: a test here starts one that runs many checks and reports those that fail.
"""

import collections
import dataclasses
import functools
import os
import re
import subprocess
import sys
import textwrap
import traceback
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import STRATEGIES, relative
from jax.sharding import Mesh, PartitionSpec

import jaxfwi as jf
from jaxfwi.grid.frame import Frame
from jaxfwi.simulation.simulator import coefficients_of, one_shot, one_shot_with, share_of_shot, split_of

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
    split: jf.split.Split

    def mesh(self, rows=1):
        devices = np.array(jax.devices()[: rows * self.split.parts])
        return Mesh(devices.reshape(rows, self.split.parts), ("shots", "domains"))


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
    split = split_of(simulator, case.domains)
    frame = Frame(grid, case.order, simulator.absorber, case.free_surface)
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


def remember(simulator, strategy):
    return dataclasses.replace(simulator, memory=STRATEGIES[strategy])


def compare(ours, plain, tolerance, name):
    """Values of the largest of each array; a component of data is an array."""
    assert jax.tree.structure(ours) == jax.tree.structure(plain)
    for (path, a), b in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(plain), strict=True):
        where = f"{name}{jax.tree_util.keystr(path)}"
        assert a.shape == b.shape, where
        assert bool(jnp.isfinite(a).all()), where
        difference = relative(a, b)
        assert float(jnp.abs(b).max()) > 0.0, where
        assert difference < tolerance, f"{where}: {difference:.2g}"


def components(data):
    return [data[..., i] for i in range(data.shape[-1])]


def check_case(case):
    """Data and gradients by model, wavelet and positions, of a misfit that is linear in the data."""
    s = setting(case)
    shot, weight, equation = s.survey[0], s.weights[0], type(s.model)
    names = ("wavelet",) if case.on_nodes else ("wavelet", "source", "receiver")
    inputs = {name: getattr(shot, name) for name in names}

    def misfit(data, model, inputs):
        predicted = data(model, dataclasses.replace(shot, **inputs))
        return jnp.vdot(weight, predicted), predicted

    data = functools.partial(one_shot, remember(s.simulator, "full"))
    plain = jax.jit(jax.value_and_grad(functools.partial(misfit, data), (0, 1), has_aux=True))
    (_, expected), gradient = plain(s.model, inputs)

    def in_blocks(simulator, model, inputs):
        both = (s.split.spec, REPLICATED)
        spread = functools.partial(jax.shard_map, mesh=s.mesh(), in_specs=both)
        data = functools.partial(one_shot_with, simulator, equation, split=s.split)
        total = functools.partial(misfit, data)
        share = functools.partial(share_of_shot, simulator, equation, split=s.split)

        def by_hand(coefficients, inputs):
            """No derivative of what sums over devices: right without check_vma too."""
            one, pull = jax.vjp(lambda c, i: misfit(share, c, i)[1], coefficients, inputs)
            predicted = s.split.total(one)
            of_coefficients, of_inputs = pull(jax.grad(lambda d: jnp.vdot(weight, d))(predicted))
            return (0.0, predicted), (of_coefficients, jax.tree.map(s.split.total, of_inputs))

        inside = jax.value_and_grad(total, (0, 1), has_aux=True)
        ways = {
            "outside": lambda: jax.value_and_grad(spread(total, out_specs=REPLICATED), (0, 1), has_aux=True),
            "inside": lambda: spread(inside, out_specs=(REPLICATED, both)),
            "by hand": lambda: spread(by_hand, out_specs=(REPLICATED, both), check_vma=False),
        }
        coefficients, pull = jax.vjp(lambda m: coefficients_of(simulator, m, s.split), model)
        done = {way: ways[way]()(coefficients, inputs) for way in case.ways}
        return {way: (data, (pull(c)[0], i)) for way, ((_, data), (c, i)) in done.items()}

    for strategy in case.strategies:
        together = jax.jit(functools.partial(in_blocks, remember(s.simulator, strategy)))(s.model, inputs)
        for way, (predicted, ours) in together.items():
            compare(components(predicted), components(expected), DATA, f"data, {strategy}, {way}")
            compare(ours, gradient, SAME, f"gradient, {strategy}, {way}")


def check_shots_and_domains(how):
    """Four shots over two rows of devices, each in two blocks; inside by `vmap` or by `lax.map`."""
    s = setting(Case((6, 21), 2, 4, 2, 1))
    equation, rows = type(s.model), PartitionSpec("shots")
    survey, weights = jax.tree.map(lambda x: jnp.concatenate([x, 0.9 * x]), (s.survey, s.weights))

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
            data = functools.partial(one_shot_with, s.simulator, equation, split=s.split)
            gradient, predicted = summed(data, own, *shots)
            return jax.lax.psum(gradient, "shots"), predicted

        specs = {"in_specs": (s.split.spec, rows, rows), "out_specs": (s.split.spec, rows)}
        coefficients, pull = jax.vjp(lambda m: coefficients_of(s.simulator, m, s.split), model)
        gradient, predicted = jax.shard_map(on_device, mesh=s.mesh(rows=2), **specs)(coefficients, *shots)
        return pull(gradient)[0], predicted

    data = functools.partial(one_shot, s.simulator)
    gradient, expected = jax.jit(functools.partial(summed, data))(s.model, survey, weights)
    ours, predicted = jax.jit(divided)(s.model, survey, weights)
    compare(components(predicted), components(expected), DATA, "data")
    compare(ours, gradient, SAME, "gradient")


def check_hessian_product():
    """Forward over reverse, inside and through boundary saving."""
    s = setting(Case((40,), 2, 8, ((2, 1),), 1))
    direction = jax.tree.map(lambda x: jnp.sin(jnp.arange(x.size)), s.model)
    shot, weight, equation = s.survey[0], s.weights[0], type(s.model)

    def product(data, model):
        by_model = jax.grad(lambda m: jnp.sum(weight * data(m) ** 2))
        return jax.jvp(by_model, (model,), (direction,))[1]

    def divided(model):
        data = functools.partial(one_shot_with, s.simulator, equation, split=s.split)
        specs = {"in_specs": (s.split.spec, REPLICATED), "out_specs": REPLICATED}
        spread = jax.shard_map(data, mesh=s.mesh(), **specs)
        return product(lambda m: spread(coefficients_of(s.simulator, m, s.split), shot), model)

    plain = jax.jit(functools.partial(product, lambda m: one_shot(remember(s.simulator, "full"), m, shot)))
    compare(jax.jit(divided)(s.model), plain(s.model), SAME, "product")


def check_short_ring():
    """Blocks further in hold model where the outermost have rings: it is not shortened, nor does it share a scale."""
    s = setting(Case((40,), 4, 8, ((2, 1),), 1))
    simulator = dataclasses.replace(s.simulator, memory=jf.BoundarySaving("int8"))
    shot, weight, equation = s.survey[0], s.weights[0], type(s.model)

    def gradient(data):
        return jax.jit(jax.grad(lambda m: jnp.sum(weight * data(m) ** 2)))(s.model).vp

    data = functools.partial(one_shot_with, simulator, equation, split=s.split)
    spread = jax.shard_map(data, mesh=s.mesh(), in_specs=(s.split.spec, REPLICATED), out_specs=REPLICATED)
    exact, plain = (
        gradient(lambda m, memory=memory: one_shot(dataclasses.replace(simulator, memory=memory), m, shot))
        for memory in (jf.FullStorage(), simulator.memory)
    )
    ours = gradient(lambda m: spread(coefficients_of(simulator, m, s.split), shot))
    # Measured: 9.8e-3, and 1.7e-7 where a value falls to the next of 255 levels.
    assert relative(plain, exact) > 1e-3
    assert relative(ours, plain) < 1e-5


def check_traffic():
    """A step talks to neighbours only, forwards and backwards; all devices together once, to sum the data."""
    s = setting(CASES["2D in 3"])
    shot, weight, equation = s.survey[0].on_nodes(s.simulator.grid), s.weights[0], type(s.model)

    def gradient(coefficients):
        def misfit(c):
            return jnp.sum(weight * one_shot_with(s.simulator, equation, c, shot, s.split) ** 2)

        return jax.grad(misfit)(coefficients)

    spread = jax.shard_map(gradient, mesh=s.mesh(), in_specs=s.split.spec, out_specs=s.split.spec)
    program = jax.jit(spread).lower(coefficients_of(s.simulator, s.model, s.split)).compile().as_text()
    calls = collections.Counter(re.findall(r" (all-[a-z]+|collective-[a-z]+|reduce-scatter)\(", program))
    # to both neighbours, for three Laplacians: of the step forwards, of its transpose, and of the rebuild, which the
    # gradient reads too
    assert calls == {"collective-permute": 6, "all-reduce": 1}, calls


def report(checks):
    """Run checks by name, and say which fail."""
    failed = []
    for name, check in checks.items():
        try:
            check()
        except Exception:
            failed.append(name)
            print(f"{name}:\n{traceback.format_exc(limit=-4)}", file=sys.stderr)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def checks(slow):
    cases = {name: functools.partial(check_case, case) for name, case in (SLOW if slow else CASES).items()}
    how = "vmap" if slow else "map"
    cases[f"shots and domains, {how}"] = functools.partial(check_shots_and_domains, how)
    return cases | (
        {"Hessian product": check_hessian_product, "int8": check_short_ring} if slow else {"traffic": check_traffic}
    )


def on_eight_devices(slow):
    program = f"""
        import jax
        jax.config.update("jax_enable_x64", True)
        import test_domains
        test_domains.report(test_domains.checks(slow={slow}))
    """
    paths = os.pathsep.join([os.path.dirname(__file__), os.path.dirname(os.path.dirname(jf.__file__))])
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": paths}
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr


def test_on_eight_devices():
    on_eight_devices(slow=False)


@pytest.mark.slow
def test_more_on_eight_devices():
    on_eight_devices(slow=True)


def test_door():
    simulator = jf.Simulator(jf.Grid((30, 100), 10.0, 1e-3, 10), absorber=jf.CPML(((0, 5), (10, 8))), free_surface=True)
    assert split_of(simulator, 1) is None
    assert split_of(simulator, (1, 1)) is None
    # 122 cells with the layers: the last of four blocks of 31 has two to spare; 23 + 1 needed
    split = split_of(simulator, 4)
    assert split == split_of(simulator, (1, 4), "domains") == jf.split.Split(1, 4, "domains")
    for domains, message in {
        5: r"domains = 5 leaves blocks of 25 cells along axis 1, of 122 .* each needs 26.* At most 4 fit",
        0: "domains must be a whole number of at least 1, got 0",
        2.5: "domains must be a whole number of at least 1, got 2.5",
        (1, 1, 2): r"domains must be a number, or one for each of the grid's 2 axes, got \(1, 1, 2\)",
        (2, 2): r"domains can cut the grid along one axis only, got \(2, 2\)",
        (2, 1): r"domains = \(2, 1\) cuts the axis of the free surface: cut a horizontal axis instead",
    }.items():
        with pytest.raises(ValueError, match=message):
            split_of(simulator, domains)
    # the stencil reaches no further than the neighbour
    wide = jf.Simulator(jf.Grid((16,), 10.0, 1e-3, 10), 8, jf.CPML(width=0))
    assert split_of(wide, 4) is not None
    with pytest.raises(ValueError, match=r"blocks of 3 cells .* each needs 4.* At most 4 fit"):
        split_of(wide, 6)
