"""SEG-Y files: recordings read as a survey and its data, data written to a file, and models as sections.

Needs segyio (``pip install jaxfwi[segy]``). SEG-Y has one source and one receiver for each trace, whose positions are
integers with a scalar. It has no wavelet: that is for you to give.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxfwi._checks import check_grid
from jaxfwi.grid.grid import Grid
from jaxfwi.io.files import existing, optional_package, written_whole
from jaxfwi.io.gathers import Gathers
from jaxfwi.io.headers import coordinates, grouped_by_shot, positions, scalar_of, time_axis
from jaxfwi.io.sections import read_model, write_model
from jaxfwi.io.segy_files import add_trace, created, feet_and_interval, opened, selected_headers, traces_of, whole_units
from jaxfwi.survey.survey import Survey

__all__ = ["Recording", "read", "read_model", "write", "write_model"]


@dataclass(frozen=True, eq=False)
class Recording:
    """The content of a SEG-Y file; `read` returns it and has an example.

    Args:
        survey: the shots.
        observed: their data ``(shots, time, receivers, 1)``, read when they are asked for; ``numpy.asarray`` reads all.
        dt: sampling interval in seconds.
        traces: for each shot the numbers of its traces in the file, counted from 0, in the order of its receivers.
    """

    survey: Survey
    observed: Gathers
    dt: float
    traces: list[np.ndarray] = field(repr=False)


def read(
    path: str | os.PathLike,
    wavelet: Any,
    *,
    origin: float | Sequence[float] = 0.0,
    ndim: int | None = None,
    by: str | None = None,
    source_z: Any = None,
    receiver_z: Any = None,
    dt: float | None = None,
    delay: float | None = None,
    fields: Mapping[str, int] | None = None,
    traces: Any = None,
    endian: str | None = None,
) -> Recording:
    """Read a survey and its data from a SEG-Y file, whose traces may lie in any order.

    Headers are read as in revision 1. x and y come from SourceX, SourceY, GroupX and GroupY, with their scalar. z is
    counted downwards from the datum of the elevations: SourceDepth - SourceSurfaceElevation for sources,
    -ReceiverGroupElevation for receivers, with their scalar. Feet become metres. Dead and auxiliary traces
    (TraceIdentificationCode 2 to 10) are left out.

    Shots are sorted by FieldRecord, or if that is the same for all traces, by the source's x, y, z; the receivers of a
    shot are sorted by their x, y, z. Where shots have different numbers of receivers, data are padded as in
    `jaxfwi.Survey`. Data keep the sampling of the file: resample them, or choose the grid's time step accordingly.

    Args:
        path: of the file.
        wavelet: of the sources: ``(time,)``, or ``(shots, time)``.
        origin: of the model in the file's coordinates, metres, ``(z, x)`` or ``(z, y, x)``, z downwards: a model that
            begins at an elevation of 800 m has z = -800. Positions are counted from there.
        ndim: 2 for a line along x, 3 for ``(z, y, x)``; by default 2 if all y are the same.
        by: traces of the same "record" (FieldRecord) or the same "source" (position) are a shot; by default as above.
        source_z, receiver_z: depths in the file's coordinates, metres, for files without depths: one number, or one for
            each trace that is read.
        dt: sampling interval in seconds, instead of that in the headers.
        delay: seconds from the shot to the first sample, instead of that in the headers. Samples before the shot are
            cut off; if the first sample is later, zeros are put before it.
        fields: for files that have a value elsewhere: the first byte of a field of the standard from which to read a
            header, as in ``{"GroupX": 181}``. Names are those above and the keys of `jaxfwi.io.headers.FIELDS`.
        traces: numbers of the traces to read, counted from 0, for instance those of one component; by default all.
        endian: "big" or "little"; by default it is recognised by the file's sample format.

    Returns:
        `Recording`, whose data stay in the file until they are asked for.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if segyio is not installed.
        ValueError: for headers that do not make a survey, naming header, value and remedy; for a file that is cut off
            or not SEG-Y.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=(100, 300), spacing=10.0, dt=2e-3, nt=500)
    >>> survey = jf.Survey.fixed_spread(
    ...     source_x=[100.0, 200.0], source_z=5.0,
    ...     receiver_x=np.arange(0, 300, 12.5), receiver_z=8.0,
    ...     wavelet=np.zeros(500))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.segy.write(f"{folder}/line.sgy", survey, np.ones((2, 500, 24, 1)), grid)
    ...     recording = jf.io.segy.read(f"{folder}/line.sgy", wavelet=np.zeros(500))
    ...     data = np.asarray(recording.observed)
    >>> recording.survey, recording.dt
    (Survey(2 shots: 1 source and 24 receivers each, 500 time samples), 0.002)
    >>> data.shape, recording.survey.source[:, 0].tolist()
    ((2, 500, 24, 1), [[5.0, 100.0], [5.0, 200.0]])
    """
    path = existing(path)
    with opened(path, endian) as file:
        headers, numbers = selected_headers(path, file, fields, traces)
        feet, interval = feet_and_interval(file)
        samples = len(file.samples)
    try:
        dt, later = time_axis(headers, interval, samples, dt, delay)
        source, receiver = positions(*coordinates(headers, feet, source_z, receiver_z), ndim, origin)
        shots = grouped_by_shot(headers, source, receiver, by)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    survey = Survey.from_lists([source[shot[0]] for shot in shots], [receiver[shot] for shot in shots], wavelet)
    shape = (len(shots), samples + later, max(map(len, shots)), 1)

    def gather(number: int) -> np.ndarray:
        out = np.zeros(shape[1:], np.float32)
        with opened(path, endian) as file:
            if len(file.samples) != samples or file.tracecount <= numbers[shots[number]].max():
                raise ValueError(f"{path} has changed since it was opened: open it anew.")
            found = traces_of(file, numbers[shots[number]])
        out[max(later, 0) :, : len(found), 0] = found[:, max(-later, 0) :].T
        return out

    return Recording(survey, Gathers(shape, np.float32, gather, str(path)), dt, [numbers[shot] for shot in shots])


def write(
    path: str | os.PathLike,
    survey: Survey,
    data: Iterable[Any],
    grid: Grid,
    *,
    origin: float | Sequence[float] = 0.0,
    endian: str = "big",
) -> None:
    """Write data to a SEG-Y file (revision 1, IEEE floats of single precision), completely or not at all.

    `read` gives back the survey and the data. Positions are rounded to a tenth of a millimetre, or where coordinates
    are too large for that, to a millimetre, a centimetre, and so on. FieldRecord counts shots from 1. Padded traces are
    left out.

    Args:
        path: of the file; one of that name is replaced.
        survey: the shots, each with one source; in two or three dimensions.
        data: ``(shots, time, receivers, 1)``, or anything that yields one shot ``(time, receivers, 1)`` after another.
        grid: gives the time step, which must be a whole number of microseconds up to 65535.
        origin: of the model, metres, ``(z, x)`` or ``(z, y, x)``, z downwards; added to all positions.
        endian: "big", as in the standard, or "little".

    Raises:
        ImportError: if segyio is not installed.
        ValueError: for values that SEG-Y cannot store, or data that do not fit the survey.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=(50, 100), spacing=10.0, dt=1e-3, nt=100)
    >>> receiver = [[8.0, 0.0], [8.0, 30.0]]
    >>> survey = jf.Survey.from_arrays([[5.0, 50.0]], receiver, np.zeros(100))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.segy.write(f"{folder}/shot.sgy", survey, np.ones((1, 100, 2, 1)), grid)
    """
    check_grid(grid)
    segyio = optional_package("segyio", "segy")
    interval = whole_units("grid.dt", grid.dt, 1e-6, "microseconds")
    if survey.source.ndim != 3 or survey.source.shape[1] != 1 or survey.source.shape[2] not in (2, 3):
        raise ValueError(
            "SEG-Y holds shots of one source each, in two or three dimensions, but the survey's source has shape "
            f"{survey.source.shape}."
        )
    if endian not in ("big", "little"):
        raise ValueError(f'endian must be "big" or "little", got {endian!r}.')
    ndim = survey.source.shape[2]
    first = np.asarray(origin, float)
    if first.ndim > 1 or (first.ndim == 1 and len(first) != ndim):
        raise ValueError(f"origin must be one number or {ndim} in metres, got {origin!r}.")
    first = np.broadcast_to(first, ndim)
    source, receiver = (np.asarray(x, float) + first for x in (survey.source[:, 0], survey.receiver))
    mask = survey.receiver_mask
    real = np.full(receiver.shape[:2], True) if mask is None else np.asarray(mask)
    horizontal = scalar_of(source[:, 1:], receiver[real][:, 1:])
    vertical = scalar_of(source[:, 0], receiver[real][:, 0], source[:, 0] - first[0], first[:1])

    def number(value: float, scalar: int) -> int:
        return round(value * abs(scalar))

    def header(shot: int, point: np.ndarray) -> dict[int, int]:
        """The fields of the positions of a trace's source and receiver, by their first byte."""
        at = source[shot]
        offset = point[-1] - at[-1] if ndim == 2 else np.hypot(*(point - at)[1:])
        return {
            37: round(offset),
            41: number(-point[0], vertical),
            45: number(-first[0], vertical),
            49: number(at[0] - first[0], vertical),
            69: vertical,
            71: horizontal,
            73: number(at[-1], horizontal),
            77: number(at[1], horizontal) if ndim == 3 else 0,
            81: number(point[-1], horizontal),
            85: number(point[1], horizontal) if ndim == 3 else 0,
            89: 1,  # lengths
        }

    shots = _checked_shots(data, real.shape)
    first_shot = next(shots)
    text = ["Shot gathers, written by jaxfwi", "z downwards: SourceDepth - SourceSurfaceElevation, -ReceiverGroup..."]
    with (
        written_whole(path) as temporary,
        created(temporary, int(real.sum()), len(first_shot), interval, endian, text) as file,
    ):
        file.bin.update({segyio.BinField.SortingCode: 5})  # common source
        trace = 0
        for shot in range(len(real)):
            gather = first_shot if shot == 0 else next(shots)
            if len(gather) != len(first_shot):
                raise ValueError(f"shot {shot} has {len(gather)} samples where the first has {len(first_shot)}.")
            for receiver_number, r in enumerate(np.flatnonzero(real[shot])):
                numbers = {9: shot + 1, 13: receiver_number + 1, 17: shot + 1, 29: 1}
                add_trace(file, trace, gather[:, r, 0], interval, {**numbers, **header(shot, receiver[shot, r])})
                trace += 1
        if next(shots, None) is not None:
            raise ValueError(f"data have more shots than the {len(real)} of the survey.")


def _checked_shots(data: Any, expected: tuple[int, int]) -> Iterator[np.ndarray]:
    """The shots ``(time, receivers, 1)`` of data, checked to fit the survey's numbers of shots and receivers."""
    shots, receivers = expected
    count = 0
    for shot, given in enumerate(np.asarray(data) if isinstance(data, jax.Array) else data):
        gather = np.asarray(given)
        if gather.ndim != 3 or gather.shape[1:] != (receivers, 1):
            remedy = (
                ": write one component at a time, data[..., :1]" if gather.ndim == 3 and gather.shape[2] > 1 else ""
            )
            raise ValueError(f"shot {shot} must be (time, {receivers}, 1), got shape {gather.shape}{remedy}.")
        count += 1
        yield gather
    if count != shots:
        raise ValueError(f"data have {count} shots, the survey {shots}.")
