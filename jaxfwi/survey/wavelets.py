"""Source wavelets: the functions of time that sources inject."""

import jax.numpy as jnp
from jax import Array

from jaxfwi._checks import check_grid
from jaxfwi.grid.grid import Grid

__all__ = ["ricker"]


def ricker(grid: Grid, frequency: float, delay: float | None = None) -> Array:
    """The Ricker wavelet, the second derivative of a Gaussian, of unit peak (Ricker 1953, Geophysics 18, 10-40).

    Args:
        grid: gives the time axis.
        frequency: peak frequency in Hz.
        delay: time of the peak in seconds; by default ``1.5 / frequency``, where the wavelet starts below 1e-8 of its
            peak.

    Returns:
        Samples at ``grid.times``, shape ``(nt,)``.

    Raises:
        ValueError: if the frequency is not between 0 and the Nyquist frequency of the time step.

    >>> import jaxfwi as jf
    >>> grid = jf.Grid(shape=10, spacing=10.0, dt=1e-3, nt=500)
    >>> wavelet = jf.ricker(grid, frequency=10.0)
    >>> wavelet.shape, int(wavelet.argmax())
    ((500,), 150)
    """
    check_grid(grid)
    nyquist = 0.5 / grid.dt
    if not 0 < frequency < nyquist:
        raise ValueError(
            f"frequency must lie between 0 and the Nyquist frequency {nyquist:g} Hz of dt, got {frequency} Hz."
        )
    delay = 1.5 / frequency if delay is None else delay
    square = (jnp.pi * frequency * (jnp.asarray(grid.times) - delay)) ** 2
    return (1.0 - 2.0 * square) * jnp.exp(-square)
