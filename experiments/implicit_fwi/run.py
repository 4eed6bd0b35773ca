"""Implicit inversion: the velocity is a network of the coordinates, beside the usual one on a grid, at equal cost."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from scipy.fft import dctn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jaxfwi as jf
import kit
from kit import encoded
from siren import Siren

WAVELENGTHS = {"long": (2000.0, np.inf), "middle": (700.0, 2000.0), "short": (0.0, 700.0)}  # of models, metres
FORMS = ("grid", "network")


@dataclass(frozen=True)
class Options(kit.Options):
    """Implicit inversion: the velocity is a network of the coordinates. The same survey, super-shots and number of
    simulations serve an inversion on the grid beside it."""

    out: Path = Path("runs/implicit_fwi")
    """The output folder."""


@dataclass(frozen=True, kw_only=True)
class Case(encoded.Case):
    """What is computed."""

    network_rates: tuple[float, ...] = (3e-3, 1.5e-3, 1.5e-3, 1e-3)  # Adam's longest step of weights in each scale
    warm_up: int = 5  # iterations over which a scale's rate of the network rises
    width: int = 128  # of the network's layers
    layers: int = 2  # of sines
    omega: float = 30.0  # by which their arguments are multiplied
    unit: float = 1000.0  # m/s that the network's output of 1 stands for
    softness: float = 50.0  # m/s over which a bound bends what comes near

    @property
    def network(self) -> Siren:
        """The network to start from."""
        return Siren(2, self.width, self.layers, self.omega, jax.random.key(0))

    def network_adam(self, scale: int) -> optax.GradientTransformation:
        """Adam for the network. Its rate rises at first: a new scale's first steps have the same length for every
        weight, and all of them together throw the model far away."""
        rate, steps, end = self.network_rates[scale], self.iterations[scale], self.last_rates[scale]
        return optax.adam(
            optax.warmup_cosine_decay_schedule(rate / self.warm_up, rate, self.warm_up, steps, end * rate)
        )


RECIPE: dict[str, Any] = {"scales": (2.0, 3.0, 5.0, 0.0), "rates": (40.0, 40.0, 30.0, 20.0), "last_rates": (0.5,) * 4,
                          "tilt": 1.0, "smoothing": (150.0, 100.0, 50.0, 20.0)}  # fmt: skip
PRESETS = {
    "tiny": Case((40, 90), 60.0, shots=6, iterations=(3, 3), rates=(20.0, 20.0), scales=(3.0, 0.0),
                 network_rates=(1e-3, 1e-3), width=16, warm_up=1, shots_per_iteration=3, margin=600.0, depth=60.0,
                 frequency=2.5, duration=2.0),
    "quick": Case((58, 187), 60.0, shots=93, iterations=(30,) * 4, depth=60.0, frequency=4.0, order=8, **RECIPE),
    "full": Case((173, 561), 20.0, shots=93, iterations=(50,) * 4, **RECIPE),
}  # fmt: skip


def model_of(scene: kit.Scene) -> Callable[[Siren], jf.Acoustic]:
    """The function from a network to the model: the start and what the network adds to it, in the bounds; the sea as
    it is."""
    case, start, fixed = scene.case, jnp.asarray(scene.start["vp"]), jnp.asarray(scene.fixed)
    z, x = (jnp.linspace(-1.0, 1.0, n) for n in case.shape)
    points = jnp.stack(jnp.meshgrid(z, x, indexing="ij"), axis=-1)

    def network_to_model(network: Siren) -> jf.Acoustic:
        vp = start + case.unit * network(points)
        vp = case.slowest + case.softness * jax.nn.softplus((vp - case.slowest) / case.softness)
        vp = case.fastest - case.softness * jax.nn.softplus((case.fastest - vp) / case.softness)
        return jf.Acoustic(vp=jnp.where(fixed, start, vp))

    return network_to_model


def main(options: Options) -> None:
    kit.run(options, PRESETS, {"model": encoded.model_data, "invert": invert, "compare": compare})


def invert(case: Case, results: kit.Results) -> None:
    """Both forms, with the same shots and codes in each iteration."""
    scene, problem = kit.scene(case, results), case.problem(results)

    def measure(models: kit.Models) -> dict[str, float]:
        return scene.errors(models) | by_wavelength(scene, models)

    def inverted(form: str, optimizer: Callable[[int], Any], start: Any, **options: Any) -> kit.Models:
        problems, encoding = [(problem, case.stages(optimizer))], jf.Encoding()
        return kit.invert(results, scene, problems, start, form, measure, encoding=encoding, **options)

    on_grid = jf.Acoustic(vp=jnp.asarray(scene.start["vp"]))
    inverted("grid", lambda scale: case.adam(scale, ~scene.fixed), on_grid, **scene.limits)
    final = inverted("network", case.network_adam, case.network, to_model=model_of(scene))
    results.write_array("final_vp.npy", final["vp"])


def spectrum(scene: kit.Scene, section: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wavenumbers in cycles per metre, and the cosine transform, of what lies below the sea bed between the margins."""
    rows, columns = np.nonzero(scene.case.evaluated(scene.fixed)["whole"])
    part = section[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    k = [np.arange(n) / (2 * n * scene.case.spacing) for n in part.shape]
    return np.hypot(*np.meshgrid(*k, indexing="ij")), np.asarray(dctn(part.astype(float), norm="ortho"))


def by_wavelength(scene: kit.Scene, models: kit.Models) -> dict[str, float]:
    """Errors of the structure of some wavelengths in per cent of what they were at the start."""
    wavenumber, error = spectrum(scene, models["vp"] - scene.true["vp"])
    _, first = spectrum(scene, scene.start["vp"] - scene.true["vp"])
    out = {}
    for name, (shortest, longest) in WAVELENGTHS.items():
        band = (wavenumber >= 1 / longest) & (wavenumber < (1 / shortest if shortest else np.inf))
        out[f"error of {name} wavelengths"] = float(100 * np.linalg.norm(error[band]) / np.linalg.norm(first[band]))
    return out


def compare(case: Case, results: kit.Results) -> None:
    """Figures, the table and summary.json."""
    scene, problem = kit.scene(case, results), case.problem(results)
    final = {form: {"vp": results.load(f"final_vp_{form}.npy", "invert")} for form in FORMS}
    metrics = {form: results.metrics(f"metrics_{form}.jsonl") for form in FORMS}
    weights = sum(x.size for x in jax.tree.leaves(case.network))
    unknowns = {"grid": int((~scene.fixed).sum()), "network": weights}
    figures = {}
    for form in FORMS:
        cost = kit.cost_of(results, metrics[form], f"_{form}")
        del cost["peak memory of the inversion, MB"]  # the second in a process uses what the first has freed
        figures[form] = {"unknowns": unknowns[form], **encoded.figures_of(scene, final[form], metrics[form]), **cost}
        bands = by_wavelength(scene, final[form])
        figures[form] |= {f"{name}, end / start, %": value for name, value in bands.items()}
        models = {"start": jf.Acoustic(vp=scene.start["vp"]), "result": jf.Acoustic(vp=final[form]["vp"])}
        figures[form] |= encoded.compare_data(results, case, problem, models, f"_{form}")
    images = {"true": scene.true["vp"], "start": scene.start["vp"], **{form: m["vp"] for form, m in final.items()}}
    kit.draw_models(results, images, case.cells)
    draw_wavelengths(results, scene, final, metrics)
    encoded.draw_convergence(results, scene, metrics)
    kit.finish(results, figures)


def draw_wavelengths(results: kit.Results, scene: kit.Scene, final: dict, metrics: dict) -> None:
    """``wavelengths.png``: what differs from the start by wavenumber, and errors of wavelengths by iteration."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.linspace(0, 0.5 / scene.case.spacing, 31)
    for name, vp in {"true": scene.true["vp"], **{form: m["vp"] for form, m in final.items()}}.items():
        wavenumber, update = spectrum(scene, vp - scene.start["vp"])
        which = np.digitize(wavenumber.ravel(), edges) - 1
        power = np.bincount(which, (update**2).ravel(), len(edges))[:-1]
        left.semilogy(1e3 * (edges[:-1] + edges[1:]) / 2, np.sqrt(power / update.size), label=name)
    left.set(xlabel="wavenumber (cycles / km)", ylabel="update's amplitude in a bin (m/s)", title="model - start")
    left.legend()
    for color, (name, (shortest, longest)) in zip(("C0", "C1", "C2"), WAVELENGTHS.items(), strict=True):
        span = f"> {shortest:g} m" if longest == np.inf else f"{shortest:g} - {longest:g} m"
        for style, (form, lines) in zip(("-", "--"), metrics.items(), strict=True):
            values = [100.0, *(m[f"error of {name} wavelengths"] for m in lines)]
            right.plot(values, style, color=color, label=f"{span}, {form}")
    right.set(xlabel="iteration", ylabel="error / that of the start (%)", title="errors by wavelength")
    right.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)
    for ax in (left, right):
        ax.grid(alpha=0.3)
    results.write_figure("wavelengths", figure)


if __name__ == "__main__":
    kit.main(main, Options, devices=kit.cores())
