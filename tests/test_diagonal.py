"""The estimated diagonal of the Gauss-Newton Hessian, against the exact one and within its own statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfwi as jf
from jaxfwi.filters import Butterworth
from jaxfwi.products import gauss_newton_diagonal

GRID = jf.Grid((16,), 10.0, 2.5e-3, 120)
SIMULATOR = jf.Simulator(GRID, absorber=jf.CPML(width=3))
MODEL = jf.Acoustic(vp=2000.0 + 60.0 * jnp.sin(jnp.arange(16.0)))
WAVELET = jf.ricker(GRID, 12.0)
BAND = Butterworth(5.0, 20.0, 2)
SAMPLES = 100


def surveys():
    """Four shots with three receivers; and with one to three, one of the shots of two sources at once."""
    even = jf.Survey.from_arrays([[10.0], [50.0], [80.0], [150.0]], [[0.0], [40.0], [150.0]], WAVELET)
    receivers = [[[0.0]], [[0.0], [40.0]], [[150.0]], [[0.0], [40.0], [150.0]]]
    sources = [[[10.0]], [[50.0], [120.0]], [[80.0]], [[150.0]]]
    wavelets = [WAVELET[:, None], jnp.stack([WAVELET, -WAVELET], axis=1), WAVELET[:, None], WAVELET[:, None]]
    return even, jf.Survey.from_lists(sources, receivers, wavelets)


@functools.cache
def derivative(ragged, band):
    """Of the data by the model, ``(shots, samples, cells)``."""

    def data(vp):
        data = jf.simulate(SIMULATOR, jf.Acoustic(vp=vp), surveys()[ragged])
        return data if band is None else band(data, GRID.dt)

    return np.asarray(jax.jit(jax.jacfwd(data))(MODEL.vp)).reshape(4, -1, 16)


@pytest.mark.telling
@pytest.mark.parametrize(("ragged", "band"), [(False, None), (True, BAND)], ids=["even", "ragged and filtered"])
def test_within_its_statistics(ragged, band):
    jacobian = derivative(ragged, band)
    each = np.sum(jacobian**2, axis=1)
    exact = each.sum(axis=0)
    ours = gauss_newton_diagonal(
        SIMULATOR, MODEL, surveys()[ragged], jax.random.key(1), samples=SAMPLES, filter=band
    ).vp
    # The variance of the square of a sum of terms a of random sign is 2 ((sum a^2)^2 - sum a^4), by hand.
    variance = np.sum(2 * (each**2 - np.sum(jacobian**4, axis=1)), axis=0) / SAMPLES
    off = (np.asarray(ours) - exact) / np.sqrt(variance)
    # Sixteen cells, neighbours alike, each within 4 standard deviations with a chance of 0.999; and no exact copy.
    # Measured:
    print(off, np.sqrt(variance) / exact)
    assert abs(off).max() < 4
    assert 0.2 < off.std() < 2
    # what the docstring says
    assert (np.sqrt(variance) / exact < np.sqrt(2 / SAMPLES)).all()


def test_the_exact_one_is_that_of_products():
    survey, observed = surveys()[0], jnp.zeros((4, 120, 3, 1))
    exact = np.sum(derivative(False, None) ** 2, axis=(0, 1))
    for cell in (3, 11):
        unit = jf.Acoustic(vp=jnp.zeros(16).at[cell].set(1.0))
        product = jf.gauss_newton_product(SIMULATOR, jf.misfits.l2, MODEL, survey, observed, unit)
        assert float(product.vp[cell]) == pytest.approx(exact[cell], rel=1e-11)  # measured:
        print(float(product.vp[cell]) / exact[cell] - 1)


def test_the_same_for_the_same_key_however_dealt_out():
    survey = surveys()[0]
    estimate = functools.partial(gauss_newton_diagonal, SIMULATOR, MODEL, survey, samples=3)
    ours = estimate(jax.random.key(1)).vp
    np.testing.assert_array_equal(estimate(jax.random.key(1)).vp, ours)
    for key, options in ((jax.random.PRNGKey(1), {}), (jax.random.key(1), {"batch": 4})):
        # The same numbers, added in another order. Measured:
        print(abs(estimate(key, **options).vp / ours - 1).max())
        np.testing.assert_allclose(estimate(key, **options).vp, ours, rtol=1e-11)
    assert (jnp.abs(estimate(jax.random.key(2)).vp / ours - 1) > 1e-3).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, r"samples must be a whole number of at least 1, got 0"),
        ({"key": 3}, r"key must be one key of jax\.random, as jax\.random\.key\(0\).* got 3"),
        ({"filter": 5.0}, r"filter must be a function of data and their time step, got float"),
        ({"survey": None}, r"survey"),
    ],
    ids=range(4),
)
def test_mistakes_are_told(options, message):
    usual = {"simulator": SIMULATOR, "model": MODEL, "survey": surveys()[0], "key": jax.random.key(0)}
    with pytest.raises(ValueError, match=message):
        gauss_newton_diagonal(**{**usual, **options})
