"""Models in ``.npy`` files, checked as they are read."""

import os
from typing import Any

import numpy as np

from jaxfwi.grid.grid import Grid
from jaxfwi.io.files import existing, written

__all__ = ["read", "write"]


def read(path: str | os.PathLike, grid: Grid | None = None, *, least: float | None = None) -> np.ndarray:
    """Read a model's parameter, as a velocity in m/s or a density in kg/m³, from a ``.npy`` file.

    Args:
        path: of the file; nothing in it is unpickled.
        grid: on which the model should be.
        least: the smallest value that can be, as 0.0 of a velocity; by default any finite one.

    Returns:
        ``(nz,)``, ``(nz, nx)`` or ``(nz, ny, nx)``, depth first; float64 if the file is, float32 otherwise.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming file and way out, if it is damaged, not of one to three axes or not of the grid's shape, or
            has values that are not real numbers, not finite or below `least`.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.models.write(f"{folder}/vp.npy", np.full((20, 30), 1500.0, np.float32))
    ...     vp = jf.io.models.read(f"{folder}/vp.npy", jf.Grid((20, 30), 10.0, 1e-3, 100), least=0.0)
    >>> vp.shape, vp.dtype
    ((20, 30), dtype('float32'))
    """
    path = existing(path)
    try:
        model = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a .npy file of numbers: {error}.") from error
    if not isinstance(model, np.ndarray):
        raise ValueError(f"{path} is an archive of several arrays: save the model alone, by jaxfwi.io.models.write.")
    return checked(str(path), model, grid, least)


def write(path: str | os.PathLike, model: Any) -> None:
    """Write a model's parameter to a ``.npy`` file, which is whole or not there; one of that name is replaced.

    Args:
        path: of the file.
        model: ``(nz,)``, ``(nz, nx)`` or ``(nz, ny, nx)``.

    Raises:
        ValueError: for values that are not real numbers or not finite, or a number of axes that cannot be.
    """
    model = np.asarray(model)
    checked("model", model)
    with written(path) as place, open(place, "wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(model), allow_pickle=False)


def checked(name: str, model: np.ndarray, grid: Grid | None = None, least: float | None = None) -> np.ndarray:
    """A model as `read` returns it, or a ValueError that begins with `name`."""
    if model.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers, got {model.dtype}.")
    if not 1 <= model.ndim <= 3 or 0 in model.shape:
        raise ValueError(f"{name} must be (nz,), (nz, nx) or (nz, ny, nx), got shape {model.shape}.")
    if grid is not None and model.shape != grid.shape:
        turned = " It may be transposed: depth comes first." if sorted(model.shape) == sorted(grid.shape) else ""
        raise ValueError(f"{name} has shape {model.shape}, the grid {grid.shape}.{turned}")
    for place in np.argwhere(~np.isfinite(model))[:1]:
        raise ValueError(f"{name} is {model[tuple(place)]} at cell {tuple(place.tolist())}: values must be finite.")
    if least is not None and model.min() < least:
        place = np.unravel_index(np.argmin(model), model.shape)
        raise ValueError(f"{name} is {model[place]:g} at cell {tuple(map(int, place))}, below {least:g}.")
    return model if model.dtype == np.float64 else model.astype(np.float32, copy=False)
