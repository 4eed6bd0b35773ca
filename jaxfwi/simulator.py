"""One shot: pad the model, prepare coefficients, run the time loop, record."""

import functools
import math
import os
import sys
import warnings
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi.absorber import CPML, Frame
from jaxfwi.checks import known
from jaxfwi.coupling import couple
from jaxfwi.equations.base import WaveEquation
from jaxfwi.grid import Grid
from jaxfwi.memory import BoundarySaving, MemoryStrategy
from jaxfwi.propagation import Inputs, Places, Propagation
from jaxfwi.survey import Survey

__all__ = ["Simulator"]

# where a warning points: at the first line outside this package
_AT_THE_CALLER: Any = (
    {"skip_file_prefixes": (os.path.dirname(__file__),)} if sys.version_info >= (3, 12) else {"stacklevel": 4}
)


@dataclass(frozen=True)
class Simulator:
    """Everything static about a simulation. Calling it models one shot: a pure function of model and shot.

    Under a `jit`, `vmap` or `grad` of your own the values of what it traces are not known, and checks of values are
    left out: call ``simulator.admit(model, survey)`` before, as `simulate` does.

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
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} must be a jaxfwi.{kind.__name__}, got {getattr(self, name)!r}.")
        self.grid.stable_dt(1.0, self.space_order)  # refuses an order that cannot be
        self.absorber.widths(self.grid.ndim)
        if not isinstance(self.memory, MemoryStrategy):
            raise ValueError(f"memory must be FullStorage(), Checkpointing() or BoundarySaving(), got {self.memory!r}.")
        for name in ("source_fields", "receiver_fields"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise ValueError(f'{name} must be a tuple of names, as in {name}=("{given}",).')
            object.__setattr__(self, name, None if given is None else tuple(given))

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
        if isinstance(shot, Survey) and np.ndim(shot.source) != 2:
            raise ValueError("a simulator models one shot: pass survey[i], or use simulate(simulator, model, survey).")
        shot = self.admit(model, shot)
        return _one_shot(self, model, shot)

    def admit(self, model: WaveEquation, survey: Survey) -> Survey:
        """Check a model and a survey at the door, as far as their values are known, and return the survey with
        `Survey.on_nodes` applied.

        Raises:
            ValueError: naming what is wrong, its value and the fix.
        """
        self.check_model(model)
        self._check_survey(survey)
        if known(survey.source, survey.receiver):
            survey = survey.on_nodes(self.grid)
        if known(survey.wavelet, *jax.tree.leaves(model)):
            self._check_dispersion(model, survey)
        return survey

    def fields(self, equation: type[WaveEquation]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The fields that sources drive and receivers record."""
        out = []
        for name in ("source_fields", "receiver_fields"):
            chosen = equation.default_fields if getattr(self, name) is None else getattr(self, name)
            if not chosen:
                raise ValueError(f"{name} is empty: name a field, of {', '.join(equation.fields)}.")
            unknown = [f for f in chosen if f not in equation.fields]
            if unknown:
                raise ValueError(
                    f"{name} names {unknown[0]!r}, which {equation.__name__} does not have: it has "
                    f"{', '.join(equation.fields)}."
                )
            out.append(tuple(chosen))
        return out[0], out[1]

    def check_model(self, model: WaveEquation) -> None:
        """Raise a ValueError if a model does not fit the grid, has values that cannot be, or makes it unstable."""
        if not isinstance(model, WaveEquation):
            raise ValueError(
                f"model must be a wave equation with its parameters, as Acoustic(vp=...), got {type(model).__name__}."
            )
        self.fields(type(model))
        leaves = jax.tree_util.tree_leaves_with_path(model)
        for path, leaf in leaves:
            name = jax.tree_util.keystr(path[:1]).strip(".")
            if not hasattr(leaf, "shape"):
                raise ValueError(f"{type(model).__name__} {name} must be an array, got {type(leaf).__name__}.")
            if jnp.shape(leaf) != self.grid.shape:
                raise ValueError(
                    f"{type(model).__name__} {name} has shape {jnp.shape(leaf)} but the grid has {self.grid.shape}."
                )
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                raise ValueError(
                    f"{type(model).__name__} {name} must be floating-point numbers, got {jnp.result_type(leaf)}."
                )
        if known(*(leaf for _, leaf in leaves)):
            model.check()
            fastest = model.speeds()[1]
            limit = self.grid.stable_dt(fastest, self.space_order)
            if self.grid.dt > limit:
                raise ValueError(
                    f"grid.dt = {self.grid.dt:g} s is unstable for {fastest:g} m/s at space order {self.space_order}: "
                    f"the largest stable dt is {_rounded_down(limit):.4g} s."
                )

    def _check_survey(self, survey: Survey) -> None:
        if not isinstance(survey, Survey):
            raise ValueError(f"survey must be a jaxfwi.Survey, got {type(survey).__name__}.")
        survey.check()
        if survey.source.shape[-1] != self.grid.ndim:
            raise ValueError(
                f"survey positions have {survey.source.shape[-1]} coordinates but the grid has {self.grid.ndim} axes."
            )
        if survey.wavelet.shape[-2] != self.grid.nt:
            raise ValueError(
                f"survey wavelet has {survey.wavelet.shape[-2]} time samples but the grid has nt = {self.grid.nt}."
            )
        for name, position in (("source", survey.source), ("receiver", survey.receiver)):
            if known(position):
                p = np.asarray(position, dtype=float)
                extent = np.asarray(self.grid.extent)
                slack = 1e-4 * np.asarray(self.grid.spacing)  # single-precision metres at the far edge
                off = np.argwhere(((p < -slack) | (p > extent + slack)).any(axis=-1))
                if len(off):
                    where = "".join(
                        f"{word} {i}, " for word, i in zip(("shot", name)[-off.shape[1] :], off[0], strict=True)
                    )
                    at = ", ".join(f"{x:g}" for x in p[tuple(off[0])])
                    size = ", ".join(f"{e:g}" for e in extent)
                    more = f" ({len(off)} such {name}s in all)" if len(off) > 1 else ""
                    raise ValueError(
                        f"{name} off the grid: {where}at ({at}) m; the grid reaches from 0 to ({size}) m{more}."
                    )

    def _check_dispersion(self, model: WaveEquation, survey: Survey) -> None:
        slowest = model.speeds()[0]
        safe = self.grid.safe_frequency(slowest, self.space_order)
        spectrum = np.abs(np.fft.rfft(np.asarray(survey.wavelet), axis=-2)) ** 2
        energy = spectrum.sum(axis=tuple(a for a in range(spectrum.ndim) if a != spectrum.ndim - 2))
        frequency = np.fft.rfftfreq(self.grid.nt, self.grid.dt)
        if energy.sum() == 0.0:
            return
        highest = frequency[np.searchsorted(np.cumsum(energy), 0.95 * energy.sum())]
        if highest > safe:
            warnings.warn(
                f"the wavelet reaches {highest:.3g} Hz (95 % of its energy) where {slowest:g} m/s at space order "
                f"{self.space_order} is safe up to {safe:.3g} Hz: waves will disperse. Refine the grid, raise "
                "space_order or lower the frequency.",
                **_AT_THE_CALLER,
            )


