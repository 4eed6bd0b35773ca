"""The same survey on one device, on several and on several processes: data in batches, then FWI by mini-batches.

    python experiments/distributed/run.py --preset quick

Stages: `make` writes models and settings, `model` the data and `invert` the inversion of each configuration, in
processes of its own, since jax must know its devices when it starts; `compare` makes the figures and tables.
"""

import dataclasses
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import jax
import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jaxfwi as jf
import kit

Array = np.ndarray
Name = Literal["1_device", "2_devices", "4_devices", "2_processes"]
Task = Literal["model", "invert"]

LAUNCH = Path(__file__).resolve().parents[1] / "launch.py"
FIGURES = ("result", "data", "gradients", "misfits")
ROUNDING = 1e-6  # relative, float32: what data, the first misfit and the first gradient may differ by


@dataclass(frozen=True)
class Configuration:
    """What a run is spread over."""

    devices: int | None = None  # of each process; None for all that jax finds
    processes: int | None = 1  # None where srun starts them


CONFIGURATIONS = {
    "1_device": Configuration(1),
    "2_devices": Configuration(2),
    "4_devices": Configuration(4),
    "2_processes": Configuration(1, processes=2),
    "cluster": Configuration(processes=None),
}


@dataclass(frozen=True)
class Options(kit.Options):
    """Modelling in batches and FWI by mini-batches on 1, 2 and 4 devices and on two processes: equality and cost.
    Preset quick takes about 2 minutes on 2 cores, full hours."""

    out: Path = Path("runs/distributed")
    """The output folder."""
    configurations: tuple[Name, ...] | None = None
    """What to run on, the first for the others to be compared with; by default all."""
    iterations: int | None = None
    """Of the inversion, instead of the preset's."""
    batch: int | None = None
    """Shots at once on a device, 1 by default: more suit a GPU."""


@dataclass(frozen=True, kw_only=True)
class Case(kit.Inversion):
    """What is computed, in one band."""

    rates: tuple[float, ...] = (25.0,)
    start_smoothing: float | None = 300.0
    shots: int = 87
    receivers: int = 128  # of a shot
    batches: int = 10  # that the survey is modelled in
    shots_per_iteration: int = 20
    batch: int = 1  # shots at once on a device
    configurations: tuple[str, ...] = ("1_device", "2_devices", "4_devices", "2_processes")

    def fitted(self, true: Array, start: Array, options: Any) -> "Case":
        """The case for these models, with what the command line says."""
        for name in ("iterations", "batch"):
            value = getattr(options, name)
            if value is not None and value < 1:
                raise kit.UserError(f"--{name} must be at least 1, got {value}.")
        case = dataclasses.replace(
            self,
            iterations=self.iterations if options.iterations is None else (options.iterations,),
            batch=options.batch or self.batch,
            configurations=options.configurations or self.configurations,
            receivers=min(self.receivers, self.shape[1]),
        )
        return super(Case, case).fitted(true, start, options)


PRESETS = {
    "tiny": Case((24, 60), 50.0, iterations=(3,), frequencies=(3.0,), shots=7, receivers=20, batches=3,
                 shots_per_iteration=5, duration=1.2, order=4),
    "quick": Case((58, 188), 60.0, iterations=(10,), frequencies=(3.0,), receivers=94, rates=(40.0,)),
    "full": Case((173, 561), 20.0, iterations=(100,), frequencies=(4.0,)),
}  # fmt: skip


def main(options: Options) -> None:
    begin = time.perf_counter()
    every = options.stage == "all"  # then a worker does both tasks, one after the other
    stages = {
        "make": make,
        "model": partial(work, tasks=("model", "invert") if every else ("model",)),
        "invert": partial(work, tasks=() if every else ("invert",)),
        "compare": compare,
    }
    kit.run(options, PRESETS, stages)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(u.ru_utime + u.ru_stime for u in usage)
    print(f"{time.perf_counter() - begin:.0f} seconds, {cpu:.0f} of processor time. Results are in {options.out}.")


