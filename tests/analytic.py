"""Solutions to test against: Green's functions of homogeneous media, and a C-PML written the plain way.

Everything is for ``u_tt = v^2 (laplacian(u) + w(t) delta(x))``, with numpy and scipy alone. Nothing is shared with the
package, which only `shoot` calls.
"""

import math

import jax.numpy as jnp
import numpy as np
from scipy.special import hankel2

import jaxfwi as jf


def ricker(t, frequency, delay):
    """The Ricker wavelet as a function of time."""
    square = (np.pi * frequency * (np.asarray(t) - delay)) ** 2
    return (1.0 - 2.0 * square) * np.exp(-square)


def ricker_integral(t, frequency, delay):
    """The integral of the Ricker wavelet from minus infinity to t."""
    tau = np.asarray(t) - delay
    return tau * np.exp(-((np.pi * frequency * tau) ** 2))


def closed_form(ndim, t, distance, speed, frequency, delay):
    """u(t) at a distance from a source that emits a Ricker wavelet, with no Fourier transform.

    In 1D and 3D it is as textbooks have it. The 2D convolution with ``H(t - r/v) / (2 pi sqrt(t^2 - r^2/v^2))`` loses
    its singularity by ``t - t' = (r/v) cosh(theta)``; the integrand is then smooth, even and decaying, for which the
    trapezoidal rule converges exponentially.
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
    """u(t) at a distance from a source that emits the samples `wavelet`, at the times of the samples.

    Good to 1e-13 of its peak. In the frequency domain, at frequencies with a small negative imaginary part (an
    exponential window): with it nothing wraps around in time and no Green's function is singular. If `discrete_time`,
    time is stepped by ``u(t+dt) - 2 u(t) + u(t-dt) = (v dt)^2 (laplacian(u) + s)`` with exact space derivatives: every
    frequency omega then acts as ``2/dt sin(omega dt/2)``, and what is left between such a trace and a simulation is the
    error of the space derivatives.
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


def dispersion(wavelet, dt, offset, spacing, speed, order, discrete_time=False):
    """The relative L2 error to expect of a trace at `offset` (metres per axis).

    That of numerical phase velocity alone, to first order. With `discrete_time` it is the error against the solution
    with time steps, so that of the space derivatives alone.
    """
    omega = 2.0 * np.pi * np.fft.rfftfreq(4 * len(wavelet), dt)
    weight = np.abs(np.fft.rfft(wavelet, 4 * len(wavelet))) ** 2
    weight[1:] *= omega[1:] ** (len(offset) - 3.0)  # the spectrum of the trace, not of the wavelet
    weight[0] = 0.0
    distance = np.linalg.norm(offset)
    k = 2.0 / dt * np.sin(0.5 * omega * dt) / speed
    symbol = np.zeros_like(k)
    for length, h in zip(offset, spacing, strict=True):
        angle = k * length / distance * h
        symbol -= sum((c if m == 0 else 2.0 * c * np.cos(m * angle)) for m, c in enumerate(SECOND[order])) / h**2
    numerical = k + (k**2 - symbol) / np.maximum(2.0 * k, 1e-30)
    phase = (numerical - (k if discrete_time else omega / speed)) * distance
    return float(np.sqrt(np.sum(weight * np.abs(np.expm1(1j * phase)) ** 2) / np.sum(weight)))


# Textbook coefficients (Fornberg 1988): of u[i+k] for k = 1, 2, ..., and k = 0, 1, 2, ...
FIRST = {2: (1 / 2,), 4: (2 / 3, -1 / 12), 6: (3 / 4, -3 / 20, 1 / 60), 8: (4 / 5, -1 / 5, 4 / 105, -1 / 280)}
SECOND = {
    2: (-2.0, 1.0),
    4: (-5 / 2, 4 / 3, -1 / 12),
    6: (-49 / 18, 3 / 2, -3 / 20, 1 / 90),
    8: (-205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560),
}


def derivative(u, axis, spacing, order, power, mirror=False):
    """The first or second (`power`) derivative along an axis.

    u is zero beyond its array, or odd about row 0 where `mirror` says so.
    """
    u = np.moveaxis(u, axis, 0)
    n, reach = len(u), order // 2
    wide = np.concatenate([np.zeros((reach, *u.shape[1:])), u, np.zeros((reach, *u.shape[1:]))])
    for k in range(1, min(reach, n - 1) + 1) if mirror else ():
        wide[reach - k] = -u[k]
    side = FIRST[order] if power == 1 else SECOND[order][1:]
    out = np.zeros_like(u) if power == 1 else SECOND[order][0] * u
    for k, c in enumerate(side, start=1):
        out = out + c * (wide[reach + k : reach + k + n] + (-1) ** power * wide[reach - k : reach - k + n])
    return np.moveaxis(out, 0, axis) / spacing**power


