"""Seismic wave modelling and full waveform inversion in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxfwi import diagnostics, equations, filters, hosts, misfits, models, optimise, regularisation
from jaxfwi._compiler import compiler_options
from jaxfwi.equations import Acoustic, Elastic, VariableDensityAcoustic, WaveEquation
from jaxfwi.grid.absorber import CPML
from jaxfwi.grid.grid import Grid
from jaxfwi.inversion.driver import InversionState
from jaxfwi.inversion.invert import invert
from jaxfwi.inversion.saving import SaveTo
from jaxfwi.inversion.stages import Stage
from jaxfwi.inversion.vector import AsVector
from jaxfwi.shots.devices import On
from jaxfwi.shots.problem import Problem
from jaxfwi.shots.simulate import simulate
from jaxfwi.simulation.memory import BoundarySaving, Checkpointing, FullStorage
from jaxfwi.simulation.simulator import Simulator
from jaxfwi.simulation.snapshots import snapshots
from jaxfwi.survey.encoding import Encoding
from jaxfwi.survey.survey import Survey
from jaxfwi.survey.wavelets import ricker

if TYPE_CHECKING:
    from jaxfwi import io, plot

__all__ = [
    "CPML",
    "Acoustic",
    "AsVector",
    "BoundarySaving",
    "Checkpointing",
    "Elastic",
    "Encoding",
    "FullStorage",
    "Grid",
    "InversionState",
    "On",
    "Problem",
    "SaveTo",
    "Simulator",
    "Stage",
    "Survey",
    "VariableDensityAcoustic",
    "WaveEquation",
    "compiler_options",
    "diagnostics",
    "equations",
    "filters",
    "hosts",
    "invert",
    "io",
    "misfits",
    "models",
    "optimise",
    "plot",
    "regularisation",
    "ricker",
    "simulate",
    "snapshots",
]


def __getattr__(name: str) -> Any:
    """`plot` and `io` come when asked for: matplotlib takes as long to import as all the rest, and many jobs need
    neither.
    """
    if name in ("io", "plot"):
        return importlib.import_module(f"jaxfwi.{name}")
    raise AttributeError(f"module 'jaxfwi' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


for _module in (diagnostics, equations, filters, hosts, misfits, models, optimise, regularisation):
    _module.__dir__ = _module.__all__.copy  # what completion offers, without what the module itself imports
del _module
