"""Files that are there whole or not at all; packages that only some formats need."""

import errno
import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["existing", "needed", "written"]


@contextmanager
def written(path: str | os.PathLike, folder: bool = False) -> Iterator[Path]:
    """A place beside `path` to write to, moved to `path` at the end: a process killed at any moment leaves nothing
    half-written there.

    Args:
        path: of a file, which is replaced if it is there; or of a folder, which must not be.
        folder: whether it is a folder.

    Raises:
        FileExistsError: for a folder that is there: what else may lie in it should not be lost.
        OSError: as writing does.
    """
    path = Path(path)
    if folder and path.exists():
        raise FileExistsError(f"{path} is there already: remove it, or choose another name.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        for file in [temporary] if temporary.is_file() else (p for p in temporary.rglob("*") if p.is_file()):
            _sync(file)
        os.replace(temporary, path)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _sync(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    number = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def existing(path: str | os.PathLike) -> Path:
    """The path, if something is there.

    Raises:
        FileNotFoundError: if nothing is.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no such file", str(path))
    return path


def needed(module: str, extra: str) -> Any:
    """A package that not every installation has.

    Raises:
        ImportError: saying how to install it, if it is not there.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ImportError(f"{module} is not installed: pip install jaxfwi[{extra}].") from error
