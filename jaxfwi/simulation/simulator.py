"""A simulation's static description: grid, order, boundaries, and how gradients are paid for."""

import functools
from dataclasses import dataclass, field

import jax
import numpy as np
from jax import Array

from jaxfwi._checks import check_kind, chosen_fields, field_names, is_concrete
from jaxfwi._compiler import jitted_with_options
from jaxfwi.equations.base import WaveEquation
from jaxfwi.grid.absorber import CPML
from jaxfwi.grid.blocks import Split
from jaxfwi.grid.frame import Frame
from jaxfwi.grid.grid import Grid
from jaxfwi.simulation.door import check_dispersion, check_model, check_survey
from jaxfwi.simulation.memory import BoundarySaving, MemoryStrategy
from jaxfwi.simulation.propagation import Propagation
from jaxfwi.simulation.shot import OneShot
from jaxfwi.survey.survey import Survey

__all__ = ["Simulator", "admit_one"]


@dataclass(frozen=True)
class Simulator:
    """Everything static about a simulation. Calling it models one shot: a pure function of model and shot.

    Under a `jit`, `vmap` or `grad` of your own, values are not known, and checks of values are left out: call
    ``simulator.admit(model, survey)`` before, as `simulate` does.

    Args:
        grid: of the model.
        space_order: accuracy of the space derivatives, any even number.
        absorber: the absorbing layer around the model, filled with copies of the model's edge.
        free_surface: whether the model's first row is a free surface.
        memory: how gradients are paid for: `FullStorage`, `Checkpointing` or `BoundarySaving`.
        differentiate_absorber: False (the default) holds the layer's material fixed in differentiation: an inversion
            should not be driven by an invented extension of the Earth. True gives the exact derivative over all cells,
            edges included.
        source_fields: names of the fields that sources drive; by default the equation's own.
        receiver_fields: names of the fields that receivers record, one component of the data each; by default the
            equation's own.

    Raises:
        ValueError: for an order, absorber or strategy that cannot be.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=200)
    >>> survey = jf.Survey.fixed_spread(
    ...     source_x=100.0, source_z=50.0, receiver_x=[50.0, 250.0], receiver_z=50.0,
    ...     wavelet=jf.ricker(grid, frequency=15.0))
    >>> jf.Simulator(grid, space_order=8)
    Simulator(Grid(20 x 30 cells of 10 m: 0.19 km x 0.29 km, 200 steps of 1 ms: 0.2 s), space_order=8)
    >>> jf.Simulator(grid)(jf.Acoustic(vp=jnp.full(grid.shape, 1500.0)), survey[0]).shape
    (200, 2, 1)
    """

    grid: Grid
    space_order: int = 4
    absorber: CPML = field(default_factory=CPML)
    free_surface: bool = False
    memory: MemoryStrategy = field(default_factory=BoundarySaving)
    differentiate_absorber: bool = False
    source_fields: tuple[str, ...] | None = None
    receiver_fields: tuple[str, ...] | None = None

    def __post_init__(self):
        for name, kind in (("grid", Grid), ("absorber", CPML)):
            check_kind(name, getattr(self, name), kind)
        self.grid.stable_dt(1.0, self.space_order)  # refuses an order that cannot be
        self.absorber.widths(self.grid.ndim)
        if not isinstance(self.memory, MemoryStrategy):
            raise ValueError(f"memory must be FullStorage(), Checkpointing() or BoundarySaving(), got {self.memory!r}.")
        for name in ("source_fields", "receiver_fields"):
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None else field_names(name, given))

    def __repr__(self) -> str:
        default = vars(Simulator(self.grid))
        others = [f"{name}={value!r}" for name, value in vars(self).items() if value != default[name]]
        return f"Simulator({', '.join([repr(self.grid), *others])})"

    def __call__(self, model: WaveEquation, shot: Survey) -> Array:
        """Model one shot.

        Args:
            model: an equation with its parameters, of the grid's shape.
            shot: one shot of a survey, as ``survey[0]``.

        Returns:
            Data ``(time, receivers, components)``; sample n is at ``n * grid.dt``.

        Raises:
            ValueError: for input that cannot be simulated.
        """
        shot = admit_one(self, model, shot)
        return jitted_with_options(_one_shot, (0,), (model, shot))(self, model, shot)

    def admit(self, model: WaveEquation, survey: Survey) -> Survey:
        """Check a model and a survey, as far as their values are known, and return the survey with `Survey.on_nodes`
        applied.

        Raises:
            ValueError: naming what is wrong, its value and the fix.
        """
        check_model(model, self.grid, self.space_order, self.free_surface)
        check_survey(survey, self.grid, len(self.fields(type(model))[0]))
        if is_concrete(survey.source, survey.receiver):
            survey = survey.on_nodes(self.grid)
        if is_concrete(survey.wavelet, *jax.tree.leaves(model)):
            check_dispersion(model, survey, self.grid, self.space_order)
        return survey

    def check_model(self, model: WaveEquation) -> None:
        """Raise a ValueError if a model does not fit the grid, has impossible values, or makes the scheme unstable."""
        if isinstance(model, WaveEquation):
            self.fields(type(model))
        check_model(model, self.grid, self.space_order, self.free_surface)

    def fields(self, equation: type[WaveEquation]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the fields that sources drive, and of those that receivers record, for an equation.

        Raises:
            ValueError: for a field that the equation does not have.
        """
        default, ndim = equation.default_fields, self.grid.ndim
        source, receiver = (default if f is None else f for f in (self.source_fields, self.receiver_fields))
        return (
            chosen_fields("source_fields", source, equation.driven(ndim), equation.__name__),
            chosen_fields("receiver_fields", receiver, equation.recorded(ndim), equation.__name__),
        )

    @property
    def frame(self) -> Frame:
        """The padded grid, which is the model with the absorbing layer around it."""
        return Frame(self.grid, self.space_order, self.absorber, self.free_surface)

    def one_shot(self, equation: type[WaveEquation], split: Split | None = None) -> OneShot:
        """The program of one shot for an equation, unchecked; on a block of the grid if this is split."""
        block = self.frame if split is None else self.frame.block(split)
        propagation = Propagation(equation, block, *self.fields(equation), self.differentiate_absorber)
        return OneShot(propagation, self.frame, self.memory)


@functools.partial(jax.jit, static_argnums=0)
def _one_shot(simulator: Simulator, model: WaveEquation, shot: Survey) -> Array:
    return simulator.one_shot(type(model)).data(model, shot)


def admit_one(simulator: Simulator, model: WaveEquation, shot: Survey) -> Survey:
    """`Simulator.admit` for one shot."""
    if isinstance(shot, Survey) and np.ndim(shot.source) != 2:
        raise ValueError("a simulator models one shot: pass survey[i], or use simulate(simulator, model, survey).")
    return simulator.admit(model, shot)
