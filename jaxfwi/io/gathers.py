"""Shot gathers in ``.npz`` files and zarr arrays, written and read shot by shot.

The name of the file or folder decides the format:

=====================  =================================================================================
``name.npz``           one archive, with a member ``shot_000000`` for each shot
``name.zarr``          one zarr array ``(shots, time, receivers, components)``, a chunk for each shot
any other name         a folder of archives ``shot_000000.npz``, each with a member ``data``
=====================  =================================================================================

A shot is ``(time, receivers, components)``. In archives shots may differ in their number of receivers; they are read
with zeros for padding, as a `jaxfwi.Survey` needs them. ``numpy.load`` opens each archive, too.
"""

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxfwi._checks import as_integer
from jaxfwi.io.files import existing, optional_package, written_whole
from jaxfwi.survey.survey import Survey

__all__ = ["Gathers", "read", "write", "write_shot"]

_UNREADABLE = (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Gathers:
    """Data of many shots that stay on disk, indexed like an array ``(shots, time, receivers, components)``.

    Only the shots that are asked for are read: ``data[3]`` is one shot, ``data[2:5]`` and ``data[[4, 1]]`` are some,
    ``data[3, :, 0]`` is a part of one, ``numpy.asarray(data)`` are all. `jaxfwi.Problem` takes it as observed data, and
    then no more of it is read at a time than is computed with. `read` and `jaxfwi.io.segy.read` return it.

    Args:
        shape: numbers of shots, time samples, receivers and components.
        dtype: of the data.
        shot: a function of a shot's number that reads it, ``(time, receivers, components)``.
        name: where the data are, for messages.

    >>> import numpy as np, jaxfwi as jf
    >>> data = jf.io.gathers.Gathers(
    ...     (3, 50, 8, 1), float, lambda shot: np.full((50, 8, 1), shot), "memory")
    >>> data, data[1:, 0, 0].tolist()
    (Gathers(3 x 50 x 8 x 1 float64 in memory), [[1.0], [2.0]])
    """

    def __init__(self, shape: tuple[int, int, int, int], dtype: Any, shot: Callable[[int], np.ndarray], name: str):
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.ndim = 4
        self.size = int(np.prod(shape))
        self._shot = shot
        self._name = name

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Gathers({' x '.join(map(str, self.shape))} {self.dtype} in {self._name})"

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self._read, range(len(self)))

    def __getitem__(self, index: Any) -> np.ndarray:
        first, *rest = (index if isinstance(index, tuple) else (index,)) or (None,)
        rest = tuple(rest)
        if first is Ellipsis or first is None or not all(isinstance(i, int | np.integer | slice) for i in rest):
            raise IndexError(f"index {self._name} by shots first, then by numbers and slices.")
        shots = np.arange(len(self))[first]
        if np.ndim(shots) == 0:
            return self._read(int(shots))[rest]
        # Each shot is cut before the next one is read.
        chosen = [self._read(int(i))[rest] for i in np.ravel(shots)]
        shape = chosen[0].shape if chosen else np.empty((0, *self.shape[1:]), bool)[(slice(None), *rest)].shape[1:]
        return np.reshape(np.stack(chosen) if chosen else np.empty((0, *shape), self.dtype), (*np.shape(shots), *shape))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(f"{self._name} is on disk: it cannot be an array without a copy.")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def _read(self, shot: int) -> np.ndarray:
        gather = self._shot(shot)
        if gather.shape != self.shape[1:]:
            raise ValueError(
                f"shot {shot} of {self._name} has shape {gather.shape} but had {self.shape[1:]} when it was opened."
            )
        return gather.astype(self.dtype, copy=False)


def write(path: str | os.PathLike, data: Iterable[Any], survey: Survey | None = None) -> None:
    """Write gathers, one shot after the other. The name decides the format, see `jaxfwi.io.gathers`.

    They are written to a temporary name beside it and moved at the end. A file of that name is replaced, a folder is
    not.

    Args:
        path: a name that ends in ``.npz`` or ``.zarr``, or that of a folder.
        data: ``(shots, time, receivers, components)``, or anything that yields one shot ``(time, receivers,
            components)`` after the other, such as a generator that models them: then no more than one is in memory.
        survey: of these shots; padding is left out of archives, but kept in a zarr array.

    Raises:
        ValueError: for data of another shape, or shots that differ in more than their receivers.
        FileExistsError: if a folder or a zarr array of that name exists.
        ImportError: for zarr if it is not installed.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shots = (np.full((50, 3, 1), shot) for shot in range(4))
    ...     jf.io.gathers.write(f"{folder}/line.npz", shots)
    ...     data = jf.io.gathers.read(f"{folder}/line.npz")
    ...     data.shape, data[2, 0, 0]
    ((4, 50, 3, 1), array([2]))
    """
    path = Path(path)
    shots = _checked(path, np.asarray(data) if isinstance(data, jax.Array) else data, survey, path.suffix == ".zarr")
    with written_whole(path, folder=path.suffix != ".npz") as temporary:
        if path.suffix == ".npz":
            with zipfile.ZipFile(temporary, "w") as archive:
                for shot, gather in enumerate(shots):
                    _add(archive, _member(shot), gather)
        elif path.suffix == ".zarr":
            _write_zarr(temporary, shots)
        else:
            temporary.mkdir()
            for shot, gather in enumerate(shots):
                write_shot(temporary, shot, gather)


