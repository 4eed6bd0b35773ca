"""Truncated Gauss-Newton: updates by a few conjugate gradients on the Gauss-Newton system."""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxfwi._checks import as_integer
from jaxfwi._trees import check_numbers, for_each, is_masked, tree_map
from jaxfwi.optimise.preconditioning import DEFAULT_DAMPING, check_diagonal, damped_inverse

__all__ = ["truncated_gauss_newton"]


class TruncatedGaussNewtonState(NamedTuple):
    """The cost and the accuracy of the last update.

    Args:
        products: number of Hessian products taken.
        residual: norm of the residual of the linear system after the update, divided by that of its right-hand side.
        inverse: the inverse diagonal used as a preconditioner, like the model; None if there is none.
    """

    products: Array
    residual: Array
    inverse: Any


def truncated_gauss_newton(
    iterations: int = 5, damping: Any = 0.0, tolerance: float = 0.1, diagonal: Any = None
) -> optax.GradientTransformationExtraArgs:
    """Updates by a few conjugate gradients on the Gauss-Newton system ``(H + damping I) p = -g`` (Métivier, Brossier,
    Virieux & Operto 2013, SIAM Journal on Scientific Computing 35, B401-B437; Métivier, Brossier, Operto & Virieux
    2017, SIAM Review 59, 153-195).

    g is the gradient that comes in, and the update is p itself, which is to be added to the model: no learning rate and
    no change of sign follow, but ``optax.scale_by_backtracking_linesearch(10)`` may, in a chain.

    Conjugate gradients start from 0. They end after `iterations` products, when the norm of the residual has fallen to
    `tolerance` times that of g, or before a direction whose curvature is not above 0. If that is the first direction,
    it is the update (Nocedal & Wright 2006, *Numerical optimization*, Springer, algorithm 7.1), and only a line search
    gives it a sensible length.

    ``update`` takes the extra argument ``gauss_newton_fn``, a function of a direction that is like the model, which
    returns the product of H with it; `invert` passes it. Under `optax.partition` the Hessian is that of the group's
    parameters; this needs the extra argument ``grad`` too, which is like the whole model.

    Args:
        iterations: the largest number of products for one update.
        damping: 0 or more, in the unit of H: a number, or like the model with one for each parameter.
        tolerance: from 0 to below 1.
        diagonal: an estimate of the diagonal of H as a preconditioner, like the model, as from
            `Problem.gauss_newton_diagonal`; it is damped as by the default of `precondition`. By default there is no
            preconditioner.

    Raises:
        ValueError: for invalid arguments; in ``update``, if ``gauss_newton_fn`` is missing.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> model, curvature = jnp.zeros(2), jnp.array([1.0, 4.0])
    >>> solver = jf.optimise.truncated_gauss_newton(iterations=2)
    >>> gradient = curvature * (model - 3.0)
    >>> update, state = solver.update(
    ...     gradient, solver.init(model), gauss_newton_fn=lambda d: curvature * d)
    >>> update.round(6).tolist(), int(state.products)
    ([3.0, 3.0], 2)
    """
    iterations = as_integer("iterations", iterations, 1)
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must lie from 0 to below 1, got {tolerance!r}.")
    check_numbers("damping", damping)
    if diagonal is not None:
        check_diagonal(diagonal)

    def init(params):
        dampings = for_each("damping", damping, params)
        inverse = None
        if diagonal is not None:
            diagonals = for_each("diagonal", diagonal, params)
            inverse = tree_map(lambda x, d, e: damped_inverse(d, DEFAULT_DAMPING, x, e)[0], params, diagonals, dampings)
        dtype = jnp.result_type(*jax.tree.leaves(params)) if jax.tree.leaves(params) else None
        return TruncatedGaussNewtonState(jnp.zeros((), jnp.int32), jnp.ones((), dtype), inverse)

    def update(updates, state, params=None, *, gauss_newton_fn=None, grad=None, **extra):
        if gauss_newton_fn is None:
            raise ValueError(
                "truncated_gauss_newton needs the extra argument gauss_newton_fn, a function of a direction that "
                "returns the Gauss-Newton Hessian times it. jaxfwi.invert passes it; in a loop of your own call "
                "optimizer.update(gradient, state, model, gauss_newton_fn=lambda direction: ...)."
            )
        if not jax.tree.leaves(updates):  # a group of optax.partition without members
            return updates, state
        product = _product_of_group(gauss_newton_fn, updates, grad)
        dampings = for_each("damping", damping, updates)

        def damped_product(direction):
            def of_parameter(d, h, damping):
                return (h + jnp.asarray(damping, d.dtype) * d).astype(d.dtype)

            return tree_map(of_parameter, direction, product(direction), dampings)

        def preconditioned(residual):
            return residual if state.inverse is None else tree_map(operator.mul, residual, state.inverse)

        # A gradient of 1e-25 cannot be squared in single precision: solve for one scaled to a largest value of 1.
        largest = functools.reduce(jnp.maximum, (jnp.max(jnp.abs(x)) for x in jax.tree.leaves(updates)))
        scale = jnp.where(largest > 0, largest, 1)
        right = tree_map(lambda x: -x / scale.astype(x.dtype), updates)
        solution, products, residual = _conjugate_gradients(
            damped_product, preconditioned, right, iterations, tolerance
        )
        state = state._replace(products=products, residual=residual.astype(state.residual.dtype))
        return tree_map(lambda x: x * scale.astype(x.dtype), solution), state

    return optax.GradientTransformationExtraArgs(init, update)


