"""First derivatives on a staggered grid, damped in the absorbing layer and closed at a free surface.

All that a sub-step reads are one linear operator with a transpose written by hand: of the two staggered derivatives,
from nodes to half-way and back, each is minus the other's transpose.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi.equations.base import Field
from jaxfwi.grid import stencils
from jaxfwi.grid.absorber import Slab
from jaxfwi.grid.blocks import split_along, with_neighbours
from jaxfwi.grid.derivative import Derivative, Patched, first_row
from jaxfwi.grid.linear import linear_operator
from jaxfwi.grid.surface import plain_rows, surface

__all__ = ["FirstDerivative", "FirstDerivatives", "layer_key"]


def layer_key(name: str, axis: int) -> str:
    """The name of the layer's memory variables for the derivative of a field along an axis."""
    return f"{name} along axis {axis}"


@dataclass(frozen=True)
class FirstDerivative:
    """The derivative of one field along one axis.

    It is a dense pass over the grid and patches to be added to it: the change of the first rows at a free surface, and
    ``psi = decay psi + gain derivative`` in each slab across its axis.
    """

    derivative: Derivative
    name: str
    axis: int
    field: Field

    @property
    def key(self) -> str:
        """The name of its memory variables."""
        return layer_key(self.name, self.axis)

    @property
    def to_half(self) -> bool:
        """Whether it leads from nodes to half-way between them, or back."""
        return not self.field.half[self.axis]

    @property
    def slabs(self) -> list[Slab]:
        """The slabs across its axis."""
        return [slab for slab in self.derivative.slabs if slab.axis == self.axis]

    @property
    def at_surface(self) -> bool:
        """Whether it looks across a free surface."""
        return self.derivative.free_surface and self.axis == 0

    def layer_at_rest(self, field: Array) -> tuple[Array, ...]:
        """Its memory variables for a field at rest, one for each slab."""
        return tuple(stencils.slice_axis(field, self.axis, 0, slab.width) for slab in self.slabs)

    def starts(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Where its patches begin."""
        first = [first_row(self.derivative.reach, len(shape))] if self.at_surface else []
        return first + [slab.start(shape, 0, self.to_half) for slab in self.slabs]

    def apply(self, u: Array, psis: tuple[Array, ...]) -> tuple[Array, list[Array], tuple[Array, ...]]:
        """The dense derivative, its patches, and the new memory variables."""
        axis, reach = self.axis, self.derivative.reach
        u = with_neighbours(u, reach, split_along(self.derivative.split, axis))
        dense = stencils.pad_axis(self._stencil(u, self.to_half), axis, reach, reach)
        patches, new = [], []
        if self.at_surface:
            change = self._surface_change(u.dtype)
            patches.append(_times_rows(change, stencils.slice_axis(u, 0, reach, change.shape[1])))
        for slab, psi in zip(self.slabs, psis, strict=True):
            gain, decay = slab.recursion(u.ndim, u.dtype, self.to_half)
            first = slab.start(u.shape, 0, self.to_half)[axis] - reach
            near = stencils.slice_axis(u, axis, first, slab.width + 2 * reach)
            new.append(decay * psi + gain * self._stencil(near, self.to_half))
        return dense, patches + new, tuple(new)

    def transpose(
        self, dense: Array, patches: list[Array], psis: tuple[Array, ...]
    ) -> tuple[Patched, tuple[Array, ...]]:
        """The transpose of `apply`: the cotangents of the field and of the old memory variables."""
        axis, reach = self.axis, self.derivative.reach
        wide = with_neighbours(stencils.unfused_on_cpu(dense), reach, split_along(self.derivative.split, axis))
        pulled = -stencils.pad_axis(self._stencil(wide, not self.to_half), axis, reach, reach)
        rest, starts, more, old = list(patches), [], [], []
        if self.at_surface:
            starts.append(first_row(reach, pulled.ndim))
            more.append(_times_rows(self._surface_change(pulled.dtype).T, rest.pop(0)))
        for slab, patch, psi in zip(self.slabs, rest, psis, strict=True):
            gain, decay = slab.recursion(pulled.ndim, pulled.dtype, self.to_half)
            psi = psi + patch
            old.append(decay * psi)
            start, of_slab = self._pulled_from(slab, gain * psi, pulled.shape)
            starts.append(start)
            more.append(of_slab)
        return Patched.at(pulled, starts, more), tuple(old)

    def _stencil(self, u: Array, to_half: bool) -> Array:
        return stencils.staggered(u, self.axis, self.derivative.order, self.derivative.spacing[self.axis], to_half)

    def _pulled_from(self, slab: Slab, values: Array, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Array]:
        """Minus the opposite derivative of values that are zero outside a slab, and the first cell that it reaches."""
        reach, axis = self.derivative.reach, self.axis
        start = list(slab.start(shape, 0, self.to_half))
        before = min(reach, start[axis] - reach)
        after = min(reach, shape[axis] - reach - start[axis] - slab.width)
        start[axis] -= before
        wide = stencils.pad_axis(values, axis, reach + before, reach + after)
        return tuple(start), -self._stencil(wide, not self.to_half)

    def _surface_change(self, dtype: Any) -> np.ndarray:
        """A matrix for the first rows: the derivative under a free surface minus the plain one.

        Normal stress and pressure are zero on the surface, whatever their array holds there. The derivative of the
        normal velocity on the surface is not used.
        """
        order = self.derivative.order
        if self.to_half:
            change = surface(order).to_half.copy()
            if self.field.odd:
                change[:, 0] = -plain_rows(order, change.shape, to_half=True)[:, 0]
        else:
            change = surface(order).to_nodes.copy()
            if not self.field.odd:
                change[0] = -plain_rows(order, change.shape, to_half=False)[0]
        return (change / self.derivative.spacing[0]).astype(dtype)


@dataclass(frozen=True)
class FirstDerivatives:
    """All first derivatives that a sub-step reads."""

    each: tuple[FirstDerivative, ...]

    def layer_at_rest(self, field: Array) -> dict[str, tuple[Array, ...]]:
        """The layer's memory variables for fields at rest."""
        return {d.key: d.layer_at_rest(field) for d in self.each}

    def __call__(
        self, waves: dict[str, Array], layer: dict[str, Any]
    ) -> tuple[dict[tuple[str, int], Patched], dict[str, Any], dict[str, Array]]:
        """The derivatives by field and axis, the new memory variables, and the fields that were read.

        Use these fields for the rest of the step: in a gradient all of their cotangent is then there when patches are
        added to it.
        """
        operands = {d.name: waves[d.name] for d in self.each}, {d.key: layer.get(d.key, ()) for d in self.each}
        dense, patches, layer, read = linear_operator(self._apply, self._transpose, (), operands)
        derivatives = {}
        for d in self.each:
            starts = d.starts(dense[d.key].shape)
            derivatives[d.name, d.axis] = Patched.at(dense[d.key], starts, patches[d.key])
        return derivatives, layer, read

    def _apply(self, _, operands):
        waves, layer = operands
        out = {d.key: d.apply(waves[d.name], layer[d.key]) for d in self.each}
        dense, patches, layer = ({key: values[i] for key, values in out.items()} for i in range(3))
        return dense, patches, layer, waves

    def _transpose(self, _, cotangents):
        dense, patches, layer, waves = cotangents
        pulled, old = {name: Patched(wave, {}) for name, wave in waves.items()}, {}
        for d in self.each:
            more, old[d.key] = d.transpose(dense[d.key], patches[d.key], layer[d.key])
            pulled[d.name] = pulled[d.name] + more
        return {name: wave.merged() for name, wave in pulled.items()}, old


def _times_rows(matrix: np.ndarray, u: Array) -> Array:
    """A matrix times the rows of `u`."""
    return jnp.tensordot(jnp.asarray(matrix), u, axes=1, precision="highest")
