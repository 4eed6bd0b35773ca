"""Space derivatives damped in the absorbing layer: their common parts, and the damped Laplacian.

A damped derivative is one dense pass over the grid and patches on few cells, which are then added to it: in the slabs
of the layer, and in the first rows under a free surface.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxfwi.grid import stencils
from jaxfwi.grid.absorber import Slab
from jaxfwi.grid.blocks import Split, with_neighbours
from jaxfwi.grid.linear import linear_operator, varying_zero

__all__ = ["Derivative", "Patched", "first_row"]

Cells = tuple[tuple[int, ...], tuple[int, ...]]  # the first one, and how many along each axis


@dataclass(frozen=True)
class Patched:
    """An array over the grid, and patches that are yet to be added to some of its cells.

    Adding to few cells of a finished array costs half the traffic of a second dense pass. Patches on the same cells are
    summed first.
    """

    dense: Array
    patches: dict[Cells, Array]

    @classmethod
    def at(cls, dense: Array, starts: Iterable[tuple[int, ...]], patches: Iterable[Array]) -> "Patched":
        """With patches that begin at these cells."""
        return cls(dense, {(start, patch.shape): patch for start, patch in zip(starts, patches, strict=True)})

    def __add__(self, other: "Patched") -> "Patched":
        patches = dict(self.patches)
        for cells, patch in other.patches.items():
            patches[cells] = patches[cells] + patch if cells in patches else patch
        return Patched(self.dense + other.dense, patches)

    def scaled(self, coefficient: Array) -> "Patched":
        """Times an array of the grid's shape."""
        patches = {cells: stencils.slice_at(coefficient, *cells) * patch for cells, patch in self.patches.items()}
        return Patched(coefficient * self.dense, patches)

    def merged(self) -> Array:
        """The array with its patches added."""
        out = self.dense
        for (start, _), patch in self.patches.items():
            out = stencils.add_at(out, start, patch)
        return out


