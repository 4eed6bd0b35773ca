"""Seismic wave modelling and full waveform inversion in JAX."""

from jaxfwi import misfits
from jaxfwi.absorber import CPML
from jaxfwi.equations import Acoustic, WaveEquation
from jaxfwi.grid import Grid
from jaxfwi.memory import BoundarySaving, Checkpointing, FullStorage
from jaxfwi.shots import misfit_and_gradient, simulate
from jaxfwi.simulator import Simulator
from jaxfwi.survey import Survey
from jaxfwi.wavelets import ricker

__all__ = [
    "CPML",
    "Acoustic",
    "BoundarySaving",
    "Checkpointing",
    "FullStorage",
    "Grid",
    "Simulator",
    "Survey",
    "WaveEquation",
    "misfit_and_gradient",
    "misfits",
    "ricker",
    "simulate",
]
