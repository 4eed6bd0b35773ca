"""Zero-phase filters along time, for data, residuals and wavelets alike."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxfwi._checks import as_integer, check_grid
from jaxfwi.grid.grid import Grid

__all__ = ["Butterworth", "Tilt", "ZeroPhase"]

NEGLIGIBLE = 1e-6  # of the response to an impulse: the padding reaches until it has fallen to this part of itself


class ZeroPhase:
    """Base class of the filters here: they multiply the spectrum along time by a real function of frequency.

    Such a filter has no phase, is linear and is its own transpose. Two filters multiply to one that applies both,
    ``a * b``.

    Data count as zero before and after their record. The record is padded until the response to an impulse has fallen
    to 1e-6 of itself, and further to a length whose transform is fast, so that nothing wraps around from the other end.

    For a filter of your own of this kind write `response` and `reach`. (Wherever jaxfwi takes a filter, any function
    ``filter(data, grid)`` will do too.)

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> class Gaussian(jf.filters.ZeroPhase):
    ...     def response(self, frequency, grid):
    ...         return np.exp(-((np.asarray(frequency) / 10.0) ** 2))
    ...
    ...     def reach(self, grid):  # an impulse becomes exp(-(10 pi t)^2)
    ...         return math.ceil(math.sqrt(-math.log(1e-6)) / (10.0 * math.pi * grid.dt))
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=4e-3, nt=500)
    >>> Gaussian()(jnp.ones((grid.nt, 1, 1)), grid)[250].round(3).item()
    1.0
    """

    def response(self, frequency: ArrayLike, grid: Grid) -> np.ndarray:
        """The factors by which frequencies in Hz are multiplied, for data of the grid's time step."""
        raise NotImplementedError

    def reach(self, grid: Grid) -> int:
        """The number of samples after which the response to an impulse has fallen to 1e-6 of itself."""
        raise NotImplementedError

    def check(self, grid: Grid) -> None:
        """Raise a ValueError if data of the grid's time step cannot be filtered by this."""
        check_grid(grid)

    def __mul__(self, other: "ZeroPhase") -> "Product":
        return Product(self, other)

    def __call__(self, data: ArrayLike, grid: Grid, axis: int = -3) -> Array:
        """Filter an array along its time axis.

        Args:
            data: real floating-point numbers; in single precision or lower they are transformed in single precision.
            grid: gives the time step.
            axis: the time axis; by default that of data ``(..., time, receivers, components)``. Wavelets ``(shots,
                time, sources)`` have it at 1.

        Returns:
            The filtered array, of the shape and dtype of `data`.

        Raises:
            ValueError: for corners at or above the Nyquist frequency, or an array without that axis.
        """
        data = jnp.asarray(data)
        if not jnp.issubdtype(data.dtype, jnp.floating):
            raise ValueError(f"a filter needs an array of real floating-point numbers, got {data.dtype}.")
        if not -data.ndim <= axis < data.ndim:
            raise ValueError(f"axis = {axis} is the time axis, but the array has shape {data.shape}.")
        self.check(grid)
        n = data.shape[axis]
        padded = _fast_length(n + self.reach(grid))
        gain = self.response(np.fft.rfftfreq(padded, grid.dt), grid)
        spectrum = jnp.fft.rfft(data.astype(jnp.promote_types(data.dtype, jnp.float32)), padded, axis)
        along = [1] * data.ndim
        along[axis] = -1
        filtered = jnp.fft.irfft(spectrum * jnp.asarray(gain.reshape(along), spectrum.real.dtype), padded, axis)
        return jnp.take(filtered, np.arange(n), axis).astype(data.dtype)


@dataclass(frozen=True)
class Product(ZeroPhase):
    """Two filters applied one after the other; written ``a * b``.

    >>> import jaxfwi as jf
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=2e-3, nt=500)
    >>> both = Butterworth(high=3.0) * Tilt(1.0)
    >>> float(both.response(3.0, grid)) == 0.5 * float(Tilt(1.0).response(3.0, grid))
    True
    """

    one: ZeroPhase
    other: ZeroPhase

    def check(self, grid: Grid) -> None:
        self.one.check(grid)
        self.other.check(grid)

    def response(self, frequency: ArrayLike, grid: Grid) -> np.ndarray:
        return self.one.response(frequency, grid) * self.other.response(frequency, grid)

    def reach(self, grid: Grid) -> int:
        return self.one.reach(grid) + self.other.reach(grid)


@dataclass(frozen=True)
class Tilt(ZeroPhase):
    """Raises low frequencies over high ones: amplitudes fall as ``frequency^-power`` above a corner and keep their size
    below it.

    A Ricker wavelet of peak frequency f rises as the square of the frequency up to f. A least-squares misfit therefore
    hardly sees the low frequencies of its data, which an inversion needs first. ``Tilt(2.0)`` undoes that rise,
    ``Tilt(1.0)`` half of it. Noise at low frequencies is raised as well.

    Args:
        power: the exponent of the fall, 0 or more.
        corner: Hz; frequencies below it are not raised any further.

    Raises:
        ValueError: for an invalid power or corner.

    >>> import jaxfwi as jf
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=4e-3, nt=500)
    >>> Tilt(1.0, corner=0.5).response([0.0, 5.0, 10.0], grid).round(3).tolist()
    [1.0, 0.1, 0.05]
    """

    power: float
    corner: float = 0.5

    def __post_init__(self):
        if not (np.ndim(self.power) == 0 and 0 <= self.power < math.inf):
            raise ValueError(f"power must be zero or more, got {self.power!r}.")
        if not (np.ndim(self.corner) == 0 and 0 < self.corner < math.inf):
            raise ValueError(f"corner must be a positive number of Hz, got {self.corner!r}.")

    def response(self, frequency: ArrayLike, grid: Grid) -> np.ndarray:
        # The sine continues smoothly beyond the Nyquist frequency; a kink there would ring.
        frequency = np.sin(np.pi * np.asarray(frequency, float) * grid.dt) / (np.pi * grid.dt)
        return (1.0 + (frequency / self.corner) ** 2) ** (-0.5 * self.power)

    def reach(self, grid: Grid) -> int:
        return math.ceil(-math.log(NEGLIGIBLE) / (2 * math.pi * self.corner * grid.dt)) if self.power else 0


