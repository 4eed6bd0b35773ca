"""Files that are written completely or not at all; packages that only some formats need."""

import errno
import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["existing", "optional_package", "written_whole"]


@contextmanager
def written_whole(path: str | os.PathLike, folder: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` to write to, which is moved to `path` at the end: if the process is killed at any
    moment, nothing half-written is left there.

    Args:
        path: of a file, which is replaced if it exists; or of a folder, which must not exist.
        folder: whether it is a folder.

    Raises:
        FileExistsError: for a folder that exists, since other files in it would be lost.
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
        if os.name == "posix":  # other systems cannot open a folder
            _sync(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on disk."""
    number = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def existing(path: str | os.PathLike) -> Path:
    """The path, if it exists.

    Raises:
        FileNotFoundError: if it does not.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no such file", str(path))
    return path


def optional_package(module: str, extra: str) -> Any:
    """A package that not every installation has.

    Raises:
        ImportError: if it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ImportError(f"{module} is not installed: pip install jaxfwi[{extra}].") from error
