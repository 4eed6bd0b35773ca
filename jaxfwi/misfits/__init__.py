"""Misfits: pure functions of predicted and observed data, summed over traces and shots.

Each takes the data of one shot ``(time, receivers, components)``, or of several ``(..., time, receivers, components)``,
and returns a number that is least where both are equal; for all misfits here that least value is 0. They can be
differentiated twice, so that they also serve Hessian products. Misfits with parameters compare equal when their
parameters do: one made anew compiles no new program.

====================  ================================================  ===================================
misfit                blind, in each trace, to                          unit
====================  ================================================  ===================================
`l1`, `l2`, `Huber`   nothing                                           that of the data, or its square
`global_correlation`  amplitude                                         none
`Envelope`            polarity, phase                                   that of the data to twice the power
`InstantaneousPhase`  amplitude                                         none
`Traveltime`          amplitude, and all that leaves the lag unchanged  s²
`Wasserstein`         amplitude; with "square" polarity                 s²
`SlicedGraphSpace`    nothing                                           that of the data squared
====================  ================================================  ===================================

A trace that is zero in both data adds nothing, to gradients neither. Some misfits scale a trace by its own amplitude.
If such a trace is zero in only one of the two data, it counts as far from the other (for `Traveltime` as not late), and
the gradient with respect to a predicted trace of zeros is zero. All gradients are finite. Yet a misfit that is blind to
the amplitude of a trace sees nothing but noise where there is no signal: mute such traces, in both data.
"""

from jaxfwi.misfits.combined import Filtered, WeightedSum
from jaxfwi.misfits.residuals import Huber, global_correlation, l1, l2
from jaxfwi.misfits.shifts import SlicedGraphSpace, Traveltime, Wasserstein
from jaxfwi.misfits.signals import Envelope, InstantaneousPhase

__all__ = [
    "Envelope",
    "Filtered",
    "Huber",
    "InstantaneousPhase",
    "SlicedGraphSpace",
    "Traveltime",
    "Wasserstein",
    "WeightedSum",
    "global_correlation",
    "l1",
    "l2",
]
