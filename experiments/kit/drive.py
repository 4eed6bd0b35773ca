"""What runs: an experiment's stages, the modelling of its data, and inversions that go on where they were left."""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
import tyro

import jaxfwi as jf
from kit.case import Array, Case, Models, Options, Scene, models_of, read_config
from kit.draw import draw_progress, draw_residuals
from kit.measure import PeakMemory, environment, use_compilation_cache
from kit.results import Results, UserError, ending_on_errors, table, user_errors

T = TypeVar("T")
LEFT_BY_RUNS = (
    "metrics*.jsonl", "observed*.npy", "final_*.npy", "cost*.json", "summary.json", "figures/*.png", "figures/*.gif",
    "saved*/*", "true_*.npy", "start_*.npy", "residual*.npy",
)  # fmt: skip


def main(run: Callable[[T], object], options: type[T], devices: int | None = None) -> None:
    """Read the command line into `options`, a dataclass, and call ``run(options)``; a UserError ends with status 2.
    Processors are so many devices, if a number is given."""
    if devices is not None:
        jax.config.update("jax_num_cpu_devices", devices)
    with ending_on_errors():
        run(tyro.cli(options, description=options.__doc__))


def run(
    options: Any,
    presets: Mapping[str, Any],
    stages: Mapping[str, Callable[[Any, Results], object]],
    more_models: Callable[[Any, Array, Array], Models] | None = None,
) -> None:
    """The stages that the command line asks for, each called with the case and the results.

    Args:
        options: the command line, an `Options`.
        presets: cases by their names.
        stages: by their names, in order. Stage make comes first in any case; one of this name is what comes after it,
            where it has made something.
        more_models: ``more_models(options, true, start)`` are the models beside these two of the P-wave velocity, such
            as ``{"true_vs": ..., "start_vs": ...}``.
    """
    results = Results(options.out)
    use_compilation_cache(results.folder.parent / ".jax_cache")
    settings = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.name not in ("out", "stage")}
    given = [f"--{name.replace('_', '-')}" for name, value in settings.items() if value is not None]
    if options.stage not in ("make", "all") and given:
        raise UserError(f"stage {options.stage} has its settings from stage make: leave out {given[0]}.")
    case = presets[options.preset or "quick"]
    with user_errors():
        made = options.stage in ("make", "all") and make(options, case, results, more_models)
        for name, stage in stages.items():
            if made if name == "make" else options.stage in (name, "all"):
                stage(read_config(results, type(case)), results)


def make(
    options: Options, case: Case, results: Results, more_models: Callable[[Any, Array, Array], Models] | None = None
) -> bool:
    """The true and the starting model, and the resolved configuration. What an interrupted run of the same has left
    stays, so that it goes on, and nothing is made; what a finished one has left goes."""
    true, start, case = models_of(options, case)
    models = {"true_vp": true, "start_vp": start, **(more_models(options, true, start) if more_models else {})}
    files = {f"{k}_file": value for k, value in vars(options).items() if isinstance(value, Path) and k != "out"}
    config = {"preset": options.preset or "quick", **files, **dataclasses.asdict(case)}
    interrupted = results.path("config.json").exists() and not results.path("summary.json").exists()
    same = interrupted and results.same_json("config.json", config)
    if same and all(results.same_array(f"{name}.npy", model) for name, model in models.items()):
        return False
    results.remove(*LEFT_BY_RUNS)
    for name, model in models.items():
        results.write_array(f"{name}.npy", model)
    results.write_json("config.json", config)
    return True


def progress(items: Iterable[T], what: str, total: int | None = None) -> "tqdm.tqdm[T]":
    """`items` with a bar on the terminal that shows the time left."""
    return tqdm.tqdm(items, desc=what, total=total, file=sys.stderr, dynamic_ncols=True)


def observe(
    results: Results, name: str, simulator: jf.Simulator, model: Any, survey: jf.Survey, shots: int = 8
) -> None:
    """Model the data ``name``, some shots at a time with a bar, unless an interrupted run has left them."""
    if results.path(name).exists():
        return
    parts = [np.arange(i, min(i + shots, len(survey))) for i in range(0, len(survey), shots)]
    data = [
        np.asarray(jf.simulate(simulator, model, survey[part], on=jf.On(devices=min(len(jax.devices()), len(part)))))
        for part in progress(parts, f"modelling {name.removesuffix('.npy')}")
    ]
    results.write_array(name, np.concatenate(data))


