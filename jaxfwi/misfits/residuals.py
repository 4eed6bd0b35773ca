"""Misfits that compare data sample by sample."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from jaxfwi import _traces
from jaxfwi._checks import positive_number, set_fields

__all__ = ["Huber", "global_correlation", "l1", "l2"]


def l2(predicted: Array, observed: Array) -> Array:
    """Half the sum of squared residuals (Tarantola 1984, Geophysics 49, 1259-1266).

    Args:
        predicted: data of one shot ``(time, receivers, components)`` or of several.
        observed: of the same shape.

    Returns:
        A scalar.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> jf.misfits.l2(jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0])).item()
    2.5
    """
    return 0.5 * jnp.sum((predicted - observed) ** 2)


def l1(predicted: Array, observed: Array) -> Array:
    """The sum of absolute residuals, in which outliers weigh less (Crase et al. 1990, Geophysics 55, 527-538).

    Its gradient is the sign of the residuals, and 0 where they are 0. Its second derivative is zero, and so are Hessian
    products with it.

    Args:
        predicted: data of one shot ``(time, receivers, components)`` or of several.
        observed: of the same shape.

    Returns:
        A scalar.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> jf.misfits.l1(jnp.array([1.0, -2.0]), jnp.array([0.0, 0.0])).item()
    3.0
    """
    residual = predicted - observed
    return jnp.sum(residual * jnp.sign(residual))  # jnp.abs would have the slope 1 at 0


@dataclass(frozen=True)
class Huber:
    """`l2` for residuals up to a threshold, continued linearly as in `l1` beyond it (Guitton & Symes 2003, Geophysics
    68, 1310-1319).

    Args:
        threshold: in units of the data.

    Raises:
        ValueError: for a threshold that is not positive.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> jf.misfits.Huber(threshold=1.0)(jnp.array([1.0, 3.0]), jnp.array([0.0, 0.0])).item()
    3.0
    """

    threshold: float

    def __post_init__(self):
        set_fields(self, threshold=positive_number("threshold", self.threshold, "number in units of the data"))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        residual = predicted - observed
        clipped = jnp.clip(residual, -self.threshold, self.threshold)
        return jnp.sum(clipped * (residual - 0.5 * clipped))


def global_correlation(predicted: Array, observed: Array) -> Array:
    """One minus the correlation of each predicted trace with the observed one, summed (Choi & Alkhalifah 2012,
    Geophysical Prospecting 60, 748-758).

    The correlation is that at zero lag of traces normalised to unit energy. A trace costs 0 where it equals the
    observed one up to a positive factor, 1 where the two have nothing in common or one of them is zero, and 2 where one
    is the negative of the other.

    Args:
        predicted: data of one shot ``(time, receivers, components)`` or of several.
        observed: of the same shape.

    Returns:
        A scalar.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> data = jnp.array([1.0, 2.0, 0.0]).reshape(3, 1, 1)
    >>> jf.misfits.global_correlation(7.0 * data, data).item()
    0.0
    >>> jf.misfits.global_correlation(-data, data).round(4).item()
    2.0
    """
    ours, theirs = (_traces.unit(x) for x in _traces.paired(predicted, observed))
    # The same as one minus the product, but for traces of zeros, and without its cancellation near the minimum.
    one_is_zero = jnp.any(ours != 0, axis=-1) != jnp.any(theirs != 0, axis=-1)
    return 0.5 * jnp.sum((ours - theirs) ** 2) + 0.5 * jnp.sum(one_is_zero.astype(ours.dtype))
