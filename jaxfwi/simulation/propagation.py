"""One shot as a time loop: what a step does on the padded grid, and on the window around the model that boundary saving
rebuilds.

Everything static about a shot is in `Propagation`, which is hashable; everything that can be differentiated is in
`Inputs`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfwi.equations.base import Ring, State, SubStep, WaveEquation
from jaxfwi.grid.derivative import Derivative
from jaxfwi.grid.frame import Frame, Region, margins
from jaxfwi.grid.linear import varying_zero
from jaxfwi.grid.stencils import set_at, slice_at
from jaxfwi.simulation.coupling import Coupling, inject, nodes, sample, shift

__all__ = ["Inputs", "Places", "Propagation", "Window"]

Index = tuple[Array, ...]


class Places(NamedTuple):
    """The nodes that sources and receivers touch, for each field: per axis an index array ``(points, nodes)``."""

    source: dict[str, Index]
    receiver: dict[str, Index]


class Inputs(NamedTuple):
    """What the data of a shot depend on."""

    coefficients: dict[str, Array]  # of the equation, on the padded grid
    wavelet: tuple[Array, ...]  # for each of the source fields (time, sources), at the times when it is driven
    source_weight: dict[str, Array]  # for each driven field (sources, nodes)
    receiver_weight: dict[str, Array]  # for each recorded field (receivers, nodes)


@dataclass(frozen=True)
class Source:
    """The sources at one time step."""

    coupling: dict[str, Coupling]
    amount: dict[str, Array]
    dt: float

    def add(self, name: str, field: Array, scale: Array | float) -> Array:
        """`field` with ``scale`` times the source at its nodes, if sources drive the field of this name."""
        return inject(field, self.coupling[name], self.amount[name], scale) if name in self.amount else field

    def remove(self, name: str, field: Array, scale: Array | float) -> Array:
        """The opposite of `add`."""
        return inject(field, self.coupling[name], -self.amount[name], scale) if name in self.amount else field


@dataclass(frozen=True)
class Propagation:
    """The time loop of one shot.

    Args:
        equation: the type of the model.
        frame: the padded grid.
        source_fields: names of what sources drive.
        receiver_fields: names of what receivers record, one component of the data each.
        differentiate_absorber: whether the material of the layer takes part in derivatives.
    """

    equation: type[WaveEquation]
    frame: Frame
    source_fields: tuple[str, ...]
    receiver_fields: tuple[str, ...]
    differentiate_absorber: bool

    @property
    def substeps(self) -> tuple[SubStep, ...]:
        """The parts of a time step."""
        return self.equation.substeps(self.frame.grid.ndim, self.frame.order)

    def initial(self, inputs: Inputs) -> State:
        """The state at rest."""
        dtype = jax.tree.leaves(inputs.coefficients)[0].dtype
        zeros = jnp.zeros(self.frame.shape, dtype) + varying_zero(inputs).astype(dtype)
        return self.equation.initial(zeros, self.frame.derivative)

    def samples(self, places: Places, state: State) -> dict[str, Array]:
        """Recorded fields at the receivers' nodes, ``(receivers, nodes)`` each."""
        return {name: nodes(state.waves[name], place) for name, place in places.receiver.items()}

    def data(self, inputs: Inputs, samples: dict[str, Array]) -> Array:
        """One time sample of the data, ``(receivers, components)``."""
        values = {name: sample(s, inputs.receiver_weight[name]) for name, s in samples.items()}
        return jnp.stack([self._recorded(name, values) for name in self.receiver_fields], axis=-1)

    def on_model(self, state: State, names: tuple[str, ...]) -> dict[str, Array]:
        """What receivers could record, by name, on all of the model's cells."""
        waves = {name: wave[self.frame.model] for name, wave in state.waves.items()}
        for name, field in self.equation.fields(self.frame.grid.ndim).items():
            if self.frame.free_surface and field.odd and not field.half[0]:
                waves[name] = waves[name].at[0].set(0.0)  # a staggered step leaves there what nothing reads
        return {name: self._recorded(name, waves) for name in names}

    def _recorded(self, name: str, values: dict[str, Array]) -> Array:
        return _combined(self.equation.recorded(self.frame.grid.ndim)[name], values)

    def step(self, places: Places, inputs: Inputs, state: State, wavelet: tuple[Array, ...]) -> State:
        """The state one step later, on the padded grid."""
        source = self.source(places, inputs, wavelet)
        for stage in self.substeps:
            state = stage.forward(inputs.coefficients, state, self.frame.derivative, source)
        return state

    def advance(self, places: Places, inputs: Inputs, state: State, wavelet: tuple[Array, ...]) -> tuple[State, Array]:
        """The state one step later and the data sample at the time of the given state: data[n] is at ``n dt``."""
        samples, state = before_it_moves(self.samples(places, state), state)
        return self.step(places, inputs, state, wavelet), self.data(inputs, samples)

    def source(self, places: Places, inputs: Inputs, wavelet: tuple[Array, ...]) -> Source:
        """The sources at one time step, on the padded grid."""
        coupling = {name: Coupling(place, inputs.source_weight[name]) for name, place in places.source.items()}
        return self.emitting(coupling, wavelet)

    def emitting(self, coupling: dict[str, Coupling], wavelet: tuple[Array, ...]) -> Source:
        """The sources at one time step; a point source is spread over the volume of a cell."""
        driven, volume = self.equation.driven(self.frame.grid.ndim), math.prod(self.frame.grid.spacing)
        amount: dict[str, Array] = {}
        for name, strength in zip(self.source_fields, wavelet, strict=True):
            for field, factor in driven[name].items():
                share = factor / volume * strength
                amount[field] = amount[field] + share if field in amount else share
        return Source(coupling, amount, self.frame.grid.dt)

    def interpolates(self, inputs: Inputs) -> bool:
        """Whether receivers have weights worth differentiating."""
        return any(weight.shape[1] > 1 for weight in inputs.receiver_weight.values())

    def owned(self, half: tuple[bool, ...]) -> Region:
        """The cells of the padded grid whose values depend on nothing but the model: half-way between two of its nodes,
        if not on them. Along a split axis, where each block has others, all.
        """
        owned = [slice(s.start, s.stop - h) for s, h in zip(self.frame.model, half, strict=True)]
        return self.frame.along_split(owned)

    def owned_coefficients(self, name: str) -> Region:
        """The same of a coefficient."""
        ndim = self.frame.grid.ndim
        return self.owned(self.equation.halves(ndim).get(name, (False,) * ndim))

    @property
    def window(self) -> "Window":
        """Where boundary saving rebuilds the state."""
        return Window(self)