def write_shot(folder: str | os.PathLike, shot: int, gather: Any) -> None:
    """Write one shot of a folder, for jobs that each model some of the shots. The file is written completely or not at
    all.

    Args:
        folder: created if it does not exist.
        shot: its number, from 0.
        gather: ``(time, receivers, components)``, without padding.

    Raises:
        ValueError: for a gather of another shape, or one that does not contain real numbers.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for shot, receivers in enumerate([5, 7]):
    ...         jf.io.gathers.write_shot(folder, shot, np.ones((50, receivers, 1)))
    ...     jf.io.gathers.read(folder).shape
    (2, 50, 7, 1)
    """
    folder, gather = Path(folder), np.asarray(gather)
    path = folder / f"{_member(as_integer('shot', shot, 0))}.npz"
    _check(path, shot, gather)
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        _add(archive, "data", gather)


def read(path: str | os.PathLike, survey: Survey | None = None) -> Gathers:
    """Open gathers that stay on disk, in any of the formats of `jaxfwi.io.gathers`.

    Args:
        path: an archive, a zarr array, or a folder of archives.
        survey: of these shots. Traces are put where its `receiver_mask` has real receivers; without a survey padding
            comes last, as in surveys that jaxfwi makes.

    Returns:
        `Gathers`, indexed like an array ``(shots, time, receivers, components)``.

    Raises:
        FileNotFoundError: if there is nothing of that name.
        ValueError: if it does not contain gathers, or shots are missing or do not fit each other or the survey; when a
            shot is read, if its file is damaged.
        ImportError: for zarr if it is not installed.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.gathers.write(f"{folder}/line", np.zeros((3, 50, 8, 1), np.float32))
    ...     data = jf.io.gathers.read(f"{folder}/line")
    ...     data[1].shape, data[[2, 0]].shape
    ((50, 8, 1), (2, 50, 8, 1))
    """
    path = existing(path)
    if any((path / name).exists() for name in ("zarr.json", ".zarray")):
        return _read_zarr(path, survey)
    if path.is_dir():
        found = {int(m[1]): p for p in path.iterdir() if (m := re.fullmatch(r"shot_(\d+)\.npz", p.name))}
        members = {number: (file, "data") for number, file in found.items()}
    else:
        members = {
            int(m[1]): (path, name.removesuffix(".npy"))
            for name in _opened(path, zipfile.ZipFile.namelist)
            if (m := re.fullmatch(r"shot_(\d+)\.npy", name))
        }
    if not members:
        raise ValueError(f"{path} holds no gathers shot_000000, ...: write them by jaxfwi.io.gathers.write.")
    for missing in set(range(len(members))) - set(members):
        raise ValueError(f"{path} has {len(members)} shots up to {max(members)}, but not shot {missing}: write it.")
    headers = [_header(*members[number]) for number in range(len(members))]
    shapes = [shape for shape, _ in headers]
    for number, shape in enumerate(shapes):
        if len(shape) != 3 or shape[::2] != shapes[0][::2]:
            raise ValueError(
                f"shot {number} of {path} has shape {shape} where the first has {shapes[0]}: shots must be (time, "
                "receivers, components) and differ in their receivers only."
            )
    counts = np.array([shape[1] for shape in shapes])
    real = np.arange(counts.max()) < counts[:, None] if survey is None else _fitting(path, survey, counts)

    def shot(number: int) -> np.ndarray:
        gather = _opened(members[number][0], lambda archive: _array(archive, members[number][1]))
        if gather.shape != shapes[number]:
            return gather  # the file has changed: Gathers raises the error
        out = np.zeros((shapes[0][0], real.shape[1], shapes[0][2]), gather.dtype)
        out[:, real[number]] = gather
        return out

    dtype = np.result_type(*(dtype for _, dtype in headers))
    return Gathers((len(real), shapes[0][0], real.shape[1], shapes[0][2]), dtype, shot, str(path))


