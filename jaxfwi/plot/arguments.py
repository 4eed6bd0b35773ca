"""Checks of the arrays that figures are drawn of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FloatArray",
    "check_dt",
    "checked_gather",
    "checked_positions",
    "checked_section",
    "checked_spacing",
    "of_one_shape",
    "receiver_km",
]

FloatArray = NDArray[np.floating[Any]]


def checked_section(array: ArrayLike, name: str) -> FloatArray:
    """A section ``[z, x]``."""
    how = {
        1: "a 2D model, or plot a profile with matplotlib",
        3: "a slice, such as array[:, array.shape[1] // 2, :]",
    }
    return _checked_2d(array, name, "[z, x]", how.get(np.ndim(array), "two axes of it"))


def checked_gather(data: ArrayLike, name: str) -> FloatArray:
    """A gather ``(time, receivers)``."""
    return _checked_2d(data, name, "(time, receivers)", "one shot and component, data[shot, :, :, 0]")


def of_one_shape(arrays: Mapping[str, FloatArray], name: str, what: str) -> tuple[int, ...]:
    """The shape that all have."""
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1:
        raise ValueError(f"{name} must hold one {what} or more, all of one shape, got shapes {sorted(shapes)}.")
    return shapes.pop()


def checked_spacing(spacing: float | Sequence[float]) -> tuple[float, float]:
    """Metres between cells, down and across."""
    steps = np.asarray(spacing, dtype=np.float64)
    if steps.shape not in ((), (2,)) or not (steps > 0).all():
        raise ValueError(f"spacing must be positive, one number or (dz, dx) in metres, got {spacing!r}.")
    dz, dx = np.broadcast_to(steps, 2).tolist()
    return dz, dx


def checked_positions(positions: ArrayLike, name: str) -> FloatArray:
    """Depths and distances in km, ``(2, positions)``, each position once."""
    metres = np.asarray(positions, dtype=np.float64)
    if metres.ndim == 0 or metres.shape[-1] != 2:
        raise ValueError(f"{name} must be positions [z, x] in metres of shape (..., 2), got shape {metres.shape}.")
    # A fixed spread repeats its receivers for every shot; padding of ragged receivers may not be finite.
    unique = np.unique(metres.reshape(-1, 2), axis=0)
    return unique[np.isfinite(unique).all(axis=1)].T / 1e3


def receiver_km(receiver_x: ArrayLike, count: int) -> FloatArray:
    """Positions of receivers in km."""
    x = np.asarray(receiver_x, dtype=np.float64) / 1e3
    if x.shape != (count,):
        raise ValueError(f"receiver_x must hold one position per receiver, shape ({count},), got shape {x.shape}.")
    return x


def check_dt(dt: float) -> None:
    """Raise a ValueError for a time step that cannot be."""
    if not dt > 0:
        raise ValueError(f"dt must be positive, in seconds, got {dt!r}.")


def _checked_2d(array: ArrayLike, name: str, axes: str, how: str) -> FloatArray:
    values = np.asarray(array)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"{name} must be a 2D array {axes}, got shape {values.shape}; pass {how}.")
    return values.astype(np.float64)
