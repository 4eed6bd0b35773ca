"""The parts that the author of a wave equation writes. The engine does the rest."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from jaxfwi._checks import concrete_values
from jaxfwi.grid.derivative import Derivative

__all__ = ["Field", "Ring", "Source", "State", "SubStep", "WaveEquation"]


class State(NamedTuple):
    """The state of a simulation at one time.

    Args:
        waves: wavefields by name, arrays of the padded grid's shape.
        layer: memory variables of the absorbing layer, by names of the equation's choice.
    """

    waves: dict[str, Array]
    layer: dict[str, Any]


@dataclass(frozen=True)
class Field:
    """Where the values of a wavefield lie, in space and in time.

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
    """Cells of a wavefield just outside the model, which are recorded for the step backwards.

    Args:
        name: of the wavefield.
        axis: along which the cells lie next to the model.
        near, far: how many, on either side.
    """

    name: str
    axis: int
    near: int
    far: int


class Source(Protocol):
    """The sources at one time step. The engine passes one to each sub-step."""

    @property
    def dt(self) -> float:
        """The time step in seconds."""
        ...

    def add(self, name: str, field: Array, scale: Array | float) -> Array:
        """`field` plus ``scale`` times the source at its nodes, if sources drive the field of this name."""
        ...

    def remove(self, name: str, field: Array, scale: Array | float) -> Array:
        """The opposite of `add`, for a step backwards."""
        ...


Advance = Callable[[Any, State, Derivative, Source], State]


@dataclass(frozen=True)
class SubStep:
    """A part of a time step, forwards and backwards: functions of (coefficients, state, derivative, source).

    Args:
        forward: returns the state after it; linear in the state.
        backward: returns the state before it, using undamped derivatives; None if the equation loses energy.
        ring: cells of the state before it that must be recorded for going backwards.
        layer: names of the layer's memory variables that `forward` reads.
    """

    forward: Advance
    backward: Advance | None
    ring: tuple[Ring, ...]
    layer: tuple[str, ...]


class WaveEquation(eqx.Module):
    """A wave equation together with its parameters, whose leaves are arrays of the grid's shape.

    Everything shaped like the model has the same type: gradients, masks, bounds, learning rates. So nothing is checked
    at construction; a simulation checks its model.

    An equation writes its time step, as one sub-step or several, and if it loses no energy the same backwards. It
    writes no adjoint: the engine differentiates the sub-steps.

    Beside its parameters and the methods below it may set these attributes of the class:

    - ``default_fields``: names that are driven and recorded unless the user says otherwise; required.
    - ``staggered``: whether its stencils are the staggered ones, for stability and dispersion.
    - ``time_levels``: how many arrays of a field a step rotates, as u becomes u_before; 1 if it rotates none.
    - ``subtracted``: arrays of the state that a step only subtracts. Naming them makes gradients faster.
    """

    default_fields: ClassVar[tuple[str, ...]]
    staggered: ClassVar[bool] = False
    time_levels: ClassVar[int] = 1
    subtracted: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        present = (f.name for f in dataclasses.fields(self) if hasattr(self, f.name))
        return f"{type(self).__name__}({', '.join(f'{name}={_in_short(getattr(self, name))}' for name in present)})"

    @classmethod
    def fields(cls, ndim: int) -> dict[str, Field]:
        """The wavefields of the state that sources can drive and receivers record."""
        raise NotImplementedError

    @classmethod
    def driven(cls, ndim: int) -> dict[str, dict[str, float]]:
        """By each name that a source may have, the fields that it drives, each with a factor."""
        return {name: {name: 1.0} for name in cls.fields(ndim)}

    @classmethod
    def recorded(cls, ndim: int) -> dict[str, dict[str, float]]:
        """By each name that a receiver may have, the fields whose sum it records, each with a factor."""
        return {name: {name: 1.0} for name in cls.fields(ndim)}

    def coefficients(self, dt: float, free_surface: bool) -> dict[str, Array]:
        """The arrays by which sub-steps multiply, computed once a shot from parameters on the padded grid.

        They have the parameters' shape. The engine adds a margin of zeros, which keeps the fields zero there: sub-steps
        multiply derivatives by coefficients, and never divide by one.
        """
        raise NotImplementedError

    @classmethod
    def halves(cls, ndim: int) -> dict[str, tuple[bool, ...]]:
        """By coefficient, whether its values lie half-way between nodes, per axis; those left out lie on nodes."""
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
    def substeps(cls, ndim: int, space_order: int) -> tuple[SubStep, ...]:
        """The sub-steps of a time step, in their order."""
        raise NotImplementedError

    @classmethod
    def reversible(cls, ndim: int, space_order: int) -> bool:
        """Whether all its sub-steps can be run backwards."""
        return all(substep.backward is not None for substep in cls.substeps(ndim, space_order))

    @classmethod
    def row_volumes(cls, space_order: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Volumes of the first rows under a free surface, on nodes and half-way, as fractions of a cell; 1 below."""
        return (), ()


def _in_short(value: Any) -> str:
    """An array's type and shape, and the range of its values if they are concrete; equinox's text for anything else."""
    text = eqx.tree_pformat(value)
    values = concrete_values(value)
    if values is None or not values.size or not jnp.issubdtype(values.dtype, jnp.floating):
        return text
    low, high = float(values.min()), float(values.max())
    return f"{text} of {low:g}" if low == high else f"{text} from {low:g} to {high:g}"
