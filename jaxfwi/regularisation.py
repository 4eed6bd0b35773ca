"""Regularisers: what a model should be like, as a number to be added to the misfit.

Each is a function of the model, differentiable as any, and a PyTree: weights, references and masks are its leaves. Pass
it to a jitted function as an argument, and they can change between iterations without a new program. They add up:
``TotalVariation(...) + Reference(...)``.

Integrals are over the model's cells, of which each has the volume ``spacing ** ndim`` (an area in 2D, a length in 1D),
so that a weight means the same on a finer grid. Derivatives are differences to the next cell along each axis.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi._checks import is_concrete

__all__ = ["Reference", "Regularizer", "Sum", "Tikhonov", "TotalVariation"]


class Regularizer(eqx.Module):
    """A function ``regularizer(model) -> number`` that can be added to others."""

    def __call__(self, model: Any) -> Array:
        raise NotImplementedError

    def __add__(self, other: Callable[[Any], Array]) -> "Sum":
        return Sum((*_terms(self), *_terms(other)))

    def __radd__(self, other: Any) -> "Regularizer":
        """For ``sum`` of a list, which starts from 0."""
        return self if isinstance(other, int) and other == 0 else Sum((*_terms(other), *_terms(self)))


class Sum(Regularizer):
    """The sum of several functions of the model; ``a + b`` makes one."""

    terms: tuple[Callable[[Any], Array], ...]

    def __call__(self, model: Any) -> Array:
        return functools.reduce(operator.add, (term(model) for term in self.terms))


class Tikhonov(Regularizer):
    """Half the integral of the squared gradient, ``1/2 sum_p weight_p int |grad (m_p - reference_p)|^2 dV``: favours
    smooth models (Tikhonov & Arsenin 1977, *Solutions of ill-posed problems*, Winston & Sons).

    Args:
        spacing: metres between nodes, one number or one per axis, as `Grid.spacing`.
        weight: a number; or like the model, a number for each parameter, since their units differ: 0 leaves one out. In
            units of the misfit per (parameter / m)^2 m^ndim.
        mask: cells that count where it is not 0: an array of the grid's shape, or like the model, as the mask of
            `invert`. Differences to a cell that does not count are left out, as the jump at a sea bed. By default all.
        reference: like the model, whose own gradient costs nothing; by default none.

    Raises:
        ValueError: for a spacing that cannot be or negative weights; when called, for arguments that do not fit the
            model.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> ramp = jf.Acoustic(vp=1500.0 + 0.5 * 10.0 * jnp.arange(101.0))  # 0.5 m/s a metre, over a kilometre
    >>> float(Tikhonov(spacing=10.0)(ramp))  # half of 0.25 / s^2 times 1000 m
    125.0
    """

    spacing: tuple[float, ...] = eqx.field(static=True)
    weight: Any
    mask: Any
    reference: Any

    def __init__(
        self, spacing: float | Sequence[float], weight: Any = 1.0, mask: Any = None, reference: Any = None
    ) -> None:
        self.spacing = _checked_spacing(spacing)
        self.weight, self.mask, self.reference = _checked_weight(weight), mask, reference

    def __call__(self, model: Any) -> Array:
        def of_parameter(x, reference, mask):
            spacing = _per_axis(self.spacing, x)
            x = x if reference is None else x - _like("reference", reference, x)
            squares = (jnp.sum(d**2) for d in _gradient(x, spacing, mask))
            return 0.5 * math.prod(spacing) * functools.reduce(operator.add, squares)

        return _weighted(of_parameter, model, self.weight, self.reference, self.mask)


class TotalVariation(Regularizer):
    """The integral of the length of the gradient, ``sum_p weight_p int (sqrt(|grad m_p|^2 + epsilon_p^2) - epsilon_p)
    dV``: favours blocks with sharp edges, whose jumps it counts once, however steep (Rudin, Osher & Fatemi 1992,
    Physica D 60, 259-268).

    Args:
        spacing, mask: as for `Tikhonov`.
        weight: as for `Tikhonov`, in units of the misfit per (parameter / m) m^ndim.
        epsilon: gradient in units of the parameter per metre, above zero, a number or like the model; below it the
            integrand is a parabola, which keeps it differentiable. By default 0.1: for velocities 1 m/s in 10 m.

    Raises:
        ValueError: as `Tikhonov`, and for an epsilon that is not positive.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> step = jf.Acoustic(vp=jnp.where(jnp.arange(100) < 40, 1500.0, 2000.0))
    >>> round(float(TotalVariation(spacing=10.0, epsilon=1e-6)(step)), 2)  # 500 m/s, in a column
    500.0
    """

    spacing: tuple[float, ...] = eqx.field(static=True)
    weight: Any
    mask: Any
    epsilon: Any

    def __init__(
        self, spacing: float | Sequence[float], weight: Any = 1.0, mask: Any = None, epsilon: Any = 0.1
    ) -> None:
        self.spacing = _checked_spacing(spacing)
        self.weight, self.mask, self.epsilon = _checked_weight(weight), mask, epsilon
        for number in jax.tree.leaves(epsilon):
            if np.ndim(number) or (is_concrete(number) and not 0 < number < np.inf):
                raise ValueError(f"epsilon must be a positive number, or like the model one for each, got {epsilon!r}.")

    def __call__(self, model: Any) -> Array:
        def of_parameter(x, epsilon, mask):
            spacing, epsilon = _per_axis(self.spacing, x), jnp.asarray(epsilon, x.dtype)
            square = jnp.zeros_like(x)
            for axis, d in enumerate(_gradient(x, spacing, mask)):
                square += jnp.pad(d**2, [(0, int(k == axis)) for k in range(x.ndim)])
            # sqrt(square + epsilon^2) - epsilon, as a quotient that does not cancel where the model is flat
            return math.prod(spacing) * jnp.sum(square / (jnp.sqrt(square + epsilon**2) + epsilon))

        return _weighted(of_parameter, model, self.weight, self.epsilon, self.mask)


class Reference(Regularizer):
    """Half the integral of the squared distance from a model, ``1/2 sum_p weight_p int (m_p - reference_p)^2 dV``:
    favours what was known before.

    Args:
        spacing, mask: as for `Tikhonov`.
        reference: like the model; arrays or numbers.
        weight: as for `Tikhonov`, in units of the misfit per parameter^2 m^ndim.

    Raises:
        ValueError: as `Tikhonov`.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> float(Reference(10.0, jf.Acoustic(vp=1500.0))(jf.Acoustic(vp=jnp.full(100, 1502.0))))  # half of 4 times 1000 m
    2000.0
    """

    spacing: tuple[float, ...] = eqx.field(static=True)
    reference: Any
    weight: Any
    mask: Any

    def __init__(self, spacing: float | Sequence[float], reference: Any, weight: Any = 1.0, mask: Any = None) -> None:
        self.spacing = _checked_spacing(spacing)
        self.weight, self.mask, self.reference = _checked_weight(weight), mask, reference

    def __call__(self, model: Any) -> Array:
        def of_parameter(x, reference, mask):
            square = (x - _like("reference", reference, x)) ** 2
            square = square if mask is None else jnp.where(mask, square, 0)
            return 0.5 * math.prod(_per_axis(self.spacing, x)) * jnp.sum(square)

        return _weighted(of_parameter, model, self.weight, self.reference, self.mask)


def _terms(function: Any) -> tuple:
    return function.terms if isinstance(function, Sum) else (function,)


def _weighted(of_parameter: Callable, model: Any, weight: Any, other: Any, mask: Any) -> Array:
    """The sum over parameters of ``weight of_parameter(x, other, mask)``."""
    leaves = jax.tree.leaves(model)
    weights = _each("weight", weight, model)
    others = _each("reference or epsilon", other, model)
    masks = _each("mask", mask, model)
    total = jnp.zeros((), jnp.result_type(*leaves))
    for x, w, o, m in zip(leaves, weights, others, masks, strict=True):
        x = jnp.asarray(x)
        counted = None if m is None else _like("mask", m, x, bool)
        total += jnp.asarray(w, x.dtype) * of_parameter(x, o, counted)
    return total


def _each(name: str, given: Any, model: Any) -> list:
    """What is given for each parameter: leaves of what is like the model, or one thing for all."""
    structure = jax.tree.structure(model)
    if given is None or jax.tree.structure(given) == structure:
        return [None] * structure.num_leaves if given is None else jax.tree.leaves(given)
    if jax.tree_util.treedef_is_leaf(jax.tree.structure(given)):
        return [given] * structure.num_leaves
    raise ValueError(f"{name} must be one for all or like the model, {type(model).__name__}, got {given!r}.")


def _like(name: str, given: Any, x: Array, dtype: Any = None) -> Array:
    if jnp.shape(given) not in ((), x.shape):
        raise ValueError(f"{name} must be of the model's shape {x.shape} or numbers, got {jnp.shape(given)}.")
    return jnp.broadcast_to(jnp.asarray(given, dtype or x.dtype), x.shape)


def _gradient(x: Array, spacing: tuple[float, ...], mask: Array | None) -> list[Array]:
    """Differences to the next cell along each axis, of one cell less than it; 0 where one of the two does not count."""
    out = []
    for axis, h in enumerate(spacing):
        d = jnp.diff(x, axis=axis) / h
        if mask is not None:
            n = x.shape[axis]
            both = jax.lax.slice_in_dim(mask, 1, n, axis=axis) & jax.lax.slice_in_dim(mask, 0, n - 1, axis=axis)
            d = jnp.where(both, d, 0)
        out.append(d)
    return out


def _per_axis(spacing: tuple[float, ...], x: Array) -> tuple[float, ...]:
    spacing = spacing * x.ndim if len(spacing) == 1 else spacing
    if len(spacing) != x.ndim or not x.ndim:
        raise ValueError(f"spacing must be one number or one per axis of the model's shape {x.shape}, got {spacing}.")
    return spacing


def _checked_spacing(spacing: float | Sequence[float]) -> tuple[float, ...]:
    numbers = tuple(float(h) for h in np.atleast_1d(np.asarray(spacing, float)))
    if not numbers or not all(0 < h < math.inf for h in numbers):
        raise ValueError(f"spacing must be positive metres, one number or one per axis, got {spacing!r}.")
    return numbers


def _checked_weight(weight: Any) -> Any:
    for number in jax.tree.leaves(weight):
        if np.ndim(number) or (is_concrete(number) and not 0 <= number < np.inf):
            raise ValueError(f"weight must be a number, 0 or more, or like the model one for each, got {weight!r}.")
    return weight
