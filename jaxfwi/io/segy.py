"""SEG-Y: recordings to a survey and its data, data to a file, and models as sections.

Needs segyio (``pip install jaxfwi[segy]``). SEG-Y knows of one source and one receiver for each trace, places them by
integers and a scalar, and keeps no wavelet: that is yours to give.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxfwi._checks import positive_number
from jaxfwi.io.files import existing, needed, written
from jaxfwi.io.gathers import Gathers
from jaxfwi.io.headers import FIELDS, coordinates, grouped, positions, scalar_of, scaled, time_axis
from jaxfwi.io.models import checked
from jaxfwi.survey.survey import Survey

__all__ = ["Recording", "read", "read_model", "write", "write_model"]

_FORMATS = (1, 2, 3, 5, 6, 8, 10, 11, 12, 16)  # sample formats that segyio reads
_OTHER = range(2, 11)  # TraceIdentificationCode: dead, dummy, time break, uphole, sweep, timing, water break, gun


@dataclass(frozen=True, eq=False)
class Recording:
    """What a SEG-Y file holds.

    Args:
        survey: the shots.
        observed: their data ``(shots, time, receivers, 1)``, read when they are asked for; ``numpy.asarray`` reads all.
        dt: sampling interval in seconds.
        traces: for each shot the file's traces, counted from 0, in the order of its receivers.
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

    Headers are read as in revision 1: x and y from SourceX, SourceY, GroupX and GroupY with their scalar; z downwards
    from the elevations' datum, SourceDepth - SourceSurfaceElevation for sources, -ReceiverGroupElevation for receivers,
    with theirs. Feet become metres. Dead and auxiliary traces (TraceIdentificationCode 2 to 10) are left out.

    Shots come in the order of their FieldRecord, or if all traces have the same, in that of the source's x, y, z; in a
    shot receivers come in the order of their x, y, z. Where shots have different numbers of receivers, data are padded
    as `jaxfwi.Survey` has it. Data are as the file samples them: resample them, or choose the grid's time step so.

    Args:
        path: of the file.
        wavelet: what the sources emit: ``(time,)``, or ``(shots, time)``.
        origin: of the model in the file's coordinates, metres, ``(z, x)`` or ``(z, y, x)``, z downwards: a model that
            begins at an elevation of 800 m has z = -800. Positions are counted from there.
        ndim: 2 for a line along x, 3 for ``(z, y, x)``; by default 2 if all y are the same.
        by: what tells shots apart, "record" (FieldRecord) or "source" (position); by default as above.
        source_z, receiver_z: depths in the file's coordinates, metres, for files that do not have them: one number, or
            one for each trace that is read.
        dt: sampling interval in seconds, in the stead of the headers'.
        delay: seconds from the shot to the first sample, in the stead of the headers'. Samples before the shot are cut
            off; if the first one is later, zeros are put before it.
        fields: for files that keep something elsewhere: first byte of a field of the standard from which to read a
            header, as ``{"GroupX": 181}``. Names: those above and the keys of `jaxfwi.io.headers.FIELDS`.
        traces: numbers of the traces to read, counted from 0, as those of one component; by default all.
        endian: "big" or "little"; by default what the file's sample format says.

    Returns:
        `Recording`, whose data stay in the file until they are asked for.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if segyio is not installed.
        ValueError: naming header, value and way out, for headers that make no survey; for a file that is cut off or no
            SEG-Y.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> survey = jf.Survey.fixed_spread(
    ...     source_x=[100.0, 200.0], source_z=5.0, receiver_x=np.arange(0, 300, 12.5), receiver_z=8.0,
    ...     wavelet=np.zeros(500))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.segy.write(f"{folder}/line.sgy", survey, np.ones((2, 500, 24, 1)), dt=2e-3)
    ...     recording = jf.io.segy.read(f"{folder}/line.sgy", wavelet=np.zeros(500))
    ...     data = np.asarray(recording.observed)
    >>> recording.survey, recording.dt
    (Survey(2 shots: 1 source and 24 receivers each, 500 time samples), 0.002)
    >>> data.shape, recording.survey.source[:, 0].tolist()
    ((2, 500, 24, 1), [[5.0, 100.0], [5.0, 200.0]])
    """
    path = existing(path)
    with _opened(path, endian) as file:
        headers, which = _headers(path, file, fields, traces)
        interval, samples = int(file.bin[3217]) % 2**16, len(file.samples)
        feet = int(file.bin[3255]) == 2
    try:
        dt, later = time_axis(headers, interval, samples, dt, delay)
        source, receiver = positions(*coordinates(headers, feet, source_z, receiver_z), ndim, origin)
        shots = grouped(headers, source, receiver, by)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    survey = Survey.from_lists([source[shot[0]] for shot in shots], [receiver[shot] for shot in shots], wavelet)
    shape = (len(shots), samples + later, max(map(len, shots)), 1)

    def gather(number: int) -> np.ndarray:
        out = np.zeros(shape[1:], np.float32)
        with _opened(path, endian) as file:
            if len(file.samples) != samples or file.tracecount <= which[shots[number]].max():
                raise ValueError(f"{path} has changed since it was opened: open it anew.")
            found = _traces(file, which[shots[number]])
        out[max(later, 0) :, : len(found), 0] = found[:, max(-later, 0) :].T
        return out

    return Recording(survey, Gathers(shape, np.float32, gather, str(path)), dt, [which[shot] for shot in shots])


def write(
    path: str | os.PathLike,
    survey: Survey,
    data: Iterable[Any],
    dt: float,
    *,
    origin: float | Sequence[float] = 0.0,
    endian: str = "big",
) -> None:
    """Write data to a SEG-Y file (revision 1, IEEE floats of single precision), which is whole or not there.

    `read` gives back the survey and the data. Positions are rounded to a tenth of a millimetre, or where coordinates
    are too large for that, to a millimetre, a centimetre, and so on. FieldRecord counts shots from 1. Padded traces are
    left out.

    Args:
        path: of the file; one of that name is replaced.
        survey: the shots, each with one source; in two or three dimensions.
        data: ``(shots, time, receivers, 1)``, or anything that gives one shot ``(time, receivers, 1)`` after the other.
        dt: their sampling interval in seconds, a whole number of microseconds up to 65535.
        origin: of the model, metres, ``(z, x)`` or ``(z, y, x)``, z downwards; added to all positions.
        endian: "big", as the standard has it, or "little".

    Raises:
        ImportError: if segyio is not installed.
        ValueError: for what SEG-Y cannot hold, or data that do not fit the survey.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> survey = jf.Survey.from_arrays([[5.0, 50.0]], [[8.0, 0.0], [8.0, 30.0]], np.zeros(100))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.segy.write(f"{folder}/shot.sgy", survey, np.ones((1, 100, 2, 1)), dt=1e-3)
    """
    segyio = needed("segyio", "segy")
    interval = _whole("dt", dt, 1e-6, "microseconds")
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

    def header(shot: int, place: np.ndarray) -> dict[int, int]:
        """Fields that say where a trace's source and receiver are, by their first byte."""
        at = source[shot]
        offset = place[-1] - at[-1] if ndim == 2 else np.hypot(*(place - at)[1:])
        return {
            37: round(offset),
            41: number(-place[0], vertical),
            45: number(-first[0], vertical),
            49: number(at[0] - first[0], vertical),
            69: vertical,
            71: horizontal,
            73: number(at[-1], horizontal),
            77: number(at[1], horizontal) if ndim == 3 else 0,
            81: number(place[-1], horizontal),
            85: number(place[1], horizontal) if ndim == 3 else 0,
            89: 1,  # lengths
        }

    shots = _shots(data, real.shape)
    like = next(shots)
    text = ["Shot gathers, written by jaxfwi", "z downwards: SourceDepth - SourceSurfaceElevation, -ReceiverGroup..."]
    with written(path) as place, _created(place, int(real.sum()), len(like), interval, endian, text) as file:
        file.bin.update({segyio.BinField.SortingCode: 5})  # common source
        trace = 0
        for shot in range(len(real)):
            gather = like if shot == 0 else next(shots)
            if len(gather) != len(like):
                raise ValueError(f"shot {shot} has {len(gather)} samples where the first has {len(like)}.")
            for receiver_number, r in enumerate(np.flatnonzero(real[shot])):
                numbers = {9: shot + 1, 13: receiver_number + 1, 17: shot + 1, 29: 1}
                _add(file, trace, gather[:, r, 0], interval, {**numbers, **header(shot, receiver[shot, r])})
                trace += 1
        if next(shots, None) is not None:
            raise ValueError(f"data have more shots than the {len(real)} of the survey.")


