"""One shot as a time loop: what a step does on the padded grid, and on the window around the model that boundary saving
rebuilds.

Everything static about a shot is in `Propagation`, which is hashable; everything that can be differentiated is in
`Inputs`.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfwi.absorber import Derivative, Frame, Region
from jaxfwi.coupling import Coupling, inject, nodes, sample, shift
from jaxfwi.equations.base import WaveEquation
from jaxfwi.linear import zero_of
from jaxfwi.stencils import put_at

__all__ = ["Inputs", "Places", "Propagation", "Window"]


class Places(NamedTuple):
    """The nodes that sources and receivers touch: per axis an index array ``(points, nodes)``."""

    source: tuple[Array, ...]
    receiver: tuple[Array, ...]


class Inputs(NamedTuple):
    """What the data of a shot depend on."""

    coefficients: Any  # of the equation, on the padded grid
    wavelet: Array  # (time, sources)
    source_weight: Array  # (sources, nodes)
    receiver_weight: Array  # (receivers, nodes)


@dataclass(frozen=True)
class Source:
    """The sources at one time step."""

    fields: tuple[str, ...]
    coupling: Coupling
    amount: Array

    def add(self, name: str, field: Array, scale: Array) -> Array:
        """`field` with ``scale * amount`` at the sources' nodes, if sources drive the field of this name."""
        return inject(field, self.coupling, self.amount, scale) if name in self.fields else field


@dataclass(frozen=True)
class Propagation:
    """The time loop of one shot.

    Args:
        equation: the type of the model.
        frame: the padded grid.
        source_fields: names of the fields that sources drive.
        receiver_fields: names of the fields that receivers record, one component of the data each.
        differentiate_absorber: whether the material of the layer takes part in derivatives.
    """

    equation: type[WaveEquation]
    frame: Frame
    source_fields: tuple[str, ...]
    receiver_fields: tuple[str, ...]
    differentiate_absorber: bool

    def initial(self, inputs: Inputs) -> Any:
        """The state at rest."""
        dtype = jax.tree.leaves(inputs.coefficients)[0].dtype
        zeros = jnp.zeros(self.frame.shape, dtype) + zero_of(inputs).astype(dtype)
        return self.equation.initial(zeros, self.frame.derivative)

    def samples(self, places: Places, state: Any) -> Array:
        """Recorded fields at the receivers' nodes, ``(components, receivers, nodes)``."""
        return jnp.stack([nodes(getattr(state, name), places.receiver) for name in self.receiver_fields])

    def data(self, inputs: Inputs, samples: Array) -> Array:
        """One time sample of the data, ``(receivers, components)``."""
        return jnp.stack([sample(s, inputs.receiver_weight) for s in samples], axis=-1)

    def step(self, places: Places, inputs: Inputs, state: Any, wavelet: Array) -> Any:
        """The state one step later, on the padded grid."""
        source = self.source(places, inputs, wavelet)
        return self.equation.step(inputs.coefficients, state, self.frame.derivative, source)

    def advance(self, places: Places, inputs: Inputs, state: Any, wavelet: Array) -> tuple[Any, Array]:
        """The state one step later and the data sample at the time of the given state: data[n] is at ``n dt``."""
        return self.step(places, inputs, state, wavelet), self.data(inputs, self.samples(places, state))

    def source(self, places: Places, inputs: Inputs, wavelet: Array) -> Source:
        """The sources at one time step; a point source is spread over the volume of a cell."""
        amount = wavelet / math.prod(self.frame.grid.spacing)
        return Source(self.source_fields, Coupling(places.source, inputs.source_weight), amount)

    def interpolates(self, inputs: Inputs) -> bool:
        """Whether receivers have weights worth differentiating."""
        return inputs.receiver_weight.shape[1] > 1

    @property
    def window(self) -> "Window":
        """Where boundary saving rebuilds the state."""
        return Window(self)


class Near(NamedTuple):
    """The inputs that act on the window."""

    coefficients: Any
    source: Coupling


