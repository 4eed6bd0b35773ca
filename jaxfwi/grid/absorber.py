"""Absorbing layers and the free surface: the padded grid around a model and the derivatives on it.

Around the model lies, on each side with a layer, a gap as wide as the stencil's reach and then the damped cells of a
C-PML. With the gap no memory variable touches a model cell, so that the undamped scheme holds exactly in the model:
boundary saving rebuilds wavefields with it. Around all of that lies a margin, again as wide as the reach or a little
wider, whose cells stay zero: every coefficient is zero there.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxfwi._checks import as_integer
from jaxfwi.grid import stencils
from jaxfwi.grid.blocks import Split, with_neighbours
from jaxfwi.grid.grid import Grid
from jaxfwi.grid.linear import linear_operator, varying_zero

__all__ = ["CPML", "Derivative", "Frame", "margins"]

Region = tuple[slice, ...]

ROW = 8  # cells: steps in rows of a multiple of them are up to a third faster than in odd ones, on a CPU and on a GPU


@dataclass(frozen=True)
class CPML:
    """A convolutional perfectly matched layer: how wide and how strong.

    The layer multiplies the waves by ``exp(-integral of d / speed)`` where d grows with the square of the depth into
    the layer, stretched by a frequency shift alpha that keeps grazing and slow waves decaying (Komatitsch & Martin
    2007, Geophysics 72, SM155-SM167; for the second-order equation Pasalic & McGarry 2010, SEG Expanded Abstracts 29,
    2925-2929).

    Args:
        width: damped cells, one number for all sides, or ``((top, bottom), (left, right))`` with a pair per axis (near
            side, far side). A side of width 0 has no layer: fields are zero beyond it, and it reflects.
        velocity: speed in m/s at which the layer is tuned. Waves at half or twice this speed are still absorbed well;
            set it when a model's speeds are far from the default, or for less of fast waves that graze the layer.
        frequency: dominant frequency in Hz, which sets the frequency shift. The effect is small.
        reflection: amplitude reflected at normal incidence in theory; the grid adds its own.

    Raises:
        ValueError: for a width that is not a whole number or any parameter that cannot be.

    >>> CPML(width=((0, 20), (20, 20))).widths(2)
    ((0, 20), (20, 20))
    """

    width: int | tuple[tuple[int, int], ...] = 20
    velocity: float = 3000.0
    frequency: float = 10.0
    reflection: float = 1e-5

    def __post_init__(self):
        given: Any = self.width
        if isinstance(given, tuple | list):
            if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in given):
                raise ValueError(
                    "CPML width must be a whole number or a (near, far) pair per axis, as ((0, 20), (20, 20)), got "
                    f"{given}."
                )
            width = tuple((as_integer("CPML width", near, 0), as_integer("CPML width", far, 0)) for near, far in given)
        else:
            width = as_integer("CPML width", given, 0)
        object.__setattr__(self, "width", width)
        if not (self.velocity > 0 and self.frequency > 0 and 0 < self.reflection < 1):
            raise ValueError(
                f"CPML velocity and frequency must be positive and reflection between 0 and 1, got {self}."
            )

    def widths(self, ndim: int) -> tuple[tuple[int, int], ...]:
        """Damped cells per axis and side."""
        if isinstance(self.width, int):
            return ((self.width, self.width),) * ndim
        if len(self.width) != ndim:
            raise ValueError(f"CPML width has {len(self.width)} pairs for a grid of {ndim} axes: {self.width}.")
        return self.width


@dataclass(frozen=True)
class Recursion:
    """The recursion ``memory = decay memory + gain derivative`` across a layer, from the outside in."""

    decay: tuple[float, ...] = field(repr=False)
    gain: tuple[float, ...] = field(repr=False)
    loss: tuple[float, ...] = field(repr=False)  # of a wave in a time step, d dt


@dataclass(frozen=True)
class Slab:
    """The damped cells along one side of an axis. Across a split axis every block has them, but they damp only in the
    outermost one.
    """

    axis: int
    far: bool
    width: int
    margin: int  # of the grid
    nodes: "Recursion"
    half: "Recursion"  # of the derivatives half-way between nodes
    split: Split | None = None  # of the slab's own axis
    spare: int = 0  # cells beyond a slab on the far side

    def here(self, x: Array, otherwise: float) -> Array:
        """What damps, `x`, where the slab does; what does not, elsewhere."""
        return x if self.split is None else jnp.where(self.split.outermost(self.far), x, otherwise)

    def recursion(
        self, ndim: int, dtype: Any, half: bool = False, inward: int = 0, outward: int = 0
    ) -> tuple[Array, Array]:
        """Coefficients a and b of ``memory = b memory + a derivative``, shaped to broadcast along the slab's axis; 0 in
        the cells beyond the slab on either side.
        """
        shape = [1] * ndim
        shape[self.axis] = -1
        profile = self.half if half else self.nodes
        padded = [np.pad(np.asarray(x), (outward, inward)) for x in (profile.gain, profile.decay)]
        a, b = (x[:: -1 if self.far else 1].reshape(shape) for x in padded)
        return self.here(jnp.asarray(a, dtype), 0.0), jnp.asarray(b, dtype)

    def start(self, shape: Sequence[int], reach: int, half: bool = False) -> tuple[int, ...]:
        """First cell of the slab and the `reach` cells on its inner side, in a grid of this shape.

        On the far side the slab half-way between nodes starts, and ends, a cell before that of the nodes: as on the
        near side nothing lies beyond the last node.
        """
        inward = self.width + reach + half + self.spare + self.margin
        first = [n - inward if self.far else self.margin for n in shape]
        return tuple(first[a] if a == self.axis else 0 for a in range(len(shape)))

    def cells(self, shape: Sequence[int], more: int = 0) -> tuple[int, ...]:
        """The shape of the slab's cells, and of some more across it, in a grid of this shape."""
        return tuple(self.width + more if a == self.axis else n for a, n in enumerate(shape))

    def around(self, u: Array, inward: int, outward: int) -> Array:
        """The slab's cells and more on either side."""
        start = list(self.start(u.shape, inward))
        start[self.axis] -= 0 if self.far else outward
        cells = self.cells(u.shape, inward + outward)
        return lax.slice(u, start, [s + n for s, n in zip(start, cells, strict=True)])

    def extend(self, x: Array, inward: int, outward: int) -> Array:
        """Zeros added on the model's side and on the outer side."""
        return stencils.pad_axis(x, self.axis, *((inward, outward) if self.far else (outward, inward)))


