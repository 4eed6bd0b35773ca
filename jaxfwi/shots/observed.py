"""Observed data and their weights: checks, and reading some of their shots."""

from typing import Any

import jax
import numpy as np

from jaxfwi._checks import is_concrete
from jaxfwi.survey.survey import Survey

__all__ = ["check_finite", "check_observed", "check_weights", "is_array", "rows_of"]


def check_observed(survey: Survey, observed: Any, expected: tuple[int, ...]) -> None:
    """Raise a ValueError if observed data are not finite or not of the expected shape."""
    if not hasattr(observed, "shape"):
        raise ValueError(f"observed must be an array or be indexed like one, got {type(observed).__name__}.")
    shape = tuple(observed.shape)
    if shape != expected:
        raise ValueError(
            f"observed has shape {shape}, but this survey gives (shots, time, receivers, components) = {expected}."
        )
    if is_concrete(observed, survey.receiver_mask) and is_array(observed):
        check_finite(survey.masked(observed))


def check_weights(weights: Any, expected: tuple[int, ...]) -> None:
    """Raise a ValueError if weights, should there be any, are not finite or do not fit data of the expected shape."""
    if weights is None:
        return
    shape = tuple(np.shape(weights))
    if len(shape) != 4 or shape[0] != expected[0] or any(n not in (1, m) for n, m in zip(shape, expected, strict=True)):
        raise ValueError(f"weights must be {expected}, with 1 for an axis but the first that all share, got {shape}.")
    if is_concrete(weights) and is_array(weights) and not np.isfinite(np.asarray(weights)).all():
        raise ValueError("weights has values that are not finite: 0 leaves a sample out.")


def check_finite(observed: Any) -> None:
    """Raise a ValueError if observed data have values that are not finite."""
    if not np.isfinite(np.asarray(observed)).all():
        raise ValueError("observed has values that are not finite: mute or interpolate those traces.")


def is_array(x: Any) -> bool:
    """Whether data are in memory, and not in a file."""
    return isinstance(x, jax.Array | np.ndarray) and not isinstance(x, np.memmap)


def rows_of(x: Any, order: np.ndarray) -> Any:
    """Rows of an array, in any order; or of a file that can be indexed in rising order only."""
    if is_array(x):
        if len(order) == len(x) and (order == np.arange(len(x))).all():
            return x
        if _on_one_processor(x):
            x = np.asarray(x)  # the same memory, and many times as fast as programs of jax for a few rows
        return x[order]
    rising, back = np.unique(order, return_inverse=True)
    rows = np.asarray(x[rising])
    return rows if (back == np.arange(len(rows))).all() and len(back) == len(rows) else rows[back]


def _on_one_processor(x: Any) -> bool:
    """Whether this process has all of a jax array in its own memory, in one piece."""
    if not isinstance(x, jax.Array) or not is_concrete(x) or not x.is_fully_addressable:
        return False
    return [device.platform for device in x.sharding.device_set] == ["cpu"]
