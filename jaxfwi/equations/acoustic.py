"""The acoustic wave equation of constant density, second order in time."""

from typing import Any, ClassVar, NamedTuple

import numpy as np
from jax import Array

from jaxfwi.absorber import Derivative
from jaxfwi.equations.base import WaveEquation

__all__ = ["Acoustic"]


class State(NamedTuple):
    """The wavefield at two times, and the absorber's memory variables."""

    u: Array
    u_before: Array
    memory: Any


class Acoustic(WaveEquation):
    """``u_tt = vp^2 (laplacian(u) + s)``: acoustic waves in a medium of constant density.

    Time stepping ``u(t + dt) = 2 u(t) - u(t - dt) + (vp dt)^2 (laplacian(u) + s)(t)`` (Alford, Kelly & Boore 1974,
    Geophysics 39, 834-842). A source of strength w(t) is ``s = w(t) delta(x - x_source)``, discretised as w over the
    volume of a cell: data do not depend on `dt` or `spacing` but for discretisation error. In a homogeneous medium in
    3D, ``u = w(t - r / vp) / (4 pi r)``.

    Args:
        vp: velocity in m/s, an array of the grid's shape.

    >>> import jax.numpy as jnp
    >>> Acoustic(vp=jnp.full((10, 20), 1500.0)).vp.shape
    (10, 20)
    """

    vp: Any

    fields: ClassVar = ("u",)
    default_fields: ClassVar = ("u",)
    rebuilt: ClassVar = ("u_before",)

    def coefficients(self, dt: float) -> Array:
        return (self.vp * dt) ** 2

    def check(self) -> None:
        vp = np.asarray(self.vp)  # numpy: under jit jax.numpy would trace what is known
        if not np.isfinite(vp).all():
            raise ValueError("Acoustic vp has values that are not finite: look for NaN in the model.")
        if not (vp > 0).all():
            raise ValueError(f"Acoustic vp must be positive m/s everywhere, its smallest value is {vp.min():g}.")

    def speeds(self) -> tuple[float, float]:
        vp = np.asarray(self.vp)
        return float(vp.min()), float(vp.max())

    @staticmethod
    def initial(zeros: Array, derivative: Derivative) -> State:
        return State(zeros, zeros, derivative.memory(zeros))

    @staticmethod
    def step(coefficients: Array, state: State, derivative: Derivative, source: Any) -> State:
        u, u_before, memory = state
        u_next, memory = derivative.add_laplacian(2 * u - u_before, coefficients, u, memory)
        return State(source.add("u", u_next, coefficients), u, memory)

    @staticmethod
    def rewind(coefficients: Array, state: State, derivative: Derivative, source: Any) -> State:
        # the scheme reads the same in both directions of time
        turned = Acoustic.step(coefficients, State(state.u_before, state.u, ()), derivative, source)
        return State(turned.u_before, turned.u, ())
