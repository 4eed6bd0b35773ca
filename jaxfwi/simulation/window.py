"""The cells on which boundary saving rebuilds the state, backwards in time.

On the way forward a ring of cells just outside the model is recorded before each sub-step. On the way back the undamped
scheme rebuilds the fields on a window, a smaller grid with a margin of its own, and the ring is filled from the record.

`ThinWindow`, the usual one, is the model and the ring. `WholeWindow` is the whole padded grid with all of the layer as
its ring; it serves derivatives by the material of the absorber.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
from jax import Array

from jaxfwi.equations.base import Source, State, SubStep
from jaxfwi.grid.blocks import in_outermost, split_along
from jaxfwi.grid.derivative import Derivative
from jaxfwi.grid.frame import Region, margins
from jaxfwi.grid.stencils import set_at, slice_at
from jaxfwi.simulation.coupling import Coupling, shift
from jaxfwi.simulation.propagation import Inputs, Places, Propagation, couplings

__all__ = ["ThinWindow", "WholeWindow", "Window", "window_of"]


class WindowInputs(NamedTuple):
    """The inputs of a shot that act on the window."""

    coefficients: dict[str, Array]
    source: dict[str, Coupling]


class Side(NamedTuple):
    """Cells of a ring on one side of the model."""

    name: str  # of the field
    axis: int
    far: bool
    region: Region  # in the padded grid


@dataclass(frozen=True)
class Window:
    """The common parts of both windows: recording and filling a ring, and running sub-steps on the window."""

    propagation: Propagation

    @property
    def origin(self) -> tuple[int, ...]:
        """The window's first cell in the padded grid."""
        raise NotImplementedError

    def sides(self, substep: SubStep) -> list[Side]:
        """The ring of a sub-step."""
        raise NotImplementedError

    def layer(self, substep: SubStep, state: State) -> dict:
        """Memory variables of the absorbing layer that are recorded with the ring."""
        raise NotImplementedError

    def crop_inputs(self, places: Places, inputs: Inputs) -> WindowInputs:
        """Coefficients and sources on the window."""
        raise NotImplementedError

    def crop_state(self, state: State) -> State:
        """A state of the padded grid on the window."""
        raise NotImplementedError

    def uncrop(self, coefficients: dict[str, Array], like: dict[str, Array]) -> dict[str, Array]:
        """Cotangents of coefficients on the padded grid, which has the shapes of `like`."""
        raise NotImplementedError

    def record(self, substep: SubStep, state: State) -> Array:
        """The ring of a state on the padded grid before a sub-step, as one vector; zeros on blocks that lie further
        in.
        """
        pieces = [self._on_its_block(s, state.waves[s.name][s.region], 0.0) for s in self.sides(substep)]
        pieces += jax.tree.leaves(self.layer(substep, state))
        dtype = jax.tree.leaves(state.waves)[0].dtype
        return jnp.concatenate([jnp.zeros(0, dtype), *(piece.ravel() for piece in pieces)])

    def fill(self, substep: SubStep, state: State, record: Array) -> State:
        """A state that was run backwards through a sub-step, with its ring put in from the record."""
        sides = self.sides(substep)
        layer, structure = jax.tree.flatten(self.layer(substep, state))
        shapes = [tuple(s.stop - s.start for s in side.region) for side in sides] + [x.shape for x in layer]
        pieces, waves = _pieces(record, shapes), dict(state.waves)
        for side, piece in zip(sides, pieces[: len(sides)], strict=True):
            start = [s.start - o for s, o in zip(side.region, self.origin, strict=True)]
            rebuilt = slice_at(waves[side.name], start, piece.shape)
            waves[side.name] = set_at(waves[side.name], start, self._on_its_block(side, piece, rebuilt))
        return State(waves, state.layer | jax.tree.unflatten(structure, pieces[len(sides) :]))

    def _on_its_block(self, side: Side, piece: Array, elsewhere: Array | float) -> Array:
        return in_outermost(split_along(self.propagation.frame.split, side.axis), side.far, piece, elsewhere)

    @property
    def undamped(self) -> Derivative:
        """The derivative without its slabs."""
        d = self.propagation.frame.derivative
        return Derivative(d.spacing, d.order, d.free_surface, split=d.split)

    def backward(self, substep: SubStep, near: WindowInputs, state: State, wavelet: tuple[Array, ...]) -> State:
        """The state before a sub-step; its ring is yet to be filled."""
        assert substep.backward is not None
        source = self.propagation.source_at(near.source, wavelet)
        before = substep.backward(near.coefficients, State(state.waves, {}), self.undamped, source)
        return State(before.waves, state.layer)

    def pull_coefficients(
        self, substep: SubStep, near: WindowInputs, state: State, wavelet: tuple[Array, ...], adjoint: State
    ) -> dict[str, Array]:
        """Cotangents of the coefficients, from the state before a sub-step and the cotangent of the state after it, the
        latter on the padded grid.
        """
        source = self.propagation.source_at(near.source, wavelet)
        _, pull = jax.vjp(lambda c: self._forward(substep, c, state, source), near.coefficients)
        return pull(self._crop_adjoint(adjoint))[0]

    def _forward(self, substep: SubStep, coefficients: dict[str, Array], state: State, source: Source) -> State:
        raise NotImplementedError

    def _crop_adjoint(self, adjoint: State) -> State:
        raise NotImplementedError


