"""Finite-difference coefficients and the plain derivatives, centred and staggered, any even order, any dimension.

Fields are zero outside the cells of their array. So a centred second derivative is its own transpose, a centred first
derivative is minus its own, and of the two staggered first derivatives, from nodes to half-way and back, each is minus
the other's. Every transpose that the package writes by hand rests on these facts.

So that no pass needs a copy of a field with zeros around it, fields have a margin of cells that stay zero, at least as
wide as the stencil's reach. A derivative is shorter than its field by the reach at either end.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxfwi._checks import as_integer
from jaxfwi.grid.linear import linear_operator

__all__ = [
    "add_at",
    "by_platform",
    "difference",
    "first_derivative",
    "laplacian",
    "pad_axis",
    "second_derivative",
    "set_at",
    "slice_at",
    "slice_axis",
    "staggered",
    "staggered_derivative",
    "symbol",
    "unfused_on_cpu",
]


@lru_cache
def first_derivative(order: int) -> tuple[float, ...]:
    """Coefficients ``(0, d_1, ..., d_r)`` of the centred first derivative of an even `order` = 2 r, for unit spacing.

    The derivative at node i is the sum over k of ``d_k (u[i+k] - u[i-k])``. Fornberg (1988), Mathematics of Computation
    51, 699-706.

    >>> first_derivative(2)
    (0.0, 0.5)
    """
    return 0.0, *(k * c / 2 for k, c in enumerate(_side(order), start=1))


@lru_cache
def second_derivative(order: int) -> tuple[float, ...]:
    """Coefficients ``(c_0, c_1, ..., c_r)`` of the centred second derivative of an even `order` = 2 r, for unit
    spacing.

    The derivative at node i is ``c_0 u[i]`` plus the sum over k of ``c_k (u[i+k] + u[i-k])``. Fornberg (1988).

    >>> second_derivative(2)
    (-2.0, 1.0)
    """
    side = _side(order)
    return -2.0 * math.fsum(side), *side


@lru_cache
def staggered_derivative(order: int) -> tuple[float, ...]:
    """Coefficients ``(d_1, ..., d_r)`` of the first derivative half-way between nodes, of an even `order` = 2 r, for
    unit spacing.

    The derivative half-way between nodes i and i + 1 is the sum over k of ``d_k (u[i+k] - u[i+1-k])``. Fornberg (1988).

    >>> staggered_derivative(2)
    (1.0,)
    """
    r, f = len(_side(order)), math.factorial
    odd = math.prod(range(1, 2 * r, 2)) ** 2
    return tuple(
        (-1) ** (k + 1) * (odd / (4 ** (r - 1) * f(r + k - 1) * f(r - k) * (2 * k - 1) ** 2)) for k in range(1, r + 1)
    )


def _side(order: int) -> tuple[float, ...]:
    """The second derivative's coefficients c_1 ... c_r, in closed form: exact to rounding at any order."""
    if as_integer("space_order", order, 2) % 2:
        raise ValueError(f"space_order must be even, got {order}.")
    r = int(order) // 2
    f = math.factorial
    return tuple((-1) ** (k + 1) * (2 * f(r) ** 2 / (k * k * f(r - k) * f(r + k))) for k in range(1, r + 1))


def symbol(order: int, angle: np.ndarray | float, staggered: bool = False) -> np.ndarray:
    """Minus the eigenvalue of the discrete second derivative for a wave of ``angle`` = wavenumber x spacing (radians a
    cell); the exact one is angle squared. The derivative is the centred one, or the staggered first one there and back.
    """
    if staggered:
        d = staggered_derivative(order)
        return (2.0 * np.sin(np.multiply.outer(angle, np.arange(len(d)) + 0.5)) @ np.asarray(d)) ** 2
    c = second_derivative(order)
    k = np.arange(1, len(c))
    return -(c[0] + 2.0 * np.cos(np.multiply.outer(angle, k)) @ np.asarray(c[1:]))


def slice_axis(u: Array, axis: int, start: int, size: int) -> Array:
    """``size`` cells of `u` along `axis`, the first one being ``start``."""
    return lax.slice_in_dim(u, start, start + size, axis=axis)


def pad_axis(u: Array, axis: int, before: int, after: int) -> Array:
    """`u` with zeros added along `axis`."""
    pads = [(0, 0)] * u.ndim
    pads[axis] = (before, after)
    return jnp.pad(u, pads)


def slice_at(u: Array, start: Sequence[int], shape: Sequence[int]) -> Array:
    """The cells of `u` in a box of this shape, the first one being ``start``."""
    # these indices are static and right: the default mode tests them in the compiled loop, and is several times slower
    return u.at[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))].get(mode="promise_in_bounds")


def set_at(u: Array, start: Sequence[int], patch: Array) -> Array:
    """`u` with `patch` in place of its cells from ``start`` on."""

    def in_place(u, patch):
        return lax.dynamic_update_slice(u, patch, tuple(start))

    def dense(u, patch):
        inside = jnp.asarray(True)
        for axis, (s, n) in enumerate(zip(start, patch.shape, strict=True)):
            i = lax.broadcasted_iota(jnp.int32, u.shape, axis)
            inside = inside & (i >= s) & (i < s + n)
        return jnp.where(inside, _embedded(patch, start, u.shape), u)

    return by_platform(in_place, dense, u, patch)


