"""Pickles of lists of numbers, read without running anything that is in them.

A pickle is a program: it names functions that are called when it is loaded. Here a stand-in takes the place of each
function and only records its arguments. Only the few names are accepted that lists, numbers and numpy's arrays need,
and not even numpy's own functions are called. The recorded arguments become arrays afterwards, if they are numbers. A
harmful pickle can still ask for more memory than there is.
"""

import io
import math
import os
import pickle
from typing import Any

import numpy as np

from jaxfwi.io.files import existing

__all__ = ["load", "loads"]

_KINDS = "iuf"  # of numpy's types: integers and floats


def load(path: str | os.PathLike) -> Any:
    """Load a pickle of lists, tuples, integers, floats, and numpy's scalars and arrays of them.

    Args:
        path: of the file.

    Returns:
        Lists, tuples, numbers and arrays; arrays of objects, such as arrays of different length, become lists.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a pickle of anything else, which is named and not run; or if it is cut off or not a pickle.

    >>> import pickle, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open(f"{folder}/sources.pkl", "wb") as file:
    ...         pickle.dump([[10, 2], [20, 2]], file)
    ...     load(f"{folder}/sources.pkl")
    [[10, 2], [20, 2]]
    """
    return loads(existing(path).read_bytes(), str(path))


def loads(content: bytes, name: str = "the pickle") -> Any:
    """Load a pickle from the content of a file, as `load` does."""
    try:
        return _numbers(_Unpickler(io.BytesIO(content)).load())
    except _Refused as error:
        raise ValueError(f"{name} holds {error}: only lists, tuples and numbers are read, nothing is run.") from None
    except RecursionError:
        raise ValueError(f"{name} holds lists in lists without end.") from None
    except Exception as error:  # broken pickles raise whatever their opcodes run into
        raise ValueError(f"{name} cannot be read: {error}. It is cut off, or no pickle.") from None


class _Refused(Exception):
    """For content that is not read."""


class _Call:
    """A recorded call of a stand-in. A pickle may give it a state once, as numpy's arrays and dtypes have one."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple):
        self.name, self.arguments, self.state = name, arguments, None

    def __setstate__(self, state: Any) -> None:
        if self.name not in ("array", "dtype"):
            raise _Refused(f"a state for {self.name}")
        self.state = state


class _StandIn:
    """Takes the place of a function or a class. It has no attributes that a pickle could set."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *arguments: Any) -> _Call:
        return _Call(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused(f"a state for {self.name}")


# the names in pickles of numpy, versions 1 and 2
_ACCEPTED = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "bytes",  # protocols 0 to 2 write bytes as text
    **{
        (f"numpy.{core}.{module}", function): name
        for core in ("core", "_core")
        for module, function, name in (
            ("multiarray", "_reconstruct", "array"),
            ("multiarray", "scalar", "scalar"),
            ("numeric", "_frombuffer", "buffer"),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ACCEPTED:
            raise _Refused(f"{module}.{name}")
        return _StandIn(_ACCEPTED[module, name])

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a reference to another file")


def _numbers(found: Any) -> Any:
    """The content of a pickle, with recorded calls turned into arrays and numpy's numbers."""
    kind = type(found)
    if kind in (list, tuple):
        return kind([_numbers(x) for x in found])
    if kind in (int, float):
        return found
    if kind is not _Call:
        raise _Refused(f"something of type {found.name if kind is _StandIn else kind.__name__}")
    if found.name == "scalar":
        dtype, data = _as_tuple(found.arguments, 2, "a scalar")
        return _array(data, _dtype(dtype), ())[()]
    if found.name == "buffer":
        data, dtype, shape, order = _as_tuple(found.arguments, 4, "an array")
        return _array(data, _dtype(dtype), shape, order)
    if found.name == "array" and found.state is not None:
        _, shape, dtype, fortran, data = _as_tuple(found.state, 5, "an array")
        if _dtype_name(dtype).startswith("O"):
            if type(data) is not list or math.prod(_shape(shape)) != len(data):
                raise _Refused("an array of objects that does not hold as many as it says")
            return _nested([_numbers(x) for x in data], _shape(shape))
        return _array(data, _dtype(dtype), shape, "F" if fortran else "C")
    raise _Refused(f"a bare {found.name}")


def _as_tuple(values: Any, count: int, kind: str) -> tuple:
    """The arguments or the state of a call, checked to be as many as numpy writes."""
    if type(values) is not tuple or len(values) != count:
        raise _Refused(f"{kind} that is not as numpy writes it")
    return values


def _dtype_name(call: Any) -> str:
    if type(call) is not _Call or call.name != "dtype" or not call.arguments or type(call.arguments[0]) is not str:
        raise _Refused("an array whose type is not as numpy writes it")
    return call.arguments[0]


def _dtype(call: Any) -> np.dtype:
    """A type of numbers. The state of the call gives the order of bytes."""
    name = _dtype_name(call)
    if name[:1] not in _KINDS or not name[1:].isdigit():
        raise _Refused(f"an array of numpy's type {name!r}")
    order = call.state[1] if type(call.state) is tuple and len(call.state) > 1 else "="
    return np.dtype(name).newbyteorder(order)


def _shape(shape: Any) -> tuple[int, ...]:
    if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
        raise _Refused("an array whose shape is not numbers")
    return shape


def _array(data: Any, dtype: np.dtype, shape: Any, order: Any = "C") -> np.ndarray:
    """An array from its bytes, which must be exactly as many as it needs."""
    if type(data) is _Call and data.name == "bytes":
        text, encoding = _as_tuple(data.arguments, 2, "an array")
        if type(text) is not str or encoding != "latin1":
            raise _Refused("bytes that are not as numpy writes them")
        data = text.encode("latin1")
    size = math.prod(_shape(shape)) * dtype.itemsize
    if not isinstance(data, bytes | bytearray) or len(data) != size or order not in ("C", "F"):
        raise _Refused("an array that does not hold as many bytes as it says")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _nested(values: list, shape: tuple[int, ...]) -> Any:
    """The values of an array of objects as nested lists."""
    if not shape:
        return values[0]
    if len(shape) == 1 or 0 in shape:
        return values
    step = math.prod(shape[1:])
    return [_nested(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]
