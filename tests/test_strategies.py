"""The three memory strategies: the same gradient, at any call, in any batch and precision; and the memory they take.

That they agree over dimensions, orders, boundaries and all inputs stands in test_gradients.py, beside the dot products.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SAME, STRATEGIES, problem_with, relative, rough_shot, rough_shots, with_memory

import jaxfwi as jf
from jaxfwi.equations.base import Field, State, SubStep


def gradient(simulator, model, shot, observed):
    """The gradient of a shot's misfit by the model and all of the survey."""

    def misfit(model, shot):
        return jf.misfits.l2(simulator(model, shot), observed)

    return jax.jit(jax.grad(misfit, (0, 1)))(model, shot)


def summed(simulator, model, survey, observed, **options):
    """Misfit and gradient over all shots."""
    return jax.jit(lambda m, *shots: problem_with(simulator, *shots, **options).misfit_and_gradient(m))(
        model, survey, observed
    )


def test_single_precision():
    simulator, model, shot = rough_shot((17,), free_surface=True, absorber=jf.CPML(width=3))
    model, shot = jax.tree.map(lambda x: x.astype(jnp.float32), (model, shot))
    observed = jnp.zeros((simulator.grid.nt, 3, 1), jnp.float32)
    reference = gradient(with_memory(simulator, STRATEGIES["full"]), model, shot, observed)
    for name, memory in STRATEGIES.items():
        ours = gradient(with_memory(simulator, memory), model, shot, observed)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
            assert a.dtype == jnp.float32
            # Rounding of 100 steps, 6e-8 each. Measured: 3.0e-6 by positions, 2.0e-6 by the others.
            assert relative(a, b) < 1e-5, name


@pytest.mark.telling
@pytest.mark.parametrize("differentiate_absorber", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_loops_of_several_steps_a_pass(differentiate_absorber):
    """From 200 steps on the acoustic loop makes two in a pass, here and one more; checkpointing's segments never do."""
    grid, rng = jf.Grid((9, 10), 10.0, 1e-3, 201), np.random.default_rng(3)
    model = jf.Acoustic(vp=jnp.asarray(rng.uniform(1500.0, 2500.0, grid.shape)))
    direction = jf.Acoustic(vp=jnp.asarray(rng.standard_normal(grid.shape)))
    shot = jf.Survey.from_arrays([[33.0, 41.0]], [[20.0, 70.0], [57.0, 22.0]], jf.ricker(grid, 20.0))[0]
    observed = jnp.asarray(rng.standard_normal((grid.nt, 2, 1)))
    simulator = jf.Simulator(grid, 4, jf.CPML(((3, 2), (0, 3))), differentiate_absorber=differentiate_absorber)

    def of(memory, model, shot):
        return jax.grad(lambda m, s: jf.misfits.l2(with_memory(simulator, memory)(m, s), observed), (0, 1))(model, shot)

    def product(memory):
        return jax.jit(lambda m: jax.jvp(lambda m: of(memory, m, shot)[0], (m,), (direction,))[1])(model)

    plain = jax.jit(functools.partial(of, jf.Checkpointing()))(model, shot)
    for memory in (jf.FullStorage(), jf.BoundarySaving()):
        ours = jax.jit(functools.partial(of, memory))(model, shot)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
            assert relative(a, b) < 1e-11, memory  # rounding of 201 steps in double precision
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), model, jf.Acoustic(vp=model.vp + 10 * direction.vp))
    mapped = jax.jit(jax.vmap(functools.partial(of, jf.BoundarySaving()), in_axes=(0, None)))(both, shot)
    assert relative(mapped[0].vp[0], plain[0].vp) < 1e-11
    assert relative(product(jf.BoundarySaving()).vp, product(jf.Checkpointing()).vp) < 1e-10  # larger terms cancel


@pytest.mark.telling
def test_the_same_at_each_call():
    ours, other = rough_shots(2, (13,), free_surface=True), rough_shots(1, (9,))
    gradients = []
    for memory in STRATEGIES.values():
        simulator, *arguments = ours
        run = functools.partial(summed, with_memory(simulator, memory))
        first = run(*arguments)
        summed(with_memory(other[0], memory), *other[1:])
        second = run(*arguments)
        assert first[0] == second[0]
        np.testing.assert_array_equal(first[1].vp, second[1].vp)
        gradients.append(first[1].vp)
    assert relative(gradients[1], gradients[0]) < SAME
    assert relative(gradients[2], gradients[0]) < SAME


def test_number_of_segments():
    simulator, model, shot = rough_shot((17,), seed=2, absorber=jf.CPML(width=2))
    nt = simulator.grid.nt
    assert nt % 7
    observed = jnp.zeros((nt, 3, 1))
    reference = gradient(with_memory(simulator, jf.FullStorage()), model, shot, observed)
    for segments in (1, 7, nt + 50):
        ours = gradient(with_memory(simulator, jf.Checkpointing(segments)), model, shot, observed)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
            # The same steps, compiled otherwise. Measured: 1.4e-14.
            assert relative(a, b) < 1e-12, segments


