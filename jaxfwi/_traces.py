"""Single traces: scales, the Hilbert transform, time shifts. Time is the last axis here; a trace of zeros is silent.

All are differentiable, as often as wanted, and of the precision of the data. What is divided by a silent trace stays
zero, and so do its derivatives. Some are compiled as a whole, for those who call them outside of a program.
"""

import jax
import jax.numpy as jnp
from jax import Array

__all__ = [
    "envelope_squared",
    "hilbert",
    "lag",
    "mean_frequency",
    "paired",
    "peak",
    "shape",
    "transport",
    "unit",
]


def paired(predicted: Array, observed: Array) -> tuple[Array, Array]:
    """Data ``(..., time, receivers, components)`` as traces ``(..., receivers, components, time)``.

    Raises:
        ValueError: for data of other or different shapes.
    """
    if jnp.shape(predicted) != jnp.shape(observed) or jnp.ndim(predicted) < 3:
        raise ValueError(
            "predicted and observed must both be (..., time, receivers, components), got shapes "
            f"{jnp.shape(predicted)} and {jnp.shape(observed)}."
        )
    return jnp.moveaxis(jnp.asarray(predicted), -3, -1), jnp.moveaxis(jnp.asarray(observed), -3, -1)


def peak(traces: Array) -> Array:
    """The largest absolute value of each trace ``(..., 1)``; 1 for a silent one."""
    largest = jnp.max(jnp.abs(traces), axis=-1, keepdims=True)
    return jnp.where(largest > 0, largest, 1.0)


def shape(traces: Array) -> Array:
    """Traces divided by their peaks, for functions that do not depend on the traces' amplitudes: to their derivatives
    the peaks are constants.
    """
    # else squares of small numbers would vanish in single precision
    scaled = traces / jax.lax.stop_gradient(peak(traces))
    return jnp.where(jnp.any(traces != 0, axis=-1, keepdims=True), scaled, 0.0)


def unit(traces: Array) -> Array:
    """Traces whose squares sum to one; silent ones stay zero.

    >>> (unit(jnp.array([[3.0, 4.0], [0.0, 0.0]])) * 10).round().tolist()
    [[6.0, 8.0], [0.0, 0.0]]
    """
    traces = shape(traces)
    energy = jnp.sum(traces**2, axis=-1, keepdims=True)
    return traces / jnp.sqrt(jnp.where(energy > 0, energy, 1.0))


def hilbert(traces: Array) -> Array:
    """The Hilbert transform, which makes a sine of a cosine; of traces that are zero before and after their record."""
    n = traces.shape[-1]
    size = _fft_size(n)
    spectrum = jnp.fft.rfft(traces, size) * -1j
    return jnp.fft.irfft(spectrum.at[..., 0].set(0.0), size)[..., :n]


def envelope_squared(traces: Array) -> Array:
    """The square of the envelope: of the absolute value of the trace plus i times its Hilbert transform."""
    return traces**2 + hilbert(traces) ** 2