def _member(shot: int) -> str:
    return f"shot_{shot:06d}"


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    # Large arrays are written in pieces, so that the archive cannot know their size beforehand.
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def _checked(path: Path, data: Iterable[Any], survey: Survey | None, padded: bool) -> Iterator[np.ndarray]:
    """The shots of data as arrays, without padding unless `padded`, checked one by one."""
    mask = None if survey is None or survey.receiver_mask is None else np.asarray(survey.receiver_mask)
    like, count = None, 0
    for shot, given in enumerate(data):
        gather = np.asarray(given)
        _check(path, shot, gather)
        if survey is not None and (shot >= len(survey) or gather.shape[1] != survey.receiver.shape[1]):
            raise ValueError(
                f"data of {path} do not fit the survey of {len(survey)} shots and {survey.receiver.shape[1]} "
                f"receivers: shot {shot} has shape {gather.shape}."
            )
        if mask is not None and not padded:
            gather = gather[:, mask[shot]]
        like = gather.shape if like is None else like
        if gather.shape[::2] != like[::2] or (padded and gather.shape != like):
            rule = "are alike in a zarr array: pad them by survey.pad." if padded else "differ in their receivers only."
            raise ValueError(f"shot {shot} of {path} has shape {gather.shape} where the first has {like}: shots {rule}")
        yield gather
        count += 1
    if not count or (survey is not None and count != len(survey)):
        raise ValueError(f"data of {path} have {count} shots" + (f", the survey {len(survey)}." if survey else "."))


def _check(path: Path, shot: int, gather: np.ndarray) -> None:
    if gather.ndim != 3 or 0 in gather.shape or gather.dtype.kind not in "fiu":
        raise ValueError(
            f"shot {shot} of {path} must be real numbers (time, receivers, components), got {gather.dtype} of shape "
            f"{gather.shape}."
        )


def _fitting(path: Path, survey: Survey, counts: np.ndarray) -> np.ndarray:
    """Which receivers of the survey are real, ``(shots, receivers)``; checked to be as many as the gathers have."""
    mask = survey.receiver_mask
    real = np.full(survey.receiver.shape[:2], True) if mask is None else np.asarray(mask)
    if len(real) != len(counts):
        raise ValueError(f"{path} has {len(counts)} shots, the survey {len(real)}.")
    for shot in np.flatnonzero(real.sum(axis=1) != counts)[:1]:
        raise ValueError(
            f"shot {shot} of {path} has {counts[shot]} receivers, in the survey {real[shot].sum()}: write it with its "
            "survey, so that padding is left out."
        )
    return real


def _opened(path: Path, use: Callable[[zipfile.ZipFile], Any]) -> Any:
    """The result of a function of an archive, opened anew each time so that threads and processes may share it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return use(archive)
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be read: {error}. It is damaged, or no archive of gathers.") from error


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array in an archive; only the beginning of the array is read."""

    def use(archive):
        with archive.open(f"{name}.npy") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return shape, dtype

    return _opened(path, use)


def _write_zarr(path: Path, shots: Iterator[np.ndarray]) -> None:
    zarr = optional_package("zarr", "zarr")
    array = None
    for shot, gather in enumerate(shots):
        if array is None:
            shape = (1, *gather.shape)
            # A lost chunk is read as the fill value: NaN is noticed, zeros would pass for data.
            fill = np.nan if gather.dtype.kind == "f" else 0
            array = zarr.create_array(store=str(path), shape=shape, chunks=shape, dtype=gather.dtype, fill_value=fill)
        else:
            array.resize((shot + 1, *gather.shape))
        array[shot] = gather


def _read_zarr(path: Path, survey: Survey | None) -> Gathers:
    try:
        array = optional_package("zarr", "zarr").open_array(store=str(path), mode="r")
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a zarr array: {error}.") from error
    shape = tuple(array.shape)
    if len(shape) != 4 or np.dtype(array.dtype).kind not in "fiu":
        raise ValueError(
            f"{path} must hold real numbers (shots, time, receivers, components), got {array.dtype} of shape {shape}."
        )
    if survey is not None and shape[:3:2] != survey.receiver.shape[:2]:
        raise ValueError(f"{path} has shape {shape}, the survey (shots, receivers) {survey.receiver.shape[:2]}.")

    def shot(number: int) -> np.ndarray:
        try:
            gather = np.asarray(array[number])
        except (RuntimeError, ValueError, OSError) as error:
            raise ValueError(f"shot {number} of {path} cannot be read: {error}. It is damaged.") from error
        if gather.dtype.kind == "f" and np.isnan(gather).all():
            raise ValueError(f"shot {number} of {path} is not there, or holds nothing but NaN: write it anew.")
        return gather

    return Gathers(shape, array.dtype, shot, str(path))
