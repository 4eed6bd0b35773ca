"""A towed streamer: FWI of what a boat with a cable records along a line, and the illumination of the model by it."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax

import common

jax.config.update("jax_num_cpu_devices", common.cores())

import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

import jaxfwi as jf

Array = np.ndarray


@dataclass(frozen=True)
class Options:
    """Full waveform inversion of towed-streamer data: each shot on its own window, unlit parts shown as such."""

    preset: Literal["tiny", "quick", "full"] | None = None
    """How much: tiny to see that it runs, quick (the default) under 2 minutes on 2 cores, full about half an hour."""
    stage: Literal["make", "model", "invert", "compare", "all"] = "all"
    """Make the models; model data and illumination; invert; compare. Each reads what the one before wrote."""
    out: Path = Path("runs/towed_streamer")
    """The output folder."""
    vp: Path | None = None
    """A .npy file with the true velocity in m/s, (depth, distance); by default a Marmousi-like section."""
    start: Path | None = None
    """A .npy file with the starting model; by default the true one smoothed."""
    spacing: float | None = None
    """Metres between the cells of your model."""


@dataclass(frozen=True)
class Preset:
    """What is computed. Lengths in metres."""

    shape: tuple[int, int]  # of the section, where no file is given
    spacing: float
    shot_spacing: float
    iterations: tuple[int, ...]  # of each band
    frequencies: tuple[float, ...]  # peak frequency of the Ricker wavelet of each band, Hz
    rates: tuple[float, ...]  # Adam's first step in each band, m/s
    absorber: int  # its cells
    first_offset: float = 100.0
    receiver_spacing: float = 20.0
    cable_length: float = 2560.0  # every receiver owns a receiver_spacing: 128 of them
    aperture: float = 600.0  # of model kept on either side of source and cable
    shots_per_iteration: int = 10
    duration: float = 4.0  # of the records, s
    smoothing: float = 300.0  # standard deviation of the Gaussian that makes the starting model
    probes: int = 2  # random ones, for the illumination
    patch: float = 250.0  # standard deviation along x of the patch of a layer that the illumination is asked for
    dark: float = -10.0  # dB to the median of the rock: cells below are not illuminated
    slowest: float = 0.0  # bounds of the inversion, m/s, set by stage make: the models' extremes and 5 % more
    fastest: float = 0.0  # the time step is chosen for it
    order: int = 8


PRESETS = {
    "tiny": Preset((40, 80), 50.0, shot_spacing=450.0, iterations=(3, 3), frequencies=(3.0, 4.0), rates=(25.0, 20.0),
                   absorber=10, receiver_spacing=50.0, cable_length=1000.0, aperture=300.0, shots_per_iteration=4,
                   duration=1.5, probes=1),
    "quick": Preset((87, 281), 40.0, shot_spacing=200.0, iterations=(20, 40), frequencies=(3.0, 4.5),
                    rates=(25.0, 20.0), absorber=12),
    "full": Preset((173, 561), 20.0, shot_spacing=100.0, iterations=(60, 80, 100), frequencies=(3.0, 5.0, 8.0),
                   rates=(25.0, 20.0, 15.0), absorber=20, probes=4),
}  # fmt: skip


def main(options: Options) -> None:
    results = common.Results(options.out)
    common.use_compilation_cache(results.folder.parent / ".jax_cache")
    given = [f"--{name}" for name in ("preset", "vp", "start", "spacing") if getattr(options, name) is not None]
    if options.stage not in ("make", "all") and given:
        raise common.UserError(f"stage {options.stage} has its settings from stage make: leave out {given[0]}.")
    with common.user_errors():
        if options.stage in ("make", "all"):
            make(options, results)
        for stage in (model_data, invert, compare):
            if options.stage in (stage.__name__.removesuffix("_data"), "all"):
                stage(common.read_config(results, Preset), results)


def make(options: Options, results: common.Results) -> None:
    """The models, the resolved configuration, and the boat's way over the true model."""
    preset = PRESETS[options.preset or "quick"]
    true, start, spacing = common.true_and_start(options, preset.shape, preset.spacing, preset.smoothing)
    slowest, fastest = min(true.min(), start.min()), max(true.max(), start.max())
    preset = dataclasses.replace(
        preset, shape=true.shape, spacing=spacing, slowest=0.95 * float(slowest), fastest=1.05 * float(fastest)
    )
    _, survey = next(acquisition(preset))
    results.remove("observed_*.npy", "receiver_mask.npy", "illumination.npy", "final_vp.npy")  # not a user's files
    results.remove("metrics.jsonl", "cost.json", "summary.json", "figures/*.png", "figures/*.gif")
    results.write_json("config.json", {**dataclasses.asdict(options), **dataclasses.asdict(preset)})
    results.write_array("true_vp.npy", true)
    results.write_array("start_vp.npy", start)
    draw_acquisition(results, preset, true, survey)


