"""Checks of what a simulation is given: each refuses by one sentence that names the argument, its value and the fix."""

import math
import os
import sys
import warnings

import equinox
import jax
import jax.numpy as jnp
import numpy as np

from jaxfwi._checks import is_concrete
from jaxfwi.equations.base import WaveEquation
from jaxfwi.grid.grid import Grid
from jaxfwi.grid.surface import surface
from jaxfwi.survey.survey import Survey

__all__ = ["check_dispersion", "check_many", "check_model", "check_survey"]

# where a warning points: at the first line outside of this package, and of Equinox, which calls a module's methods
_PACKAGES = tuple(os.path.dirname(path) + os.sep for path in (os.path.dirname(__file__), equinox.__file__))


def check_model(model: WaveEquation, grid: Grid, space_order: int, free_surface: bool) -> None:
    """Raise a ValueError if a model does not fit the grid, has impossible values, or makes the scheme unstable.

    Values are looked at only where they are known: not under `jit`, `grad` or `vmap`.
    """
    name = type(model).__name__
    if not isinstance(model, WaveEquation):
        raise ValueError(f"model must be a wave equation with its parameters, as Acoustic(vp=...), got {name}.")
    leaves = jax.tree_util.tree_leaves_with_path(model)
    for path, leaf in leaves:
        parameter = jax.tree_util.keystr(path[:1]).strip(".")
        if not hasattr(leaf, "shape"):
            raise ValueError(f"{name} {parameter} must be an array, got {type(leaf).__name__}.")
        if jnp.shape(leaf) != grid.shape:
            raise ValueError(f"{name} {parameter} has shape {jnp.shape(leaf)} but the grid has {grid.shape}.")
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(f"{name} {parameter} must be floating-point numbers, got {jnp.result_type(leaf)}.")
    if free_surface and model.staggered:
        needed = len(surface(space_order).node_volumes) + space_order // 2
        if grid.shape[0] < needed:
            raise ValueError(
                f"grid.shape has {grid.shape[0]} rows: too few for {name} under a free surface at space order "
                f"{space_order}, which needs {needed}. Lower space_order or deepen the model."
            )
    if is_concrete(*(leaf for _, leaf in leaves)):
        model.check()
        fastest = model.speeds()[1]
        limit = grid.stable_dt(fastest, space_order, model.staggered)
        if grid.dt > limit:
            raise ValueError(
                f"grid.dt = {grid.dt:g} s is unstable for {fastest:g} m/s at space order {space_order}: "
                f"the largest stable dt is {_rounded_down(limit):.4g} s."
            )


def check_survey(survey: Survey, grid: Grid, sources: int) -> None:
    """Raise a ValueError if a survey does not fit the grid, or its wavelet the number of source fields."""
    if not isinstance(survey, Survey):
        raise ValueError(f"survey must be a jaxfwi.Survey, got {type(survey).__name__}.")
    survey.check()
    if survey.source.shape[-1] != grid.ndim:
        raise ValueError(
            f"survey positions have {survey.source.shape[-1]} coordinates but the grid has {grid.ndim} axes."
        )
    samples = survey.wavelet.shape[survey.source.ndim - 2]
    if samples != grid.nt:
        raise ValueError(f"survey wavelet has {samples} time samples but the grid has nt = {grid.nt}.")
    for name, position in (("source", survey.source), ("receiver", survey.receiver)):
        if is_concrete(position):
            _check_on_grid(name, np.asarray(position, dtype=float), grid)
    if survey.wavelet.ndim > survey.source.ndim and survey.wavelet.shape[-1] != sources:
        raise ValueError(
            f"survey wavelet has {survey.wavelet.shape[-1]} components but the simulator has {sources} source_fields."
        )


def check_many(survey: Survey) -> None:
    """Raise a ValueError for one shot where a survey of several is needed, or for no shots at all."""
    if isinstance(survey, Survey) and np.ndim(survey.source) == 2:
        raise ValueError(
            "survey has no shot axis: pass survey[i : i + 1] for one shot, or call simulator(model, survey[i])."
        )
    if isinstance(survey, Survey) and not len(survey):
        raise ValueError("survey has no shots.")


def _check_on_grid(name: str, position: np.ndarray, grid: Grid) -> None:
    """Raise a ValueError for sources or receivers outside of the model, naming the first."""
    extent = np.asarray(grid.extent)
    slack = 1e-4 * np.asarray(grid.spacing)  # single-precision metres at the far edge
    off = np.argwhere(((position < -slack) | (position > extent + slack)).any(axis=-1))
    if not len(off):
        return
    where = "".join(f"{word} {i}, " for word, i in zip(("shot", name)[-off.shape[1] :], off[0], strict=True))
    at = ", ".join(f"{x:g}" for x in position[tuple(off[0])])
    size = ", ".join(f"{e:g}" for e in extent)
    more = f" ({len(off)} such {name}s in all)" if len(off) > 1 else ""
    raise ValueError(f"{name} off the grid: {where}at ({at}) m; the grid reaches from 0 to ({size}) m{more}.")


def check_dispersion(model: WaveEquation, survey: Survey, grid: Grid, space_order: int) -> None:
    """Warn if the wavelet holds frequencies that the grid disperses at the model's slowest speed."""
    slowest = model.speeds()[0]
    safe = grid.safe_frequency(slowest, space_order, model.staggered)
    time = survey.source.ndim - 2
    spectrum = np.abs(np.fft.rfft(np.asarray(survey.wavelet), axis=time)) ** 2
    energy = spectrum.sum(axis=tuple(a for a in range(spectrum.ndim) if a != time))
    frequency = np.fft.rfftfreq(grid.nt, grid.dt)
    if energy.sum() == 0.0:
        return
    highest = frequency[np.searchsorted(np.cumsum(energy), 0.95 * energy.sum())]
    if highest > safe:
        warnings.warn(
            f"the wavelet reaches {highest:.3g} Hz (95 % of its energy) where {slowest:g} m/s at space order "
            f"{space_order} is safe up to {safe:.3g} Hz: waves will disperse. Refine the grid, raise "
            "space_order or lower the frequency.",
            stacklevel=_level_of_caller(),
        )


def _level_of_caller() -> int:
    """The `stacklevel` of a warning in the function that asks, to point at the first line outside of these packages."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGES):
        frame, level = frame.f_back, level + 1
    return level


def _rounded_down(seconds: float) -> float:
    """To four digits, so that the figure in a message is itself below the limit."""
    unit = 10.0 ** (math.floor(math.log10(seconds)) - 3)
    return math.floor(seconds / unit) * unit
