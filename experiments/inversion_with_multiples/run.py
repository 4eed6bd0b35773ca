"""Source-encoded acoustic inversion under a free surface: what its multiples and ghosts cost and bring."""

import dataclasses
import functools
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax

import common

jax.config.update("jax_num_cpu_devices", common.cores())

import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import inverting
import jaxfwi as jf
from inverting import Array, Case, Models, Scene


@dataclass(frozen=True)
class Options(inverting.Options):
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
    inverting.run(options, PRESETS, {"model": model_data, "invert": invert, "compare": compare})


def acoustic(vp: Array) -> jf.Acoustic:
    return jf.Acoustic(vp=jnp.asarray(vp))


def model_data(case: Case, results: common.Results) -> None:
    """The observed data without and with the free surface."""
    true = acoustic(inverting.scene(results).true["vp"])
    for run in RUNS.values():
        simulator, survey = inverting.acquisition(case, free_surface=run.in_data)
        inverting.observe(results, run.observed, simulator, true, survey)


def invert(case: Case, results: common.Results) -> None:
    """The three inversions, one after the other: with the same shots, codes and steps."""
    scene = inverting.scene(results)
    stages = inverting.scales(case, lambda scale: optax.adam(case.rates[scale]))
    for label, run in RUNS.items():
        observed = np.load(results.need(run.observed, "model"), mmap_mode="r")
        if results.path(f"final_vp_{label}.npy").exists():
            continue  # an interrupted experiment had ended this one
        simulator, survey = inverting.acquisition(case, free_surface=run.in_inversion)
        inversion = functools.partial(
            jf.invert,
            simulator,
            acoustic(scene.start["vp"]),
            survey,
            observed,
            encoding=jf.Encoding(),
            mask=jf.Acoustic(vp=~scene.fixed),
            bounds=(jf.Acoustic(vp=case.slowest), jf.Acoustic(vp=case.fastest)),
            devices=1,  # that computes the one super-shot
        )
        inverting.follow(inversion, results, case, scene, stages, label)
    results.write_array("final_vp.npy", np.load(results.path(f"final_vp_{MAIN}.npy")))


