"""A towed streamer: FWI of what a boat with a cable records along a line, and the illumination of the model by it."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jaxfwi as jf
import kit

Array = np.ndarray


@dataclass(frozen=True)
class Options(kit.Options):
    """Full waveform inversion of towed-streamer data: each shot on its own cutout, unlit parts shown as such. Preset
    quick takes under 2 minutes on 2 cores, full about half an hour."""

    out: Path = Path("runs/towed_streamer")
    """The output folder."""


@dataclass(frozen=True, kw_only=True)
class Case(kit.Inversion):
    """What is computed."""

    shot_spacing: float
    absorber: int  # its cells
    start_smoothing: float | None = 300.0
    first_offset: float = 100.0
    receiver_spacing: float = 20.0
    cable_length: float = 2560.0  # every receiver owns a receiver_spacing: 128 of them
    aperture: float = 600.0  # of model kept on either side of source and cable
    probes: int = 2  # random ones, for the illumination
    patch: float = 250.0  # standard deviation along x of the patch of a layer that the illumination is asked for
    dark: float = -10.0  # dB to the median of the rock: cells below are not illuminated

    def fitted(self, true: Array, start: Array, options: Any) -> "Case":
        """The case for these models, which must be long enough for the boat."""
        length, (first, last) = self.cells.extent[1], self.line
        if last <= first:
            raise kit.UserError(
                f"the model is {length:g} m long, but a quarter of the cable and the first offset at both ends take "
                f"{first + self.first_offset:g} m."
            )
        return super().fitted(true, start, options)

    @property
    def line(self) -> tuple[float, float]:
        """Where the shots begin, a quarter of the cable over the model and the rest outside, and end."""
        return self.first_offset + self.cable_length / 4, self.cells.extent[1] - self.first_offset


PRESETS = {
    "tiny": Case((40, 80), 50.0, shot_spacing=450.0, iterations=(3, 3), frequencies=(3.0, 4.0), rates=(25.0, 20.0),
                 absorber=10, receiver_spacing=50.0, cable_length=1000.0, aperture=300.0, shots_per_iteration=4,
                 duration=1.5, probes=1),
    "quick": Case((87, 281), 40.0, shot_spacing=200.0, iterations=(20, 40), frequencies=(3.0, 4.5),
                  rates=(25.0, 20.0), absorber=12),
    "full": Case((173, 561), 20.0, shot_spacing=100.0, iterations=(60, 80, 100), frequencies=(3.0, 5.0, 8.0),
                 rates=(25.0, 20.0, 15.0), absorber=20, probes=4),
}  # fmt: skip


def main(options: Options) -> None:
    stages = {"make": draw_acquisition, "model": model_data, "invert": invert, "compare": compare}
    kit.run(options, PRESETS, stages)


def acquisition(case: Case) -> Iterator[tuple[jf.Simulator, jf.Survey]]:
    """The simulator and the survey of each band: the boat sails to the right, its cable behind it."""
    grid = case.grid()
    source_x = np.arange(*case.line, case.shot_spacing)
    for frequency in case.frequencies:
        survey = jf.Survey.towed_streamer(
            source_x=(source_x / case.spacing).round() * case.spacing,  # on nodes
            source_z=case.spacing,
            receiver_z=case.spacing,
            first_offset=case.first_offset,
            receiver_spacing=case.receiver_spacing,
            cable_length=case.cable_length,
            wavelet=jf.ricker(grid, frequency),
            grid=grid,
        )
        yield jf.Simulator(grid, case.order, jf.CPML(case.absorber)), survey


def problems(case: Case, results: kit.Results, aperture: float | None) -> list[jf.Problem]:
    """Of each band, its data mapped from their file: only the shots asked for are read."""
    on = jf.On(devices=jax.devices())
    return [
        jf.Problem(*both, results.load(f"observed_{i}.npy", "model", mapped=True), aperture=aperture, on=on)
        for i, both in enumerate(acquisition(case))
    ]


def load_lit(case: Case, results: kit.Results) -> Array:
    """Which cells are illuminated; those of the water are not asked about."""
    level = results.load("illumination.npy", "model")
    return np.nan_to_num(level, nan=-np.inf) >= case.dark


def model_data(case: Case, results: kit.Results) -> None:
    """The observed data of each band, on the whole model: the Earth has no aperture. And the illumination."""
    scene, bands = kit.scene(case, results), list(acquisition(case))
    for i, (simulator, survey) in enumerate(bands):
        kit.observe(results, f"observed_{i}.npy", simulator, jf.Acoustic(vp=jnp.asarray(scene.true["vp"])), survey)
    if not results.path("illumination.npy").exists():
        results.write_array("receiver_mask.npy", real_receivers(bands[-1][1]))
        results.write_array("illumination.npy", illumination(case, *bands[-1], scene))


def real_receivers(survey: jf.Survey) -> Array:
    """Which traces of the data are no padding, (shots, receivers)."""
    shape = survey.receiver.shape[:2]
    return np.full(shape, True) if survey.receiver_mask is None else np.asarray(survey.receiver_mask)


def illumination(case: Case, simulator: jf.Simulator, survey: jf.Survey, scene: kit.Scene) -> Array:
    """How strongly the data depend on a patch of a layer about each cell, in dB to the median of the rock.

    With J the derivative of all data by the velocity and S an average along x over the patch, it is the diagonal of
    ``S J^T J S^T``: the squared length of what a change of the patch changes in the data. A single cell scatters to
    everywhere, but a layer reflects as a mirror does, hence the patch, about as wide as a Fresnel zone. For white
    noise e the expectation of ``(S J^T e)^2`` is that diagonal, and ``J^T e`` is the gradient of ``<data, e>``: one
    gradient a shot. Squares are summed over shots, those far from each other taken together to fill the processor,
    over probes, and over 100 m. It is NaN in the water.
    """
    random = np.random.default_rng(0)
    vp = scene.start["vp"]
    stride = -(-len(survey) // max(2, len(jax.devices())))
    shape = (simulator.grid.nt, survey.receiver.shape[1], 1)
    rock = ~kit.fixed_cells(vp)
    look = {"mask": rock, "slowness": False}
    energy = np.zeros(case.shape)
    for i in kit.progress(list(range(stride)) * case.probes, "illumination"):
        some = survey[i::stride]
        noise = random.standard_normal((len(some), *shape), np.float32)
        on = jf.On(devices=jax.devices())
        problem = jf.Problem(simulator, some, noise, misfit=product, aperture=case.aperture, on=on)
        _, gradient = problem.misfit_and_gradient(jf.Acoustic(vp=jnp.asarray(vp)))
        of_patch = jf.models.smooth(np.asarray(gradient.vp, float), case.cells, (0.0, case.patch), **look)
        energy += of_patch**2
    energy = jf.models.smooth(energy, case.cells, 100.0, **look)
    energy[~rock] = np.nan
    with np.errstate(divide="ignore"):  # cells that no wave reaches in the time of the records
        return 10.0 * np.log10(energy / np.nanmedian(energy))


def product(predicted: jax.Array, noise: jax.Array) -> jax.Array:
    """A misfit that is linear in the data."""
    return jnp.sum(predicted * noise)


def invert(case: Case, results: kit.Results) -> None:
    """Band by band, from low to high frequency, each from the model that the one before ended on."""
    scene, lit = kit.scene(case, results), load_lit(case, results)
    bands = [(p, [case.band(i, len(p.survey))]) for i, p in enumerate(problems(case, results, case.aperture))]

    def error_where_lit(models: kit.Models) -> dict[str, float]:
        return {"vp": kit.model_error(models["vp"], scene.true["vp"], lit)}

    start = jf.Acoustic(vp=jnp.asarray(scene.start["vp"]))
    kit.invert(results, scene, bands, start, measure=error_where_lit, **scene.limits)


def compare(case: Case, results: kit.Results) -> None:
    """What the aperture saves and costs, figures, the table and summary.json."""
    scene, lit = kit.scene(case, results), load_lit(case, results)
    models = {"start": scene.start["vp"], "result": results.load("final_vp.npy", "invert")}
    metrics, frequency = results.metrics(), case.frequencies[-1]
    last = problems(case, results, None)[-1]
    predicted, misfits = {}, {}
    for name, vp in kit.progress(models.items(), "data of start and result"):
        data = jf.simulate(last.simulator, jf.Acoustic(vp=jnp.asarray(vp)), last.survey, on=last.on)
        predicted[name] = np.asarray(data)
        misfits[name] = float(jf.misfits.l2(data, jnp.asarray(last.observed)))
    rock = ~scene.fixed
    aperture = measure_aperture(case, last, scene.start["vp"], rock)

    def errors(vp: Array) -> dict[str, float]:
        """By cells, where there are any."""
        parts = {"illuminated cells": lit, "all rock": rock, "rock not illuminated": rock & ~lit}
        return {name: kit.model_error(vp, scene.true["vp"], part) for name, part in parts.items() if part.any()}

    draw_gathers(results, case, last)
    draw_result(results, scene, lit, models["result"])
    draw_data(results, case, last, predicted)
    start, end = errors(models["start"]), errors(models["result"])
    panels = {"model, in illuminated cells": {"": "vp"}}
    kit.draw_convergence(results, {"": metrics}, panels, {"vp": start["illuminated cells"]})
    rows: dict[str, Any] = {"illuminated cells, % of the rock": 100.0 * lit.sum() / rock.sum()}
    for name in start:
        rows[f"model error in {name} at the start, %"] = start[name]
        rows[f"model error in {name} at the end, %"] = end[name]
    rows |= {
        f"data misfit at {frequency:g} Hz, end / start": misfits["result"] / misfits["start"],
        "gradients of one shot": len(metrics) * min(case.shots_per_iteration, len(last.survey)),
    }
    kit.finish(results, rows | kit.cost_of(results, metrics) | aperture)


def measure_aperture(case: Case, problem: jf.Problem, vp: Array, rock: Array) -> dict[str, float]:
    """Time and memory of a mini-batch's gradient on the shots' cutouts and on the whole model, and what differs.

    The mini-batch is spread over the line, its ends included.
    """
    shots = problem.survey
    some = np.linspace(0, len(shots) - 1, min(case.shots_per_iteration, len(shots))).round().astype(int)
    model = jf.Acoustic(vp=jnp.asarray(vp))
    simulator, on, given = problem.simulator, problem.on, (shots[some], problem.observed[some])
    both = [jf.Problem(simulator, *given, aperture=aperture, on=on) for aperture in (case.aperture, None)]
    data, whole_data = (np.asarray(jf.simulate(simulator, model, p.survey, aperture=p.aperture, on=on)) for p in both)
    memory, whole_memory = (p.memory(model).total for p in both)
    seconds, gradients = ([], []), [rock, rock]
    for _ in range(1 + 3):  # in turn, so that what else the machine does meets both alike; the first ones compile
        for i, p in enumerate(both):
            time, (_, gradient) = kit.timed(lambda p=p: p.misfit_and_gradient(model))
            gradients[i] = np.asarray(gradient.vp)[rock]
            seconds[i].append(time)
    once, whole_once = (median(times[1:]) for times in seconds)
    return {
        "aperture, m": case.aperture,
        "a mini-batch's gradient with the aperture, s": once,
        "a mini-batch's gradient on the whole model, s": whole_once,
        "time of the whole model / with the aperture": whole_once / once,
        "memory of the whole model / with the aperture": whole_memory / memory,
        "difference of the data by the aperture, %": 100.0 * kit.difference(data, whole_data),
        "difference of the gradient by the aperture, %": 100.0 * kit.difference(*gradients),
    }


def draw_acquisition(case: Case, results: kit.Results) -> None:
    """Stage make: ``acquisition.gif``, boat, cable and aperture over the model, and the traces so far by their
    midpoints."""
    results.remove("receiver_mask.npy", "illumination.npy")  # of an earlier run
    vp, (_, survey) = kit.scene(case, results).true["vp"], next(acquisition(case))
    depth, width = (x / 1e3 for x in case.cells.extent)
    figure = Figure(figsize=(8.0, 4.6), dpi=90, layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    jf.plot.model(vp, case.cells, top)
    edge = case.spacing / 2e3
    top.set(xlabel="", xlim=(-0.7, width + edge), ylim=(depth + edge, -0.42), aspect="auto", ylabel="Depth (km)")
    style = {"ls": "", "mec": "black", "zorder": 4}
    (boat,) = top.plot([0], [0], marker=(3, 0, -90), ms=12, color="black", **style)
    (source,) = top.plot([0], [0], marker="*", ms=11, color="red", **style)
    (cable,) = top.plot([0, 0], [0, 0], color="red", lw=2.5, zorder=3)
    (outside,) = top.plot([0, 0], [0, 0], color="0.55", lw=2, ls=":", zorder=3)
    cutout = Rectangle((0, 0), 0, depth, fill=False, ec="white", lw=1.5, ls="--", zorder=3)
    top.add_patch(cutout)

    bins = np.arange(0.0, width + 0.1, 0.1) - case.receiver_spacing / 4e3  # no midpoint on the edge of a bin
    real, x = real_receivers(survey), np.asarray(survey.receiver[:, :, 1]) / 1e3
    at = np.asarray(survey.source[:, 0, 1]) / 1e3
    folds = np.cumsum([np.histogram(((s + r) / 2)[k], bins)[0] for s, r, k in zip(at, x, real, strict=True)], axis=0)
    bars = bottom.bar(bins[:-1] + 0.05, folds[-1], width=0.1, color="0.35")
    bottom.set(xlabel="Distance (km)", ylabel="traces in 100 m", ylim=(0, 1.1 * folds[-1].max()))
    bottom.set_title("traces recorded so far, at their midpoints", fontsize="medium")

    canvas = FigureCanvasAgg(figure)
    top.set_title("shot")
    canvas.draw()
    figure.set_layout_engine("none")  # where everything lies is settled: nothing may jump between frames

    def draw(shot: int) -> Image.Image:
        z = float(survey.receiver[shot, 0, 0]) / 1e3
        receivers = x[shot, real[shot]]
        tail = at[shot] - (case.first_offset + case.cable_length) / 1e3
        boat.set_data([at[shot] + 0.12], [-0.2])
        source.set_data([at[shot]], [z])
        cable.set_data([receivers.min(), receivers.max()], [z, z])
        outside.set_data([max(tail, -0.7), 0.0] if tail < 0 else [], [z, z] if tail < 0 else [])
        left = max(0.0, receivers.min() - case.aperture / 1e3)
        cutout.set_x(left)
        cutout.set_width(min(width, at[shot] + case.aperture / 1e3) - left)
        for bar, fold in zip(bars, folds[shot], strict=True):
            bar.set_height(fold)
        count = f"{len(receivers)} of {real.shape[1]} receivers over the model"
        top.set_title(f"shot {shot + 1} of {len(survey)}: {count}; dashed: its aperture", fontsize="medium")
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])

    shots = np.linspace(0, len(survey) - 1, min(40, len(survey))).round().astype(int)
    frames = [draw(shot) for shot in kit.progress(shots, "the boat's way")]
    palette = frames[len(frames) // 2].quantize(64, Image.Quantize.MAXCOVERAGE)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with results.written("figures/acquisition.gif") as path:
        times = [200] * (len(frames) - 1) + [2000]
        frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=False)
    draw(len(survey) // 2)
    results.write_figure("acquisition", figure, dpi=90)


def draw_gathers(results: kit.Results, case: Case, problem: jf.Problem) -> None:
    """Three shots of the last band as they are to be written: without padding, as wide as their cable."""
    survey, observed = problem.survey, problem.observed
    shots = [0, len(survey) // 2, len(survey) - 1]
    gathers = survey[np.array(shots)].unpad(observed[shots])
    limit = float(np.percentile(np.abs(gathers[1]), 95))
    figure = Figure(figsize=(12, 5), layout="constrained")
    widths = [max(0.35, gather.shape[1] / survey.receiver.shape[1]) for gather in gathers]
    axes = figure.subplots(1, 3, sharey=True, width_ratios=widths)
    for ax, shot, gather in zip(axes, shots, gathers, strict=True):
        title = f"shot {shot + 1} at {survey.source[shot, 0, 1] / 1e3:.2f} km\n{gather.shape[1]} receivers"
        offset = offsets(case, gather.shape[1])
        draw_gather(ax, gather[..., 0], problem.simulator.grid, offset, title, limit, bar=ax is axes[-1])
    figure.suptitle(f"observed data at {case.frequencies[-1]:g} Hz, one scale (95th percentile of the middle shot)")
    results.write_figure("gathers", figure)


def draw_gather(ax: Axes, data: Array, grid: jf.Grid, offset: Array, title: str, limit: float, bar: bool) -> None:
    """One panel of several on one scale, of which one has the colour bar."""
    jf.plot.gather(data, grid, ax, receiver_x=offset, title=title, clim=(-limit, limit))
    ax.set_xlabel("Offset (km)")
    ax.label_outer()
    if not bar:
        ax.images[0].colorbar.remove()  # pyright: ignore


def offsets(case: Case, receivers: int) -> Array:
    """Metres from the source: receivers are in order of offset, and the cable's tail is what may hang out."""
    return case.first_offset + case.receiver_spacing * np.arange(receivers)


