"""Speed, memory and compile time beside other packages: one table, made in one sitting.

    python experiments/benchmarks/run.py --preset full

Stages: `setup` makes an environment for the peers, `measure` runs every package at every case, each in a process of its
own and in turn, `growth` measures how our cost grows, `report` makes tables and figures.
"""

import datetime
import json
import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np

import bandwidth
import cases
import kit
import side_jaxfwi
from cases import Case
from report import NAMES, OURS, PEERS, report

HERE = Path(__file__).resolve().parent
VERSIONS = {"deepwave": "deepwave==0.1.0", "sweep": "sweep-solver==0.3.5"}
KINDS = ("forward", "gradient")
CPU_TORCH = "https://download.pytorch.org/whl/cpu"  # where it can be reached; else the index's own, which is larger
LONGEST = 1800  # seconds of one process
ALIKE = {"acoustic": 1e-3, "elastic": 0.05}  # data of two packages; layers and means of density differ, scales must not


@dataclass(frozen=True)
class Options:
    """Speed and memory of this package beside others that are installed for it: forward, gradient, first call."""

    preset: Literal["quick", "full", "large"] = "quick"
    """quick: two small cases, to see that it runs. full: the table. large: cases that keep a GPU busy."""
    stage: Literal["setup", "measure", "growth", "report", "all"] = "all"
    """One stage; each reads what the one before wrote. Cases that were measured are not measured again: an interrupted
    run goes on."""
    out: Path = Path("runs/benchmarks")
    """Folder of results."""
    peers: tuple[str, ...] = tuple(PEERS)
    """Of deepwave and sweep, those to measure; none for ourselves alone."""
    orders: tuple[int, ...] = (4, 8)
    """Space orders."""
    only: str = ""
    """Only cases whose names hold this."""
    rounds: int = 3
    """Processes of each package, kind and case."""
    patience: float = 20.0
    """Seconds that a process repeats its call for; at least once."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where to run; gpu needs jax with CUDA here, and takes torch with CUDA for the peers."""
    vp: Path | None = None
    """A .npy file with the P-wave velocity in m/s of the Marmousi cases, 173 x 561 cells of 20 m; else a section of
    ours that is like it."""


def main(options: Options) -> None:
    if options.rounds < 1:
        raise kit.UserError(f"--rounds must be at least 1, got {options.rounds}.")
    unknown = set(options.peers) - set(PEERS)
    if unknown:
        raise kit.UserError(f"--peers: {sorted(unknown)[0]} is none of {', '.join(PEERS)}.")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # leave the GPU's memory to the workers
    jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda,cpu"}[options.device])
    if options.device == "gpu":
        try:
            jax.devices("cuda")
        except RuntimeError:
            raise kit.UserError('--device gpu: jax finds none here; pip install "jax[cuda12]" where one is.') from None
    results = kit.Results(options.out)
    chosen = [case for case in cases.PRESETS[options.preset] if options.only in case.name]
    if not chosen:
        raise kit.UserError(f"--only: no case's name holds {options.only!r}.")
    if options.stage in ("setup", "all") and options.peers:
        setup(options, results)
    if options.stage in ("measure", "all"):
        measure(options, results, chosen)
    if options.stage in ("growth", "all"):
        growth(options, results)
    if options.stage in ("report", "all"):
        report(results)


def python_of(results: kit.Results, side: str) -> Path:
    """Ours is the one that runs this; the peers have theirs in the output folder."""
    return Path(sys.executable) if side == OURS else results.path("peers/bin/python").absolute()


def setup(options: Options, results: kit.Results) -> None:
    """An environment with the peers, and with our jax for SWEEP, beside the results."""
    cuda = "[cuda12]" if options.device == "gpu" else ""
    wanted = [f"jax{cuda}=={jax.__version__}", "numpy", *(VERSIONS[peer] for peer in options.peers)]
    done = results.path("peers/installed.json")
    if done.exists() and set(wanted) <= set(json.loads(done.read_text())):
        return
    folder = results.path("peers")
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)  # a torch without CUDA would stay
    pip = [python_of(results, "peers"), "-m", "pip", "install", "--quiet"]
    if options.device == "cpu":
        print(f"torch without CUDA from {CPU_TORCH}, if it can be reached; else a larger one")
        subprocess.run([*pip, "--retries", "0", "--index-url", CPU_TORCH, "torch"], capture_output=True)
    if subprocess.run([*pip, *wanted]).returncode:
        raise kit.UserError(f"the peers cannot be installed: pip install {' '.join(wanted)} failed.")
    results.write_json("peers/installed.json", wanted)


