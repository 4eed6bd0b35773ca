"""One gradient, three ways to pay for it: what each costs, and what it differs by.

    python experiments/boundary_saving/run.py --preset quick

Stages: `make` writes models and case, `model` the observed data, `gradients` measures each memory strategy in a
process of its own, `compare` makes the figures and tables.
"""

import dataclasses
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jaxfwi as jf
import kit

# what an earlier run of the later stages left in the folder, and no longer holds when a stage runs again
AFTER_GRADIENTS = ("gradient_*.npy", "metrics.jsonl", "summary.json", "table.md", "figures/*.png")
AFTER_MODEL = ("data_*.npy", *AFTER_GRADIENTS)

PLAIN = "full_storage"
STRATEGIES = {
    PLAIN: jf.FullStorage(),
    "checkpointing": jf.Checkpointing(),
    "boundary_saving": jf.BoundarySaving(),
    "boundary_saving_bfloat16": jf.BoundarySaving(dtype="bfloat16"),
    "boundary_saving_float16": jf.BoundarySaving(dtype="float16"),
    "boundary_saving_int8": jf.BoundarySaving(dtype="int8"),
}
EXACT = ("full_storage", "checkpointing", "boundary_saving")
NAMES = {
    PLAIN: "Plain AD",
    "checkpointing": "Checkpointing",
    "boundary_saving": "Boundary saving",
    "boundary_saving_bfloat16": "Boundary saving, bfloat16",
    "boundary_saving_float16": "Boundary saving, float16",
    "boundary_saving_int8": "Boundary saving, int8",
}
SURFACES = {"absorbing": "Without multiples (absorbing top)", "free_surface": "With multiples (free surface)"}
FLOAT64 = "float64"  # the worker that repeats the exact strategies in double precision

VP_OVER_VS, DENSITY = 1.73, 2000.0  # of the elastic models; kg/m3
UNITS = {"vp": "m/s", "vs": "m/s", "rho": r"kg/m$^3$"}

GATHER_PERCENTILE, GRADIENT_PERCENTILE = 90.0, 98.0  # of the magnitudes drawn within the colour scale


@dataclass(frozen=True)
class Options(kit.Options):
    """The gradient by plain AD, checkpointing and boundary saving: equality, time and measured memory."""

    out: Path = Path("runs/boundary_saving")
    """The output folder."""
    preset: Literal["quick", "full", "cost", "elastic", "elastic_cost"] | None = None  # pyright: ignore
    """Acoustic: quick (the default, under a minute), full, or cost (one shot on 173 x 561 cells, 2000 steps).
    Elastic, one shot: elastic (five to six minutes), or elastic_cost (as cost)."""
    stage: Literal["make", "model", "gradients", "compare", "all"] = "all"  # pyright: ignore
    """Make the models; model the data; measure the gradients; compare. Each reads what the one before wrote."""
    steps: int | None = None
    """Time steps; by default enough for waves to cross the model and come back."""


