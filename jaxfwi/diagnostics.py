"""Diagnosing an inversion that misbehaves: how far predicted data are from observed data, trace by trace.

Data are ``(shots, time, receivers, components)``, numpy or jax arrays or memory-mapped files, which are read shot by
shot. Results are numpy arrays. Nothing here is differentiable; the functions of `misfits` are.
"""

from typing import Any

import numpy as np

from jaxfwi import _traces
from jaxfwi._checks import as_integer, check_grid
from jaxfwi.grid.grid import Grid
from jaxfwi.survey.survey import Survey

__all__ = ["cycle_skipping", "misfit_by_offset", "time_shifts"]


def time_shifts(predicted: Any, observed: Any, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """How late predicted traces are: the lag at which their cross-correlation with the observed traces is largest.

    The lag is searched over the whole record and found between samples by a parabola, as in `misfits.Traveltime`. Where
    the correlation is low, the lag means little.

    Args:
        predicted, observed: data ``(shots, time, receivers, components)``.
        grid: gives the time step.

    Returns:
        Lags in seconds, positive where the predicted trace is late; and the correlations, of traces scaled to unit
        energy, at the samples nearest to the lags: 1 for traces that are equal up to a positive factor and a shift by
        whole samples. Both are ``(shots, receivers, components)``, and 0 where one of the two traces is zero.

    Raises:
        ValueError: for data that are not of this kind, differ in shape or are not finite.

    >>> import numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=0.01, nt=50)
    >>> observed = np.zeros((1, 50, 1, 1))
    >>> observed[0, 20:23, 0, 0] = 1.0, 2.0, 1.0
    >>> predicted = np.roll(observed, 3, axis=1)
    >>> lags, correlations = jf.diagnostics.time_shifts(predicted, observed, grid)
    >>> lags.round(4).tolist(), correlations.round(4).tolist()
    ([[[0.03]]], [[[1.0]]])
    """
    check_grid(grid)
    _check_data(predicted, observed)
    found = [
        _traces.lag(*_traces_of_shot(p, o, shot)) for shot, (p, o) in enumerate(zip(predicted, observed, strict=True))
    ]
    lags, correlations = (np.stack([np.asarray(x) for x in each]) for each in zip(*found, strict=True))
    return grid.dt * lags, correlations


def cycle_skipping(predicted: Any, observed: Any, grid: Grid, *, least: float = 0.0) -> tuple[np.ndarray, float]:
    """Which predicted traces are further than half a dominant period from the observed ones, so that `misfits.l2` leads
    to a wrong cycle (Virieux & Operto 2009, Geophysics 74, WCC1-WCC26).

    The distance is the lag of `time_shifts`. The dominant period is one over the mean frequency of the observed trace,
    weighted by power. (For a Ricker wavelet that mean is 1.064 times the peak frequency.)

    This is a hint and no proof. A trace with many arrivals has only one lag here, that of the strongest. Data of a
    narrow band correlate nearly as well one period away, so that a trace that has skipped a cycle may look as if it had
    not; the lag of noise is arbitrary. Look at the correlations of `time_shifts` as well, and at fewer, lower
    frequencies.

    Args:
        predicted, observed: data ``(shots, time, receivers, components)``.
        grid: gives the time step.
        least: leaves out traces whose observed peak is lower than this fraction of the largest peak of their shot and
            component, from 0 to below 1. By default only traces that are zero in one of the two data are left out.

    Returns:
        Whether each trace has skipped, bool ``(shots, receivers, components)``, False for traces left out; and the
        fraction of the other traces that have, nan if there are none.

    Raises:
        ValueError: as `time_shifts`; for an invalid `least`.

    >>> import numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=0.01, nt=100)
    >>> observed = np.zeros((1, 100, 2, 1))
    >>> period = np.array([0.0, 1.0, 0.0, -1.0])  # some 4 samples
    >>> observed[0, 40:44, :, 0] = period[:, None]
    >>> predicted = observed.copy()
    >>> predicted[0, :, 1] = np.roll(observed[0, :, 1], 3, axis=0)
    >>> skipped, fraction = jf.diagnostics.cycle_skipping(predicted, observed, grid)
    >>> skipped[0, :, 0].tolist(), fraction
    ([False, True], 0.5)
    """
    if not 0 <= least < 1:
        raise ValueError(f"least must be a number from 0 to below 1, got {least!r}.")
    lags, _ = time_shifts(predicted, observed, grid)
    skipped, counted = np.zeros(lags.shape, bool), np.zeros(lags.shape, bool)
    for shot, (p, o) in enumerate(zip(predicted, observed, strict=True)):
        ours, theirs = (np.abs(np.asarray(x)).max(axis=0) for x in (p, o))
        counted[shot] = (ours > 0) & (theirs > 0) & (theirs >= least * theirs.max(axis=0))
        frequency = np.asarray(_traces.mean_frequency(_traces_of_shot(p, o, shot)[1]))
        cycles = abs(lags[shot]) * frequency / grid.dt
        skipped[shot] = counted[shot] & (cycles > 0.5)
    return skipped, float(skipped.sum() / counted.sum()) if counted.any() else np.nan


def misfit_by_offset(
    predicted: Any, observed: Any, survey: Survey, bins: Any = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How well data fit near the sources and far from them: ``||predicted - observed||² / ||observed||²`` over all
    traces in each bin of offset.

    The offset is the distance from a receiver to the nearest source of its shot, depth included. Padded receivers (see
    `Survey.receiver_mask`) do not count.

    Args:
        predicted, observed: data ``(shots, time, receivers, components)``.
        survey: the shots of these data.
        bins: their number, for bins of equal width from the smallest offset to the largest; or their edges in metres,
            ``(bins + 1,)``, rising. A bin includes its lower edge, the last bin both edges. Traces outside of all bins
            are left out.

    Returns:
        Edges in metres ``(bins + 1,)``; misfits ``(bins,)``, which are 0 where data agree, 1 for predicted data of
        zeros, and nan in a bin without traces or where observed data are zero; and numbers of traces ``(bins,)``, each
        component counted.

    Raises:
        ValueError: for data that are not of this kind, differ in shape, are not finite or do not fit the survey; for
            invalid bins.

    >>> import numpy as np, jaxfwi as jf
    >>> receiver = [[0.0, 30.0], [0.0, 50.0], [0.0, 130.0]]
    >>> survey = jf.Survey.from_arrays([[0.0, 0.0]], receiver, np.zeros(4))
    >>> observed = np.ones((1, 4, 3, 1))
    >>> edges, misfit, count = jf.diagnostics.misfit_by_offset(
    ...     0.5 * observed, observed, survey, [0.0, 100.0, 200.0, 300.0])
    >>> misfit.tolist(), count.tolist()
    ([0.25, 0.25, nan], [2, 1, 0])
    """
    shots, _, receivers, components = _check_data(predicted, observed)
    if survey.receiver.ndim != 3 or survey.receiver.shape[:2] != (shots, receivers):
        raise ValueError(
            f"survey must have the data's {shots} shots and {receivers} receivers, got receiver positions of shape "
            f"{survey.receiver.shape}."
        )
    source, receiver = (np.asarray(x, dtype=float) for x in (survey.source, survey.receiver))
    mask = survey.receiver_mask
    real = np.full((shots, receivers), True) if mask is None else np.asarray(mask)
    # Shot by shot: for encoded shots, all sources times all receivers of all shots would be many.
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


def _check_data(predicted: Any, observed: Any) -> tuple[int, ...]:
    """The shape of the data, checked. Their values are checked shot by shot, as they are read."""
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


def _traces_of_shot(predicted: Any, observed: Any, shot: int) -> tuple[np.ndarray, np.ndarray]:
    """Both data of one shot as the traces ``(receivers, components, time)`` of `jaxfwi._traces`."""
    predicted, observed = np.asarray(predicted), np.asarray(observed)
    _check_finite(predicted, observed, shot)
    # By numpy, which does not compile anything.
    return np.moveaxis(predicted, 0, -1), np.moveaxis(observed, 0, -1)
