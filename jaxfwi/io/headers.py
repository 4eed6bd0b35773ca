"""From the trace headers of seismic files to a survey: numbers in, shots and positions out.

Names and meanings are those of SEG-Y revision 1 (Society of Exploration Geophysicists 2002, Technical Standards
Committee), as segyio spells them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxfwi._checks import in_metres

__all__ = ["FIELDS", "coordinates", "grouped_by_shot", "positions", "scalar_of", "scaled", "time_axis"]

FIELDS = {
    "FieldRecord": 9,
    "TraceIdentificationCode": 29,
    "ReceiverGroupElevation": 41,
    "SourceSurfaceElevation": 45,
    "SourceDepth": 49,
    "ElevationScalar": 69,
    "SourceGroupScalar": 71,
    "SourceX": 73,
    "SourceY": 77,
    "GroupX": 81,
    "GroupY": 85,
    "CoordinateUnits": 89,
    "DelayRecordingTime": 109,
    "TRACE_SAMPLE_COUNT": 115,
    "TRACE_SAMPLE_INTERVAL": 117,
    "ScalarTraceHeader": 215,
}

_UNITS = {2: "seconds of arc", 3: "decimal degrees", 4: "degrees, minutes and seconds"}
_SCALES = (1, -10, -100, -1000, -10000)  # of written coordinates; a negative one divides


def scaled(value: np.ndarray, scalar: np.ndarray) -> np.ndarray:
    """Header values times their scalar if it is positive, divided by it if it is negative, as they are if it is 0."""
    factor = np.where(scalar == 0, 1, np.abs(scalar)).astype(float)
    return np.where(scalar < 0, value / factor, value * factor)


def scalar_of(*coordinates: np.ndarray) -> int:
    """A scalar for writing coordinates in metres as 32-bit integers: the first that is accurate to a tenth of a
    millimetre for all of them, or else the finest for which they are small enough.

    >>> scalar_of(np.array([10.0, 12.5])), scalar_of(np.array([5e6 + 1 / 3]))
    (-10, -100)
    """
    values = np.concatenate([np.ravel(c) for c in coordinates]).astype(float)
    possible = [s for s in _SCALES if np.abs(values).max() * abs(s) < 2**31 - 1]
    if not possible:
        raise ValueError(f"a coordinate of {np.abs(values).max():g} m is more than SEG-Y holds: give another origin.")
    for scalar in possible:
        if (np.abs(np.round(values * abs(scalar)) / abs(scalar) - values) <= 1e-4).all():
            return scalar
    return possible[-1]


def coordinates(
    headers: Mapping[str, np.ndarray], feet: bool, source_z: Any = None, receiver_z: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the source and of the receiver of each trace, ``(traces, 3)`` each: ``(z, y, x)`` in metres, z
    downwards.

    Raises:
        ValueError: for headers whose unit is not a length, or that are all 0.
    """
    for unit in np.unique(headers["CoordinateUnits"]):
        if unit in _UNITS:
            raise ValueError(
                f"CoordinateUnits is {unit}, which means {_UNITS[unit]}: project the coordinates to metres and set it "
                "to 1."
            )
    if not any(headers[name].any() for name in ("SourceX", "SourceY", "GroupX", "GroupY")):
        raise ValueError(
            "SourceX, SourceY, GroupX and GroupY are 0 in all traces: the file holds no positions where the standard "
            'has them. Say where it has them, as in fields={"GroupX": 181, ...}, or read the traces alone by '
            "jaxfwi.io.segy.read_model and make a Survey yourself."
        )
    horizontal = {
        name: scaled(headers[name], headers["SourceGroupScalar"]) for name in ("SourceX", "SourceY", "GroupX", "GroupY")
    }
    heights = {
        name: scaled(headers[name], headers["ElevationScalar"])
        for name in ("SourceDepth", "SourceSurfaceElevation", "ReceiverGroupElevation")
    }
    unit = 0.3048 if feet else 1.0
    depths = {
        "source": heights["SourceDepth"] - heights["SourceSurfaceElevation"],
        "receiver": 0.0 - heights["ReceiverGroupElevation"],
    }
    out = []
    for kind, name, given in (("source", "Source", source_z), ("receiver", "Group", receiver_z)):
        z = unit * depths[kind] if given is None else np.broadcast_to(np.asarray(given, float), depths[kind].shape)
        out.append(np.stack([z, unit * horizontal[f"{name}Y"], unit * horizontal[f"{name}X"]], axis=-1))
    return out[0], out[1]