def read_model(path: str | os.PathLike, *, endian: str | None = None) -> tuple[np.ndarray, tuple[Any, Any]]:
    """Read a section, as a 2D model is kept: one trace a column, in the order of the file.

    Args:
        path: of the file.
        endian: "big" or "little"; by default what the file's sample format says.

    Returns:
        The values ``(nz, nx)`` in single precision, and the spacing ``(dz, dx)`` in metres: dz the sampling interval
        taken as millimetres, as sections in depth have it, dx from equal steps in CDP_X or else GroupX; None for what
        the headers do not tell. Of recordings the sampling interval is a time.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if segyio is not installed.
        ValueError: for a file that is cut off, no SEG-Y, or has values that are not finite.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.segy.write_model(f"{folder}/vp.sgy", np.full((40, 60), 2000.0), spacing=(5.0, 12.5))
    ...     vp, spacing = jf.io.segy.read_model(f"{folder}/vp.sgy")
    >>> vp.shape, spacing
    ((40, 60), (5.0, 12.5))
    """
    path = existing(path)
    with _opened(path, endian) as file:
        interval, feet = int(file.bin[3217]) % 2**16, int(file.bin[3255]) == 2
        interval = interval or int(file.attributes(117)[0][0]) % 2**16
        model = np.ascontiguousarray(_traces(file, np.arange(file.tracecount)).T)
        scalar = np.asarray(file.attributes(71)[:])
        lines = [scaled(np.asarray(file.attributes(byte)[:]), scalar) for byte in (181, 81)]
    unit = 0.3048 if feet else 1.0
    steps = [np.diff(x) for x in lines]
    # coordinates are integers: steps of 12.5 m may stand there as 12 and 13
    dx = [x[-1] - x[0] for x, d in zip(lines, steps, strict=True) if len(d) and d.min() > 0 and np.ptp(d) <= 1.0]
    dz = None if interval == 0 else unit * interval / 1e3
    return checked(str(path), model), (dz, unit * float(dx[0]) / (model.shape[1] - 1) if dx else None)


