"""How a source or a receiver at a position in metres acts on the nodes of a grid.

On a node of its field it acts on that node alone, between nodes by a Kaiser-windowed sinc over eight nodes an axis
(Hicks 2002, Geophysics 67, 156-165). Across a free surface, fields that are odd about it are mirrored with the other
sign, all others are continued by a polynomial. Weights are smooth functions of the position, so positions can be
differentiated. The sinc's short reach leaves an error of about 0.1 % of the amplitude for each axis on which a point
lies between nodes, at 4 points per wavelength and more; it does not fall with finer grids.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxfwi.equations.base import Field
from jaxfwi.grid import stencils
from jaxfwi.grid.frame import Frame
from jaxfwi.grid.linear import linear_operator, refuse_derivatives

__all__ = ["Coupling", "couple", "inject", "nodes", "sample", "shift"]

HALF_WIDTH = 4  # nodes on either side
KAISER_SHAPE = 6.31  # for a half-width of 4, Hicks (2002)
FEW = 4  # nodes, up to which every cell of a GPU's dense pass asks whether it is one of them; chosen, not measured
CONTINUED = 5  # rows below a free surface whose polynomial continues a field above it

NO_POSITION_DERIVATIVES = (
    "Positions of a survey marked by Survey.on_nodes(grid) cannot be differentiated: differentiate with respect to the "
    "survey as it was before on_nodes, or with respect to its wavelet alone."
)

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
        lattice: where on each axis all points lie, if that is certain. On an axis where the field's own nodes lie there
            too, a point takes one node instead of eight; positions cannot be differentiated then.
        field: where the field's values lie, and how it meets a free surface.
        volumes: of the first rows, as fractions of a cell. Weights are divided by them: for sources.

    Returns:
        Indices into the padded grid. Nodes beyond it or in its margin have weight zero.
    """
    scaled = position / jnp.asarray(frame.grid.spacing, position.dtype)
    if lattice is not None:
        scaled = refuse_derivatives(scaled, NO_POSITION_DERIVATIVES)
    per_axis = []
    for axis, half in enumerate(field.half):
        x = scaled[:, axis] - 0.5 if half else scaled[:, axis]
        surface = frame.free_surface and axis == 0
        if lattice is not None and lattice[axis] == 0.5 * half:
            rows, weight = _on_node(x)
        else:
            rows, weight = _between(x, middle=lattice is not None)
            if surface:
                rows, weight = _folded_below(rows, weight, field.odd, half)
        if surface and field.odd and not half:
            weight = jnp.where(rows == 0, 0.0, weight)
        if axis == 0 and volumes:
            per_row = jnp.asarray(np.array([*volumes, 1.0]), weight.dtype)
            weight = weight / per_row[jnp.clip(rows, 0, len(volumes))]
        per_axis.append((rows, weight))
    return shift(_product(per_axis), [-s.start for s in frame.model], frame.shape, frame.margins)


def _on_node(x: Array) -> tuple[Array, Array]:
    """The node of each of n points that lie on nodes, and its weight: ``(n, 1)``."""
    return jnp.round(x).astype(jnp.int32)[:, None], jnp.ones_like(x)[:, None]


def _between(x: Array, middle: bool) -> tuple[Array, Array]:
    """The eight nodes around each of n points, and their weights: ``(n, 8)``. In the `middle` the point lies half-way
    between two nodes.
    """
    lower = lax.stop_gradient(jnp.round(x - 0.5) if middle else jnp.floor(x))
    offset = np.arange(1 - HALF_WIDTH, 1 + HALF_WIDTH)
    # the barrier keeps XLA from folding the sinc's series where positions are constants, which takes it long
    fraction = lax.optimization_barrier(jnp.full_like(x, 0.5) if middle else x - lower)
    return lower.astype(jnp.int32)[:, None] + offset, _windowed_sinc(fraction[:, None], offset)


def _folded_below(rows: Array, weight: Array, odd: bool, half: bool) -> tuple[Array, Array]:
    """The same action on a field under a free surface, by eight rows below it."""
    above = jnp.clip(-rows[:, 0], 0, HALF_WIDTH)
    folds = jnp.asarray(_folds(odd, half), weight.dtype)
    return rows + above[:, None], jnp.einsum("no,nos->ns", weight, folds[above], precision="highest")