def _rounded_down(seconds: float) -> float:
    """To four digits, so that the figure in a message is itself below the limit."""
    unit = 10.0 ** (math.floor(math.log10(seconds)) - 3)
    return math.floor(seconds / unit) * unit


@functools.partial(jax.jit, static_argnums=0)
def _one_shot(simulator: Simulator, model: WaveEquation, shot: Survey) -> Array:
    return one_shot(simulator, model, shot)


def one_shot(simulator: Simulator, model: WaveEquation, shot: Survey) -> Array:
    """Data of one shot ``(time, receivers, components)``, input being checked already."""
    source_fields, receiver_fields = simulator.fields(type(model))
    frame = Frame(simulator.grid, simulator.space_order, simulator.absorber, simulator.free_surface)
    dtype = jnp.result_type(*jax.tree.leaves(model))
    padded = jax.tree.map(lambda x: _pad(x.astype(dtype), frame, simulator.differentiate_absorber), model)
    source = couple(shot.source, frame, shot.source_on_nodes)
    receiver = couple(shot.receiver, frame, shot.receiver_on_nodes)
    inputs = Inputs(
        padded.coefficients(simulator.grid.dt),
        shot.wavelet.astype(dtype),
        source.weight.astype(dtype),
        receiver.weight.astype(dtype),
    )
    propagation = Propagation(type(model), frame, source_fields, receiver_fields, simulator.differentiate_absorber)
    return simulator.memory.run(propagation, Places(source.place, receiver.place), inputs)


def _pad(parameter: Array, frame: Frame, differentiate: bool) -> Array:
    """The parameter on the padded grid, its edge copied outwards."""
    padded = jnp.pad(parameter, frame.pads, mode="edge")
    return padded if differentiate else jax.lax.stop_gradient(padded).at[frame.model].set(parameter)
