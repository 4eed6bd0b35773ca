"""Acoustic waves in a medium of variable density: pressure and particle velocity, first order in time."""

from typing import Any, ClassVar

import numpy as np
from jax import Array

from jaxfwi.equations.base import Field
from jaxfwi.equations.staggered import (
    Staggered,
    Table,
    Term,
    axis_names,
    buoyancies,
    check_positive,
    fastest,
    half_way,
)

__all__ = ["VariableDensityAcoustic"]


class VariableDensityAcoustic(Staggered):
    """``rho v_t = -grad(p) + f``, ``p_t = -rho vp^2 div(v) + m``: acoustic waves in a medium of variable density.

    Pressure lies on nodes, each particle velocity half-way between them along its axis; the density there is the mean
    of both nodes (Virieux 1984, Geophysics 49, 1933-1957, for the staggered grid). At a free surface the pressure is
    zero.

    Sources and receivers: ``"p"``, ``"vz"``, ``"vx"`` (2D and 3D), ``"vy"`` (3D). Driving p is an explosion of moment
    rate w(t) in N m/s: ``m = w(t) delta(x - x_source)``; driving a velocity is a body force in N along its axis. In 2D
    and 1D both are per metre of the axes that are left out. In a homogeneous medium in 3D an explosion gives ``p = w'(t
    - r / vp) / (4 pi vp^2 r)``.

    Args:
        vp: velocity in m/s, an array of the grid's shape.
        rho: density in kg/m3, of the same shape.

    >>> import jax.numpy as jnp
    >>> vp, rho = jnp.full((10, 20), 1500.0), jnp.full((10, 20), 1000.0)
    >>> VariableDensityAcoustic(vp=vp, rho=rho).rho.shape
    (10, 20)
    """

    vp: Any
    rho: Any

    default_fields: ClassVar = ("p",)

    @classmethod
    def from_impedance(cls, ip: Any, rho: Any) -> "VariableDensityAcoustic":
        """The model of an impedance ``ip = rho vp`` in kg/(m2 s) and a density."""
        return cls(vp=ip / rho, rho=rho)

    def impedance(self) -> Any:
        """The impedance ``rho vp`` in kg/(m2 s)."""
        return self.rho * self.vp

    @classmethod
    def fields(cls, ndim: int) -> dict[str, Field]:
        velocities = {
            f"v{name}": Field(half_way(ndim, axis), recorded_at=-0.5, odd=False)
            for axis, name in enumerate(axis_names(ndim))
        }
        return {"p": Field(half_way(ndim), driven_at=0.5), **velocities}

    @classmethod
    def tables(cls, ndim: int) -> tuple[Table, Table]:
        axes = list(enumerate(axis_names(ndim)))
        velocity = {f"v{name}": (Term(f"buoyancy_{name}", (("p", axis),), -1.0),) for axis, name in axes}
        pressure = {"p": (Term("bulk", tuple((f"v{name}", axis) for axis, name in axes), -1.0),)}
        return velocity, pressure

    @classmethod
    def source_scale(cls, name: str) -> str | None:
        return None if name == "p" else f"buoyancy_{name[1:]}"

    def coefficients(self, dt: float, free_surface: bool) -> dict[str, Array]:
        bulk = dt * self.rho * self.vp**2
        forces = buoyancies(self.rho, dt)
        return {
            "bulk": bulk.at[0].set(0.0) if free_surface else bulk,
            **{f"buoyancy_{name}": force for name, force in forces.items()},
        }

    def check(self) -> None:
        check_positive(self, "vp", "m/s")
        check_positive(self, "rho", "kg/m3")

    def speeds(self) -> tuple[float, float]:
        return float(np.min(self.vp)), fastest(self.vp, self.rho)
