"""Reading and writing data, surveys and models in common formats.

Nothing else in jaxfwi needs this module, which is imported only when it is used.
"""

from jaxfwi.io import gathers, models, segy, seistorch

__all__ = ["gathers", "models", "segy", "seistorch"]


def __dir__() -> list[str]:
    return __all__


for _module in (gathers, models, segy, seistorch):
    _module.__dir__ = _module.__all__.copy  # names for completion, without what the module itself imports
del _module