def make(case: Case, results: kit.Results) -> None:
    """What an earlier run left goes; and what cannot be simulated is said before workers start."""
    remove(results, "model", "invert")
    simulator, survey = acquisition(case)
    simulator.admit(jf.Acoustic(vp=kit.scene(case, results).true["vp"]), survey)


def remove(results: kit.Results, *tasks: Task) -> None:
    """What earlier runs of these tasks left, and what was made of it."""
    results.remove("final_vp.npy", "summary.json", "table.md", *(f"figures/{name}.png" for name in FIGURES))
    for n in CONFIGURATIONS:
        results.remove(f"{n}.log", f"invert_{n}_*.json", f"gradient_{n}.npy", f"final_vp_{n}.npy")
        if "model" in tasks:
            results.remove(f"model_{n}_*.json", f"observed_{n}.npy")
    results.remove("metrics.jsonl")


def acquisition(case: Case) -> tuple[jf.Simulator, jf.Survey]:
    """Shots along the top, and receivers every so many columns about the middle."""
    grid, spacing, columns = case.grid(), case.spacing, case.shape[1]
    every = max(1, (columns - 1) // max(1, case.receivers - 1))
    first = (columns - 1 - every * (case.receivers - 1)) // 2
    survey = jf.Survey.fixed_spread(
        source_x=np.linspace(1, columns - 2, case.shots).round() * spacing,
        source_z=spacing,
        receiver_x=(first + every * np.arange(case.receivers)) * spacing,
        receiver_z=spacing,
        wavelet=jf.ricker(grid, case.frequencies[0]),
    )
    return jf.Simulator(grid, case.order, jf.CPML(20)), survey


def work(case: Case, results: kit.Results, tasks: Sequence[Task]) -> None:
    """Start the workers of each configuration, one configuration after another."""
    if not tasks:
        return
    remove(results, *tasks)
    bar = kit.progress(case.configurations, " and ".join(tasks))
    for name in bar:
        bar.set_postfix_str(name)
        processes = CONFIGURATIONS[name].processes or 1
        launch = [str(LAUNCH), "--processes", str(processes)] if processes > 1 else []
        log = results.path(f"{name}.log")
        with log.open("w", encoding="utf-8") as file:
            done = subprocess.run(
                [sys.executable, *launch, __file__, "worker", name, str(results.folder), *tasks],
                env=os.environ | kit.PeakMemory.RETURN_MEMORY,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            said = log.read_text(encoding="utf-8").strip().splitlines() or ["killed, perhaps for want of memory"]
            raise kit.UserError(f"{name} failed (exit {done.returncode}), see {log}. It ends on: {said[-1]}")


def worker(name: str, results: kit.Results, tasks: Sequence[str]) -> None:
    """One process of a configuration. Each of them makes the same calls."""
    configuration = CONFIGURATIONS[name]
    if configuration.devices is not None:
        jax.config.update("jax_num_cpu_devices", configuration.devices)
    if configuration.processes != 1:
        jf.hosts.start()  # before anything that asks for devices
    devices = jax.devices()
    if configuration.processes == 1 and configuration.devices is not None:
        if len(devices) < configuration.devices:
            raise kit.UserError(
                f"{name} needs {configuration.devices} devices and jax has {len(devices)} ({devices[0].platform}): "
                "choose others by --configurations."
            )
        devices = devices[: configuration.devices]
    case = kit.read_config(results, Case)
    for task in tasks:
        begin = time.process_time()
        cost = {"model": model, "invert": invert}[task](case, results, name, devices)
        cost |= {"devices": len(devices), "processes": jax.process_count()}
        cost |= {"cpu_seconds": time.process_time() - begin}
        results.write_json(f"{task}_{name}_{jax.process_index()}.json", cost)
        jf.hosts.wait(f"{task} is done")


def model(case: Case, results: kit.Results, name: str, devices: list) -> dict[str, Any]:
    """Model the survey in batches into one file, of which each process writes the shots of its share."""
    simulator, survey = acquisition(case)
    true = jf.Acoustic(vp=kit.scene(case, results).true["vp"])
    on = jf.On(devices=jax.local_devices() if jax.process_count() > 1 else devices, batch=case.batch)
    groups = [group for group in np.array_split(jf.hosts.share(len(survey)), case.batches) if len(group)]

    sizes: dict[int, Array] = {}  # a program is compiled for each
    for group in groups:
        sizes.setdefault(len(group), group)
    firsts = list(sizes.values())
    later = [group for group in groups if not any(group is first for first in firsts)]

    begin = time.perf_counter()
    compiled = [jf.Problem(simulator, survey[g], on=on).memory(true, gradient=False).total for g in firsts]
    cost: dict[str, Any] = {"compile_seconds": time.perf_counter() - begin, "compiled_bytes": max(compiled, default=0)}

    unfinished = results.path(f"unfinished_{name}.npy")
    shape = (len(survey), simulator.grid.nt, survey.receiver.shape[1], 1)
    if jax.process_index() == 0:
        np.lib.format.open_memmap(unfinished, "w+", np.float32, shape).flush()
    jf.hosts.wait("the file is there")
    offset = np.load(unfinished, mmap_mode="r").offset
    seconds: list[float] = []
    with unfinished.open("r+b") as file:

        def write(group: Array) -> None:
            begin = time.perf_counter()
            data = np.asarray(jf.simulate(simulator, true, survey[group], on=on))
            file.seek(offset + int(group[0]) * data[0].nbytes)
            data.tofile(file)
            seconds.append(time.perf_counter() - begin)

        for group in firsts:
            write(group)
        with kit.PeakMemory(mapped_files=False) as memory:
            for group in later:
                write(group)
    jf.hosts.wait("the file is written")
    if jax.process_index() == 0:
        os.replace(unfinished, results.path(f"observed_{name}.npy"))
    jf.hosts.wait("the file has its name")
    return cost | {"seconds": sum(seconds), "peak_bytes": memory.added if later else None}


def invert(case: Case, results: kit.Results, name: str, devices: list) -> dict[str, Any]:
    """FWI by mini-batches over all devices; process 0 writes what came out."""
    simulator, survey = acquisition(case)
    scene = kit.scene(case, results)
    observed = results.load(f"observed_{name}.npy", "model", mapped=True)
    start, size = jf.Acoustic(vp=scene.start["vp"]), min(case.shots_per_iteration, len(survey))
    on = jf.On(devices=devices, batch=case.batch)

    begin = time.perf_counter()
    compiled = jf.Problem(simulator, survey[np.arange(size)], on=on).memory(start).total
    cost: dict[str, Any] = {"compile_seconds": time.perf_counter() - begin, "compiled_bytes": compiled}
    cost["accumulation_steps"] = math.ceil(size / (len(devices) * case.batch))

    states = jf.invert(
        jf.Problem(simulator, survey, observed, on=on), start, stages=[case.band(0, len(survey))], **scene.limits
    )
    seconds: list[float] = []

    def iterate() -> jf.InversionState | None:
        begin = time.perf_counter()
        state = next(states, None)
        if state is not None:
            jax.block_until_ready(state.model)
            seconds.append(time.perf_counter() - begin)
            if jax.process_index() == 0:
                values = {"misfit": np.asarray(state.misfit).item(), "seconds": seconds[-1]}
                values["model_error"] = scene.errors({"vp": state.model.vp})["vp"]
                results.add_metrics(configuration=name, iteration=state.iteration, **values)
        return state

    state = iterate()
    assert state is not None
    if jax.process_index() == 0:
        results.write_array(f"gradient_{name}.npy", state.gradient.vp)
    cpu = time.process_time()
    with kit.PeakMemory(mapped_files=False) as memory:
        while (after := iterate()) is not None:
            state = after
    cpu = time.process_time() - cpu
    if jax.process_index() == 0:
        results.write_array(f"final_vp_{name}.npy", state.model.vp)
    later = seconds[1:]
    if later:
        cost |= {"seconds": median(later), "cpu": cpu / len(later)}
    return cost | {"first_seconds": seconds[0], "peak_bytes": memory.added if later else None}


def compare(case: Case, results: kit.Results) -> None:
    """Figures, tables and summary.json."""
    names = [*case.configurations, *(n for n in CONFIGURATIONS if n not in case.configurations)]
    names = [n for n in names if results.path(f"invert_{n}_0.json").exists()]
    if not names:
        raise kit.UserError(f"{results.folder} has no inversion: run --stage invert first, with the same --out.")
    scene, reference = kit.scene(case, results), names[0]
    metrics = {n: {m["iteration"]: m for m in results.metrics() if m["configuration"] == n} for n in names}
    misfits = {n: np.array([m["misfit"] for _, m in sorted(metrics[n].items())]) for n in names}
    observed, gradients, finals = {}, {}, {}
    for n in names:
        observed[n] = results.load(f"observed_{n}.npy", "model", mapped=True)
        gradients[n] = results.load(f"gradient_{n}.npy", "invert")
        finals[n] = results.load(f"final_vp_{n}.npy", "invert")
    results.write_array("final_vp.npy", finals[reference])

    costs = {n: {task: gather_costs(results, task, n) for task in ("model", "invert")} for n in names}
    labels = {n: label(costs[n]["invert"]) for n in names}
    differences = {
        n: {
            "data": data_difference(observed[n], observed[reference]),
            "first misfit": abs(float(misfits[n][0] / misfits[reference][0] - 1)),
            "first gradient": kit.difference(gradients[n], gradients[reference]),
            "last misfit": abs(float(misfits[n][-1] / misfits[reference][-1] - 1)),
            "final model": kit.difference(finals[n], finals[reference]),
        }
        for n in names
    }
    equal = all(d[what] < ROUNDING for d in differences.values() for what in ("data", "first misfit", "first gradient"))

    simulator, survey = acquisition(case)
    middle = len(survey) // 2
    shots = {"observed": np.asarray(observed[reference][middle])}
    for what, vp in (("start", scene.start["vp"]), ("result", finals[reference])):
        shots[what] = np.asarray(jf.simulate(simulator, jf.Acoustic(vp=vp), survey[[middle]])[0])
    residual = {what: float(np.linalg.norm(shots[what] - shots["observed"])) for what in ("start", "result")}
    inversion = {
        "model error at the start, %": scene.errors(scene.start)["vp"],
        "model error at the end, %": scene.errors({"vp": finals[reference]})["vp"],
        "middle shot, residual at the end / start": residual["result"] / residual["start"],
        "gradients of one shot": len(misfits[reference]) * min(case.shots_per_iteration, len(survey)),
    }
    text = tables(names, labels, costs, differences, inversion)
    results.write_text("table.md", text)
    results.write_json(
        "summary.json",
        {
            "environment": kit.environment(),
            "reference": reference,
            f"equal to {ROUNDING:g}": equal,
            "differences": differences,
            "costs": costs,
            **inversion,
        },
    )

    images = {"true": scene.true["vp"], "start": scene.start["vp"], "result": finals[reference]}
    kit.draw_models(results, images, case.cells)
    gathers, receiver_x = {k: x[..., 0] for k, x in shots.items()}, np.asarray(survey.receiver[middle, :, 1])
    kit.draw_residuals(results, gathers, simulator.grid, receiver_x, f"the middle shot at {case.names[0]}")
    named = {labels[n]: gradients[n] for n in names}
    title = "Gradient of the first iteration"
    unit = "misfit units per m/s"
    gradient = jf.plot.compare(named, case.cells, labels[reference], symmetric=True, title=title, label=unit)
    results.write_figure("gradients", gradient)
    draw_misfits(results, {labels[n]: misfits[n] for n in names})
    print(text)
    if not equal:
        print(f"Data, first misfit or first gradient differ by more than {ROUNDING:g}.")
    for name in FIGURES:
        print(results.path(f"figures/{name}.png"))


def gather_costs(results: kit.Results, task: str, name: str) -> dict[str, Any]:
    """Of all processes: the longest time and the largest memory of one, and the sum of the processors' time."""
    results.need(f"{task}_{name}_0.json", task)
    processes = results.read_json(f"{task}_{name}_0.json")["processes"]
    each = [results.read_json(results.need(f"{task}_{name}_{i}.json", task).name) for i in range(processes)]
    together: dict[str, Any] = {}
    for key in each[0]:
        values = [cost[key] for cost in each if cost.get(key) is not None]
        together[key] = (sum if key in ("cpu", "cpu_seconds") else max)(values) if values else None
    return together


def label(cost: dict[str, Any]) -> str:
    """What a configuration is called where people read it."""
    devices, processes = cost["devices"], cost["processes"]
    if processes == 1:
        return f"{devices} device{'s' * (devices > 1)}"
    return f"{processes} processes" + (f", {devices} devices" if devices != processes else "")


def data_difference(ours: Array, reference: Array) -> float:
    """`kit.difference` of two surveys, a shot at a time."""
    norms = [
        (np.linalg.norm(np.asarray(a, np.float64) - b), np.linalg.norm(np.asarray(b, np.float64)))
        for a, b in zip(ours, reference, strict=True)
    ]
    return float(np.hypot.reduce([n for n, _ in norms]) / np.hypot.reduce([n for _, n in norms]))


def tables(
    names: Sequence[str],
    labels: dict[str, str],
    costs: dict[str, dict[str, Any]],
    differences: dict[str, dict[str, float]],
    inversion: dict[str, float],
) -> str:
    """The summary as Markdown."""

    def number(value: float | None, digits: str = ".2f", factor: float = 1.0) -> str:
        return "-" if value is None else format(factor * value, digits)

    head = ["", "accumulation steps", "modelling (s)", "an iteration (s)", "its processor time (s)", "compiling (s)"]
    head += ["memory, modelling (MB)", "memory, inversion (MB)", "as compiled, a device (MB)"]
    rows = []
    for n in names:
        model, invert = costs[n]["model"], costs[n]["invert"]
        row = [labels[n], str(invert["accumulation_steps"]), number(model["seconds"])]
        row += [number(invert.get("seconds")), number(invert.get("cpu"))]
        row += [number(model["compile_seconds"] + invert["compile_seconds"], ".1f")]
        row += [number(bytes, ".1f", 1e-6) for bytes in (model["peak_bytes"], invert["peak_bytes"])]
        rows.append([*row, number(invert["compiled_bytes"], ".1f", 1e-6)])
    cost = kit.table(head, rows)
    head = ["relative difference", *differences[names[0]]]
    rows = [[labels[n], *(f"{x:.1e}" if x else "0" for x in differences[n].values())] for n in names[1:]]
    equality = kit.table([f"{head[0]} from {labels[names[0]]}", *head[1:]], rows) if rows else ""
    found = kit.table(["", "value"], [[name, f"{value:.4g}"] for name, value in inversion.items()])
    return "\n\n".join(part for part in (cost, equality, found) if part) + "\n"


def draw_misfits(results: kit.Results, misfits: dict[str, Array]) -> None:
    """All configurations on top of each other, and what they differ by."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    reference = next(iter(misfits))
    for i, (name, misfit) in enumerate(misfits.items()):
        iterations = np.arange(1, len(misfit) + 1)
        width = 1.5 + 2.5 * (len(misfits) - 1 - i)  # the first broadest, so that all are seen
        left.semilogy(iterations, misfit / misfits[reference][0], lw=width, label=name)
        if name != reference:
            change = np.abs(misfit / misfits[reference][: len(misfit)] - 1)
            look: dict[str, Any] = {"color": f"C{i}", "lw": width, "ms": 3 + width}
            right.semilogy(iterations, np.where(change > 0, change, np.nan), "o-", **look, label=name)
    left.set(xlabel="iteration", ylabel="misfit of the mini-batch / the first", title="Misfit")
    right.set(
        xlabel="iteration", ylabel="relative difference (gaps: 0)", title=f"Difference of the misfit from {reference}"
    )
    right.axhline(float(np.finfo(np.float32).eps), color="grey", ls=":", label="spacing of float32")
    low, high = right.get_ylim()
    right.set_ylim(min(low, 1e-8), max(10 * high, 1e-5))  # with room for the legend
    for ax in (left, right):
        ax.grid(alpha=0.3)
        ax.legend(loc="upper right")
    results.write_figure("misfits", figure)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        with kit.ending_on_errors():
            worker(sys.argv[2], kit.Results(sys.argv[3]), sys.argv[4:] or ["model", "invert"])
    else:
        kit.main(main, Options)