@jax.jit
def lag(predicted: Array, observed: Array) -> tuple[Array, Array]:
    """By how many samples each predicted trace is later than the observed, and how well they correlate then.

    The lag is that of the largest value of the cross-correlation, between samples by the parabola through it and its
    neighbours. It is 0 where traces nowhere correlate positively, as with a silent one.

    Returns:
        Lags, and the correlations of traces of unit energy at the samples next to them: 1 at most, 0 for a silent
        trace. Each has one axis less than the traces.

    >>> pulse = jnp.array([0.0, 1.0, 2.0, 1.0, 0.0, 0.0])
    >>> [x.round(3).item() for x in lag(jnp.roll(pulse, 1), pulse)]
    [1.0, 1.0]
    """
    size = _fft_size(predicted.shape[-1])
    ours, theirs = (jnp.fft.rfft(unit(x), size) for x in (predicted, observed))
    correlation = jnp.fft.irfft(ours * theirs.conj(), size)
    best = jnp.argmax(correlation, axis=-1, keepdims=True)
    three = jnp.take_along_axis(correlation, (best + jnp.arange(-1, 2)) % size, axis=-1)
    before, at, after = (three[..., i] for i in range(3))
    curvature = 2.0 * at - before - after
    # above the rounding of the transforms, in which everything is a maximum
    peaked = (at > size * jnp.finfo(at.dtype).eps) & (curvature > 0)
    within = 0.5 * (after - before) / jnp.where(peaked, curvature, 1.0)
    whole = (best - jnp.where(best < size // 2, 0, size))[..., 0].astype(at.dtype)
    return jnp.where(peaked, whole + within, 0.0), at


@jax.jit
def mean_frequency(traces: Array) -> Array:
    """The mean frequency of each trace, weighted by power, in cycles per sample; 0 for a silent one.

    >>> (1.0 / mean_frequency(jnp.sin(2 * jnp.pi / 8 * jnp.arange(80)))).round().item()
    8.0
    """
    size = _fft_size(traces.shape[-1])
    power = jnp.abs(jnp.fft.rfft(shape(traces), size)) ** 2
    frequency = jnp.arange(power.shape[-1], dtype=power.dtype) / size
    total = jnp.sum(power, axis=-1)
    return jnp.sum(frequency * power, axis=-1) / jnp.where(total > 0, total, 1.0)


@jax.jit
def transport(predicted: Array, observed: Array) -> Array:
    """The squared 2-Wasserstein distance of each two distributions of mass over time ``(..., time)``, in samples
    squared: the least mean square of the distances by which one's mass must move to become the other.

    In one dimension mass keeps its order, so that it is the mean square difference of the quantile functions (Villani
    2003, Topics in Optimal Transportation, section 2.2). Here each sample's mass fills the time up to the next, whence
    quantile functions are piecewise linear and integrated exactly. Their derivative is that of the integral too, and
    bounded, although a quantile function jumps where there is no mass.

    Args:
        predicted, observed: not negative and of any total, but 0.

    >>> transport(jnp.array([1.0, 2.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 3.0, 6.0])).round(4).item()
    4.0
    """
    n = predicted.shape[-1]
    # the mass before each sample, and in the end
    both = jnp.cumsum(jnp.stack([predicted, observed]), axis=-1)
    both = jnp.pad(both / both[..., -1:], [(0, 0)] * predicted.ndim + [(1, 0)])
    ends = jnp.concatenate([both[0], both[1]], axis=-1)
    order = jnp.argsort(ends, axis=-1)
    ends = jnp.take_along_axis(ends, order, axis=-1)
    # Between two neighbouring ends each quantile function lies in the one cell whose start it has passed last.
    passed = jnp.cumsum(order <= n, axis=-1)
    passed = jnp.stack([passed, jnp.arange(1, 2 * n + 3) - passed])
    cell = jnp.clip(passed[..., :-1] - 1, 0, n - 1)
    start = jnp.take_along_axis(both, cell, axis=-1)
    mass = jnp.take_along_axis(both, cell + 1, axis=-1) - start
    # of less, as of the onset of a smooth pulse, the inverse's powers in the first two derivatives would overflow
    some = mass > jnp.finfo(mass.dtype).tiny ** (1.0 / 3.0)

    def distance(u):
        part = jnp.where(some, (u - start) / jnp.where(some, mass, 1.0), 0.0)
        # clipped, as sums in parallel round differently and need not rise
        quantile = cell.astype(u.dtype) + jnp.clip(part, 0.0, 1.0)
        return quantile[0] - quantile[1]

    low, high = ends[..., :-1], ends[..., 1:]
    left, right = distance(low), distance(high)
    return jnp.sum((high - low) * (left**2 + left * right + right**2), axis=-1) / 3.0


def _fft_size(n: int) -> int:
    """Twice the samples, so that nothing comes round from the end to the start, or more for the fast transform."""
    return 1 << (2 * n - 1).bit_length()
