"""What a wave equation must say; the engine does the rest."""

from typing import Any, ClassVar

import equinox as eqx
from jax import Array

from jaxfwi.absorber import Derivative

__all__ = ["WaveEquation"]


class WaveEquation(eqx.Module):
    """A wave equation together with its parameters, whose leaves are arrays of the grid's shape.

    The same type holds whatever is shaped like the model: gradients, masks, bounds, learning rates. So nothing is
    checked at construction; a simulation checks what it is given.

    An equation states its time step and, if it loses no energy, the same step backwards. It writes no adjoint: the
    engine differentiates `step`. `step` must be linear in the state, and each call of `source` names the field it
    drives. The state is a NamedTuple of arrays of the padded grid's shape, with the absorber's memory variables in an
    entry called ``memory``.
    """

    fields: ClassVar[tuple[str, ...]]  # names in the state that sources can drive and receivers record
    default_fields: ClassVar[tuple[str, ...]]  # driven and recorded unless the user says otherwise
    rebuilt: ClassVar[tuple[str, ...]]  # names in the state that `rewind` computes; they are recorded in the ring

    def coefficients(self, dt: float) -> Any:
        """What `step` multiplies by, computed once a shot: a PyTree of arrays of the padded grid's shape."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise a ValueError if concrete parameter values cannot be."""
        raise NotImplementedError

    def speeds(self) -> tuple[float, float]:
        """The slowest and the fastest wave speed in m/s, of concrete parameter values."""
        raise NotImplementedError

    @staticmethod
    def initial(zeros: Array, derivative: Derivative) -> Any:
        """The state at rest."""
        raise NotImplementedError

    @staticmethod
    def step(coefficients: Any, state: Any, derivative: Derivative, source: Any) -> Any:
        """The state one time step later."""
        raise NotImplementedError

    @staticmethod
    def rewind(coefficients: Any, state: Any, derivative: Derivative, source: Any) -> Any:
        """The state one time step earlier, with undamped derivatives. Left out by an equation that loses energy."""
        raise NotImplementedError

    @classmethod
    def reversible(cls) -> bool:
        """Whether the equation has a `rewind`."""
        return cls.rewind is not WaveEquation.rewind
