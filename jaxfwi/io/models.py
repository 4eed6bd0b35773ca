"""Models in ``.npy`` files, checked as they are read."""

import os
from typing import Any

import numpy as np

from jaxfwi._checks import check_grid, check_shape
from jaxfwi.grid.grid import Grid
from jaxfwi.io.files import existing, written_whole

__all__ = ["read", "write"]


def read(path: str | os.PathLike, grid: Grid | None = None, *, least: float | None = None) -> np.ndarray:
    """Read one parameter of a model, such as a velocity in m/s or a density in kg/m³, from a ``.npy`` file.

    Args:
        path: of the file; nothing in it is unpickled.
        grid: that the model should fit; by default any shape is accepted.
        least: the smallest value allowed, such as 0.0 for a velocity; by default any finite one.

    Returns:
        ``(nz,)``, ``(nz, nx)`` or ``(nz, ny, nx)``, depth first; float64 if the file is, float32 otherwise.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file and the remedy, if it is damaged, does not have one to three axes or the grid's
            shape, or has values that are not real numbers, not finite or below `least`.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.models.write(f"{folder}/vp.npy", np.full((20, 30), 1500.0, np.float32))
    ...     grid = jf.Grid((20, 30), 10.0, 1e-3, 100)
    ...     vp = jf.io.models.read(f"{folder}/vp.npy", grid, least=0.0)
    >>> vp.shape, vp.dtype
    ((20, 30), dtype('float32'))
    """
    if grid is not None:
        check_grid(grid)
    path = existing(path)
    try:
        model = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a .npy file of numbers: {error}.") from error
    if not isinstance(model, np.ndarray):
        raise ValueError(f"{path} is an archive of several arrays: save the model alone, by jaxfwi.io.models.write.")
    return checked(str(path), model, grid, least)


def write(path: str | os.PathLike, model: Any) -> None:
    """Write one parameter of a model to a ``.npy`` file, completely or not at all; a file of that name is replaced.

    Args:
        path: of the file.
        model: ``(nz,)``, ``(nz, nx)`` or ``(nz, ny, nx)``.

    Raises:
        ValueError: for values that are not real numbers or not finite, or another number of axes.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.models.write(f"{folder}/vp.npy", np.full((20, 30), 1500.0))
    ...     np.load(f"{folder}/vp.npy").shape
    (20, 30)
    """
    model = np.asarray(model)
    checked("model", model)
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(model), allow_pickle=False)


def checked(name: str, model: np.ndarray, grid: Grid | None = None, least: float | None = None) -> np.ndarray:
    """A model as `read` returns it. Errors begin with `name`."""
    if model.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers, got {model.dtype}.")
    if not 1 <= model.ndim <= 3 or 0 in model.shape:
        raise ValueError(f"{name} must be (nz,), (nz, nx) or (nz, ny, nx), got shape {model.shape}.")
    if grid is not None:
        check_shape(name, model.shape, grid)
    for cell in np.argwhere(~np.isfinite(model))[:1]:
        raise ValueError(f"{name} is {model[tuple(cell)]} at cell {tuple(cell.tolist())}: values must be finite.")
    if least is not None and model.min() < least:
        cell = np.unravel_index(np.argmin(model), model.shape)
        raise ValueError(f"{name} is {model[cell]:g} at cell {tuple(map(int, cell))}, below {least:g}.")
    return model if model.dtype == np.float64 else model.astype(np.float32, copy=False)
