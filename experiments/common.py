"""What the experiments share: the results folder, measuring, tables, user models, errors that are one sentence.

An experiment is a script: it puts this file's folder on its path, describes its command line by a dataclass and ends on
`main`. Nothing here knows of any experiment.
"""

import contextlib
import dataclasses
import gc
import io
import json
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
import numpy as np
import psutil
import tqdm
import tyro
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from PIL import Image

import jaxfwi as jf

T = TypeVar("T")


class UserError(Exception):
    """Something the user can mend, said in one sentence."""


def main(run: Callable[[T], object], options: type[T]) -> None:
    """Read the command line into `options`, a dataclass, and call ``run(options)``; a UserError ends with status 2."""
    with ending_on_errors():
        run(tyro.cli(options, description=options.__doc__))


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
            file.write(json.dumps(values, default=_plain, ensure_ascii=False) + "\n")

    def metrics(self, log: str = "metrics.jsonl") -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl`` or another log, without a last one that was cut short."""
        path = self.path(log)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic | jax.Array) else str(value)


def progress(items: Iterable[T], what: str, total: int | None = None) -> "tqdm.tqdm[T]":
    """`items` with a bar on the terminal that tells the time left."""
    return tqdm.tqdm(items, desc=what, total=total, file=sys.stderr, dynamic_ncols=True)


def use_compilation_cache(folder: Path) -> None:
    """Keep compiled programs in `folder`, small ones too, so that the next run compiles none."""
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """What a measurement must be read with."""
    device = jax.devices()[0]
    return {
        "device": "CPU" if device.platform == "cpu" else device.device_kind,
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


class PeakMemory:
    """The resident memory in bytes that a block of code adds to its process: ``.added``, after the block.

    A thread looks at the resident set every `interval` seconds. Where the block drives the process beyond all it ever
    used, the kernel's own high-water mark (KiB on Linux, bytes on macOS) tells what was missed between two looks.

    Memory that was freed before the block and is used again would not be seen. Start the process with `RETURN_MEMORY`
    in its environment, so that the C library (glibc) gives freed arrays back at once.

    Args:
        interval: seconds between two looks.
        mapped_files: whether pages of memory-mapped files count, which the kernel takes back when it needs them. Left
            out, the kernel's mark is of no use, and the thread's looks are all there is (on Linux; else they count).
    """

    RETURN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # noqa: RUF012

    def __init__(self, interval: float = 0.002, mapped_files: bool = True):
        self.added = 0
        self._interval = interval
        self._mapped_files = mapped_files
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._settle()
        self._mark = _high_water_mark()
        self._start = self._peak = self._resident()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._look()
        self._done.set()
        self._thread.join()
        mark = _high_water_mark()
        self.added = max(self._peak, mark if self._mapped_files and mark > self._mark else 0) - self._start

    def _settle(self) -> None:
        """Wait, two seconds at most, for memory of earlier work: other threads give it back a moment later."""
        gc.collect()
        for _ in range(20):
            before = self._resident()
            time.sleep(0.1)
            if self._resident() >= before:
                return

    def _resident(self) -> int:
        memory = self._process.memory_info()
        return memory.rss - (0 if self._mapped_files else getattr(memory, "shared", 0))

    def _look(self) -> None:
        self._peak = max(self._peak, self._resident())

    def _watch(self) -> None:
        while not self._done.wait(self._interval):
            self._look()


def _high_water_mark() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def draw_models(results: Results, true: NDArray[Any], start: NDArray[Any], final: NDArray[Any], spacing: float) -> None:
    """``result.png``: true model, start and result on one scale, and their errors."""
    images = {"true": true, "start": start, "result": final}
    figure = jf.plot.compare(images, spacing, difference_to="true", symmetric=False, label="vp (m/s)")
    results.write_figure("result", figure)


def draw_residuals(
    results: Results,
    gathers: dict[str, NDArray[Any]],
    dt: float,
    receiver_x: NDArray[Any],
    frequency: float,
    name: str = "data",
    what: str = "the middle shot",
) -> None:
    """``<name>.png``: one shot's observed data, and what start and result leave of them, on one scale."""
    limit = float(np.percentile(np.abs(gathers["observed"]), 98))
    panels = {
        "observed": gathers["observed"],
        "observed - start": gathers["observed"] - gathers["start"],
        "observed - result": gathers["observed"] - gathers["result"],
    }
    figure = Figure(figsize=(12, 5), layout="constrained")
    for ax, (title, data) in zip(figure.subplots(1, 3, sharey=True), panels.items(), strict=True):
        jf.plot.gather(data[..., 0], dt, ax, receiver_x=receiver_x, title=title, clim=(-limit, limit))
    figure.suptitle(f"{what} at {frequency:g} Hz, one scale (98th percentile of the observed)")
    results.write_figure(name, figure)


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