@dataclass(frozen=True, kw_only=True)
class Case(kit.Case):
    """All that decides the result: two layers, or the user's model, and one gradient in them."""

    equation: Literal["acoustic", "elastic"] = "acoustic"  # elastic: of vp, with VP_OVER_VS and DENSITY
    start_smoothing: float | None = 80.0
    dt: float = 1e-3
    steps: int = 1500
    frequency: float = 5.0  # Hz, of the Ricker wavelet
    amplitude: float = 1.0  # of the wavelet; a force of 1 N/m moves rock so little that float32 would lose its square
    shots: int = 10
    source_span: tuple[float, float] = (0.05, 0.95)  # the first and last source, in widths of the model
    receiver_every: int = 4  # columns
    depth: float = 20.0  # of sources and receivers; on a free surface pressure would emit and record nothing
    space_order: int = 4
    absorber_width: int = 20  # cells
    absorber_velocity: float = 2000.0  # m/s
    repeats: int = 7  # timed runs of each strategy
    strategies: tuple[str, ...] = tuple(STRATEGIES)
    compiled_only: tuple[str, ...] = ()  # strategies too large to run, so that only the compiler's figure is there
    surfaces: tuple[str, ...] = tuple(SURFACES)
    layers: bool = True  # whether the model is the two layers, whose echoes have names

    def section(self) -> np.ndarray:
        return jf.models.two_layers(self.cells)

    def start_of(self, true: np.ndarray) -> np.ndarray:
        return jf.models.smooth(true, self.cells, self.start_smoothing or 0.0)

    def fitted(self, true: np.ndarray, start: np.ndarray, options: Any) -> "Case":
        """The case for these models: the user's set the time axis."""
        case = super().fitted(true, start, options)
        if options.steps is not None:
            case = dataclasses.replace(case, steps=options.steps)
        if options.vp is None:
            return case
        fastest = float(max(true.max(), start.max()))
        stable = self.cells.stable_dt(fastest, self.space_order, self.model(true).staggered)
        dt = min(self.dt, float(f"{0.8 * stable:.2g}"))
        slow = float(true.mean()) / (VP_OVER_VS if self.elastic else 1.0)
        seconds = 1.5 / self.frequency + 1.5 * math.hypot(*self.shape) * self.spacing / slow
        steps = options.steps or math.ceil(seconds / dt)
        return dataclasses.replace(case, dt=dt, steps=steps, absorber_velocity=fastest, layers=False)

    @property
    def measured(self) -> list[str]:
        """The strategies that are run. The others are compared with the first."""
        return [s for s in self.strategies if s not in self.compiled_only]

    @property
    def exact(self) -> list[str]:
        """The strategies that equal plain AD to rounding."""
        return [s for s in self.measured if s in EXACT]

    @property
    def elastic(self) -> bool:
        return self.equation == "elastic"

    @property
    def parameters(self) -> tuple[str, ...]:
        """What the gradient is taken of."""
        return tuple(field.name for field in dataclasses.fields(jf.Elastic if self.elastic else jf.Acoustic))

    def model(self, vp: Any) -> Any:
        """The equation with its parameters, of which files hold `vp` alone."""
        vp = jnp.asarray(vp)
        if self.elastic:
            return jf.Elastic(vp=vp, vs=vp / VP_OVER_VS, rho=jnp.full_like(vp, DENSITY))
        return jf.Acoustic(vp=vp)

    @property
    def grid(self) -> jf.Grid:
        return jf.Grid(self.shape, self.spacing, self.dt, self.steps)

    def simulator(self, surface: str, memory: Any = jf.BoundarySaving()) -> jf.Simulator:
        return jf.Simulator(
            self.grid,
            space_order=self.space_order,
            absorber=jf.CPML(self.absorber_width, velocity=self.absorber_velocity, frequency=self.frequency),
            free_surface=surface == "free_surface",
            memory=memory,
            source_fields=("vz",) if self.elastic else None,
            receiver_fields=("vx", "vz") if self.elastic else None,
        )

    def survey(self) -> jf.Survey:
        """Sources and receivers on nodes, at one depth."""
        depth = max(0 if self.elastic else 1, round(self.depth / self.spacing)) * self.spacing
        cells = self.shape[1]
        return jf.Survey.fixed_spread(
            source_x=np.round(np.linspace(*self.source_span, self.shots) * (cells - 1)) * self.spacing,
            source_z=depth,
            receiver_x=np.arange(0, cells, self.receiver_every) * self.spacing,
            receiver_z=depth,
            wavelet=self.amplitude * jf.ricker(self.grid, self.frequency),
        )


LARGE = Case(
    (173, 561), 20.0, dt=2e-3, steps=2000, shots=1, space_order=8, start_smoothing=160.0, repeats=5,
    surfaces=("absorbing",),
)  # fmt: skip
# one vertical force in the middle of the surface
FORCE: dict[str, Any] = {
    "equation": "elastic", "amplitude": 1e9, "shots": 1, "source_span": (0.5, 0.5), "depth": 0.0, "dt": 2e-3,
    "repeats": 3,
}  # fmt: skip
PRESETS = {
    "quick": Case((64, 128), 10.0, shots=4, dt=2e-3, steps=600, repeats=3),
    "full": Case((64, 128), 10.0),
    "cost": LARGE,
    "elastic": Case((64, 129), 10.0, **FORCE, steps=1000, receiver_every=1),
    "elastic_cost": dataclasses.replace(LARGE, **FORCE, compiled_only=(PLAIN,)),
}


def main(options: Options) -> None:
    kit.run(options, PRESETS, {"make": check, "model": model, "gradients": gradients, "compare": compare})


