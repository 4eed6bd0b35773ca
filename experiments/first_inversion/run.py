"""A first inversion: acoustic FWI of a Marmousi-like section, or of a model of your own, from a smooth start."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jaxfwi as jf
import kit


@dataclass(frozen=True)
class Options(kit.Options):
    """Acoustic full waveform inversion of a synthetic model, in two frequency bands, with mini-batches of shots. Preset
    quick takes under 3 minutes on 2 cores, full hours."""

    out: Path = Path("runs/first_inversion")
    """The output folder."""


@dataclass(frozen=True, kw_only=True)
class Case(kit.Inversion):
    """What is computed."""

    shots: int
    start_smoothing: float | None = 300.0


PRESETS = {
    "tiny": Case((40, 80), 50.0, shots=3, shots_per_iteration=2, iterations=(3, 3), rates=(25.0, 20.0), duration=1.5),
    "quick": Case((100, 300), 30.0, shots=16, shots_per_iteration=8, iterations=(15, 40), rates=(25.0, 20.0)),
    "full": Case((150, 460), 20.0, shots=40, iterations=(40, 60, 80), frequencies=(3.0, 5.0, 8.0),
                 rates=(25.0, 20.0, 15.0)),
}  # fmt: skip


def main(options: Options) -> None:
    kit.run(options, PRESETS, {"model": model_data, "invert": invert, "compare": compare})


def acquisition(case: Case) -> Iterator[tuple[jf.Simulator, jf.Survey]]:
    """The simulator and the survey of each band: shots along the top, receivers in every other column."""
    grid, columns = case.grid(), case.shape[1]
    for frequency in case.frequencies:
        survey = jf.Survey.fixed_spread(
            source_x=np.linspace(1, columns - 2, case.shots).round() * case.spacing,
            source_z=case.spacing,
            receiver_x=np.arange(0, columns, 2) * case.spacing,
            receiver_z=case.spacing,
            wavelet=jf.ricker(grid, frequency),
        )
        yield jf.Simulator(grid, case.order, jf.CPML(20)), survey


def model_data(case: Case, results: kit.Results) -> None:
    """The observed data of each band."""
    true = jf.Acoustic(vp=jnp.asarray(kit.scene(case, results).true["vp"]))
    for i, (simulator, survey) in enumerate(acquisition(case)):
        kit.observe(results, f"observed_{i}.npy", simulator, true, survey)


def invert(case: Case, results: kit.Results) -> None:
    """Band by band, from low to high frequency, each from the model that the one before ended on."""
    scene, on = kit.scene(case, results), jf.On(devices=jax.devices())
    bands = []
    for i, (simulator, survey) in enumerate(acquisition(case)):
        observed = results.load(f"observed_{i}.npy", "model")
        bands.append((jf.Problem(simulator, survey, observed, on=on), [case.band(i, len(survey))]))
    kit.invert(results, scene, bands, jf.Acoustic(vp=jnp.asarray(scene.start["vp"])), **scene.limits)


def compare(case: Case, results: kit.Results) -> None:
    """Figures, the table and summary.json."""
    scene, metrics = kit.scene(case, results), results.metrics()
    true, start = scene.true["vp"], scene.start["vp"]
    final = results.load("final_vp.npy", "invert")
    *_, (simulator, survey) = acquisition(case)
    observed = results.load(f"observed_{len(case.frequencies) - 1}.npy", "model")
    models = {"start": jf.Acoustic(vp=start), "result": jf.Acoustic(vp=final)}
    last, everything = case.frequencies[-1], {"some": len(survey), "devices": jax.devices()}
    left = kit.compare_data(results, simulator, survey, observed, models, f" at {last:g} Hz", **everything)

    kit.draw_models(results, {"true": true, "start": start, "result": final}, case.cells)
    results.write_figure("survey", jf.plot.model(true, case.cells, survey=survey).figure)
    errors = scene.errors(scene.start)
    kit.draw_convergence(results, {"": metrics}, {"model, below the water": {"": "vp"}}, errors)
    rows = {
        "model error at the start, %": errors["vp"],
        "model error at the end, %": scene.errors({"vp": final})["vp"],
        f"data misfit at {last:g} Hz, end / start": left,
        "gradients of one shot": len(metrics) * min(case.shots_per_iteration, len(survey)),
    }
    kit.finish(results, rows | kit.cost_of(results, metrics))


if __name__ == "__main__":
    kit.main(main, Options, devices=kit.cores())
