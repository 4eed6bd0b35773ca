"""The three memory strategies: the same gradient, at any call, in any batch and precision; and what each keeps.

That they agree over dimensions, orders, boundaries and all inputs stands in test_gradients.py, beside the dot products.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_gradients import STRATEGIES, jit, problem, relative

import jaxfwi as jf
from jaxfwi.equations.acoustic import State


def remember(simulator, memory):
    return dataclasses.replace(simulator, memory=memory)


def gradient(simulator, model, shot, observed):
    """The gradient of a shot's misfit by the model and all of the survey."""

    def misfit(model, shot):
        return jf.misfits.l2(simulator(model, shot), observed)

    return jit(jax.grad(misfit, (0, 1)))(model, shot)


def many_shots(shots, shape=(20,), seed=5, **options):
    """A simulator, a model, a survey of several shots with sources and receivers on nodes, and observed data."""
    simulator, model, _ = problem(shape, seed=seed, **options)
    grid, rng = simulator.grid, np.random.default_rng(seed)
    source = rng.integers(0, grid.shape, (shots, 1, grid.ndim)) * np.asarray(grid.spacing)
    receiver = rng.integers(0, grid.shape, (shots, 3, grid.ndim)) * np.asarray(grid.spacing)
    safe = grid.safe_frequency(float(model.vp.min()), simulator.space_order)
    survey = jf.Survey.from_arrays(source, receiver, jf.ricker(grid, safe / 1.8))
    observed = jnp.asarray(rng.uniform(0.5, 1.5, (shots, 1, 1, 1))) * jf.simulate(simulator, model, survey)
    return simulator, model, survey, observed


def test_single_precision():
    simulator, model, shot = problem((9, 11), free_surface=True, absorber=jf.CPML(width=((0, 3), (4, 1))))
    model, shot = jax.tree.map(lambda x: x.astype(jnp.float32), (model, shot))
    observed = jnp.zeros((simulator.grid.nt, 3, 1), jnp.float32)
    reference = gradient(remember(simulator, STRATEGIES["full"]), model, shot, observed)
    for name, memory in STRATEGIES.items():
        ours = gradient(remember(simulator, memory), model, shot, observed)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
            assert a.dtype == jnp.float32
            print(name, relative(a, b))


def test_the_same_at_each_call():
    ours, other = many_shots(2, (7, 9), free_surface=True), many_shots(3, (16,))
    gradients = []
    for memory in STRATEGIES.values():
        simulator, *arguments = ours
        first = jf.misfit_and_gradient(remember(simulator, memory), jf.misfits.l2, *arguments)
        jf.misfit_and_gradient(remember(other[0], memory), jf.misfits.l2, *other[1:])
        second = jf.misfit_and_gradient(remember(simulator, memory), jf.misfits.l2, *arguments)
        assert first[0] == second[0]
        np.testing.assert_array_equal(first[1].vp, second[1].vp)
        gradients.append(first[1].vp)
    print(relative(gradients[1], gradients[0]))
    print(relative(gradients[2], gradients[0]))


def test_number_of_segments():
    simulator, model, shot = problem((17,), seed=2, absorber=jf.CPML(width=2))
    nt = simulator.grid.nt
    assert nt % 7
    observed = jnp.zeros((nt, 3, 1))
    reference = gradient(remember(simulator, jf.FullStorage()), model, shot, observed)
    for segments in (1, 7, nt, nt + 50):
        ours = gradient(remember(simulator, jf.Checkpointing(segments)), model, shot, observed)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
            print(segments, relative(a, b))


@pytest.mark.parametrize("memory", ["full", "boundary"])
def test_batches(memory):
    simulator, model, survey, observed = many_shots(5)
    simulator = remember(simulator, STRATEGIES[memory])

    def summed(batch, shots=slice(None)):
        return jf.misfit_and_gradient(simulator, jf.misfits.l2, model, survey[shots], observed[shots], batch=batch)

    value, total = summed(1)
    one_by_one = [summed(1, slice(i, i + 1)) for i in range(5)]
    print(relative(sum(v for v, _ in one_by_one), value), relative(sum(g.vp for _, g in one_by_one), total.vp))
    for batch in (2, 3, 7):
        v, g = summed(batch)
        print(batch, relative(v, value), relative(g.vp, total.vp))
        if memory == "full":
            data = jf.simulate(simulator, model, survey, batch=batch)
            print(batch, relative(data, jf.simulate(simulator, model, survey)))


