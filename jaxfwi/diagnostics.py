"""What is wrong with an inversion that misbehaves: how far predicted data are from observed data, trace by trace.

Data are ``(shots, time, receivers, components)``, numpy or jax, also mapped files, which are read shot by shot. Results
are numpy. Nothing here is differentiable: `misfits` are.
"""

from typing import Any

import numpy as np

from jaxfwi import _traces
from jaxfwi._checks import as_integer, positive_number
from jaxfwi.survey.survey import Survey

__all__ = ["cycle_skipping", "misfit_by_offset", "time_shifts"]


def time_shifts(predicted: Any, observed: Any, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """How late predicted traces are: the lag of the largest value of their cross-correlation with the observed.

    The lag is taken over the whole record and found between samples by a parabola, as in `misfits.Traveltime`. Where
    the correlation is low it means little.

    Args:
        predicted, observed: data ``(shots, time, receivers, components)``.
        dt: seconds between samples.

    Returns:
        Lags in seconds, positive where the predicted trace is late, and the correlations of traces of unit energy at
        the samples next to them, 1 for traces that are equal but for a positive factor and a shift of whole samples.
        Both are ``(shots, receivers, components)``, and 0 where one of both traces is zero.

    Raises:
        ValueError: for data of other or different shapes, or that are not finite, or a `dt` that is not positive.

    >>> observed = np.zeros((1, 50, 1, 1))
    >>> observed[0, 20:23, 0, 0] = 1.0, 2.0, 1.0
    >>> lags, correlations = time_shifts(np.roll(observed, 3, axis=1), observed, dt=0.01)
    >>> lags.round(4).tolist(), correlations.round(4).tolist()
    ([[[0.03]]], [[[1.0]]])
    """
    dt = positive_number("dt", dt, "number of seconds")
    _check(predicted, observed)
    found = [_traces.lag(*_pair_of(p, o, shot)) for shot, (p, o) in enumerate(zip(predicted, observed, strict=True))]
    lags, correlations = (np.stack([np.asarray(x) for x in both]) for both in zip(*found, strict=True))
    return dt * lags, correlations


def cycle_skipping(predicted: Any, observed: Any, dt: float, *, least: float = 0.0) -> tuple[np.ndarray, float]:
    """Which predicted traces are further from the observed than half a dominant period, where `misfits.l2` leads to a
    wrong cycle (Virieux & Operto 2009, Geophysics 74, WCC1-WCC26).

    The distance is that of `time_shifts`. The dominant period is that of the observed trace: one over the mean of its
    frequencies, weighted by their power. (Of a Ricker wavelet the mean is 1.064 times the peak frequency.)

    It is a hint and no proof. Traces of many arrivals have one lag here, that of the strongest. Data of a narrow band
    correlate nearly as well a period off, so that one that has skipped a cycle may look as if it had not; a lag of
    noise is any. Look at the correlations that `time_shifts` gives, and at fewer, lower frequencies.

    Args:
        predicted, observed: data ``(shots, time, receivers, components)``.
        dt: seconds between samples.
        least: traces whose observed peak is lower than this part of the largest of their shot and component are left
            out, from 0 to below 1. By default only those are that are zero in one of both data.

    Returns:
        Whether a trace has skipped, bool ``(shots, receivers, components)``, False for what is left out; and the share
        of the others that have, nan if there are none.

    Raises:
        ValueError: as `time_shifts`; for a `least` that cannot be.

    >>> observed = np.zeros((1, 100, 2, 1))
    >>> observed[0, 40:44, :, 0] = np.array([0.0, 1.0, 0.0, -1.0])[:, None]  # a period of some 4 samples
    >>> predicted = observed.copy()
    >>> predicted[0, :, 1] = np.roll(observed[0, :, 1], 3, axis=0)
    >>> skipped, share = cycle_skipping(predicted, observed, dt=0.01)
    >>> skipped[0, :, 0].tolist(), share
    ([False, True], 0.5)
    """
    if not 0 <= least < 1:
        raise ValueError(f"least must be a number from 0 to below 1, got {least!r}.")
    lags, _ = time_shifts(predicted, observed, dt)
    skipped, counted = np.zeros(lags.shape, bool), np.zeros(lags.shape, bool)
    for shot, (p, o) in enumerate(zip(predicted, observed, strict=True)):
        ours, theirs = (np.abs(np.asarray(x)).max(axis=0) for x in (p, o))
        counted[shot] = (ours > 0) & (theirs > 0) & (theirs >= least * theirs.max(axis=0))
        cycles = abs(lags[shot]) * np.asarray(_traces.mean_frequency(_pair_of(p, o, shot)[1])) / dt
        skipped[shot] = counted[shot] & (cycles > 0.5)
    return skipped, float(skipped.sum() / counted.sum()) if counted.any() else np.nan


def misfit_by_offset(
    predicted: Any, observed: Any, survey: Survey, bins: Any = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How well data fit near the sources and far from them: ``||predicted - observed||² / ||observed||²`` of all traces
    in each bin of offset.

    An offset is the distance of a receiver to the nearest source of its shot, depth included. Padded receivers, which
    `receiver_mask` tells, have no part.

    Args:
        predicted, observed: data ``(shots, time, receivers, components)``.
        survey: of these shots and receivers.
        bins: how many, equally wide from the smallest offset to the largest; or their edges in metres, ``(bins + 1,)``,
            rising. A bin holds its lower edge, the last one both. What lies outside is left out.

    Returns:
        Edges in metres ``(bins + 1,)``; misfits ``(bins,)``, 0 where data agree, 1 for predicted data of zeros, nan
        where observed data are zero or there are none; numbers of traces ``(bins,)``, each component counted.

    Raises:
        ValueError: for data of other or different shapes, or that are not finite or do not fit the survey; for bins
            that cannot be.

    >>> survey = Survey.from_arrays([[0.0, 0.0]], [[0.0, 30.0], [0.0, 50.0], [0.0, 130.0]], np.zeros(4))
    >>> observed = np.ones((1, 4, 3, 1))
    >>> edges, misfit, count = misfit_by_offset(0.5 * observed, observed, survey, [0.0, 100.0, 200.0, 300.0])
    >>> misfit.tolist(), count.tolist()
    ([0.25, 0.25, nan], [2, 1, 0])
    """
    shots, _, receivers, components = _check(predicted, observed)
    if survey.receiver.ndim != 3 or survey.receiver.shape[:2] != (shots, receivers):
        raise ValueError(
            f"survey must have the data's {shots} shots and {receivers} receivers, got receiver positions of shape "
            f"{survey.receiver.shape}."
        )
    source, receiver = (np.asarray(x, dtype=float) for x in (survey.source, survey.receiver))
    mask = survey.receiver_mask
    real = np.full((shots, receivers), True) if mask is None else np.asarray(mask)
    # shot by shot: of encoded shots, all sources by all receivers of all shots would be many
    offset = np.stack(
        [np.linalg.norm(r[:, None] - s, axis=-1).min(axis=1) for r, s in zip(receiver, source, strict=True)]
    )
    if np.ndim(bins) == 0:
        edges = np.histogram_bin_edges(offset[real], as_integer("bins", bins, 1))
    else:
        edges = np.asarray(bins, dtype=float)
        if edges.ndim != 1 or len(edges) < 2 or not np.isfinite(edges).all() or not (np.diff(edges) > 0).all():
            raise ValueError(f"bins must be a number of bins or two or more rising edges in metres, got {bins!r}.")
    last = len(edges) - 1
    index = np.where(offset == edges[-1], last - 1, np.searchsorted(edges, offset, side="right") - 1)
    within = real & (index >= 0) & (index < last)
    residual, energy = np.zeros(last), np.zeros(last)
    for shot, (p, o) in enumerate(zip(predicted, observed, strict=True)):
        p, o = (np.asarray(x, dtype=float)[:, within[shot]] for x in (p, o))
        _check_finite(p, o, shot)
        for total, x in ((residual, p - o), (energy, o)):
            np.add.at(total, index[shot, within[shot]], (x**2).sum(axis=(0, 2)))
    misfit = np.divide(residual, energy, out=np.full(last, np.nan), where=energy > 0)
    return edges, misfit, components * np.bincount(index[within], minlength=last)


def _check(predicted: Any, observed: Any) -> tuple[int, ...]:
    """The data's shape; numbers are checked shot by shot, as they are read."""
    if np.shape(predicted) != np.shape(observed) or np.ndim(predicted) != 4 or 0 in np.shape(predicted):
        raise ValueError(
            "predicted and observed must both be (shots, time, receivers, components), got shapes "
            f"{np.shape(predicted)} and {np.shape(observed)}."
        )
    return np.shape(predicted)


def _check_finite(predicted: np.ndarray, observed: np.ndarray, shot: int) -> None:
    for name, x in (("predicted", predicted), ("observed", observed)):
        if not np.isfinite(x).all():
            raise ValueError(f"{name} data of shot {shot} have values that are not finite.")


def _pair_of(predicted: Any, observed: Any, shot: int) -> Any:
    """Both data of one shot as `traces` takes them."""
    predicted, observed = np.asarray(predicted), np.asarray(observed)
    _check_finite(predicted, observed, shot)
    # by numpy, which compiles nothing
    return np.moveaxis(predicted, 0, -1), np.moveaxis(observed, 0, -1)
