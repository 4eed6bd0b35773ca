"""Checks of the arrays that figures show."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxfwi._checks import check_grid, check_shape
from jaxfwi.grid.grid import Grid

__all__ = ["FloatArray", "check_same_shape", "checked_gather", "checked_section", "receiver_km"]

FloatArray = NDArray[np.floating[Any]]


def checked_section(array: ArrayLike, name: str, grid: Grid) -> FloatArray:
    """A section ``[z, x]`` of the grid's shape."""
    advice = {
        1: "a 2D model, or plot a profile with matplotlib",
        3: "a slice, such as array[:, array.shape[1] // 2, :], and a grid of its own",
    }
    check_grid(grid)
    section = _checked_2d(array, name, "[z, x]", advice.get(np.ndim(array), "two axes of it"))
    check_shape(name, section.shape, grid)
    return section


def checked_gather(data: ArrayLike, name: str) -> FloatArray:
    """A gather ``(time, receivers)``."""
    return _checked_2d(data, name, "(time, receivers)", "one shot and component, data[shot, :, :, 0]")


def check_same_shape(arrays: Mapping[str, FloatArray], name: str, kind: str) -> None:
    """Raise a ValueError if there are no arrays, or they differ in shape."""
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1:
        raise ValueError(f"{name} must hold one {kind} or more, all of one shape, got shapes {sorted(shapes)}.")


def receiver_km(receiver_x: ArrayLike, count: int) -> FloatArray:
    """Positions of receivers in km."""
    x = np.asarray(receiver_x, dtype=np.float64) / 1e3
    if x.shape != (count,):
        raise ValueError(f"receiver_x must hold one position per receiver, shape ({count},), got shape {x.shape}.")
    return x


def _checked_2d(array: ArrayLike, name: str, axes: str, advice: str) -> FloatArray:
    values = np.asarray(array)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"{name} must be a 2D array {axes}, got shape {values.shape}; pass {advice}.")
    return values.astype(np.float64)
