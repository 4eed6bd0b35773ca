"""Source-encoded acoustic inversion: ten shots a simulation, from low to high frequencies."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jaxfwi as jf
import kit
from kit import encoded
from kit.encoded import Case


@dataclass(frozen=True)
class Options(kit.Options):
    """Source-encoded acoustic inversion: every iteration sums shots to one super-shot with random signs."""

    out: Path = Path("runs/source_encoding_acoustic")
    """The output folder."""
    recipe: Literal["documents", "tuned"] | None = None
    """documents: low-passes of 1, 3, 5 Hz and all, Adam at 20 m/s. tuned, the default: the same number of simulations,
    from 2 Hz on, low frequencies raised, long wavelengths of the model stepping on their own, steps that shrink."""


PRESETS = {
    "tiny": Case((40, 90), 60.0, shots=6, iterations=(2, 2), rates=(20.0, 20.0), scales=(3.0, 0.0),
                 shots_per_iteration=3, margin=600.0, depth=60.0, frequency=2.5, duration=2.0,
                 levels=((120.0, 400.0), (60.0, 200.0)), shares=(0.6, 0.5)),
    "quick": Case((58, 187), 60.0, shots=93, iterations=(40,) * 4, rates=(20.0,) * 4, depth=60.0, frequency=4.0,
                  order=8),
    "full": Case((173, 561), 20.0, shots=93, iterations=(50,) * 4, rates=(20.0,) * 4),
}  # fmt: skip
TUNED: dict[str, Any] = {"scales": (2.0, 3.0, 5.0, 0.0), "iterations": (30, 30, 40, 100), "tilt": 1.0,
                         "rates": (40.0, 40.0, 40.0, 30.0), "last_rates": (0.5, 0.5, 0.5, 0.2),
                         "levels": ((150.0, 500.0, 1500.0), (100.0, 400.0, 1000.0), (50.0, 250.0, 750.0),
                                    (20.0, 100.0, 400.0)), "shares": (0.6, 0.5, 0.4)}  # fmt: skip


def main(options: Options) -> None:
    presets = PRESETS
    if options.recipe != "documents":
        presets = {k: c if k == "tiny" else dataclasses.replace(c, **TUNED) for k, c in PRESETS.items()}
    kit.run(options, presets, {"model": encoded.model_data, "invert": invert, "compare": compare})


def invert(case: Case, results: kit.Results) -> None:
    """Scale by scale, each from the model that the one before ended on."""
    scene = kit.scene(case, results)
    scales = case.stages(lambda scale: case.adam(scale, ~scene.fixed))
    start = jf.Acoustic(vp=jnp.asarray(scene.start["vp"]))
    kit.invert(results, scene, [(case.problem(results), scales)], start, encoding=jf.Encoding(), **scene.limits)


def compare(case: Case, results: kit.Results) -> None:
    """Figures, the table and summary.json."""
    scene, final = kit.scene(case, results), {"vp": results.load("final_vp.npy", "invert")}
    models = {"start": jf.Acoustic(vp=scene.start["vp"]), "result": jf.Acoustic(vp=final["vp"])}
    encoded.compare(results, scene, final, models)


if __name__ == "__main__":
    kit.main(main, Options, devices=kit.cores())