def measure(options: Options, results: kit.Results, chosen: list[Case]) -> None:
    """A line of ``metrics.jsonl`` for each case, order and package."""
    if options.peers and not python_of(results, "peers").exists():
        raise kit.UserError("the peers are not installed: run --stage setup first, with the same --out.")
    moved = bandwidth.of_cores(kit.cores()) if options.device == "cpu" else bandwidth.of_gpu()
    sides = [OURS, *options.peers]
    settings = {
        "device": options.device,
        "threads": kit.cores(),
        "vp": None if options.vp is None else str(options.vp),
    }
    done = {
        (m["case"], m["order"], m["side"]) for m in results.metrics() if m["settings"] == settings and "error" not in m
    }
    bar = kit.progress([(c, o) for c in chosen for o in options.orders], "measuring")
    for case, order in bar:
        todo = [side for side in sides if (case.name, order, side) not in done]
        if not todo:
            continue
        folder = results.path(f"cases/{re.sub(r'[^a-z0-9]+', '-', case.name.lower())}-order-{order}")
        for left in folder.glob("*.npy"):
            left.unlink()  # of an earlier run: what is compared must be of this one
        write(case.arrays(_marmousi(options) if case.marmousi else None), folder)
        job = case.job(order, threads=kit.cores(), device=options.device, patience=options.patience, repeats=7)
        found: dict[str, dict[str, Any]] = {side: {} for side in todo}
        for kind in KINDS:
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in todo}
            # a process that is watched for its memory is slower: one of its own, but on a GPU, which keeps the count
            apart = ["memory"] if kind == "gradient" and options.device == "cpu" else []
            for what in ["time"] * options.rounds + apart:
                for side in todo:
                    bar.set_postfix_str(f"{case.name}, order {order}, {kind} of {NAMES[side]}")
                    if "error" not in found[side]:
                        figures = work(results, folder, side, kind, {**job, "measure": what})
                        if "error" in figures:
                            found[side]["error"] = figures["error"]
                        else:
                            runs[side].append(figures)
            for side in todo:
                if "error" not in found[side]:
                    timed = [run for run in runs[side] if run["seconds"]]
                    seconds = [s for run in runs[side] for s in run["seconds"]]
                    found[side] |= {
                        "version": runs[side][0]["version"],
                        f"{kind}_first_seconds": statistics.median(run["first"] for run in timed),
                        f"{kind}_seconds": statistics.median(seconds),
                        f"{kind}_runs": len(seconds),
                    }
                    if kind == "gradient":
                        found[side]["gradient_memory_bytes"] = runs[side][-1]["memory"]
        for side in todo:
            if side != OURS and "error" not in found[side] and (folder / f"{OURS}_forward.npy").exists():
                found[side] |= agreement(case, folder, side)
            results.add_metrics(
                case=case.name, order=order, side=side, settings=settings, equation=case.equation, updates=case.updates,
                bytes_of_update=case.bytes_of_update, bandwidth=moved, environment=kit.environment(),
                date=datetime.date.today().isoformat(), **found[side],
            )  # fmt: skip


def write(arrays: dict[str, np.ndarray], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "case.npz").open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def _marmousi(options: Options) -> Any:
    return None if options.vp is None else kit.load_model(options.vp, "--vp", shape=(173, 561))


