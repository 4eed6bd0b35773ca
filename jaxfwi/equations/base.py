"""What a wave equation must say; the engine does the rest."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from jaxfwi._checks import concrete_values
from jaxfwi.grid.derivative import Derivative

__all__ = ["Field", "Ring", "Stage", "State", "WaveEquation"]


class State(NamedTuple):
    """Wavefields by name, arrays of the padded grid's shape, and the absorber's memory variables by any name."""

    waves: dict[str, Array]
    memory: dict[str, Any]


@dataclass(frozen=True)
class Field:
    """Where the values of a wavefield lie.

    Args:
        half: per axis, whether its values lie half-way between nodes.
        recorded_at: time of its values in the state of step n, in steps after ``n dt``: 0 or -0.5.
        driven_at: the time at which a source acts on it in step n, in steps after ``n dt``: 0 or 0.5.
        odd: whether it is antisymmetric about a free surface; if not, it is smooth up to it.
    """

    half: tuple[bool, ...]
    recorded_at: float = 0.0
    driven_at: float = 0.0
    odd: bool = True


class Ring(NamedTuple):
    """Cells of a wavefield next to the model along an axis, near side and far, that going backwards must be told."""

    name: str
    axis: int
    near: int
    far: int


@dataclass(frozen=True)
class Stage:
    """A part of a time step, forwards and backwards: functions of (coefficients, state, derivative, source).

    Args:
        forward: the state after the stage; linear in the state.
        backward: the state before it, with undamped derivatives; None if the equation loses energy.
        ring: what of the state before it must be recorded for going backwards.
        memory: names of the memory variables that `forward` reads.
    """

    forward: Callable[[Any, State, Derivative, Any], State]
    backward: Callable[[Any, State, Derivative, Any], State] | None
    ring: tuple[Ring, ...]
    memory: tuple[str, ...]


class WaveEquation(eqx.Module):
    """A wave equation together with its parameters, whose leaves are arrays of the grid's shape.

    The same type holds whatever is shaped like the model: gradients, masks, bounds, learning rates. So nothing is
    checked at construction; a simulation checks what it is given.

    An equation states its time step, in one stage or several, and if it loses no energy the same backwards. It writes
    no adjoint: the engine differentiates the stages.
    """

    default_fields: ClassVar[tuple[str, ...]]  # driven and recorded unless the user says otherwise
    staggered: ClassVar[bool] = False  # whether its stencils are the staggered ones
    time_levels: ClassVar[int] = 1  # of each field that a step leads from one place in the state to another
    subtracted: ClassVar[tuple[str, ...]] = ()  # fields that a step only subtracts; told, gradients are faster

    def __repr__(self) -> str:
        there = (f.name for f in dataclasses.fields(self) if hasattr(self, f.name))
        return f"{type(self).__name__}({', '.join(f'{name}={_in_short(getattr(self, name))}' for name in there)})"

    @classmethod
    def fields(cls, ndim: int) -> dict[str, Field]:
        """The wavefields of the state that sources can drive and receivers record."""
        raise NotImplementedError

    @classmethod
    def driven(cls, ndim: int) -> dict[str, dict[str, float]]:
        """What sources of a name drive: fields, each with a factor."""
        return {name: {name: 1.0} for name in cls.fields(ndim)}

    @classmethod
    def recorded(cls, ndim: int) -> dict[str, dict[str, float]]:
        """What receivers of a name record: a sum of fields, each with a factor."""
        return {name: {name: 1.0} for name in cls.fields(ndim)}

    def coefficients(self, dt: float, free_surface: bool) -> dict[str, Array]:
        """What the stages multiply by, computed once a shot: arrays of the parameters' shape, that of the padded grid
        without its margin.

        In the margin, which the engine adds, they are zero, and so fields stay zero: stages multiply by coefficients,
        and never divide by one.
        """
        raise NotImplementedError

    @classmethod
    def halves(cls, ndim: int) -> dict[str, tuple[bool, ...]]:
        """Per coefficient and axis, whether its values lie half-way between nodes; those left out lie on nodes."""
        return {}

    def check(self) -> None:
        """Raise a ValueError if concrete parameter values cannot be."""
        raise NotImplementedError

    def speeds(self) -> tuple[float, float]:
        """The slowest and the fastest wave speed in m/s, of concrete parameter values."""
        raise NotImplementedError

    @classmethod
    def initial(cls, zeros: Array, derivative: Derivative) -> State:
        """The state at rest."""
        raise NotImplementedError

    @classmethod
    def stages(cls, ndim: int, space_order: int) -> tuple[Stage, ...]:
        """The stages of a time step, in their order."""
        raise NotImplementedError

    @classmethod
    def reversible(cls, ndim: int, space_order: int) -> bool:
        """Whether all its stages can be run backwards."""
        return all(stage.backward is not None for stage in cls.stages(ndim, space_order))

    @classmethod
    def row_volumes(cls, space_order: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Volumes of the first rows under a free surface, on nodes and half-way, as parts of a cell's; 1 further on."""
        return (), ()


def _in_short(value: Any) -> str:
    """An array's type and shape, and where its values are at hand their range; of anything else what equinox shows."""
    text = eqx.tree_pformat(value)
    values = concrete_values(value)
    if values is None or not values.size or not jnp.issubdtype(values.dtype, jnp.floating):
        return text
    low, high = float(values.min()), float(values.max())
    return f"{text} of {low:g}" if low == high else f"{text} from {low:g} to {high:g}"
