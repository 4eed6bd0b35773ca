"""Figures of models, gathers, gradients, wavefields, convergence, wavelets and the fit of data.

Each function takes arrays (numpy, jax or lists) and draws one thing with units on its axes. Whatever needs the spacing
or the time step takes the grid; sections must have the grid's shape, while gathers may have any number of samples.

Without ``ax`` a function makes its own figure, which pyplot does not know about: pyplot's list of open figures and its
current figure stay as they are, no backend is chosen, and nothing is left to close. Such a figure shows itself as the
last line of a notebook cell and is written by ``ax.figure.savefig("model.png")``.
"""

from jaxfwi.plot.comparisons import compare, compare_gathers
from jaxfwi.plot.curves import convergence, data_fit, spectrum
from jaxfwi.plot.figures import DIVERGING, SEQUENTIAL
from jaxfwi.plot.gathers import gather, wiggles
from jaxfwi.plot.sections import illumination, model
from jaxfwi.plot.waves import animation, snapshots

__all__ = [
    "DIVERGING",
    "SEQUENTIAL",
    "animation",
    "compare",
    "compare_gathers",
    "convergence",
    "data_fit",
    "gather",
    "illumination",
    "model",
    "snapshots",
    "spectrum",
    "wiggles",
]


def __dir__() -> list[str]:
    return __all__