def test_batches_and_single_shots():
    simulator, model, survey, observed = rough_shots(5)
    value, total = summed(simulator, model, survey, observed)
    one = jax.jit(lambda m, *shot: jf.Problem(simulator, *shot).misfit_and_gradient(m))
    one_by_one = [one(model, survey[i : i + 1], observed[i : i + 1]) for i in range(5)]
    # Sums of five, and batched steps compiled otherwise. Measured: 3e-15.
    assert relative(sum(v for v, _ in one_by_one), value) < 1e-12
    assert relative(sum(g.vp for _, g in one_by_one), total.vp) < 1e-12
    for batch in (2, 3):
        v, g = summed(simulator, model, survey, observed, batch=batch)
        assert relative(v, value) < 1e-12
        assert relative(g.vp, total.vp) < 1e-12
    each = jnp.stack([simulator(model, survey[i]) for i in range(5)])
    for batch in (1, 3):
        assert relative(jf.simulate(simulator, model, survey, on=jf.On(batch=batch)), each) < 1e-12


# Errors of the gradient in its largest value. Measured, with wavelets of three sizes: 2.6e-9 to 3.7e-9, 2.1e-4 to
# 2.9e-4, 2.13e-5, 9.39e-4. Below the lower bound the option would not act.
RINGS = {"float32": (1e-9, 2e-8), "bfloat16": (1e-4, 1.5e-3), "float16": (1e-5, 1e-4), "int8": (2e-4, 2.5e-3)}


def test_short_rings():
    simulator, model, survey, _ = rough_shots(1, (15, 14))
    shot, observed = survey[0], jnp.zeros((simulator.grid.nt, 3, 1))

    def by_model(memory):
        def misfit(vp, wavelet):
            data = with_memory(simulator, memory)(jf.Acoustic(vp=vp), dataclasses.replace(shot, wavelet=wavelet))
            return jf.misfits.l2(data, observed)

        run = jax.jit(jax.grad(misfit))
        return lambda size: run(model.vp, size * shot.wavelet)

    exact = by_model(jf.BoundarySaving())(1.0)
    np.testing.assert_array_equal(by_model(jf.BoundarySaving(host=True))(1.0), exact)
    for dtype, (low, high) in RINGS.items():
        run = by_model(jf.BoundarySaving(dtype))
        errors = [relative(run(size) / size**2, exact) for size in (1.0, 1e-12, 1e12)]
        assert low < min(errors), dtype
        assert max(errors) < high, dtype
        if dtype in ("float16", "int8"):
            # The same parts of a block's largest value, itself rounded to float32. Measured: 3e-4 of the error.
            assert max(errors) < 1.01 * min(errors), dtype


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_short_rings_refuse_second_derivatives(dtype):
    simulator, model, shot = rough_shot((9,), absorber=jf.CPML(width=1))
    simulator = with_memory(simulator, jf.BoundarySaving(dtype))
    by_model = jax.grad(lambda m: jnp.sum(simulator(m, shot) ** 2))
    message = r"gradients only, not second derivatives: use memory=BoundarySaving\(\)"
    with pytest.raises(ValueError, match=message):
        jax.jvp(by_model, (model,), (model,))
    with pytest.raises(ValueError, match=message):
        jax.grad(lambda m: jnp.sum(by_model(m).vp))(model)


class Damped(jf.WaveEquation):
    """``u_tt + 2 d u_t = vp^2 (laplacian(u) + s)``: loses energy, and so has no way backwards."""

    vp: Any
    damping: Any  # 1/s

    default_fields: ClassVar = ("u",)

    @classmethod
    def fields(cls, ndim):
        return {"u": Field(half=(False,) * ndim)}

    def coefficients(self, dt, free_surface):
        return {"scale": (self.vp * dt) ** 2, "loss": self.damping * dt}

    def check(self):
        pass

    def speeds(self):
        return float(self.vp.min()), float(self.vp.max())

    @classmethod
    def initial(cls, zeros, derivative):
        return State({"u": zeros, "u_before": zeros}, {"u": derivative.layer_at_rest(zeros)})

    @classmethod
    def substeps(cls, ndim, space_order):
        return (SubStep(cls.step, None, (), ("u",)),)

    @staticmethod
    def step(coefficients, state, derivative, source):
        loss, u, u_before = coefficients["loss"], state.waves["u"], state.waves["u_before"]
        scale = coefficients["scale"] / (1.0 + loss)
        u_next, u, layer = derivative.add_laplacian(
            lambda u: (2.0 * u - (1.0 - loss) * u_before) / (1.0 + loss), scale, u, state.layer["u"]
        )
        return State({"u": source.add("u", u_next, scale), "u_before": u}, {"u": layer})


