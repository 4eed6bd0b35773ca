"""The state of an inversion on disk: whole or not there, and never mistaken for that of another inversion."""

import dataclasses
import hashlib
import io
import json
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxfwi._checks import as_integer
from jaxfwi.inversion.stages import Stage
from jaxfwi.shots.observed import rows_of
from jaxfwi.shots.problem import Problem

__all__ = ["SaveTo", "settings_of"]


class SaveTo:
    """A folder where `invert` saves its state, and from which it goes on if it is called again.

    A state is written to a temporary file and then moved to its name, so that a process killed at any moment leaves
    whole files only, and the last two are kept. Where one cannot be written, as on a full disk, a warning says so, the
    one before stays and the inversion goes on. A file that cannot be read is passed over for the one before. Each is an
    ``.npz`` archive, whose arrays ``numpy.load`` opens too; several hosts need a folder that all of them see.

    Observed data are compared by three shots of them: save them to a file once, rather than model them at each start.

    Args:
        folder: made if it is not there.
        every: iterations from one to the next; the last state before an inversion ends, is left or fails is saved too.
        config: settings that a saved state must agree with, as JSON has them, beside those that `invert` compares by
            itself (grid, simulator, survey, data, start, stages, limits). It cannot see constants inside functions, as
            a learning rate: name them here.

    Raises:
        ValueError: if `every` or `config` cannot be.
        OSError: if the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike, every: int = 1, config: Mapping[str, Any] | None = None):
        self.folder = Path(folder)
        self.every = as_integer("every", every, 1)
        try:
            self.config = json.loads(json.dumps(dict(config or {})))
        except (TypeError, ValueError) as error:
            raise ValueError(f"config must hold what JSON has, numbers, strings and lists: {error}.") from None
        self.folder.mkdir(parents=True, exist_ok=True)

    def load(self, like: Callable[[int], Any], settings: Mapping[str, Any]) -> Any:
        """The newest state that can be read; None in a folder without any.

        Args:
            like: a state of the structure that is expected in a given stage.
            settings: of the inversion, to compare.

        Raises:
            ValueError: for a state of other settings, naming what differs, or if there are only unreadable ones.
        """
        files = self._files()
        if jax.process_index() == 0:
            for stale in self.folder.glob(".iteration_*"):
                stale.unlink(missing_ok=True)
        for path in reversed(files):
            try:
                with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                    arrays = {name: archive[name] for name in archive.files}
                header = json.loads(str(arrays.pop("header")))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                warnings.warn(f"{path} cannot be read and is passed over: {error}", stacklevel=4)
                continue
            self._compare(path, header["settings"], self._settings(settings))
            return _restored(path, arrays, like(header["stage"]))
        if files:
            raise ValueError(f"none of the saved states in {self.folder} can be read: remove them to start anew.")
        return None

    def write(self, state: Any, stage: int, iteration: int, settings: Mapping[str, Any]) -> None:
        """Write a state, and remove those before the last two."""
        leaves = {_name(path): x for path, x in jax.tree.leaves_with_path(state)}
        arrays = {name: _array(x) for name, x in leaves.items() if _is_number(x)}
        if jax.process_index() != 0:
            return
        header = json.dumps({"stage": stage, "iteration": iteration, "settings": self._settings(settings)})
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, header=np.asarray(header), **arrays)
        path = self.folder / f"iteration_{iteration:06d}.npz"
        temporary = self.folder / f".{path.name}.{os.getpid()}"
        try:
            with open(temporary, "wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            self._sync_folder()
        except OSError as error:
            temporary.unlink(missing_ok=True)
            kept = [file.name for file in self._files()[-1:]] or ["none"]
            warnings.warn(
                f"the state of iteration {iteration} could not be written to {self.folder}: {error.strerror}. The "
                f"last one there is {kept[0]}.",
                stacklevel=2,
            )
            return
        for old in self._files()[:-2]:
            old.unlink(missing_ok=True)

    def remove_after(self, iteration: int) -> None:
        """Remove the states of later iterations."""
        if jax.process_index() == 0:
            for path in self._files():
                if int(path.stem.removeprefix("iteration_")) > iteration:
                    path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("iteration_*.npz"))

    def _sync_folder(self) -> None:
        if os.name == "posix":  # elsewhere a folder cannot be opened
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return json.loads(json.dumps({**settings, **self.config}))

    @staticmethod
    def _compare(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
        names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
        if not names:
            return
        differences = "; ".join(f"{name} was {then.get(name)!r}, now {now.get(name)!r}" for name in names[:3])
        more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(
            f"{path} is of another inversion: {differences}{more}. Restore these settings to go on with it, or choose "
            "another folder to start anew."
        )


def settings_of(
    problem: Problem, start: Any, stages: Sequence[Stage], seed: int, mask: Any, bounds: Any, **functions: Any
) -> dict[str, Any]:
    """The settings of an inversion by name, with which a saved state must agree."""
    simulator, survey, observed = problem.simulator, problem.survey, problem.observed
    out = {f"grid.{f.name}": repr(getattr(simulator.grid, f.name)) for f in dataclasses.fields(simulator.grid)}
    out |= {f"simulator.{f.name}": repr(getattr(simulator, f.name)) for f in dataclasses.fields(simulator)}
    del out["simulator.grid"], out["simulator.memory"]  # the one is there already, the other changes rounding only
    some = np.unique([0, len(survey) // 2, len(survey) - 1])
    out |= {"start": _fingerprint(start), "survey": _fingerprint(survey), "shots": len(survey), "seed": seed}
    out |= {"observed": _fingerprint([rows_of(observed, np.array([i])) for i in some])}
    for number, stage in enumerate(stages):
        for name in ("shots_per_iteration", "encoding", "filter", "misfit"):
            setting = getattr(stage, name)
            arrays = _fingerprint(setting) if any(map(eqx.is_array, jax.tree.leaves(setting))) else ""
            out[f"stage {number + 1} {name}"] = f"{_repr_without_addresses(setting)} {arrays}".strip()
        if stage is not stages[-1]:  # the last one may be made longer
            out[f"stage {number + 1} iterations"] = stage.iterations
    out |= {name: _fingerprint(x) for name, x in (("mask", mask), ("bounds", bounds), ("weights", problem.weights))}
    out["aperture"] = repr(problem.aperture)
    return out | {name: f"{_repr_without_addresses(x)} {_fingerprint(x)}" for name, x in functions.items()}


def _repr_without_addresses(x: Any) -> str:
    """The repr of a setting, with functions by name and not by address."""
    text = repr(jax.tree.map(lambda leaf: getattr(leaf, "__qualname__", leaf), x))
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _fingerprint(tree: Any) -> str:
    """A short text that differs where a PyTree of arrays differs in any value, shape or dtype."""
    digest = hashlib.blake2b(digest_size=8)
    for path, leaf in jax.tree.leaves_with_path(tree):
        if _is_number(leaf):
            x = _array(leaf)
            digest.update(f"{_name(path)} {x.dtype} {x.shape} ".encode())
            digest.update(np.ascontiguousarray(x).tobytes())
    return digest.hexdigest()


def _restored(path: Path, arrays: dict[str, np.ndarray], like: Any) -> Any:
    """The state of a file, by a state of the same structure."""

    def read(place, leaf):
        if not _is_number(leaf):
            return leaf
        x, expected = left.pop(_name(place), None), _array(leaf)
        if x is None or x.shape != expected.shape:
            found = "nothing" if x is None else f"shape {x.shape}"
            raise ValueError(f"{refused} {_name(place)} has {found} there, {expected.shape} here. {way}")
        # numpy's files know no bfloat16: they give back the bytes
        x = x.view(expected.dtype) if x.dtype.kind == "V" else x
        return jax.random.wrap_key_data(jnp.asarray(x), impl=jax.random.key_impl(leaf)) if _is_key(leaf) else x

    left, refused = dict(arrays), f"{path} is of another inversion:"
    way = "Give the start, the stages and the optimizers it had, or choose another folder to start anew."
    state = jax.tree.map_with_path(read, like)
    if left:
        raise ValueError(f"{refused} {next(iter(left))} is there, and nothing of that name here. {way}")
    return state


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path).lstrip(".")


def _array(x: Any) -> np.ndarray:
    """A leaf as numpy has it; of random keys their words."""
    return np.asarray(jax.random.key_data(x) if _is_key(x) else x)


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _is_number(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray | np.generic | int | float)
