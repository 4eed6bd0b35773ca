"""Colour scales: their limits, and the round factor that makes a difference visible on one."""

from collections.abc import Iterable, Sequence

import numpy as np

from jaxfwi.plot.arguments import FloatArray

__all__ = ["factor_in_title", "limits", "magnitude", "round_factor", "symmetric_limits"]


def magnitude(arrays: Iterable[FloatArray], percentile: float, empty: float = 1.0) -> float:
    """The percentile of the magnitudes; if it is zero, the largest magnitude; if that is zero too, ``empty``."""
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must be above 0 and at most 100, got {percentile!r}.")
    values = np.abs(np.concatenate([array.ravel() for array in arrays]))
    values = values[np.isfinite(values)]
    if not values.any():
        return empty
    return float(np.percentile(values, percentile)) or float(values.max())


def symmetric_limits(arrays: Iterable[FloatArray], percentile: float) -> tuple[float, float]:
    """The ends of a scale about zero that contains this percentage of the values."""
    limit = magnitude(arrays, percentile)
    return -limit, limit


def limits(arrays: Sequence[FloatArray], percentile: float) -> tuple[float, float]:
    """The ends of a scale that leaves out ``100 - percentile`` percent of the values on either side."""
    limit = magnitude(arrays, percentile)
    values = np.concatenate([array[np.isfinite(array)] for array in arrays])
    low, high = (float(np.percentile(values, p)) for p in (100 - percentile, percentile))
    return (low, high) if high > low else (low - limit / 2, high + limit / 2)


def round_factor(scale: float, size: float) -> float:
    """The greatest factor of 1, 2 or 5 times a power of ten by which ``size`` stays within ``scale``; 1 if it is 0."""
    if size == 0:
        return 1.0
    exponent = np.floor(np.log10(scale) - np.log10(size))
    digit = max(d for d in (1, 2, 5) if d == 1 or d * size * 10.0**exponent <= scale)
    return float(digit * 10.0**exponent)


def factor_in_title(factor: float) -> str:
    """A factor of `round_factor` as titles show it."""
    digit, exponent = f"{factor:.0e}".split("e")
    if abs(int(exponent)) < 3:
        return rf"$\times\ {factor:g}$"
    return rf"$\times\ {digit} \cdot 10^{{{int(exponent)}}}$"