@lru_cache
def _folds(odd: bool, half: bool) -> np.ndarray:
    """``(5, 8, 8)``: if 0 to 4 of a point's eight rows lie above the surface, how each of them adds to the weights of
    the first eight rows below.
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


def _product(per_axis: list[tuple[Array, Array]]) -> Coupling:
    """The coupling of points to all combinations of their nodes on each axis."""
    combinations = np.array(list(itertools.product(*(range(w.shape[1]) for _, w in per_axis)))).T  # (ndim, K)
    place = tuple(rows[:, k] for (rows, _), k in zip(per_axis, combinations, strict=True))
    weight = jnp.ones_like(per_axis[0][1][:, :1])
    for (_, factor), k in zip(per_axis, combinations, strict=True):
        weight = weight * factor[:, k]
    return Coupling(place, weight)


def shift(
    coupling: Coupling, origin: Sequence[int | Array], shape: Sequence[int], margins: Sequence[tuple[int, int]]
) -> Coupling:
    """The same coupling on another grid, of this shape and margin, whose first cell is `origin`. Nodes beyond it or in
    its margin lose their weight.
    """
    index = tuple(i - o for i, o in zip(coupling.place, origin, strict=True))
    inside = [(i >= near) & (i < n - far) for i, n, (near, far) in zip(index, shape, margins, strict=True)]
    inside = jnp.stack(inside).all(axis=0)
    return Coupling(tuple(jnp.where(inside, i, 0) for i in index), jnp.where(inside, coupling.weight, 0.0))


def nodes(field: Array, index: tuple[Array, ...]) -> Array:
    """Values of a field at the nodes of points, ``(n, K)``."""
    return field.at[index].get(mode="promise_in_bounds")


def sample(values: Array, weight: Array) -> Array:
    """A field at points ``(n,)``, from its values at their nodes."""
    return values[:, 0] * weight[:, 0] if weight.shape[1] == 1 else jnp.sum(values * weight, axis=1)


def inject(field: Array, coupling: Coupling, amount: Array, scale: Array | float) -> Array:
    """`field` plus ``scale * amount`` spread over the points' nodes; ``amount`` is ``(n,)``, ``scale`` a number or an
    array like the field.

    On a GPU a few nodes are taken into the dense pass, as a scatter would be a kernel between two others.
    """
    spread = coupling.weight * amount[:, None]

    def scattered(field, place, spread, scale):
        scales = nodes(scale, place) if jnp.ndim(scale) else scale
        return field.at[place].add(scales * spread, mode="promise_in_bounds")

    def dense(field, place, spread, scale):
        # given as each other's transposes: no derivative keeps a field for a few nodes, or scatters
        access = _NodeAccess(field.shape)
        scales = linear_operator(access.take, access.put, place, scale) if jnp.ndim(scale) else scale
        return field + linear_operator(access.put, access.take, place, scales * spread)

    if spread.size > FEW:
        return scattered(field, coupling.place, spread, scale)
    return stencils.by_platform(scattered, dense, field, coupling.place, spread, scale)


@dataclass(frozen=True)
class _NodeAccess:
    """Reading a field of this shape at nodes, and its transpose."""

    shape: tuple[int, ...]

    def take(self, place: tuple[Array, ...], field: Array) -> Array:
        """The field's values at nodes."""
        return nodes(field, place)

    def put(self, place: tuple[Array, ...], values: Array) -> Array:
        """A field of values at nodes and zeros elsewhere. Values of the same node add up."""
        cells = [lax.broadcasted_iota(jnp.int32, self.shape, axis) for axis in range(len(self.shape))]
        out = jnp.zeros(self.shape, values.dtype)
        for at in np.ndindex(values.shape):
            here = jnp.asarray(True)
            for cell, index in zip(cells, place, strict=True):
                here = here & (cell == index[at])
            out = out + jnp.where(here, values[at], 0.0)
        return out


def _windowed_sinc(fraction: Array, offset: np.ndarray) -> Array:
    """Weights of the nodes at `offset` from the last node before a point, the point lying a `fraction` of a cell on."""
    x = fraction - offset
    # sin(pi x) from the fraction alone: on a node all weights but one are exactly zero, in any precision
    sine = jnp.sin(jnp.pi * fraction) * np.where(offset % 2 == 0, 1.0, -1.0)
    on_node = x == 0.0
    safe = jnp.where(on_node, 1.0, x)
    sinc = jnp.where(on_node, 1.0 - (jnp.pi * x) ** 2 / 6.0, sine / (jnp.pi * safe))
    kaiser = _bessel_i0_of_root(KAISER_SHAPE**2 * (1.0 - (x / HALF_WIDTH) ** 2))
    return sinc * kaiser / _bessel_i0_of_root(KAISER_SHAPE**2)


def _bessel_i0_of_root(y: Array | float) -> Array | float:
    """``I0(sqrt(y))`` by its power series in y, smooth through y = 0 where the root is not (30 terms reach rounding at
    y = 40).
    """
    out = 1.0
    for k in range(30, 0, -1):
        out = 1.0 + out * y / (4.0 * k * k)
    return out
