"""Velocity models to test with, and start models to invert from.

Everything here is a pure function of numpy arrays, seeded where it is random, so that an experiment is the same on
every run and at every resolution. Arrays are indexed ``[z]``, ``[z, x]`` or ``[z, y, x]``: axis 0 is depth.

Masks are True in cells that may change. `is_water` is True in the water, which usually stays: pass ``mask=~water``.
"""

from jaxfwi.models.layers import WATER_VELOCITY, is_water, two_layers
from jaxfwi.models.marmousi import marmousi_like
from jaxfwi.models.start import linear_in_depth, smooth

__all__ = ["WATER_VELOCITY", "is_water", "linear_in_depth", "marmousi_like", "smooth", "two_layers"]