def laplacian(u, spacing, order, free_surface=False):
    """The plain Laplacian."""
    return sum(derivative(u, a, h, order, 2, free_surface and a == 0) for a, h in enumerate(spacing))


def plain_cpml(vp, spacing, dt, wavelet, sources, order, widths, cpml, free_surface=False):
    """Snapshots ``(time, *vp.shape)`` by the C-PML of Pasalic & McGarry (2010) with memory variables on the whole grid.

    Args:
        vp: the model.
        spacing: per axis.
        dt: time step.
        wavelet: ``(time, sources)``.
        sources: nodes, ``(sources, ndim)``.
        order: of the space derivatives.
        widths: damped cells ``(near, far)`` per axis. A side with a layer has a gap of the stencil's reach before it.
        cpml: `velocity`, `frequency` and `reflection`, for the profiles of Komatitsch & Martin (2007).
        free_surface: whether u is odd about the first row.
    """
    widths = [(0, widths[0][1]), *widths[1:]] if free_surface else widths
    pads = [tuple(w + order // 2 if w else 0 for w in pair) for pair in widths]
    wide = np.pad(vp, pads, mode="edge")
    gain, decay = [], []
    for axis, (pair, n) in enumerate(zip(widths, wide.shape, strict=True)):
        d, alpha = np.zeros(n), np.full(n, math.pi * cpml.frequency)
        for side, w in enumerate(pair):
            for i in range(w):
                depth = (w - i) / w
                cell = i if side == 0 else n - 1 - i
                d[cell] = -3.0 * cpml.velocity * math.log(cpml.reflection) / (2.0 * w * spacing[axis]) * depth**2
                alpha[cell] = math.pi * cpml.frequency * (1.0 - depth)
        b = np.exp(-(d + alpha) * dt)
        a = d * (b - 1.0) / (d + alpha)
        shape = [-1 if other == axis else 1 for other in range(vp.ndim)]
        gain.append(a.reshape(shape))
        decay.append(b.reshape(shape))

    model = tuple(slice(lo, lo + n) for n, (lo, _) in zip(vp.shape, pads, strict=True))
    u = u_before = np.zeros(wide.shape)
    psi = [np.zeros(wide.shape) for _ in spacing]
    zeta = [np.zeros(wide.shape) for _ in spacing]
    out = []
    for amounts in wavelet:
        out.append(u[model])
        total = np.zeros(wide.shape)
        for axis, h in enumerate(spacing):
            mirror = free_surface and axis == 0
            psi[axis] = decay[axis] * psi[axis] + gain[axis] * derivative(u, axis, h, order, 1, mirror)
            second = derivative(u, axis, h, order, 2, mirror) + derivative(psi[axis], axis, h, order, 1)
            zeta[axis] = decay[axis] * zeta[axis] + gain[axis] * second
            total += second + zeta[axis]
        for node, amount in zip(sources, amounts, strict=True):
            total[tuple(i + lo for i, (lo, _) in zip(node, pads, strict=True))] += amount / math.prod(spacing)
        u_after = 2.0 * u - u_before + (wide * dt) ** 2 * total
        if free_surface:
            u_after[0] = 0.0
        u_before, u = u, u_after
    return np.stack(out)


def shoot(grid, vp, source, receiver, wavelet, **settings):
    """Data ``(time, receivers)`` of one shot by the package; `source` and `receiver` are one position or several."""
    survey = jf.Survey.from_arrays(np.atleast_2d(source)[None], np.atleast_2d(receiver), wavelet)
    model = jf.Acoustic(vp=jnp.broadcast_to(jnp.asarray(vp, float), grid.shape))
    return np.asarray(jf.simulate(jf.Simulator(grid, **settings), model, survey))[0, :, :, 0]


def every_node(grid):
    """Positions of all nodes in metres, ``(nodes, ndim)``."""
    return np.stack(np.indices(grid.shape), axis=-1).reshape(-1, grid.ndim) * np.asarray(grid.spacing)
