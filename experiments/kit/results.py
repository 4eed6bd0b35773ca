"""A folder of results, tables, and errors that are one sentence."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure, SubFigure
from PIL import Image


class UserError(Exception):
    """Something the user can mend, said in one sentence."""


@contextlib.contextmanager
def ending_on_errors() -> Iterator[None]:
    """Around all of a program: a UserError is printed and ends it with status 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        if jax.distributed.is_initialized():
            os._exit(2)  # an orderly end would wait for the other processes, which may not have met the error
        sys.exit(2)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Around calls of jaxfwi on what the user gave: its ValueError says what is wrong and the way out."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


class Results:
    """A folder of results. Its files are whole or not there: each is written beside its place and then moved."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the output folder {self.folder}: {error.strerror}.") from error

    def path(self, name: str) -> Path:
        return self.folder / name

    def need(self, name: str, stage: str) -> Path:
        """The path of a file that another stage writes."""
        if not self.path(name).exists():
            raise UserError(f"{self.path(name)} is missing: run --stage {stage} first, with the same --out.")
        return self.path(name)

    def load(self, name: str, stage: str, mapped: bool = False) -> np.ndarray:
        """An array that another stage writes; `mapped`, only what is asked of it is read."""
        return np.load(self.need(name, stage), mmap_mode="r" if mapped else None)

    def remove(self, *patterns: str) -> None:
        """Remove files of an earlier run that no longer hold."""
        for pattern in patterns:
            for path in self.folder.glob(pattern):
                path.unlink()

    @contextlib.contextmanager
    def written(self, name: str) -> Iterator[Path]:
        """A path to write to, which becomes `name` when the block ends well."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        with self.written(name) as path:
            path.write_text(text, encoding="utf-8")

    def write_json(self, name: str, value: Any) -> None:
        """Write ``config.json`` or ``summary.json``; numpy values and paths become what JSON has."""
        self.write_text(name, json.dumps(value, indent=2, default=_plain, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> Any:
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def same_json(self, name: str, value: Any) -> bool:
        """Whether a file holds what `write_json` would write."""
        return self.read_json(name) == json.loads(json.dumps(value, default=_plain))

    def write_array(self, name: str, array: Any) -> None:
        with self.written(name) as path:
            np.save(path, np.asarray(array))

    def same_array(self, name: str, array: np.ndarray) -> bool:
        """Whether a file holds this array."""
        return self.path(name).exists() and np.array_equal(np.load(self.path(name)), array)

    def write_figure(self, name: str, figure: Figure | SubFigure, dpi: int = 100) -> None:
        """Write ``figures/<name>.png`` with a palette of 256 colours, which halves its size and shows as little."""
        buffer = io.BytesIO()
        figure.figure.savefig(buffer, format="png", dpi=dpi)
        with self.written(f"figures/{name}.png") as path:
            image = Image.open(buffer).convert("RGB")
            image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1).save(path, optimize=True)

    def add_metrics(self, log: str = "metrics.jsonl", /, **values: Any) -> None:
        """Add a line to ``metrics.jsonl`` or another log, in one write."""
        with self.path(log).open("a", encoding="utf-8") as file:
            file.write(_line(values))

    def write_metrics(self, log: str, lines: Iterable[dict[str, Any]]) -> None:
        """Put these lines in the place of a log's."""
        self.write_text(log, "".join(map(_line, lines)))

    def metrics(self, log: str = "metrics.jsonl") -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl`` or another log, without a last one that was cut short."""
        path = self.path(log)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, default=_plain, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic | jax.Array) else str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table that reads well on a terminal too: the first column to the left, the others to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]
    lines = []
    for row in cells:
        padded = [c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append(f"| {' | '.join(padded)} |")
    rule = "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths))
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])
