"""Arguments that are given once for all parameters of a model, or like the model with one for each parameter.

`optax.partition` and `optax.masked` replace the parameters of other groups by `optax.MaskedNode`, called masked nodes
here; these stay as they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxfwi._checks import is_concrete

__all__ = ["broadcast_like", "check_numbers", "for_each", "is_masked", "tree_map"]


def is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def tree_map(function: Callable, tree: Any, *others: Any) -> Any:
    """`jax.tree.map` that leaves masked nodes alone."""
    return jax.tree.map(lambda x, *o: x if is_masked(x) else function(x, *o), tree, *others, is_leaf=is_masked)


def for_each(name: str, given: Any, tree: Any) -> Any:
    """A tree like `tree` that holds for each array the value given for it: `given` itself, unless that is like `tree`.

    A tuple or list, such as one number per axis, counts as one value for all.

    >>> for_each("length", (1.0, 2.0), {"vp": jnp.zeros(3), "rho": jnp.zeros(3)})
    {'rho': (1.0, 2.0), 'vp': (1.0, 2.0)}
    """
    one_for_all = (
        given is None
        or type(given) in (tuple, list)
        or isinstance(given, int | float | np.generic | np.ndarray | Array)
    )
    try:
        return tree_map(lambda x: given, tree) if one_for_all else tree_map(lambda x, g: g, tree, given)
    except ValueError:
        raise ValueError(
            f"{name} must be one for all parameters or like the model, {type(tree).__name__}, got {given!r}."
        ) from None


def broadcast_like(name: str, given: Any, parameter: Array, dtype: Any = None) -> Array:
    """A number or an array of the parameter's shape as such an array, of the parameter's dtype by default."""
    shape = jnp.shape(parameter)
    if jnp.shape(given) not in ((), shape):
        raise ValueError(f"{name} must be of the model's shape {shape} or a number, got shape {jnp.shape(given)}.")
    return jnp.broadcast_to(jnp.asarray(given, dtype or jnp.result_type(parameter)), shape)


def check_numbers(name: str, given: Any, positive: bool = False) -> None:
    """Raise a ValueError unless `given` is a number of at least 0 (or above 0), or a tree of such numbers."""
    for number in jax.tree.leaves(given):
        valid = np.ndim(number) == 0 and (not is_concrete(number) or 0 <= number < np.inf)
        if not valid or (positive and is_concrete(number) and number == 0):
            kind = "a positive number" if positive else "a number, 0 or more"
            raise ValueError(f"{name} must be {kind}, or like the model with one for each parameter, got {given!r}.")