def add_at(u: Array, start: Sequence[int], patch: Array) -> Array:
    """`u` with `patch` added from cell ``start`` on. ``u.at[...].add`` would test its indices, and copy `u`."""
    box = _Box(tuple(start), patch.shape)
    return linear_operator(box.add, box.add_transposed, (), (u, patch))


@dataclass(frozen=True)
class _Box:
    """Cells of a field, and adding a patch to them."""

    start: tuple[int, ...]
    shape: tuple[int, ...]

    def add(self, _, operands):
        def in_place(u, patch):
            new = slice_at(u, self.start, self.shape) + patch
            if 6 * self.shape[-1] < u.shape[-1]:
                # in one kernel XLA goes through all of every row: for short patches two kernels are faster (patches of
                # 20 cells: the same in rows of 108 cells, faster in rows of 148 to 548)
                new = lax.optimization_barrier(new)
            # else XLA may take the patch into the next pass, which then asks at every cell whether it lies in the box
            return lax.optimization_barrier(lax.dynamic_update_slice(u, new, self.start))

        def dense(u, patch):
            return u + _embedded(patch, self.start, u.shape)

        return by_platform(in_place, dense, *operands)

    def add_transposed(self, _, u):
        return u, slice_at(u, self.start, self.shape)


def _embedded(patch: Array, start: Sequence[int], shape: tuple[int, ...]) -> Array:
    """An array of zeros that holds `patch` from cell ``start`` on."""
    return jnp.pad(patch, [(s, m - s - n) for m, s, n in zip(shape, start, patch.shape, strict=True)])


def by_platform(on_cpu: Callable, elsewhere: Callable, *operands: Any) -> Array:
    """Call one of two functions that compute the same.

    On a CPU it is best to change few cells in place. A GPU's compiler would copy the array for that; a dense change
    goes into the pass that computes the array.
    """
    return lax.platform_dependent(*operands, cpu=on_cpu, default=elsewhere)


def unfused_on_cpu(x: Array) -> Array:
    """`x`, on a CPU computed by itself. Fused with a stencil that reads it, it would be computed again at each of the
    stencil's points, which only on a GPU costs less than a pass of its own.
    """
    return by_platform(lax.optimization_barrier, lambda x: x, x)


def difference(u: Array, axis: int, coefficients: Sequence[float]) -> Array:
    """The derivative along `axis` wherever the stencil fits: the output is shorter by the reach at both ends.

    ``coefficients`` are those of `first_derivative` (antisymmetric, with a zero in the middle) or `second_derivative`
    (symmetric).
    """
    r = len(coefficients) - 1
    n = u.shape[axis] - 2 * r
    sign = 1.0 if coefficients[0] else -1.0
    out = coefficients[0] * slice_axis(u, axis, r, n) if coefficients[0] else 0.0
    for k in range(1, r + 1):
        out = out + coefficients[k] * (slice_axis(u, axis, r + k, n) + sign * slice_axis(u, axis, r - k, n))
    return jnp.asarray(out)


def staggered(u: Array, axis: int, order: int, spacing: float, to_half: bool) -> Array:
    """The first derivative along `axis`, from nodes to half-way between them or back: one dense pass.

    The value half-way between nodes i and i + 1 has index i. The output is shorter than `u` by `order` / 2 cells at
    both ends.

    >>> staggered(jnp.array([0.0, 2.0, 5.0, 5.0, 0.0]), 0, 2, 1.0, to_half=True).tolist()
    [3.0, 0.0, -5.0]
    >>> staggered(jnp.array([0.0, 2.0, 5.0, 5.0, 0.0]), 0, 2, 1.0, to_half=False).tolist()
    [2.0, 3.0, 0.0]
    """
    d = staggered_derivative(order)
    r, first = len(d), 0 if to_half else -1
    n = u.shape[axis] - 2 * r
    out = 0.0
    for k, c in enumerate(d, start=1):
        out = out + c / spacing * (slice_axis(u, axis, r + first + k, n) - slice_axis(u, axis, r + first + 1 - k, n))
    return jnp.asarray(out)


def laplacian(u: Array, order: int, spacing: Sequence[float]) -> Array:
    """The Laplacian: one dense pass over all axes. The output is shorter than `u` by `order` / 2 cells on every side.

    >>> laplacian(jnp.array([0.0, 0.0, 1.0, 0.0, 0.0]), 2, (1.0,)).tolist()
    [1.0, -2.0, 1.0]
    """
    c = second_derivative(order)
    r = len(c) - 1
    shape = [n - 2 * r for n in u.shape]
    weights = [1.0 / h**2 for h in spacing]

    def shifted(axis, k):
        begin = [r + k if a == axis else r for a in range(u.ndim)]
        return lax.slice(u, begin, [b + n for b, n in zip(begin, shape, strict=True)])

    out = c[0] * sum(weights) * shifted(0, 0)
    for k in range(1, r + 1):
        for axis, weight in enumerate(weights):
            out = out + c[k] * weight * (shifted(axis, k) + shifted(axis, -k))
    return out
