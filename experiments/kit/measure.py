"""What a computation costs, and how far its results are from what they should be."""

import gc
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import psutil
from scipy.ndimage import gaussian_filter

Array = np.ndarray
T = TypeVar("T")


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


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Seconds until the result is there, and the result."""
    begin = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - begin, result


class PeakMemory:
    """The resident memory in bytes that a block of code adds to its process: ``.added``, after the block.

    A thread looks at the resident set every `interval` seconds. Where the block drives the process beyond all it ever
    used, the kernel's own high-water mark (KiB on Linux, bytes on macOS) says what was missed between two looks.

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


def model_error(model: Any, true: Array, cells: Array) -> float:
    """Relative L2 error in these cells, in per cent."""
    return float(100.0 * np.linalg.norm((np.asarray(model) - true)[cells]) / np.linalg.norm(true[cells]))


def difference(ours: Any, reference: Any) -> float:
    """Relative L2 difference, in double precision."""
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def ssim(image: Array, reference: Array, cells: Array) -> float:
    """Structural similarity of two sections, 1 if they are the same, averaged over `cells` (Wang et al. 2004, IEEE
    Transactions on Image Processing 13, 600-612: Gaussian windows of 1.5 cells, constants of 0.01 and 0.03)."""
    span = float(np.ptp(reference[cells]))
    a, b = (np.asarray(x, dtype=float) for x in (image, reference))
    mean_a, mean_b = (gaussian_filter(x, 1.5) for x in (a, b))
    variances = gaussian_filter(a * a, 1.5) - mean_a**2 + gaussian_filter(b * b, 1.5) - mean_b**2
    covariance = gaussian_filter(a * b, 1.5) - mean_a * mean_b
    small, large = (0.01 * span) ** 2, (0.03 * span) ** 2
    of_means = (2 * mean_a * mean_b + small) / (mean_a**2 + mean_b**2 + small)
    return float((of_means * (2 * covariance + large) / (variances + large))[cells].mean())
