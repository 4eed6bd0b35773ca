"""Seismic wave modelling and full waveform inversion in JAX."""

from jaxfwi import hosts, misfits, models, plot
from jaxfwi.absorber import CPML
from jaxfwi.equations import Acoustic, Elastic, VariableDensityAcoustic, WaveEquation
from jaxfwi.grid import Grid
from jaxfwi.inversion import InversionState, invert
from jaxfwi.memory import BoundarySaving, Checkpointing, FullStorage
from jaxfwi.products import gauss_newton_product, hessian_product
from jaxfwi.shots import estimate_memory, misfit_and_gradient, simulate
from jaxfwi.simulator import Simulator
from jaxfwi.survey import Survey
from jaxfwi.wavelets import ricker

__all__ = [
    "CPML",
    "Acoustic",
    "BoundarySaving",
    "Checkpointing",
    "Elastic",
    "FullStorage",
    "Grid",
    "InversionState",
    "Simulator",
    "Survey",
    "VariableDensityAcoustic",
    "WaveEquation",
    "estimate_memory",
    "gauss_newton_product",
    "hessian_product",
    "hosts",
    "invert",
    "misfit_and_gradient",
    "misfits",
    "models",
    "plot",
    "ricker",
    "simulate",
]
