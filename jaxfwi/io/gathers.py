"""Shot gathers in ``.npz`` files and zarr arrays, written and read shot by shot.

=====================  =================================================================================
``name.npz``           one archive, with a member ``shot_000000`` for each shot
``name.zarr``          one zarr array ``(shots, time, receivers, components)``, a chunk for each shot
any other name         a folder of archives ``shot_000000.npz``, each with a member ``data``
=====================  =================================================================================

A shot is ``(time, receivers, components)``. In archives shots may differ in their number of receivers; they are read
with zeros for padding, as `jaxfwi.Survey` has them. ``numpy.load`` opens each archive too.
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
from jaxfwi.io.files import existing, needed, written
from jaxfwi.survey.survey import Survey

__all__ = ["Gathers", "read", "write", "write_shot"]

_UNREADABLE = (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Gathers:
    """Data of many shots that stay on disk, indexed like an array ``(shots, time, receivers, components)``.

    Only the shots that are asked for are read: ``data[3]`` is one, ``data[2:5]`` and ``data[[4, 1]]`` some,
    ``data[3, :, 0]`` a part of one, ``numpy.asarray(data)`` all. `jaxfwi.misfit_and_gradient` and `jaxfwi.invert` take
    it as observed data, and read no more of it at a time than they compute with. `read` and `jaxfwi.io.segy.read`
    make it.

    Args:
        shape: shots, time samples, receivers and components.
        dtype: of the data.
        shot: a function of a shot's number that reads it, ``(time, receivers, components)``.
        name: where the data are, for messages.
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
        # each shot is cut before the next is read
        parts = [self._read(int(i))[rest] for i in np.ravel(shots)]
        like = parts[0].shape if parts else np.empty((0, *self.shape[1:]), bool)[(slice(None), *rest)].shape[1:]
        return np.reshape(np.stack(parts) if parts else np.empty((0, *like), self.dtype), (*np.shape(shots), *like))

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
    """Write gathers, one shot after the other; the module says which name makes which format.

    They are written beside their place and moved there at the end. A file of that name is replaced, a folder is not.

    Args:
        path: a name that ends in ``.npz`` or ``.zarr``, or that of a folder.
        data: ``(shots, time, receivers, components)``, or anything that gives one shot ``(time, receivers,
            components)`` after the other, as a generator that models them does: no more than one is in memory then.
        survey: of these shots; their padding is left out of archives. A zarr array keeps it.

    Raises:
        ValueError: for data of another shape, or shots that differ in more than their receivers.
        FileExistsError: if a folder or zarr array is there.
        ImportError: for zarr if it is not installed.

    >>> import tempfile, numpy as np, jaxfwi as jf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jf.io.gathers.write(f"{folder}/line.npz", (np.full((50, 3, 1), shot) for shot in range(4)))
    ...     data = jf.io.gathers.read(f"{folder}/line.npz")
    ...     data.shape, data[2, 0, 0]
    ((4, 50, 3, 1), array([2]))
    """
    path = Path(path)
    shots = _checked(path, np.asarray(data) if isinstance(data, jax.Array) else data, survey, path.suffix == ".zarr")
    with written(path, folder=path.suffix != ".npz") as place:
        if path.suffix == ".npz":
            with zipfile.ZipFile(place, "w") as archive:
                for shot, gather in enumerate(shots):
                    _add(archive, _member(shot), gather)
        elif path.suffix == ".zarr":
            _write_zarr(place, shots)
        else:
            place.mkdir()
            for shot, gather in enumerate(shots):
                write_shot(place, shot, gather)


def write_shot(folder: str | os.PathLike, shot: int, gather: Any) -> None:
    """Write one shot of a folder, as jobs do that each model some of the shots. The file is whole or not there.

    Args:
        folder: made if it is not there.
        shot: its number, from 0.
        gather: ``(time, receivers, components)``, without padding.

    Raises:
        ValueError: for a gather of another shape, or one that holds no numbers.

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
    with written(path) as place, zipfile.ZipFile(place, "w") as archive:
        _add(archive, "data", gather)


def read(path: str | os.PathLike, survey: Survey | None = None) -> Gathers:
    """Gathers that stay on disk; the module says which formats there are.

    Args:
        path: an archive, a zarr array, or a folder of archives.
        survey: of these shots. Receivers are put where its `receiver_mask` has real ones; without it padding comes
            last, as in surveys that jaxfwi makes.

    Returns:
        `Gathers`, indexed like an array ``(shots, time, receivers, components)``.

    Raises:
        FileNotFoundError: if there is nothing of that name.
        ValueError: if it holds no gathers, shots are missing or do not fit each other or the survey; when a shot is
            read, if its file is damaged.
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
        places = {number: (file, "data") for number, file in found.items()}
    else:
        places = {
            int(m[1]): (path, name.removesuffix(".npy"))
            for name in _opened(path, zipfile.ZipFile.namelist)
            if (m := re.fullmatch(r"shot_(\d+)\.npy", name))
        }
    if not places:
        raise ValueError(f"{path} holds no gathers shot_000000, ...: write them by jaxfwi.io.gathers.write.")
    for missing in set(range(len(places))) - set(places):
        raise ValueError(f"{path} has {len(places)} shots up to {max(places)}, but not shot {missing}: write it.")
    headers = [_header(*places[number]) for number in range(len(places))]
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
        gather = _opened(places[number][0], lambda archive: _array(archive, places[number][1]))
        if gather.shape != shapes[number]:
            return gather  # has changed since: it is told by who asked
        out = np.zeros((shapes[0][0], real.shape[1], shapes[0][2]), gather.dtype)
        out[:, real[number]] = gather
        return out

    dtype = np.result_type(*(dtype for _, dtype in headers))
    return Gathers((len(real), shapes[0][0], real.shape[1], shapes[0][2]), dtype, shot, str(path))


def _member(shot: int) -> str:
    return f"shot_{shot:06d}"


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    # large ones are written in pieces, so that the archive cannot know their size beforehand
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def _checked(path: Path, data: Iterable[Any], survey: Survey | None, padded: bool) -> Iterator[np.ndarray]:
    """Shots of data as arrays, of their real receivers, checked one by one."""
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
    """Which receivers are real, ``(shots, receivers)``, of a survey that gathers of so many receivers fit."""
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
    """What a function makes of an archive; opened anew each time, so that threads and processes may share it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return use(archive)
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be read: {error}. It is damaged, or no archive of gathers.") from error


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array in an archive, of which only the beginning is read."""

    def use(archive):
        with archive.open(f"{name}.npy") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return shape, dtype

    return _opened(path, use)


def _write_zarr(place: Path, shots: Iterator[np.ndarray]) -> None:
    zarr = needed("zarr", "zarr")
    array = None
    for shot, gather in enumerate(shots):
        if array is None:
            shape = (1, *gather.shape)
            # a chunk that is lost is read as the fill value: as NaN it is told, as zeros it would pass for data
            fill = np.nan if gather.dtype.kind == "f" else 0
            array = zarr.create_array(store=str(place), shape=shape, chunks=shape, dtype=gather.dtype, fill_value=fill)
        else:
            array.resize((shot + 1, *gather.shape))
        array[shot] = gather


def _read_zarr(path: Path, survey: Survey | None) -> Gathers:
    try:
        array = needed("zarr", "zarr").open_array(store=str(path), mode="r")
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
