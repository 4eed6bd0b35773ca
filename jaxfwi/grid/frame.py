"""The padded grid: a model with an absorbing layer around it.

One axis of it, with a layer on both sides::

    cell 0
    |                 model[0]             model[-1]
    v                     v                    v
    | margin | slab | gap | model .... model | gap | slab | spare | margin |
    |        |<-pads[0]-->|                  |<----pads[1]------->|        |
    |        |<-------------------- cells ----------------------->|        |
    |<----------------------------- shape ------------------------------->|

- The **margin** is as wide as a stencil reaches. Coefficients are zero there, so fields stay zero, and stencils read it
  without asking where the grid ends.
- A **slab** holds the damped cells of the C-PML. Side by side they make the layer: corners belong to two slabs.
- The **gap** is as wide as the reach again. With it no memory variable of the layer acts on a model cell, so the
  undamped scheme holds exactly in the model, and boundary saving can run it backwards. A side without a layer has no
  gap either; at a free surface the model's first row is the first row inside the margin.
- **Spare** cells have zero coefficients. They make rows as long as loops like them (then they count as margin), or
  blocks of a split grid equally long (then they count as cells).

`Slab.start` counts from cell 0, on the far side back from ``shape`` over margin and spare cells. `Frame.model` gives
the model's cells. `coupling.shift` and the window of boundary saving (`simulation.window`) subtract the first cell of a
smaller grid, which has a margin of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxfwi.grid.absorber import CPML, slab_of
from jaxfwi.grid.blocks import Split, split_along
from jaxfwi.grid.derivative import Derivative
from jaxfwi.grid.grid import Grid

__all__ = ["Frame", "Region", "margins"]

Region = tuple[slice, ...]

ROW = 8  # cells: steps in rows of a multiple of them are up to a third faster than in odd ones, on a CPU and on a GPU


def margins(cells: Sequence[int], reach: int, split_axis: int | None = None) -> tuple[tuple[int, int], ...]:
    """Cells of the margin around so many cells, per axis and side.

    The reach of the stencil; at the far end of the last axis more, to make a row as long as loops like it, unless
    blocks meet there.
    """
    out = [(reach, reach)] * len(cells)
    if split_axis != len(cells) - 1:
        out[-1] = (reach, reach + -(cells[-1] + 2 * reach) % ROW)
    return tuple(out)


@dataclass(frozen=True)
class Frame:
    """The padded grid of a model, as drawn above.

    Args:
        grid: of the model.
        order: of accuracy in space; the gap is half of it.
        absorber: the layer. At a free surface its top width counts as 0.
        free_surface: whether the model's first row is a free surface.
        split: the axis along which this is one block of a larger padded grid, made by `block`. All blocks are alike:
            though only the outermost have layers, and the last one spare cells, each has room for them, and `grid` has
            the remaining cells.
        spare: cells at the far end of the split axis with zero coefficients.
    """

    grid: Grid
    order: int
    absorber: CPML
    free_surface: bool
    split: Split | None = None
    spare: int = 0

    @property
    def reach(self) -> int:
        """Cells that a stencil looks to each side."""
        return self.order // 2

    @property
    def widths(self) -> tuple[tuple[int, int], ...]:
        """Damped cells per axis and side."""
        widths = self.absorber.widths(self.grid.ndim)
        return ((0, widths[0][1]), *widths[1:]) if self.free_surface else widths

    @property
    def pads(self) -> tuple[tuple[int, ...], ...]:
        """Cells between the model and the margin per axis and side: gap, slab and spare ones."""
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
        """Cells of the padded grid with its margin."""
        return tuple(n + sum(margin) for n, margin in zip(self.cells, self.margins, strict=True))

    @property
    def model(self) -> Region:
        """The model's cells in the padded grid."""
        starts = (near + self.reach for near, _ in self.pads)
        return tuple(slice(s, s + n) for n, s in zip(self.grid.shape, starts, strict=True))

    @property
    def derivative(self) -> Derivative:
        """The damped derivative on the padded grid."""
        g, slabs = self.grid, []
        for axis, widths in enumerate(self.widths):
            split, spare = split_along(self.split, axis), self.margins[axis][1] - self.reach
            for far, width in enumerate(widths):
                if width:
                    slab = slab_of(self.absorber, axis, bool(far), width, self.reach, g.spacing[axis], g.dt)
                    slabs.append(replace(slab, split=split, spare=spare if split is None else self.spare))
        return Derivative(g.spacing, self.order, self.free_surface, tuple(slabs), self.split)

    @property
    def split_axis(self) -> int | None:
        """The axis that is split, if there is one."""
        return None if self.split is None else self.split.axis

    def room(self, split: Split) -> tuple[int, int, int]:
        """Of the blocks that a split would make: their cells along the axis without the margin, how many they need at
        least, and the spare ones of the last block.
        """
        cells = self.cells[split.axis]
        length = -(-cells // split.blocks)
        spare = split.blocks * length - cells
        return length, max(sum(self.pads[split.axis]) + spare + 1, self.reach), spare

    def block(self, split: Split) -> "Frame":
        """One of the blocks of this padded grid."""
        length, _, spare = self.room(split)
        shape = list(self.grid.shape)
        shape[split.axis] = length - sum(self.pads[split.axis]) - spare
        return replace(self, grid=replace(self.grid, shape=shape), split=split, spare=spare)

    def along_split(self, region: Sequence[slice]) -> Region:
        """The region, extended along the split axis to all of the block but its margin."""
        r = self.reach
        return tuple(
            slice(r, n - r) if axis == self.split_axis else s
            for axis, (s, n) in enumerate(zip(region, self.shape, strict=True))
        )
