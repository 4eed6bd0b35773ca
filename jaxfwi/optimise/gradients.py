"""Smoothing, clipping, muting and adding of gradients."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from numpy.typing import ArrayLike

from jaxfwi._checks import as_mask, check_grid, check_shape
from jaxfwi._smoothing import blur, check_lengths, gaussians
from jaxfwi._trees import for_each, tree_map
from jaxfwi.grid.grid import Grid

__all__ = ["clip_quantile", "mute", "smooth", "sum_of"]


class SmoothState(NamedTuple):
    """One over the sum of the weights of a cell's neighbours, like the model; 0 in cells that stay."""

    weight: Any


class MuteState(NamedTuple):
    """The factors by which updates are multiplied, an array of the grid's shape."""

    taper: Array


def sum_of(*transformations: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Adds up the updates that several transformations make of the same gradient.

    With a smoothing before and after each of them, an optimiser for the model's long wavelengths works beside one for
    its short ones: for a model ``m = S_1 a_1 + S_2 a_2 + ...`` the gradient with respect to ``a_i`` is ``S_i^T g``
    (`smooth` is symmetric except near edges and cells that stay), and Adam, whose steps are equally long in all
    unknowns, moves smooth parts as fast as rough ones (a multilevel preconditioner; Bramble, Pasciak & Xu 1990,
    Mathematics of Computation 55, 1-22).

    Args:
        transformations: of the gradient; extra arguments go to each that takes them.

    Raises:
        ValueError: if there are none.

    >>> import jax.numpy as jnp, optax, jaxfwi as jf
    >>> grid = jf.Grid(shape=20, spacing=10.0, dt=1e-3, nt=100)
    >>> short, long = (
    ...     optax.chain(
    ...         jf.optimise.smooth(grid, length), optax.adam(rate),
    ...         jf.optimise.smooth(grid, length))
    ...     for length, rate in ((20.0, 12.0), (90.0, 8.0)))
    >>> both, update = jf.optimise.sum_of(short, long), jnp.ones(20)
    >>> both.update(update, both.init(update))[0][0].round(3).item()
    -20.0
    """
    if not transformations:
        raise ValueError("sum_of() needs one transformation or more.")
    terms = [optax.with_extra_args_support(transformation) for transformation in transformations]

    def init(params):
        return tuple(term.init(params) for term in terms)

    def update(updates, state, params=None, **extra_args):
        results = [term.update(updates, s, params, **extra_args) for term, s in zip(terms, state, strict=True)]
        return jax.tree.map(lambda *each: sum(each), *(u for u, _ in results)), tuple(s for _, s in results)

    return optax.GradientTransformationExtraArgs(init, update)


def smooth(grid: Grid, length: Any, mask: Any = None) -> optax.GradientTransformation:
    """Smooths updates with a Gaussian, in the same way as `models.smooth` with ``slowness=False`` smooths a model.

    Each cell becomes the mean of its neighbours, weighted by the Gaussian and divided by the sum of the weights. A
    constant stays constant up to the edges, and cells that stay do not enter any mean. (Near these the smoothing is not
    its own transpose.)

    Args:
        grid: of the model.
        length: standard deviation in metres, one number or one per axis; or like the model, with these for leaves. 0
            leaves an axis alone.
        mask: True in cells that may change. The others, such as those of the water, keep their values and enter no
            mean. An array of the grid's shape, or like the model. By default all cells change.

    Raises:
        ValueError: for an invalid length; at ``init`` for arguments that do not fit the model.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=6, spacing=10.0, dt=1e-3, nt=100)
    >>> smoother = jf.optimise.smooth(grid, 10.0, mask=jnp.arange(6) >= 2)
    >>> update = jnp.array([9.0, 9.0, 1.0, 1.0, 1.0, 1.0])
    >>> smoother.update(update, smoother.init(update))[0].round(6).tolist()
    [9.0, 9.0, 1.0, 1.0, 1.0, 1.0]
    """
    check_grid(grid)
    check_lengths(length)

    def init(params):
        def of_parameter(x, length, mask):
            check_shape("the model", jnp.shape(x), grid)
            changes = as_mask(mask, grid.shape)
            weight = blur(changes.astype(float), gaussians(length, grid))
            return jnp.asarray(np.where(changes, 1.0 / np.where(changes, weight, 1.0), 0.0), jnp.result_type(x))

        lengths, masks = for_each("length", length, params), for_each("mask", mask, params)
        return SmoothState(tree_map(of_parameter, params, lengths, masks))

    def update(updates, state, params=None):
        def of_parameter(x, length, weight):
            out = jnp.where(weight == 0, 0, x)
            for axis, kernel in gaussians(length, grid):
                kernel = jnp.asarray(kernel, x.dtype)  # on a GPU the default precision has three digits
                out = jnp.moveaxis(jnp.tensordot(kernel, out, (1, axis), precision=lax.Precision.HIGHEST), 0, axis)
            return jnp.where(weight == 0, x, out * weight)

        return tree_map(of_parameter, updates, for_each("length", length, updates), state.weight), state

    return optax.GradientTransformation(init, update)


def clip_quantile(quantile: float) -> optax.GradientTransformation:
    """Clips the updates of each parameter at a quantile of their own absolute values, which are large near sources.

    Args:
        quantile: fraction of the cells that stay as they are, above 0 up to 1. Cells whose update is 0, such as masked
            ones, are not counted.

    Raises:
        ValueError: for an invalid quantile.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> clipper = jf.optimise.clip_quantile(0.5)
    >>> update = jnp.array([0.0, 0.0, 1.0, -2.0, 50.0])
    >>> clipper.update(update, clipper.init(update))[0].tolist()
    [0.0, 0.0, 1.0, -2.0, 2.0]
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must lie above 0 and be at most 1, got {quantile!r}.")

    def of_parameter(x):
        size = jnp.where(x == 0, jnp.nan, jnp.abs(x))
        limit = jnp.nanquantile(size, quantile).astype(x.dtype)
        return jnp.where(jnp.isnan(limit), x, jnp.clip(x, -limit, limit))

    return optax.stateless(lambda updates, params: tree_map(of_parameter, updates))