@dataclass(frozen=True)
class Derivative:
    """Space derivatives of a field, damped in its slabs. Without slabs, the plain derivatives.

    Fields have a margin of zeros, `order` / 2 cells or more on every side. Coefficients that multiply derivatives must
    be 0 in the margin too. Then fields stay 0 there, and so do the cotangents of derivatives, on which the transposes
    rely.

    Args:
        spacing: metres between nodes, per axis.
        order: of accuracy in space.
        free_surface: whether the first row is a free surface, where the field is zero and antisymmetric about it.
        slabs: the damped cells.
        split: the axis along which fields are blocks of larger ones.
    """

    spacing: tuple[float, ...]
    order: int
    free_surface: bool
    slabs: tuple[Slab, ...] = ()
    split: Split | None = None

    @property
    def reach(self) -> int:
        """Cells that a stencil looks to each side."""
        return self.order // 2

    def layer_at_rest(self, field: Array) -> tuple[tuple[Array, Array], ...]:
        """The layer's memory variables of a field at rest: two for each slab, psi and zeta.

        So that stencils need no padded copy, the arrays hold cells beside the slab too, where the variables stay 0.
        From the model outwards, with the reach r::

                  | model   | gap     | slab        | margin
            psi   | r cells | r cells | width cells | r cells
            zeta  |         | r cells | width cells |
        """
        r, zero = self.reach, varying_zero(field).astype(field.dtype)

        def rest(slab, more):
            return jnp.zeros(slab.shape_in(field.shape, more), field.dtype) + zero

        return tuple((rest(slab, 3 * r), rest(slab, r)) for slab in self.slabs)

    def add_laplacian(
        self, onto: Callable[[Array], Array], scale: Array, u: Array, layer: Any
    ) -> tuple[Array, Array, Any]:
        """Return ``onto(u) + scale * laplacian(u)``, the field itself, and the new memory variables of the layer.

        The scale is an argument because the slabs' few cells are then added to a finished dense pass, which costs half
        the traffic of the reverse. Use the returned field for the rest of the step: in a gradient all of its cotangent
        is then there when the slabs' cells are added to it.
        """
        dense, patches, layer, u = linear_operator(self._laplacian, self._laplacian_transposed, (), (u, layer))
        starts = [first_row(self.reach, u.ndim)] if self.free_surface else []
        starts += [slab.start(u.shape, self.reach) for slab in self.slabs]
        laplacian = Patched.at(dense, starts, patches)
        return (Patched(onto(u), {}) + laplacian.scaled(scale)).merged(), u, layer

    def _laplacian(self, _, operands):
        """The dense Laplacian, its patches (at the free surface, in the slabs), the new memory variables, the field.

        In a slab the stretched second derivative is ``D2 u + D1 psi + zeta`` with ``psi = b psi + a D1 u`` and ``zeta =
        b zeta + a (D2 u + D1 psi)`` (Pasalic & McGarry 2010).
        """
        field, layer = operands
        r = self.reach
        patches, new_layer = [], []
        if self.free_surface:
            rows = min(r + 1, field.shape[0] - 2 * r)
            patches.append(self._surface_images(stencils.slice_axis(field, 0, r, rows)))
        u = with_neighbours(field, r, self.split)
        for slab, (psi, zeta) in zip(self.slabs, layer, strict=True):
            (a_psi, b_psi), (a_zeta, b_zeta), d1, d2 = self._in_slab(slab, u)
            first = stencils.difference(slab.cut(u, r, r), slab.axis, d1)
            psi = b_psi * psi + a_psi * slab.pad(first, 2 * r, r)
            spread = stencils.unfused_on_cpu(stencils.difference(psi, slab.axis, d1))
            second = stencils.difference(slab.cut(u, 2 * r, r), slab.axis, d2)
            zeta = b_zeta * zeta + a_zeta * (second + spread)
            patches.append(spread + zeta)
            new_layer.append((psi, zeta))
        return jnp.pad(stencils.laplacian(u, self.order, self.spacing), r), patches, tuple(new_layer), field

    def _laplacian_transposed(self, _, cotangents):
        """The transpose of `_laplacian`: the same stencils, as D2 is symmetric and D1 antisymmetric, in the reverse
        order. Spare cells are left out: fields are 0 there.
        """
        dense, patches, layer, field = cotangents
        r = stencil = psi_beyond_zeta = self.reach  # cells on either side, as drawn at `layer_at_rest`
        dense = with_neighbours(lax.optimization_barrier(dense), r, self.split)
        u = field + jnp.pad(stencils.laplacian(dense, self.order, self.spacing), r)
        patches = list(patches)
        if self.free_surface:
            u = stencils.add_at(u, first_row(r, u.ndim), self._surface_images(patches.pop(0)))
        old_layer = []
        for slab, patch, (psi, zeta) in zip(self.slabs, patches, layer, strict=True):
            (_, b_psi), (a_zeta, b_zeta), d1, _ = self._in_slab(slab, u)
            zeta = zeta + patch
            wide = slab.pad(patch + a_zeta * zeta, psi_beyond_zeta + stencil, psi_beyond_zeta + stencil)
            spread = stencils.difference(stencils.unfused_on_cpu(wide), slab.axis, d1)
            old_layer.append((b_psi * (psi - spread), b_zeta * zeta))
        # by themselves, and the rest from them: else XLA, on a GPU, computes them again at each stencil point
        old_layer = lax.optimization_barrier(tuple(old_layer))
        for slab, (psi, zeta) in zip(self.slabs, old_layer, strict=True):
            of_psi, of_zeta, d1, d2 = self._in_slab(slab, u)
            wide = stencils.unfused_on_cpu(slab.pad(_ratio(*of_zeta) * zeta, stencil, stencil))
            near = stencils.difference(wide, slab.axis, d2)
            near = near - stencils.difference(_ratio(*of_psi) * psi, slab.axis, d1)
            u = stencils.add_at(u, slab.start(u.shape, r), stencils.unfused_on_cpu(near))
        return u, old_layer

    def _in_slab(self, slab: Slab, u: Array):
        """A slab's gain and decay, for psi and for zeta, and the two stencils along its axis."""
        r, h = self.reach, self.spacing[slab.axis]
        of_psi = slab.recursion(u.ndim, u.dtype, inward=2 * r, outward=r)
        of_zeta = slab.recursion(u.ndim, u.dtype, inward=r)
        d1 = [c / h for c in stencils.first_derivative(self.order)]
        d2 = [c / h**2 for c in stencils.second_derivative(self.order)]
        return of_psi, of_zeta, d1, d2

    def _surface_images(self, top: Array) -> Array:
        """The change of the Laplacian in the first rows by the antisymmetric images of rows above a free surface.

        Row i sees the image of row j with weight ``-c[i+j]``, a symmetric matrix. It also takes out row 0, which stays
        at zero.
        """
        c = [x / self.spacing[0] ** 2 for x in stencils.second_derivative(self.order)]
        rows = range(len(top))
        return jnp.stack([sum(-c[i + j] * top[j] for j in rows if i + j < len(c)) for i in rows])


def _ratio(gain: Array, decay: Array) -> Array:
    """The gain over the decay; 0 beyond the slab, where both are 0."""
    return gain / jnp.where(decay == 0.0, 1.0, decay)


def first_row(margin: int, ndim: int) -> tuple[int, ...]:
    """The first cell of the first row inside the margin."""
    return (margin, *(0,) * (ndim - 1))
