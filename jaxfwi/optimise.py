"""What is done to a gradient before it becomes an update: optax transformations for models.

They chain with those of optax, as ``optax.chain(smooth(2.0), optax.adam(10.0))``, and take any PyTree of arrays. What
they need of a model's size they keep in their state, so that it is an argument of the compiled program.

Parameters are treated differently by `optax.partition`: a model of labels says which transformation is whose.

>>> import jax.numpy as jnp, optax, jaxfwi as jf
>>> from jaxfwi.optimise import smooth
>>> optimizer = optax.partition(
...     {"fast": optax.chain(smooth(2.0), optax.sgd(10.0)), "slow": optax.sgd(1.0), "frozen": optax.set_to_zero()},
...     jf.Elastic(vp="fast", vs="slow", rho="frozen"))
>>> model = jf.Elastic(vp=jnp.full(4, 2000.0), vs=jnp.full(4, 1000.0), rho=jnp.full(4, 2200.0))
>>> gradient = jf.Elastic(vp=jnp.ones(4), vs=jnp.ones(4), rho=jnp.ones(4))
>>> updates, _ = optimizer.update(gradient, optimizer.init(model), model)
>>> [round(float(x[0]), 3) for x in (updates.vp, updates.vs, updates.rho)]
[-10.0, -1.0, 0.0]
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from numpy.typing import ArrayLike

from jaxfwi._checks import as_integer, is_concrete
from jaxfwi.grid.grid import Grid

__all__ = ["added", "clamp", "mute", "precondition", "smooth", "truncated_gauss_newton"]

DARKEST = 0.01  # of the greatest illumination, below which it is not compensated


class SmoothState(NamedTuple):
    """One over the sum of the weights of a cell's neighbours; 0 in cells that are kept."""

    weight: Any


class MuteState(NamedTuple):
    """What updates are multiplied by, an array of the grid's shape."""

    taper: Array


class PreconditionState(NamedTuple):
    """What updates are multiplied by, like the model."""

    factor: Any


class TruncatedGaussNewtonState(NamedTuple):
    """Of the last update: Hessian products taken, and the residual left, as a part of the gradient.

    Args:
        products: int.
        residual: norm of what the update leaves of the linear system, over that of its right side.
        inverse: of the diagonal that preconditions, like the model; None if there is none.
    """

    products: Array
    residual: Array
    inverse: Any


