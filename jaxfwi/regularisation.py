"""Regularisers: numbers that say how far a model is from what it should be like, to be added to the misfit.

Each is a differentiable function of the model, and a PyTree whose leaves are its weights, references and masks: pass it
to a jitted function as an argument, and they can change between iterations without compiling a new program.
Regularisers can be added: ``TotalVariation(...) + Reference(...)``.

Integrals are over the cells of the model, each with the volume of its spacings multiplied (an area in 2D, a length in
1D), so that a weight means the same on a finer grid. Derivatives are differences to the next cell along each axis.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from jaxfwi._checks import check_grid, check_shape
from jaxfwi._trees import broadcast_like, check_numbers, for_each
from jaxfwi.grid.grid import Grid

__all__ = ["Reference", "Regulariser", "Sum", "Tikhonov", "TotalVariation"]


class Regulariser(eqx.Module):
    """A function ``regulariser(model) -> number`` that can be added to others.

    Subclass it for one of your own; a plain function of the model can be added to one as well.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> class Roughness(jf.regularisation.Regulariser):
    ...     weight: float
    ...
    ...     def __call__(self, model):
    ...         return self.weight * jnp.sum(jnp.diff(model.vp) ** 2)
    >>> both = Roughness(2.0) + (lambda model: jnp.max(model.vp))
    >>> float(both(jf.Acoustic(vp=jnp.array([1500.0, 1510.0]))))
    1710.0
    """

    def __call__(self, model: Any) -> Array:
        raise NotImplementedError

    def __add__(self, other: Callable[[Any], Array]) -> "Sum":
        return Sum((*_terms(self), *_terms(other)))

    def __radd__(self, other: Any) -> "Regulariser":
        """`sum` of a list starts from 0."""
        return self if isinstance(other, int) and other == 0 else Sum((*_terms(other), *_terms(self)))


class Sum(Regulariser):
    """The sum of several functions of the model; ``a + b`` makes one.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=1e-3, nt=100)
    >>> smooth, blocky = jf.regularisation.Tikhonov, jf.regularisation.TotalVariation
    >>> total = sum([smooth(grid), blocky(grid)])
    >>> len(total.terms), float(total(jf.Acoustic(vp=jnp.full(100, 1500.0))))
    (2, 0.0)
    """

    terms: tuple[Callable[[Any], Array], ...]

    def __call__(self, model: Any) -> Array:
        return functools.reduce(operator.add, (term(model) for term in self.terms))


class Tikhonov(Regulariser):
    """Half the integral of the squared gradient, ``1/2 sum_p weight_p int |grad (m_p - reference_p)|^2 dV``: favours
    smooth models (Tikhonov & Arsenin 1977, *Solutions of ill-posed problems*, Winston & Sons).

    Args:
        grid: of the model.
        weight: a number; or like the model, a number for each parameter, since their units differ: 0 leaves one out. In
            units of the misfit per (parameter / m)^2 m^ndim.
        mask: cells where it is True (or not 0) count: an array of the grid's shape, or like the model, as the mask of
            `invert`. Differences to a cell that does not count, such as the jump at a sea bed, are left out. By default
            all count.
        reference: like the model; differences that it has cost nothing. By default none.

    Raises:
        ValueError: if `grid` is not a `Grid`, or for negative weights; when called, for arguments that do not fit the
            model.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=101, spacing=10.0, dt=1e-3, nt=100)
    >>> depth = 10.0 * jnp.arange(101.0)  # a kilometre
    >>> ramp = jf.Acoustic(vp=1500.0 + 0.5 * depth)  # 0.5 m/s a metre
    >>> float(jf.regularisation.Tikhonov(grid)(ramp))  # half of 0.25 / s^2 times 1000 m
    125.0
    """

    grid: Grid = eqx.field(static=True)
    weight: Any
    mask: Any
    reference: Any

    def __init__(self, grid: Grid, weight: Any = 1.0, mask: Any = None, reference: Any = None) -> None:
        _check(grid, weight)
        self.grid, self.weight, self.mask, self.reference = grid, weight, mask, reference

    def __call__(self, model: Any) -> Array:
        def of_parameter(x, reference, mask):
            x = x if reference is None else x - broadcast_like("reference", reference, x)
            squares = (jnp.sum(d**2) for d in _gradient(x, self.grid, mask))
            return 0.5 * math.prod(self.grid.spacing) * functools.reduce(operator.add, squares)

        return _weighted_sum(of_parameter, model, self.grid, self.weight, self.mask, reference=self.reference)


class TotalVariation(Regulariser):
    """The integral of the length of the gradient, ``sum_p weight_p int (sqrt(|grad m_p|^2 + epsilon_p^2) - epsilon_p)
    dV``: favours blocks with sharp edges. A jump costs its height, however steep it is (Rudin, Osher & Fatemi 1992,
    Physica D 60, 259-268).

    Args:
        grid, mask: as for `Tikhonov`.
        weight: as for `Tikhonov`, in units of the misfit per (parameter / m) m^ndim.
        epsilon: a gradient above zero in units of the parameter per metre, a number or like the model; for gradients
            below it the integrand is a parabola, which keeps it differentiable. By default 0.1: for velocities 1 m/s in
            10 m.

    Raises:
        ValueError: as `Tikhonov`, and for an epsilon that is not positive.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=1e-3, nt=100)
    >>> step = jf.Acoustic(vp=jnp.where(jnp.arange(100) < 40, 1500.0, 2000.0))
    >>> variation = jf.regularisation.TotalVariation(grid, epsilon=1e-6)
    >>> round(float(variation(step)), 2)  # 500 m/s, in a column
    500.0
    """

    grid: Grid = eqx.field(static=True)
    weight: Any
    mask: Any
    epsilon: Any

    def __init__(self, grid: Grid, weight: Any = 1.0, mask: Any = None, epsilon: Any = 0.1) -> None:
        _check(grid, weight)
        check_numbers("epsilon", epsilon, positive=True)
        self.grid, self.weight, self.mask, self.epsilon = grid, weight, mask, epsilon

    def __call__(self, model: Any) -> Array:
        def of_parameter(x, epsilon, mask):
            epsilon = jnp.asarray(epsilon, x.dtype)
            square = jnp.zeros_like(x)
            for axis, d in enumerate(_gradient(x, self.grid, mask)):
                square += jnp.pad(d**2, [(0, int(k == axis)) for k in range(x.ndim)])
            # sqrt(square + epsilon^2) - epsilon, as a quotient that does not cancel where the model is flat
            return math.prod(self.grid.spacing) * jnp.sum(square / (jnp.sqrt(square + epsilon**2) + epsilon))

        return _weighted_sum(of_parameter, model, self.grid, self.weight, self.mask, epsilon=self.epsilon)


class Reference(Regulariser):
    """Half the integral of the squared distance from a model, ``1/2 sum_p weight_p int (m_p - reference_p)^2 dV``:
    favours a model known from elsewhere, such as a well log.

    Args:
        grid, mask: as for `Tikhonov`.
        reference: like the model; arrays or numbers.
        weight: as for `Tikhonov`, in units of the misfit per parameter^2 m^ndim.

    Raises:
        ValueError: as `Tikhonov`.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=1e-3, nt=100)
    >>> distance = jf.regularisation.Reference(grid, jf.Acoustic(vp=1500.0))
    >>> float(distance(jf.Acoustic(vp=jnp.full(100, 1502.0))))  # half of 4 times 1000 m
    2000.0
    """

    grid: Grid = eqx.field(static=True)
    reference: Any
    weight: Any
    mask: Any

    def __init__(self, grid: Grid, reference: Any, weight: Any = 1.0, mask: Any = None) -> None:
        _check(grid, weight)
        self.grid, self.reference, self.weight, self.mask = grid, reference, weight, mask

    def __call__(self, model: Any) -> Array:
        def of_parameter(x, reference, mask):
            square = (x - broadcast_like("reference", reference, x)) ** 2
            square = square if mask is None else jnp.where(mask, square, 0)
            return 0.5 * math.prod(self.grid.spacing) * jnp.sum(square)

        return _weighted_sum(of_parameter, model, self.grid, self.weight, self.mask, reference=self.reference)


def _check(grid: Any, weight: Any) -> None:
    check_grid(grid)
    check_numbers("weight", weight)


def _terms(function: Any) -> tuple:
    return function.terms if isinstance(function, Sum) else (function,)


def _weighted_sum(of_parameter: Callable, model: Any, grid: Grid, weight: Any, mask: Any, **option: Any) -> Array:
    """The sum over parameters of ``weight of_parameter(x, option, mask)``; the one option is like the model or not."""

    def weighted(x, weight, option, mask):
        x = jnp.asarray(x)
        check_shape("the model", x.shape, grid)
        counts = None if mask is None else broadcast_like("mask", mask, x, bool)
        return jnp.asarray(weight, x.dtype) * of_parameter(x, option, counts)

    ((name, value),) = option.items()
    given = (for_each(n, g, model) for n, g in (("weight", weight), (name, value), ("mask", mask)))
    total = jnp.zeros((), jnp.result_type(*jax.tree.leaves(model)))
    for term in jax.tree.leaves(jax.tree.map(weighted, model, *given)):
        total += term
    return total


def _gradient(x: Array, grid: Grid, mask: Array | None) -> list[Array]:
    """Differences to the next cell along each axis, each one cell shorter than that axis; 0 where one of the two cells
    does not count.
    """
    out = []
    for axis, h in enumerate(grid.spacing):
        d = jnp.diff(x, axis=axis) / h
        if mask is not None:
            n = x.shape[axis]
            both = jax.lax.slice_in_dim(mask, 1, n, axis=axis) & jax.lax.slice_in_dim(mask, 0, n - 1, axis=axis)
            d = jnp.where(both, d, 0)
        out.append(d)
    return out
