"""A problem is a PyTree: it composes with what JAX does to functions of survey, observed data and weights."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import relative

import jaxfwi as jf

GRID = jf.Grid((30,), 10.0, 2e-3, 80)
SIMULATOR = jf.Simulator(GRID, absorber=jf.CPML(width=4))
MODEL = jf.Acoustic(vp=jnp.linspace(2000.0, 2200.0, 30))
SURVEY = jf.Survey.from_arrays([[52.0], [120.0]], [[31.0], [203.0]], jf.ricker(GRID, 15.0))
# The same sums, compiled otherwise. Measured: 6e-15.
SAME = 1e-12


@pytest.fixture(scope="module")
def problem():
    observed = jf.simulate(SIMULATOR, jf.Acoustic(vp=MODEL.vp + 60.0), SURVEY)
    return jf.Problem(SIMULATOR, SURVEY, observed, weights=jnp.ones((2, 1, 1, 1)))


@pytest.fixture(scope="module")
def reference(problem):
    return problem.misfit_and_gradient(MODEL)


def by_hand(survey, observed):
    data = jax.vmap(SIMULATOR, (None, 0))(MODEL, survey)
    return sum(jf.misfits.l2(d, o) for d, o in zip(data, observed, strict=True))


def test_leaves_are_survey_data_and_weights(problem):
    assert len(jax.tree.leaves(problem)) == len(jax.tree.leaves((problem.survey, problem.observed, problem.weights)))
    doubled = jax.tree.map(lambda x: 2 * x, problem)
    assert isinstance(doubled, jf.Problem)
    np.testing.assert_array_equal(doubled.observed, 2 * problem.observed)


def test_in_a_program_of_the_users(problem, reference):
    """Closed over, as an argument, and by Equinox."""
    ways = (
        jax.jit(lambda model: problem.misfit_and_gradient(model)),
        lambda model: jax.jit(lambda p, m: p.misfit_and_gradient(m))(problem, model),
        eqx.filter_jit(problem.misfit_and_gradient),
    )
    for run in ways:
        value, gradient = run(MODEL)
        assert relative(value, reference[0]) < SAME
        assert relative(gradient.vp, reference[1].vp) < SAME


def test_derivatives_by_positions_wavelet_and_data(problem):
    def value(survey, observed):
        return dataclasses.replace(problem, survey=survey, observed=observed).misfit_and_gradient(MODEL)[0]

    ours = jax.jit(jax.grad(value, (0, 1), allow_int=True))(SURVEY, problem.observed)
    expected = jax.jit(jax.grad(by_hand, (0, 1), allow_int=True))(SURVEY, problem.observed)
    for name in ("source", "receiver", "wavelet"):
        theirs = getattr(expected[0], name)
        assert float(jnp.abs(theirs).max()) > 0.0
        assert relative(getattr(ours[0], name), theirs) < SAME, name
    assert relative(ours[1], expected[1]) < SAME


def test_mapped_over_data(problem, reference):
    both = jnp.stack([problem.observed, jnp.zeros_like(problem.observed)])
    values = jax.vmap(lambda d: dataclasses.replace(problem, observed=d).misfit_and_gradient(MODEL)[0])(both)
    assert relative(values[0], reference[0]) < SAME
    assert values[1] != values[0]


def test_arguments_of_any_kind(problem, reference):
    """An aperture as an array, weights as lists, numbers of numpy; of them nothing is static that cannot be."""
    on = jf.On(devices=np.int64(1), batch=np.int64(2))
    assert repr(on) == "On(devices=1, batch=2, domains=1)"
    weights = np.ones((2, 1, 1, 1)).tolist()
    ours = jf.Problem(SIMULATOR, SURVEY, problem.observed, weights=weights, on=on)
    assert len(jax.tree.leaves(ours)) == len(jax.tree.leaves(problem))
    assert relative(ours.misfit_and_gradient(MODEL)[0], reference[0]) < SAME
    for aperture in (jnp.float32(50.0), np.array([50.0]), [50.0]):
        hash(jf.Problem(SIMULATOR, SURVEY, aperture=aperture).aperture)


def test_what_is_shown():
    """Settings that change results are shown where they are not the default."""
    shown = repr(jf.Problem(SIMULATOR, SURVEY, weights=jnp.ones((2, 1, 1, 1)), aperture=50.0, on=jf.On(batch=2)))
    assert shown.endswith("misfit=l2, weights=..., aperture=50.0, on=On(devices=None, batch=2, domains=1))")


def test_memory_looks_at_what_is_given():
    with pytest.raises(ValueError, match=r"weights must be \(2, 80, 2, 1\).*got \(3, 1, 1, 1\)"):
        jf.Problem(SIMULATOR, SURVEY, weights=jnp.ones((3, 1, 1, 1))).memory(MODEL)
    with pytest.raises(ValueError, match="observed must be an array"):
        jf.Problem(SIMULATOR, SURVEY, [1.0]).memory(MODEL)


def test_a_filter_may_change_the_number_of_samples():
    """The estimated diagonal is that of filtered data, whatever their shape."""

    def every_fourth(data, grid):
        return data[::4]

    light = jf.Problem(SIMULATOR, SURVEY).gauss_newton_diagonal(MODEL, samples=2, filter=every_fourth)
    assert light.vp.shape == (30,)
    assert float(light.vp.max()) > 0.0