@dataclass(frozen=True)
class Butterworth(ZeroPhase):
    """A Butterworth filter run forwards and backwards (Butterworth 1930, Experimental Wireless 7, 536-541).

    It multiplies the spectrum by ``|H|^2`` of the digital filter (bilinear transform, with the corners where they are
    asked for): no phase, half the amplitude (-6 dB) at a corner, and beyond it 12 ``order`` dB less with each octave.
    It is linear and its own transpose, so that the adjoint source of a misfit of filtered data is their residual,
    filtered once more. Data count as zero before and after their record: taper a record that is cut off.

    The padding is about ``2.2 / (f sin(pi / (2 order)))`` seconds for a corner f, and twice as much for a band of the
    width f: a narrow band needs long padding.

    Args:
        low: Hz, lower corner: frequencies below it are removed. Alone it makes a high-pass.
        high: Hz, upper corner: frequencies above it are removed. Alone it makes a low-pass, with `low` a band-pass.
        order: of each flank, as in ``scipy.signal.butter``.

    Raises:
        ValueError: for corners that are missing, crossed or not positive, or an invalid order; when called, for corners
            at or above the Nyquist frequency.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=4e-3, nt=101)
    >>> spike = jnp.zeros((grid.nt, 1, 1)).at[50].set(1.0)
    >>> smooth = Butterworth(high=20.0)(spike, grid)
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

    def check(self, grid: Grid) -> None:
        """Raise a ValueError if a corner lies at or above the Nyquist frequency of the grid's time step."""
        super().check(grid)
        nyquist = 0.5 / grid.dt
        for name in ("low", "high"):
            value = getattr(self, name)
            if value is not None and value >= nyquist:
                raise ValueError(
                    f"{name} = {value:g} Hz must lie below the Nyquist frequency {nyquist:g} Hz of dt = {grid.dt:g} s."
                )

    def response(self, frequency: ArrayLike, grid: Grid) -> np.ndarray:
        """The factors by which frequencies in Hz are multiplied: 1 in the band, 0.5 at a corner.

        >>> import jaxfwi as jf
        >>> grid = jf.Grid(shape=100, spacing=10.0, dt=4e-3, nt=500)
        >>> band = Butterworth(low=5.0, high=20.0)
        >>> band.response([0.0, 5.0, 10.0, 20.0], grid).round(6).tolist()
        [0.0, 0.5, 1.0, 0.5]
        """
        warped = np.tan(np.pi * np.asarray(frequency, float) * grid.dt)
        low, high = self._warped_corners(grid)
        with np.errstate(divide="ignore", over="ignore"):  # infinite ratios give 0 in the end
            if low is None:
                ratio = warped / high
            elif high is None:
                ratio = low / warped
            else:
                ratio = (warped**2 - low * high) / ((high - low) * warped)
            return 1.0 / (1.0 + ratio ** (2 * self.order))

    def reach(self, grid: Grid) -> int:
        """The number of samples after which the response to an impulse has fallen to 1e-6 of itself, at the rate of its
        slowest pole.

        >>> import jaxfwi as jf
        >>> Butterworth(high=20.0).reach(jf.Grid(shape=100, spacing=10.0, dt=4e-3, nt=500))
        75
        """
        low, high = self._warped_corners(grid)
        angle = np.pi * (2 * np.arange(self.order) + 1) / (2 * self.order)
        pole = 1j * np.exp(1j * angle)  # of the low-pass whose corner is 1; all have a negative real part
        if low is None:
            pole = high * pole
        elif high is None:
            pole = low / pole
        else:
            half = 0.5 * (high - low) * pole
            root = np.sqrt(half**2 - low * high)
            pole = np.concatenate([half + root, half - root])
        slowest = np.abs((1 + pole) / (1 - pole)).max()
        return math.ceil(math.log(NEGLIGIBLE) / math.log(slowest))

    def _warped_corners(self, grid: Grid) -> tuple:
        """The corners on the frequency axis of the analogue filter, from which the bilinear transform comes."""
        return tuple(None if f is None else math.tan(math.pi * f * grid.dt) for f in (self.low, self.high))


def _fast_length(n: int) -> int:
    """The smallest length of at least `n` without prime factors above 5, which is fast to transform.

    >>> _fast_length(1001)
    1024
    """
    best = 1 << (n - 1).bit_length()
    power_of_5 = 1
    while power_of_5 < best:
        odd = power_of_5
        while odd < best:
            best = min(best, odd << max(0, (-(-n // odd) - 1).bit_length()))
            odd *= 3
        power_of_5 *= 5
    return best