def _conjugate_gradients(
    apply: Callable[[Any], Any], preconditioned: Callable[[Any], Any], right: Any, iterations: int, tolerance: float
) -> tuple[Any, Array, Array]:
    """The approximate solution of ``apply(x) = right``, the number of products taken, and the norm of the residual
    divided by that of the right-hand side.
    """
    norm = jnp.sqrt(_dot(right, right))
    zero = tree_map(jnp.zeros_like, right)
    first = preconditioned(right)

    def continues(carry):
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
        new_slope = _dot(residual, steepest)
        direction = _plus(steepest, new_slope / jnp.where(slope > 0, slope, 1), direction)
        return count + 1, solution, residual, direction, new_slope, convex

    start = (jnp.zeros((), jnp.int32), zero, right, first, _dot(right, first), jnp.asarray(True))
    count, solution, residual, *_ = lax.while_loop(continues, step, start)
    return solution, count, jnp.sqrt(_dot(residual, residual)) / jnp.where(norm > 0, norm, 1)


def _product_of_group(gauss_newton_fn: Callable[[Any], Any], updates: Any, grad: Any) -> Callable[[Any], Any]:
    """The Hessian product for directions without the parameters of other groups of `optax.partition`."""
    if not any(is_masked(x) for x in jax.tree.leaves(updates, is_leaf=is_masked)):
        return gauss_newton_fn
    if grad is None:
        raise ValueError(
            "truncated_gauss_newton under optax.partition or optax.masked needs the extra argument grad, the gradient "
            "of the whole model. jaxfwi.invert passes it; in a loop of your own call optimizer.update(..., grad=...)."
        )

    def product(direction):
        def or_zero(x, g):
            return jnp.zeros_like(g) if is_masked(x) else x

        of_model = jax.tree.map(or_zero, direction, grad, is_leaf=is_masked)
        return tree_map(lambda x, h: h, direction, gauss_newton_fn(of_model))

    return product


def _plus(a: Any, factor: Array, b: Any) -> Any:
    return tree_map(lambda x, y: x + factor.astype(x.dtype) * y, a, b)


def _dot(a: Any, b: Any) -> Array:
    return functools.reduce(operator.add, map(jnp.vdot, jax.tree.leaves(a), jax.tree.leaves(b)))