def work(results: kit.Results, folder: Path, side: str, kind: str, job: dict[str, Any]) -> dict[str, Any]:
    """The figures of one worker, or ``{"error": why}``."""
    (folder / "job.json").write_text(json.dumps(job))
    threads = {name: str(job["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    # freed arrays go back to the system at once, so that memory used again is seen; timings go without
    frugal = kit.PeakMemory.RETURN_MEMORY if job["measure"] == "memory" else {}
    command = [python_of(results, side), "worker.py", side, kind, folder.absolute() / "job.json", folder.absolute()]
    try:
        done = subprocess.run(
            list(map(str, command)),
            cwd=HERE,
            env={**os.environ, **threads, **frugal},
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {LONGEST} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    last = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
    return {"error": last.removeprefix("NotImplementedError: ")}


def agreement(case: Case, folder: Path, side: str) -> dict[str, Any]:
    """How far a peer's data and gradients are from ours, relative L2. Its data are moved by the part of a sample that
    brings them nearest (staggered schemes count time from either half of a step); gradients are compared in the model's
    interior, away from shots, receivers and the edges that the absorbing layer copies.
    Data further apart than packages may be are an error: times of different experiments are not compared.
    """
    ours, theirs = (np.load(folder / f"{s}_forward.npy").astype(float) for s in (OURS, side))
    n = ours.shape[1]
    spectrum = np.fft.rfft(theirs, 2 * n, axis=1)
    phases = 2j * np.pi * np.fft.rfftfreq(2 * n)[:, None]
    shifts = np.arange(-1.0, 1.001, 0.125)
    inside = slice(5, n - 5)
    apart = [
        np.linalg.norm((ours - np.fft.irfft(spectrum * np.exp(phases * s), 2 * n, axis=1)[:, :n])[:, inside])
        for s in shifts
    ]
    best = int(np.argmin(apart))
    out: dict[str, Any] = {"data_difference": apart[best] / np.linalg.norm(ours), "data_shift_samples": shifts[best]}
    if not out["data_difference"] <= ALIKE[case.equation]:  # NaN is not alike
        return {"error": f"its data differ from ours by {100 * out['data_difference']:.1f} %"}
    for path in sorted(folder.glob(f"{OURS}_*.npy")):
        name = path.stem.removeprefix(f"{OURS}_")
        if name != "forward":
            a, b = (np.load(folder / f"{s}_{name}.npy").astype(float) for s in (OURS, side))
            core = (slice(14, -8), *(slice(8, -8) for _ in a.shape[1:]))
            inside = np.linalg.norm(a[core])
            if not inside <= 1e-3 * np.linalg.norm(a):  # else no wave came back from there; NaN is to be seen
                out[f"gradient_difference_{name}"] = float(np.linalg.norm((a - b)[core]) / inside)
    return out


GROWTH = {  # square models; the others of these stay as they are in the first of each row
    "cells": [Case(f"{n} x {n}", "acoustic", (n, n), 2, 300) for n in (40, 95, 195, 400)],
    "steps": [Case(f"{nt} steps", "acoustic", (100, 100), 2, nt) for nt in (100, 310, 970, 3000)],
    "shots": [Case(f"{n} shots", "acoustic", (100, 100), n, 200) for n in (2, 6, 20, 60)],
}
SIDES = (40, 125, 390, 1200)  # cells of square models, of which the compiled program's memory is read
STEPS = (100, 1000, 3000)


def growth(options: Options, results: kit.Results) -> None:
    """``growth.json``: seconds of a gradient by cells, steps and shots, and memory by surface and steps."""
    found: dict[str, Any] = {}
    for what, row in GROWTH.items():
        found[what] = []
        for case in kit.progress(row, f"seconds by {what}"):
            folder = results.path(f"cases/growth-{what}")
            write(case.arrays(), folder)
            job = case.job(4, threads=kit.cores(), device=options.device, patience=options.patience, repeats=7)
            figures = work(results, folder, OURS, "gradient", {**job, "measure": "time"})
            if "error" in figures:
                raise kit.UserError(f"{case.name}: {figures['error']}")
            size = {"cells": case.updates / case.nt / case.shots, "steps": case.nt, "shots": case.shots}[what]
            found[what].append((size, statistics.median(figures["seconds"])))
    found["memory"] = []
    for n in kit.progress(SIDES, "memory"):
        for nt in STEPS:
            case = Case(f"{n} x {n}, {nt} steps", "acoustic", (n, n), 1, nt)
            job = case.job(4, threads=1, device=options.device)
            found["memory"].append((n, nt, side_jaxfwi.temporary_bytes(job, case.arrays())))
    results.write_json("growth.json", found)


if __name__ == "__main__":
    kit.main(main, Options)
