"""Modelling every shot of a survey."""

import jax.numpy as jnp
from jax import Array

from jaxfwi._checks import check_kind
from jaxfwi.equations.base import WaveEquation
from jaxfwi.shots.aperture import Aperture
from jaxfwi.shots.devices import On
from jaxfwi.shots.plan import Shots, planned
from jaxfwi.shots.programs import all_data, run_program
from jaxfwi.simulation.door import check_many
from jaxfwi.simulation.simulator import Simulator
from jaxfwi.survey.survey import Survey

__all__ = ["simulate"]


def simulate(
    simulator: Simulator,
    model: WaveEquation,
    survey: Survey,
    *,
    aperture: Aperture = None,
    on: On = On(),
) -> Array:
    """Model every shot of a survey.

    Args:
        simulator: grid, order, boundaries.
        model: an equation with its parameters.
        survey: the shots.
        aperture: metres of model around each shot's sources and receivers, on either side along the horizontal axes,
            one number or one per axis: each shot is computed on that cutout alone. By default on the whole model.
        on: devices, shots at once, and domains that a grid is cut into: these change data by rounding only. The
            gradient of a function of all data remembers every shot, that of a `Problem` does not.

    Returns:
        Data ``(shots, time, receivers, components)``.

    Raises:
        ValueError: for input that cannot be simulated, or devices of several hosts.
        MemoryError: before anything is computed, if it cannot fit.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=200)
    >>> survey = jf.Survey.fixed_spread(
    ...     source_x=[100.0, 200.0], source_z=50.0,
    ...     receiver_x=[50.0, 250.0], receiver_z=50.0,
    ...     wavelet=jf.ricker(grid, frequency=15.0))
    >>> model = jf.Acoustic(vp=jnp.full(grid.shape, 1500.0))
    >>> jf.simulate(jf.Simulator(grid), model, survey).shape
    (2, 200, 2, 1)
    """
    check_kind("simulator", simulator, Simulator)
    check_kind("on", on, On)
    check_many(survey)
    survey = simulator.admit(model, survey)
    plan = planned(simulator, type(model), model, Shots(survey), aperture, on)
    mesh = plan.layout.mesh
    if mesh is not None and mesh.is_multi_process:
        raise ValueError(
            "devices belong to several hosts, but each models its own shots: call simulate(simulator, model, "
            "survey[jaxfwi.hosts.share(len(survey))]) without devices."
        )
    return run_program(all_data, plan.one_shot, plan, model, plan.shares(), _joined)[: len(survey)]


def _joined(shares: list[Array]) -> Array:
    return shares[0] if len(shares) == 1 else jnp.concatenate(shares)