@final
@dataclass(frozen=True)
class ThinWindow(Window):
    """The model and a ring of the stencil's reach just outside it.

    Along a split axis the window is all of the block, as inner blocks hold nothing but model. The outermost blocks have
    rings across that axis too, and cells beyond them. These hold garbage. It is never read, and stays bounded because
    fixing some cells leaves the update symmetric, and so as stable as without.
    """

    @property
    def inside(self) -> Region:
        """The window's cells but for its margin, in the padded grid."""
        frame = self.propagation.frame
        return frame.along_split(
            [
                slice(s.start - min(near, frame.reach), s.stop + min(far, frame.reach))
                for s, (near, far) in zip(frame.model, frame.pads, strict=True)
            ]
        )

    @property
    def margins(self) -> tuple[tuple[int, int], ...]:
        """Cells of the window's margin per axis and side."""
        frame = self.propagation.frame
        return margins([s.stop - s.start for s in self.inside], frame.reach, frame.split_axis)

    @property
    def origin(self) -> tuple[int, ...]:
        return tuple(s.start - near for s, (near, _) in zip(self.inside, self.margins, strict=True))

    def sides(self, substep: SubStep) -> list[Side]:
        """The cells beside the model along each axis, where there is a layer. Stencils never look at corners."""
        frame, out = self.propagation.frame, []
        across = frame.along_split(frame.model)
        for name, axis, near, far in substep.ring:
            start, end = frame.model[axis].start, frame.model[axis].stop - self.propagation.half(name)[axis]
            for is_far, cells in enumerate((slice(start - near, start), slice(end, end + far))):
                if frame.widths[axis][is_far] and cells.stop > cells.start:
                    out.append(Side(name, axis, bool(is_far), (*across[:axis], cells, *across[axis + 1 :])))
        return out

    def layer(self, substep: SubStep, state: State) -> dict:
        return {}

    def crop_inputs(self, places: Places, inputs: Inputs) -> WindowInputs:
        shape = [s.stop - s.start + sum(margin) for s, margin in zip(self.inside, self.margins, strict=True)]
        source = couplings(places.source, inputs.source_weight)
        source = {name: shift(coupling, self.origin, shape, self.margins) for name, coupling in source.items()}
        return WindowInputs(self._cropped(inputs.coefficients), source)

    def crop_state(self, state: State) -> State:
        return State(self._cropped(state.waves), {})

    def uncrop(self, coefficients: dict[str, Array], like: dict[str, Array]) -> dict[str, Array]:
        """Those of the model's cells, where they are right; zero elsewhere. Along a split axis those of all cells:
        coefficients do not depend on the model where they are wrong.
        """
        out = {}
        for name, x in like.items():
            owned = self.propagation.owned_coefficients(name)
            inner = tuple(slice(s.start - o, s.stop - o) for s, o in zip(owned, self.origin, strict=True))
            out[name] = jnp.zeros_like(x).at[owned].set(coefficients[name][inner])
        return out

    def _cropped(self, padded: dict[str, Array]) -> dict[str, Array]:
        return {name: jnp.pad(x[self.inside], self.margins) for name, x in padded.items()}

    def _forward(self, substep: SubStep, coefficients: dict[str, Array], state: State, source: Source) -> State:
        """Right in the model only: the derivative is not damped."""
        state = State(state.waves, {name: () for name in substep.layer})
        return State(substep.forward(coefficients, state, self.undamped, source).waves, {})

    def _crop_adjoint(self, adjoint: State) -> State:
        """On the window and its margin; zeros where this reaches beyond the padded grid. In the ring cotangents meet a
        step that is wrong there: `uncrop` drops the result.
        """
        ends = [s.stop + far for s, (_, far) in zip(self.inside, self.margins, strict=True)]
        region = tuple(slice(first, end) for first, end in zip(self.origin, ends, strict=True))
        waves = {
            name: jnp.pad(x[region], [(0, max(end - n, 0)) for end, n in zip(ends, x.shape, strict=True)])
            for name, x in adjoint.waves.items()
        }
        return State(waves, {})


