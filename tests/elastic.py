"""Green's functions of homogeneous elastic media, with numpy and scipy alone."""

import math

import numpy as np
from scipy.special import hankel2


def greens(ndim, k, r):
    """``g``, ``g'`` and ``g''`` at a distance r, where ``laplacian(g) + k^2 g = -delta``."""
    if ndim == 3:
        g = np.exp(-1j * k * r) / (4 * np.pi * r)
        return g, -(1j * k + 1 / r) * g, (-(k**2) + 2j * k / r + 2 / r**2) * g
    h0, h1 = hankel2(0, k * r), hankel2(1, k * r)
    return -0.25j * h0, 0.25j * k * h1, -0.25j * k**2 * (h1 / (k * r) - h0)


def velocity(wavelet, dt, offset, vp, vs, rho, source):
    """Particle velocity ``(time, ndim)`` at an offset in metres from a source of these samples.

    ``source`` is an axis, of a force, or "explosion", of a moment rate. Time is discrete as in a leapfrog scheme, space
    is not: what is left between this and a simulation is the error of the space derivatives. In the frequency domain
    with an exponential window, as `analytic.trace`. For a force ``u = (k_s^2 g_s f + grad grad . (g_s - g_p) f) / (rho
    omega^2)`` (Aki & Richards 2002, chapter 4).
    """
    n, ndim = len(wavelet), len(offset)
    window = math.log(1e14) / (4 * n)
    samples = np.arange(n)
    omega = (2 * np.pi * np.fft.rfftfreq(4 * n) - 1j * window) / dt
    omega = 2 / dt * np.sin(0.5 * omega * dt)
    r = np.linalg.norm(offset)
    unit = np.asarray(offset) / r
    _, p1, p2 = greens(ndim, omega / vp, r)
    if source == "explosion":
        green = [-p1 * x / (rho * vp**2) for x in unit]
    else:
        s0, s1, s2 = greens(ndim, omega / vs, r)
        along, across = s2 - p2, (s1 - p1) / r
        green = []
        for i in range(ndim):
            same = float(i == source)
            u = (omega / vs) ** 2 * s0 * same + along * unit[i] * unit[source]
            u = u + across * (same - unit[i] * unit[source])
            green.append(1j * u / (rho * omega))
    spectrum = np.fft.rfft(np.asarray(wavelet) * np.exp(-window * samples), 4 * n)
    grow = np.exp(window * samples)
    return np.stack([np.fft.irfft(spectrum * g, 4 * n)[:n] * grow for g in green], axis=1)


def pressure(wavelet, dt, distance, vp, vs, rho, ndim):
    """Pressure, minus the mean normal stress, at a distance from an explosion of this moment rate; as `velocity`."""
    n = len(wavelet)
    window = math.log(1e14) / (4 * n)
    samples = np.arange(n)
    omega = (2 * np.pi * np.fft.rfftfreq(4 * n) - 1j * window) / dt
    omega = 2 / dt * np.sin(0.5 * omega * dt)
    share = 1 - 2 * (ndim - 1) / ndim * (vs / vp) ** 2  # of the P-wave modulus that the mean stress has
    spectrum = np.fft.rfft(np.asarray(wavelet) * np.exp(-window * samples), 4 * n)
    green = share * 1j * omega / vp**2 * greens(ndim, omega / vp, distance)[0]
    return np.fft.irfft(spectrum * green, 4 * n)[:n] * np.exp(window * samples)
