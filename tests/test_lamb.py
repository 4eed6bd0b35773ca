"""Elastic waves at a free surface and at the sea bed, against integrals over horizontal wavenumbers.

Lamb's problem (a vertical force in a half-space with a free surface), and the reflection of an explosion in water from
rock. The integrals are sums over wavenumbers ``2 pi m / PERIOD``: solutions with a source every PERIOD metres, whose
nearest copies are too far away to be seen in time. The frequencies are those of `analytic.trace`, with a small negative
imaginary part, so that no integrand is singular. Time is discrete as the leapfrog's, a frequency omega acts as ``2/dt
sin(omega dt/2)``: what is left is the error of the space derivatives, unless said otherwise. Errors are relative L2
errors over all samples of all receivers. Resolution is in points per S wavelength of 120 m at the Ricker wavelet's
dominant frequency of 10 Hz; at 25 Hz, above which lies 0.04 % of its energy, they are 2.5 times fewer.
"""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from analytic import relative, ricker
from elastic import velocity
from scipy.optimize import brentq

import jaxfwi as jf

FREQUENCY, DELAY = 10.0, 0.15
PERIOD = 4500.0  # metres: P waves of 2500 m/s from the next copy take 1.4 s to the farthest receiver


def frequencies(n, dt, discrete_time=True):
    """Complex frequencies up to 55 Hz, where the wavelet's spectrum is 1e-11 of its peak."""
    omega = (2 * np.pi * np.fft.rfftfreq(4 * n) - 1j * math.log(1e14) / (4 * n)) / dt
    omega = omega[: int(55.0 * 4 * n * dt)]
    return 2 / dt * np.sin(0.5 * omega * dt) if discrete_time else omega


def traces(green, wavelet):
    """Traces ``(time, receivers)`` from Green's functions ``(frequencies, receivers)``."""
    n = len(wavelet)
    window = math.log(1e14) / (4 * n) * np.arange(n)
    spectrum = np.zeros((2 * n + 1, green.shape[1]), complex)
    spectrum[: len(green)] = np.fft.rfft(wavelet * np.exp(-window), 4 * n)[: len(green), None] * green
    return np.fft.irfft(spectrum, 4 * n, axis=0)[:n] * np.exp(window)[:, None]


def wavenumbers(largest, period):
    """Wavenumbers from 0, and the weights of a sum that is ``1 / (2 pi)`` times the integral of an even function."""
    step = 2 * np.pi / period
    k = np.arange(int(largest / step) + 1) * step
    return k, np.where(k == 0, 0.5, 1.0) * step / np.pi


def decay(k, omega, speed):
    """The rate ``nu`` of waves ``exp(-nu |z|)`` that decay or leave."""
    return np.sqrt(k**2 - (omega / speed) ** 2)


# Lamb's problem

VP, VS, RHO = 2000.0, 1200.0, 2000.0
DEPTH = 50.0
OFFSETS = np.array([60.0, 240.0, 480.0, 720.0, 960.0])  # up to 8 S wavelengths
BURIED = (200.0, 360.0)  # z and x from the source of one more receiver
RECEIVERS = np.array([*((0.0, x) for x in OFFSETS), BURIED])


def lamb(wavelet, dt, receivers=RECEIVERS, discrete_time=True, surface=True, largest=0.6, period=PERIOD):
    """Velocities vx and vz, ``(time, receivers, 2)``, of a vertical force at `DEPTH` below a free surface.

    The force's own field is ``u = (k_s^2 g_s f + grad grad . (g_s - g_p) f) / (rho omega^2)`` with ``g = exp(-nu |z -
    DEPTH|) / (2 nu)``. A P and an S wave, ``P (i k, -a) exp(-a z)`` and ``S (b, i k) exp(-b z)`` in (x, z), take its
    traction off the surface. Without `surface` the medium goes on above.
    """
    omega = frequencies(len(wavelet), dt, discrete_time)[:, None]
    k, weight = wavenumbers(largest, period)
    mu = RHO * VS**2
    lam = RHO * VP**2 - 2 * mu
    a, b = decay(k, omega, VP), decay(k, omega, VS)

    def potentials(z):
        return np.exp(-a * abs(z - DEPTH)) / (2 * a), np.exp(-b * abs(z - DEPTH)) / (2 * b)

    p, s = potentials(0.0)  # above the force d/dz is a for P and b for S
    strain_xx, strain_zz = -(k**2) * (b * s - a * p), k**2 * b * s - a**3 * p
    shear = 1j * k * (b**2 * s - a**2 * p) + 1j * k * (k**2 * s - a**2 * p)
    szz, sxz = lam * (strain_xx + strain_zz) + 2 * mu * strain_zz, mu * shear
    # that of the two waves: szz = mu (m P - 2 i k b S), sxz = mu (-2 i k a P - m S)
    m = 2 * k**2 - (omega / VS) ** 2
    rayleigh = mu * (m**2 - 4 * k**2 * a * b)
    amount_p, amount_s = (-m * szz + 2j * k * b * sxz) / rayleigh, (2j * k * a * szz + m * sxz) / rayleigh
    out = []
    for z, x in receivers:
        p, s = potentials(z)
        ux, uz = np.sign(DEPTH - z) * 1j * k * (b * s - a * p), k**2 * s - a**2 * p
        if surface:
            p, s = amount_p * np.exp(-a * z), amount_s * np.exp(-b * z)
            ux, uz = (ux + 1j * k * p + b * s, uz - a * p + 1j * k * s)
        # ux is odd in k, uz even
        green = np.stack([ux * 1j * np.sin(k * x) @ weight, uz * np.cos(k * x) @ weight], axis=1)
        out.append(traces(1j / (RHO * omega) * green, wavelet))
    return np.stack(out, axis=1)


