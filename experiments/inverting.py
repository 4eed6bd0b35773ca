"""What the experiments of encoded inversion share: a fixed spread over a sea, an inversion that goes on where it was
left, and how its results are measured and shown.

The survey is that of Seistorch's documents: 93 sources and 461 receivers near the surface, a Ricker wavelet of 5 Hz,
records of 4 s, a start that is linear in depth below the sea bed.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

import common
import jaxfwi as jf

Array = np.ndarray
Models = dict[str, Array]  # by the name of the parameter
STRENGTH = 1e4  # of the sources: with weaker ones the gradients would not stand above the 1e-8 that Adam adds to them
PARTS = {"upper": (0.0, 0.376), "middle": (0.376, 0.711), "lower": (0.711, 1.0)}  # of the depth below the sea bed


@dataclass(frozen=True)
class Options:
    """The command line."""

    out: Path
    """The output folder."""
    preset: Literal["tiny", "quick", "full"] | None = None
    """How much to compute: tiny to see that it runs; quick, the default; full."""
    stage: Literal["make", "model", "invert", "compare", "all"] = "all"
    """Make the models; model the data; invert; compare. Each reads what the one before wrote in the output folder. An
    inversion that was interrupted goes on when it is called again."""
    vp: Path | None = None
    """A .npy file with the true P-wave velocity in m/s, (depth, distance); by default a Marmousi-like section."""
    start: Path | None = None
    """A .npy file with the starting model; by default linear in depth below the sea bed."""
    spacing: float | None = None
    """Metres between the cells of your model."""


@dataclass(frozen=True)
class Case:
    """What is computed; lengths in metres."""

    shape: tuple[int, int]  # of the section, where no file is given
    spacing: float
    shots: int
    iterations: tuple[int, ...]  # of each scale
    rates: tuple[float, ...]  # Adam's first step in each scale, m/s
    last_rates: tuple[float, ...] = (1.0,) * 4  # of a scale, as a part of its first; between them half a cosine
    scales: tuple[float, ...] = (1.0, 3.0, 5.0, 0.0)  # corner of the low-pass in Hz, 0 for all frequencies
    tilt: float = 0.0  # power of frequency that data are divided by above half a Hz
    smoothing: tuple[float, ...] = (0.0,) * 4  # of gradients in each scale, standard deviation
    levels: tuple[tuple[float, ...], ...] = ()  # in each scale, lengths of which each has an Adam; by default one Adam
    shares: tuple[float, ...] = ()  # of the rate, by level
    shots_per_iteration: int = 10
    receiver_step: int = 1  # columns from one receiver to the next
    margin: float = 1000.0  # on either side, without shots and receivers, where no error is measured
    depth: float = 40.0  # of shots and receivers
    frequency: float = 5.0  # of the Ricker wavelet, Hz
    water_depth: float | None = None  # of the section, where no file is given; by default 9 % of its depth
    duration: float = 4.0  # of the records, s
    order: int = 4
    slowest: float = 0.0  # bounds of the inversion, m/s, set by stage make: the models' extremes and 5 % more
    fastest: float = 0.0  # the time step is chosen for it

    @property
    def names(self) -> tuple[str, ...]:
        """One for each scale."""
        return tuple(f"up to {corner:g} Hz" if corner else "all frequencies" for corner in self.scales)

    def evaluated(self, fixed: Array) -> dict[str, Array]:
        """The cells below the sea bed between the margins, whole and by depth."""
        rows, columns = self.shape
        edge = round(self.margin / self.spacing)
        inside = np.zeros(self.shape, bool)
        inside[:, edge : columns - edge] = True
        inside &= ~fixed
        bed = int(np.argmin(fixed.all(axis=1)))  # the first row that has rock
        depth = (np.arange(rows)[:, None] - bed) / (rows - bed)
        return {"whole": inside} | {k: inside & (depth >= a) & (depth < b) for k, (a, b) in PARTS.items()}


C = TypeVar("C", bound=Case)
G = TypeVar("G", bound=Options)


@dataclass(frozen=True)
class Scene:
    """The models, and the cells that are known and not inverted for."""

    true: Models
    start: Models
    fixed: Array

    def errors(self, case: Case, models: Models) -> dict[str, float]:
        """Relative L2 errors in per cent, such as ``{"vp": 12.3, "vp upper": ...}``."""
        cells = case.evaluated(self.fixed)
        return {
            name if part == "whole" else f"{name} {part}": common.model_error(models[name], self.true[name], where)
            for name in self.true
            for part, where in cells.items()
            if where.any()
        }


def run(
    options: G,
    presets: dict[str, C],
    stages: dict[str, Callable[[C, common.Results], None]],
    more_models: Callable[[G, Array, Array], Models] | None = None,
) -> None:
    """The stages that the command line asks for: `stages` come after make. ``more_models(options, true, start)`` are
    the models beside these two of the P-wave velocity, such as ``{"true_vs": ..., "start_vs": ...}``."""
    results = common.Results(options.out)
    common.use_compilation_cache(results.folder.parent / ".jax_cache")
    settings = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.name not in ("out", "stage")}
    given = [f"--{name.replace('_', '-')}" for name, value in settings.items() if value is not None]
    if options.stage not in ("make", "all") and given:
        raise common.UserError(f"stage {options.stage} has its settings from stage make: leave out {given[0]}.")
    case = presets[options.preset or "quick"]
    with common.user_errors():
        if options.stage in ("make", "all"):
            make(options, case, results, more_models)
        for name, stage in stages.items():
            if options.stage in (name, "all"):
                stage(common.read_config(results, type(case)), results)


def make(
    options: G,
    case: Case,
    results: common.Results,
    more_models: Callable[[G, Array, Array], Models] | None = None,
) -> None:
    """The true and the starting model, and the resolved configuration. What an interrupted run of the same has left
    stays, so that it goes on; what a finished one has left goes."""
    true, start, spacing = common.true_and_start(options, case.shape, case.spacing, None, case.water_depth)
    models = {"true_vp": true, "start_vp": start, **(more_models(options, true, start) if more_models else {})}
    slowest, fastest = min(true.min(), start.min()), max(true.max(), start.max())
    case = dataclasses.replace(
        case, shape=true.shape, spacing=spacing, slowest=0.95 * float(slowest), fastest=1.05 * float(fastest)
    )
    files = {
        f"{name}_file": value for name, value in vars(options).items() if isinstance(value, Path) and name != "out"
    }
    config = {"preset": options.preset or "quick", **files, **dataclasses.asdict(case)}
    left = results.path("config.json")
    interrupted = left.exists() and not results.path("summary.json").exists()
    if interrupted and results.same_json("config.json", config) and all(_holds(results, *m) for m in models.items()):
        return
    results.remove("metrics*.jsonl", "observed*.npy", "final_*.npy", "cost*.json", "summary.json", "figures/*.png")
    results.remove("checkpoints*/*", "true_*.npy", "start_*.npy", "residual*.npy")
    for name, model in models.items():
        results.write_array(f"{name}.npy", model)
    results.write_json("config.json", config)


def _holds(results: common.Results, name: str, array: Array) -> bool:
    path = results.path(f"{name}.npy")
    return path.exists() and np.array_equal(np.load(path), array)


def scene(results: common.Results, *names: str) -> Scene:
    """The models of stage make: of the P-wave velocity, or of all parameters of these names."""
    true, start = (
        {name: np.load(results.need(f"{when}_{name}.npy", "make")) for name in names or ("vp",)}
        for when in ("true", "start")
    )
    return Scene(true, start, common.fixed_cells(true["vp"]))


def acquisition(case: Case, staggered: bool = False, **options: Any) -> tuple[jf.Simulator, jf.Survey]:
    """The simulator, with `options`, and the survey: shots and receivers in a line between the margins."""
    rough = jf.Grid(case.shape, case.spacing, dt=1.0, nt=1)
    dt = 0.9 * rough.stable_dt(case.fastest, case.order, staggered)
    grid = jf.Grid(case.shape, case.spacing, dt, nt=round(case.duration / dt))
    edge = round(case.margin / case.spacing)
    columns = np.arange(edge, case.shape[1] - edge, case.receiver_step)
    survey = jf.Survey.fixed_spread(
        source_x=np.linspace(columns[0], columns[-1], case.shots).round() * case.spacing,
        source_z=case.depth,
        receiver_x=columns * case.spacing,
        receiver_z=case.depth,
        wavelet=STRENGTH * jf.ricker(grid, case.frequency),
    )
    return jf.Simulator(grid, case.order, jf.CPML(20), **options), survey


def observe(
    results: common.Results, name: str, simulator: jf.Simulator, model: Any, survey: jf.Survey, shots: int = 8
) -> None:
    """Model the data ``name``, some shots at a time with a bar, unless an interrupted run has left them."""
    if results.path(name).exists():
        return
    parts = [np.arange(i, min(i + shots, len(survey))) for i in range(0, len(survey), shots)]
    data = [
        np.asarray(jf.simulate(simulator, model, survey[part], devices=min(len(jax.devices()), len(part))))
        for part in common.progress(parts, f"modelling {name.removesuffix('.npy')}")
    ]
    results.write_array(name, np.concatenate(data))


def observe_acoustic(case: Case, results: common.Results) -> None:
    """Stage model of an acoustic experiment: ``observed.npy`` in the true model."""
    simulator, survey = acquisition(case)
    observe(results, "observed.npy", simulator, jf.Acoustic(vp=jnp.asarray(scene(results).true["vp"])), survey)


def scales(case: Case, optimizer: Callable[[int], Any], **options: Any) -> list[jf.Stage]:
    """A stage for each scale; ``optimizer(scale)`` is that of the scale of this number."""

    def band(corner: float) -> Any:
        parts = [jf.filters.Butterworth(high=corner, order=3)] if corner else []
        parts += [jf.filters.Tilt(case.tilt)] if case.tilt else []
        return functools.reduce(lambda a, b: a * b, parts) if parts else None

    return [
        jf.Stage(
            iterations,
            optimizer(i),
            filter=band(corner),
            shots_per_iteration=min(case.shots_per_iteration, case.shots),
            name=name,
            **options,
        )
        for i, (iterations, corner, name) in enumerate(zip(case.iterations, case.scales, case.names, strict=True))
    ]


def rate(case: Case, scale: int, rates: tuple[float, ...]) -> optax.Schedule:
    """The step of a scale, m/s: the first is that of `rates`, and it falls as the case has it."""
    return optax.cosine_decay_schedule(rates[scale], case.iterations[scale], alpha=case.last_rates[scale])


def smoothing(case: Case, scale: int, fixed: Array) -> list[Any]:
    """The link of a scale's optimiser that smooths gradients below the sea bed, or none."""
    cells = case.smoothing[scale] / case.spacing
    return [jf.optimise.smooth(cells, keep=fixed)] if cells else []


