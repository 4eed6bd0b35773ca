"""Seismic wave modelling and full waveform inversion in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxfwi import filters, hosts, misfits, models, optimise, quality, regularization
from jaxfwi.absorber import CPML
from jaxfwi.checkpoint import Checkpoints
from jaxfwi.compiler import compiler_options
from jaxfwi.encoding import Encoding
from jaxfwi.equations import Acoustic, Elastic, VariableDensityAcoustic, WaveEquation
from jaxfwi.grid import Grid
from jaxfwi.inversion import InversionState, invert
from jaxfwi.memory import BoundarySaving, Checkpointing, FullStorage
from jaxfwi.objective import FlatObjective
from jaxfwi.products import gauss_newton_diagonal, gauss_newton_product, hessian_product
from jaxfwi.shots import estimate_memory, misfit_and_gradient, simulate
from jaxfwi.simulator import Simulator
from jaxfwi.stages import Stage
from jaxfwi.survey import Survey
from jaxfwi.wavefields import snapshots
from jaxfwi.wavelets import ricker

if TYPE_CHECKING:
    from jaxfwi import io, plot

__all__ = [
    "CPML",
    "Acoustic",
    "BoundarySaving",
    "Checkpointing",
    "Checkpoints",
    "Elastic",
    "Encoding",
    "FlatObjective",
    "FullStorage",
    "Grid",
    "InversionState",
    "Simulator",
    "Stage",
    "Survey",
    "VariableDensityAcoustic",
    "WaveEquation",
    "compiler_options",
    "estimate_memory",
    "filters",
    "gauss_newton_diagonal",
    "gauss_newton_product",
    "hessian_product",
    "hosts",
    "invert",
    "io",
    "misfit_and_gradient",
    "misfits",
    "models",
    "optimise",
    "plot",
    "quality",
    "regularization",
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


for _module in (filters, hosts, misfits, models, optimise, quality, regularization):
    _module.__dir__ = _module.__all__.copy  # what completion offers, without what the module itself imports
del _module
