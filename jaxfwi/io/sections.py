"""2D models as sections in SEG-Y files. The functions are public as those of `jaxfwi.io.segy`."""

import os
from typing import Any

import numpy as np

from jaxfwi._checks import check_grid
from jaxfwi.grid.grid import Grid
from jaxfwi.io.files import existing, written_whole
from jaxfwi.io.headers import scalar_of, scaled
from jaxfwi.io.models import checked
from jaxfwi.io.segy_files import add_trace, created, feet_and_interval, opened, traces_of, whole_units

__all__ = ["read_model", "write_model"]


def read_model(path: str | os.PathLike, *, endian: str | None = None) -> tuple[np.ndarray, tuple[Any, Any]]:
    """Read a section, in which 2D models are often stored: one trace is a column, in the order of the file.

    Args:
        path: of the file.
        endian: "big" or "little"; by default it is recognised by the file's sample format.

    Returns:
        The values ``(nz, nx)`` in single precision, and the spacing ``(dz, dx)`` in metres: dz is the sampling interval
        taken as millimetres, as is usual for sections in depth, dx comes from equal steps in CDP_X or else GroupX. Each
        is None where the headers do not have it. In recordings the sampling interval is a time.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if segyio is not installed.
        ValueError: for a file that is cut off or not SEG-Y, or has values that are not finite.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=(40, 60), spacing=(5.0, 12.5), dt=1e-3, nt=100)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.segy.write_model(f"{folder}/vp.sgy", np.full(grid.shape, 2000.0), grid)
    ...     vp, spacing = jf.io.segy.read_model(f"{folder}/vp.sgy")
    >>> vp.shape, spacing
    ((40, 60), (5.0, 12.5))
    """
    path = existing(path)
    with opened(path, endian) as file:
        feet, interval = feet_and_interval(file)
        interval = interval or int(file.attributes(117)[0][0]) % 2**16
        model = np.ascontiguousarray(traces_of(file, np.arange(file.tracecount)).T)
        scalar = np.asarray(file.attributes(71)[:])
        lines = [scaled(np.asarray(file.attributes(byte)[:]), scalar) for byte in (181, 81)]
    unit = 0.3048 if feet else 1.0
    steps = [np.diff(x) for x in lines]
    # Coordinates are integers: steps of 12.5 m may be written as 12 and 13.
    dx = [x[-1] - x[0] for x, d in zip(lines, steps, strict=True) if len(d) and d.min() > 0 and np.ptp(d) <= 1.0]
    dz = None if interval == 0 else unit * interval / 1e3
    return checked(str(path), model), (dz, unit * float(dx[0]) / (model.shape[1] - 1) if dx else None)


def write_model(path: str | os.PathLike, model: Any, grid: Grid, *, endian: str = "big") -> None:
    """Write a 2D model as a section, in which one trace is a column, in IEEE floats of single precision. The file is
    written completely or not at all.

    Args:
        path: of the file; one of that name is replaced.
        model: ``(nz, nx)``, of the grid's shape.
        grid: gives the spacing, which must be a whole number of millimetres up to 65535 in depth.
        endian: "big", as in the standard, or "little".

    Raises:
        ImportError: if segyio is not installed.
        ValueError: for values that SEG-Y cannot store or that are not finite, or a model that does not fit the grid.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=(40, 60), spacing=10.0, dt=1e-3, nt=100)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.segy.write_model(f"{folder}/vp.sgy", np.full(grid.shape, 2000.0), grid)
    """
    check_grid(grid)
    model = np.asarray(model)
    if model.ndim != 2:
        raise ValueError(f"model must be (nz, nx), got shape {model.shape}: SEG-Y sections have two dimensions.")
    model = checked("model", model, grid)
    dz, dx = grid.spacing
    interval = whole_units("the grid's spacing in depth", dz, 1e-3, "millimetres")
    x = dx * np.arange(model.shape[1])
    scalar = scalar_of(x)
    text = ["Section in depth, written by jaxfwi", "Sampling interval in millimetres"]
    with (
        written_whole(path) as temporary,
        created(temporary, len(x), len(model), interval, endian, text) as file,
    ):
        for column, at in enumerate(x):
            where = round(at * abs(scalar))
            add_trace(file, column, model[:, column], interval, {21: column + 1, 29: 1, 71: scalar, 181: where, 89: 1})