def adam(case: Case, scale: int, fixed: Array) -> Any:
    """The optimiser of a scale: gradients smoothed, and Adam at the case's rate; or an Adam for each of several
    lengths, so that the model's long wavelengths, of which a cell's gradient says little, are found beside the short.
    """
    steps = rate(case, scale, case.rates)
    if not case.levels:
        return optax.chain(*smoothing(case, scale, fixed), optax.adam(steps))
    parts = []
    for length, share in zip(case.levels[scale], case.shares, strict=True):
        smooth = jf.optimise.smooth(length / case.spacing, keep=fixed)
        parts.append(optax.chain(smooth, optax.adam(steps), optax.scale(share), smooth))
    return jf.optimise.added(*parts)


def follow(
    invert: Callable[..., Iterator[jf.InversionState]],
    results: common.Results,
    case: Case,
    scene: Scene,
    stages: list[jf.Stage],
    label: str = "",
    pictures: int = 25,
    measure: Callable[[Models], dict[str, float]] | None = None,
) -> Models:
    """Run ``invert(stages=..., checkpoints=...)``, which goes on from its last checkpoint if it was interrupted, with a
    bar, a line of metrics an iteration, and a picture now and then.

    Args:
        invert: the rest of the arguments of `jf.invert`.
        results: the folder.
        case: what is computed.
        scene: for errors.
        stages: of the inversion.
        label: of this inversion, where an experiment has several.
        pictures: iterations from one to the next.
        measure: what else to write to the metrics of each iteration.

    Returns:
        The final models.
    """
    suffix = f"_{label}" if label else ""
    checkpoints = jf.Checkpoints(results.path(f"checkpoints{suffix}"), 1, dataclasses.asdict(case))
    total = sum(stage.iterations for stage in stages)
    log = f"metrics{suffix}.jsonl"
    bar = common.progress(range(total), f"inverting {label}".strip())
    before = None
    with common.PeakMemory() as memory:
        begin = time.perf_counter()
        for state in invert(stages=stages, checkpoints=checkpoints):
            if before is None:  # the first one may be that of a checkpoint: what comes after it is not known any more
                past = [m for m in results.metrics(log) if m["iteration"] <= state.iteration]
                results.write_text(log, "".join(json.dumps(line) + "\n" for line in past))
                bar.update(len(past))
                if past and past[-1]["iteration"] == state.iteration:
                    before = {name: np.asarray(getattr(state.model, name)) for name in scene.true}
                    begin = time.perf_counter()
                    continue
            models = {name: np.asarray(getattr(state.model, name)) for name in scene.true}
            errors, now = scene.errors(case, models), time.perf_counter()
            stage = stages[state.stage]
            results.add_metrics(
                log,
                iteration=state.iteration,
                stage=stage.name,
                misfit=float(np.asarray(state.misfit)),
                seconds=now - begin,
                **errors,
                **(measure(models) if measure else {}),
            )
            begin = now
            bar.set_postfix_str(f"{stage.name}, error " + ", ".join(f"{n} {errors[n]:.2f} %" for n in scene.true))
            bar.update()
            if state.iteration % pictures == 0 and before is not None:
                draw_progress(results, case, scene, models, before, state, suffix)
            before = models
    bar.close()
    assert before is not None
    for name, model in before.items():
        results.write_array(f"final_{name}{suffix}.npy", model)
    results.write_json(f"cost{suffix}.json", {"peak_memory_bytes": memory.added})
    return before


