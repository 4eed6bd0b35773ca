"""How a source or a receiver at a position in metres touches the nodes of a grid.

On a node of its field: that node alone. Between nodes: a Kaiser-windowed sinc over eight nodes an axis (Hicks 2002,
Geophysics 67, 156-165). Across a free surface fields that are odd about it are mirrored with their sign turned, the
others continued by a polynomial. Weights are smooth functions of the position, so that positions can be differentiated.
The sinc's short reach leaves an error of about 0.1 % of the amplitude for each axis on which a point lies between
nodes, at 4 points per wavelength and more; it does not fall with finer grids.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxfwi.equations.base import Field
from jaxfwi.grid import stencils
from jaxfwi.grid.frame import Frame
from jaxfwi.grid.linear import linear_operator

__all__ = ["Coupling", "couple", "inject", "nodes", "sample", "shift"]

HALF_WIDTH = 4  # nodes on either side
KAISER_SHAPE = 6.31  # for a half-width of 4, Hicks (2002)
FEW = 4  # nodes, up to which every cell of a GPU's dense pass asks whether it is one of them; chosen, not measured
CONTINUED = 5  # rows below a free surface whose polynomial continues a field above it

Lattice = tuple[float, ...] | None  # per axis 0 for points on nodes, 0.5 for points half-way; None for points anywhere


class Coupling(NamedTuple):
    """Nodes and weights of n points, K nodes each: per axis an index array ``(n, K)``, and the weights ``(n, K)``."""

    place: tuple[Array, ...]
    weight: Array


def couple(position: Array, frame: Frame, lattice: Lattice, field: Field, volumes: tuple = ()) -> Coupling:
    """The coupling of points ``(n, ndim)`` in metres to a field on the padded grid.

    Args:
        position: metres from the model's first node.
        frame: the padded grid.
        lattice: where on each axis all points are known to lie. An axis on which these are the field's own nodes costs
            one node instead of eight; positions cannot be differentiated then.
        field: where the field's values lie, and how it meets a free surface.
        volumes: of the first rows, as parts of a cell's, by which the weights are to be divided: for sources.

    Returns:
        Indices into the padded grid. Nodes that fall off it, or into its margin, have weight zero.
    """
    scaled = position / jnp.asarray(frame.grid.spacing, position.dtype)
    if lattice is not None:
        scaled = _undifferentiable(scaled)
    index, weight = [], []
    for axis, half in enumerate(field.half):
        x = scaled[:, axis] - 0.5 if half else scaled[:, axis]
        surface = frame.free_surface and axis == 0
        if lattice is not None and lattice[axis] == 0.5 * half:
            rows, per_node = jnp.round(x).astype(jnp.int32)[:, None], jnp.ones_like(x)[:, None]
        else:
            # between nodes; on a lattice half-way between two of them
            lower = lax.stop_gradient(jnp.floor(x) if lattice is None else jnp.round(x - 0.5))
            offset = np.arange(1 - HALF_WIDTH, 1 + HALF_WIDTH)
            # the barrier keeps XLA from folding the series below where positions are constants, which takes it long
            fraction = lax.optimization_barrier(x - lower if lattice is None else jnp.full_like(x, 0.5))
            per_node = _windowed_sinc(fraction[:, None], offset)
            first = lower.astype(jnp.int32) + int(offset[0])
            if surface:
                above = jnp.clip(-first, 0, HALF_WIDTH)
                folds = jnp.asarray(_folds(field.odd, half), per_node.dtype)
                per_node = jnp.einsum("no,nos->ns", per_node, folds[above], precision="highest")
                first = first + above
            rows = first[:, None] + np.arange(len(offset))
        if surface and field.odd and not half:
            per_node = jnp.where(rows == 0, 0.0, per_node)
        if axis == 0 and volumes:
            per_row = np.array([*volumes, 1.0])
            per_node = per_node / jnp.asarray(per_row, per_node.dtype)[jnp.clip(rows, 0, len(volumes))]
        index.append(rows)
        weight.append(per_node)
    combinations = np.array(list(itertools.product(*(range(w.shape[1]) for w in weight))))  # (K, ndim)
    place = tuple(i[:, k] for i, k in zip(index, combinations.T, strict=True))
    product = jnp.ones_like(weight[0][:, :1])
    for w, k in zip(weight, combinations.T, strict=True):
        product = product * w[:, k]
    return shift(Coupling(place, product), [-s.start for s in frame.model], frame.shape, frame.margins)


@lru_cache
def _folds(odd: bool, half: bool) -> np.ndarray:
    """For 0 to 4 rows of the window above the first row, what each of the window's nodes adds to the weights of the
    first eight rows: ``(5, 8, 8)``.
    """
    width = 2 * HALF_WIDTH
    out = np.zeros((HALF_WIDTH + 1, width, width))
    for above in range(HALF_WIDTH + 1):
        for node in range(width):
            row = node - above
            if row >= 0:
                out[above, node, row] = 1.0
            elif odd:
                out[above, node, -row - half] = -1.0
            else:
                for c in range(CONTINUED):
                    others = [m for m in range(CONTINUED) if m != c]
                    out[above, node, c] = np.prod([(row - m) / (c - m) for m in others])
    return out


def shift(
    coupling: Coupling, origin: Sequence[int | Array], shape: Sequence[int], margins: Sequence[tuple[int, int]]
) -> Coupling:
    """The same coupling on another window: node `origin` becomes node 0; nodes outside `shape` or in its margin lose
    their weight.
    """
    index = tuple(i - o for i, o in zip(coupling.place, origin, strict=True))
    inside = [(i >= near) & (i < n - far) for i, n, (near, far) in zip(index, shape, margins, strict=True)]
    inside = jnp.stack(inside).all(axis=0)
    return Coupling(tuple(jnp.where(inside, i, 0) for i in index), jnp.where(inside, coupling.weight, 0.0))


def nodes(field: Array, index: tuple[Array, ...]) -> Array:
    """Values of `field` at the nodes, ``(n, K)``."""
    return field.at[index].get(mode="promise_in_bounds")


def sample(values: Array, weight: Array) -> Array:
    """The field at the points ``(n,)`` from its values at their nodes."""
    return values[:, 0] * weight[:, 0] if weight.shape[1] == 1 else jnp.sum(values * weight, axis=1)


def inject(field: Array, coupling: Coupling, amount: Array, scale: Array | float) -> Array:
    """`field` with ``scale * amount`` spread over the points' nodes; ``amount`` is ``(n,)``, ``scale`` a number or an
    array like the field.

    A few nodes go into the dense pass of a GPU's program, where a scatter would be a kernel between two others.
    """
    spread = coupling.weight * amount[:, None]

    def scattered(field, place, spread, scale):
        scales = nodes(scale, place) if jnp.ndim(scale) else scale
        return field.at[place].add(scales * spread, mode="promise_in_bounds")

    def dense(field, place, spread, scale):
        # each told the other's transpose: no derivative remembers a field for a few nodes, or scatters
        there = _Nodes(field.shape)
        scales = linear_operator(there.take, there.put, place, scale) if jnp.ndim(scale) else scale
        return field + linear_operator(there.put, there.take, place, scales * spread)

    if spread.size > FEW:
        return scattered(field, coupling.place, spread, scale)
    return stencils.by_platform(scattered, dense, field, coupling.place, spread, scale)


@dataclass(frozen=True)
class _Nodes:
    """What lies at nodes of a field of this shape, and a field of what lies there."""

    shape: tuple[int, ...]

    def take(self, place: tuple[Array, ...], field: Array) -> Array:
        """The field's values at nodes."""
        return nodes(field, place)

    def put(self, place: tuple[Array, ...], values: Array) -> Array:
        """A field of zeros but for values at nodes, which add up where nodes meet."""
        cells = [lax.broadcasted_iota(jnp.int32, self.shape, axis) for axis in range(len(self.shape))]
        out = jnp.zeros(self.shape, values.dtype)
        for at in np.ndindex(values.shape):
            here = jnp.asarray(True)
            for cell, index in zip(cells, place, strict=True):
                here = here & (cell == index[at])
            out = out + jnp.where(here, values[at], 0.0)
        return out