def draw_data(results: kit.Results, case: Case, problem: jf.Problem, predicted: dict[str, Array]) -> None:
    """The middle shot: observed, and the residuals of start and result, on one scale."""
    survey, observed = problem.survey, problem.observed
    shot = len(survey) // 2
    one = survey[shot : shot + 1]
    data = {name: one.unpad(x[shot : shot + 1])[0][..., 0] for name, x in predicted.items()}
    recorded = one.unpad(observed[shot : shot + 1])[0][..., 0]
    panels = {"observed": recorded, **{f"observed - {name}": recorded - x for name, x in data.items()}}
    limit = float(np.percentile(np.abs(recorded), 95))
    figure = Figure(figsize=(12, 5), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for ax, (name, panel) in zip(axes, panels.items(), strict=True):
        offset = offsets(case, panel.shape[1])
        draw_gather(ax, panel, problem.simulator.grid, offset, name, limit, bar=ax is axes[-1])
    figure.suptitle(f"shot {shot + 1} at {case.frequencies[-1]:g} Hz, one scale (95th percentile of the observed)")
    results.write_figure("data", figure)


def draw_result(results: kit.Results, scene: kit.Scene, lit: Array, final: Array) -> None:
    """Models on one scale, their errors on another, and the illumination, by which cells are greyed out."""
    case, true, start = scene.case, scene.true["vp"], scene.start["vp"]
    level = results.load("illumination.npy", "model")
    dark = ~lit & ~scene.fixed
    speeds = (float(true.min()), float(true.max()))
    limit = float(np.percentile(np.abs(start - true)[lit], 99))
    shape = (np.asarray(true.shape) * case.spacing)[::-1]
    figure = Figure(figsize=(13, 3 * max(2.2, 6.0 * shape[1] / shape[0] + 0.6)), layout="constrained")
    axes = figure.subplots(3, 2)

    def model(ax: Axes, image: Array, title: str) -> None:
        jf.plot.model(image, case.cells, ax, title=title, clim=speeds, label="vp (m/s)")

    def error(ax: Axes, image: Array, title: str) -> None:
        options: dict[str, Any] = {"clim": (-limit, limit), "cmap": "RdBu_r", "label": "error of vp (m/s)"}
        jf.plot.model(image - true, case.cells, ax, title=title, **options)
        shade(ax, dark)

    model(axes[0, 0], true, "true")
    model(axes[1, 0], start, "start")
    model(axes[2, 0], final, "result; grey: not illuminated, no result")
    shade(axes[2, 0], dark)
    jf.plot.model(
        level,
        case.cells,
        axes[0, 1],
        title=f"illumination; grey: below {case.dark:g} dB",
        clim=(case.dark, float(np.nanpercentile(level, 99.5))),
        cmap="inferno",
        label="dB to the median of the rock",
    )
    shade(axes[0, 1], dark)
    error(axes[1, 1], start, "start - true")
    error(axes[2, 1], final, "result - true")
    results.write_figure("result", figure)


def shade(ax: Axes, cells: Array) -> None:
    """Cover cells of an image in grey."""
    image = ax.images[0]
    cover = np.ma.masked_where(~cells, np.ones(cells.shape))
    ax.imshow(cover, extent=image.get_extent(), cmap=ListedColormap(["0.72"]), aspect=ax.get_aspect())


if __name__ == "__main__":
    kit.main(main, Options, devices=kit.cores())
