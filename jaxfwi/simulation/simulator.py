"""One shot: pad the model, prepare coefficients, run the time loop, record."""

import functools
import math
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi._checks import as_integer, chosen_fields, field_names, is_concrete
from jaxfwi._compiler import jitted_with_options
from jaxfwi.equations.base import WaveEquation
from jaxfwi.grid.absorber import CPML
from jaxfwi.grid.blocks import Split
from jaxfwi.grid.frame import Frame
from jaxfwi.grid.grid import Grid
from jaxfwi.grid.linear import varying_like
from jaxfwi.grid.stencils import pad_axis, slice_axis
from jaxfwi.grid.surface import surface
from jaxfwi.simulation.coupling import couple, shift
from jaxfwi.simulation.memory import BoundarySaving, MemoryStrategy
from jaxfwi.simulation.propagation import Inputs, Places, Propagation
from jaxfwi.survey.survey import Survey

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
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} must be a jaxfwi.{kind.__name__}, got {getattr(self, name)!r}.")
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
        """Check a model and a survey at the door, as far as their values are known, and return the survey with
        `Survey.on_nodes` applied.

        Raises:
            ValueError: naming what is wrong, its value and the fix.
        """
        self.check_model(model)
        self._check_survey(survey)
        sources = len(self.fields(type(model))[0])
        if survey.wavelet.ndim > survey.source.ndim and survey.wavelet.shape[-1] != sources:
            raise ValueError(
                f"survey wavelet has {survey.wavelet.shape[-1]} components but the simulator has {sources} "
                "source_fields."
            )
        if is_concrete(survey.source, survey.receiver):
            survey = survey.on_nodes(self.grid)
        if is_concrete(survey.wavelet, *jax.tree.leaves(model)):
            self._check_dispersion(model, survey)
        return survey

    def fields(self, equation: type[WaveEquation]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The fields that sources drive and receivers record."""
        default, ndim = equation.default_fields, self.grid.ndim
        source, receiver = (default if f is None else f for f in (self.source_fields, self.receiver_fields))
        return (
            chosen_fields("source_fields", source, equation.driven(ndim), equation.__name__),
            chosen_fields("receiver_fields", receiver, equation.recorded(ndim), equation.__name__),
        )

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
        if self.free_surface and model.staggered:
            needed = len(surface(self.space_order).node_volumes) + self.space_order // 2
            if self.grid.shape[0] < needed:
                name, order = type(model).__name__, self.space_order
                raise ValueError(
                    f"grid.shape has {self.grid.shape[0]} rows: too few for {name} under a free surface at space order "
                    f"{order}, which needs {needed}. Lower space_order or deepen the model."
                )
        if is_concrete(*(leaf for _, leaf in leaves)):
            model.check()
            fastest = model.speeds()[1]
            limit = self.grid.stable_dt(fastest, self.space_order, model.staggered)
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
        samples = survey.wavelet.shape[survey.source.ndim - 2]
        if samples != self.grid.nt:
            raise ValueError(f"survey wavelet has {samples} time samples but the grid has nt = {self.grid.nt}.")
        for name, position in (("source", survey.source), ("receiver", survey.receiver)):
            if is_concrete(position):
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
        safe = self.grid.safe_frequency(slowest, self.space_order, model.staggered)
        time = survey.source.ndim - 2
        spectrum = np.abs(np.fft.rfft(np.asarray(survey.wavelet), axis=time)) ** 2
        energy = spectrum.sum(axis=tuple(a for a in range(spectrum.ndim) if a != time))
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


def admit_one(simulator: Simulator, model: WaveEquation, shot: Survey) -> Survey:
    """`Simulator.admit` for one shot."""
    if isinstance(shot, Survey) and np.ndim(shot.source) != 2:
        raise ValueError("a simulator models one shot: pass survey[i], or use simulate(simulator, model, survey).")
    return simulator.admit(model, shot)


def _rounded_down(seconds: float) -> float:
    """To four digits, so that the figure in a message is itself below the limit."""
    unit = 10.0 ** (math.floor(math.log10(seconds)) - 3)
    return math.floor(seconds / unit) * unit


@functools.partial(jax.jit, static_argnums=0)
def _one_shot(simulator: Simulator, model: WaveEquation, shot: Survey) -> Array:
    return one_shot(simulator, model, shot)


def one_shot(simulator: Simulator, model: WaveEquation, shot: Survey) -> Array:
    """Data of one shot ``(time, receivers, components)``, input being checked already."""
    return one_shot_with(simulator, type(model), coefficients_of(simulator, model), shot)


def one_shot_with(
    simulator: Simulator,
    equation: type[WaveEquation],
    coefficients: dict[str, Array],
    shot: Survey,
    split: Split | None = None,
) -> Array:
    """Data of one shot, from the coefficients that `coefficients_of` made of the model.

    With a `split` this is for the inside of a `jax.shard_map` over its mesh axis: the coefficients are this device's
    block of them, as ``split.spec`` cuts it, the data the whole.
    """
    share = share_of_shot(simulator, equation, coefficients, shot, split)
    return share if split is None else split.total(share)


def share_of_shot(
    simulator: Simulator,
    equation: type[WaveEquation],
    coefficients: dict[str, Array],
    shot: Survey,
    split: Split | None,
) -> Array:
    """What this device's block adds to the data of one shot: `one_shot_with` before it sums over the blocks.

    Without ``check_vma`` JAX's derivative of that sum, taken inside of a `jax.shard_map`, is wrong by the number of
    blocks: differentiate this instead, and sum by ``split.total`` beside it.
    """
    propagation, places, inputs = set_up(simulator, equation, coefficients, shot, split)
    return on_samples(propagation, shot, simulator.memory.run(propagation, places, inputs))


def set_up(
    simulator: Simulator,
    equation: type[WaveEquation],
    coefficients: dict[str, Array],
    shot: Survey,
    split: Split | None = None,
) -> tuple[Propagation, Places, Inputs]:
    """The time loop of a shot, and what it is to be run with; `on_samples` makes data of what it records."""
    grid, order = simulator.grid, simulator.space_order
    propagation = _propagation(simulator, equation, split)
    frame, source_fields, receiver_fields = _frame(simulator), propagation.source_fields, propagation.receiver_fields
    dtype = jnp.result_type(*jax.tree.leaves(coefficients))
    fields = equation.fields(grid.ndim)
    driven = [[fields[f] for f in equation.driven(grid.ndim)[name]] for name in source_fields]
    volumes = equation.row_volumes(order) if simulator.free_surface else ((), ())

    def coupled(position, lattice, names, per_volume):
        out = {
            f: couple(position, frame, lattice, fields[f], volumes[fields[f].half[0]] if per_volume else ())
            for name in names
            for f in name
        }
        if split is None:
            return out
        block = propagation.frame
        origin = [split.index * n if axis == split.axis else 0 for axis, n in enumerate(block.cells)]
        return {f: shift(c, origin, block.shape, block.margins) for f, c in out.items()}

    source = coupled(shot.source, shot.source_lattice, map(equation.driven(grid.ndim).get, source_fields), True)
    receiver = coupled(
        shot.receiver, shot.receiver_lattice, map(equation.recorded(grid.ndim).get, receiver_fields), False
    )
    wavelet = shot.wavelet.astype(dtype)
    wavelets = [wavelet[..., i] if wavelet.ndim == 3 else wavelet for i in range(len(source_fields))]
    wavelets = [half_a_step_on(w) if f[0].driven_at else w for w, f in zip(wavelets, driven, strict=True)]
    if split is not None:
        coefficients = {name: pad_axis(x, split.axis, frame.reach, frame.reach) for name, x in coefficients.items()}
    more = 2 if _early(propagation).any() else 0  # steps, for what is recorded half a step before the last samples
    inputs = Inputs(
        coefficients,
        tuple(jnp.pad(w, ((0, more), (0, 0))) for w in wavelets),
        {f: c.weight.astype(dtype) for f, c in source.items()},
        {f: c.weight.astype(dtype) for f, c in receiver.items()},
    )
    inputs = varying_like(inputs, inputs)  # else each step backwards would sum cotangents over devices
    places = Places({f: c.place for f, c in source.items()}, {f: c.place for f, c in receiver.items()})
    return propagation, places, inputs


def on_samples(propagation: Propagation, shot: Survey, data: Array) -> Array:
    """What a time loop records at the times of the samples, ``n dt``, with zeros in padded traces."""
    early = _early(propagation)
    if early.any():
        data = jnp.where(early, half_a_step_on(data), data)[: propagation.frame.grid.nt]
    return shot.masked(data)


def _early(propagation: Propagation) -> np.ndarray:
    """Which components of the data are recorded half a step before their time."""
    equation, ndim = propagation.equation, propagation.frame.grid.ndim
    fields, recorded = equation.fields(ndim), equation.recorded(ndim)
    return np.array([any(fields[f].recorded_at for f in recorded[name]) for name in propagation.receiver_fields])


def half_a_step_on(samples: Array) -> Array:
    """Samples ``(time, ...)`` half a step later, from four neighbours; there is nothing before and after them.

    The error is a part ``3/128 (omega dt)^4`` of a wave of frequency omega.
    """
    rest = [(0, 0)] * (samples.ndim - 1)
    x = jnp.pad(samples, [(1, 2), *rest])
    n = len(samples)
    return (9.0 * (x[1 : n + 1] + x[2 : n + 2]) - (x[:n] + x[3 : n + 3])) / 16.0


def coefficients_of(simulator: Simulator, model: WaveEquation, split: Split | None = None) -> dict[str, Array]:
    """The equation's coefficients on the padded grid, the model's edge copied outwards; what depends on that copy is
    held fixed unless the absorber is differentiated.

    With a `split` they are those of the whole grid still, along the axis without the margin, which each block gets for
    itself, and made longer there by zeros until the blocks are equal.
    """
    propagation = _propagation(simulator, type(model), None)
    frame, dtype = propagation.frame, jnp.result_type(*jax.tree.leaves(model))
    padded = jax.tree.map(lambda x: jnp.pad(x.astype(dtype), frame.pads, mode="edge"), model)
    coefficients = padded.coefficients(frame.grid.dt, frame.free_surface)
    coefficients = {name: jnp.pad(x, frame.margins) for name, x in coefficients.items()}
    if not propagation.differentiate_absorber:
        for name, x in coefficients.items():
            owned = propagation.owned_coefficients(name)
            coefficients[name] = jax.lax.stop_gradient(x).at[owned].set(x[owned])
    if split is not None:
        axis, (_, _, spare) = split.axis, frame.room(split)
        first, cells = frame.reach, frame.cells[axis]
        coefficients = {n: pad_axis(slice_axis(x, axis, first, cells), axis, 0, spare) for n, x in coefficients.items()}
    return coefficients


def split_of(simulator: Simulator, domains: int | Sequence[int], name: str = "domains") -> Split | None:
    """How to cut a simulator's padded grid into `domains` blocks over the mesh axis `name`.

    Args:
        simulator: grid, absorber and order.
        domains: a number of blocks along the last axis, or one for each axis, of which one may be above 1.
        name: of the mesh axis.

    Returns:
        The split, or None for a single block.

    Raises:
        ValueError: for numbers that cannot be, or blocks too small for layers and stencil.

    >>> import jaxfwi as jf
    >>> split_of(jf.Simulator(jf.Grid((60, 400), 10.0, 1e-3, 100)), 4)
    Split(axis=1, parts=4, name='domains')
    """
    ndim = simulator.grid.ndim
    if isinstance(domains, tuple | list):
        parts = [as_integer("domains", n, 1) for n in domains]
        if len(parts) != ndim:
            raise ValueError(f"domains must be a number, or one for each of the grid's {ndim} axes, got {domains}.")
    else:
        parts = [1] * (ndim - 1) + [as_integer("domains", domains, 1)]
    cut = [axis for axis, n in enumerate(parts) if n > 1]
    if not cut:
        return None
    if len(cut) > 1:
        raise ValueError(f"domains can cut the grid along one axis only, got {domains}: set all others to 1.")
    axis = cut[0]
    split = Split(axis, parts[axis], name)
    if axis == 0 and simulator.free_surface:
        other = "a horizontal axis" if ndim > 1 else "the shots over devices"
        raise ValueError(f"domains = {domains} cuts the axis of the free surface: cut {other} instead.")
    frame = _frame(simulator)

    def fits(n):
        length, needed, _ = frame.room(Split(axis, n, name))
        return length >= needed

    if not fits(split.parts):
        length, needed, _ = frame.room(split)
        most = next((n for n in range(split.parts - 1, 1, -1) if fits(n)), 1)
        raise ValueError(
            f"domains = {domains} leaves blocks of {length} cells along axis {axis}, of {frame.cells[axis]} with the "
            f"absorbing layers; each needs {needed}, for the layers of both sides and the stencil's reach. At most "
            f"{most} fit: cut less, another axis, or lower the absorber's width."
        )
    return split


def _frame(simulator: Simulator) -> Frame:
    return Frame(simulator.grid, simulator.space_order, simulator.absorber, simulator.free_surface)


def _propagation(simulator: Simulator, equation: type[WaveEquation], split: Split | None) -> Propagation:
    frame = _frame(simulator)
    source_fields, receiver_fields = simulator.fields(equation)
    return Propagation(
        equation,
        frame if split is None else frame.block(split),
        source_fields,
        receiver_fields,
        simulator.differentiate_absorber,
    )