def added(*transformations: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Adds the updates that several transformations make of the same gradient.

    With a smoothing before and after each, an optimiser for the model's long wavelengths works beside one for its short
    ones: a model ``m = S_1 a_1 + S_2 a_2 + ...`` has the gradients ``S_i^T g`` by its parts (`smooth` is symmetric but
    near edges and cells that are kept), and Adam, whose steps are as long in all unknowns, moves what is smooth as fast
    as what is not (a multilevel preconditioner; Bramble, Pasciak & Xu 1990, Mathematics of Computation 55, 1-22).

    Args:
        transformations: of the gradient; extra arguments go to each that takes them.

    Raises:
        ValueError: for none.

    >>> import jax.numpy as jnp, optax
    >>> short, long = (
    ...     optax.chain(smooth(cells), optax.adam(rate), smooth(cells)) for cells, rate in ((2.0, 12.0), (9.0, 8.0)))
    >>> both, update = added(short, long), jnp.ones(20)
    >>> both.update(update, both.init(update))[0][0].round(3).item()
    -20.0
    """
    if not transformations:
        raise ValueError("added() needs one transformation or more.")
    parts = [optax.with_extra_args_support(part) for part in transformations]

    def init(params):
        return tuple(part.init(params) for part in parts)

    def update(updates, state, params=None, **extra_args):
        done = [part.update(updates, s, params, **extra_args) for part, s in zip(parts, state, strict=True)]
        return jax.tree.map(lambda *of_parts: sum(of_parts), *(u for u, _ in done)), tuple(s for _, s in done)

    return optax.GradientTransformationExtraArgs(init, update)


def smooth(length: Any, keep: Any = None) -> optax.GradientTransformation:
    """Smooths updates with a Gaussian, as `models.smooth` a model with ``slowness=False``.

    Each cell becomes the mean of its neighbours, weighted by the Gaussian and divided by the sum of the weights: a
    constant stays, to the edges, and nothing comes from cells that are kept. (Near them this is not its own transpose.)

    Args:
        length: standard deviation in cells, one number or one per axis; or like the model, with these for leaves. 0
            leaves an axis alone.
        keep: True in cells that keep their values and enter no mean, as those of the water: a boolean array of the
            grid's shape, or like the model. By default none.

    Raises:
        ValueError: for a length that cannot be; at ``init`` for arguments that do not fit the model.

    >>> import jax.numpy as jnp
    >>> smoother, update = smooth(1.0, keep=jnp.arange(6) < 2), jnp.array([9.0, 9.0, 1.0, 1.0, 1.0, 1.0])
    >>> smoother.update(update, smoother.init(update))[0].round(6).tolist()
    [9.0, 9.0, 1.0, 1.0, 1.0, 1.0]
    """
    for number in jax.tree.leaves(length):
        if np.ndim(number) > 1 or not np.all(np.isfinite(number) & (np.asarray(number) >= 0)):
            raise ValueError(f"length must be zero or more, in cells, got {length!r}.")

    def init(params):
        def of_parameter(x, length, keep):
            kept = np.zeros(x.shape, bool) if keep is None else np.asarray(keep)
            if kept.dtype != bool or kept.shape not in ((), x.shape):
                raise ValueError(
                    f"keep must be boolean and of the model's shape {x.shape}, got {kept.dtype} {kept.shape}."
                )
            kept = np.broadcast_to(kept, x.shape)
            weight = (~kept).astype(float)
            for axis, kernel in _kernels(length, x.shape):
                weight = np.moveaxis(np.tensordot(kernel, weight, axes=(1, axis)), 0, axis)
            return jnp.asarray(np.where(kept, 0.0, 1.0 / np.where(kept, 1.0, weight)), jnp.result_type(x))

        return SmoothState(_map(of_parameter, params, _like("length", length, params), _like("keep", keep, params)))

    def update(updates, state, params=None):
        def of_parameter(x, length, weight):
            out = jnp.where(weight == 0, 0, x)
            for axis, kernel in _kernels(length, x.shape):
                kernel = jnp.asarray(kernel, x.dtype)  # on a GPU the default precision has three digits
                out = jnp.moveaxis(jnp.tensordot(kernel, out, (1, axis), precision=lax.Precision.HIGHEST), 0, axis)
            return jnp.where(weight == 0, x, out * weight)

        return _map(of_parameter, updates, _like("length", length, updates), state.weight), state

    return optax.GradientTransformation(init, update)


def clamp(quantile: float) -> optax.GradientTransformation:
    """Cuts each parameter's updates off at a quantile of their own absolute values, as next to a source.

    Args:
        quantile: share of the cells that stay as they are, above 0 up to 1. Cells whose update is 0, as masked ones,
            are not counted.

    Raises:
        ValueError: for a quantile that cannot be.

    >>> import jax.numpy as jnp
    >>> clipper, update = clamp(0.5), jnp.array([0.0, 0.0, 1.0, -2.0, 50.0])
    >>> clipper.update(update, clipper.init(update))[0].tolist()
    [0.0, 0.0, 1.0, -2.0, 2.0]
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must lie above 0 and be at most 1, got {quantile!r}.")

    def of_parameter(x):
        size = jnp.where(x == 0, jnp.nan, jnp.abs(x))
        limit = jnp.nanquantile(size, quantile).astype(x.dtype)
        return jnp.where(jnp.isnan(limit), x, jnp.clip(x, -limit, limit))

    return optax.stateless(lambda updates, params: _map(of_parameter, updates))


def mute(grid: Grid, positions: ArrayLike, radius: float) -> optax.GradientTransformation:
    """Tapers updates to 0 at sources or receivers: by ``sin(pi r / (2 radius))^2``, r from the nearest of them.

    Args:
        grid: of the model.
        positions: metres, ``(..., ndim)``, as ``survey.source``.
        radius: metres, from which on updates stay as they are.

    Raises:
        ValueError: for positions of another number of axes or a radius that is not positive; at ``init`` for a model of
            another shape.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> muter, update = mute(jf.Grid(6, 10.0, 1e-3, 10), [[10.0]], radius=20.0), jnp.ones(6)
    >>> muter.update(update, muter.init(update))[0].round(6).tolist()
    [0.5, 0.0, 0.5, 1.0, 1.0, 1.0]
    """
    if not 0 < radius < math.inf:
        raise ValueError(f"radius must be a positive number of metres, got {radius!r}.")
    points = np.asarray(positions, float)
    if points.ndim < 1 or points.shape[-1] != grid.ndim or not np.isfinite(points).all():
        raise ValueError(f"positions must be finite metres (..., {grid.ndim}) on this grid, got shape {points.shape}.")
    taper = _taper(grid, np.unique(points.reshape(-1, grid.ndim), axis=0), radius)

    def init(params):
        leaves = jax.tree.leaves(params)
        for x in leaves:
            if jnp.shape(x) != grid.shape:
                raise ValueError(f"the model has shape {jnp.shape(x)}, but is muted on a grid of shape {grid.shape}.")
        return MuteState(jnp.asarray(taper, jnp.result_type(*leaves) if leaves else None))

    def update(updates, state, params=None):
        return _map(lambda x: x * state.taper.astype(x.dtype), updates), state

    return optax.GradientTransformation(init, update)


def precondition(diagonal: Any, damping: float = DARKEST, normalize: bool = True) -> optax.GradientTransformation:
    """Divides updates by the diagonal of a Hessian, which evens the illumination out: by ``diagonal + damping max``,
    with the max of each parameter's diagonal (Shin, Jang & Min 2001, Geophysical Prospecting 49, 592-606).

    Args:
        diagonal: like the model, 0 or more, as of `gauss_newton_diagonal`. Multiply it by the inversion's mask where
            the brightest cells are masked, since damping is relative to the brightest.
        damping: above 0; the darkest cells are raised by ``(1 + damping) / damping``, 101 by default.
        normalize: multiply by ``(1 + damping) max``, so that where it is brightest updates stay as they are, and an
            optimiser's scale keeps its meaning. False leaves steps of the Newton kind, of the parameters' units, with
            ``optax.sgd(1.0)`` or less.

    A parameter whose diagonal is 0 everywhere gets no update.

    Raises:
        ValueError: for a diagonal that is not finite or below 0, a damping that cannot be; at ``init`` for a diagonal
            that does not fit the model.

    >>> import jax.numpy as jnp
    >>> even, update = precondition(jnp.array([4.0, 1.0, 0.0]), damping=0.25), jnp.ones(3)
    >>> even.update(update, even.init(update))[0].tolist()
    [1.0, 2.5, 5.0]
    """
    if not 0 < damping < math.inf:
        raise ValueError(f"damping must be a positive number, got {damping!r}.")
    _check_diagonal(diagonal)

    def init(params):
        def of_parameter(x, diagonal):
            inverse, most = _inverse(diagonal, damping, x)
            return inverse * ((1.0 + damping) * most) if normalize else inverse

        return PreconditionState(_map(of_parameter, params, _like("diagonal", diagonal, params)))

    def update(updates, state, params=None):
        return _map(operator.mul, updates, state.factor), state

    return optax.GradientTransformation(init, update)


def truncated_gauss_newton(
    iterations: int = 5, damping: Any = 0.0, tolerance: float = 0.1, diagonal: Any = None
) -> optax.GradientTransformationExtraArgs:
    """Updates by a few conjugate gradients on the Gauss-Newton system ``(H + damping I) p = -g`` (Métivier, Brossier,
    Virieux & Operto 2013, SIAM Journal on Scientific Computing 35, B401-B437; Métivier, Brossier, Operto & Virieux
    2017, SIAM Review 59, 153-195).

    The update is p itself, to be added: no learning rate and no sign follow, but
    ``optax.scale_by_backtracking_linesearch(10)`` may, in a chain. The gradient g is what comes in.

    Conjugate gradients start from 0 and end after `iterations` products, when the residual is `tolerance` of g, or
    before a direction of curvature not above 0; if that is the first, it is the update (Nocedal & Wright 2006,
    *Numerical optimization*, Springer, algorithm 7.1), and a line search must mind its length.

    ``update`` takes the extra argument ``gauss_newton_fn(direction)``, the product of H with what is like the model;
    `invert` passes it. Under `optax.partition` the Hessian is that of the group's parameters; this needs the extra
    argument ``grad`` too, which is like the whole model.

    Args:
        iterations: products for an update, at most.
        damping: 0 or more, in the unit of H: a number, or like the model, numbers.
        tolerance: from 0 to below 1.
        diagonal: estimate of H's diagonal like the model, as of `gauss_newton_diagonal`, by which to precondition;
            damped as `precondition` does by default. By default not.

    Raises:
        ValueError: for arguments that cannot be; in ``update``, if ``gauss_newton_fn`` is missing.

    >>> import jax.numpy as jnp
    >>> solver, model, curvature = truncated_gauss_newton(2), jnp.zeros(2), jnp.array([1.0, 4.0])
    >>> gradient = curvature * (model - 3.0)
    >>> update, state = solver.update(gradient, solver.init(model), gauss_newton_fn=lambda d: curvature * d)
    >>> update.round(6).tolist(), int(state.products)
    ([3.0, 3.0], 2)
    """
    iterations = as_integer("iterations", iterations, 1)
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must lie from 0 to below 1, got {tolerance!r}.")
    for number in jax.tree.leaves(damping):
        if np.ndim(number) or (is_concrete(number) and not 0 <= number < np.inf):
            raise ValueError(f"damping must be a number, 0 or more, or like the model, numbers, got {damping!r}.")
    if diagonal is not None:
        _check_diagonal(diagonal)

    def init(params):
        dampings = _like("damping", damping, params)
        inverse = None
        if diagonal is not None:
            diagonals = _like("diagonal", diagonal, params)
            inverse = _map(lambda x, d, e: _inverse(d, DARKEST, x, e)[0], params, diagonals, dampings)
        dtype = jnp.result_type(*jax.tree.leaves(params)) if jax.tree.leaves(params) else None
        return TruncatedGaussNewtonState(jnp.zeros((), jnp.int32), jnp.ones((), dtype), inverse)

    def update(updates, state, params=None, *, gauss_newton_fn=None, grad=None, **extra):
        if gauss_newton_fn is None:
            raise ValueError(
                "truncated_gauss_newton needs the extra argument gauss_newton_fn, a function of a direction that gives "
                "the Gauss-Newton Hessian times it. jaxfwi.invert passes it; in a loop of your own call "
                "optimizer.update(gradient, state, model, gauss_newton_fn=lambda direction: ...)."
            )
        if not jax.tree.leaves(updates):  # a group of optax.partition without a member
            return updates, state
        product = _of_group(gauss_newton_fn, updates, grad)
        dampings = _like("damping", damping, updates)

        def damped(direction):
            parts = product(direction)
            return _map(lambda d, h, e: (h + jnp.asarray(e, d.dtype) * d).astype(d.dtype), direction, parts, dampings)

        def preconditioned(residual):
            return residual if state.inverse is None else _map(operator.mul, residual, state.inverse)

        # Single precision squares no gradient of 1e-25: the system is solved for one whose largest value is 1.
        largest = functools.reduce(jnp.maximum, (jnp.max(jnp.abs(x)) for x in jax.tree.leaves(updates)))
        scale = jnp.where(largest > 0, largest, 1)
        right = _map(lambda x: -x / scale.astype(x.dtype), updates)
        solution, products, residual = _conjugate_gradients(damped, preconditioned, right, iterations, tolerance)
        state = state._replace(products=products, residual=residual.astype(state.residual.dtype))
        return _map(lambda x: x * scale.astype(x.dtype), solution), state

    return optax.GradientTransformationExtraArgs(init, update)


def _conjugate_gradients(
    apply: Callable[[Any], Any], preconditioned: Callable[[Any], Any], right: Any, iterations: int, tolerance: float
) -> tuple[Any, Array, Array]:
    """The solution of ``apply(x) = right`` as far as it goes, the products taken, and the residual over the right."""
    norm = jnp.sqrt(_dot(right, right))
    zero = _map(jnp.zeros_like, right)
    first = preconditioned(right)

    def going_on(carry):
        count, _, residual, _, _, convex = carry
        return (count < iterations) & convex & (jnp.sqrt(_dot(residual, residual)) > tolerance * norm)

    def step(carry):
        count, solution, residual, direction, slope, _ = carry
        product = apply(direction)
        curvature = _dot(direction, product)
        convex = curvature > 0
        size = jnp.where(convex, slope / jnp.where(convex, curvature, 1), jnp.where(count == 0, 1, 0))
        solution = _plus(solution, size, direction)
        residual = _plus(residual, jnp.where(convex, -size, 0), product)
        steepest = preconditioned(residual)
        new = _dot(residual, steepest)
        direction = _plus(steepest, new / jnp.where(slope > 0, slope, 1), direction)
        return count + 1, solution, residual, direction, new, convex

    start = (jnp.zeros((), jnp.int32), zero, right, first, _dot(right, first), jnp.asarray(True))
    count, solution, residual, *_ = lax.while_loop(going_on, step, start)
    return solution, count, jnp.sqrt(_dot(residual, residual)) / jnp.where(norm > 0, norm, 1)


def _of_group(gauss_newton_fn: Callable[[Any], Any], updates: Any, grad: Any) -> Callable[[Any], Any]:
    """The product for directions that lack what belongs to other groups of `optax.partition`."""
    if not any(_masked(x) for x in jax.tree.leaves(updates, is_leaf=_masked)):
        return gauss_newton_fn
    if grad is None:
        raise ValueError(
            "truncated_gauss_newton under optax.partition or optax.masked needs the extra argument grad, the gradient "
            "of the whole model. jaxfwi.invert passes it; in a loop of your own call optimizer.update(..., grad=...)."
        )

    def product(direction):
        fill = jax.tree.map(lambda x, g: jnp.zeros_like(g) if _masked(x) else x, direction, grad, is_leaf=_masked)
        return _map(lambda x, h: h, direction, gauss_newton_fn(fill))

    return product


def _plus(a: Any, factor: Array, b: Any) -> Any:
    return _map(lambda x, y: x + factor.astype(x.dtype) * y, a, b)


def _dot(a: Any, b: Any) -> Array:
    return functools.reduce(operator.add, map(jnp.vdot, jax.tree.leaves(a), jax.tree.leaves(b)))


def _inverse(diagonal: Any, damping: float, x: Any, more: Any = 0.0) -> tuple[Array, Array]:
    """One over a damped diagonal, 0 if all of it is 0; and its largest value."""
    if jnp.shape(diagonal) not in ((), jnp.shape(x)):
        raise ValueError(f"diagonal must be of the model's shape {jnp.shape(x)}, got {jnp.shape(diagonal)}.")
    diagonal = jnp.broadcast_to(jnp.asarray(diagonal, jnp.result_type(x)), jnp.shape(x))
    most = jnp.max(diagonal)
    scale = jnp.where(most > 0, most, 1)  # single precision divides numbers of about 1
    inverse = 1.0 / (diagonal / scale + damping + jnp.asarray(more, diagonal.dtype) / scale) / scale
    return jnp.where(most > 0, inverse, 0), most


def _check_diagonal(diagonal: Any) -> None:
    for x in jax.tree.leaves(diagonal):
        if is_concrete(x) and not (np.isfinite(x).all() and np.min(x) >= 0):
            raise ValueError("diagonal must be finite and nowhere below 0, as of jaxfwi.gauss_newton_diagonal.")


def _kernels(length: Any, shape: tuple[int, ...]) -> list[tuple[int, np.ndarray]]:
    """The axes to smooth, each with its Gaussian as a dense matrix: nothing truncated, nothing padded."""
    lengths = np.atleast_1d(np.asarray(length, float))
    if lengths.shape not in ((1,), (len(shape),)):
        raise ValueError(f"length must be one number or one per axis of the model's shape {shape}, got {length!r}.")
    out = []
    for axis, sigma in enumerate(np.broadcast_to(lengths, len(shape)).tolist()):
        if sigma > 0:
            cell = np.arange(shape[axis])
            with np.errstate(under="ignore"):
                out.append((axis, np.exp(-0.5 * ((cell[:, None] - cell) / sigma) ** 2)))
    return out


def _taper(grid: Grid, points: np.ndarray, radius: float) -> np.ndarray:
    """0 at the points, 1 from `radius` on; around each only the cells that it reaches are looked at."""
    square = np.full(grid.shape, radius**2)
    for point in points:
        axes, window = [], []
        for x, h, n in zip(point, grid.spacing, grid.shape, strict=True):
            near, far = np.clip([math.ceil((x - radius) / h), math.floor((x + radius) / h) + 1], 0, n)
            window.append(slice(near, far))
            axes.append((np.arange(near, far) * h - x) ** 2)
        away = functools.reduce(np.add.outer, axes)
        square[tuple(window)] = np.minimum(square[tuple(window)], away)
    return np.sin(0.5 * np.pi * np.sqrt(square) / radius) ** 2


def _masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _map(function: Callable, tree: Any, *others: Any) -> Any:
    """`jax.tree.map` that leaves alone what `optax.partition` and `optax.masked` put in place of others' parameters."""
    return jax.tree.map(lambda x, *o: x if _masked(x) else function(x, *o), tree, *others, is_leaf=_masked)


def _like(name: str, given: Any, tree: Any) -> Any:
    """What is given for each array of a tree: one thing for all, unless it is like the tree."""
    one = (
        given is None
        or type(given) in (tuple, list)
        or isinstance(given, int | float | np.generic | np.ndarray | Array)
    )
    try:
        return _map((lambda x: given) if one else (lambda x, g: g), tree, *(() if one else (given,)))
    except ValueError:
        raise ValueError(f"{name} must be one for all parameters or like the model, got {given!r}.") from None
