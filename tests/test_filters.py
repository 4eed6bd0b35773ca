"""Zero-phase filters: against scipy's forwards and backwards, self-adjoint, without phase, at their corners."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.signal

import jaxfwi as jf
from jaxfwi import filters
from jaxfwi.filters import Butterworth, Tilt

DT = 4e-3
GRID = jf.Grid(shape=10, spacing=10.0, dt=DT, nt=100)
FILTERS = [Butterworth(high=20.0), Butterworth(low=6.0), Butterworth(5.0, 30.0, order=3), Butterworth(8.0, 12.0, 2)]


@functools.partial(jax.jit, static_argnums=(0, 2))
def run(band, x, axis=-3):
    return band(x, GRID, axis)


def noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.telling
@pytest.mark.parametrize("band", FILTERS, ids=repr)
def test_as_scipy_forwards_and_backwards(band):
    time = np.arange(-800, 801) * DT
    x = np.zeros((2, 1601, 1, 1))
    x[0, 780:820] = noise((40, 1, 1))  # far from the ends, where scipy continues the record in its own way
    x[1, :, 0, 0] = np.exp(-0.5 * (time / 0.02) ** 2)
    corners = [f for f in (band.low, band.high) if f is not None]
    kind = "band" if len(corners) == 2 else "low" if band.low is None else "high"
    corners = corners if len(corners) == 2 else corners[0]
    sections = scipy.signal.butter(band.order, corners, kind, fs=1 / DT, output="sos")
    expected = scipy.signal.sosfiltfilt(sections, x, axis=1)
    ours = run(band, x)
    # The same function of frequency, by a recursion of 1600 steps. Measured: 1e-15 to 7e-15; 1e-11 at the ends.
    middle = (slice(None), slice(300, 1300))
    np.testing.assert_allclose(ours[middle], expected[middle], rtol=0, atol=1e-13 * abs(expected).max())
    # No phase: a symmetric pulse stays symmetric, to the rounding of its transform. Measured: 2e-16.
    np.testing.assert_allclose(ours[1], ours[1, ::-1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("band", [*FILTERS[1:], Tilt(1.0, 5.0), Tilt(2.0, 3.0) * FILTERS[0]], ids=repr)
def test_nothing_comes_around(band):
    spike, far = np.zeros((200, 1, 1)), np.zeros((4000, 1, 1))
    spike[0] = far[2000] = 1.0
    longer = run(band, far)[2000:2200]
    # What the padding is chosen for, 1e-6 of the response. Measured: 2e-8 to 2.2e-7.
    np.testing.assert_allclose(run(band, spike), longer, rtol=0, atol=1e-6 * float(longer.max()))


@pytest.mark.parametrize("band", [*FILTERS[1:3], Tilt(1.0, 5.0) * FILTERS[0]], ids=repr)
def test_its_own_transpose(band):
    x, y = noise((2, 150, 3, 2)), noise((2, 150, 3, 2), seed=1)
    filtered, y_filtered = run(band, x), run(band, y)
    left, right = np.vdot(filtered, y), np.vdot(x, y_filtered)
    # Sums of 1800 products of either sign. Measured: 6e-18 of the norms; of single values 9e-16.
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    assert abs(left - right) < 1e-15 * scale
    transposed = jax.jit(jax.linear_transpose(lambda x: band(x, GRID), x))(y)[0]
    np.testing.assert_allclose(transposed, y_filtered, rtol=0, atol=1e-14)


def test_half_the_amplitude_at_a_corner():
    time = np.arange(4001) * DT
    for band, corner in ((FILTERS[0], 20.0), (FILTERS[1], 6.0), (FILTERS[2], 5.0), (FILTERS[2], 30.0)):
        wave = np.sin(2 * np.pi * corner * time)
        middle = slice(1800, 2200)
        ours = run(band, wave, 0)
        # Both ends of the record, which cut the wave off, are 7 s away. Measured: 9e-14.
        np.testing.assert_allclose(ours[middle], 0.5 * wave[middle], rtol=0, atol=1e-12)


def test_axis_and_precision():
    band = FILTERS[2]
    wavelets = noise((3, 120, 2))
    ours = band(wavelets, GRID, axis=1)
    np.testing.assert_allclose(
        ours[1, :, 1], band(wavelets[1, :, 1], GRID, axis=0), rtol=0, atol=1e-14
    )  # measured: 1e-16
    short = run(band, wavelets.astype(jnp.float32), 1)
    assert short.dtype == jnp.float32
    np.testing.assert_allclose(short, ours, rtol=0, atol=1e-6)  # a few roundings of numbers of some 3; measured: 2e-7
    for dtype in (jnp.bfloat16, jnp.float16):
        assert jax.eval_shape(functools.partial(run, band), wavelets.astype(dtype)).dtype == dtype


def test_transforms():
    band, x = FILTERS[2], noise((2, 90, 2, 1))
    plain = band(x, GRID)
    # Compiled or mapped, the same transforms. Measured: 2e-16.
    same = {"rtol": 0, "atol": 1e-14}
    np.testing.assert_allclose(run(band, x), plain, **same)
    np.testing.assert_allclose(jax.vmap(functools.partial(run, band))(x), plain, **same)
    gradient = jax.jit(jax.grad(lambda x: 0.5 * jnp.sum(band(x, GRID) ** 2)))(x)
    np.testing.assert_allclose(gradient, run(band, plain), **same)
    np.testing.assert_allclose(jax.jvp(functools.partial(run, band), (x,), (x,))[1], plain, **same)
    assert hash(Butterworth(2, 5)) == hash(Butterworth(2.0, 5.0, 4))


def test_lengths():
    for n in [*range(1, 400), 1025, 20000, 65537]:
        fast = filters._fast_length(n)
        assert fast == min(scipy.fft.next_fast_len(n, real=True), 1 << (n - 1).bit_length())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Butterworth(), r"needs a corner: give low"),
        (lambda: Butterworth(20.0, 5.0), r"low must be below high, got 20 and 5 Hz"),
        (lambda: Butterworth(5.0, 5.0), r"low must be below high"),
        (lambda: Butterworth(low=0.0), r"low must be a positive number of Hz or None, got 0\.0"),
        (lambda: Butterworth(high=np.nan), r"high must be a positive"),
        (lambda: Butterworth(5.0, order=0), r"order must be a whole number of at least 1, got 0"),
        (lambda: Butterworth(5.0, order=2.5), r"order must be .* 2\.5"),
        (
            lambda: Butterworth(high=125.0)(jnp.ones((9, 1, 1)), GRID),
            r"high = 125 Hz .* Nyquist frequency 125 Hz of dt",
        ),
        (lambda: Butterworth(low=5.0)(jnp.ones(9), GRID), r"axis = -3 is the time axis, but .* shape \(9,\)"),
        (
            lambda: Butterworth(low=5.0)(jnp.ones((9, 1, 1)), DT),
            r"grid must be a jaxfwi\.Grid.* got 0\.004: pass the grid",
        ),
        (lambda: Butterworth(low=5.0)(jnp.ones((9, 1, 1), int), GRID), r"real floating-point numbers, got int64"),
    ],
    ids=range(11),
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_tilt_undoes_the_rise_of_a_ricker():
    """Its spectrum is f² exp(-(f / peak)²): over f², what is left falls by exp(-(f / peak)²) alone."""
    time = np.arange(2000) * DT - 4.0
    square = (np.pi * 5.0 * time) ** 2
    ricker = (1.0 - 2.0 * square) * np.exp(-square)
    tilted = np.asarray(run(Tilt(2.0, 0.1), ricker[:, None, None]))[:, 0, 0]
    frequency = np.fft.rfftfreq(2000, DT)
    some = (frequency > 1.0) & (frequency < 12.0)
    gain = np.abs(np.fft.rfft(tilted))[some] * np.exp((frequency[some] / 5.0) ** 2)
    # Above ten times the corner, 1 / (1 + (0.1 / f)²) is within 1 % of 1; at 12 Hz the sine is 0.4 % below its angle,
    # twice. Measured: 1.7 %.
    assert np.ptp(gain) < 0.02 * gain.max()
    assert run(Tilt(0.0), ricker[:, None, None]).shape == (2000, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"), [((-1.0,), r"power must be zero or more"), ((1.0, 0.0), r"corner must be a positive")]
)
def test_tilts_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tilt(*arguments)
