"""Misfits: pure functions of predicted and observed data, summed over traces and shots.

Each takes the data of one shot ``(time, receivers, components)``, or of several ``(..., time, receivers, components)``,
and returns a number that is least where both are equal; for all here that least value is 0. They can be differentiated
twice, so that they serve `hessian_product` too. Those with parameters compare equal when their parameters do: one made
anew compiles no new program.

====================  ================================================  ===================================
misfit                does not see, of each trace                       unit
====================  ================================================  ===================================
`l1`, `l2`, `Huber`                                                     that of the data, or its square
`global_correlation`  amplitude                                         none
`Envelope`            polarity, phase                                   that of the data to twice the power
`InstantaneousPhase`  amplitude                                         none
`Traveltime`          amplitude, and what else leaves the lag as it is  s²
`Wasserstein`         amplitude; as "square" polarity                   s²
`SlicedGraphSpace`                                                      that of the data squared
====================  ================================================  ===================================

A trace that is zero in both adds nothing, to gradients neither. Where one that is not zero must be scaled by its own
amplitude but is zero in one of both, it counts as far from the other (to `Traveltime` as not late), and its gradient by
a predicted trace of zeros is zero. All gradients are finite. Yet whatever does not see the amplitude of a trace sees
its noise alone where there is no signal: mute such traces, in both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi import _traces
from jaxfwi._checks import as_integer, positive_number

__all__ = [
    "Envelope",
    "Filtered",
    "Huber",
    "InstantaneousPhase",
    "SlicedGraphSpace",
    "Traveltime",
    "Wasserstein",
    "WeightedSum",
    "global_correlation",
    "l1",
    "l2",
]


def l2(predicted: Array, observed: Array) -> Array:
    """Half the sum of squared residuals (Tarantola 1984, Geophysics 49, 1259-1266).

    Args:
        predicted: data of one shot ``(time, receivers, components)`` or of several.
        observed: of the same shape.

    Returns:
        A scalar.

    >>> l2(jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0])).item()
    2.5
    """
    return 0.5 * jnp.sum((predicted - observed) ** 2)


def l1(predicted: Array, observed: Array) -> Array:
    """The sum of absolute residuals, in which outliers weigh less (Crase et al. 1990, Geophysics 55, 527-538).

    Its gradient is the sign of the residuals, 0 where they are 0; its second derivative is zero, and Hessian products
    with it.

    >>> l1(jnp.array([1.0, -2.0]), jnp.array([0.0, 0.0])).item()
    3.0
    """
    residual = predicted - observed
    return jnp.sum(residual * jnp.sign(residual))  # jax gives the absolute value the slope 1 at 0


@dataclass(frozen=True)
class Huber:
    """`l2` of residuals up to a threshold, and from there on as straight as `l1` (Guitton & Symes 2003, Geophysics 68,
    1310-1319).

    Args:
        threshold: in units of the data.

    >>> Huber(threshold=1.0)(jnp.array([1.0, 3.0]), jnp.array([0.0, 0.0])).item()
    3.0
    """

    threshold: float

    def __post_init__(self):
        _set(self, threshold=positive_number("threshold", self.threshold, "number in units of the data"))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        residual = predicted - observed
        near = jnp.clip(residual, -self.threshold, self.threshold)
        return jnp.sum(near * (residual - 0.5 * near))


def global_correlation(predicted: Array, observed: Array) -> Array:
    """One minus the correlation of each predicted trace with the observed, summed (Choi & Alkhalifah 2012, Geophysical
    Prospecting 60, 748-758).

    The correlation is the zero-lag one of traces normalised to unit energy. A trace is 0 where it equals the observed
    but for a positive factor, 1 where they have nothing in common or one is zero, and 2 where one is the negative of
    the other.

    >>> data = jnp.array([1.0, 2.0, 0.0]).reshape(3, 1, 1)
    >>> global_correlation(7.0 * data, data).item(), global_correlation(-data, data).round(4).item()
    (0.0, 2.0)
    """
    ours, theirs = (_traces.unit(x) for x in _traces.paired(predicted, observed))
    # the same as one minus the product, but for traces of zeros, and free of its cancellation near the minimum
    lone = jnp.any(ours != 0, axis=-1) != jnp.any(theirs != 0, axis=-1)
    return 0.5 * jnp.sum((ours - theirs) ** 2) + 0.5 * jnp.sum(lone.astype(ours.dtype))


@dataclass(frozen=True)
class Envelope:
    """Half the sum of squared differences of the envelopes, raised to a power (Bozdag et al. 2011, Geophysical Journal
    International 185, 845-870; Wu et al. 2014, Geophysics 79, WA13-WA24).

    The envelope is the absolute value of the analytic signal. It varies more slowly than the trace, so that it fits
    from further away, and knows neither polarity nor phase.

    Args:
        power: 1 for the envelope, 2 for its square, or any number from 1.
        water_level: added to the envelope, in squares, as a part of the largest envelope of the observed trace. It
            makes the misfit smooth where the envelope vanishes, and counts less what is smaller.

    >>> data = jnp.sin(jnp.arange(40.0)).reshape(40, 1, 1)
    >>> Envelope()(-data, data).item()
    0.0
    """

    power: float = 1.0
    water_level: float = 1e-3

    def __post_init__(self):
        power = positive_number("power", self.power)
        if power < 1:
            raise ValueError(f"power must be at least 1, as below it the gradient grows without bound, got {power}.")
        _set(self, power=power, water_level=_part("water_level", self.water_level))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        ours, theirs = (_traces.envelope_squared(x) for x in _traces.paired(predicted, observed))
        level = self.water_level**2 * jnp.max(theirs, axis=-1, keepdims=True)
        ours, theirs = (_power(x + level, 0.5 * self.power) for x in (ours, theirs))
        return 0.5 * jnp.sum((ours - theirs) ** 2)


@dataclass(frozen=True)
class InstantaneousPhase:
    """Half the sum of squared differences of the normalised analytic signals, by the phase of which they are told apart
    (Bozdag et al. 2011, Geophysical Journal International 185, 845-870).

    A sample where both are well above the water level counts ``1 - cos(d)`` for a difference d of phase, half its
    square where it is small, and there is no phase to unwrap. Where a trace is below the water level its phase counts
    as much less as it is.

    Args:
        water_level: added to the absolute value of the analytic signal, in squares, before this divides it, as a part
            of its maximum in the trace. The gradient grows with its inverse.

    >>> data = jnp.sin(jnp.arange(40.0)).reshape(40, 1, 1)
    >>> InstantaneousPhase()(5.0 * data, data).round(4).item()
    0.0
    """

    water_level: float = 0.1

    def __post_init__(self):
        _set(self, water_level=_part("water_level", positive_number("water_level", self.water_level)))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        (real, imaginary), (real_o, imaginary_o) = (self._signal(x) for x in _traces.paired(predicted, observed))
        return 0.5 * jnp.sum((real - real_o) ** 2 + (imaginary - imaginary_o) ** 2)

    def _signal(self, x: Array) -> tuple[Array, Array]:
        """Real and imaginary part."""
        real = _traces.shape(x)
        imaginary = _traces.hilbert(real)
        square = real**2 + imaginary**2
        square += self.water_level**2 * jnp.max(square, axis=-1, keepdims=True)
        size = jnp.sqrt(jnp.where(square > 0, square, 1.0))
        return real / size, imaginary / size


@dataclass(frozen=True)
class Traveltime:
    """Half the sum of squared time shifts between predicted and observed traces (Luo & Schuster 1991, Geophysics 56,
    645-653).

    The shift is the lag of the largest value of their cross-correlation over all lags. It is found between samples by
    the parabola through the largest sample and its neighbours, and what is differentiated is that parabola: value and
    gradient agree, also at the second derivative. A shift is 0 where the traces nowhere correlate positively.

    Args:
        dt: seconds between samples.

    >>> pulse = jnp.array([0.0, 1.0, 2.0, 1.0, 0.0, 0.0]).reshape(6, 1, 1)
    >>> Traveltime(dt=2.0)(jnp.roll(pulse, 1, axis=0), pulse).round(3).item()
    2.0
    """

    dt: float

    def __post_init__(self):
        _set(self, dt=positive_number("dt", self.dt, "number of seconds"))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        lag, _ = _traces.lag(*_traces.paired(predicted, observed))
        return 0.5 * jnp.sum((self.dt * lag) ** 2)


# What makes traces positive. Their masses come to one later, so that constant factors do not matter.
_POSITIVE: dict[str, Callable[[Array], Array]] = {
    "square": jnp.square,
    "softplus": jax.nn.softplus,
    # at most 1: a spike has a peak far above that of a long signal of its energy, and would overflow
    "exponential": lambda x: jnp.exp(x - jax.lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True))),
    "linear": lambda x: jnp.maximum(1.0 + x, 0.0),
}


@dataclass(frozen=True)
class Wasserstein:
    """The sum of the squared 2-Wasserstein distances between predicted and observed traces, made positive and of unit
    mass (Yang et al. 2018, Geophysics 83, R43-R62).

    A pulse that comes late by t seconds in an otherwise silent trace costs t² seconds squared, however far it is: there
    is no other minimum, where `l2` has one every period. That holds of "square", to which silence has no mass. The
    other ways keep the polarity but give silence a mass too, of which a long record has much: they then see less far.

    Args:
        dt: seconds between samples.
        positive: how x, a trace scaled as below, becomes positive: "square", x²; "softplus", log(1 + exp(x));
            "exponential", exp(x); or "linear", 1 + x, and 0 where that is negative.
        scale: x is the trace, brought to the energy of the observed trace, whose peak is this. A larger one raises
            pulses above silence; "square" does not depend on it, and "linear" cuts off what is lower than -1.

    >>> pulse = jnp.array([0.0, 1.0, -2.0, 1.0, 0.0, 0.0, 0.0, 0.0]).reshape(8, 1, 1)
    >>> Wasserstein(dt=0.5)(jnp.roll(pulse, 3, axis=0), pulse).round(4).item()
    2.25
    """

    dt: float
    positive: str = "square"
    scale: float = 1.0

    def __post_init__(self):
        if self.positive not in list(_POSITIVE):
            raise ValueError(f"positive must be one of {', '.join(_POSITIVE)}, got {self.positive!r}.")
        _set(self, dt=positive_number("dt", self.dt, "number of seconds"), scale=positive_number("scale", self.scale))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        ours, theirs = (_traces.unit(x) for x in _traces.paired(predicted, observed))
        scale = self.scale / _traces.peak(theirs)
        ours, theirs = (self._mass(scale * x) for x in (ours, theirs))
        return self.dt**2 * jnp.sum(_traces.transport(ours, theirs))

    def _mass(self, x: Array) -> Array:
        mass = _POSITIVE[self.positive](x)
        return jnp.where(jnp.any(mass > 0, axis=-1, keepdims=True), mass, 1.0)


@dataclass(frozen=True)
class SlicedGraphSpace:
    """The squared distance by sliced optimal transport between the graphs of predicted and observed traces, points of
    time and amplitude, summed.

    Optimal transport between graphs sees shifts as shifts, without making traces positive (Metivier et al. 2019,
    Inverse Problems 35, 085001). Here in its sliced form, the mean over directions in the plane of the one-dimensional
    transport between the points' projections (Bonneel et al. 2015, Journal of Mathematical Imaging and Vision 51,
    22-45), which costs a sort for each direction. With a `time_shift` far below a sample it is `l2`.

    Args:
        dt: seconds between samples.
        time_shift: seconds that count in the plane as much as the peak of the observed trace does in amplitude: about
            the largest shift that is to be expected.
        directions: how many, evenly spread.

    >>> data = jnp.array([1.0, 2.0, 0.0]).reshape(3, 1, 1)
    >>> SlicedGraphSpace(dt=1.0, time_shift=0.01)(data + 2.0, data).round().item(), l2(data + 2.0, data).item()
    (6.0, 6.0)
    """

    dt: float
    time_shift: float
    directions: int = 16

    def __post_init__(self):
        dt, time_shift = (positive_number(n, getattr(self, n), "number of seconds") for n in ("dt", "time_shift"))
        _set(self, dt=dt, time_shift=time_shift, directions=as_integer("directions", self.directions, 2))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        ours, theirs = _traces.paired(predicted, observed)
        sample = jnp.max(jnp.abs(theirs), axis=-1, keepdims=True) * (self.dt / self.time_shift)
        time = sample * jnp.arange(theirs.shape[-1], dtype=theirs.dtype)

        def along(direction):
            a, b = (jnp.sort(direction[0] * time + direction[1] * x, axis=-1) for x in (ours, theirs))
            return jnp.sum((a - b) ** 2)

        angle = np.pi * (np.arange(self.directions) + 0.5) / self.directions
        directions = jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], axis=1), theirs.dtype)
        # one direction after the other, and again for the gradient: else memory would hold the sorted data of all
        return jnp.mean(jax.lax.map(jax.checkpoint(along), directions))


@dataclass(frozen=True)
class WeightedSum:
    """A sum of misfits with weights.

    Args:
        terms: pairs ``(weight, misfit)``, misfits of this module or functions of your own.

    >>> WeightedSum([(2.0, l2), (0.5, Huber(threshold=1.0))])(jnp.array([3.0]), jnp.array([0.0])).item()
    10.25
    """

    terms: Sequence[tuple[float, Callable[[Array, Array], Array]]]

    def __post_init__(self):
        try:
            terms = tuple((weight, misfit) for weight, misfit in self.terms)
        except (TypeError, ValueError):
            terms = ()
        if not terms or not all(callable(misfit) for _, misfit in terms):
            raise ValueError(f"terms must be pairs of a weight and a misfit function, got {self.terms!r}.")
        _set(self, terms=tuple((positive_number("weight", weight), misfit) for weight, misfit in terms))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        return sum(weight * misfit(predicted, observed) for weight, misfit in self.terms)  # pyright: ignore


@dataclass(frozen=True)
class Filtered:
    """A misfit of filtered data: ``misfit(filter(predicted, dt), filter(observed, dt))``.

    Both data have been through the same, wherever they begin and end, so that a filter that looks ahead in time does no
    harm; filtering the wavelet in the predicted data's stead would have it begin before the simulation.

    Args:
        misfit: of the filtered data.
        filter: ``filter(data, dt)``, along time.
        dt: time step in seconds.

    >>> import jaxfwi as jf
    >>> low = Filtered(l2, jf.filters.Butterworth(high=5.0), dt=0.01)
    >>> data = jnp.sin(2 * jnp.pi * 40.0 * jnp.arange(200) * 0.01)[:, None, None]
    >>> bool(low(data, 0 * data) < 1e-4 * l2(data, 0 * data))
    True
    """

    misfit: Callable[[Array, Array], Array]
    filter: Callable[[Array, float], Array]
    dt: float

    def __post_init__(self):
        for name in ("misfit", "filter"):
            if not callable(getattr(self, name)):
                raise ValueError(f"{name} must be a function, got {getattr(self, name)!r}.")
        _set(self, dt=positive_number("dt", self.dt, "number of seconds"))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        return self.misfit(self.filter(predicted, self.dt), self.filter(observed, self.dt))


def _set(frozen: Any, **values: Any) -> None:
    """Set attributes as checked: numbers of any type become Python's, which leave data in their precision."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


def _part(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number from 0 to below 1, got {value!r}.")
    return float(value)


def _power(square: Array, power: float) -> Array:
    """`square` to a power from one half, which is not differentiable at 0: there its derivative is 0 here."""
    some = square > 0
    return jnp.where(some, jnp.where(some, square, 1.0) ** power, 0.0)