def acquisition(preset: Preset) -> Iterator[tuple[jf.Simulator, jf.Survey]]:
    """The simulator and the survey of each band: the boat sails to the right, its cable behind it.

    It begins where a quarter of the cable is over the model and the rest hangs out.
    """
    spacing = preset.spacing
    rough = jf.Grid(preset.shape, spacing, dt=1.0, nt=1)
    dt = 0.9 * rough.stable_dt(preset.fastest, preset.order)
    grid = jf.Grid(preset.shape, spacing, dt, nt=round(preset.duration / dt))
    first, last = preset.first_offset + preset.cable_length / 4, grid.extent[1] - preset.first_offset
    if last <= first:
        raise common.UserError(
            f"the model is {grid.extent[1]:g} m long, but a quarter of the cable and the first offset at both "
            f"ends take {first + preset.first_offset:g} m."
        )
    source_x = np.arange(first, last, preset.shot_spacing)
    for frequency in preset.frequencies:
        survey = jf.Survey.towed_streamer(
            source_x=(source_x / spacing).round() * spacing,  # on nodes
            source_z=spacing,
            receiver_z=spacing,
            first_offset=preset.first_offset,
            receiver_spacing=preset.receiver_spacing,
            cable_length=preset.cable_length,
            wavelet=jf.ricker(grid, frequency),
            grid=grid,
        )
        yield jf.Simulator(grid, preset.order, jf.CPML(preset.absorber)), survey


def load(results: common.Results) -> tuple[Array, Array]:
    """True and starting model."""
    return np.load(results.need("true_vp.npy", "make")), np.load(results.need("start_vp.npy", "make"))


def load_observed(results: common.Results, band: int) -> Array:
    """The data of a band, mapped from their file: only the shots asked for are read."""
    return np.load(results.need(f"observed_{band}.npy", "model"), mmap_mode="r")


def load_lit(results: common.Results, preset: Preset) -> Array:
    """Which cells are illuminated; those of the water are not asked about."""
    level = np.load(results.need("illumination.npy", "model"))
    return np.nan_to_num(level, nan=-np.inf) >= preset.dark


def model_data(preset: Preset, results: common.Results) -> None:
    """The observed data of each band, on the whole model: the Earth has no aperture. And the illumination."""
    true, start = load(results)
    bands = list(acquisition(preset))
    for i, (simulator, survey) in enumerate(common.progress(bands, "modelling the data")):
        data = jf.simulate(simulator, jf.Acoustic(vp=jnp.asarray(true)), survey, devices=jax.devices())
        results.write_array(f"observed_{i}.npy", data)
        results.write_array("receiver_mask.npy", real_receivers(survey))
    results.write_array("illumination.npy", illumination(preset, *bands[-1], start))


def real_receivers(survey: jf.Survey) -> Array:
    """Which traces of the data are no padding, (shots, receivers)."""
    shape = survey.receiver.shape[:2]
    return np.full(shape, True) if survey.receiver_mask is None else np.asarray(survey.receiver_mask)


