"""Data, surveys and models in the formats people have. Nothing of jaxfwi needs it; it comes when asked for."""

from jaxfwi.io import gathers, models, segy, seistorch

__all__ = ["gathers", "models", "segy", "seistorch"]


def __dir__() -> list[str]:
    return __all__


for _module in (gathers, models, segy, seistorch):
    _module.__dir__ = _module.__all__.copy  # what completion offers, without what the module itself imports
del _module
