"""A cutout of the model for each shot: the cells around its source and receivers, of one size for all shots."""

import math
from collections.abc import Sequence

import numpy as np

from jaxfwi._checks import is_concrete
from jaxfwi.grid.grid import Grid
from jaxfwi.survey.survey import Survey

__all__ = ["Aperture", "cutouts"]

Aperture = float | Sequence[float] | None


def cutouts(grid: Grid, survey: Survey, aperture: float | Sequence[float]) -> tuple[tuple[int, ...], np.ndarray]:
    """The shape of the shots' cutouts, and the first cell of each.

    Args:
        grid: of the whole model.
        survey: the shots; their positions must be known.
        aperture: metres of model kept beyond a shot's outermost source and receiver on either side along the
            horizontal axes, one number or one per axis. All depths are kept.

    Returns:
        The shape, which fits the widest shot, and the first cell for each shot, ``(shots, ndim)``.

    Raises:
        ValueError: for an aperture that cannot be, or positions that are being traced.
    """
    horizontal = grid.ndim - 1
    given = tuple(float(a) for a in np.atleast_1d(np.asarray(aperture, float)))
    given = given * horizontal if len(given) == 1 else given
    if not horizontal:
        raise ValueError(
            f"aperture = {aperture} needs a horizontal axis, and a grid of one axis has none: leave it out."
        )
    if len(given) != horizontal:
        raise ValueError(
            f"aperture must be one number or one for each of the grid's {horizontal} horizontal axes, got {aperture}."
        )
    if not all(math.isfinite(a) and a >= 0 for a in given):
        raise ValueError(f"aperture must be a finite number of metres, 0 or more, got {aperture}.")
    if not is_concrete(survey.source, survey.receiver):
        raise ValueError(
            "aperture needs to know the survey's positions: leave it out under jit, vmap or grad over the survey, or "
            "close over the survey."
        )
    points = np.concatenate([np.asarray(survey.source), np.asarray(survey.receiver)], axis=1)
    cells, spacing = np.array(grid.shape), np.array(grid.spacing)
    margin = np.array([np.inf, *given])
    first = np.maximum(np.floor((points.min(axis=1) - margin) / spacing + 1e-3), 0).astype(int)
    last = np.minimum(np.ceil((points.max(axis=1) + margin) / spacing - 1e-3), cells - 1).astype(int)
    size = (last - first).max(axis=0) + 1
    start = np.clip((first + last + 1 - size) // 2, 0, cells - size)
    return tuple(size.tolist()), start.astype(np.int32)