def load_model(
    path: Path, option: str, ndim: int = 2, shape: tuple[int, ...] | None = None, zeros: bool = False
) -> NDArray[np.float32]:
    """A user's model, in m/s or any positive unit, from a ``.npy`` file.

    Args:
        path: of the file.
        option: the command line's name for it, such as ``"--vp"``, for messages.
        ndim: the axes it must have.
        shape: the shape it must have, where another file has set that.
        zeros: whether cells may be 0, as the S-wave velocity is in water.

    Returns:
        The model in float32.
    """
    if not path.is_file():
        raise UserError(f"{option}: there is no file {path}.")
    try:
        model = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError):
        model = None
    if not isinstance(model, np.ndarray) or model.dtype.kind not in "fiu":
        raise UserError(f"{option}: {path} is not a .npy file of real numbers, as numpy.save writes them.")
    if model.ndim != ndim or model.size == 0:
        raise UserError(f"{option}: {path} has shape {model.shape}; a model of {ndim} axes is needed, depth first.")
    model = model.astype(np.float32)
    if not np.isfinite(model).all():
        raise UserError(f"{option}: {path} has {np.sum(~np.isfinite(model))} cells that are NaN or infinite.")
    if not ((model >= 0) if zeros else (model > 0)).all():
        wanted = "must not be negative" if zeros else "must be positive everywhere"
        raise UserError(f"{option}: {path} {wanted}; its smallest value is {model.min():g}.")
    if shape is not None and model.shape != shape:
        raise UserError(f"{option}: {path} has shape {model.shape}, the model beside it {shape}.")
    return model


def check_spacing(spacing: float | None) -> float:
    """The metres between the cells of a user's model, which no default can know."""
    if spacing is None or not 0 < spacing < float("inf"):
        raise UserError(f"--vp needs --spacing, the positive metres between its cells, got {spacing}.")
    return spacing


class ModelOptions(Protocol):
    """The part of a command line that says which model."""

    @property
    def vp(self) -> Path | None: ...
    @property
    def start(self) -> Path | None: ...
    @property
    def spacing(self) -> float | None: ...


def true_and_start(
    options: ModelOptions,
    shape: tuple[int, int],
    spacing: float,
    smoothing: float | None,
    water_depth: float | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """The true and the starting velocity, and the metres between their cells: of the user's files, or our own.

    Args:
        options: the user's.
        shape, spacing: of the Marmousi-like section where no file is given.
        smoothing: standard deviation in metres of the Gaussian that makes the start where no file is given; None for
            one that is linear in depth below the sea bed.
        water_depth: of the Marmousi-like section, metres; by default 9 % of its depth.
    """
    if options.vp is None:
        if options.spacing is not None or options.start is not None:
            raise UserError("--spacing and --start go with a model of your own: give --vp FILE too.")
        true = jf.models.marmousi_like(shape, spacing, water_depth=water_depth).astype(np.float32)
    else:
        spacing = check_spacing(options.spacing)
        true = load_model(options.vp, "--vp")
    if options.start is None:
        fixed = fixed_cells(true)
        start = (
            jf.models.linear_in_depth(true, keep=fixed)
            if smoothing is None
            else jf.models.smooth(true, smoothing / spacing, keep=fixed)
        )
        return true, start.astype(np.float32), spacing
    return true, load_model(options.start, "--start", shape=true.shape), spacing


def read_config(results: Results, kind: type[T]) -> T:
    """What stage make resolved and wrote to ``config.json``, as `kind`, a dataclass."""
    results.need("config.json", "make")
    config = results.read_json("config.json")
    missing = [field.name for field in dataclasses.fields(kind) if field.name not in config]  # pyright: ignore[reportArgumentType]
    if missing:
        raise UserError(f"{results.path('config.json')} is of another version, without {missing[0]}: run --stage make.")
    values = {field.name: config[field.name] for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def fixed_cells(true: NDArray[Any]) -> NDArray[np.bool_]:
    """Cells that are known and not inverted for: the water, or on land the rows of the sources."""
    water = jf.models.water_mask(true)
    if not water.any():
        water[:3] = True
    return water


def model_error(vp: Any, true: NDArray[Any], cells: NDArray[np.bool_]) -> float:
    """Relative L2 error in these cells, in per cent."""
    return float(100.0 * np.linalg.norm((np.asarray(vp) - true)[cells]) / np.linalg.norm(true[cells]))


def draw_convergence(results: Results, metrics: list[dict[str, Any]], error: float, where: str) -> None:
    """``figures/convergence.png``: misfit and model error by iteration, of lines with "frequency" and these.

    Args:
        results: the folder.
        metrics: one line an iteration.
        error: the starting model's, in per cent.
        where: the cells that the model error is of.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    start = 0
    for frequency in dict.fromkeys(m["frequency"] for m in metrics):
        misfit = [m["misfit"] for m in metrics if m["frequency"] == frequency]
        iterations = np.arange(start, start + len(misfit))
        left.semilogy(iterations, np.asarray(misfit) / misfit[0], label=f"{frequency:g} Hz")
        start += len(misfit)
    left.set(xlabel="iteration", ylabel="misfit of the mini-batch / that band's first", title="data")
    left.legend()
    right.plot([error, *(m["model_error"] for m in metrics)])
    right.set(xlabel="iteration", ylabel=f"relative L2 error {where} (%)", title="model")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    results.write_figure("convergence", figure)
