"""A simulation under every transformation, in every memory strategy; second derivatives; devices."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compilations
from devices import on_devices
from helpers import STRATEGIES, dot, problem_with, relative, rough_shots, with_memory
from jax.sharding import Mesh, PartitionSpec

import jaxfwi as jf


def loss(simulator):
    return lambda model, shot, observed: jf.misfits.l2(simulator(model, shot), observed)


class Inputs(NamedTuple):
    model: Any
    models: Any  # two, on a leading axis
    direction: Any
    survey: Any
    observed: Any

    @property
    def first(self):
        return self.survey[0], self.observed[0]

    @property
    def shots(self):
        return self.survey, self.observed


@pytest.fixture(scope="module")
def setting():
    simulator, model, survey, observed = rough_shots(3, (13,), free_surface=True, absorber=jf.CPML(width=2))
    # zero at the ends: the layers, filled with copies of them, are held fixed in derivatives but not in differences
    direction = jf.Acoustic(vp=jnp.pad(jnp.asarray(np.random.default_rng(6).uniform(-1.0, 1.0, 11)), 1))
    models = jax.tree.map(lambda x: jnp.stack([x, 1.02 * x]), model)
    return with_memory(simulator, jf.FullStorage()), Inputs(model, models, direction, survey, observed)


def descend(simulator, v):
    """Three steps of steepest descent in a scan."""

    def step(model, _):
        value, g = jax.value_and_grad(loss(simulator))(model, *v.first)
        return jf.Acoustic(vp=model.vp - RATE * g.vp), value

    return jax.lax.scan(step, v.model, length=3)


def over_all(simulator, v):
    """The sum over shots, with jit inside vmap."""
    return lambda m: jnp.sum(jax.vmap(jax.jit(loss(simulator)), (None, 0, 0))(m, *v.shots))


def along(simulator, v):
    return lambda m: dot(jax.grad(loss(simulator))(m, *v.first), v.direction)


RATE = 1.0  # of descent: changes the model by 2 m/s in three steps
TRANSFORMATIONS = {
    "vmap over shots": lambda s, v: jax.vmap(s, (None, 0))(v.model, v.survey),
    "vmap over models": lambda s, v: jax.vmap(s, (0, None))(v.models, v.survey[0]),
    "map of grad": lambda s, v: jax.lax.map(lambda shot: jax.grad(loss(s))(v.model, *shot), v.shots),
    "vmap of grad": lambda s, v: jax.vmap(jax.grad(loss(s)), (None, 0, 0))(v.model, *v.shots),
    "vmap of grad over models": lambda s, v: jax.vmap(jax.grad(loss(s)), (0, None, None))(v.models, *v.first),
    "grad of vmap of jit": lambda s, v: jax.grad(over_all(s, v))(v.model),
    "grad of checkpoint": lambda s, v: jax.grad(jax.checkpoint(loss(s)))(v.model, *v.first),
    "grad in scan": descend,
    "jvp": lambda s, v: jax.jvp(lambda m: s(m, v.survey[0]), (v.model,), (v.direction,))[1],
    "jvp of grad": lambda s, v: jax.jvp(jax.grad(lambda m: loss(s)(m, *v.first)), (v.model,), (v.direction,))[1],
    "grad of grad": lambda s, v: jax.grad(along(s, v))(v.model),
    "hessian": lambda s, v: jax.hessian(loss(s))(v.model, *v.first).vp.vp[:, 1:-1],
}


@pytest.fixture(scope="module")
def expected(setting):
    """The same by one model and one shot at a time: plain gradients, and differences of them."""
    simulator, v = setting
    data = jax.jit(simulator)
    gradient = jax.jit(jax.value_and_grad(loss(simulator)))
    models = [jax.tree.map(lambda x, i=i: x[i], v.models) for i in range(2)]
    each = [gradient(v.model, v.survey[i], v.observed[i])[1].vp for i in range(3)]
    values, moving = [], v.model
    for _ in range(3):
        value, g = gradient(moving, *v.first)
        values, moving = [*values, value], jf.Acoustic(vp=moving.vp - RATE * g.vp)

    def change(function, direction, h=1.0):
        near, far = (
            function(v.model.vp + k * h * direction) - function(v.model.vp - k * h * direction) for k in (1, 2)
        )
        return (8.0 * near - far) / (12.0 * h)

    def gradient_at(vp):
        return gradient(jf.Acoustic(vp=vp), *v.first)[1].vp

    product = change(gradient_at, v.direction.vp)
    return {
        "vmap over shots": jnp.stack([data(v.model, v.survey[i]) for i in range(3)]),
        "vmap over models": jnp.stack([data(m, v.survey[0]) for m in models]),
        "map of grad": jnp.stack(each),
        "vmap of grad": jnp.stack(each),
        "vmap of grad over models": jnp.stack([gradient(m, *v.first)[1].vp for m in models]),
        "grad of vmap of jit": sum(each),
        "grad of checkpoint": each[0],
        "grad in scan": (moving.vp, jnp.stack(values)),
        "jvp": change(lambda vp: data(jf.Acoustic(vp=vp), v.survey[0]), v.direction.vp),
        "jvp of grad": product,
        "grad of grad": product,
        "hessian": jnp.stack([change(gradient_at, unit) for unit in jnp.eye(13)[1:-1]], axis=1),
    }


# Derivatives against differences of five points 1 m/s apart. Measured: 3e-11 for jvp, 1.3e-11 for second derivatives.
DIFFERENCES = dict.fromkeys(("jvp", "jvp of grad", "grad of grad", "hessian"), 1e-9)
# The same sums, compiled otherwise. Measured: 7.8e-15.
ROUNDING = 1e-12


@pytest.mark.parametrize("strategy", ["full", "checkpoints", pytest.param("boundary", marks=pytest.mark.telling)])
def test_every_transformation(setting, expected, strategy):
    simulator, v = setting
    simulator = with_memory(simulator, STRATEGIES[strategy])
    together = jax.jit(lambda v: {name: t(simulator, v) for name, t in TRANSFORMATIONS.items()})(v)
    for name, ours in together.items():
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected[name]), strict=True):
            assert a.shape == b.shape, name
            assert relative(a, b) < DIFFERENCES.get(name, ROUNDING), name


def test_outside_of_jit(setting, expected):
    simulator, v = setting
    simulator = with_memory(simulator, jf.BoundarySaving())
    plain = jax.grad(loss(simulator))(v.model, *v.first)
    assert relative(plain.vp, expected["grad of checkpoint"]) < ROUNDING
    of_jit = jax.grad(jax.jit(loss(simulator)))(v.model, *v.first)
    assert relative(of_jit.vp, expected["grad of checkpoint"]) < ROUNDING
    # a survey before on_nodes, which vmap cannot look into: the same nodes, and their neighbours with weight zero
    plain_survey = jf.Survey(v.survey.source, v.survey.receiver, v.survey.wavelet)
    data = jax.vmap(simulator, (None, 0))(v.model, plain_survey)
    assert relative(data, expected["vmap over shots"]) < ROUNDING


def cosh(predicted, observed):
    """A misfit whose second derivative is not constant."""
    return jnp.sum(jnp.cosh(predicted - observed) - 1.0)


def product(kind, simulator, v, batch):
    @jax.jit
    def run(model, survey, observed, direction):
        problem = jf.Problem(simulator, survey, observed, cosh, on=jf.On(batch=batch))
        return getattr(problem, kind)(model, direction).vp

    return lambda direction: run(v.model, *v.shots, jf.Acoustic(vp=direction))


def check_symmetric(apply, a, b):
    left, right = jnp.vdot(a, apply(b)), jnp.vdot(b, apply(a))
    # Measured: 1.9e-15 in 1D, 5.3e-14 in 2D.
    assert abs(left - right) < ROUNDING * abs(left)
    assert left != 0.0


def two_directions(shape, seed):
    rng = np.random.default_rng(seed)
    return (jnp.asarray(rng.uniform(-1.0, 1.0, shape)) for _ in range(2))


def test_hessian_product(setting):
    full, v = setting
    boundary = with_memory(full, jf.BoundarySaving())
    a, b = two_directions(13, 7)
    exact = product("hessian_product", full, v, 1)(a)
    for batch in (1, 2):
        ours = product("hessian_product", boundary, v, batch)
        assert relative(ours(a), exact) < ROUNDING  # measured: 2.1e-14
    check_symmetric(ours, a, b)
    # Taylor: after value, gradient and Hessian, what is left shrinks with the third power. Ends stay, as in `setting`.
    inside = jnp.pad(a[1:-1], 1)
    run = jax.jit(lambda vp: jf.Problem(boundary, *v.shots, misfit=cosh).misfit_and_gradient(jf.Acoustic(vp=vp)))
    value, gradient = run(v.model.vp)
    along, curvature = jnp.vdot(gradient.vp, inside), jnp.vdot(inside, ours(inside))
    steps = np.array([4.0, 2.0, 1.0])
    rest = [run(v.model.vp + h * inside)[0] - value - h * along - 0.5 * h**2 * curvature for h in steps]
    slopes = np.log2(np.abs(rest[:-1]) / np.abs(rest[1:]))
    # Measured: 3.06 and 3.03, as the fourth order fades.
    assert np.abs(slopes - 3.0).max() < 0.1


def test_gauss_newton_product(setting):
    full, v = setting
    a, b = two_directions(13, 8)

    def data(vp):
        return jf.simulate(full, jf.Acoustic(vp=vp), v.survey)

    jacobian = jax.jit(jax.jacobian(data))(v.model.vp).reshape(-1, 13)
    weight = jnp.cosh(jax.jit(data)(v.model.vp) - v.observed).ravel()
    exact = jacobian.T @ (weight * (jacobian @ a))
    ours = product("gauss_newton_product", with_memory(full, jf.BoundarySaving()), v, 2)
    assert relative(ours(a), exact) < ROUNDING  # measured: 1.5e-14
    check_symmetric(ours, a, b)
    assert jnp.vdot(a, ours(a)) > 0.0
    # It needs no derivative of the ring, which may be short here. Measured: 1.9e-3.
    short = product("gauss_newton_product", with_memory(full, jf.BoundarySaving("int8")), v, 1)
    assert relative(short(a), exact) < 6e-3


@pytest.mark.slow
def test_hessian_product_in_two_dimensions():
    simulator, model, survey, observed = rough_shots(3, (9, 11), free_surface=True, absorber=jf.CPML(((0, 3), (1, 4))))
    v = Inputs(model, None, None, survey, observed)
    a, b = two_directions((9, 11), 9)
    exact = product("hessian_product", with_memory(simulator, jf.FullStorage()), v, 1)(a)
    ours = product("hessian_product", simulator, v, 2)
    assert relative(ours(a), exact) < ROUNDING  # measured: 4.9e-14
    check_symmetric(ours, a, b)


def in_shard_map(simulator, v, devices, check_vma):
    """Misfit and gradient with the shots split over devices by hand."""
    split, whole = PartitionSpec("shots"), PartitionSpec()
    mesh = Mesh(np.array(devices), ("shots",))

    def part(model, survey, observed):
        if check_vma:  # each device has its own, and so its own gradient
            model = jax.tree.map(lambda x: jax.lax.pcast(x, "shots", to="varying"), model)
        value_and_gradient = jf.Problem(simulator, survey, observed).misfit_and_gradient(model)
        return jax.lax.psum(value_and_gradient, "shots")

    return jax.jit(
        jax.shard_map(part, mesh=mesh, in_specs=(whole, split, split), out_specs=whole, check_vma=check_vma)
    )(v.model, *v.shots)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_shard_map(setting, expected, strategy, check_vma):
    simulator, v = setting
    simulator = with_memory(simulator, STRATEGIES[strategy])
    _, gradient = in_shard_map(simulator, v, jax.devices()[:1], check_vma)
    assert relative(gradient.vp, expected["grad of vmap of jit"]) < ROUNDING


@on_devices(2)
def test_two_devices():
    """Three shots on two devices, by `devices` and by hand: what one device gives."""
    devices = jax.devices()
    simulator, model, survey, observed = rough_shots(4, (13,), free_surface=True, absorber=jf.CPML(width=2))
    four = Inputs(model, None, model, survey, observed)
    three = Inputs(model, None, model, survey[:3], observed[:3])

    def misfit(v, **options):
        return jax.jit(lambda m, *a: problem_with(simulator, *a, **options).misfit_and_gradient(m))(v.model, *v.shots)

    of_three, of_four = misfit(three), misfit(four)
    data = jax.jit(lambda m, s, devices: jf.simulate(simulator, m, s, on=jf.On(devices=devices)), static_argnums=2)
    pairs = [
        ("misfit", misfit(three, devices=devices, batch=2), of_three),
        ("by hand", in_shard_map(simulator, four, devices, False), of_four),
        ("simulate", data(model, three.survey, tuple(devices)), data(model, three.survey, None)),
    ]
    for name, ours, plain in pairs:
        for a, b in zip(*(map(np.asarray, jax.tree.leaves(x)) for x in (ours, plain)), strict=True):
            assert relative(a, b) < ROUNDING, name  # measured: 1e-15


def test_other_values_compile_nothing(setting):
    simulator, v = setting

    def run(simulator, vp, amplitude):
        survey = jf.Survey(v.survey.source, v.survey.receiver, amplitude * v.survey.wavelet)
        jf.simulate(simulator, jf.Acoustic(vp=vp), survey)
        jf.Problem(simulator, survey, amplitude * v.observed).misfit_and_gradient(jf.Acoustic(vp=vp))
        simulator(jf.Acoustic(vp=vp), survey[0])

    run(simulator, v.model.vp, 1.0)
    # another simulator of the same values is the same program
    again = jf.Simulator(**{f.name: getattr(simulator, f.name) for f in dataclasses.fields(simulator)})
    with compilations() as count:
        run(again, 1.01 * v.model.vp, 2.0)
    assert count() == 0
    with compilations() as count:
        run(with_memory(simulator, jf.Checkpointing()), v.model.vp, 1.0)
    assert count() > 0  # what is counted does count