def _combined(factors: dict[str, float], values: dict[str, Array]) -> Array:
    terms = [values[name] if factor == 1.0 else factor * values[name] for name, factor in factors.items()]
    return sum(terms[1:], start=terms[0])


def before_it_moves(read: Any, state: Any) -> tuple[Any, Any]:
    """What is read of a state, and the state: read before anything is written over it, or the compiler would keep a
    copy for the reader.
    """
    return jax.lax.optimization_barrier((read, state))


class Near(NamedTuple):
    """The inputs that act on the window."""

    coefficients: dict[str, Array]
    source: dict[str, Coupling]


@dataclass(frozen=True)
class Window:
    """The part of the padded grid where boundary saving knows the state: the model and a ring of the stencil's reach
    just outside it; around them lies a margin, as around the padded grid.

    The model is rebuilt by the undamped scheme, the ring is filled from the record. If the absorber's material is
    differentiated, the window is the whole padded grid, the ring all of its layers, and the record includes their
    memory variables.

    Along a split axis the window is the whole block, of which the inner ones hold nothing but model. The outermost
    blocks have rings across that axis too. What is rebuilt beyond these is wrong, but nothing reads it and it stays
    bounded: where some cells are told, the scheme of the others is as symmetric, and so as stable, as that of all.
    """

    propagation: Propagation

    @property
    def whole(self) -> bool:
        return self.propagation.differentiate_absorber

    @property
    def pads(self) -> tuple[tuple[int, ...], ...]:
        """Cells of the window around the model per axis and side but for the margin."""
        frame = self.propagation.frame
        return tuple(
            tuple(p if self.whole or axis == frame.split_axis else min(p, frame.reach) for p in pad)
            for axis, pad in enumerate(frame.pads)
        )

    @property
    def inside(self) -> Region:
        """The window's cells but for its margin, in the padded grid."""
        frame = self.propagation.frame
        return tuple(slice(s.start - lo, s.stop + hi) for s, (lo, hi) in zip(frame.model, self.pads, strict=True))

    @property
    def margins(self) -> tuple[tuple[int, int], ...]:
        """Cells of the window's margin per axis and side."""
        frame = self.propagation.frame
        return margins([s.stop - s.start for s in self.inside], frame.reach, frame.split_axis)

    @property
    def origin(self) -> tuple[int, ...]:
        """The window's first cell in the padded grid."""
        return tuple(s.start - near for s, (near, _) in zip(self.inside, self.margins, strict=True))

    @property
    def derivative(self) -> Derivative:
        """The undamped derivative."""
        d = self.propagation.frame.derivative
        return Derivative(d.spacing, d.order, d.free_surface, split=d.split)

    def rings(self, stage: SubStep) -> list[Ring]:
        """The rings of a stage; if the window is whole, all sides of every field that has one."""
        if not self.whole:
            return list(stage.ring)
        names = dict.fromkeys(ring.name for ring in stage.ring)
        return [Ring(name, axis, 0, 0) for name in names for axis in range(self.propagation.frame.grid.ndim)]

    def regions(self, ring: Ring, pads: tuple[tuple[int, ...], ...]) -> list[tuple[bool, Region]]:
        """The two sides of a ring, or what there is of them, whether it is the far one and where it lies in an array
        with these cells and the margin around the model.

        Stencils along the axes never look at corners: these belong to a ring only if the window is whole.
        """
        frame = self.propagation.frame
        shape, r = frame.grid.shape, frame.reach
        fields = self.propagation.equation.fields(len(shape))
        half = fields[ring.name].half if ring.name in fields else (False,) * len(shape)
        full = [slice(r, r + n + lo + hi) for n, (lo, hi) in zip(shape, pads, strict=True)]
        model = [slice(r + lo, r + lo + n) for n, (lo, _) in zip(shape, pads, strict=True)]
        if self.whole:
            owned = [slice(s.start, s.stop - h) for s, h in zip(model, half, strict=True)]
            # corners belong to one of their rings: along a split axis to another axis', which every block has
            order = sorted(range(len(shape)), key=lambda axis: (axis == frame.split_axis, axis))
            later = order[order.index(ring.axis) :]
            across = [full[axis] if axis in later else owned[axis] for axis in range(len(shape))]
            sides = (
                slice(full[ring.axis].start, owned[ring.axis].start),
                slice(owned[ring.axis].stop, full[ring.axis].stop),
            )
        else:
            (near, far), across = frame.widths[ring.axis], frame.along_split(model)
            start, end = model[ring.axis].start, model[ring.axis].stop - half[ring.axis]
            sides = (
                slice(start - (ring.near if near else 0), start),
                slice(end, end + (ring.far if far else 0)),
            )
        return [
            (bool(far), tuple(side if a == ring.axis else s for a, s in enumerate(across)))
            for far, side in enumerate(sides)
            if side.stop > side.start
        ]

    def on_its_block(self, ring: Ring, far: bool, piece: Array, otherwise: Array | float) -> Array:
        """A side of a ring, and something else on blocks that lie further in."""
        split = self.propagation.frame.split
        if split is None or split.axis != ring.axis:
            return piece
        return jnp.where(split.index == (split.parts - 1 if far else 0), piece, otherwise)

    def crop(self, state: State) -> State:
        """Cotangents of the waves on the window. In its ring they meet a step that is wrong there: `uncrop` drops what
        comes of it.
        """
        return State({name: self._wide(x) for name, x in state.waves.items()}, state.layer if self.whole else {})

    def _wide(self, padded: Array) -> Array:
        """The window's cells and its margin's; zeros where this reaches beyond the padded grid."""
        ends = [s.stop + far for s, (_, far) in zip(self.inside, self.margins, strict=True)]
        cut = padded[tuple(slice(first, end) for first, end in zip(self.origin, ends, strict=True))]
        return jnp.pad(cut, [(0, max(end - n, 0)) for end, n in zip(ends, padded.shape, strict=True)])

    def known(self, state: State) -> State:
        """What is known of a state: the waves on the window, zero in its margin."""
        return State(self._on_window(state.waves), state.layer if self.whole else {})

    def _on_window(self, padded: dict[str, Array]) -> dict[str, Array]:
        return {name: jnp.pad(x[self.inside], self.margins) for name, x in padded.items()}

    def crop_inputs(self, places: Places, inputs: Inputs) -> Near:
        """Coefficients and sources on the window."""
        shape = [s.stop - s.start + sum(margin) for s, margin in zip(self.inside, self.margins, strict=True)]
        source = {
            name: shift(Coupling(place, inputs.source_weight[name]), self.origin, shape, self.margins)
            for name, place in places.source.items()
        }
        return Near(self._on_window(inputs.coefficients), source)

    def uncrop(self, cropped: dict[str, Array], like: dict[str, Array]) -> dict[str, Array]:
        """Cotangents of coefficients on the padded grid: the window's where they are right, zero elsewhere.

        Those of all of a block along a split axis, right or not: coefficients do not depend on a model there.
        """
        if self.whole:
            return cropped
        out = {}
        for name, x in like.items():
            owned = self.propagation.owned_coefficients(name)
            inner = tuple(slice(s.start - o, s.stop - o) for s, o in zip(owned, self.origin, strict=True))
            out[name] = jnp.zeros_like(x).at[owned].set(cropped[name][inner])
        return out

    def ring(self, stage: SubStep, state: State) -> Array:
        """What must be recorded of a state on the padded grid before a stage, as one vector."""
        pads = self.propagation.frame.pads
        pieces = [
            self.on_its_block(ring, far, state.waves[ring.name][region], 0.0)
            for ring in self.rings(stage)
            for far, region in self.regions(ring, pads)
        ]
        if self.whole:
            pieces += jax.tree.leaves({name: state.layer[name] for name in stage.layer})
        dtype = jax.tree.leaves(state.waves)[0].dtype
        return jnp.concatenate([jnp.zeros(0, dtype), *(piece.ravel() for piece in pieces)])

    def fill(self, stage: SubStep, state: State, record: Array) -> State:
        """A state that has been run backwards through a stage, with its ring put in from the record."""
        taken = 0

        def take(shape):
            nonlocal taken
            taken += math.prod(shape)
            return record[taken - math.prod(shape) : taken].reshape(shape)

        waves = dict(state.waves)
        for ring in self.rings(stage):
            for far, region in self.regions(ring, self.pads):
                start, shape = [s.start for s in region], tuple(s.stop - s.start for s in region)
                rebuilt = slice_at(waves[ring.name], start, shape)
                piece = self.on_its_block(ring, far, take(shape), rebuilt)
                waves[ring.name] = set_at(waves[ring.name], start, piece)
        memory = dict(state.layer)
        if self.whole:
            frame = self.propagation.frame
            rest = jax.eval_shape(
                lambda: self.propagation.equation.initial(jnp.zeros(frame.shape, record.dtype), frame.derivative)
            ).layer
            memory |= jax.tree.map(lambda x: take(x.shape), {name: rest[name] for name in stage.layer})
        return State(waves, memory)

    def backward(self, stage: SubStep, near: Near, state: State, wavelet: tuple[Array, ...]) -> State:
        """The state before a stage; its ring is yet to be filled."""
        assert stage.backward is not None
        source = self.propagation.emitting(near.source, wavelet)
        before = stage.backward(near.coefficients, State(state.waves, {}), self.derivative, source)
        return State(before.waves, state.layer)

    def forward(self, stage: SubStep, near: Near, state: State, wavelet: tuple[Array, ...]) -> Callable[..., State]:
        """The state after a stage as a function of the coefficients; right in the model only, unless the window is
        whole.
        """
        derivative = self.propagation.frame.derivative if self.whole else self.derivative
        rest = {} if self.whole else {name: () for name in stage.layer}
        state = State(state.waves, state.layer | rest)
        source = self.propagation.emitting(near.source, wavelet)

        def after(coefficients):
            new = stage.forward(coefficients, state, derivative, source)
            return new if self.whole else State(new.waves, {})

        return after
