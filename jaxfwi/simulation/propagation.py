"""One shot as a time loop: a time step on the padded grid.

Everything static about a shot is in `Propagation`, which is hashable; everything that can be differentiated is in
`Inputs`.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfwi.equations.base import State, SubStep, WaveEquation
from jaxfwi.grid.frame import Frame, Region
from jaxfwi.grid.linear import varying_zero
from jaxfwi.simulation.coupling import Coupling, inject, nodes, sample

__all__ = ["Inputs", "Places", "PointSources", "Propagation", "read_before_write"]

Index = tuple[Array, ...]


class Places(NamedTuple):
    """The nodes that sources and receivers touch, for each field: per axis an index array ``(points, nodes)``."""

    source: dict[str, Index]
    receiver: dict[str, Index]


class Inputs(NamedTuple):
    """The arrays of a shot by which its data can be differentiated."""

    coefficients: dict[str, Array]  # of the equation, on the padded grid
    wavelet: tuple[Array, ...]  # for each of the source fields (time, sources), at the times when it is driven
    source_weight: dict[str, Array]  # for each driven field (sources, nodes)
    receiver_weight: dict[str, Array]  # for each recorded field (receivers, nodes)


@dataclass(frozen=True)
class PointSources:
    """The sources at one time step, a `jaxfwi.equations.Source`.

    Args:
        coupling: of the sources to each field that they drive.
        amount: for each of these fields, the strength of each source per volume of a cell.
        dt: the time step in seconds.
    """

    coupling: dict[str, Coupling]
    amount: dict[str, Array]
    dt: float

    def add(self, name: str, field: Array, scale: Array | float) -> Array:
        """`field` plus ``scale`` times the source at its nodes, if sources drive the field of this name."""
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
        source_fields: names that sources drive.
        receiver_fields: names that receivers record, one component of the data each.
        differentiate_absorber: whether the material of the layer takes part in derivatives.
    """

    equation: type[WaveEquation]
    frame: Frame
    source_fields: tuple[str, ...]
    receiver_fields: tuple[str, ...]
    differentiate_absorber: bool

    @property
    def substeps(self) -> tuple[SubStep, ...]:
        """The sub-steps of a time step."""
        return self.equation.substeps(self.frame.grid.ndim, self.frame.order)

    def initial(self, inputs: Inputs) -> State:
        """The state at rest."""
        dtype = jax.tree.leaves(inputs.coefficients)[0].dtype
        zeros = jnp.zeros(self.frame.shape, dtype) + varying_zero(inputs).astype(dtype)
        return self.equation.initial(zeros, self.frame.derivative)

    def advance(self, places: Places, inputs: Inputs, state: State, wavelet: tuple[Array, ...]) -> tuple[State, Array]:
        """The state one step later, and the sample of the data at the time of the given state: data[n] is at ``n
        dt``.
        """
        samples, state = read_before_write(self.samples(places, state), state)
        source = self.source(places, inputs, wavelet)
        for substep in self.substeps:
            state = substep.forward(inputs.coefficients, state, self.frame.derivative, source)
        return state, self.data(inputs, samples)

    def source(self, places: Places, inputs: Inputs, wavelet: tuple[Array, ...]) -> PointSources:
        """The sources at one time step."""
        return self.source_at(couplings(places.source, inputs.source_weight), wavelet)

    def source_at(self, coupling: dict[str, Coupling], wavelet: tuple[Array, ...]) -> PointSources:
        """The sources at one time step on any grid; a point source is spread over the volume of a cell."""
        driven, volume = self.equation.driven(self.frame.grid.ndim), math.prod(self.frame.grid.spacing)
        amount: dict[str, Array] = {}
        for name, strength in zip(self.source_fields, wavelet, strict=True):
            for field, factor in driven[name].items():
                more = factor / volume * strength
                amount[field] = amount[field] + more if field in amount else more
        return PointSources(coupling, amount, self.frame.grid.dt)

    def samples(self, places: Places, state: State) -> dict[str, Array]:
        """Recorded fields at the receivers' nodes, ``(receivers, nodes)`` each."""
        return {name: nodes(state.waves[name], place) for name, place in places.receiver.items()}

    def data(self, inputs: Inputs, samples: dict[str, Array]) -> Array:
        """One time sample of the data, ``(receivers, components)``."""
        values = {name: sample(s, inputs.receiver_weight[name]) for name, s in samples.items()}
        return jnp.stack([self._recorded(name, values) for name in self.receiver_fields], axis=-1)

    def on_model(self, state: State, names: tuple[str, ...]) -> dict[str, Array]:
        """The quantities that receivers of these names record, on all cells of the model."""
        waves = {name: wave[self.frame.model] for name, wave in state.waves.items()}
        for name, field in self.equation.fields(self.frame.grid.ndim).items():
            if self.frame.free_surface and field.odd and not field.half[0]:
                waves[name] = waves[name].at[0].set(0.0)  # the staggered step leaves values there that nothing reads
        return {name: self._recorded(name, waves) for name in names}

    def _recorded(self, name: str, values: dict[str, Array]) -> Array:
        """The sum of fields that receivers of a name record."""
        factors = self.equation.recorded(self.frame.grid.ndim)[name]
        terms = [values[field] if factor == 1.0 else factor * values[field] for field, factor in factors.items()]
        return sum(terms[1:], start=terms[0])

    def interpolates(self, inputs: Inputs) -> bool:
        """Whether receivers lie between nodes, so that data depend on their weights."""
        return any(weight.shape[1] > 1 for weight in inputs.receiver_weight.values())

    def half(self, name: str) -> tuple[bool, ...]:
        """Whether an array of the state lies half-way between nodes, per axis."""
        fields, ndim = self.equation.fields(self.frame.grid.ndim), self.frame.grid.ndim
        return fields[name].half if name in fields else (False,) * ndim

    def owned_coefficients(self, name: str) -> Region:
        """The padded grid's cells where a coefficient depends on the model alone: on its nodes, or half-way between
        two of them. Along a split axis, where each block has others, all cells.
        """
        ndim = self.frame.grid.ndim
        half = self.equation.halves(ndim).get(name, (False,) * ndim)
        return self.frame.along_split([slice(s.start, s.stop - h) for s, h in zip(self.frame.model, half, strict=True)])


def couplings(places: dict[str, Index], weight: dict[str, Array]) -> dict[str, Coupling]:
    """Couplings by field, from their nodes and weights."""
    return {name: Coupling(place, weight[name]) for name, place in places.items()}


def read_before_write(read: Any, state: Any) -> tuple[Any, Any]:
    """Values read from a state, and the state: the barrier has them read before the state is overwritten. Else the
    compiler would keep a copy of it for the reader.
    """
    return jax.lax.optimization_barrier((read, state))