def test_lambs_problem_is_solved():
    """The right source, no traction at the surface, and a sum that has converged: nothing else solves the problem."""
    dt = 1e-3
    wavelet = ricker(np.arange(1200) * dt, FREQUENCY, DELAY)
    below = np.array([(150.0, 300.0)])
    expected = velocity(wavelet, dt, (100.0, 300.0), VP, VS, RHO, 0)[:, ::-1]
    # Measured below 1e-7.
    assert relative(lamb(wavelet, dt, below, surface=False)[:, 0], expected) < 1e-7
    # Measured 7e-12 and 5e-14.
    data = lamb(wavelet, dt)
    assert relative(lamb(wavelet, dt, period=2 * PERIOD), data) < 1e-9
    assert relative(lamb(wavelet, dt, largest=0.9), data) < 1e-9
    # Differences of second order over 0.1 m.
    h = 0.1
    cross = np.array([(0.0, 300.0 - h), (0.0, 300.0 + h), (0.0, 300.0), (h, 300.0), (2 * h, 300.0)])
    v = lamb(wavelet, dt, cross)
    along = (v[:, 1] - v[:, 0]) / (2 * h)
    down = (-1.5 * v[:, 2] + 2.0 * v[:, 3] - 0.5 * v[:, 4]) / h
    assert relative(-(VP**2) * down[:, 1], (VP**2 - 2 * VS**2) * along[:, 0]) < 5e-3
    assert relative(-down[:, 0], along[:, 1]) < 5e-3


def half_space(spacing, order, **more):
    """Data, the wavelet and dt."""
    dt, left = 1.5e-4 * spacing, 300.0
    grid = jf.Grid((round(600.0 / spacing) + 1, round(1500.0 / spacing) + 1), spacing, dt, round(1.2 / dt))
    wavelet = ricker(grid.times, FREQUENCY, DELAY)
    survey = jf.Survey.from_arrays([[DEPTH, left]], RECEIVERS + np.array([0.0, left]), wavelet)
    simulator = jf.Simulator(
        grid,
        space_order=order,
        absorber=jf.CPML(20, velocity=VP, frequency=FREQUENCY),
        free_surface=True,
        source_fields=("vz",),
        receiver_fields=("vx", "vz"),
    )
    model = jf.Elastic(*(jnp.full(grid.shape, x) for x in (VP, VS, RHO)))
    return np.asarray(jf.simulate(simulator, model, survey))[0], wavelet, dt


# Errors of the Rayleigh wave's speed under the surface's few rows (9e-4 at 12 points, as h^4) and of the stencils
# add up over 8 wavelengths: measured 0.133, 0.0264 and 0.0136 at order 4 at 12, 24 and 30 points, 0.115 and 0.0100 at
# order 8. So 2 % takes 24 points at order 8, 30 at order 4 (12 at 25 Hz); 12 points are not enough. The layers' part is
# 0.0012. The peak's time is measured 5.6e-4 s early at most.
@pytest.mark.filterwarnings("ignore:the wavelet reaches")
@pytest.mark.parametrize(("order", "fine", "falls"), [(4, 30, 8.0), (8, 24, 9.0)])
def test_lambs_problem(order, fine, falls):
    coarse_data, wavelet, dt = half_space(10.0, order)
    coarse = relative(coarse_data, lamb(wavelet, dt))
    data, wavelet, dt = half_space(120.0 / fine, order)
    error = relative(data, lamb(wavelet, dt))
    assert error < 0.02
    assert coarse < 0.15
    assert coarse / error > falls  # measured 9.8 and 11.5
    # the Rayleigh wave's vertical velocity from a vertical force is a symmetric pulse
    speed = brentq(
        lambda c: (2 - (c / VS) ** 2) ** 2 - 4 * math.sqrt((1 - (c / VP) ** 2) * (1 - (c / VS) ** 2)), 900, 1199
    )
    for x, v in zip(OFFSETS[2:], data[:, 2:5, 1].T, strict=True):
        i = np.argmax(np.abs(v))
        before, at, after = v[i - 1 : i + 2]
        peak = (i + 0.5 * (before - after) / (before - 2 * at + after)) * dt
        assert abs(peak - (DELAY + x / speed)) < 1e-3


# Water over rock