RINGS = {
    "float32": (0,1),
    "bfloat16": (0,1),
    "float16": (0,1),
    "int8": (0,1),
}


def test_short_rings():
    simulator, model, shot = problem((15, 14))
    observed = jnp.zeros((simulator.grid.nt, 3, 1))

    def by_model(memory):
        run = jit(
            jax.grad(lambda vp, wavelet: jf.misfits.l2(
                remember(simulator, memory)(jf.Acoustic(vp=vp), dataclasses.replace(shot, wavelet=wavelet)), observed
            ))
        )
        return lambda size: run(model.vp, size * shot.wavelet)

    exact = by_model(jf.BoundarySaving())(1.0)
    np.testing.assert_array_equal(by_model(jf.BoundarySaving(host=True))(1.0), exact)
    for dtype, (low, high) in RINGS.items():
        run = by_model(jf.BoundarySaving(dtype))
        errors = [relative(run(size) / size**2, exact) for size in (1.0, 1e-12, 1e12)]
        print(dtype, errors)


class Damped(jf.WaveEquation):
    """``u_tt + 2 d u_t = vp^2 (laplacian(u) + s)``: loses energy, and so has no `rewind`."""

    vp: Any
    damping: Any  # 1/s

    fields: ClassVar = ("u",)
    default_fields: ClassVar = ("u",)
    rebuilt: ClassVar = ("u_before",)

    class Coefficients(NamedTuple):
        scale: Any
        loss: Any

    def coefficients(self, dt):
        return self.Coefficients((self.vp * dt) ** 2, self.damping * dt)

    def check(self):
        pass

    def speeds(self):
        return float(self.vp.min()), float(self.vp.max())

    @staticmethod
    def initial(zeros, derivative):
        return State(zeros, zeros, derivative.memory(zeros))

    @staticmethod
    def step(coefficients, state, derivative, source):
        scale, loss = coefficients
        onto = (2.0 * state.u - (1.0 - loss) * state.u_before) / (1.0 + loss)
        scale = scale / (1.0 + loss)
        u, memory = derivative.add_laplacian(onto, scale, state.u, state.memory)
        return State(source.add("u", u, scale), state.u, memory)


def test_an_equation_that_loses_energy():
    simulator, model, shot = problem((17,), absorber=jf.CPML(width=2))
    damped = Damped(vp=model.vp, damping=5.0 + 0.001 * model.vp)
    observed = jnp.zeros((simulator.grid.nt, 3, 1))
    full, checkpoints = (
        gradient(remember(simulator, memory), damped, shot, observed)
        for memory in (jf.FullStorage(), jf.Checkpointing())
    )
    assert isinstance(full[0], Damped)
    for a, b in zip(jax.tree.leaves(checkpoints), jax.tree.leaves(full), strict=True):
        print(relative(a, b))
    with pytest.raises(ValueError, match=r"BoundarySaving cannot rebuild .* Damped, which loses energy.*Checkpointing\(\)"):
        simulator(damped, shot)


def temporary_bytes(steps, *, memory=jf.BoundarySaving(), on_nodes=True, hessian=False, **options):
    """What the compiled gradient of one shot needs beyond arguments and results."""
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

    def product(model, shot, observed):
        return jax.jvp(lambda m: by_model(m, shot, observed), (model,), (model,))[1]

    compiled = jit(product if hessian else by_model).lower(model, shot, observed).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.fixture(scope="module")
def boundary():
    return temporary_bytes(200), temporary_bytes(400)


def test_memory_of_the_ring(boundary):
    # per step two cells (the stencil's reach at order 4) on each of the four sides, and the data of 48 receivers
    ring, data = 2 * 2 * (40 + 50), 48
    print((boundary[1] - boundary[0]) / 200, 8*(ring+data))
    full= temporary_bytes(400, memory=jf.FullStorage())
    print(full/boundary[1])
    print("off", temporary_bytes(400, on_nodes=False), boundary[1], 400*48*64*8)
    h = temporary_bytes(200, hessian=True), temporary_bytes(400, hessian=True)
    print("h", h[0]/boundary[0], h[1]/boundary[1], (h[1]-h[0])/200/8)
    w = temporary_bytes(200, differentiate_absorber=True), temporary_bytes(400, differentiate_absorber=True)
    padded=(40+16)*(50+16)
    mem=2*2*6*(66+56)
    print("whole", (w[1]-w[0])/200, 8*(padded-2000+mem+48))
