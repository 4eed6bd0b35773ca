"""The case of the experiments of encoded inversion: a fixed spread over a sea, and scales from low frequencies to all.

The survey is that of Seistorch's documents: 93 sources and 461 receivers near the surface, a Ricker wavelet of 5 Hz,
records of 4 s, a start that is linear in depth below the sea bed.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import jaxfwi as jf
import kit
from kit.case import Array

STRENGTH = 1e4  # of the sources: with weaker ones the gradients would not stand above the 1e-8 that Adam adds to them
PARTS = {"upper": (0.0, 0.376), "middle": (0.376, 0.711), "lower": (0.711, 1.0)}  # of the depth below the sea bed


@dataclass(frozen=True, kw_only=True)
class Case(kit.Inversion):
    """What is computed, in scales."""

    shots: int
    scales: tuple[float, ...] = (1.0, 3.0, 5.0, 0.0)  # corner of the low-pass in Hz, 0 for all frequencies
    last_rates: tuple[float, ...] = (1.0,) * 4
    tilt: float = 0.0  # power of frequency that data are divided by above half a Hz
    smoothing: tuple[float, ...] = (0.0,) * 4  # of gradients in each scale, standard deviation
    levels: tuple[tuple[float, ...], ...] = ()  # in each scale, lengths of which each has an Adam; by default one Adam
    shares: tuple[float, ...] = ()  # of the rate, by level
    receiver_step: int = 1  # columns from one receiver to the next
    margin: float = 1000.0  # on either side, without shots and receivers, where no error is measured
    depth: float = 40.0  # of shots and receivers
    frequency: float = 5.0  # of the Ricker wavelet, Hz
    order: int = 4

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

    def acquisition(self, staggered: bool = False, **options: Any) -> tuple[jf.Simulator, jf.Survey]:
        """The simulator, with `options`, and the survey: shots and receivers in a line between the margins."""
        grid = self.grid(staggered)
        edge = round(self.margin / self.spacing)
        columns = np.arange(edge, self.shape[1] - edge, self.receiver_step)
        survey = jf.Survey.fixed_spread(
            source_x=np.linspace(columns[0], columns[-1], self.shots).round() * self.spacing,
            source_z=self.depth,
            receiver_x=columns * self.spacing,
            receiver_z=self.depth,
            wavelet=STRENGTH * jf.ricker(grid, self.frequency),
        )
        return jf.Simulator(grid, self.order, jf.CPML(20), **options), survey

    def problem(self, results: kit.Results, observed: str = "observed.npy", **options: Any) -> jf.Problem:
        """The acquisition with these data; one device computes the one super-shot."""
        data = results.load(observed, "model", mapped=True)
        return jf.Problem(*self.acquisition(**options), data, on=jf.On(devices=1))

    def stages(self, optimizer: Callable[[int], Any]) -> list[jf.Stage]:
        """A stage for each scale; ``optimizer(scale)`` is that of the scale of this number."""

        def low_pass(corner: float) -> Any:
            parts = [jf.filters.Butterworth(high=corner, order=3)] if corner else []
            parts += [jf.filters.Tilt(self.tilt)] if self.tilt else []
            return functools.reduce(lambda a, b: a * b, parts) if parts else None

        return [self.band(i, self.shots, optimizer(i), filter=low_pass(corner)) for i, corner in enumerate(self.scales)]

    def smooth(self, scale: int, rock: Array) -> list[Any]:
        """The link of a scale's optimiser that smooths gradients in these cells, or none."""
        length = self.smoothing[scale]
        return [jf.optimise.smooth(self.cells, length, mask=rock)] if length else []

    def adam(self, scale: int, rock: Array) -> Any:
        """The optimiser of a scale: gradients smoothed, and Adam at the case's rate; or an Adam for each of several
        lengths, so that the model's long wavelengths, of which a cell's gradient says little, are found beside the
        short."""
        steps = self.rate(scale)
        if not self.levels:
            return optax.chain(*self.smooth(scale, rock), optax.adam(steps))
        parts = []
        for length, share in zip(self.levels[scale], self.shares, strict=True):
            smooth = jf.optimise.smooth(self.cells, length, mask=rock)
            parts.append(optax.chain(smooth, optax.adam(steps), optax.scale(share), smooth))
        return jf.optimise.sum_of(*parts)


def model_data(case: Case, results: kit.Results) -> None:
    """Stage model of an acoustic experiment: ``observed.npy`` in the true model."""
    simulator, survey = case.acquisition()
    true = jf.Acoustic(vp=jnp.asarray(kit.scene(case, results).true["vp"]))
    kit.observe(results, "observed.npy", simulator, true, survey)


def figures_of(scene: kit.Scene, final: kit.Models, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of ``summary.json`` that every inversion has."""
    cells = scene.case.evaluated(scene.fixed)["whole"]
    out: dict[str, Any] = {}
    for name in scene.true:
        for when, models in (("start", scene.start), ("end", final)):
            for key, error in scene.errors(models).items():
                if key.split()[0] == name:
                    out[f"{key}: error at the {when}, %"] = error
            out[f"{name}: SSIM at the {when}"] = kit.ssim(models[name], scene.true[name], cells)
    return out | {"simulations with a gradient": len(metrics)}


def compare_data(
    results: kit.Results, case: Case, problem: jf.Problem, models: Mapping[str, jf.WaveEquation], suffix: str = ""
) -> dict[str, float]:
    """Draw the data of the models "start" and "result", and what is left of the misfit."""
    given = problem.simulator, problem.survey, problem.observed
    left = kit.compare_data(results, *given, models, f" at {case.frequency:g} Hz", suffix)
    return {"data misfit, end / start": left}


def compare(results: kit.Results, scene: kit.Scene, final: kit.Models, models: Mapping[str, jf.WaveEquation]) -> None:
    """Stage compare of one inversion: figures, the table and summary.json. `models` are as for `compare_data`."""
    case, metrics = scene.case, results.metrics()
    figures = figures_of(scene, final, metrics) | kit.cost_of(results, metrics)
    figures |= compare_data(results, case, case.problem(results), models)
    for name, true in scene.true.items():
        rock = true[~scene.fixed]
        images = {"true": true, "start": scene.start[name], "result": final[name]}
        look = {"clim": (float(rock.min()), float(rock.max())), "label": f"{name} (m/s)"}
        kit.draw_models(results, images, case.cells, f"result_{name}", **look)
    draw_convergence(results, scene, {"": metrics})
    kit.finish(results, figures)


def draw_convergence(results: kit.Results, scene: kit.Scene, runs: dict[str, list[dict[str, Any]]]) -> None:
    """``convergence.png``, with errors by depth."""
    panels = {f"{name}, by depth below the sea bed": {part: f"{name} {part}" for part in PARTS} for name in scene.true}
    kit.draw_convergence(results, runs, panels, scene.errors(scene.start))
