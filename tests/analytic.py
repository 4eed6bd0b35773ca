"""Solutions to test against: Green's functions of homogeneous media, and a C-PML written the plain way.

Everything is for ``u_tt = v^2 (laplacian(u) + w(t) delta(x))``. Written with numpy and scipy alone; it shares no code with the package.
"""

import math

import numpy as np
from scipy.special import hankel2


def ricker(t, frequency, delay):
    """The Ricker wavelet as a function of time."""
    square = (np.pi * frequency * (np.asarray(t) - delay)) ** 2
    return (1.0 - 2.0 * square) * np.exp(-square)


def ricker_integral(t, frequency, delay):
    """The integral of the Ricker wavelet from minus infinity to t."""
    tau = np.asarray(t) - delay
    return tau * np.exp(-((np.pi * frequency * tau) ** 2))


def closed_form(ndim, t, distance, speed, frequency, delay):
    """u(t) at a distance from a source that emits a Ricker wavelet: in 1D and 3D as textbooks have it, in 2D by quadrature.

    The 2D convolution with ``H(t - r/v) / (2 pi sqrt(t^2 - r^2/v^2))`` loses its singularity by ``t - t' = (r/v) cosh(theta)``; the integrand is
    then smooth, even and decaying, for which the trapezoidal rule converges exponentially.
    """
    if ndim == 1:
        return 0.5 * speed * ricker_integral(t - distance / speed, frequency, delay)
    if ndim == 3:
        return ricker(t - distance / speed, frequency, delay) / (4.0 * np.pi * distance)
    end = np.arccosh(np.max(t) * speed / distance + 2.0)
    theta = np.linspace(0.0, end, 4001)
    values = ricker(np.asarray(t)[:, None] - distance / speed * np.cosh(theta), frequency, delay)
    return (values.sum(axis=1) - 0.5 * values[:, 0]) * theta[1] / (2.0 * np.pi)


def trace(ndim, wavelet, dt, distance, speed, discrete_time=False):
    """u(t) at a distance from a source that emits the samples `wavelet`, at the times of the samples, to some 1e-12 of its peak.

    In the frequency domain, at frequencies with a small negative imaginary part (an exponential window): with it nothing wraps around in time
    and no Green's function is singular. If `discrete_time`, time is stepped by ``u(t+dt) - 2 u(t) + u(t-dt) = (v dt)^2 (laplacian(u) + s)``
    with exact space derivatives: every frequency omega then acts as ``2/dt sin(omega dt/2)``, and what is left between such a trace and a
    simulation is the error of the space derivatives.
    """
    n = len(wavelet)
    padded = 4 * n
    window = math.log(1e14) / padded  # what wraps around is 1e-14 of itself, and rounding grows by 1e14 ** (1/4)
    samples = np.arange(n)
    omega = (2.0 * np.pi * np.fft.rfftfreq(padded) - 1j * window) / dt
    k = (2.0 / dt * np.sin(0.5 * omega * dt) if discrete_time else omega) / speed
    if ndim == 1:
        green = np.exp(-1j * k * distance) / (2j * k)
    elif ndim == 2:
        green = -0.25j * hankel2(0, k * distance)
    else:
        green = np.exp(-1j * k * distance) / (4.0 * np.pi * distance)
    spectrum = np.fft.rfft(np.asarray(wavelet) * np.exp(-window * samples), padded)
    return np.fft.irfft(spectrum * green, padded)[:n] * np.exp(window * samples)


def relative(u, reference):
    """The relative L2 error."""
    return float(np.linalg.norm(np.asarray(u) - reference) / np.linalg.norm(reference))
