"""Start models for inversions, made from another model: smoothed, or linear in depth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxfwi._checks import as_mask, check_grid, check_shape, positive_number
from jaxfwi._smoothing import blur, check_lengths, gaussians
from jaxfwi.grid.grid import Grid

__all__ = ["linear_in_depth", "smooth"]

FloatArray = NDArray[np.floating[Any]]


def smooth(
    model: ArrayLike,
    grid: Grid,
    length: float | Sequence[float],
    mask: ArrayLike | None = None,
    slowness: bool = True,
) -> FloatArray:
    """Smooth a model with a Gaussian, for instance to make a start model for an inversion.

    A wave of wavenumber ``k`` per metre keeps ``exp(-(k length)² / 2)`` of its amplitude: wavelengths below twice
    ``length`` are gone (less than 1% is left), those above fifteen times ``length`` stay (more than 90%).

    By default the average is taken of slowness, ``1 / model``. The time a wave takes along a path is the sum of the
    slownesses on it, so smoothing slowness keeps traveltimes, and with them the kinematics that an inversion must start
    from; smoothing velocity would make traveltimes too short. Pass ``slowness=False`` for anything that is not a
    velocity: density, a gradient, an update.

    The average of a cell is taken over the model's cells only, weighted by the Gaussian and divided by the sum of the
    weights. Edges are therefore neither darkened nor mirrored, and a constant stays constant.

    Args:
        model: the model, of the grid's shape.
        grid: gives the spacing.
        length: standard deviation of the Gaussian in metres, one number or one per axis; 0 leaves an axis alone.
        mask: True in cells that may change. The others, such as those of the water, keep their value exactly and do not
            enter the average of any other cell. By default all cells change.
        slowness: average ``1 / model``, the default, instead of ``model``.

    Returns:
        The smoothed model, of the grid's shape, float64 if ``model`` is, float32 otherwise.

    Raises:
        ValueError: if the model or the mask does not have the grid's shape, ``length`` is negative or not one number
            per axis, or a smoothed cell is not finite or, with ``slowness``, not positive.

    >>> import jaxfwi as jf
    >>> grid = jf.Grid(shape=6, spacing=10.0, dt=1e-3, nt=100)
    >>> vp = jf.models.two_layers(grid, depth=20.0, upper=1500.0, lower=3000.0)
    >>> jf.models.smooth(vp, grid, 20.0, mask=~jf.models.is_water(vp))
    array([1500., 1500., 3000., 3000., 3000., 3000.], dtype=float32)
    """
    check_grid(grid)
    model = _as_float(model)
    check_shape("model", model.shape, grid)
    check_lengths(length)
    kernels = gaussians(length, grid)
    changes = as_mask(mask, grid.shape)
    if not np.isfinite(model[changes]).all():
        raise ValueError("model must be finite in every cell that is smoothed.")
    if slowness and not (model[changes] > 0).all():
        raise ValueError("model must be positive where it is smoothed in slowness; pass slowness=False to average it.")

    safe = np.where(changes, model, 1.0).astype(np.float64)
    total = blur(np.where(changes, 1 / safe if slowness else safe, 0.0), kernels)
    weight = np.where(changes, blur(changes.astype(np.float64), kernels), 1.0)
    mean = total / weight
    if slowness:
        mean = 1 / np.where(changes, mean, 1.0)
    return np.where(changes, mean, model).astype(model.dtype)


def linear_in_depth(
    vp: ArrayLike, mask: ArrayLike | None = None, top: float | None = None, bottom: float | None = None
) -> FloatArray:
    """Replace a model by one that is linear in depth below the sea bed: a start model without any structure.

    Depth is counted in each column from its first cell that may change. A velocity that is not given is fitted to
    ``vp`` by least squares over the cells that may change.

    Args:
        vp: velocity in m/s, any number of dimensions, depth first.
        mask: True in cells that may change. The others, such as those of the water, keep their value exactly. By
            default all cells change.
        top: velocity in m/s of the first cell below the sea bed. Fitted by default.
        bottom: velocity in m/s at the greatest depth below the sea bed that the model reaches. Fitted by default.

    Returns:
        The model, of ``vp``'s shape, float64 if ``vp`` is, float32 otherwise.

    Raises:
        ValueError: if ``vp`` is a single number, ``mask`` is not one of its shape, or ``top`` or ``bottom`` is not
            positive.

    >>> import jaxfwi as jf
    >>> grid = jf.Grid(5, 10.0, 1e-3, 100)
    >>> vp = jf.models.two_layers(grid, depth=10.0, upper=1500.0, lower=2500.0)
    >>> rock = ~jf.models.is_water(vp)
    >>> jf.models.linear_in_depth(vp, mask=rock, top=1600.0, bottom=2200.0)
    array([1500., 1600., 1800., 2000., 2200.], dtype=float32)
    """
    vp = _as_float(vp)
    if vp.ndim == 0:
        raise ValueError("vp must be an array with depth along its first axis, got a single number.")
    changes = as_mask(mask, vp.shape)
    ends = {
        name: value if value is None else positive_number(name, value, "number in m/s")
        for name, value in (("top", top), ("bottom", bottom))
    }
    if not changes.any():
        return vp.copy()

    cell = np.arange(vp.shape[0]).reshape((-1,) + (1,) * (vp.ndim - 1))
    depth = (cell - np.argmax(changes, axis=0)).astype(np.float64)
    fraction = depth / max(depth[changes].max(), 1.0)
    # vp = top (1 - fraction) + bottom fraction: given ends go to the left-hand side, the others are fitted.
    coefficients = {"top": 1 - fraction[changes], "bottom": fraction[changes]}
    unknown = [name for name, value in ends.items() if value is None]
    if unknown:
        rest = vp[changes] - sum(coefficients[name] * value for name, value in ends.items() if value is not None)
        fitted = np.linalg.lstsq(np.stack([coefficients[name] for name in unknown], axis=1), rest, rcond=None)[0]
        ends.update(zip(unknown, fitted.tolist(), strict=True))
    line = ends["top"] * (1 - fraction) + ends["bottom"] * fraction
    return np.where(changes, line, vp).astype(vp.dtype)


def _as_float(array: ArrayLike) -> FloatArray:
    array = np.asarray(array)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
