"""Figures that several experiments have."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

import jaxfwi as jf
from kit.case import Array, Models, Scene
from kit.results import Results


def draw_models(results: Results, images: Models, cells: jf.Grid, name: str = "result", **look: Any) -> None:
    """``<name>.png``: sections, that of the name "true" among them, on one scale, and their errors."""
    look = {"label": "vp (m/s)", **look}
    figure = jf.plot.compare(images, cells, difference_to="true", symmetric=False, **look)
    results.write_figure(name, figure)


def draw_residuals(
    results: Results, gathers: dict[str, Array], grid: jf.Grid, receiver_x: Array, what: str, name: str = "data"
) -> None:
    """``<name>.png``: one shot's data "observed", and what those of "start" and "result" leave of them."""
    observed = gathers["observed"]
    left = {f"observed - {when}": observed - gathers[when] for when in ("start", "result")}
    limit = float(np.percentile(np.abs(observed), 98))
    title = f"{what}, one scale (98th percentile of the observed)"
    draw_gathers(results, {"observed": observed, **left}, grid, receiver_x, limit, title, name)


def draw_gathers(
    results: Results, gathers: dict[str, Array], grid: jf.Grid, receiver_x: Array, limit: float, title: str, name: str
) -> None:
    """``<name>.png``: gathers ``(time, receivers)`` side by side on one scale."""
    figure = Figure(figsize=(4 * len(gathers), 5), layout="constrained")
    for ax, (what, data) in zip(figure.subplots(1, len(gathers), sharey=True), gathers.items(), strict=True):
        jf.plot.gather(data, grid, ax, receiver_x=receiver_x, title=what, clim=(-limit, limit))
    figure.suptitle(title)
    results.write_figure(name, figure)


def draw_progress(
    results: Results, scene: Scene, models: Models, before: Models, state: Any, iteration: int, suffix: str = ""
) -> None:
    """``progress.png``: the model, its last update and gradient, to look at while it runs."""
    name, cells = next(iter(models)), scene.case.cells
    limits = float(scene.true[name].min()), float(scene.true[name].max())
    pictures = [("last update (m/s)", models[name] - before[name])]
    if isinstance(state.gradient, jf.WaveEquation):  # that by other unknowns is no picture
        pictures.append(("gradient", np.asarray(getattr(state.gradient, name))))
    figure = Figure(figsize=(5 * (1 + len(pictures)), 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + len(pictures))
    title = f"{name}, iteration {iteration}"
    jf.plot.model(models[name], cells, axes[0], title=title, clim=limits, label=f"{name} (m/s)")
    for ax, (title, image) in zip(axes[1:], pictures, strict=True):
        size = float(np.percentile(np.abs(image), 99.5)) or 1.0
        jf.plot.model(image, cells, ax, title=title, clim=(-size, size), cmap="RdBu_r", label=title)
    results.write_figure(f"progress{suffix}", figure)


def draw_convergence(
    results: Results,
    runs: dict[str, list[dict[str, Any]]],
    panels: dict[str, dict[str, str]],
    start: dict[str, float],
) -> None:
    """``convergence.png``: misfit, and errors in per cent, by iteration.

    Args:
        results: the folder.
        runs: the metrics of an inversion, or of several by their names.
        panels: title to curves, which are names to what metrics call them.
        start: the errors before the first iteration.
    """
    height = 4 if len(runs) == 1 else 5
    figure = Figure(figsize=(5.2 * (1 + len(panels)), height), layout="constrained")
    data, *axes = figure.subplots(1, 1 + len(panels))
    styles = ("-", "--", ":", "-.")  # of inversions; colours are of bands and curves
    for style, (label, metrics) in zip(styles, runs.items(), strict=False):
        for color, stage in enumerate(dict.fromkeys(m["stage"] for m in metrics)):
            lines = [m for m in metrics if m["stage"] == stage]
            iterations, misfit = (np.array([m[what] for m in lines]) for what in ("iteration", "misfit"))
            name = f"{label}, {stage}" if label else stage
            data.semilogy(iterations, misfit / misfit[0], style, color=f"C{color}", label=name, lw=1)
        for ax, (title, curves) in zip(axes, panels.items(), strict=True):
            for color, (name, key) in enumerate(curves.items()):
                values = [start[key], *(m[key] for m in metrics)]
                ax.plot(values, style, color=f"C{color}", label=f"{name} {label}".strip())
            ax.set(xlabel="iteration", ylabel="relative L2 error (%)", title=title)
    data.set(xlabel="iteration", ylabel="misfit / that of its band's first iteration", title="data")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": len(runs)} if len(runs) > 1 else {}
    for ax in (data, *axes):
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize="small", **below)
    results.write_figure("convergence", figure)
