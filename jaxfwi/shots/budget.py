"""Memory in bytes: what a compiled program takes, what a device has, and the batch that fits."""

import contextlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Memory", "largest_batch", "memory_of", "shares_that_fit"]


class Memory(NamedTuple):
    """Bytes that a program takes on a device.

    >>> Memory(arguments=10_000_000, working=1_500_000_000, result=500_000)
    Memory(1.51 GB: 10 MB of arguments, 1.5 GB to work in, 500 kB of result)
    """

    arguments: int
    working: int
    result: int

    @property
    def total(self) -> int:
        """All of them together."""
        return self.arguments + self.working + self.result

    def __repr__(self) -> str:
        arguments, working, result, total = map(_in_units, (*self, self.total))
        return f"Memory({total}: {arguments} of arguments, {working} to work in, {result} of result)"


def memory_of(compiled: Any) -> Memory:
    """The memory that a compiled program takes, by its own account."""
    executable = compiled.runtime_executable()
    m = compiled.memory_analysis() if executable is None else _account(executable)
    return Memory(m.argument_size_in_bytes, m.temp_size_in_bytes, m.output_size_in_bytes)


@lru_cache(maxsize=16)
def _account(executable: Any) -> Any:
    # kept: to give it takes a large program milliseconds, as much as many a small simulation
    return executable.get_compiled_memory_stats()


def shares_that_fit(memory: Memory, device: Any, shares: int = 1) -> int:
    """How many of several shares of the shots fit on a device at once; their arguments are there already.

    Args:
        memory: of the program for a share.
        device: which computes them.
        shares: how many. All their results are kept, and once more when they are combined.

    Raises:
        MemoryError: if not one fits.
    """
    there = _free(device)
    results = memory.result * (1 if shares == 1 else 2 * shares)
    if memory.working + results > there:
        raise MemoryError(
            f"this takes {_in_units(memory.working + results)} beside its arguments, but {device} has "
            f"{_in_units(there)}. Model the shots in groups, survey[indices]; lower batch; give an aperture, or "
            "domains on several devices; and for gradients choose a memory strategy that keeps less, as "
            "BoundarySaving(dtype='int8')."
        )
    return max(1, min(shares, int((there - results) // max(memory.working, 1))))


def largest_batch(of_batch: Callable[[int], Memory], most: int, device: Any) -> int:
    """The largest batch of at most `most` shots that fits in nine tenths of a device, evened out over the batches.

    Args:
        of_batch: memory of a batch; it is linear in the batch, and evaluated at 1 and 2.
        most: shots of the device.
        device: the device that computes them.
    """
    if most == 1:
        return 1
    one, two = (sum(of_batch(n)[1:]) for n in (1, 2))
    fits = 1 + int(0.9 * _free(device) - one) // max(two - one, 1)
    batches = -(-most // max(1, min(fits, most)))
    return -(-most // batches)


def _free(device: Any) -> int:
    """Bytes that a device has left; on a CPU those of the whole machine, as an operating system gives and takes."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    limits = []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # of a container
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(Path(path).read_text()))
    with contextlib.suppress(AttributeError, ValueError, OSError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=2**63)  # where no figure is to be had, let it run


def _in_units(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
