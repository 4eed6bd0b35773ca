"""Misfits of the analytic signal: the trace plus i times its Hilbert transform."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxfwi import _traces
from jaxfwi._checks import is_number, positive_number, set_fields

__all__ = ["Envelope", "InstantaneousPhase"]


@dataclass(frozen=True)
class Envelope:
    """Half the sum of squared differences of the envelopes, raised to a power (Bozdag et al. 2011, Geophysical Journal
    International 185, 845-870; Wu et al. 2014, Geophysics 79, WA13-WA24).

    The envelope is the absolute value of the analytic signal. It varies more slowly than the trace, so that data can be
    fitted from further away, and it does not depend on polarity or phase.

    Args:
        power: 1 for the envelope, 2 for its square, or any number from 1.
        water_level: added to the envelope (their squares are added), as a fraction of the largest envelope of the
            observed trace. It makes the misfit smooth where the envelope vanishes, and counts smaller values less.

    Raises:
        ValueError: for a power below 1, or a water level that is not from 0 to below 1.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> data = jnp.sin(jnp.arange(40.0)).reshape(40, 1, 1)
    >>> jf.misfits.Envelope()(-data, data).item()
    0.0
    """

    power: float = 1.0
    water_level: float = 1e-3

    def __post_init__(self):
        power = positive_number("power", self.power)
        if power < 1:
            raise ValueError(f"power must be at least 1, as below it the gradient grows without bound, got {power}.")
        set_fields(self, power=power, water_level=_fraction("water_level", self.water_level))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        ours, theirs = (_traces.envelope_squared(x) for x in _traces.paired(predicted, observed))
        level = self.water_level**2 * jnp.max(theirs, axis=-1, keepdims=True)
        ours, theirs = (_power(x + level, 0.5 * self.power) for x in (ours, theirs))
        return 0.5 * jnp.sum((ours - theirs) ** 2)


@dataclass(frozen=True)
class InstantaneousPhase:
    """Half the sum of squared differences of the normalised analytic signals, which differ by their phases only (Bozdag
    et al. 2011, Geophysical Journal International 185, 845-870).

    A sample where both signals are well above the water level costs ``1 - cos(d)`` for a phase difference d: half its
    square where it is small, and there is no phase to unwrap. Where a trace lies below the water level, its phase
    counts less in proportion.

    Args:
        water_level: added to the absolute value of the analytic signal (their squares are added) before the signal is
            divided by it, as a fraction of its maximum in the trace. The gradient grows with the inverse of this.

    Raises:
        ValueError: for a water level that is not above 0 and below 1.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> data = jnp.sin(jnp.arange(40.0)).reshape(40, 1, 1)
    >>> jf.misfits.InstantaneousPhase()(5.0 * data, data).round(4).item()
    0.0
    """

    water_level: float = 0.1

    def __post_init__(self):
        set_fields(self, water_level=_fraction("water_level", positive_number("water_level", self.water_level)))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        (real, imaginary), (real_o, imaginary_o) = (self._normalised(x) for x in _traces.paired(predicted, observed))
        return 0.5 * jnp.sum((real - real_o) ** 2 + (imaginary - imaginary_o) ** 2)

    def _normalised(self, traces: Array) -> tuple[Array, Array]:
        """Real and imaginary part of the normalised analytic signal."""
        real = _traces.scaled_to_peak(traces)
        imaginary = _traces.hilbert(real)
        square = real**2 + imaginary**2
        square += self.water_level**2 * jnp.max(square, axis=-1, keepdims=True)
        size = jnp.sqrt(jnp.where(square > 0, square, 1.0))
        return real / size, imaginary / size


def _fraction(name: str, value: Any) -> float:
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number from 0 to below 1, got {value!r}.")
    return float(value)


def _power(square: Array, power: float) -> Array:
    """`square` to a power of at least one half, whose derivative at 0, infinite for one half, is set to 0."""
    positive = square > 0
    return jnp.where(positive, jnp.where(positive, square, 1.0) ** power, 0.0)
