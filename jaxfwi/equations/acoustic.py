"""The acoustic wave equation of constant density, second order in time."""

from typing import Any, ClassVar

import numpy as np
from jax import Array

from jaxfwi.equations.base import Field, Ring, Source, State, SubStep, WaveEquation
from jaxfwi.grid.derivative import Derivative

__all__ = ["Acoustic"]


class Acoustic(WaveEquation):
    """``u_tt = vp^2 (laplacian(u) + s)``: acoustic waves in a medium of constant density.

    Time stepping ``u(t + dt) = 2 u(t) - u(t - dt) + (vp dt)^2 (laplacian(u) + s)(t)`` (Alford, Kelly & Boore 1974,
    Geophysics 39, 834-842). A source of strength w(t) is ``s = w(t) delta(x - x_source)``, discretised as w over the
    volume of a cell: data do not depend on `dt` or `spacing` but for discretisation error. In a homogeneous medium in
    3D, ``u = w(t - r / vp) / (4 pi r)``.

    Args:
        vp: velocity in m/s, an array of the grid's shape.

    >>> import jax.numpy as jnp
    >>> Acoustic(vp=jnp.linspace(1500.0, 4500.0, 200, dtype="float32").reshape(10, 20))
    Acoustic(vp=f32[10,20] from 1500 to 4500)
    """

    vp: Any

    default_fields: ClassVar = ("u",)
    time_levels: ClassVar = 2
    subtracted: ClassVar = ("u_before",)

    @classmethod
    def fields(cls, ndim: int) -> dict[str, Field]:
        return {"u": Field(half=(False,) * ndim)}

    def coefficients(self, dt: float, free_surface: bool) -> dict[str, Array]:
        return {"scale": (self.vp * dt) ** 2}

    def check(self) -> None:
        vp = np.asarray(self.vp)  # numpy: under jit jax.numpy would trace concrete values too
        if not np.isfinite(vp).all():
            raise ValueError("Acoustic vp has values that are not finite: look for NaN in the model.")
        if not (vp > 0).all():
            raise ValueError(f"Acoustic vp must be positive m/s everywhere, its smallest value is {vp.min():g}.")

    def speeds(self) -> tuple[float, float]:
        vp = np.asarray(self.vp)
        return float(vp.min()), float(vp.max())

    @classmethod
    def initial(cls, zeros: Array, derivative: Derivative) -> State:
        return State({"u": zeros, "u_before": zeros}, {"u": derivative.layer_at_rest(zeros)})

    @classmethod
    def substeps(cls, ndim: int, space_order: int) -> tuple[SubStep, ...]:
        reach = space_order // 2
        ring = tuple(Ring("u_before", axis, reach, reach) for axis in range(ndim))
        return (SubStep(_step, _step_back, ring, layer=("u",)),)


def _step(coefficients: dict[str, Array], state: State, derivative: Derivative, source: Source) -> State:
    u, u_before, scale = state.waves["u"], state.waves["u_before"], coefficients["scale"]
    u_next, u, layer = derivative.add_laplacian(lambda u: 2 * u - u_before, scale, u, state.layer["u"])
    return State({"u": source.add("u", u_next, scale), "u_before": u}, {"u": layer})


def _step_back(coefficients: dict[str, Array], state: State, derivative: Derivative, source: Source) -> State:
    # the scheme is the same in both directions of time
    swapped = State({"u": state.waves["u_before"], "u_before": state.waves["u"]}, {"u": ()})
    back = _step(coefficients, swapped, derivative, source).waves
    return State({"u": back["u_before"], "u_before": back["u"]}, {})