def positions(source: np.ndarray, receiver: np.ndarray, ndim: int | None, origin: Any) -> tuple[np.ndarray, np.ndarray]:
    """Positions ``(traces, ndim)`` relative to the model's first node.

    Args:
        source, receiver: ``(traces, 3)``.
        ndim: 2 or 3; by default 2 where all have the same y.
        origin: of the model, 0.0 or ndim numbers.

    Raises:
        ValueError: for a line that is not along x, or positions before the model's first node.
    """
    y = np.concatenate([source[:, 1], receiver[:, 1]])
    flat = np.ptp(y) == 0
    ndim = (2 if flat else 3) if ndim is None else ndim
    if ndim not in (2, 3):
        raise ValueError(f"ndim must be 2 or 3, got {ndim!r}.")
    if ndim == 2 and not flat:
        raise ValueError(
            f"SourceY and GroupY go from {y.min():g} to {y.max():g} m, but in 2D a line lies along x: turn it, or pass "
            "ndim=3."
        )
    first = np.asarray(origin, float)
    if first.ndim > 1 or (first.ndim == 1 and len(first) != ndim):
        coordinates = "(z, x)" if ndim == 2 else "(z, y, x)"
        raise ValueError(f"origin must be one number or {coordinates} in metres, got {origin!r}.")
    axes = [0, 2] if ndim == 2 else [0, 1, 2]
    out = source[:, axes] - first, receiver[:, axes] - first
    headers = {
        "z": ("SourceDepth - SourceSurfaceElevation", "-ReceiverGroupElevation"),
        "y": ("SourceY", "GroupY"),
        "x": ("SourceX", "GroupX"),
    }
    for kind, points, number in (("source", out[0], 0), ("receiver", out[1], 1)):
        for axis, name in enumerate("zyx" if ndim == 3 else "zx"):
            if points[:, axis].min() < -1e-6:
                remedy = f", or {kind}_z if the depth is known" if name == "z" else ""
                least = np.concatenate([out[0][:, axis], out[1][:, axis]]).min() + np.broadcast_to(first, ndim)[axis]
                raise ValueError(
                    f"{headers[name][number]} puts a {kind} at {name} = {points[:, axis].min():g} m, before the "
                    f"model's first node: give an origin whose {name} is {least:g} or less{remedy}."
                )
    return out