def check(case: Case, results: kit.Results) -> None:
    """What cannot be simulated is said at once."""
    results.remove(*AFTER_MODEL)
    for surface in case.surfaces:
        case.simulator(surface).admit(case.model(kit.scene(case, results).true["vp"]), case.survey())


def gradient_names(case: Case, surface: str, name: str) -> dict[str, str]:
    """The file of each parameter's gradient by a strategy; the parameter's name is left out if there is one alone."""
    stem = f"gradient_{surface}_{name}"
    one = len(case.parameters) == 1
    return {p: stem if one else f"{stem}_{p}" for p in case.parameters}


def load_gradient(results: kit.Results, case: Case, surface: str, name: str) -> dict[str, np.ndarray]:
    return {p: results.load(f"{file}.npy", "gradients") for p, file in gradient_names(case, surface, name).items()}


def write_gradient(results: kit.Results, case: Case, surface: str, name: str, gradient: Any) -> None:
    for parameter, file in gradient_names(case, surface, name).items():
        results.write_array(f"{file}.npy", getattr(gradient, parameter))


def model(case: Case, results: kit.Results) -> None:
    """Write the observed data, ``data_<surface>.npy``."""
    results.remove(*AFTER_MODEL)
    truth = case.model(kit.scene(case, results).true["vp"])
    for surface in kit.progress(case.surfaces, "model"):
        results.write_array(f"data_{surface}.npy", jf.simulate(case.simulator(surface), truth, case.survey()))


def gradients(case: Case, results: kit.Results) -> None:
    """Write ``gradient_<surface>_<strategy>.npy`` (elastic: ``..._<parameter>.npy``) and ``metrics.jsonl``: each
    strategy in a process of its own.
    """
    for surface in case.surfaces:
        results.need(f"data_{surface}.npy", "model")
    # plain AD keeps the padded fields (elastic: derivatives, one for each stress and velocity they add to) and at most
    # as much again for the layers; the last worker does so in float64
    kept = 0 if PLAIN not in case.measured else 10 if case.elastic else 2
    layers = 2 * (case.absorber_width + case.space_order)
    expected = kept * 8e-9 * case.steps * math.prod(n + layers for n in case.shape)
    free = psutil.virtual_memory().available / 1e9
    if expected > free:
        raise kit.UserError(
            f"plain AD would need up to {expected:.1f} GB and {free:.1f} GB are free: take fewer --steps or a smaller "
            "model."
        )
    results.remove(*AFTER_GRADIENTS)
    for name in kit.progress([*case.strategies, FLOAT64], "gradients"):
        command = [sys.executable, __file__, "worker", name, str(results.folder)]
        process = subprocess.run(
            command, env=os.environ | kit.PeakMemory.RETURN_MEMORY, capture_output=True, text=True, check=False
        )
        if process.returncode:
            said = process.stderr.strip().splitlines() or ["it was killed, perhaps for want of memory"]
            raise kit.UserError(f"the gradient by {name} failed (exit {process.returncode}): {said[-1]}")


def worker(name: str, results: kit.Results) -> None:
    """Measure one strategy, with and without a free surface, and add to the results."""
    case = kit.read_config(results, Case)
    if name == FLOAT64:
        jax.config.update("jax_enable_x64", True)
    start = case.model(kit.scene(case, results).start["vp"].astype(float))
    for surface in case.surfaces:
        observed = jnp.asarray(results.load(f"data_{surface}.npy", "model"), dtype=float)
        if name == FLOAT64:
            for strategy in case.exact:
                gradient, _ = measure(case, surface, strategy, start, observed, repeats=0)
                write_gradient(results, case, surface, f"{strategy}_{FLOAT64}", gradient)
        else:
            gradient, row = measure(case, surface, name, start, observed, case.repeats)
            if gradient is not None:
                write_gradient(results, case, surface, name, gradient)
            results.add_metrics(surface=surface, strategy=name, **row)


