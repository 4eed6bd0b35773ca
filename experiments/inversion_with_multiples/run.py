"""Source-encoded acoustic inversion under a free surface: what its multiples and ghosts cost and bring."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jaxfwi as jf
import kit
from kit import encoded
from kit.encoded import Case

Array = np.ndarray


@dataclass(frozen=True)
class Options(kit.Options):
    """The same inversion three times: without a free surface in data and inversion; with one in both; with one in the
    data that the inversion ignores."""

    out: Path = Path("runs/inversion_with_multiples")
    """The output folder."""


ABSORBING, FREE = "observed_absorbing.npy", "observed_free_surface.npy"


@dataclass(frozen=True)
class Run:
    """One of the three inversions: where the sea has a free surface. Elsewhere its top absorbs."""

    in_data: bool
    in_inversion: bool
    title: str

    @property
    def observed(self) -> str:
        """The file of its data."""
        return FREE if self.in_data else ABSORBING


RUNS = {
    "absorbing": Run(False, False, "absorbing: no free surface"),
    "modelled": Run(True, True, "modelled: free surface in data and inversion"),
    "ignored": Run(True, False, "ignored: free surface in the data only"),
}
MAIN = "modelled"  # the run whose result is final_vp.npy

# Sources and receivers lie one cell or more below the surface, where the pressure is zero. Their ghosts cancel vertical
# waves at 1500 / (2 depth) Hz, 18.75 Hz at 40 m and 7.5 Hz at 100 m, above nearly all of the Ricker wavelets of 5 and
# 3 Hz; and weaken them towards 0 Hz, the more the shallower. Five shots to a super-shot rather than ten: multiples
# prolong every shot and with it the cross-talk.
PRESETS = {
    "tiny": Case((40, 90), 60.0, shots=5, iterations=(4,), rates=(20.0,), scales=(0.0,),
                 shots_per_iteration=3, margin=600.0, depth=60.0, frequency=2.5, duration=2.0),
    "quick": Case((70, 225), 50.0, shots=45, iterations=(30,) * 3, rates=(20.0,) * 3, scales=(1.5, 3.0, 0.0),
                  shots_per_iteration=5, depth=100.0, frequency=3.0),
    "full": Case((173, 561), 20.0, shots=93, iterations=(50,) * 4, rates=(20.0,) * 4, shots_per_iteration=5),
}  # fmt: skip


def main(options: Options) -> None:
    kit.run(options, PRESETS, {"model": model_data, "invert": invert, "compare": compare})


def acoustic(vp: Array) -> jf.Acoustic:
    return jf.Acoustic(vp=jnp.asarray(vp))


def problem_of(case: Case, results: kit.Results, run: Run) -> jf.Problem:
    return case.problem(results, run.observed, free_surface=run.in_inversion)


def model_data(case: Case, results: kit.Results) -> None:
    """The observed data without and with the free surface."""
    true = acoustic(kit.scene(case, results).true["vp"])
    for run in RUNS.values():
        simulator, survey = case.acquisition(free_surface=run.in_data)
        kit.observe(results, run.observed, simulator, true, survey)


def invert(case: Case, results: kit.Results) -> None:
    """The three inversions, one after the other: with the same shots, codes and steps."""
    scene = kit.scene(case, results)
    stages, start = case.stages(lambda scale: optax.adam(case.rates[scale])), acoustic(scene.start["vp"])
    for label, run in RUNS.items():
        problems = [(problem_of(case, results, run), stages)]
        final = kit.invert(results, scene, problems, start, label, encoding=jf.Encoding(), **scene.limits)
        if label == MAIN:
            results.write_array("final_vp.npy", final["vp"])


def compare(case: Case, results: kit.Results) -> None:
    """Figures, the table and summary.json."""
    scene = kit.scene(case, results)
    final = {label: {"vp": results.load(f"final_vp_{label}.npy", "invert")} for label in RUNS}
    metrics = {label: results.metrics(f"metrics_{label}.jsonl") for label in RUNS}
    figures = {}
    for label, run in RUNS.items():
        models = {"start": acoustic(scene.start["vp"]), "result": acoustic(final[label]["vp"])}
        figures[label] = encoded.figures_of(scene, final[label], metrics[label])
        # of three inversions in one process totals do not compare: compiled programs and freed memory are used again
        seconds = float(np.median([line["seconds"] for line in metrics[label]]))
        figures[label]["seconds of a simulation with its gradient, median"] = seconds
        figures[label] |= encoded.compare_data(results, case, problem_of(case, results, run), models, f"_{label}")
    parts = data_by_parts(scene, results)
    ghosted = float(np.linalg.norm(parts["with ghosts only"]))
    for label, run in RUNS.items():
        multiples = float(np.linalg.norm(parts["multiples (with - ghosts only)"])) if run.in_data else 0.0
        figures[label]["multiples in the middle shot, % of the rest (L2)"] = 100.0 * multiples / ghosted
    draw_models(results, scene, final)
    draw_convergence(results, metrics, scene.errors(scene.start))
    draw_data(results, case, parts)
    kit.finish(results, figures)


def data_by_parts(scene: kit.Scene, results: kit.Results) -> dict[str, Array]:
    """The middle shot's data without a free surface, with its ghosts only, with all of it, and so its multiples.

    A ghost is what a source or receiver of opposite sign sends or records at the mirror image of its place; for it the
    model is continued upwards by water with an absorbing top. Only what comes from below has both: the direct wave,
    that of water alone, has the source's.
    """
    case = scene.case
    more = int(np.ceil(case.depth / case.spacing)) + 2
    taller = dataclasses.replace(case, shape=(case.shape[0] + more, case.shape[1]))
    simulator, survey = taller.acquisition()
    shot = survey[[len(survey) // 2]]
    surface = more * case.spacing
    up, down = (np.array([surface + sign * case.depth, 0.0]) for sign in (-1, 1))
    source, receiver = (np.asarray(x) * np.array([0.0, 1.0]) for x in (shot.source, shot.receiver))
    mirrored = jf.Survey.from_arrays(
        np.concatenate([source + down, source + up], axis=1),
        np.concatenate([receiver + down, receiver + up], axis=1),
        jnp.concatenate([shot.wavelet, -shot.wavelet], axis=2),
    )
    vp = np.pad(scene.true["vp"], ((more, 0), (0, 0)), mode="edge")
    (below, above), (_, direct_above) = (
        np.split(np.asarray(jf.simulate(simulator, acoustic(model), mirrored, on=jf.On(devices=1)))[0], 2, axis=1)
        for model in (vp, np.full_like(vp, vp[0].mean()))
    )
    ghosted = below - above + direct_above
    absorbing, free = (results.load(name, "model", mapped=True)[len(survey) // 2] for name in (ABSORBING, FREE))
    return {
        "without a free surface": absorbing,
        "with ghosts only": ghosted,
        "with a free surface": free,
        "multiples (with - ghosts only)": free - ghosted,
    }


def draw_models(results: kit.Results, scene: kit.Scene, final: dict[str, kit.Models]) -> None:
    """``models.png``: the true model, the start and the three results on one scale, and their errors on another."""
    true, cells = scene.true["vp"], scene.case.cells
    images = {"start": scene.start["vp"], **{run.title: final[label]["vp"] for label, run in RUNS.items()}}
    limits = float(true.min()), float(true.max())
    size = float(np.percentile(np.abs(scene.start["vp"] - true), 99))
    height = 5.0 * true.shape[0] / true.shape[1] + 0.75  # of a row, labels included, so that the colour bars fit
    figure = Figure(figsize=(13, height * (1 + len(images))), layout="constrained")
    axes = figure.subplots(1 + len(images), 2)
    for ax, (title, image) in zip(axes[:, 0], {"true": true, **images}.items(), strict=True):
        jf.plot.model(image, cells, ax, title=title, clim=limits, label="vp (m/s)")
    axes[0, 1].axis("off")
    for ax, (title, image) in zip(axes[1:, 1], images.items(), strict=True):
        style = {"clim": (-size, size), "cmap": "RdBu_r", "label": "error (m/s)"}
        jf.plot.model(image - true, cells, ax, title=f"{title.split(':')[0]} - true", **style)
    results.write_figure("models", figure)


def draw_convergence(results: kit.Results, metrics: dict[str, list], start: dict[str, float]) -> None:
    """``convergence.png``: the misfit, and the error at each depth, of the three inversions by iteration."""
    figure = Figure(figsize=(16, 4), layout="constrained")
    axes = figure.subplots(1, 1 + len(encoded.PARTS))
    for label, lines in metrics.items():
        stages = [m["stage"] for m in lines]
        first = {stage: lines[stages.index(stage)]["misfit"] for stage in stages}
        misfit = [m["misfit"] / first[m["stage"]] for m in lines]
        axes[0].semilogy(np.arange(len(lines)) + 1, misfit, label=label, lw=1)
        for ax, part in zip(axes[1:], encoded.PARTS, strict=True):
            ax.plot([start[f"vp {part}"], *(m[f"vp {part}"] for m in lines)], label=label)
            ax.set(xlabel="iteration", ylabel="relative L2 error (%)", title=f"{part} part below the sea bed")
    axes[0].set(xlabel="iteration", ylabel="misfit / that of the scale's first iteration", title="data")
    axes[0].legend()
    for ax in axes:
        ax.grid(alpha=0.3)
    results.write_figure("convergence", figure)


def draw_data(results: kit.Results, case: Case, parts: dict[str, Array]) -> None:
    """``data.png``: the middle shot by parts; ``residuals.png``: what the results leave of it, on the same scale."""
    simulator, survey = case.acquisition()
    limit = float(np.percentile(np.abs(parts["with a free surface"]), 97))
    left = {label: results.load(f"residual_{label}.npy", "compare") for label in RUNS}
    of_what = {"data": "observed, and what the free surface adds", "residuals": "observed - result"}
    for (name, what), gathers in zip(of_what.items(), (parts, left), strict=True):
        title = f"the middle shot, {what} (one scale, 97th percentile of the data with a free surface)"
        panels = {label: data[..., 0] for label, data in gathers.items()}
        kit.draw_gathers(results, panels, simulator.grid, np.asarray(survey.receiver[0, :, 1]), limit, title, name)


if __name__ == "__main__":
    kit.main(main, Options, devices=kit.cores())
