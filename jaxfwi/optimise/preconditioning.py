"""Division of updates by the diagonal of a Hessian."""

import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxfwi._checks import is_concrete
from jaxfwi._trees import broadcast_like, for_each, tree_map

__all__ = ["DEFAULT_DAMPING", "check_diagonal", "damped_inverse", "precondition"]

DEFAULT_DAMPING = 0.01  # of the greatest illumination


class PreconditionState(NamedTuple):
    """The factors by which updates are multiplied, like the model."""

    factor: Any


def precondition(
    diagonal: Any, damping: float = DEFAULT_DAMPING, normalise: bool = True
) -> optax.GradientTransformation:
    """Divides updates by the diagonal of a Hessian, which compensates for uneven illumination: by ``diagonal + damping
    max``, with the maximum of each parameter's diagonal (Shin, Jang & Min 2001, Geophysical Prospecting 49, 592-606).

    A parameter whose diagonal is 0 everywhere gets no update.

    Args:
        diagonal: like the model, 0 or more, as `Problem.gauss_newton_diagonal` estimates it. Damping is relative to the
            brightest cell: where that is masked, multiply the diagonal by the inversion's mask.
        damping: above 0. The darkest cells are raised by ``(1 + damping) / damping``, by default 101.
        normalise: multiply by ``(1 + damping) max``, so that updates in the brightest cell stay as they are, and an
            optimiser's scale keeps its meaning. False gives steps as in Newton's method, in the units of the
            parameters; use ``optax.sgd(1.0)`` or less.

    Raises:
        ValueError: for a diagonal that is not finite or below 0, or an invalid damping; at ``init`` for a diagonal that
            does not fit the model.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> diagonal, update = jnp.array([4.0, 1.0, 0.0]), jnp.ones(3)
    >>> preconditioner = jf.optimise.precondition(diagonal, damping=0.25)
    >>> preconditioner.update(update, preconditioner.init(update))[0].tolist()
    [1.0, 2.5, 5.0]
    """
    if not 0 < damping < math.inf:
        raise ValueError(f"damping must be a positive number, got {damping!r}.")
    check_diagonal(diagonal)

    def init(params):
        def of_parameter(x, diagonal):
            inverse, largest = damped_inverse(diagonal, damping, x)
            return inverse * ((1.0 + damping) * largest) if normalise else inverse

        return PreconditionState(tree_map(of_parameter, params, for_each("diagonal", diagonal, params)))

    def update(updates, state, params=None):
        return tree_map(operator.mul, updates, state.factor), state

    return optax.GradientTransformation(init, update)


def damped_inverse(diagonal: Any, damping: float, x: Any, shift: Any = 0.0) -> tuple[Array, Array]:
    """``1 / (diagonal + damping max + shift)`` for the parameter x, 0 if all of the diagonal is 0; and its maximum."""
    diagonal = broadcast_like("diagonal", diagonal, x)
    largest = jnp.max(diagonal)
    scale = jnp.where(largest > 0, largest, 1)  # so that single precision divides numbers of about 1
    inverse = 1.0 / (diagonal / scale + damping + jnp.asarray(shift, diagonal.dtype) / scale) / scale
    return jnp.where(largest > 0, inverse, 0), largest


def check_diagonal(diagonal: Any) -> None:
    """Raise a ValueError for a diagonal with values that are not finite or below 0."""
    for x in jax.tree.leaves(diagonal):
        if is_concrete(x) and not (np.isfinite(x).all() and np.min(x) >= 0):
            raise ValueError("diagonal must be finite and nowhere below 0, as of jaxfwi.Problem.gauss_newton_diagonal.")