@lru_cache
def _slab(axis: int, far: bool, width: int, margin: int, cpml: CPML, spacing: float, dt: float) -> Slab:
    def recursion(depth):
        d = -1.5 * cpml.velocity * math.log(cpml.reflection) / (width * spacing) * depth**2
        alpha = math.pi * cpml.frequency * (1.0 - depth)
        b = np.exp(-np.minimum((d + alpha) * dt, 25.0))  # 1e-11: nothing is left, but the transpose divides by it
        a = d / (d + alpha) * (b - 1.0)
        return Recursion(decay=tuple(b.tolist()), gain=tuple(a.tolist()), loss=tuple((d * dt).tolist()))

    depth = np.arange(width, 0, -1) / width  # 1 at the outermost cell; 0 would be the last cell of the gap
    return Slab(axis, far, width, margin, recursion(depth), recursion(depth - 0.5 / width))


@dataclass(frozen=True)
class Derivative:
    """Space derivatives of a field, damped in its slabs. With no slabs it is the plain derivative of the interior.

    Fields have a margin of zeros, `order` / 2 cells or more on every side. Coefficients that multiply derivatives are
    to be 0 there too: then fields stay so, and the derivatives' cotangents are, which the transposes build upon.

    Args:
        spacing: metres between nodes, per axis.
        order: of accuracy in space.
        free_surface: whether the first row is a free surface, where the field is zero and antisymmetric about it.
        slabs: the damped cells.
        split: the axis along which the fields are blocks of larger ones.
    """

    spacing: tuple[float, ...]
    order: int
    free_surface: bool
    slabs: tuple[Slab, ...] = ()
    split: Split | None = None

    def memory(self, field: Array) -> tuple[tuple[Array, Array], ...]:
        """Memory variables at rest, of a field at rest: two a slab. They lie on the slab's cells and, so that stencils
        need no copy with a margin, on some beside it across the axis, where they stay 0.
        """
        r = self.order // 2

        def rest(slab, more):
            return jnp.zeros(slab.cells(field.shape, more), field.dtype) + varying_zero(field).astype(field.dtype)

        return tuple((rest(s, 3 * r), rest(s, r)) for s in self.slabs)

    def add_laplacian(
        self, onto: Callable[[Array], Array], scale: Array, u: Array, memory: Any
    ) -> tuple[Array, Array, Any]:
        """Return ``onto(u) + scale * laplacian(u)``, the field itself, and the new memory variables.

        The scale comes in here because the slabs' few cells are then added to a finished dense pass, and not the other
        way round: half the traffic of a step. The field is to be taken from here for the rest of the step, so that
        going backwards all of its cotangent is there when the slabs' cells are added to it.
        """
        r = self.order // 2
        dense, patches, memory, u = linear_operator(self._laplacian, self._laplacian_transposed, (), (u, memory))
        out = onto(u) + scale * dense
        starts = [first_row(r, u.ndim)] if self.free_surface else []
        starts += [s.start(u.shape, r) for s in self.slabs]
        for start, patch in zip(starts, patches, strict=True):
            out = stencils.add_at(out, start, stencils.slice_at(scale, start, patch.shape) * patch)
        return out, u, memory

    def _laplacian(self, _, operands):
        """The dense Laplacian, what must be added to it (at the free surface, in the slabs), the new memory variables,
        and the field.

        In a slab the stretched second derivative is ``D2 u + D1 psi + zeta`` with ``psi = b psi + a D1 u`` and ``zeta =
        b zeta + a (D2 u + D1 psi)`` (Pasalic & McGarry 2010).
        """
        through, memory = operands
        r = self.order // 2
        patches, new_memory = self._surface_images(through), []
        u = with_neighbours(through, r, self.split)
        for slab, (psi, zeta) in zip(self.slabs, memory, strict=True):
            (a_psi, b_psi), (a_zeta, b_zeta), d1, d2 = self._local(slab, u)
            first = stencils.difference(slab.around(u, r, r), slab.axis, d1)
            psi = b_psi * psi + a_psi * slab.extend(first, 2 * r, r)
            spread = stencils.unfused_on_cpu(stencils.difference(psi, slab.axis, d1))
            second = stencils.difference(slab.around(u, 2 * r, r), slab.axis, d2)
            zeta = b_zeta * zeta + a_zeta * (second + spread)
            patches.append(spread + zeta)
            new_memory.append((psi, zeta))
        return jnp.pad(stencils.laplacian(u, self.order, self.spacing), r), patches, tuple(new_memory), through

    def _laplacian_transposed(self, _, cotangents):
        """The transpose of `_laplacian`: the same stencils, as D2 is symmetric and D1 antisymmetric, in the reverse
        order. Spare cells are left out: fields are 0 there.
        """
        dense, patches, memory, through = cotangents
        r = self.order // 2
        dense = with_neighbours(lax.optimization_barrier(dense), r, self.split)
        u = through + jnp.pad(stencils.laplacian(dense, self.order, self.spacing), r)
        patches = list(patches)
        if self.free_surface:
            u = stencils.add_at(u, first_row(r, u.ndim), self._images(patches.pop(0)))
        old_memory = []
        for slab, patch, (psi, zeta) in zip(self.slabs, patches, memory, strict=True):
            (_, b_psi), (a_zeta, b_zeta), d1, _ = self._local(slab, u)
            zeta = zeta + patch
            spread = stencils.unfused_on_cpu(slab.extend(patch + a_zeta * zeta, 2 * r, 2 * r))
            old_memory.append((b_psi * (psi - stencils.difference(spread, slab.axis, d1)), b_zeta * zeta))
        # by themselves, and the rest from them: else XLA, on a GPU, computes them again at each stencil point
        old_memory = lax.optimization_barrier(tuple(old_memory))
        for slab, (psi, zeta) in zip(self.slabs, old_memory, strict=True):
            of_psi, of_zeta, d1, d2 = self._local(slab, u)
            inner = stencils.unfused_on_cpu(slab.extend(_ratio(*of_zeta) * zeta, r, r))
            near = stencils.difference(inner, slab.axis, d2)
            near = near - stencils.difference(_ratio(*of_psi) * psi, slab.axis, d1)
            u = stencils.add_at(u, slab.start(u.shape, r), stencils.unfused_on_cpu(near))
        return u, old_memory

    def _local(self, slab: Slab, u: Array):
        """A slab's recursion coefficients, of psi and of zeta, and the two stencils along its axis."""
        r, h = self.order // 2, self.spacing[slab.axis]
        of_psi = slab.recursion(u.ndim, u.dtype, inward=2 * r, outward=r)
        of_zeta = slab.recursion(u.ndim, u.dtype, inward=r)
        d1 = [c / h for c in stencils.first_derivative(self.order)]
        d2 = [c / h**2 for c in stencils.second_derivative(self.order)]
        return of_psi, of_zeta, d1, d2

    def _surface_images(self, u: Array) -> list[Array]:
        """What the antisymmetric images above a free surface add to the Laplacian in the first rows, as a list of one
        (or of none).
        """
        if not self.free_surface:
            return []
        r = self.order // 2
        rows = min(r + 1, u.shape[0] - 2 * r)
        return [self._images(stencils.slice_axis(u, 0, r, rows))]

    def _images(self, top: Array) -> Array:
        """Of the first rows. Row i sees the image of row j with weight ``-c[i+j]``: a symmetric matrix. It also takes
        row 0 out of play, which stays at zero.
        """
        c = [x / self.spacing[0] ** 2 for x in stencils.second_derivative(self.order)]
        rows = range(len(top))
        return jnp.stack([sum(-c[i + j] * top[j] for j in rows if i + j < len(c)) for i in rows])


