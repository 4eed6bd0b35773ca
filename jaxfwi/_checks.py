"""Checks of single arguments that many places share."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jax import Array
from jax.core import Tracer

__all__ = ["as_integer", "chosen_fields", "concrete_values", "field_names", "is_concrete", "positive_number"]


def as_integer(name: str, value: Any, least: int) -> int:
    """`value` as a whole number of at least `least`, whatever type of number it came as.

    Raises:
        ValueError: naming the argument and what it got.

    >>> as_integer("batch", 2.0, 1)
    2
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or value != np.floor(value) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return int(value)


def is_concrete(*arrays: Any) -> bool:
    """Whether values are at hand, and not only shapes as under jit, grad or vmap."""
    return not any(isinstance(x, Tracer) for x in arrays)


LARGE = 10**7  # values


def concrete_values(x: Any) -> np.ndarray | None:
    """The values of an array, to be shown, after waiting for them as a print of the array does; None where there are
    none to be had: under jit, grad or vmap, on another host, of a large array, or after it was given away.
    """
    if not isinstance(x, np.ndarray | Array) or not is_concrete(x) or x.size > LARGE:
        return None
    try:
        return np.asarray(x)
    except RuntimeError:
        return None


def field_names(argument: str, given: Any) -> tuple[str, ...]:
    """Names of fields as a tuple; a ValueError for a single string, whose letters a tuple would take for names."""
    if isinstance(given, str):
        raise ValueError(f'{argument} must be a tuple of names, as in {argument}=("{given}",).')
    return tuple(given)


def chosen_fields(argument: str, chosen: tuple[str, ...], there: Iterable[str], owner: str) -> tuple[str, ...]:
    """The fields chosen, of those that their owner has; a ValueError for none or for another."""
    if not chosen:
        raise ValueError(f"{argument} is empty: name a field, of {', '.join(there)}.")
    unknown = [f for f in chosen if f not in there]
    if unknown:
        raise ValueError(f"{argument} names {unknown[0]!r}, which {owner} does not have: it has {', '.join(there)}.")
    return chosen


def positive_number(name: str, value: Any, what: str = "number") -> float:
    """`value` as a positive finite number, whatever type of number it came as.

    Raises:
        ValueError: naming the argument, what it should be and what it got.

    >>> positive_number("dt", 1, "number of seconds")
    1.0
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0 < value < np.inf:
        raise ValueError(f"{name} must be a positive {what}, got {value!r}.")
    return float(value)
