"""The absorbing layer: a C-PML, and its damped cells in slabs along the sides of the grid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxfwi._checks import as_integer
from jaxfwi.grid.blocks import Split, in_outermost
from jaxfwi.grid.stencils import pad_axis

__all__ = ["CPML", "Slab", "slab_of"]


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
        ValueError: for a width that is not a whole number, or a parameter out of its range.

    >>> CPML(width=((0, 20), (20, 20))).widths(2)
    ((0, 20), (20, 20))
    """

    width: int | tuple[tuple[int, int], ...] = 20
    velocity: float = 3000.0
    frequency: float = 10.0
    reflection: float = 1e-5

    def __post_init__(self):
        width: Any = self.width
        if isinstance(width, tuple | list):
            if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in width):
                raise ValueError(
                    "CPML width must be a whole number or a (near, far) pair per axis, as ((0, 20), (20, 20)), got "
                    f"{width}."
                )
            width = tuple((as_integer("CPML width", near, 0), as_integer("CPML width", far, 0)) for near, far in width)
        else:
            width = as_integer("CPML width", width, 0)
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
    """Coefficients of ``psi = decay * psi + gain * derivative``, cell by cell from the outermost one inwards."""

    decay: tuple[float, ...] = field(repr=False)
    gain: tuple[float, ...] = field(repr=False)
    loss: tuple[float, ...] = field(repr=False)  # of a wave in a time step: d dt


@dataclass(frozen=True)
class Slab:
    """The damped cells along one side of an axis. `jaxfwi.grid.frame` has a picture of where they lie.

    Where the grid is split along this axis, every block has the cells, but they damp only in the outermost block.
    """

    axis: int
    far: bool
    width: int
    margin: int  # of the grid
    nodes: Recursion
    half: Recursion  # of derivatives half-way between nodes
    split: Split | None = None  # if it is along the slab's axis
    spare: int = 0  # cells between the slab and the margin, on the far side

    def recursion(
        self, ndim: int, dtype: Any, half: bool = False, inward: int = 0, outward: int = 0
    ) -> tuple[Array, Array]:
        """The gain and the decay, shaped to broadcast along the slab's axis; 0 in cells added on either side."""
        shape = [1] * ndim
        shape[self.axis] = -1
        profile = self.half if half else self.nodes
        padded = [np.pad(np.asarray(x), (outward, inward)) for x in (profile.gain, profile.decay)]
        gain, decay = (x[:: -1 if self.far else 1].reshape(shape) for x in padded)
        return in_outermost(self.split, self.far, jnp.asarray(gain, dtype), 0.0), jnp.asarray(decay, dtype)

    def start(self, shape: Sequence[int], inward: int, half: bool = False) -> tuple[int, ...]:
        """First cell of the slab, and of some more on its inner side, in a grid of this shape.

        On the far side the slab half-way between nodes starts, and ends, a cell before the slab on nodes: nothing lies
        beyond the last node, as on the near side nothing lies before the first.
        """
        from_end = self.width + inward + half + self.spare + self.margin
        first = shape[self.axis] - from_end if self.far else self.margin
        return tuple(first if axis == self.axis else 0 for axis in range(len(shape)))

    def shape_in(self, shape: Sequence[int], more: int = 0) -> tuple[int, ...]:
        """The shape of the slab, and of some more cells across it, in a grid of this shape."""
        return tuple(self.width + more if axis == self.axis else n for axis, n in enumerate(shape))

    def cut(self, u: Array, inward: int, outward: int) -> Array:
        """The slab's cells of a field, and some more on its inner and its outer side."""
        start = list(self.start(u.shape, inward))
        start[self.axis] -= 0 if self.far else outward
        shape = self.shape_in(u.shape, inward + outward)
        return lax.slice(u, start, [s + n for s, n in zip(start, shape, strict=True)])

    def pad(self, x: Array, inward: int, outward: int) -> Array:
        """Zeros added on the inner and the outer side."""
        return pad_axis(x, self.axis, *((inward, outward) if self.far else (outward, inward)))


@lru_cache
def slab_of(cpml: CPML, axis: int, far: bool, width: int, margin: int, spacing: float, dt: float) -> Slab:
    """The slab of a C-PML on one side of an axis."""

    def recursion(depth):
        d = -1.5 * cpml.velocity * math.log(cpml.reflection) / (width * spacing) * depth**2
        alpha = math.pi * cpml.frequency * (1.0 - depth)
        decay = np.exp(-np.minimum((d + alpha) * dt, 25.0))  # 1e-11: nothing is left, but the transpose divides by it
        gain = d / (d + alpha) * (decay - 1.0)
        return Recursion(decay=tuple(decay.tolist()), gain=tuple(gain.tolist()), loss=tuple((d * dt).tolist()))

    depth = np.arange(width, 0, -1) / width  # 1 at the outermost cell; 0 would be the last cell of the gap
    return Slab(axis, far, width, margin, recursion(depth), recursion(depth - 0.5 / width))