@dataclass(frozen=True)
class Window:
    """The part of the padded grid where boundary saving knows the state: the model and a ring of the stencil's reach
    just outside it.

    The model is rebuilt by the undamped scheme, the ring is filled from the record. If the absorber's material is
    differentiated, the window is the whole padded grid, the ring all of its layers, and the record includes their
    memory variables.
    """

    propagation: Propagation

    @property
    def whole(self) -> bool:
        return self.propagation.differentiate_absorber

    @property
    def margins(self) -> tuple[tuple[int, ...], ...]:
        """Cells of the window outside the model, per axis and side."""
        frame = self.propagation.frame
        return tuple(tuple(p if self.whole else min(p, frame.reach) for p in pad) for pad in frame.pads)

    @property
    def box(self) -> Region:
        """The window in the padded grid."""
        frame = self.propagation.frame
        return tuple(
            slice(p - m, p + n + m_far)
            for n, (p, _), (m, m_far) in zip(frame.grid.shape, frame.pads, self.margins, strict=True)
        )

    @property
    def derivative(self) -> Derivative:
        """The undamped derivative."""
        d = self.propagation.frame.derivative
        return Derivative(d.spacing, d.order, d.free_surface)

    def regions(self, margins: tuple[tuple[int, ...], ...]) -> list[Region]:
        """The ring's pieces, each with the given margins around the model: sides of an axis, with the corners only if
        the window is whole.

        Stencils along the axes never look at corners.
        """
        shape = self.propagation.frame.grid.shape
        model = [slice(lo, lo + n) for n, (lo, _) in zip(shape, margins, strict=True)]
        full = [slice(0, n + lo + hi) for n, (lo, hi) in zip(shape, margins, strict=True)]
        out = []
        for axis, ((lo, _), (m_lo, m_hi)) in enumerate(zip(margins, self.margins, strict=True)):
            n = shape[axis]
            across = model[:axis] + (full if self.whole else model)[axis:]
            for start, size in ((lo - m_lo, m_lo), (lo + n, m_hi)):
                if size:
                    out.append(tuple(slice(start, start + size) if a == axis else s for a, s in enumerate(across)))
        return out

    def crop(self, state: Any) -> Any:
        """The state on the window, or its cotangent (which in the ring meets a step that is wrong there: `uncrop` drops
        what comes of it).
        """
        cut = state._replace(memory=())
        cut = jax.tree.map(lambda x: x[self.box], cut)
        return cut._replace(memory=state.memory if self.whole else ())

    def crop_inputs(self, places: Places, inputs: Inputs) -> Near:
        """Coefficients and sources on the window."""
        origin, shape = [s.start for s in self.box], tuple(s.stop - s.start for s in self.box)
        source = shift(Coupling(places.source, inputs.source_weight), origin, shape)
        return Near(jax.tree.map(lambda x: x[self.box], inputs.coefficients), source)

    def uncrop(self, cropped: Any, like: Any) -> Any:
        """Cotangents of coefficients on the padded grid: the window's where they are right, zero elsewhere."""
        if self.whole:
            return cropped
        inner = tuple(
            slice(m, m + n) for n, (m, _) in zip(self.propagation.frame.grid.shape, self.margins, strict=True)
        )
        model = self.propagation.frame.model
        return jax.tree.map(lambda c, x: jnp.zeros_like(x).at[model].set(c[inner]), cropped, like)

    def ring(self, state: Any) -> Array:
        """What must be recorded of a state on the padded grid before a step, as one vector."""
        regions = self.regions(self.propagation.frame.pads)
        pieces = [getattr(state, name)[region] for name in self.propagation.equation.rebuilt for region in regions]
        if self.whole:
            pieces += jax.tree.leaves(state.memory)
        dtype = jax.tree.leaves(state)[0].dtype
        return jnp.concatenate([jnp.zeros(0, dtype), *(piece.ravel() for piece in pieces)])

    def fill(self, state: Any, ring: Array) -> Any:
        """A rewound state with its ring put in from the record."""
        regions = self.regions(self.margins)
        start = 0
        for name in self.propagation.equation.rebuilt:
            field = getattr(state, name)
            for region in regions:
                shape = tuple(s.stop - s.start for s in region)
                piece = ring[start : start + math.prod(shape)].reshape(shape)
                start += piece.size
                field = put_at(field, [s.start for s in region], piece)
            state = state._replace(**{name: field})
        if self.whole:
            leaves, tree = jax.tree.flatten(self._memory_like(ring))
            for i, leaf in enumerate(leaves):
                leaves[i] = ring[start : start + leaf.size].reshape(leaf.shape)
                start += leaf.size
            state = state._replace(memory=jax.tree.unflatten(tree, leaves))
        return state

    def _memory_like(self, ring: Array) -> Any:
        p = self.propagation
        return jax.eval_shape(lambda: p.frame.derivative.memory(jnp.zeros(p.frame.shape, ring.dtype)))

    def rewind(self, near: Near, state: Any, wavelet: Array) -> Any:
        """The state one step earlier; its ring is yet to be filled."""
        return self.propagation.equation.rewind(near.coefficients, state, self.derivative, self._source(near, wavelet))

    def step(self, near: Near, coefficients: Any, state: Any, wavelet: Array) -> Any:
        """The state one step later, as it depends on the coefficients; right in the model only, unless the window is
        whole.
        """
        derivative = self.propagation.frame.derivative if self.whole else self.derivative
        return self.propagation.equation.step(coefficients, state, derivative, self._source(near, wavelet))

    def _source(self, near: Near, wavelet: Array) -> Source:
        p = self.propagation
        return Source(p.source_fields, near.source, wavelet / math.prod(p.frame.grid.spacing))
