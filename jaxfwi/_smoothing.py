"""Gaussian smoothing along the axes of a grid: of models and of updates."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxfwi.grid.grid import Grid

__all__ = ["blur", "check_lengths", "gaussians"]


def check_lengths(length: object) -> None:
    """Raise a ValueError for lengths that are negative or not finite; they may be a tree of numbers."""
    for number in jax.tree.leaves(length):
        if np.ndim(number) > 1 or not np.all(np.isfinite(number) & (np.asarray(number) >= 0)):
            raise ValueError(f"length must be zero or more metres, got {length!r}.")


def gaussians(length: float | Sequence[float], grid: Grid) -> list[tuple[int, np.ndarray]]:
    """The axes that are smoothed, each with the matrix of Gaussian weights between any two of its cells: nothing is
    truncated, nothing padded.

    Args:
        length: standard deviation in metres, one number or one per axis; 0 leaves an axis alone.
        grid: gives the spacing.

    >>> found = gaussians((20.0, 0.0), Grid((2, 2), 20.0, 1e-3, 10))
    >>> [(axis, weights.round(2).tolist()) for axis, weights in found]
    [(0, [[1.0, 0.61], [0.61, 1.0]])]
    """
    lengths = np.asarray(length, float)
    if lengths.shape not in ((), (grid.ndim,)):
        raise ValueError(f"length must be one number or one per axis, {grid.ndim} in all, got {length!r}.")
    out = []
    for axis, metres in enumerate(np.broadcast_to(lengths, grid.ndim).tolist()):
        if metres > 0:
            cell = np.arange(grid.shape[axis])
            with np.errstate(under="ignore"):
                weights = np.exp(-0.5 * ((cell[:, None] - cell) / (metres / grid.spacing[axis])) ** 2)
            out.append((axis, weights))
    return out


def blur(array: np.ndarray, kernels: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """The sum over cells, weighted by the Gaussians."""
    for axis, weights in kernels:
        array = np.moveaxis(np.tensordot(weights, array, axes=(1, axis)), 0, axis)
    return array