def write_model(path: str | os.PathLike, model: Any, spacing: float | Sequence[float], *, endian: str = "big") -> None:
    """Write a 2D model as a section, one trace a column, in IEEE floats of single precision. The file is whole or not
    there.

    Args:
        path: of the file; one of that name is replaced.
        model: ``(nz, nx)``.
        spacing: metres between nodes, one number or ``(dz, dx)``; dz a whole number of millimetres up to 65535.
        endian: "big", as the standard has it, or "little".

    Raises:
        ImportError: if segyio is not installed.
        ValueError: for what SEG-Y cannot hold, or values that are not finite.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.segy.write_model(f"{folder}/vp.sgy", np.full((40, 60), 2000.0), spacing=10.0)
    """
    model = checked("model", np.asarray(model))
    if model.ndim != 2:
        raise ValueError(f"model must be (nz, nx), got shape {model.shape}: SEG-Y sections have two dimensions.")
    dz, dx = (positive_number("spacing", h, "number of metres") for h in np.broadcast_to(np.asarray(spacing, float), 2))
    interval = _whole("spacing in depth", dz, 1e-3, "millimetres")
    x = dx * np.arange(model.shape[1])
    scalar = scalar_of(x)
    text = ["Section in depth, written by jaxfwi", "Sampling interval in millimetres"]
    with written(path) as place, _created(place, len(x), len(model), interval, endian, text) as file:
        for column, at in enumerate(x):
            where = round(at * abs(scalar))
            _add(file, column, model[:, column], interval, {21: column + 1, 29: 1, 71: scalar, 181: where, 89: 1})


@contextmanager
def _opened(path: Path, endian: str | None) -> Iterator[Any]:
    """An open file; opened anew each time it is needed, so that threads and processes may share its name."""
    segyio = needed("segyio", "segy")
    endian = _endian(path, endian)
    try:
        file = segyio.open(str(path), ignore_geometry=True, endian=endian)
    except FileNotFoundError:
        raise
    except (RuntimeError, OSError, IndexError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as SEG-Y: {error}. It is cut off, has traces of different length, or the number of "
            "Samples in its binary header is wrong."
        ) from error
    with file:
        yield file


def _endian(path: Path, given: str | None) -> str:
    if given is not None:
        if given not in ("big", "little"):
            raise ValueError(f'endian must be "big", "little" or None, got {given!r}.')
        return given
    with open(path, "rb") as file:
        head = file.read(3600)
    if len(head) < 3600:
        raise ValueError(f"{path} has {len(head)} bytes, but the headers of a SEG-Y file have 3600: it is cut off.")
    formats = {str(e): int.from_bytes(head[3224:3226], e) for e in ("big", "little")}
    for endian, code in formats.items():
        if code in _FORMATS:
            return endian
    raise ValueError(
        f"{path} has the sample format (Format) {formats['big']}, or {formats['little']} if it is little-endian: "
        f"known are {', '.join(map(str, _FORMATS))}. It is no SEG-Y file, or must be converted."
    )


