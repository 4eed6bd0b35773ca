"""Checks of single arguments, shared by many modules."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jax import Array
from jax.core import Tracer

__all__ = [
    "as_integer",
    "as_mask",
    "check_grid",
    "check_kind",
    "check_shape",
    "chosen_fields",
    "concrete_values",
    "field_names",
    "in_metres",
    "is_concrete",
    "is_number",
    "positive_number",
    "set_fields",
]


def check_grid(grid: Any) -> None:
    """Raise a ValueError if the argument `grid` is not a `jaxfwi.Grid`, but its spacing or its dt for instance.

    (Recognised by its attributes, since `Grid` itself needs this module.)
    """
    if not all(hasattr(grid, attribute) for attribute in ("shape", "spacing", "dt", "nt")):
        given = f"an array of shape {grid.shape}" if hasattr(grid, "shape") else repr(grid)
        raise ValueError(
            f"grid must be a jaxfwi.Grid, which holds spacing and time step, got {given}: pass the grid of your "
            "simulator, simulator.grid, or make one by jaxfwi.Grid(shape, spacing, dt, nt)."
        )


def check_kind(name: str, value: Any, kind: type, arguments: str = "") -> None:
    """Raise a ValueError if an argument is no object of this class of `jaxfwi`; `arguments` show how one is made."""
    if not isinstance(value, kind):
        given = f"an array of shape {value.shape}" if isinstance(value, np.ndarray | Array) else repr(value)
        raise ValueError(f"{name} must be a jaxfwi.{kind.__name__}{arguments}, got {given}.")


def check_shape(name: str, shape: tuple[int, ...], grid: Any) -> None:
    """Raise a ValueError if an array does not have the grid's shape."""
    if shape != grid.shape:
        if sorted(shape) == sorted(grid.shape):
            advice = ". It may be transposed: depth comes first."
        else:
            advice = ": pass the grid it lies on, or for a part or a slice of a model a grid of its own."
        raise ValueError(f"{name} has shape {shape}, the grid {grid.shape}{advice}")


def as_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The argument `mask` as booleans of the model's shape, True where cells may change; None means everywhere.

    >>> as_mask([0, 1, 1], (3,)).tolist()
    [False, True, True]
    """
    given = np.asarray(True if mask is None else mask)
    if given.shape not in ((), shape) or not (given.dtype == bool or np.isin(given, (0, 1)).all()):
        raise ValueError(
            f"mask must have the model's shape {shape} and be True (or 1) where cells may change, False (or 0) where "
            f"they stay, got {given.dtype} of shape {given.shape}."
        )
    return np.broadcast_to(given.astype(bool), shape)


def is_number(value: Any) -> bool:
    """Whether `value` is one real number, of Python or numpy, but not a boolean."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def as_integer(name: str, value: Any, least: int) -> int:
    """`value` as an int, if it is a whole number of at least `least` of any numeric type.

    Raises:
        ValueError: naming the argument and what it got.

    >>> as_integer("batch", 2.0, 1)
    2
    """
    if not is_number(value) or value != np.floor(value) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return int(value)


def is_concrete(*arrays: Any) -> bool:
    """Whether the arrays have values, and not only shapes as inside jit, grad or vmap."""
    return not any(isinstance(x, Tracer) for x in arrays)


LARGE = 10**7  # values; a larger array is not fetched only to be shown


def concrete_values(x: Any) -> np.ndarray | None:
    """The values of an array, to be shown in a message or a repr. Waits for them, as printing the array does.

    None where there are none: inside jit, grad or vmap, on another host, or once the array was donated to a program;
    and for a large array.
    """
    if not isinstance(x, np.ndarray | Array) or not is_concrete(x) or x.size > LARGE:
        return None
    try:
        return np.asarray(x)
    except RuntimeError:
        return None


def field_names(argument: str, given: Any) -> tuple[str, ...]:
    """Names of fields as a tuple. A single string is a ValueError, since `tuple` would split it into letters."""
    if isinstance(given, str):
        raise ValueError(f'{argument} must be a tuple of names, as in {argument}=("{given}",).')
    return tuple(given)


def chosen_fields(argument: str, chosen: tuple[str, ...], available: Iterable[str], owner: str) -> tuple[str, ...]:
    """The chosen fields, checked: at least one, and all of them among the available ones."""
    if not chosen:
        raise ValueError(f"{argument} is empty: name a field, of {', '.join(available)}.")
    unknown = [f for f in chosen if f not in available]
    if unknown:
        raise ValueError(
            f"{argument} names {unknown[0]!r}, which {owner} does not have: it has {', '.join(available)}."
        )
    return chosen


def positive_number(name: str, value: Any, what: str = "number") -> float:
    """`value` as a float, if it is a positive finite number of any numeric type.

    Raises:
        ValueError: naming the argument, what it should be and what it got.

    >>> positive_number("dt", 1, "number of seconds")
    1.0
    """
    if not is_number(value) or not 0 < value < np.inf:
        raise ValueError(f"{name} must be a positive {what}, got {value!r}.")
    return float(value)


def in_metres(point: Iterable[float]) -> str:
    """A position as messages show it.

    >>> in_metres([20.0, 112.5])
    '(20, 112.5) m'
    """
    return f"({', '.join(f'{x:g}' for x in point)}) m"


def set_fields(frozen: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass while it is being made."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)
