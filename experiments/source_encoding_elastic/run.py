"""Source-encoded elastic inversion: P- and S-wave velocities of the particle velocities that ten shots at once give."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jaxfwi as jf
import kit
from kit import encoded

DENSITY = 2000.0  # kg/m3, of water too, where no file is given
RATIO = 1.73  # of P- to S-wave velocity in rock, where no file is given
FORCE = 1e10  # N/m, at the wavelet's peak: of 1 N/m the gradients would be too small for Adam and single precision


@dataclass(frozen=True)
class Options(kit.Options):
    """Source-encoded elastic inversion: every iteration sums shots to one super-shot with random signs."""

    out: Path = Path("runs/source_encoding_elastic")
    """The output folder."""
    preset: Literal["tiny", "quick", "half", "full"] | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    """How much to compute: tiny to see that it runs; quick, the default; half, of cells twice those of full."""
    vs: Path | None = None
    """A .npy file with the true S-wave velocity in m/s, 0 in water; by default vp / 1.73 in rock."""
    rho: Path | None = None
    """A .npy file with the density in kg/m3, which is not inverted for; by default 2000 everywhere."""
    start_vs: Path | None = None
    """A .npy file with the starting S-wave velocity; by default the starting model's vp / 1.73 in rock."""


@dataclass(frozen=True, kw_only=True)
class Case(encoded.Case):
    """What is computed; `rates` are those of vp."""

    vs_rates: tuple[float, ...]  # Adam's first step in each scale, m/s

    def acquisition(self, staggered: bool = True, **options: Any) -> tuple[jf.Simulator, jf.Survey]:
        """Vertical forces, which in water send P waves, and receivers of the particle velocity."""
        fields = {"source_fields": ("vz",), "receiver_fields": ("vx", "vz")}
        simulator, survey = super().acquisition(staggered, **fields, **options)
        return simulator, dataclasses.replace(survey, wavelet=FORCE / encoded.STRENGTH * survey.wavelet)


LONG: dict[str, Any] = {"shots": 93, "iterations": (50,) * 4, "rates": (30.0, 30.0, 20.0, 20.0),
                        "vs_rates": (18.0, 18.0, 12.0, 12.0), "last_rates": (0.5,) * 4, "tilt": 1.0,
                        "smoothing": (150.0, 100.0, 50.0, 20.0), "water_depth": 480.0}  # fmt: skip
PRESETS = {
    "tiny": Case((34, 68), 70.0, shots=6, iterations=(3,), rates=(20.0,), vs_rates=(12.0,), scales=(2.0,),
                 smoothing=(70.0,), shots_per_iteration=3, margin=700.0, depth=70.0, frequency=1.5, duration=2.5),
    "quick": Case((60, 160), 50.0, shots=31, iterations=(10, 15, 20, 20), rates=(40.0, 30.0, 20.0, 20.0),
                  vs_rates=(12.0,) * 4, scales=(1.5, 2.5, 4.0, 0.0), margin=500.0, depth=50.0, frequency=3.0,
                  order=8, water_depth=480.0),
    "half": Case((87, 281), 40.0, scales=(2.0, 3.0, 4.0, 0.0), frequency=4.0, order=8, **LONG),
    "full": Case((173, 561), 20.0, scales=(2.0, 3.0, 5.0, 0.0), **LONG),
}  # fmt: skip


def main(options: Options) -> None:
    stages = {"model": model_data, "invert": invert, "compare": compare}
    kit.run(options, PRESETS, stages, shear_and_density)


