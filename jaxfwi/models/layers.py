"""Two layers, and the water on top of a model."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxfwi._checks import check_grid, is_number, positive_number
from jaxfwi.grid.grid import Grid

__all__ = ["WATER_VELOCITY", "is_water", "two_layers"]

WATER_VELOCITY = 1500.0  # m/s


def two_layers(
    grid: Grid, depth: float | None = None, upper: float = 1500.0, lower: float = 2000.0
) -> NDArray[np.float32]:
    """Two homogeneous layers with a flat interface, in one, two or three dimensions.

    Args:
        grid: of the model.
        depth: of the interface, in metres: cells above it have the velocity ``upper``, cells at it or below have
            ``lower``. By default half of the cells, rounded down, are in the upper layer.
        upper: velocity above the interface, m/s.
        lower: velocity below it, m/s.

    Returns:
        The velocity in m/s, float32, of the grid's shape.

    Raises:
        ValueError: if ``depth`` lies outside the model or a velocity is not positive.

    >>> import jaxfwi as jf
    >>> grid = jf.Grid(shape=4, spacing=10.0, dt=1e-3, nt=100)
    >>> jf.models.two_layers(grid, depth=10.0)
    array([1500., 2000., 2000., 2000.], dtype=float32)
    """
    check_grid(grid)
    upper, lower = positive_number("upper", upper, "number in m/s"), positive_number("lower", lower, "number in m/s")
    cells, spacing = grid.shape[0], grid.spacing[0]
    if depth is None:
        in_upper = cells // 2
    else:
        if not is_number(depth) or not 0 <= depth <= cells * spacing:
            raise ValueError(f"depth must lie between 0 and {cells * spacing:g} metres, got {depth!r}.")
        in_upper = math.ceil(depth / spacing - 1e-6)  # an interface at a node, but for rounding, lies at that node
    vp = np.full(grid.shape, lower, np.float32)
    vp[:in_upper] = upper
    return vp


def is_water(vp: ArrayLike, water_velocity: float = WATER_VELOCITY) -> NDArray[np.bool_]:
    """True in the water: in the cells of each column from the top down to the first that is faster than water.

    Slow rock below the sea bed, such as a gas-filled lens, is not water however slow it is.

    Args:
        vp: velocity in m/s, any number of dimensions, depth first.
        water_velocity: greatest velocity of water, m/s.

    Returns:
        A boolean array of ``vp``'s shape. Its inverse ``~water`` is the mask of the cells that an inversion may change.

    Raises:
        ValueError: if ``vp`` is a single number or ``water_velocity`` is not positive.

    >>> import jaxfwi as jf
    >>> jf.models.is_water([1500.0, 1500.0, 2000.0, 1400.0])
    array([ True,  True, False, False])
    """
    vp = np.asarray(vp)
    if vp.ndim == 0:
        raise ValueError("vp must be an array with depth along its first axis, got a single number.")
    water_velocity = positive_number("water_velocity", water_velocity, "number in m/s")
    rounding = 1e-6  # in float32 a water velocity such as 1480.3 is only nearly that number
    return np.logical_and.accumulate(vp <= water_velocity * (1 + rounding), axis=0)