def invert(
    results: Results,
    scene: Scene,
    problems: Sequence[tuple[jf.Problem, list[jf.Stage]]],
    start: Any,
    label: str = "",
    measure: Callable[[Models], dict[str, float]] | None = None,
    pictures: int = 25,
    **options: Any,
) -> Models:
    """`jf.invert`, once or several times in a row, with a bar, a line of metrics an iteration, and a picture now and
    then. If it was interrupted it goes on after the last iteration, and ends as if it had not been; if it had ended,
    nothing is done.

    Args:
        results: the folder.
        scene: the case and its models.
        problems: with their stages, each inverted from where the one before ended. Several are needed where the data
            change, as with the wavelet.
        start: of the first.
        label: of this inversion, where an experiment has several.
        measure: what metrics say of models beside the misfit; by default the scene's errors. The bar shows those that
            have the parameters' names.
        pictures: iterations from one to the next.
        options: more arguments of `jf.invert`.

    Returns:
        The final models.
    """
    suffix = f"_{label}" if label else ""
    log, lines = f"metrics{suffix}.jsonl", results.metrics(f"metrics{suffix}.jsonl")
    final = {name: f"final_{name}{suffix}.npy" for name in scene.true}
    if all(results.path(file).exists() for file in final.values()):
        return {name: results.load(file, "invert") for name, file in final.items()}
    bar = progress(range(sum(scene.case.iterations)), f"inverting {label}".strip())
    unknowns, models, before, first = start, {}, {}, 0
    with PeakMemory() as memory:
        for number, (problem, stages) in enumerate(problems):
            folder = f"saved{suffix}" + (f"_{number}" if len(problems) > 1 else "")
            save = jf.SaveTo(results.path(folder), config=dataclasses.asdict(scene.case))
            begin, last = time.perf_counter(), first
            for state in jf.invert(problem, unknowns, stages=stages, save=save, **options):
                unknowns = state.unknowns
                models = {name: np.asarray(getattr(state.model, name)) for name in scene.true}
                iteration, stage, now = first + state.iteration, stages[state.stage].name, time.perf_counter()
                saved = last == first and iteration <= len(lines)  # by a run that was interrupted, and in its metrics
                if saved or iteration > last + 1:
                    bar.initial = bar.n = iteration - (not saved)  # for the time left: these took none
                if not saved:
                    errors = (measure or scene.errors)(models)
                    line = {"iteration": iteration, "stage": stage, "misfit": float(np.asarray(state.misfit))}
                    lines = [*lines[: iteration - 1], line | {"seconds": now - begin} | errors]
                    results.write_metrics(log, lines)
                    shown = ", ".join(f"{name} {errors[name]:.2f} %" for name in models)
                    bar.set_postfix_str(f"{stage}, error {shown}", refresh=False)
                    if iteration % pictures == 0 and before:
                        draw_progress(results, scene, models, before, state, iteration, suffix)
                bar.update(iteration - bar.n)
                before, last, begin = models, iteration, now
            first = last
    bar.close()
    results.write_json(f"cost{suffix}.json", {"peak_memory_bytes": memory.added})
    for name, file in final.items():
        results.write_array(file, models[name])
    return models


def cost_of(results: Results, metrics: list[dict[str, Any]], suffix: str = "") -> dict[str, float]:
    """What an inversion took, for ``summary.json``."""
    peak = results.read_json(f"cost{suffix}.json")["peak_memory_bytes"]
    seconds = sum(m["seconds"] for m in metrics)
    return {"seconds of the inversion": seconds, "peak memory of the inversion, MB": peak / 1e6}


def compare_data(
    results: Results,
    simulator: jf.Simulator,
    survey: jf.Survey,
    observed: Array,
    models: Mapping[str, jf.WaveEquation],
    what: str = "",
    suffix: str = "",
    some: int = 5,
    devices: Any = 1,
) -> float:
    """``data.png``, of the middle shot, or ``data_vx.png`` and so on of receivers with several components.

    What the result leaves of the middle shot is kept as ``residual.npy``.

    Args:
        results: the folder.
        simulator, survey, observed: the data.
        models: those named "start" and "result".
        what: is written beside the shot, as the frequency.
        suffix: of the files' names.
        some: shots, spread over the survey, that are modelled.
        devices: that do it.

    Returns:
        The misfit of these shots in the result as a part of the start's.
    """
    chosen = np.unique(np.linspace(0, len(survey) - 1, min(some, len(survey))).round().astype(int))
    middle = len(chosen) // 2
    data, on = np.stack([observed[i] for i in chosen]), jf.On(devices=devices)
    predicted = {k: np.asarray(jf.simulate(simulator, m, survey[chosen], on=on)) for k, m in models.items()}
    gathers = {"observed": data[middle], **{name: x[middle] for name, x in predicted.items()}}
    receiver_x = np.asarray(survey.receiver[chosen[middle], :, 1])
    fields = simulator.fields(type(models["start"]))[1]
    for i, field in enumerate(fields):
        name, of = ("data", "") if len(fields) == 1 else (f"data_{field}", f"{field} of ")
        of_field = {k: x[..., i] for k, x in gathers.items()}
        draw_residuals(results, of_field, simulator.grid, receiver_x, f"{of}the middle shot{what}", f"{name}{suffix}")
    results.write_array(f"residual{suffix}.npy", gathers["observed"] - gathers["result"])
    misfits = {name: float(jf.misfits.l2(jnp.asarray(x), jnp.asarray(data))) for name, x in predicted.items()}
    return misfits["result"] / misfits["start"]


def finish(results: Results, figures: dict[str, Any]) -> None:
    """Write ``summary.json`` and print its table and the figures' paths. Of several inversions, `figures` holds those
    of each by its label; they stand side by side in the table."""
    results.write_json("summary.json", {"environment": environment(), **figures})
    several = all(isinstance(column, dict) for column in figures.values())
    columns = figures if several else {"value": figures}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [[name, *(f"{c[name]:.4g}" if name in c else "" for c in columns.values())] for name in names]
    print(table(["", *columns], rows))
    for path in sorted(results.path("figures").iterdir()):
        print(path)