def shear_and_density(options: Options, true: np.ndarray, start: np.ndarray) -> kit.Models:
    """S-wave velocities, true and to start from, and the density."""
    for name in ("vs", "rho", "start_vs"):
        if getattr(options, name) is not None and options.vp is None:
            raise kit.UserError(f"--{name.replace('_', '-')} goes with a model of your own: give --vp FILE too.")
    water = jf.models.is_water(true)
    models = {"true_vs": np.where(water, 0.0, true / RATIO).astype(np.float32)}
    if options.vs is not None:
        models["true_vs"] = kit.load_model(options.vs, "--vs", shape=true.shape, zeros=True)
    models["start_vs"] = np.where(kit.fixed_cells(true), models["true_vs"], start / RATIO).astype(np.float32)
    if options.start_vs is not None:
        models["start_vs"] = kit.load_model(options.start_vs, "--start-vs", shape=true.shape, zeros=True)
    for option, vs in (("--vs", models["true_vs"]), ("--start-vs", models["start_vs"])):
        if (vs[~water] == 0).any():
            raise kit.UserError(
                f"{option}: the S-wave velocity is 0 in {np.sum(vs[~water] == 0)} cells below the sea, where an "
                "inversion cannot change it; the sea is where --vp is at most 1500 m/s from the top down."
            )
    density = np.full_like(true, DENSITY)
    if options.rho is not None:
        density = kit.load_model(options.rho, "--rho", shape=true.shape)
    return {**models, "true_rho": density}


def load(case: Case, results: kit.Results) -> tuple[kit.Scene, jax.Array]:
    """The velocities and the density."""
    return kit.scene(case, results, "vp", "vs"), jnp.asarray(results.load("true_rho.npy", "make"))


def elastic(models: kit.Models, rho: jax.Array) -> jf.Elastic:
    return jf.Elastic(vp=jnp.asarray(models["vp"]), vs=jnp.asarray(models["vs"]), rho=rho)


def admissible(model: jf.Elastic) -> jf.Elastic:
    """The model with vs at most 0.7 vp, which is a Poisson's ratio above 0: vp and vs step on their own."""
    return jf.Elastic(vp=model.vp, vs=jnp.minimum(model.vs, 0.7 * model.vp), rho=model.rho)


def model_data(case: Case, results: kit.Results) -> None:
    """The observed data."""
    scene, rho = load(case, results)
    simulator, survey = case.acquisition()
    kit.observe(results, "observed.npy", simulator, elastic(scene.true, rho), survey)


def invert(case: Case, results: kit.Results) -> None:
    """Scale by scale, each from the model that the one before ended on."""
    scene, rho = load(case, results)
    rock = ~scene.fixed
    vs = np.stack([scene.true["vs"], scene.start["vs"]])[:, rock]
    lower = jf.Elastic(vp=case.slowest, vs=0.95 * float(vs.min()), rho=0.0)  # S waves stay long enough for the grid
    upper = jf.Elastic(vp=case.fastest, vs=1.05 * float(vs.max()), rho=np.inf)

    def optimizer(scale: int) -> Any:
        """Gradients smoothed; an Adam for each velocity; the density is given."""
        vp, vs = optax.adam(case.rate(scale)), optax.adam(case.rate(scale, case.vs_rates))
        parameters = jf.Elastic(vp="vp", vs="vs", rho="rho")
        by_parameter = optax.partition({"vp": vp, "vs": vs, "rho": optax.set_to_zero()}, parameters)
        return optax.chain(*case.smooth(scale, rock), by_parameter)

    kit.invert(
        results,
        scene,
        [(case.problem(results), case.stages(optimizer))],
        elastic(scene.start, rho),
        to_model=admissible,
        encoding=jf.Encoding(),
        mask=jf.Elastic(vp=rock, vs=rock, rho=np.zeros_like(rock)),
        bounds=(lower, upper),
    )


def compare(case: Case, results: kit.Results) -> None:
    """Figures, the table and summary.json."""
    scene, rho = load(case, results)
    final = {name: results.load(f"final_{name}.npy", "invert") for name in scene.true}
    encoded.compare(results, scene, final, {"start": elastic(scene.start, rho), "result": elastic(final, rho)})


if __name__ == "__main__":
    kit.main(main, Options, devices=kit.cores())