def draw_progress(results, case: Case, scene: Scene, models: Models, before: Models, state, suffix: str) -> None:
    """``progress.png``: the model, its last update and gradient, to look at while it runs."""
    name = next(iter(models))
    limits = float(scene.true[name].min()), float(scene.true[name].max())
    where = f"iteration {state.iteration}"
    pictures = [("last update (m/s)", models[name] - before[name])]
    if isinstance(state.gradient, jf.WaveEquation):  # that by other unknowns is no picture
        pictures.append(("gradient", np.asarray(getattr(state.gradient, name))))
    figure = Figure(figsize=(5 * (1 + len(pictures)), 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + len(pictures))
    jf.plot.model(models[name], case.spacing, axes[0], title=f"{name}, {where}", clim=limits, label=f"{name} (m/s)")
    for ax, (title, image) in zip(axes[1:], pictures, strict=True):
        size = float(np.percentile(np.abs(image), 99.5)) or 1.0
        jf.plot.model(image, case.spacing, ax, title=title, clim=(-size, size), cmap="RdBu_r", label=title)
    results.write_figure(f"progress{suffix}", figure)


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


def draw_errors(results: common.Results, lines: dict[str, list[dict[str, Any]]], scene: Scene, start: dict) -> None:
    """``convergence.png``: misfit, and errors by depth, by iteration; of one inversion or several with their names."""
    height = 4 if len(lines) == 1 else 5
    figure = Figure(figsize=(5.2 * (1 + len(scene.true)), height), layout="constrained")
    axes = figure.subplots(1, 1 + len(scene.true))
    styles = ("-", "--", ":", "-.")  # of inversions; colours are of scales and depths
    for number, (label, metrics) in enumerate(lines.items()):
        first = 0
        for color, stage in enumerate(dict.fromkeys(m["stage"] for m in metrics)):
            misfit = np.array([m["misfit"] for m in metrics if m["stage"] == stage])
            iterations = np.arange(first, first + len(misfit)) + 1
            name = f"{label}, {stage}" if label else stage
            style = {"linestyle": styles[number % 4], "color": f"C{color}", "lw": 1}
            axes[0].semilogy(iterations, misfit / misfit[0], label=name, **style)
            first += len(misfit)
    axes[0].set(xlabel="iteration", ylabel="misfit / that of the scale's first iteration", title="data")
    for ax, name in zip(axes[1:], scene.true, strict=True):
        for number, (label, metrics) in enumerate(lines.items()):
            for color, part in zip(("C0", "C1", "C2"), PARTS, strict=True):
                key = f"{name} {part}"
                values = [start[key], *(m[key] for m in metrics)]
                ax.plot(values, styles[number % 4], color=color, label=f"{part} {label}".strip())
        ax.set(xlabel="iteration", ylabel="relative L2 error (%)", title=f"{name}, by depth below the sea bed")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": len(lines)} if len(lines) > 1 else {}
    for ax in axes:
        ax.legend(fontsize="small", **below)
        ax.grid(alpha=0.3)
    results.write_figure("convergence", figure)


def draw_models(results: common.Results, case: Case, scene: Scene, final: Models, suffix: str = "") -> None:
    """``result_vp.png`` and so on: true model, start and result on one scale, and their errors."""
    for name in scene.true:
        images = {"true": scene.true[name], "start": scene.start[name], "result": final[name]}
        rock = scene.true[name][~scene.fixed]
        options = {"clim": (float(rock.min()), float(rock.max())), "label": f"{name} (m/s)"}
        figure = jf.plot.compare(images, case.spacing, difference_to="true", **options)
        results.write_figure(f"result_{name}{suffix}", figure)


def figures_of(case: Case, scene: Scene, final: Models, metrics: list[dict[str, Any]], cost: dict) -> dict[str, Any]:
    """The figures of ``summary.json`` that every inversion has."""
    cells = case.evaluated(scene.fixed)["whole"]
    out: dict[str, Any] = {}
    for name in scene.true:
        for when, models in (("start", scene.start), ("end", final)):
            for key, error in scene.errors(case, models).items():
                if key.split()[0] == name:
                    out[f"{key}: error at the {when}, %"] = error
            out[f"{name}: SSIM at the {when}"] = ssim(models[name], scene.true[name], cells)
    return out | {
        "simulations with a gradient": len(metrics),
        "seconds of the inversion": sum(m["seconds"] for m in metrics),
        "peak memory of the inversion, MB": cost["peak_memory_bytes"] / 1e6,
    }


def compare_data(
    results: common.Results,
    case: Case,
    simulator: jf.Simulator,
    survey: jf.Survey,
    observed: Array,
    models: dict[str, jf.WaveEquation],
    suffix: str = "",
    some: int = 5,
) -> dict[str, float]:
    """``data.png``, of the middle shot, or ``data_vx.png`` and so on of receivers with several components; and the
    misfit of `some` shots in the models "start" and "result". What the result leaves of the middle shot is kept as
    ``residual.npy``."""
    chosen = np.unique(np.linspace(0, len(survey) - 1, min(some, len(survey))).round().astype(int))
    middle = len(chosen) // 2
    data = np.stack([observed[i] for i in chosen])
    predicted = {k: np.asarray(jf.simulate(simulator, m, survey[chosen], devices=1)) for k, m in models.items()}
    gathers = {"observed": data[middle], **{name: x[middle] for name, x in predicted.items()}}
    receiver_x = np.asarray(survey.receiver[0, :, 1])
    fields = simulator.fields(type(models["start"]))[1]
    for i, field in enumerate(fields):
        name, what = (
            (f"data_{field}", f"{field} of the middle shot") if len(fields) > 1 else ("data", "the middle shot")
        )
        of_field = {k: x[..., i : i + 1] for k, x in gathers.items()}
        common.draw_residuals(results, of_field, simulator.grid.dt, receiver_x, case.frequency, f"{name}{suffix}", what)
    results.write_array(f"residual{suffix}.npy", gathers["observed"] - gathers["result"])
    misfits = {name: float(jf.misfits.l2(jnp.asarray(x), jnp.asarray(data))) for name, x in predicted.items()}
    return {"data misfit, end / start": misfits["result"] / misfits["start"]}


def finish(results: common.Results, figures: dict[str, Any]) -> None:
    """Write ``summary.json`` and print its table and the figures' paths. Of several inversions, `figures` holds those
    of each by its label; they stand side by side in the table."""
    results.write_json("summary.json", {"environment": common.environment(), **figures})
    several = all(isinstance(column, dict) for column in figures.values())
    columns = figures if several else {"value": figures}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [[name, *(f"{c[name]:.4g}" if name in c else "" for c in columns.values())] for name in names]
    print(common.table(["", *columns], rows))
    for path in sorted(results.path("figures").glob("*.png")):
        print(path)
