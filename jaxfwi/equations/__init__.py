"""Wave equations, and the parts to write a new one with.

`Acoustic`, `VariableDensityAcoustic` and `Elastic` are models for users. All other names serve an equation of your own:
`docs/extending.md` writes one.
"""

from jaxfwi.equations.acoustic import Acoustic
from jaxfwi.equations.base import Field, Ring, Source, State, SubStep, WaveEquation
from jaxfwi.equations.elastic import Elastic
from jaxfwi.equations.staggered import (
    Staggered,
    Table,
    Term,
    axis_names,
    buoyancies,
    check_positive,
    closed,
    fastest,
    half_way,
    next_node_mean,
)
from jaxfwi.equations.variable_density import VariableDensityAcoustic
from jaxfwi.grid.derivative import Derivative

__all__ = [
    "Acoustic",
    "Derivative",
    "Elastic",
    "Field",
    "Ring",
    "Source",
    "Staggered",
    "State",
    "SubStep",
    "Table",
    "Term",
    "VariableDensityAcoustic",
    "WaveEquation",
    "axis_names",
    "buoyancies",
    "check_positive",
    "closed",
    "fastest",
    "half_way",
    "next_node_mean",
]
