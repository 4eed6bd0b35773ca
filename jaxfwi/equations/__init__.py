"""Wave equations, one a file."""

from jaxfwi.equations.acoustic import Acoustic
from jaxfwi.equations.base import WaveEquation
from jaxfwi.equations.elastic import Elastic
from jaxfwi.equations.variable_density import VariableDensityAcoustic

__all__ = ["Acoustic", "Elastic", "VariableDensityAcoustic", "WaveEquation"]