def _ratio(gain: Array, decay: Array) -> Array:
    """Of the gain to the decay; 0 beyond the slab, where both are."""
    return gain / jnp.where(decay == 0.0, 1.0, decay)


def first_row(margin: int, ndim: int) -> tuple[int, ...]:
    """Where the first row inside the margin begins."""
    return (margin, *(0,) * (ndim - 1))


def margins(cells: Sequence[int], reach: int, split_axis: int | None = None) -> tuple[tuple[int, int], ...]:
    """Cells of the margin around so many cells, per axis and side: the stencil's reach, and at the far end of the last
    axis what makes a row as long as loops like it, unless blocks meet there.
    """
    out = [(reach, reach)] * len(cells)
    if split_axis != len(cells) - 1:
        out[-1] = (reach, reach + -(cells[-1] + 2 * reach) % ROW)
    return tuple(out)


@dataclass(frozen=True)
class Frame:
    """The padded grid: a model, on each side with a layer the gap and the damped cells, and around it all the margin.

    Args:
        grid: of the model.
        order: of accuracy in space; the gap is half of it.
        absorber: the layer. At a free surface its top width counts as 0.
        free_surface: whether the model's first row is a free surface.
        split: the axis along which this is one block of a larger padded grid, as `block` gives it. The blocks are
            alike: where only the outermost have layers, and the last one spare cells, each has room for them, and
            `grid` is what is left.
        spare: cells at the far end of the split axis, of zero coefficients.
    """

    grid: Grid
    order: int
    absorber: CPML
    free_surface: bool
    split: Split | None = None
    spare: int = 0

    @property
    def reach(self) -> int:
        """Cells that a stencil looks to each side: the margin has at least as many."""
        return self.order // 2

    @property
    def widths(self) -> tuple[tuple[int, int], ...]:
        """Damped cells per axis and side."""
        widths = self.absorber.widths(self.grid.ndim)
        return ((0, widths[0][1]), *widths[1:]) if self.free_surface else widths

    @property
    def pads(self) -> tuple[tuple[int, ...], ...]:
        """Cells around the model per axis and side but for the margin: damped ones and the gap."""
        pads = [[w + self.reach if w else 0 for w in pair] for pair in self.widths]
        if self.split is not None:
            pads[self.split.axis][1] += self.spare
        return tuple(map(tuple, pads))

    @property
    def cells(self) -> tuple[int, ...]:
        """Cells of the padded grid inside its margin."""
        return tuple(n + sum(pad) for n, pad in zip(self.grid.shape, self.pads, strict=True))

    @property
    def margins(self) -> tuple[tuple[int, int], ...]:
        """Cells of the margin per axis and side."""
        return margins(self.cells, self.reach, self.split_axis)

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells of the padded grid, with its margin."""
        return tuple(n + sum(margin) for n, margin in zip(self.cells, self.margins, strict=True))

    @property
    def model(self) -> Region:
        """The model's cells in the padded grid."""
        starts = (lo + self.reach for lo, _ in self.pads)
        return tuple(slice(s, s + n) for n, s in zip(self.grid.shape, starts, strict=True))

    @property
    def derivative(self) -> Derivative:
        """The damped derivative on the padded grid."""
        g = self.grid
        slabs = tuple(
            _slab(axis, bool(side), self.widths[axis][side], self.reach, self.absorber, g.spacing[axis], g.dt)
            for axis in range(g.ndim)
            for side in (0, 1)
            if self.widths[axis][side]
        )
        split, wider = self.split, self.margins[-1][1] - self.reach
        slabs = tuple(replace(s, spare=wider) if s.axis == g.ndim - 1 else s for s in slabs)
        if split is not None:
            slabs = tuple(replace(s, split=split, spare=self.spare) if s.axis == split.axis else s for s in slabs)
        return Derivative(g.spacing, self.order, self.free_surface, slabs, split)

    def room(self, split: Split) -> tuple[int, int, int]:
        """Cells of a block along a split axis but for its margin, those that it needs, and the spare ones of the last
        block.
        """
        cells = self.cells[split.axis]
        length = -(-cells // split.parts)
        spare = split.parts * length - cells
        return length, max(sum(self.pads[split.axis]) + spare + 1, self.reach), spare

    def block(self, split: Split) -> "Frame":
        """One of the blocks of this padded grid."""
        length, _, spare = self.room(split)
        shape = list(self.grid.shape)
        shape[split.axis] = length - sum(self.pads[split.axis]) - spare
        return replace(self, grid=replace(self.grid, shape=shape), split=split, spare=spare)

    @property
    def split_axis(self) -> int | None:
        """The split axis."""
        return None if self.split is None else self.split.axis

    def along_split(self, region: Sequence[slice]) -> Region:
        """A region of this block that takes in all of it along the split axis, but for the margin."""
        r = self.reach
        return tuple(
            slice(r, n - r) if a == self.split_axis else s
            for a, (s, n) in enumerate(zip(region, self.shape, strict=True))
        )
