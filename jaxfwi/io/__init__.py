"""Data, surveys and models in the formats people have. Nothing of jaxfwi needs it; it comes when asked for."""

from jaxfwi.io import gathers, models, segy, seistorch

__all__ = ["gathers", "models", "segy", "seistorch"]
