"""A first inversion: acoustic FWI of a Marmousi-like section, or of a model of your own, from a smooth start."""

import dataclasses
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

import jaxfwi as jf

Array = np.ndarray


@dataclass(frozen=True)
class Options:
    """Acoustic full waveform inversion of a synthetic model, in two frequency bands, with mini-batches of shots."""

    preset: Literal["tiny", "quick", "full"] | None = None
    """How much to compute: tiny to see that it runs, quick (the default) under 3 minutes on 2 cores, full hours."""
    stage: Literal["make", "model", "invert", "compare", "all"] = "all"
    """Make the models; model the data; invert; compare. Each reads what the one before wrote in the output folder."""
    out: Path = Path("runs/first_inversion")
    """The output folder."""
    vp: Path | None = None
    """A .npy file with the true velocity in m/s, (depth, distance); by default a Marmousi-like section."""
    start: Path | None = None
    """A .npy file with the starting model; by default the true one smoothed."""
    spacing: float | None = None
    """Metres between the cells of your model."""


@dataclass(frozen=True)
class Preset:
    """What is computed."""

    shape: tuple[int, int]  # of the section, where no file is given
    spacing: float
    shots: int
    shots_per_iteration: int
    iterations: tuple[int, ...]  # of each band
    frequencies: tuple[float, ...] = (3.0, 6.0)  # peak frequency of the Ricker wavelet of each band, Hz
    rates: tuple[float, ...] = (25.0, 20.0)  # Adam's first step in each band, m/s
    duration: float = 4.0  # of the records, s
    smoothing: float = 300.0  # standard deviation of the Gaussian that makes the starting model, m
    slowest: float = 0.0  # bounds of the inversion, m/s, set by stage make: the models' extremes and 5 % more
    fastest: float = 0.0  # the time step is chosen for it
    order: int = 8