def mute(grid: Grid, positions: ArrayLike, radius: float) -> optax.GradientTransformation:
    """Tapers updates to 0 at sources or receivers: multiplies by ``sin(pi r / (2 radius))^2`` at a distance r from the
    nearest of them.

    Args:
        grid: of the model.
        positions: metres, ``(..., ndim)``, such as ``survey.source``.
        radius: metres; updates further away than this stay as they are.

    Raises:
        ValueError: for positions of another number of axes or a radius that is not positive; at ``init`` for a model of
            another shape.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=6, spacing=10.0, dt=1e-3, nt=100)
    >>> muter, update = jf.optimise.mute(grid, [[10.0]], radius=20.0), jnp.ones(6)
    >>> muter.update(update, muter.init(update))[0].round(6).tolist()
    [0.5, 0.0, 0.5, 1.0, 1.0, 1.0]
    """
    check_grid(grid)
    if not 0 < radius < math.inf:
        raise ValueError(f"radius must be a positive number of metres, got {radius!r}.")
    points = np.asarray(positions, float)
    if points.ndim < 1 or points.shape[-1] != grid.ndim or not np.isfinite(points).all():
        raise ValueError(f"positions must be finite metres (..., {grid.ndim}) on this grid, got shape {points.shape}.")
    taper = _taper(grid, np.unique(points.reshape(-1, grid.ndim), axis=0), radius)

    def init(params):
        leaves = jax.tree.leaves(params)
        for x in leaves:
            check_shape("the model", jnp.shape(x), grid)
        return MuteState(jnp.asarray(taper, jnp.result_type(*leaves) if leaves else None))

    def update(updates, state, params=None):
        return tree_map(lambda x: x * state.taper.astype(x.dtype), updates), state

    return optax.GradientTransformation(init, update)


def _taper(grid: Grid, points: np.ndarray, radius: float) -> np.ndarray:
    """Factors from 0 at the points to 1 at `radius`. Around each point only the cells within reach are computed."""
    square = np.full(grid.shape, radius**2)
    for point in points:
        axes, near = [], []
        for x, h, n in zip(point, grid.spacing, grid.shape, strict=True):
            start, stop = np.clip([math.ceil((x - radius) / h), math.floor((x + radius) / h) + 1], 0, n)
            near.append(slice(start, stop))
            axes.append((np.arange(start, stop) * h - x) ** 2)
        distance = functools.reduce(np.add.outer, axes)
        square[tuple(near)] = np.minimum(square[tuple(near)], distance)
    return np.sin(0.5 * np.pi * np.sqrt(square) / radius) ** 2
