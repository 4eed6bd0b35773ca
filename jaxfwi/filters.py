"""Zero-phase filters along time, for data, residuals and wavelets alike."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxfwi._checks import as_integer

__all__ = ["Butterworth", "Tilt", "ZeroPhase"]

LEFT = 1e-6  # of an impulse's response, where the padding ends


class ZeroPhase:
    """A filter along time that multiplies the spectrum by a real function of frequency: without phase, linear, and its
    own transpose. Filters multiply: ``a * b`` is both.

    Data count as zero outside of their record, which is padded until the response to an impulse has fallen to 1e-6 of
    itself, then to a length that is fast to transform; so nothing comes around from the other end.
    """

    def response(self, frequency: ArrayLike, dt: float) -> np.ndarray:
        """What a frequency in Hz is multiplied by, for data of this time step in seconds."""
        raise NotImplementedError

    def memory(self, dt: float) -> int:
        """Samples after which the response to an impulse has fallen to 1e-6 of itself."""
        raise NotImplementedError

    def check(self, dt: float) -> None:
        """Raise a ValueError if data of this time step cannot be filtered so."""

    def __mul__(self, other: "ZeroPhase") -> "Product":
        return Product(self, other)

    def __call__(self, x: ArrayLike, dt: float, axis: int = -3) -> Array:
        """The filtered array.

        Args:
            x: real and floating-point; in single precision and below, it is transformed in single precision.
            dt: its time step in seconds.
            axis: time; by default that of data ``(..., time, receivers, components)``. Wavelets ``(shots, time,
                sources)`` have it at 1.

        Returns:
            An array of the shape and type of `x`.

        Raises:
            ValueError: for corners at or above the Nyquist frequency, or an array without that axis.
        """
        x = jnp.asarray(x)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"a filter needs an array of real floating-point numbers, got {x.dtype}.")
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(f"axis = {axis} is the time axis, but the array has shape {x.shape}.")
        self.check(dt)
        n = x.shape[axis]
        padded = _fast(n + self.memory(dt))
        gain = self.response(np.fft.rfftfreq(padded, dt), dt)
        spectrum = jnp.fft.rfft(x.astype(jnp.promote_types(x.dtype, jnp.float32)), padded, axis)
        along = [1] * x.ndim
        along[axis] = -1
        filtered = jnp.fft.irfft(spectrum * jnp.asarray(gain.reshape(along), spectrum.real.dtype), padded, axis)
        return jnp.take(filtered, np.arange(n), axis).astype(x.dtype)


@dataclass(frozen=True)
class Product(ZeroPhase):
    """Two filters in one; written ``a * b``.

    >>> both = Butterworth(high=3.0) * Tilt(1.0)
    >>> float(both.response(3.0, dt=2e-3)) == 0.5 * float(Tilt(1.0).response(3.0, dt=2e-3))
    True
    """

    one: ZeroPhase
    other: ZeroPhase

    def check(self, dt: float) -> None:
        self.one.check(dt)
        self.other.check(dt)

    def response(self, frequency: ArrayLike, dt: float) -> np.ndarray:
        return self.one.response(frequency, dt) * self.other.response(frequency, dt)

    def memory(self, dt: float) -> int:
        return self.one.memory(dt) + self.other.memory(dt)


@dataclass(frozen=True)
class Tilt(ZeroPhase):
    """Weights low frequencies more: amplitudes fall as ``frequency^-power`` above a corner and stay below it.

    A Ricker wavelet of peak frequency f rises as the square of the frequency up to f. The least squares of its data
    hardly see the low frequencies, which an inversion needs first; ``Tilt(2.0)`` undoes the rise, ``Tilt(1.0)`` half of
    it. Noise at these frequencies is raised as well.

    Args:
        power: of the fall, 0 or more.
        corner: Hz, below which nothing more is gained.

    Raises:
        ValueError: for a power or corner that cannot be.

    >>> Tilt(1.0, corner=0.5).response([0.0, 5.0, 10.0], dt=4e-3).round(3).tolist()
    [1.0, 0.1, 0.05]
    """

    power: float
    corner: float = 0.5

    def __post_init__(self):
        if not (np.ndim(self.power) == 0 and 0 <= self.power < math.inf):
            raise ValueError(f"power must be zero or more, got {self.power!r}.")
        if not (np.ndim(self.corner) == 0 and 0 < self.corner < math.inf):
            raise ValueError(f"corner must be a positive number of Hz, got {self.corner!r}.")

    def response(self, frequency: ArrayLike, dt: float) -> np.ndarray:
        # a sine, which goes on smoothly beyond the Nyquist frequency: a kink there would ring
        frequency = np.sin(np.pi * np.asarray(frequency, float) * dt) / (np.pi * dt)
        return (1.0 + (frequency / self.corner) ** 2) ** (-0.5 * self.power)

    def memory(self, dt: float) -> int:
        return math.ceil(-math.log(LEFT) / (2 * math.pi * self.corner * dt)) if self.power else 0


@dataclass(frozen=True)
class Butterworth(ZeroPhase):
    """A Butterworth filter run forwards and backwards (Butterworth 1930, Experimental Wireless 7, 536-541).

    It multiplies the spectrum by ``|H|^2`` of the digital filter (bilinear, its corners where they are asked for): no
    phase, half the amplitude (-6 dB) at a corner, and 12 ``order`` dB an octave less beyond. It is linear and its own
    transpose: the adjoint source of a misfit of filtered data is their residual, filtered once more. Data count as zero
    outside of their record: taper a record that is cut off.

    The padding is about ``2.2 / (f sin(pi / (2 order)))``
    seconds for a corner f, and for a band of the width f twice as much: a narrow band is long.

    Args:
        low: Hz, below which nothing passes: alone a high-pass.
        high: Hz, above which nothing passes: alone a low-pass. With `low`, a band-pass.
        order: of the filter, as in ``scipy.signal.butter``: that of each flank.

    Raises:
        ValueError: for corners that are missing, crossed or not positive, or an order that cannot be; when called, for
            corners at or above the Nyquist frequency.

    >>> import jax.numpy as jnp
    >>> spike = jnp.zeros((101, 1, 1)).at[50].set(1.0)
    >>> smooth = Butterworth(high=20.0)(spike, dt=4e-3)
    >>> smooth.shape, int(smooth.argmax())
    ((101, 1, 1), 50)
    """

    low: float | None = None
    high: float | None = None
    order: int = 4

    def __post_init__(self):
        for name in ("low", "high"):
            value = getattr(self, name)
            if value is None:
                continue
            if not (np.ndim(value) == 0 and math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number of Hz or None, got {value!r}.")
            object.__setattr__(self, name, float(value))
        if self.low is None and self.high is None:
            raise ValueError("a filter needs a corner: give low for a high-pass, high for a low-pass, both for a band.")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g} Hz.")
        object.__setattr__(self, "order", as_integer("order", self.order, 1))

    def check(self, dt: float) -> None:
        """Raise a ValueError if data of this time step cannot have such corners."""
        nyquist = 0.5 / dt
        for name in ("low", "high"):
            value = getattr(self, name)
            if value is not None and value >= nyquist:
                raise ValueError(
                    f"{name} = {value:g} Hz must lie below the Nyquist frequency {nyquist:g} Hz of dt = {dt:g} s."
                )

    def response(self, frequency: ArrayLike, dt: float) -> np.ndarray:
        """What a frequency in Hz is multiplied by: 1 in the band, 0.5 at a corner.

        >>> Butterworth(low=5.0, high=20.0).response([0.0, 5.0, 10.0, 20.0], dt=4e-3).round(6).tolist()
        [0.0, 0.5, 1.0, 0.5]
        """
        warped = np.tan(np.pi * np.asarray(frequency, float) * dt)
        low, high = self._warped(dt)
        with np.errstate(divide="ignore", over="ignore"):  # the infinite ones end as 0
            if low is None:
                ratio = warped / high
            elif high is None:
                ratio = low / warped
            else:
                ratio = (warped**2 - low * high) / ((high - low) * warped)
            return 1.0 / (1.0 + ratio ** (2 * self.order))

    def memory(self, dt: float) -> int:
        """Samples after which the response to an impulse has fallen to 1e-6 of itself, at the rate of its slowest pole.

        >>> Butterworth(high=20.0).memory(dt=4e-3)
        75
        """
        low, high = self._warped(dt)
        angle = np.pi * (2 * np.arange(self.order) + 1) / (2 * self.order)
        pole = 1j * np.exp(1j * angle)  # of the low-pass of corner 1, all with negative real part
        if low is None:
            pole = high * pole
        elif high is None:
            pole = low / pole
        else:
            half = 0.5 * (high - low) * pole
            root = np.sqrt(half**2 - low * high)
            pole = np.concatenate([half + root, half - root])
        slowest = np.abs((1 + pole) / (1 - pole)).max()
        return math.ceil(math.log(LEFT) / math.log(slowest))

    def _warped(self, dt: float) -> tuple:
        """Corners on the axis that the bilinear transform maps the unit circle's upper half to."""
        return tuple(None if f is None else math.tan(math.pi * f * dt) for f in (self.low, self.high))


def _fast(n: int) -> int:
    """The smallest length of at least `n` without prime factors above 5.

    >>> _fast(1001)
    1024
    """
    best = 1 << (n - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            best = min(best, three << max(0, (-(-n // three) - 1).bit_length()))
            three *= 3
        five *= 5
    return best