def _windowed_sinc(fraction: Array, offset: np.ndarray) -> Array:
    """Weights of the nodes at `offset` from the node below a point that lies a `fraction` of a cell above it."""
    x = fraction - offset
    # sin(pi x) from the fraction alone: on a node all weights but one are exactly zero, in any precision
    sine = jnp.sin(jnp.pi * fraction) * np.where(offset % 2 == 0, 1.0, -1.0)
    on_node = x == 0.0
    safe = jnp.where(on_node, 1.0, x)
    sinc = jnp.where(on_node, 1.0 - (jnp.pi * x) ** 2 / 6.0, sine / (jnp.pi * safe))
    return (
        sinc * _bessel_i0_of_root(KAISER_SHAPE**2 * (1.0 - (x / HALF_WIDTH) ** 2)) / _bessel_i0_of_root(KAISER_SHAPE**2)
    )


def _bessel_i0_of_root(y: Array | float) -> Array | float:
    """``I0(sqrt(y))`` by its power series in y, smooth through y = 0 where the root is not (30 terms reach rounding at
    y = 40).
    """
    out = 1.0
    for k in range(30, 0, -1):
        out = 1.0 + out * y / (4.0 * k * k)
    return out


@jax.custom_jvp
def _undifferentiable(x: Array) -> Array:
    return x


@_undifferentiable.defjvp
def _refuse(primals, tangents):
    raise ValueError(
        "Positions of a survey marked by Survey.on_nodes(grid) cannot be differentiated: differentiate with respect to "
        "the survey as it was before on_nodes, or with respect to its wavelet alone."
    )
