"""SEG-Y files by segyio: opening, creating, headers and traces."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxfwi._checks import positive_number
from jaxfwi.io.files import optional_package
from jaxfwi.io.headers import FIELDS

__all__ = ["add_trace", "created", "feet_and_interval", "opened", "selected_headers", "traces_of", "whole_units"]

_FORMATS = (1, 2, 3, 5, 6, 8, 10, 11, 12, 16)  # sample formats that segyio reads
_AUXILIARY = range(2, 11)  # TraceIdentificationCode: dead, dummy, time break, uphole, sweep, timing, water break, gun


@contextmanager
def opened(path: Path, endian: str | None) -> Iterator[Any]:
    """An open file. It is opened anew each time it is needed, so that threads and processes may share its name."""
    segyio = optional_package("segyio", "segy")
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
    """The order of bytes as given, or as recognised by the sample format."""
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


def feet_and_interval(file: Any) -> tuple[bool, int]:
    """Whether lengths are in feet, and the sampling interval, of the binary header."""
    return int(file.bin[3255]) == 2, int(file.bin[3217]) % 2**16


def selected_headers(
    path: Path, file: Any, fields: Mapping[str, int] | None, traces: Any
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The headers of the traces to be read, and the numbers of these traces. Arguments as for `jaxfwi.io.segy.read`."""
    bytes_of = dict(FIELDS)
    for name, byte in (fields or {}).items():
        if name not in FIELDS:
            raise ValueError(f"fields has {name!r}, which is none of {', '.join(FIELDS)}.")
        bytes_of[name] = byte
    headers = {}
    for name, byte in bytes_of.items():
        try:
            headers[name] = np.asarray(file.attributes(byte)[:])
        except (RuntimeError, IndexError, KeyError, TypeError, ValueError):
            raise ValueError(
                f"fields has {name} at byte {byte!r}, where no field of the standard's trace header begins."
            ) from None
    if traces is None:
        code = headers["TraceIdentificationCode"]
        numbers = np.flatnonzero(~np.isin(code, _AUXILIARY))
        if not len(numbers):
            raise ValueError(
                f"{path}: TraceIdentificationCode is {code[0]} in the first trace and marks all as dead or auxiliary: "
                "pass the traces to read as traces=."
            )
    else:
        numbers = np.arange(file.tracecount)[np.asarray(traces)]
        if numbers.ndim != 1 or not len(numbers) or len(np.unique(numbers)) < len(numbers):
            raise ValueError(f"traces must be different numbers of traces, got {traces!r}.")
    return {name: header[numbers] for name, header in headers.items()}, numbers


def traces_of(file: Any, numbers: np.ndarray) -> np.ndarray:
    """The traces of these numbers, ``(traces, samples)`` in single precision, read in the order of the file."""
    out = np.empty((len(numbers), len(file.samples)), np.float32)
    order = np.argsort(numbers)
    first, last = int(numbers[order[0]]), int(numbers[order[-1]])
    if last - first + 1 == len(numbers):
        out[order] = file.trace.raw[first : last + 1]
    else:
        for i in order:
            out[i] = file.trace[int(numbers[i])]
    return out


@contextmanager
def created(path: Path, traces: int, samples: int, interval: int, endian: str, text: list[str]) -> Iterator[Any]:
    """A new file, to which traces can be added."""
    segyio = optional_package("segyio", "segy")
    if endian not in ("big", "little"):
        raise ValueError(f'endian must be "big" or "little", got {endian!r}.')
    if samples >= 2**15:
        raise ValueError(f"traces have {samples} samples, SEG-Y can hold {2**15 - 1}: resample or cut them.")
    spec = segyio.spec()
    spec.samples, spec.tracecount, spec.format, spec.endian = np.arange(samples), traces, 5, endian
    with segyio.create(str(path), spec) as file:
        file.text[0] = segyio.tools.create_text_header({i + 1: line for i, line in enumerate(text)})
        # 3213: the number of traces in an ensemble does not fit 16 bits and may be left out. 3255: metres. 3501:
        # revision 1. 3503: all traces have one length.
        file.bin.update({3213: 0, 3217: _signed(interval), 3219: _signed(interval), 3255: 1, 3501: 1, 3503: 1})
        yield file


def add_trace(file: Any, trace: int, samples: np.ndarray, interval: int, header: dict[int, int]) -> None:
    shared = {1: trace + 1, 5: trace + 1, 115: len(samples), 117: _signed(interval)}
    file.header[trace] = {**shared, **header}
    file.trace[trace] = np.ascontiguousarray(samples, np.float32)


def whole_units(name: str, value: float, unit: float, units: str) -> int:
    """A value as a number of units, which must be whole and fit 16 bits."""
    count = positive_number(name, value) / unit
    if not (abs(count - round(count)) < 1e-6 * count and 1 <= round(count) < 2**16):
        raise ValueError(f"{name} must be a whole number of {units} up to {2**16 - 1} for SEG-Y, got {value!r}.")
    return round(count)


def _signed(value: int) -> int:
    """The 16 bits of a number, as a signed one."""
    return value - 2**16 if value >= 2**15 else value
