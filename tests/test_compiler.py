"""XLA's options: which programs are compiled with the options, and which cannot be."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxfwi as jf
from jaxfwi import _compiler
from jaxfwi.inversion import driver

GRID = jf.Grid((12, 14), 10.0, 1e-3, 150)
SURVEY = jf.Survey.fixed_spread(
    source_x=[30.0, 70.0], source_z=20.0, receiver_x=[40.0, 90.0], receiver_z=20.0, wavelet=jf.ricker(GRID, 15.0)
)
SIMULATOR = jf.Simulator(GRID, 4, jf.CPML(3))
MODEL = jf.Acoustic(vp=jnp.full(GRID.shape, 2000.0))
OBSERVED = jnp.zeros((2, GRID.nt, 2, 1))


def gradient(survey=SURVEY):
    return jf.Problem(SIMULATOR, survey, OBSERVED[: len(survey)]).misfit_and_gradient(MODEL)


CALLS = {
    "simulator": lambda: SIMULATOR(MODEL, SURVEY[0]),
    "simulate": lambda: jf.simulate(SIMULATOR, MODEL, SURVEY),
    "one shot": lambda: jf.simulate(SIMULATOR, MODEL, SURVEY[:1]),
    "misfit_and_gradient": gradient,
    "one shot's gradient": lambda: gradient(SURVEY[:1]),
    "memory": lambda: jf.Problem(SIMULATOR, SURVEY).memory(MODEL, gradient=False),
    "snapshots": lambda: jf.snapshots(SIMULATOR, MODEL, SURVEY[0], every=50),
}


@pytest.fixture
def refused(monkeypatch):
    """Every program that is compiled with options is an error."""
    for module in (_compiler, driver):
        monkeypatch.setattr(module, "compiler_options", lambda device=None: {"xla_no_such_option": 1})


@pytest.mark.telling
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_our_own_programs_are_compiled_with_the_options(refused, call):
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):
        call()


def test_so_is_the_update_of_an_inversion(refused, monkeypatch):
    monkeypatch.setattr(_compiler, "compiler_options", lambda device=None: {})
    run = jf.invert(jf.Problem(SIMULATOR, SURVEY, OBSERVED), MODEL, optimizer=optax.sgd(1.0), iterations=1)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):
        list(run)


@pytest.mark.telling
@pytest.mark.parametrize(
    "transformed",
    [
        lambda: jax.jit(SIMULATOR)(MODEL, SURVEY[0]),
        lambda: jax.jit(lambda x: x * jf.simulate(SIMULATOR, MODEL, SURVEY))(2.0),
        lambda: jax.grad(lambda m: jnp.sum(SIMULATOR(m, SURVEY[0])))(MODEL),
        lambda: jax.vmap(lambda vp: SIMULATOR(jf.Acoustic(vp), SURVEY[0]))(jnp.stack([MODEL.vp, MODEL.vp])),
        lambda: jax.lax.map(lambda vp: jf.simulate(SIMULATOR, jf.Acoustic(vp), SURVEY), MODEL.vp[None]),
        lambda: jax.jit(lambda x: x * jf.snapshots(SIMULATOR, MODEL, SURVEY[0], every=50)[0])(2.0),
    ],
    ids=["jit", "values in jit", "grad", "vmap", "map", "snapshots in jit"],
)
def test_a_part_of_a_program_has_no_options(refused, transformed):
    """`jax` refuses options on anything but the outermost program."""
    transformed()


@pytest.mark.telling
def test_the_options_change_results_by_rounding_only():
    def energy(model):
        return jnp.sum(SIMULATOR(model, SURVEY[0]) ** 2)

    options = jf.compiler_options(jax.devices("cpu")[0])
    assert options["xla_cpu_prefer_vector_width"] == 512
    assert ("xla_disable_hlo_passes" in options) == (jax.__version_info__ < (0, 11))
    plain = jax.jit(jax.grad(energy))(MODEL).vp
    tuned = jax.jit(jax.grad(energy), compiler_options=options)(MODEL).vp
    # 1e-12: rounding of 150 steps in double precision
    np.testing.assert_allclose(tuned, plain, rtol=0, atol=1e-12 * np.abs(plain).max())


def test_other_devices_than_processors_have_no_options():
    assert jf.compiler_options(SimpleNamespace(platform="gpu")) == {}  # pyright: ignore[reportArgumentType]


def test_an_option_that_this_jax_does_not_know_is_left_out():
    assert not _compiler._is_known("xla_no_such_option", 1)
    assert _compiler._is_known("xla_cpu_prefer_vector_width", 512)