def measure(case: Case, surface: str, strategy: str, start: Any, observed: Any, repeats: int) -> tuple[Any, dict]:
    """The gradient and its cost, and beside it the cost of a forward run, the two timed in turns. Of what is compiled
    only, no gradient.
    """
    survey = case.survey()
    simulator = case.simulator(surface, STRATEGIES[strategy])

    def gradient_of(start, observed):
        return jf.Problem(simulator, survey, observed).misfit_and_gradient(start)

    options = jf.compiler_options()
    begin = time.perf_counter()
    compiled = jax.jit(gradient_of).lower(start, observed).compile(options)
    row: dict[str, Any] = {"compile_seconds": time.perf_counter() - begin, "compiled_bytes": compiled_memory(compiled)}
    if strategy in case.compiled_only:
        return None, row
    misfit, gradient = compiled(start, observed)
    row["misfit"] = float(misfit)
    if repeats:
        forward = jax.jit(lambda start: jf.simulate(case.simulator(surface), start, survey))
        forward = forward.lower(start).compile(options)
        jax.block_until_ready(forward(start))
        row["forward_compiled_bytes"] = compiled_memory(forward)
        runs = {"": lambda: compiled(start, observed), "forward_": lambda: forward(start)}
        for prefix, function in runs.items():
            row[f"{prefix}measured_bytes"] = added_memory(function)
        seconds: dict[str, list[float]] = {prefix: [] for prefix in runs}
        for _ in range(repeats):
            for prefix, function in runs.items():
                seconds[prefix].append(kit.timed(function)[0])
        row |= {f"{prefix}seconds": values for prefix, values in seconds.items()}
    return gradient, row


def compiled_memory(program: Any) -> int | None:
    """Bytes that XLA sets aside for a program's intermediate arrays; None where it does not say."""
    analysis = program.memory_analysis()
    return None if analysis is None else analysis.temp_size_in_bytes


def added_memory(function: Callable[[], Any]) -> int | None:
    """Bytes of resident memory that a call adds; None on a device whose memory is not the process's."""
    if jax.default_backend() != "cpu":
        return None
    with kit.PeakMemory() as memory:
        jax.block_until_ready(function())
    return memory.added


def compare(case: Case, results: kit.Results) -> None:
    """Write ``summary.json``, ``table.md`` and ``figures/``."""
    reference = case.measured[0]
    found = {surface: {s: load_gradient(results, case, surface, s) for s in case.measured} for surface in case.surfaces}
    rows = {(row["surface"], row["strategy"]): row for row in results.metrics()}
    summary: dict[str, Any] = {"environment": kit.environment(), "reference": reference}
    summary |= {"forward": {}, "strategies": {}, "float64": {}}
    for surface, by in found.items():
        first = rows[surface, reference]
        summary["forward"][surface] = {
            "seconds": median(x for s in by for x in rows[surface, s]["forward_seconds"]),
            "measured_bytes": first["forward_measured_bytes"],
            "compiled_bytes": first["forward_compiled_bytes"],
        }
        summary["strategies"][surface] = {
            s: summarise(rows[surface, s], differences(by[s], by[reference]) if s in by else None)
            for s in case.strategies
        }
        double = {s: load_gradient(results, case, surface, f"{s}_{FLOAT64}") for s in case.exact}
        summary["float64"][surface] = {s: differences(g, double[reference]) for s, g in double.items()}
        summary["float64"][surface]["float32_plain"] = differences(by[reference], double[reference])
    results.write_json("summary.json", summary)
    text = tables(summary)
    results.write_text("table.md", text)
    draw(results, case, found)
    print(text)
    print(f"Results are in {results.folder}.")


