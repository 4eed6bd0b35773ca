"""Misfits: pure functions of predicted and observed data, summed over shots."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

__all__ = ["Filtered", "l2"]


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

    def __call__(self, predicted: Array, observed: Array) -> Array:
        return self.misfit(self.filter(predicted, self.dt), self.filter(observed, self.dt))