def test_an_equation_that_loses_energy():
    simulator, model, shot = rough_shot((17,), absorber=jf.CPML(width=2))
    damped = Damped(vp=model.vp, damping=5.0 + 0.001 * model.vp)
    observed = jnp.zeros((simulator.grid.nt, 3, 1))
    full, checkpoints = (
        gradient(with_memory(simulator, memory), damped, shot, observed)
        for memory in (jf.FullStorage(), jf.Checkpointing())
    )
    assert isinstance(full[0], Damped)
    for a, b in zip(jax.tree.leaves(checkpoints), jax.tree.leaves(full), strict=True):
        # The same steps, compiled otherwise. Measured: 4.2e-15.
        assert relative(a, b) < 1e-12
        assert float(jnp.abs(b).max()) > 0.0
    with pytest.raises(
        ValueError, match=r"BoundarySaving cannot rebuild .* Damped, which loses energy.*Checkpointing\(\)"
    ):
        simulator(damped, shot)


def temporary_bytes(steps, *, memory=jf.BoundarySaving(), on_nodes=True, by_all=False, hessian=False, **options):
    """Bytes that the compiled gradient of one shot needs beyond arguments and results."""
    grid = jf.Grid((40, 50), 10.0, 1e-3, steps)
    off = 0.0 if on_nodes else 3.3
    receiver = [[20.0 + off, 10.0 * i + off] for i in range(48)]
    survey = jf.Survey.from_arrays([[50.0 + off, 60.0 + off]], receiver, jnp.zeros(steps))
    shot = survey[0].on_nodes(grid)
    simulator = jf.Simulator(grid, absorber=jf.CPML(width=6), memory=memory, **options)
    model = jf.Acoustic(vp=jnp.full((40, 50), 2000.0))
    observed = jnp.zeros((steps, 48, 1))

    def by_model(model, shot, observed):
        return jax.grad(lambda m: jf.misfits.l2(simulator(m, shot), observed))(model)

    def by_positions_too(model, shot, observed):
        return jax.grad(lambda m, s: jf.misfits.l2(simulator(m, s), observed), (0, 1))(model, shot)

    def product(model, shot, observed):
        return jax.jvp(lambda m: by_model(m, shot, observed), (model,), (model,))[1]

    function = product if hessian else by_positions_too if by_all else by_model
    compiled = jax.jit(function).lower(model, shot, observed).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.fixture(scope="module")
def boundary():
    return temporary_bytes(200), temporary_bytes(400)


def test_memory_is_the_ring_and_the_data(boundary):
    # At order 4 the stencil reaches two cells. Every step keeps so many on each of the four sides, and the data of 48
    # receivers. Measured: 3367 bytes a step against 3264 by count.
    ring, data = 2 * 2 * (40 + 50), 48
    assert (boundary[1] - boundary[0]) / 200 == pytest.approx(8 * (ring + data), rel=0.1)
    # The rest is the working set: measured 25 fields of the padded grid.
    assert boundary[0] - 200 * 8 * (ring + data) < 40 * 8 * 60 * 70
    # On this small model; tests/test_cost.py has a larger one. Measured: 10.7.
    assert temporary_bytes(400, memory=jf.FullStorage()) > 8 * boundary[1]


def test_memory_with_the_absorber_differentiated():
    # Every step keeps all the layer: its cells, and two memory variables for each damped cell of a side, which reach 6
    # and 2 cells further.
    layer = (40 + 16) * (50 + 16) - 40 * 50
    memory = 2 * (6 + 6 + 6 + 2) * (40 + 20 + 50 + 22)  # the margin's cells across the side with them
    growth = (
        temporary_bytes(400, differentiate_absorber=True) - temporary_bytes(200, differentiate_absorber=True)
    ) / 200
    # Measured: 52992 bytes a step, as by count.
    assert growth == pytest.approx(8 * (layer + memory + 48), rel=0.1)


def test_memory_of_positions_that_nobody_differentiates(boundary):
    # 64 nodes for each of 48 receivers at every step serve the derivative by positions alone.
    samples = 400 * 48 * 64 * 8
    # Measured: 0.7 % of them, which are the weights.
    assert temporary_bytes(400, on_nodes=False) - boundary[1] < 0.03 * samples
    assert temporary_bytes(400, on_nodes=False, by_all=True) - boundary[1] > samples


def test_memory_of_a_hessian_product(boundary):
    product = temporary_bytes(200, hessian=True), temporary_bytes(400, hessian=True)
    # Ring and data, and the tangents of both. Measured: 2.1 times the gradient, and 1.97 times its growth.
    assert product[0] < 3.5 * boundary[0]
    assert product[1] < 3.5 * boundary[1]
    assert product[1] - product[0] < 2.5 * (boundary[1] - boundary[0])