WATER, WATER_RHO = 1500.0, 1000.0
ROCK_VP, ROCK_VS, ROCK_RHO = 2500.0, 1200.0, 2000.0
BED = 500.0
ABOVE = np.array([100.0, 200.0])  # depths of source and receivers
ASIDE = np.array([0.0, 100.0, 200.0, 300.0, 400.0, 480.0])


def reflection(k, omega):
    """The reflection coefficient of pressure at the sea bed."""
    a, b, water = decay(k, omega, ROCK_VP), decay(k, omega, ROCK_VS), decay(k, omega, WATER)
    ks = (omega / ROCK_VS) ** 2
    # pressure over displacement: of P and S in rock without shear traction, and in water
    rock = -ROCK_RHO * ROCK_VS**2 * ((2 * k**2 - ks) ** 2 - 4 * k**2 * a * b) / (a * ks)
    ratio = rock * water / (WATER_RHO * omega**2)
    return (ratio + 1) / (ratio - 1)


def reflected(wavelet, dt, bed, perfect=False):
    """Pressure ``(time, receivers)`` that comes back from the sea bed; from a hard wall if `perfect`."""
    omega = frequencies(len(wavelet), dt)[:, None]
    k, weight = wavenumbers(0.3, PERIOD)
    nu = decay(k, omega, WATER)
    each = 1j * omega / WATER**2 * np.exp(-nu * np.sum(bed - ABOVE)) / (2 * nu)
    each = each if perfect else each * reflection(k, omega)
    return traces(each @ (np.cos(np.outer(k, ASIDE)) * weight[:, None]), wavelet)


def sea_bed(spacing, order):
    """Reflected data, all but what a model of water alone has, the wavelet and dt."""
    dt, left = 1.5e-4 * spacing, 200.0
    grid = jf.Grid((round(850.0 / spacing) + 1, round(850.0 / spacing) + 1), spacing, dt, round(0.95 / dt))
    wavelet = ricker(grid.times, FREQUENCY, DELAY)
    receivers = np.stack([np.full(len(ASIDE), ABOVE[1]), left + ASIDE], axis=1)
    survey = jf.Survey.from_arrays([[ABOVE[0], left]], receivers, wavelet)
    simulator = jf.Simulator(
        grid,
        space_order=order,
        absorber=jf.CPML(60, velocity=ROCK_VP, frequency=FREQUENCY),
        source_fields=("explosion",),
        receiver_fields=("p",),
    )
    # half a cell below BED lies the first row of rock
    rock = np.broadcast_to((np.arange(grid.shape[0]) * spacing > BED)[:, None], grid.shape)
    both = ((ROCK_VP, WATER), (ROCK_VS, 0.0), (ROCK_RHO, WATER_RHO))
    models = [jf.Elastic(*(jnp.where(below, r, w) for r, w in both)) for below in (rock, rock & False)]
    with_rock, water = (np.asarray(jf.simulate(simulator, model, survey))[0, :, :, 0] for model in models)
    return with_rock - water, wavelet, dt


@pytest.mark.filterwarnings("ignore:the wavelet reaches")
@pytest.mark.parametrize(("order", "spacing"), [(4, 5.0), (8, 10.0)])
def test_reflection_at_the_sea_bed_against_angle(order, spacing):
    """At angles from 0 to 34 degrees; the critical one is 36.9."""
    data, wavelet, dt = sea_bed(spacing, order)
    bed = BED + 0.5 * spacing  # half-way between the last row of water and the first of rock
    expected = reflected(wavelet, dt, bed)
    # Measured 0.0030 and 0.0078 (0.029 at order 4 and 10 m, which is dispersion in water). A layer of 20 cells, whose
    # loss in all directions reflects some 0.6 %, would add 0.02 to the weak reflection.
    assert relative(data, expected) < 0.012
    # Amplitudes at each angle: measured 0.0014 and 0.0027.
    amplitude = np.linalg.norm(data, axis=0)
    np.testing.assert_allclose(amplitude, np.linalg.norm(expected, axis=0), rtol=0.005)
    # Where the sea bed lies, fitted: measured 0.0015 and 0.0054 of a cell above half-way.
    moved = reflected(wavelet, dt, bed + 0.5) - reflected(wavelet, dt, bed - 0.5)
    assert abs(np.sum((data - expected) * moved) / np.sum(moved**2)) < 0.02 * spacing
    # Of plane waves, up to 23 degrees: measured 0.0132. Nearer the critical angle the theory for a source at this
    # distance is itself off: by 0.0132 at 23 degrees and 0.05 at 29.
    angle = np.arctan2(ASIDE, np.sum(bed - ABOVE))[:4]
    omega = 2 * np.pi * FREQUENCY * (1 - 1e-12j)
    plane = np.abs(reflection(omega.real / WATER * np.sin(angle), omega))
    wall = np.linalg.norm(reflected(wavelet, dt, bed, perfect=True), axis=0)
    np.testing.assert_allclose((amplitude / wall)[:4], plane, rtol=0.02)