@final
@dataclass(frozen=True)
class WholeWindow(Window):
    """The whole padded grid. The ring is all of the layer, for every field that has a ring, and the layer's memory
    variables are recorded with it.
    """

    @property
    def origin(self) -> tuple[int, ...]:
        return (0,) * self.propagation.frame.grid.ndim

    def sides(self, substep: SubStep) -> list[Side]:
        """All cells around the model, taken off side by side. Each corner goes with the first of its axes, but never
        with the split one, whose sides only the outermost blocks have.
        """
        frame, out = self.propagation.frame, []
        order = sorted(range(frame.grid.ndim), key=lambda axis: axis == frame.split_axis)
        for name in dict.fromkeys(ring.name for ring in substep.ring):
            box = [slice(near, n - far) for n, (near, far) in zip(frame.shape, frame.margins, strict=True)]
            for axis in order:
                start, end = frame.model[axis].start, frame.model[axis].stop - self.propagation.half(name)[axis]
                for far, cells in enumerate((slice(box[axis].start, start), slice(end, box[axis].stop))):
                    if cells.stop > cells.start:
                        out.append(Side(name, axis, bool(far), (*box[:axis], cells, *box[axis + 1 :])))
                box[axis] = slice(start, end)
        return out

    def layer(self, substep: SubStep, state: State) -> dict:
        return {name: state.layer[name] for name in substep.layer}

    def crop_inputs(self, places: Places, inputs: Inputs) -> WindowInputs:
        return WindowInputs(inputs.coefficients, couplings(places.source, inputs.source_weight))

    def crop_state(self, state: State) -> State:
        return state

    def uncrop(self, coefficients: dict[str, Array], like: dict[str, Array]) -> dict[str, Array]:
        return coefficients

    def _forward(self, substep: SubStep, coefficients: dict[str, Array], state: State, source: Source) -> State:
        return substep.forward(coefficients, state, self.propagation.frame.derivative, source)

    def _crop_adjoint(self, adjoint: State) -> State:
        return adjoint


def window_of(propagation: Propagation) -> Window:
    """The window on which the state of a propagation is rebuilt."""
    return WholeWindow(propagation) if propagation.differentiate_absorber else ThinWindow(propagation)


def _pieces(vector: Array, shapes: list[tuple[int, ...]]) -> list[Array]:
    """A vector in pieces of these shapes."""
    out, taken = [], 0
    for shape in shapes:
        size = math.prod(shape)
        out.append(vector[taken : taken + size].reshape(shape))
        taken += size
    return out