def compare(case: Case, results: common.Results) -> None:
    """Figures, the table and summary.json."""
    scene = inverting.scene(results)
    final = {label: {"vp": np.load(results.need(f"final_vp_{label}.npy", "invert"))} for label in RUNS}
    observed = {run.observed: np.load(results.need(run.observed, "model"), mmap_mode="r") for run in RUNS.values()}
    metrics = {label: results.metrics(f"metrics_{label}.jsonl") for label in RUNS}
    figures = {}
    for label, run in RUNS.items():
        simulator, survey = inverting.acquisition(case, free_surface=run.in_inversion)
        ends = {"start": scene.start, "result": final[label]}
        models: dict[str, jf.WaveEquation] = {when: acoustic(model["vp"]) for when, model in ends.items()}
        cost = results.read_json(f"cost_{label}.json")
        figures[label] = inverting.figures_of(case, scene, final[label], metrics[label], cost)
        # compiled programs and freed memory are used again: of three inversions in one process, these would not compare
        del figures[label]["seconds of the inversion"], figures[label]["peak memory of the inversion, MB"]
        seconds = float(np.median([line["seconds"] for line in metrics[label]]))
        figures[label]["seconds of a simulation with its gradient, median"] = seconds
        figures[label] |= inverting.compare_data(
            results, case, simulator, survey, observed[run.observed], models, f"_{label}"
        )
    middle = {name: data[len(data) // 2] for name, data in observed.items()}
    parts = data_by_parts(case, scene, middle)
    ghosted = float(np.linalg.norm(parts["with ghosts only"]))
    for label, run in RUNS.items():
        multiples = float(np.linalg.norm(parts["multiples (with - ghosts only)"])) if run.in_data else 0.0
        figures[label]["multiples in the middle shot, % of the rest (L2)"] = 100.0 * multiples / ghosted
    draw_models(results, case, scene, final)
    draw_convergence(results, metrics, scene.errors(case, scene.start))
    limit = float(np.percentile(np.abs(parts["with a free surface"]), 97))
    draw_data(results, case, parts, limit)
    draw_residuals(results, case, limit)
    inverting.finish(results, figures)


def data_by_parts(case: Case, scene: Scene, middle: dict[str, Array]) -> dict[str, Array]:
    """The middle shot's data without a free surface, with its ghosts only, with all of it, and so its multiples.

    A ghost is what a source or receiver of opposite sign sends or records at the mirror image of its place; for it the
    model is continued upwards by water with an absorbing top. Only what comes from below has both: the direct wave,
    that of water alone, has the source's.
    """
    more = int(np.ceil(case.depth / case.spacing)) + 2
    taller = dataclasses.replace(case, shape=(case.shape[0] + more, case.shape[1]))
    simulator, survey = inverting.acquisition(taller)
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
        np.split(np.asarray(jf.simulate(simulator, acoustic(model), mirrored, devices=1))[0], 2, axis=1)
        for model in (vp, np.full_like(vp, vp[0].mean()))
    )
    ghosted, free = below - above + direct_above, middle[FREE]
    return {
        "without a free surface": middle[ABSORBING],
        "with ghosts only": ghosted,
        "with a free surface": free,
        "multiples (with - ghosts only)": free - ghosted,
    }


def draw_models(results: common.Results, case: Case, scene: Scene, final: dict[str, Models]) -> None:
    """``models.png``: the true model, the start and the three results on one scale, and their errors on another."""
    true = scene.true["vp"]
    images = {"start": scene.start["vp"], **{run.title: final[label]["vp"] for label, run in RUNS.items()}}
    limits = float(true.min()), float(true.max())
    size = float(np.percentile(np.abs(scene.start["vp"] - true), 99))
    height = 5.0 * true.shape[0] / true.shape[1] + 0.75  # of a row, labels included, so that the colour bars fit
    figure = Figure(figsize=(13, height * (1 + len(images))), layout="constrained")
    axes = figure.subplots(1 + len(images), 2)
    for ax, (title, image) in zip(axes[:, 0], {"true": true, **images}.items(), strict=True):
        jf.plot.model(image, case.spacing, ax, title=title, clim=limits, label="vp (m/s)")
    axes[0, 1].axis("off")
    for ax, (title, image) in zip(axes[1:, 1], images.items(), strict=True):
        style = {"clim": (-size, size), "cmap": "RdBu_r", "label": "error (m/s)"}
        jf.plot.model(image - true, case.spacing, ax, title=f"{title.split(':')[0]} - true", **style)
    results.write_figure("models", figure)


def draw_convergence(results: common.Results, metrics: dict[str, list], start: dict[str, float]) -> None:
    """``convergence.png``: the misfit, and the error at each depth, of the three inversions by iteration."""
    figure = Figure(figsize=(16, 4), layout="constrained")
    axes = figure.subplots(1, 1 + len(inverting.PARTS))
    for label, lines in metrics.items():
        stages = [m["stage"] for m in lines]
        first = {stage: lines[stages.index(stage)]["misfit"] for stage in stages}
        misfit = [m["misfit"] / first[m["stage"]] for m in lines]
        axes[0].semilogy(np.arange(len(lines)) + 1, misfit, label=label, lw=1)
        for ax, part in zip(axes[1:], inverting.PARTS, strict=True):
            ax.plot([start[f"vp {part}"], *(m[f"vp {part}"] for m in lines)], label=label)
            ax.set(xlabel="iteration", ylabel="relative L2 error (%)", title=f"{part} part below the sea bed")
    axes[0].set(xlabel="iteration", ylabel="misfit / that of the scale's first iteration", title="data")
    axes[0].legend()
    for ax in axes:
        ax.grid(alpha=0.3)
    results.write_figure("convergence", figure)


def draw_data(results: common.Results, case: Case, parts: dict[str, Array], limit: float) -> None:
    """``data.png``: the middle shot by parts, on one scale."""
    title = "the middle shot, observed, and what the free surface adds"
    _draw_gathers(results, "data", case, parts, limit, title)


def draw_residuals(results: common.Results, case: Case, limit: float) -> None:
    """``residuals.png``: what the three results leave of the middle shot, on the scale of ``data.png``."""
    left = {label: np.load(results.path(f"residual_{label}.npy")) for label in RUNS}
    _draw_gathers(results, "residuals", case, left, limit, "the middle shot, observed - result")


def _draw_gathers(
    results: common.Results, name: str, case: Case, panels: dict[str, Array], limit: float, title: str
) -> None:
    simulator, survey = inverting.acquisition(case)
    receiver_x = np.asarray(survey.receiver[0, :, 1])
    figure = Figure(figsize=(4.2 * len(panels), 5), layout="constrained")
    for ax, (what, data) in zip(figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True):
        clim = (-limit, limit)
        jf.plot.gather(data[..., 0], simulator.grid.dt, ax, receiver_x=receiver_x, title=what, clim=clim)
    figure.suptitle(f"{title} (one scale, 97th percentile of the data with a free surface)")
    results.write_figure(name, figure)


if __name__ == "__main__":
    common.main(main, Options)