def grouped_by_shot(
    headers: Mapping[str, np.ndarray], source: np.ndarray, receiver: np.ndarray, by: str | None
) -> list[np.ndarray]:
    """The indices of the traces of each shot. Shots are sorted by record or by source, the traces of a shot by the
    receiver's x, then y, then z; the order in the file does not matter.

    Args:
        headers: of the traces.
        source, receiver: positions of each trace, axes from z to x.
        by: "record" or "source"; None for the record, unless all traces have the same record.

    Raises:
        ValueError: for a record with several sources, or a shot with two traces at the same position.
    """
    record = headers["FieldRecord"]
    _, source_number = np.unique(source[:, ::-1], axis=0, return_inverse=True)
    source_number = source_number.reshape(-1)
    if by is None:
        by = "source" if len(record) and (record == record[0]).all() else "record"
    if by not in ("record", "source"):
        raise ValueError(f'by must be "record", "source" or None, got {by!r}.')
    key = record if by == "record" else source_number
    order = np.lexsort((*receiver.T, key))
    cuts = np.flatnonzero(np.diff(key[order])) + 1
    shots = np.split(order, cuts)
    for traces in shots if by == "record" else []:
        different = source_number[traces] != source_number[traces[0]]
        if different.any():
            other = traces[np.argmax(different)]
            raise ValueError(
                f"FieldRecord {record[traces[0]]} has several sources, as at {in_metres(source[traces[0]])} in trace "
                f'{traces[0]} and {in_metres(source[other])} in trace {other}: pass by="source" to tell shots apart by '
                "where the source is."
            )
    if by == "record" and len(shots) > 1 and not any(headers[name].any() for name in ("SourceX", "SourceY")):
        raise ValueError(
            f"SourceX and SourceY are 0 in all traces of {len(shots)} field records: say where the file has the "
            'sources, as fields={"SourceX": 181}, or pass by="source" if all shots are at one place.'
        )
    for traces in shots:
        same = np.flatnonzero((np.diff(receiver[traces], axis=0) == 0).all(axis=1))
        if len(same):
            a, b = np.sort(traces[same[0] : same[0] + 2])
            raise ValueError(
                f"traces {a} and {b} of FieldRecord {record[a]} both have their receiver at {in_metres(receiver[a])} "
                "(GroupX, GroupY, ReceiverGroupElevation): choose the traces of one component or one shot by traces=, "
                'or pass by="record" where shots share a place.'
            )
    return shots


def time_axis(
    headers: Mapping[str, np.ndarray], interval: int, samples: int, dt: float | None, delay: float | None
) -> tuple[float, int]:
    """The sampling interval in seconds, and how many samples after the shot the traces begin.

    Args:
        headers: of the traces.
        interval: of the file, in microseconds.
        samples: in a trace of the file.
        dt, delay: in seconds, instead of those in the headers.

    Raises:
        ValueError: for traces of different length, interval or delay, or an interval of 0.
    """
    counts = headers["TRACE_SAMPLE_COUNT"] % 2**16  # in some files the 16th bit is set, which is not a sign
    for trace in np.flatnonzero((counts != 0) & (counts != samples % 2**16))[:1]:
        raise ValueError(
            f"TRACE_SAMPLE_COUNT of trace {trace} is {counts[trace]} where the file has traces of {samples} samples: "
            "cut or fill the traces to one length."
        )
    if dt is None:
        intervals = headers["TRACE_SAMPLE_INTERVAL"] % 2**16
        given = intervals[intervals != 0]
        first = interval or int(given[0] if len(given) else 0)
        for trace in np.flatnonzero((intervals != 0) & (intervals != first))[:1]:
            raise ValueError(
                f"TRACE_SAMPLE_INTERVAL of trace {trace} is {intervals[trace]} microseconds, elsewhere in the file it "
                f"is {first}: pass dt= in seconds if you know it to be the same."
            )
        if first == 0:
            raise ValueError("the sampling interval is 0 in all headers: pass dt= in seconds.")
        dt = first / 1e6
    if not 0.0 < dt < np.inf:
        raise ValueError(f"dt must be a positive number of seconds, got {dt!r}.")
    if delay is None:
        delays = scaled(headers["DelayRecordingTime"], headers["ScalarTraceHeader"]) * 1e-3
        if np.ptp(delays) > 0:
            raise ValueError(
                f"DelayRecordingTime goes from {1e3 * delays.min():g} to {1e3 * delays.max():g} ms: shift the traces "
                "to one start, or pass delay= in seconds if the header is wrong."
            )
        delay = float(delays[0])
    later = delay / dt
    if not abs(later - round(later)) < 1e-3:
        raise ValueError(
            f"the delay of {1e3 * delay:g} ms (DelayRecordingTime) must be a whole number of samples of {1e3 * dt:g} "
            "ms: resample the traces, or pass another delay= in seconds."
        )
    if -round(later) >= samples:
        raise ValueError(
            f"the delay of {1e3 * delay:g} ms (DelayRecordingTime) leaves none of {samples} samples: pass another."
        )
    return dt, round(later)