PRESETS = {
    "tiny": Preset((40, 80), 50.0, shots=3, shots_per_iteration=2, iterations=(3, 3), duration=1.5),
    "quick": Preset((100, 300), 30.0, shots=16, shots_per_iteration=8, iterations=(15, 40)),
    "full": Preset((150, 460), 20.0, shots=40, shots_per_iteration=10, iterations=(40, 60, 80),
                   frequencies=(3.0, 5.0, 8.0), rates=(25.0, 20.0, 15.0)),
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
    """The true and the starting model, and the resolved configuration."""
    preset = PRESETS[options.preset or "quick"]
    true, start, spacing = common.true_and_start(options, preset.shape, preset.spacing, preset.smoothing)
    preset = dataclasses.replace(preset, shape=true.shape, spacing=spacing)
    slowest, fastest = min(true.min(), start.min()), max(true.max(), start.max())
    preset = dataclasses.replace(preset, slowest=0.95 * float(slowest), fastest=1.05 * float(fastest))
    results.remove("metrics.jsonl", "observed*.npy", "final_vp.npy", "cost.json", "summary.json", "figures/*.png")
    results.write_json("config.json", {**dataclasses.asdict(options), **dataclasses.asdict(preset)})
    results.write_array("true_vp.npy", true)
    results.write_array("start_vp.npy", start)


def acquisition(preset: Preset) -> Iterator[tuple[jf.Simulator, jf.Survey]]:
    """The simulator and the survey of each band: shots along the top, receivers in every other column."""
    shape, spacing = preset.shape, preset.spacing
    rough = jf.Grid(shape, spacing, dt=1.0, nt=1)
    dt = 0.9 * rough.stable_dt(preset.fastest, preset.order)
    grid = jf.Grid(shape, spacing, dt, nt=round(preset.duration / dt))
    columns = np.linspace(1, shape[1] - 2, preset.shots).round()
    for frequency in preset.frequencies:
        survey = jf.Survey.fixed_spread(
            source_x=columns * spacing,
            source_z=spacing,
            receiver_x=np.arange(0, shape[1], 2) * spacing,
            receiver_z=spacing,
            wavelet=jf.ricker(grid, frequency),
        )
        yield jf.Simulator(grid, preset.order, jf.CPML(20)), survey


def load(results: common.Results) -> tuple[Array, Array]:
    """True and starting model."""
    return np.load(results.need("true_vp.npy", "make")), np.load(results.need("start_vp.npy", "make"))


def model_data(preset: Preset, results: common.Results) -> None:
    """The observed data of each band."""
    true, _ = load(results)
    bands = list(acquisition(preset))
    for i, (simulator, survey) in enumerate(common.progress(bands, "modelling the data")):
        data = jf.simulate(simulator, jf.Acoustic(vp=jnp.asarray(true)), survey, devices=jax.devices())
        results.write_array(f"observed_{i}.npy", data)


def invert(preset: Preset, results: common.Results) -> None:
    """Band by band, from low to high frequency, each from the model that the one before ended on."""
    true, start = load(results)
    fixed = common.fixed_cells(true)
    results.remove("metrics.jsonl")
    bar = common.progress(range(sum(preset.iterations)), "inverting")
    begin = time.perf_counter()
    model = jf.Acoustic(vp=jnp.asarray(start))
    with common.PeakMemory() as memory:
        for i, (simulator, survey) in enumerate(acquisition(preset)):
            observed = np.load(results.need(f"observed_{i}.npy", "model"))
            schedule = optax.cosine_decay_schedule(preset.rates[i], preset.iterations[i], alpha=0.1)
            for state in jf.invert(
                simulator,
                model,
                survey,
                observed,
                optimizer=optax.adam(schedule),
                iterations=preset.iterations[i],
                shots_per_iteration=min(preset.shots_per_iteration, len(survey)),
                mask=jf.Acoustic(vp=~fixed),
                bounds=(jf.Acoustic(vp=preset.slowest), jf.Acoustic(vp=preset.fastest)),
                devices=jax.devices(),
            ):
                model = state.model
                values = {"misfit": np.asarray(state.misfit).item(), "model_error": model_error(model.vp, true)}
                results.add_metrics(band=i, frequency=preset.frequencies[i], iteration=state.iteration, **values)
                bar.set_postfix_str(f"{preset.frequencies[i]:g} Hz, model error {values['model_error']:.2f} %")
                bar.update()
    bar.close()
    results.write_array("final_vp.npy", model.vp)
    results.write_json("cost.json", {"seconds": time.perf_counter() - begin, "peak_memory_bytes": memory.added})


def model_error(vp: Any, true: Array) -> float:
    """Relative L2 error below the water, in per cent."""
    return common.model_error(vp, true, ~common.fixed_cells(true))


def compare(preset: Preset, results: common.Results) -> None:
    """Figures, the table and summary.json."""
    true, start = load(results)
    final = np.load(results.need("final_vp.npy", "invert"))
    cost = results.read_json("cost.json")
    metrics = results.metrics()
    bands = list(acquisition(preset))
    simulator, survey = bands[-1]
    middle = len(survey) // 2
    observed = np.load(results.need(f"observed_{len(bands) - 1}.npy", "model"))
    gathers = {"observed": observed[middle]}
    misfits = {}
    for name, vp in (("start", start), ("result", final)):
        data = jf.simulate(simulator, jf.Acoustic(vp=jnp.asarray(vp)), survey, devices=jax.devices())
        misfits[name] = float(jf.misfits.l2(data, observed))
        gathers[name] = np.asarray(data[middle])

    common.draw_models(results, true, start, final, preset.spacing)
    sources, receivers = survey.source[:, 0], survey.receiver[0]
    ax = jf.plot.model(true, preset.spacing, survey_sources=sources, survey_receivers=receivers)
    results.write_figure("survey", ax.figure)
    receiver_x = np.asarray(survey.receiver[middle, :, 1])
    common.draw_residuals(results, gathers, simulator.grid.dt, receiver_x, preset.frequencies[-1])
    common.draw_convergence(results, metrics, model_error(start, true), "below the water")

    rows = {
        "model error at the start, %": model_error(start, true),
        "model error at the end, %": model_error(final, true),
        f"data misfit at {preset.frequencies[-1]:g} Hz, end / start": misfits["result"] / misfits["start"],
        "gradients of one shot": len(metrics) * min(preset.shots_per_iteration, len(survey)),
        "seconds of the inversion": cost["seconds"],
        "peak memory of the inversion, MB": cost["peak_memory_bytes"] / 1e6,
    }
    results.write_json("summary.json", {"environment": common.environment(), **rows})
    print(common.table(["", "value"], [[name, f"{value:.4g}"] for name, value in rows.items()]))
    for path in sorted(results.path("figures").glob("*.png")):
        print(path)


if __name__ == "__main__":
    common.main(main, Options)
