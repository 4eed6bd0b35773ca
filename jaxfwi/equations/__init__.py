"""Wave equations, one a file."""

from jaxfwi.equations.acoustic import Acoustic
from jaxfwi.equations.base import WaveEquation

__all__ = ["Acoustic", "WaveEquation"]
