"""Elastic waves: particle velocity and stress, first order in time; P-SV waves in 2D, all waves in 3D."""

from typing import Any, ClassVar

import jax.numpy as jnp
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
    closed,
    fastest,
    half_way,
    next_node_mean,
)

__all__ = ["Elastic"]


class Elastic(Staggered):
    """``rho v_t = div(s) + f``, ``s_t = lambda tr(e) I + 2 mu e + m``, with ``e = (grad v + grad v^T) / 2``.

    The velocity-stress scheme on a staggered grid (Virieux 1986, Geophysics 51, 889-901; Levander 1988, Geophysics 53,
    1425-1436): normal stresses lie on nodes, each velocity half-way along its axis, each shear stress half-way along
    both of its axes. The density half-way is the arithmetic mean of its nodes, the shear modulus the harmonic mean of
    its four, so that water (``vs = 0``) can lie beside rock (Moczo et al. 2002, Bulletin of the Seismological Society
    of America 92, 3042-3066). At a free surface the traction is zero (`jaxfwi.grid.surface`).

    In the absorbing layer waves lose in all directions a twentieth of what the layer takes across it (after
    Meza-Fajardo & Papageorgiou 2008, Bulletin of the Seismological Society of America 98, 1811-1836): soft ground over
    hard ground guides waves that would grow in a plain C-PML. It costs reflections of some 0.6 % in amplitude.

    Receivers: velocities ``"vz"``, ``"vx"`` (2D and 3D), ``"vy"`` (3D) in m/s, stresses ``"szz"``, ``"sxx"``, ``"sxz"``
    (and ``"syy"``, ``"syz"``, ``"sxy"``) in Pa, and ``"p"``, minus the mean of the normal stresses. Sources: driving a
    velocity is a body force w(t) in N along its axis. Driving a stress adds w(t) to its rate: for a moment tensor M(t)
    drive each stress by minus the rate of its component (a survey's wavelet can have one for each). An ``"explosion"``
    is an isotropic moment of rate w(t) in N m/s. In 2D and 1D all are per metre of the axes that are left out. In a
    homogeneous medium in 3D an explosion gives a radial velocity of ``(w'/(vp r) + w/r^2)(t - r/vp) / (4 pi rho
    vp^2)``.

    Args:
        vp, vs: velocities of P and S waves in m/s, arrays of the grid's shape; vs is 0 in water.
        rho: density in kg/m3, of the same shape.

    >>> import jax.numpy as jnp
    >>> vp, vs, rho = (jnp.full((10, 20), x) for x in (3000.0, 1700.0, 2200.0))
    >>> rock = Elastic(vp=vp, vs=vs, rho=rho)
    >>> lam, mu = rock.lame()
    >>> float(Elastic.from_lame(lam, mu, rock.rho).vs[0, 0])
    1700.0
    """

    vp: Any
    vs: Any
    rho: Any

    default_fields: ClassVar = ("vz",)
    isotropic_loss: ClassVar = 0.05

    @classmethod
    def from_lame(cls, lam: Any, mu: Any, rho: Any) -> "Elastic":
        """The model of the Lame parameters in Pa and a density in kg/m3. Where mu is 0 its derivative is held at 0."""
        solid = jnp.asarray(mu) > 0
        vs = jnp.where(solid, jnp.sqrt(jnp.where(solid, mu, 1.0) / rho), 0.0)
        return cls(vp=jnp.sqrt((lam + 2 * mu) / rho), vs=vs, rho=rho)

    def lame(self) -> tuple[Any, Any]:
        """The Lame parameters lambda and mu in Pa."""
        mu = self.rho * self.vs**2
        return self.rho * self.vp**2 - 2 * mu, mu

    @classmethod
    def from_impedance(cls, ip: Any, shear: Any, rho: Any) -> "Elastic":
        """The model of the impedances ``rho vp`` and ``rho vs`` in kg/(m2 s) and a density."""
        return cls(vp=ip / rho, vs=shear / rho, rho=rho)

    def impedance(self) -> tuple[Any, Any]:
        """The impedances ``rho vp`` and ``rho vs`` in kg/(m2 s)."""
        return self.rho * self.vp, self.rho * self.vs

    @classmethod
    def fields(cls, ndim: int) -> dict[str, Field]:
        names = axis_names(ndim)
        velocities = {f"v{a}": Field(half_way(ndim, i), driven_at=0.5, odd=False) for i, a in enumerate(names)}
        normal = {
            f"s{a}{a}": Field(half_way(ndim), recorded_at=-0.5, odd=a == "z")  # sxx and syy do not vanish at a surface
            for a in names
        }
        shear = {  # of these sxy, which is not part of the traction, does not vanish either
            _shear(names, i, j): Field(half_way(ndim, i, j), recorded_at=-0.5, odd=i == 0) for i, j in _pairs(ndim)
        }
        return {**velocities, **normal, **shear}

    @classmethod
    def driven(cls, ndim: int) -> dict[str, dict[str, float]]:
        return {**super().driven(ndim), "explosion": {f"s{a}{a}": -1.0 for a in axis_names(ndim)}}

    @classmethod
    def recorded(cls, ndim: int) -> dict[str, dict[str, float]]:
        return {**super().recorded(ndim), "p": {f"s{a}{a}": -1.0 / ndim for a in axis_names(ndim)}}

    @classmethod
    def tables(cls, ndim: int) -> tuple[Table, Table]:
        names = axis_names(ndim)
        volume = Term("lam", tuple((f"v{a}", i) for i, a in enumerate(names)))
        stress: Table = {f"s{a}{a}": (volume, Term("two_mu", ((f"v{a}", i),))) for i, a in enumerate(names)}
        for i, j in _pairs(ndim):
            name = _shear(names, i, j)
            stress[name] = (Term(f"mu_{name[1:]}", ((f"v{names[j]}", i), (f"v{names[i]}", j))),)
        velocity = {
            f"v{a}": (Term(f"buoyancy_{a}", tuple((_shear(names, i, j), j) for j in range(ndim))),)
            for i, a in enumerate(names)
        }
        return stress, velocity

    @classmethod
    def source_scale(cls, name: str) -> str | None:
        return f"buoyancy_{name[1:]}" if name.startswith("v") else None

    def coefficients(self, dt: float, free_surface: bool) -> dict[str, Array]:
        lam, mu = self.lame()
        ndim = lam.ndim
        names = axis_names(ndim)
        if free_surface:
            # no vertical stress at the surface: the vertical strain follows from the horizontal ones
            lam = lam.at[0].set(2 * lam[0] * mu[0] / (lam[0] + 2 * mu[0]))
        forces = buoyancies(self.rho, dt)
        shear = {f"mu_{_shear(names, i, j)[1:]}": dt * _harmonic_mean(mu, i, j) for i, j in _pairs(ndim)}
        return {
            "lam": dt * lam,
            "two_mu": 2 * dt * mu,
            **shear,
            **{f"buoyancy_{a}": force for a, force in forces.items()},
        }

    def check(self) -> None:
        check_positive(self, "vp", "m/s")
        check_positive(self, "rho", "kg/m3")
        vp, vs = np.asarray(self.vp), np.asarray(self.vs)
        if not (np.isfinite(vs).all() and (vs >= 0).all()):
            raise ValueError(
                f"Elastic vs must be finite and not negative (0 is water), its smallest value is {vs.min():g}."
            )
        ratio = vs / vp
        if ratio.max() >= np.sqrt(0.75):
            at = np.unravel_index(np.argmax(ratio), ratio.shape)
            raise ValueError(
                f"Elastic vs = {vs[at]:g} m/s is too large for vp = {vp[at]:g} m/s at cell {tuple(map(int, at))}: a "
                "bulk modulus above 0 needs vs < 0.866 vp."
            )

    def speeds(self) -> tuple[float, float]:
        vp, vs = np.asarray(self.vp), np.asarray(self.vs)
        return float(np.where(vs > 0, vs, vp).min()), fastest(vp, self.rho)


def _pairs(ndim: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(ndim) for j in range(i + 1, ndim)]


def _shear(names: str, i: int, j: int) -> str:
    """The stress of two axes, as sxz."""
    return "s" + "".join(sorted((names[i], names[j])))


def _harmonic_mean(mu: Array, i: int, j: int) -> Array:
    """The mean over the four nodes around each point half-way along both axes; zero beside water."""
    solid = mu > 0
    compliance = 1.0 / jnp.where(solid, mu, 1.0)
    fraction_solid = solid.astype(mu.dtype)
    for axis in (i, j):
        compliance, fraction_solid = next_node_mean(compliance, axis), next_node_mean(fraction_solid, axis)
    mean = jnp.where(fraction_solid == 1.0, 1.0 / compliance, 0.0)
    return closed(mean, half_way(mu.ndim, i, j))
