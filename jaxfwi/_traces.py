"""Single traces: scaling, the Hilbert transform, time shifts, transport. Time is the last axis in this module.

All functions are differentiable, any number of times, and keep the precision of the data. A trace of zeros stays zero
where it would be divided by its own size, and so do its derivatives. Those that are often called outside of a program
are compiled.
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
    "scaled_to_peak",
    "transport",
    "unit",
]


def paired(predicted: Array, observed: Array) -> tuple[Array, Array]:
    """Data ``(..., time, receivers, components)`` as traces ``(..., receivers, components, time)``.

    Raises:
        ValueError: for data that are not of this kind or differ in shape.
    """
    if jnp.shape(predicted) != jnp.shape(observed) or jnp.ndim(predicted) < 3:
        raise ValueError(
            "predicted and observed must both be (..., time, receivers, components), got shapes "
            f"{jnp.shape(predicted)} and {jnp.shape(observed)}."
        )
    return jnp.moveaxis(jnp.asarray(predicted), -3, -1), jnp.moveaxis(jnp.asarray(observed), -3, -1)


def peak(traces: Array) -> Array:
    """The largest absolute value of each trace, ``(..., 1)``; 1 for a trace of zeros."""
    largest = jnp.max(jnp.abs(traces), axis=-1, keepdims=True)
    return jnp.where(largest > 0, largest, 1.0)


def scaled_to_peak(traces: Array) -> Array:
    """Traces divided by their peaks, for functions that do not depend on the amplitudes of traces.

    The derivatives take the peaks for constants, which is exact in such a function.
    """
    # Without it, squares of small numbers would vanish in single precision.
    scaled = traces / jax.lax.stop_gradient(peak(traces))
    return jnp.where(jnp.any(traces != 0, axis=-1, keepdims=True), scaled, 0.0)


def unit(traces: Array) -> Array:
    """Traces scaled so that their squares sum to one; a trace of zeros stays zero.

    >>> (unit(jnp.array([[3.0, 4.0], [0.0, 0.0]])) * 10).round().tolist()
    [[6.0, 8.0], [0.0, 0.0]]
    """
    traces = scaled_to_peak(traces)
    energy = jnp.sum(traces**2, axis=-1, keepdims=True)
    return traces / jnp.sqrt(jnp.where(energy > 0, energy, 1.0))


def hilbert(traces: Array) -> Array:
    """The Hilbert transform, which turns a cosine into a sine; traces count as zero before and after their record."""
    n = traces.shape[-1]
    size = _fft_size(n)
    spectrum = jnp.fft.rfft(traces, size) * -1j
    return jnp.fft.irfft(spectrum.at[..., 0].set(0.0), size)[..., :n]


def envelope_squared(traces: Array) -> Array:
    """The square of the envelope, which is the absolute value of the trace plus i times its Hilbert transform."""
    return traces**2 + hilbert(traces) ** 2


@jax.jit
def lag(predicted: Array, observed: Array) -> tuple[Array, Array]:
    """How many samples each predicted trace is later than the observed one, and how well the two correlate then.

    The lag is where the cross-correlation is largest, found between samples by the parabola through the largest sample
    and its neighbours. It is 0 where traces nowhere correlate positively, for instance if one of them is zero.

    Returns:
        Lags, and the correlations of the traces, scaled to unit energy, at the samples nearest to the lags: at most 1,
        and 0 for a trace of zeros. Both have one axis less than the traces.

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
    # The largest value must exceed the rounding of the transforms, which has maxima of its own.
    has_peak = (at > size * jnp.finfo(at.dtype).eps) & (curvature > 0)
    between_samples = 0.5 * (after - before) / jnp.where(has_peak, curvature, 1.0)
    samples = (best - jnp.where(best < size // 2, 0, size))[..., 0].astype(at.dtype)
    return jnp.where(has_peak, samples + between_samples, 0.0), at


@jax.jit
def mean_frequency(traces: Array) -> Array:
    """The mean frequency of each trace, weighted by power, in cycles per sample; 0 for a trace of zeros.

    >>> (1.0 / mean_frequency(jnp.sin(2 * jnp.pi / 8 * jnp.arange(80)))).round().item()
    8.0
    """
    size = _fft_size(traces.shape[-1])
    power = jnp.abs(jnp.fft.rfft(scaled_to_peak(traces), size)) ** 2
    frequency = jnp.arange(power.shape[-1], dtype=power.dtype) / size
    total = jnp.sum(power, axis=-1)
    return jnp.sum(frequency * power, axis=-1) / jnp.where(total > 0, total, 1.0)


@jax.jit
def transport(predicted: Array, observed: Array) -> Array:
    """The squared 2-Wasserstein distance between pairs of mass distributions over time ``(..., time)``, in samples
    squared: the least mean squared distance by which the mass of one must move to become the other.

    In one dimension mass keeps its order, so that the distance is the mean squared difference of the quantile functions
    (Villani 2003, Topics in Optimal Transportation, section 2.2). Here the mass of each sample fills the time until the
    next sample. Quantile functions are then piecewise linear and are integrated exactly. The derivative is that of the
    integral, too, and bounded, although a quantile function jumps where there is no mass.

    Args:
        predicted, observed: not negative; their sums may be any positive numbers.

    >>> ours, theirs = jnp.array([1.0, 2.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 3.0, 6.0])
    >>> transport(ours, theirs).round(4).item()
    4.0
    """
    n = predicted.shape[-1]
    # The mass before each sample and, last, all of it.
    cumulated = jnp.cumsum(jnp.stack([predicted, observed]), axis=-1)
    cumulated = jnp.pad(cumulated / cumulated[..., -1:], [(0, 0)] * predicted.ndim + [(1, 0)])
    ends = jnp.concatenate([cumulated[0], cumulated[1]], axis=-1)
    order = jnp.argsort(ends, axis=-1)
    ends = jnp.take_along_axis(ends, order, axis=-1)
    # Between two neighbouring ends, each quantile function stays in one cell: the one whose start it passed last.
    passed = jnp.cumsum(order <= n, axis=-1)
    passed = jnp.stack([passed, jnp.arange(1, 2 * n + 3) - passed])
    cell = jnp.clip(passed[..., :-1] - 1, 0, n - 1)
    start = jnp.take_along_axis(cumulated, cell, axis=-1)
    mass = jnp.take_along_axis(cumulated, cell + 1, axis=-1) - start
    # With less mass, as at the onset of a smooth pulse, powers of its inverse would overflow in the derivatives.
    enough = mass > jnp.finfo(mass.dtype).tiny ** (1.0 / 3.0)

    def distance(u):
        fraction = jnp.where(enough, (u - start) / jnp.where(enough, mass, 1.0), 0.0)
        # Clipped, since sums computed in parallel round differently and need not rise.
        quantile = cell.astype(u.dtype) + jnp.clip(fraction, 0.0, 1.0)
        return quantile[0] - quantile[1]

    low, high = ends[..., :-1], ends[..., 1:]
    left, right = distance(low), distance(high)
    return jnp.sum((high - low) * (left**2 + left * right + right**2), axis=-1) / 3.0


def _fft_size(n: int) -> int:
    """Twice the samples, so that nothing wraps around from the end to the start, rounded up to a power of two."""
    return 1 << (2 * n - 1).bit_length()