def illumination(preset: Preset, simulator: jf.Simulator, survey: jf.Survey, vp: Array) -> Array:
    """How strongly the data depend on a patch of a layer about each cell, in dB to the median of the rock.

    With J the derivative of all data by the velocity and S an average along x over the patch, it is the diagonal of
    ``S J^T J S^T``: the squared length of what a change of the patch changes in the data. A single cell scatters to
    everywhere, but a layer reflects as a mirror does, hence the patch, about as wide as a Fresnel zone. For white
    noise e the expectation of ``(S J^T e)^2`` is that diagonal, and ``J^T e`` is the gradient of ``<data, e>``: one
    gradient a shot. Squares are summed over shots, those far from each other taken together to fill the processor,
    over probes, and over 100 m. It is NaN in the water.
    """
    random = np.random.default_rng(0)
    model = jf.Acoustic(vp=jnp.asarray(vp))
    stride = -(-len(survey) // max(2, len(jax.devices())))
    shape = (simulator.grid.nt, survey.receiver.shape[1], 1)
    water = common.fixed_cells(vp)
    energy = np.zeros(preset.shape)
    for i in common.progress(list(range(stride)) * preset.probes, "illumination"):
        some = survey[i::stride]
        noise = random.standard_normal((len(some), *shape), np.float32)
        _, gradient = jf.misfit_and_gradient(
            simulator, product, model, some, noise, devices=jax.devices(), aperture=preset.aperture
        )
        along = (0.0, preset.patch / preset.spacing)
        energy += jf.models.smooth(np.asarray(gradient.vp, float), along, keep=water, slowness=False) ** 2
    energy = jf.models.smooth(energy, 100.0 / preset.spacing, keep=water, slowness=False)
    energy[water] = np.nan
    with np.errstate(divide="ignore"):  # cells that no wave reaches in the time of the records
        return 10.0 * np.log10(energy / np.nanmedian(energy))


def product(predicted: jax.Array, noise: jax.Array) -> jax.Array:
    """A misfit that is linear in the data."""
    return jnp.sum(predicted * noise)


def invert(preset: Preset, results: common.Results) -> None:
    """Band by band, from low to high frequency, each from the model that the one before ended on."""
    true, start = load(results)
    fixed, lit = common.fixed_cells(true), load_lit(results, preset)
    results.remove("metrics.jsonl")
    bar = common.progress(range(sum(preset.iterations)), "inverting")
    begin = time.perf_counter()
    model = jf.Acoustic(vp=jnp.asarray(start))
    with common.PeakMemory() as memory:
        for i, (simulator, survey) in enumerate(acquisition(preset)):
            schedule = optax.cosine_decay_schedule(preset.rates[i], preset.iterations[i], alpha=0.1)
            for state in jf.invert(
                simulator,
                model,
                survey,
                load_observed(results, i),
                optimizer=optax.adam(schedule),
                iterations=preset.iterations[i],
                shots_per_iteration=min(preset.shots_per_iteration, len(survey)),
                mask=jf.Acoustic(vp=~fixed),
                bounds=(jf.Acoustic(vp=preset.slowest), jf.Acoustic(vp=preset.fastest)),
                devices=jax.devices(),
                aperture=preset.aperture,
            ):
                model = state.model
                error = common.model_error(model.vp, true, lit)
                values = {"misfit": np.asarray(state.misfit).item(), "model_error": error}
                results.add_metrics(band=i, frequency=preset.frequencies[i], iteration=state.iteration, **values)
                bar.set_postfix_str(f"{preset.frequencies[i]:g} Hz, model error {error:.2f} %")
                bar.update()
    bar.close()
    results.write_array("final_vp.npy", model.vp)
    results.write_json("cost.json", {"seconds": time.perf_counter() - begin, "peak_memory_bytes": memory.added})


def compare(preset: Preset, results: common.Results) -> None:
    """What the aperture saves and costs, figures, the table and summary.json."""
    true, start = load(results)
    final = np.load(results.need("final_vp.npy", "invert"))
    cost = results.read_json("cost.json")
    metrics = results.metrics()
    rock, lit = ~common.fixed_cells(true), load_lit(results, preset)
    bands = list(acquisition(preset))
    simulator, survey = bands[-1]
    observed = load_observed(results, len(bands) - 1)
    predicted, misfits = {}, {}
    for name, vp in common.progress({"start": start, "result": final}.items(), "data of start and result"):
        data = jf.simulate(simulator, jf.Acoustic(vp=jnp.asarray(vp)), survey, devices=jax.devices())
        predicted[name] = np.asarray(data)
        misfits[name] = float(jf.misfits.l2(data, jnp.asarray(observed)))
    aperture = measure_aperture(preset, simulator, survey, observed, start, rock)

    frequency = preset.frequencies[-1]
    draw_gathers(results, preset, simulator, survey, observed)
    draw_result(results, preset, true, start, final)
    draw_data(results, preset, simulator, survey, observed, predicted)
    common.draw_convergence(results, metrics, common.model_error(start, true, lit), "in illuminated cells")

    dark = rock & ~lit
    unlit = (
        {}
        if not dark.any()
        else {
            "model error in rock not illuminated at the start, %": common.model_error(start, true, dark),
            "model error in rock not illuminated at the end, %": common.model_error(final, true, dark),
        }
    )
    rows = {
        "illuminated cells, % of the rock": 100.0 * lit.sum() / rock.sum(),
        "model error in illuminated cells at the start, %": common.model_error(start, true, lit),
        "model error in illuminated cells at the end, %": common.model_error(final, true, lit),
        "model error in all rock at the start, %": common.model_error(start, true, rock),
        "model error in all rock at the end, %": common.model_error(final, true, rock),
        **unlit,
        f"data misfit at {frequency:g} Hz, end / start": misfits["result"] / misfits["start"],
        "gradients of one shot": len(metrics) * min(preset.shots_per_iteration, len(survey)),
        "seconds of the inversion": cost["seconds"],
        "peak memory of the inversion, MB": cost["peak_memory_bytes"] / 1e6,
        **aperture,
    }
    results.write_json("summary.json", {"environment": common.environment(), **rows})
    print(common.table(["", "value"], [[name, f"{value:.4g}"] for name, value in rows.items()]))
    for path in sorted(results.path("figures").iterdir()):
        print(path)


def measure_aperture(
    preset: Preset, simulator: jf.Simulator, survey: jf.Survey, observed: Array, vp: Array, rock: Array
) -> dict[str, float]:
    """Time and memory of a mini-batch's gradient on the shots' windows and on the whole model, and what differs.

    The mini-batch is spread over the line, its ends included.
    """
    shots = np.linspace(0, len(survey) - 1, min(preset.shots_per_iteration, len(survey))).round().astype(int)
    some, recorded = survey[shots], observed[shots]
    model = jf.Acoustic(vp=jnp.asarray(vp))
    both: list[dict[str, Any]] = [{"devices": jax.devices(), "aperture": a} for a in (preset.aperture, None)]
    data, whole_data = (np.asarray(jf.simulate(simulator, model, some, **options)) for options in both)
    memory, whole_memory = (jf.estimate_memory(simulator, model, some, jf.misfits.l2, **o).total for o in both)
    seconds, gradients = ([], []), [rock, rock]
    for _ in range(1 + 3):  # in turn, so that what else the machine does meets both alike; the first ones compile
        for i, options in enumerate(both):
            begin = time.perf_counter()
            _, gradient = jf.misfit_and_gradient(simulator, jf.misfits.l2, model, some, recorded, **options)
            gradients[i] = np.asarray(gradient.vp)[rock]
            seconds[i].append(time.perf_counter() - begin)
    once, whole_once = (statistics.median(times[1:]) for times in seconds)
    return {
        "aperture, m": preset.aperture,
        "a mini-batch's gradient with the aperture, s": once,
        "a mini-batch's gradient on the whole model, s": whole_once,
        "time of the whole model / with the aperture": whole_once / once,
        "memory of the whole model / with the aperture": whole_memory / memory,
        "difference of the data by the aperture, %": 100.0 * relative_difference(data, whole_data),
        "difference of the gradient by the aperture, %": 100.0 * relative_difference(*gradients),
    }


def relative_difference(x: Array, reference: Array) -> float:
    return float(np.linalg.norm(x - reference) / np.linalg.norm(reference))


def draw_acquisition(results: common.Results, preset: Preset, vp: Array, survey: jf.Survey) -> None:
    """``acquisition.gif``: boat, cable and aperture over the model, and the traces so far by their midpoints."""
    width, depth = ((n - 1) * preset.spacing / 1e3 for n in reversed(vp.shape))
    figure = Figure(figsize=(8.0, 4.6), dpi=90, layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    jf.plot.model(vp, preset.spacing, top)
    edge = preset.spacing / 2e3
    top.set(xlabel="", xlim=(-0.7, width + edge), ylim=(depth + edge, -0.42), aspect="auto", ylabel="Depth (km)")
    style = {"ls": "", "mec": "black", "zorder": 4}
    (boat,) = top.plot([0], [0], marker=(3, 0, -90), ms=12, color="black", **style)
    (source,) = top.plot([0], [0], marker="*", ms=11, color="red", **style)
    (cable,) = top.plot([0, 0], [0, 0], color="red", lw=2.5, zorder=3)
    (outside,) = top.plot([0, 0], [0, 0], color="0.55", lw=2, ls=":", zorder=3)
    window = Rectangle((0, 0), 0, depth, fill=False, ec="white", lw=1.5, ls="--", zorder=3)
    top.add_patch(window)

    bins = np.arange(0.0, width + 0.1, 0.1) - preset.receiver_spacing / 4e3  # no midpoint on the edge of a bin
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
        tail = at[shot] - (preset.first_offset + preset.cable_length) / 1e3
        boat.set_data([at[shot] + 0.12], [-0.2])
        source.set_data([at[shot]], [z])
        cable.set_data([receivers.min(), receivers.max()], [z, z])
        outside.set_data([max(tail, -0.7), 0.0] if tail < 0 else [], [z, z] if tail < 0 else [])
        left = max(0.0, receivers.min() - preset.aperture / 1e3)
        window.set_x(left)
        window.set_width(min(width, at[shot] + preset.aperture / 1e3) - left)
        for bar, fold in zip(bars, folds[shot], strict=True):
            bar.set_height(fold)
        count = f"{len(receivers)} of {real.shape[1]} receivers over the model"
        top.set_title(f"shot {shot + 1} of {len(survey)}: {count}; dashed: its aperture", fontsize="medium")
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])

    shots = np.linspace(0, len(survey) - 1, min(40, len(survey))).round().astype(int)
    frames = [draw(shot) for shot in common.progress(shots, "the boat's way")]
    palette = frames[len(frames) // 2].quantize(64, Image.Quantize.MAXCOVERAGE)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with results.written("figures/acquisition.gif") as path:
        times = [200] * (len(frames) - 1) + [2000]
        frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=False)
    draw(len(survey) // 2)
    results.write_figure("acquisition", figure, dpi=90)


def draw_gathers(
    results: common.Results, preset: Preset, simulator: jf.Simulator, survey: jf.Survey, observed: Array
) -> None:
    """Three shots of the last band as they are to be written: without padding, as wide as their cable."""
    shots = [0, len(survey) // 2, len(survey) - 1]
    gathers = survey[np.array(shots)].unpad(observed[shots])
    limit = float(np.percentile(np.abs(gathers[1]), 95))
    figure = Figure(figsize=(12, 5), layout="constrained")
    widths = [max(0.35, gather.shape[1] / survey.receiver.shape[1]) for gather in gathers]
    axes = figure.subplots(1, 3, sharey=True, width_ratios=widths)
    for ax, shot, gather in zip(axes, shots, gathers, strict=True):
        title = f"shot {shot + 1} at {survey.source[shot, 0, 1] / 1e3:.2f} km\n{gather.shape[1]} receivers"
        offset = offsets(preset, gather.shape[1])
        draw_gather(ax, gather[..., 0], simulator.grid.dt, offset, title, limit, bar=ax is axes[-1])
    figure.suptitle(f"observed data at {preset.frequencies[-1]:g} Hz, one scale (95th percentile of the middle shot)")
    results.write_figure("gathers", figure)


def draw_gather(ax: Axes, data: Array, dt: float, offset: Array, title: str, limit: float, bar: bool) -> None:
    """One panel of several on one scale, of which one has the colour bar."""
    jf.plot.gather(data, dt, ax, receiver_x=offset, title=title, clim=(-limit, limit))
    ax.set_xlabel("Offset (km)")
    ax.label_outer()
    if not bar:
        ax.images[0].colorbar.remove()  # pyright: ignore


def offsets(preset: Preset, receivers: int) -> Array:
    """Metres from the source: receivers are in order of offset, and the cable's tail is what may hang out."""
    return preset.first_offset + preset.receiver_spacing * np.arange(receivers)


def draw_data(
    results: common.Results,
    preset: Preset,
    simulator: jf.Simulator,
    survey: jf.Survey,
    observed: Array,
    predicted: dict[str, Array],
) -> None:
    """The middle shot: observed, and the residuals of start and result, on one scale."""
    shot = len(survey) // 2
    one = survey[shot : shot + 1]
    data = {name: one.unpad(x[shot : shot + 1])[0][..., 0] for name, x in predicted.items()}
    recorded = one.unpad(observed[shot : shot + 1])[0][..., 0]
    panels = {"observed": recorded, **{f"observed - {name}": recorded - x for name, x in data.items()}}
    limit = float(np.percentile(np.abs(recorded), 95))
    figure = Figure(figsize=(12, 5), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for ax, (name, panel) in zip(axes, panels.items(), strict=True):
        offset = offsets(preset, panel.shape[1])
        draw_gather(ax, panel, simulator.grid.dt, offset, name, limit, bar=ax is axes[-1])
    frequency = preset.frequencies[-1]
    figure.suptitle(f"shot {shot + 1} at {frequency:g} Hz, one scale (95th percentile of the observed)")
    results.write_figure("data", figure)


def draw_result(results: common.Results, preset: Preset, true: Array, start: Array, final: Array) -> None:
    """Models on one scale, their errors on another, and the illumination, by which cells are greyed out."""
    level, lit = np.load(results.path("illumination.npy")), load_lit(results, preset)
    dark = ~lit & ~common.fixed_cells(true)
    speeds = (float(true.min()), float(true.max()))
    limit = float(np.percentile(np.abs(start - true)[lit], 99))
    shape = (np.asarray(true.shape) * preset.spacing)[::-1]
    figure = Figure(figsize=(13, 3 * max(2.2, 6.0 * shape[1] / shape[0] + 0.6)), layout="constrained")
    axes = figure.subplots(3, 2)

    def model(ax: Axes, image: Array, title: str) -> None:
        jf.plot.model(image, preset.spacing, ax, title=title, clim=speeds, label="vp (m/s)")

    def error(ax: Axes, image: Array, title: str) -> None:
        options: dict[str, Any] = {"clim": (-limit, limit), "cmap": "RdBu_r", "label": "error of vp (m/s)"}
        jf.plot.model(image - true, preset.spacing, ax, title=title, **options)
        shade(ax, dark)

    model(axes[0, 0], true, "true")
    model(axes[1, 0], start, "start")
    model(axes[2, 0], final, "result; grey: not illuminated, no result")
    shade(axes[2, 0], dark)
    jf.plot.model(
        level,
        preset.spacing,
        axes[0, 1],
        title=f"illumination; grey: below {preset.dark:g} dB",
        clim=(preset.dark, float(np.nanpercentile(level, 99.5))),
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
    common.main(main, Options)
