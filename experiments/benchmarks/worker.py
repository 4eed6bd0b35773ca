"""Measures one package at one case, in a process of its own: `python worker.py SIDE KIND JOB.json FOLDER`.

SIDE is the name of a module beside this one, without its ``side_``; KIND is ``forward`` or ``gradient``. FOLDER holds
the case's arrays, and gets the result. One line of JSON with the figures goes to standard output. It runs in the peers'
environment too, and so needs no more than Python and numpy.

A side is a module with one function, ``prepare(job, arrays)``, which returns ``(version, forward, gradient)``. Both
take nothing, compute, wait for the end and return arrays: ``forward`` the data ``(shots, time, receivers)``, and
``gradient`` those by vp (elastic: vp, vs and rho) of half the sum of the squared data, in a dictionary. On a GPU its
``added_memory(call)`` takes the place of this one's.
"""

import gc
import importlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def resident(name: str) -> int:
    """A line of the kernel's account of this process in bytes: VmRSS, VmHWM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def added_memory(call) -> int:
    """Bytes that a call adds to the process at its peak. Where there is no Linux kernel to ask, those beyond all that
    the process ever used."""
    gc.collect()
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
        before = resident("VmRSS")
        call()
        return resident("VmHWM") - before
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)


def timed(call) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


def main(side: str, kind: str, job_file: str, folder: str) -> None:
    job = json.loads(Path(job_file).read_text())
    arrays = dict(np.load(Path(folder) / "case.npz"))
    module = importlib.import_module(f"side_{side}")
    version, forward, gradient = module.prepare(job, arrays)
    call = forward if kind == "forward" else gradient
    first, result = timed(call)
    results = {"data": result} if kind == "forward" else result
    for name, array in results.items():
        np.save(Path(folder) / f"{side}_{name if kind == 'gradient' else kind}.npy", np.asarray(array))
    del result, results
    seconds, memory = [], None
    if job["measure"] == "memory":
        memory = added_memory(call)
    elif job["measure"] == "time":
        begin = time.perf_counter()
        while not seconds or (len(seconds) < job["repeats"] and time.perf_counter() - begin < job["patience"]):
            seconds.append(timed(call)[0])
        if job["device"] == "gpu":
            memory = module.added_memory(call)
    print(json.dumps({"version": version, "first": first, "seconds": seconds, "memory": memory}))


if __name__ == "__main__":
    main(*sys.argv[1:])