def differences(gradient: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> dict[str, float]:
    """Relative L2 difference of each parameter's gradient."""
    return {p: kit.difference(g, reference[p]) for p, g in gradient.items()}


def summarise(row: dict[str, Any], difference: dict[str, float] | None) -> dict[str, Any]:
    kept = {k: row.get(k) for k in ("measured_bytes", "compiled_bytes", "compile_seconds")}
    if difference is None:
        return kept
    seconds = median(row["seconds"])
    ratio = seconds / median(row["forward_seconds"])
    return {"difference": difference, "seconds": seconds, "to_forward": ratio, **kept}


def tables(summary: dict[str, Any]) -> str:
    """The summary as Markdown."""
    reference = summary["reference"]
    parameters = list(next(iter(summary["float64"].values()))["float32_plain"])
    one = len(parameters) == 1

    def row(name: str, cost: dict[str, Any], relative: list[str]) -> list[str]:
        memory = ["-" if cost[k] is None else f"{cost[k] / 1e6:.1f}" for k in ("measured_bytes", "compiled_bytes")]
        times = [f"{cost['seconds']:.2f}", f"{cost.get('to_forward', 1.0):.1f}"] if "seconds" in cost else ["-", "-"]
        compiling = f"{cost['compile_seconds']:.1f}" if "compile_seconds" in cost else ""
        return [name, *relative, *memory, *times, compiling]

    def relative(s: str, cost: dict[str, Any]) -> list[str]:
        if "difference" not in cost:
            return ["-" for _ in parameters]
        return ["reference" if s == reference else f"{cost['difference'][p]:.1e}" for p in parameters]

    head = ["", *("difference" if one else f"difference, {p}" for p in parameters)]
    head += ["memory (MB)", "as compiled (MB)", "time (s)", "time / forward", "compile (s)"]
    parts = []
    for surface, strategies in summary["strategies"].items():
        rows = [row("Forward run alone", summary["forward"][surface], ["" for _ in parameters])]
        rows += [row(NAMES[s], cost, relative(s, cost)) for s, cost in strategies.items()]
        parts.append(f"**{SURFACES[surface]}**, float32\n\n{kit.table(head, rows)}\n")
    lines = {s: f"{NAMES[s]} from {inside(NAMES[reference])}, both in float64" for s in EXACT if s != reference}
    lines["float32_plain"] = f"{NAMES[reference]} in float32 from {inside(NAMES[reference])} in float64"
    found = summary["float64"]
    rows = [
        [text, *(f"{found[s][key][p]:.1e}" for s in found for p in parameters)]
        for key, text in lines.items()
        if all(key in found[s] for s in found)
    ]
    tops = {s: SURFACES[s].split(" (")[0].lower() for s in found}
    head = ["Difference", *(tops[s] if one else f"{tops[s]}, {p}" for s in found for p in parameters)]
    parts.append(kit.table(head, rows) + "\n")
    e = summary["environment"]
    parts.append(f"{e['device']}, {e['cores']} cores, {e['system']}, Python {e['python']}, jax {e['jax']}.\n")
    return "\n".join(parts)


def inside(name: str) -> str:
    """A strategy's name within a sentence."""
    return name[0].lower() + name[1:]


def draw(results: kit.Results, case: Case, found: dict[str, dict[str, dict[str, np.ndarray]]]) -> None:
    """Write the figures."""
    survey, grid, scene = case.survey(), case.grid, kit.scene(case, results)
    sources, receivers = np.asarray(survey.source)[:, 0], np.asarray(survey.receiver)[0]
    vp, start = scene.true["vp"], scene.start["vp"]
    height = 3.9 * vp.shape[0] / vp.shape[1] + 0.75

    figure = Figure(figsize=(11, height), layout="constrained")
    clim = (float(min(vp.min(), start.min())), float(max(vp.max(), start.max())))
    titles = ("Model of the observed data", "Model at which the gradient is taken")
    for ax, section, title in zip(figure.subplots(1, 2), (vp, start), titles, strict=True):
        jf.plot.model(section, grid, ax, title=title, clim=clim)
        for name, (z, x), look in (
            ("receivers", receivers.T / 1e3, {"marker": "v", "s": 14, "c": "white", "edgecolors": "black"}),
            ("sources", sources.T / 1e3, {"marker": "*", "s": 110, "c": "tab:red", "edgecolors": "white"}),
        ):
            ax.scatter(x, z, label=name, linewidths=0.6, clip_on=False, zorder=3, **look)
    figure.axes[0].legend(loc="lower left", fontsize=8)
    results.write_figure("models", figure)

    shot = len(survey) // 2
    components = case.simulator("absorbing").receiver_fields or ("pressure",)
    gathers = {
        (surface, c): results.load(f"data_{surface}.npy", "model")[shot, :, :, i]
        for surface in found
        for i, c in enumerate(components)
    }
    limit = float(np.percentile(np.abs(np.stack(list(gathers.values()))), GATHER_PERCENTILE))
    z, x = sources[shot].tolist()
    figure = Figure(figsize=(5 * len(gathers) if len(gathers) < 3 else 10, 5 * len(components)), layout="constrained")
    axes = np.ravel(figure.subplots(len(components), len(found), squeeze=False).T)
    for ax, ((surface, component), gather) in zip(axes, gathers.items(), strict=True):
        look: dict[str, Any] = {"label": "Pressure (source units)", "title": SURFACES[surface]}
        if case.elastic:
            look = {"label": f"{component} (m/s)", "title": f"{component}. {SURFACES[surface]}"}
        jf.plot.gather(gather, grid, ax, receiver_x=receivers[:, 1], clim=(-limit, limit), **look)
        if case.layers and not case.elastic:
            period, velocity, interface = 1 / case.frequency, float(vp[0, 0]), (vp.shape[0] // 2 - 0.5) * case.spacing
            echo = 1.5 * period + 2 * (interface - z) / velocity
            labels = {"direct wave ↓": 0.5 * period, "reflection ↑": echo + period}
            if surface == "free_surface":
                labels["first multiple ↓"] = echo + 2 * interface / velocity - 0.5 * period
            for name, seconds in labels.items():
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
                ax.text(x / 1e3, seconds, name, ha="center", va="center", fontsize=9, bbox=box, clip_on=True)
    figure.suptitle(
        f"Shot at {x / 1e3:.2f} km. One grey scale, clipped at percentile {GATHER_PERCENTILE:g} of the magnitude"
    )
    results.write_figure("gathers", figure)
    for p in case.parameters:
        drawn = {surface: {s: gradient[p] for s, gradient in by.items()} for surface, by in found.items()}
        figure = draw_gradients(drawn, case.spacing, f"Gradient of {p}" if case.elastic else "Gradient", UNITS[p])
        results.write_figure(f"gradients_{p}" if case.elastic else "gradients", figure, dpi=90)


def draw_gradients(found: dict[str, dict[str, np.ndarray]], spacing: float, name: str, unit: str) -> Figure:
    """For each kind of top a row a strategy: the gradient, and its difference from the first one, magnified."""
    shown = next(iter(found.values()))
    rows, reference = len(shown), next(iter(shown))
    nz, nx = shown[reference].shape
    extent = tuple(i * spacing / 1e3 for i in (-0.5, nx - 0.5, nz - 0.5, -0.5))
    figure = Figure(figsize=(6.0 * len(found), rows * (2.35 * nz / nx + 0.4) + 1.2), layout="constrained")
    for half, (surface, gradients) in zip(np.ravel(figure.subfigures(1, len(found))), found.items(), strict=True):
        limit = float(np.percentile(np.abs(np.stack(list(gradients.values()))), GRADIENT_PERCENTILE))
        power = math.floor(math.log10(limit))
        gradients, limit = {s: g / 10.0**power for s, g in gradients.items()}, limit / 10.0**power
        look = {"extent": extent, "vmin": -limit, "vmax": limit, "cmap": jf.plot.DIVERGING, "interpolation": "nearest"}
        panels = half.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
        for (left, right), (strategy, gradient) in zip(panels, gradients.items(), strict=True):
            left.imshow(gradient, **look)
            left.set_title(NAMES[strategy], fontsize=10)
            left.set_ylabel("Depth (km)")
            if strategy == reference:
                right.axis("off")
                note = f"clipped at percentile\n{GRADIENT_PERCENTILE:g} of the magnitude;\n"
                note += f"below: difference\nfrom {inside(NAMES[reference])}, magnified"
                right.text(0.5, 0.5, note, ha="center", va="center", transform=right.transAxes)
                continue
            change = gradient - gradients[reference]
            factor, text = magnification(limit, float(np.percentile(np.abs(change), GRADIENT_PERCENTILE)))
            right.imshow(factor * change, **look)
            right.set_title(f"difference {text}", fontsize=10)
        for ax in panels[-1]:
            ax.set_xlabel("Distance (km)")
        label = rf"{name} ($10^{{{power}}}$ misfit units per {unit})"
        half.colorbar(panels[0, 0].images[0], ax=panels, location="bottom", label=label, aspect=50, pad=0.01)
        half.suptitle(SURFACES[surface])
    return figure


def magnification(limit: float, size: float) -> tuple[float, str]:
    """The greatest 1, 2 or 5 times a power of ten that takes `size` to no more than `limit`, and its name."""
    if size == 0:
        return 1.0, r"$\times\ 1$"
    power = math.floor(math.log10(limit / size))
    digit = max(d for d in (1, 2, 5) if d == 1 or d * size * 10.0**power <= limit)
    return digit * 10.0**power, rf"$\times\ {digit} \cdot 10^{{{power}}}$"


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2], kit.Results(sys.argv[3]))
    else:
        kit.main(main, Options)
