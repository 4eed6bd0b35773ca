"""Misfits: pure functions of predicted and observed data, summed over shots."""

import jax.numpy as jnp
from jax import Array

__all__ = ["l2"]


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