def _headers(
    path: Path, file: Any, fields: Mapping[str, int] | None, traces: Any
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Headers of the traces that are to be read, and their numbers."""
    places = dict(FIELDS)
    for name, byte in (fields or {}).items():
        if name not in FIELDS:
            raise ValueError(f"fields has {name!r}, which is none of {', '.join(FIELDS)}.")
        places[name] = byte
    headers = {}
    for name, byte in places.items():
        try:
            headers[name] = np.asarray(file.attributes(byte)[:])
        except (RuntimeError, IndexError, KeyError, TypeError, ValueError):
            raise ValueError(
                f"fields has {name} at byte {byte!r}, where no field of the standard's trace header begins."
            ) from None
    if traces is None:
        code = headers["TraceIdentificationCode"]
        which = np.flatnonzero(~np.isin(code, _OTHER))
        if not len(which):
            raise ValueError(
                f"{path}: TraceIdentificationCode is {code[0]} in the first trace and marks all as dead or auxiliary: "
                "pass the traces to read as traces=."
            )
    else:
        which = np.arange(file.tracecount)[np.asarray(traces)]
        if which.ndim != 1 or not len(which) or len(np.unique(which)) < len(which):
            raise ValueError(f"traces must be different numbers of traces, got {traces!r}.")
    return {name: header[which] for name, header in headers.items()}, which


def _traces(file: Any, which: np.ndarray) -> np.ndarray:
    """Traces ``(traces, samples)`` of a file in single precision, read in the order in which they lie there."""
    out = np.empty((len(which), len(file.samples)), np.float32)
    order = np.argsort(which)
    first, last = int(which[order[0]]), int(which[order[-1]])
    if last - first + 1 == len(which):
        out[order] = file.trace.raw[first : last + 1]
    else:
        for place in order:
            out[place] = file.trace[int(which[place])]
    return out


@contextmanager
def _created(path: Path, traces: int, samples: int, interval: int, endian: str, text: list[str]) -> Iterator[Any]:
    """A new file to which traces are to be added."""
    segyio = needed("segyio", "segy")
    if endian not in ("big", "little"):
        raise ValueError(f'endian must be "big" or "little", got {endian!r}.')
    if samples >= 2**15:
        raise ValueError(f"traces have {samples} samples, SEG-Y can hold {2**15 - 1}: resample or cut them.")
    spec = segyio.spec()
    spec.samples, spec.tracecount, spec.format, spec.endian = np.arange(samples), traces, 5, endian
    with segyio.create(str(path), spec) as file:
        file.text[0] = segyio.tools.create_text_header({i + 1: line for i, line in enumerate(text)})
        # traces of an ensemble fit no 16 bits, and need not be told; revision 1, metres, traces of one length
        file.bin.update({3213: 0, 3217: _signed(interval), 3219: _signed(interval), 3255: 1, 3501: 1, 3503: 1})
        yield file


def _add(file: Any, trace: int, samples: np.ndarray, interval: int, header: dict[int, int]) -> None:
    shared = {1: trace + 1, 5: trace + 1, 115: len(samples), 117: _signed(interval)}
    file.header[trace] = {**shared, **header}
    file.trace[trace] = np.ascontiguousarray(samples, np.float32)


def _shots(data: Any, expected: tuple[int, int]) -> Iterator[np.ndarray]:
    """Shots ``(time, receivers, 1)`` of data, checked; as many as the survey has."""
    shots, receivers = expected
    count = 0
    for shot, given in enumerate(np.asarray(data) if isinstance(data, jax.Array) else data):
        gather = np.asarray(given)
        if gather.ndim != 3 or gather.shape[1:] != (receivers, 1):
            way = ": write one component at a time, data[..., :1]" if gather.ndim == 3 and gather.shape[2] > 1 else ""
            raise ValueError(f"shot {shot} must be (time, {receivers}, 1), got shape {gather.shape}{way}.")
        count += 1
        yield gather
    if count != shots:
        raise ValueError(f"data have {count} shots, the survey {shots}.")


def _whole(name: str, value: float, unit: float, units: str) -> int:
    """A number in units that must be whole and fit 16 bits."""
    count = positive_number(name, value) / unit
    if not (abs(count - round(count)) < 1e-6 * count and 1 <= round(count) < 2**16):
        raise ValueError(f"{name} must be a whole number of {units} up to {2**16 - 1} for SEG-Y, got {value!r}.")
    return round(count)


def _signed(value: int) -> int:
    """The 16 bits of a number, as a signed one."""
    return value - 2**16 if value >= 2**15 else value
