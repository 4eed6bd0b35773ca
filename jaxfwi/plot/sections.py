"""Sections of the model: the model itself with the survey on it, and how well the survey lights it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from jaxfwi.plot.arguments import FloatArray, checked_positions, checked_section, checked_spacing
from jaxfwi.plot.figures import SEQUENTIAL, extent, figure_of, new_axes

__all__ = ["draw_section", "illumination", "model", "section_height"]


def model(
    vp: ArrayLike,
    spacing: float | Sequence[float],
    ax: Axes | None = None,
    *,
    survey_sources: ArrayLike | None = None,
    survey_receivers: ArrayLike | None = None,
    title: str | None = None,
    clim: tuple[float, float] | None = None,
    cmap: str = SEQUENTIAL,
    label: str = "P-wave velocity (m/s)",
) -> Axes:
    """A section ``[z, x]`` with depth down, in km, and a colour bar.

    Args:
        vp: the section, ``(nz, nx)``; cell ``[i, j]`` is centred on depth ``i * dz``, distance ``j * dx``.
        spacing: metres between cells, one number or ``(dz, dx)``.
        ax: where to draw; a new figure by default.
        survey_sources: positions in metres, ``(..., 2)`` as ``[z, x]``, drawn as stars.
        survey_receivers: positions in metres, ``(..., 2)`` as ``[z, x]``, drawn as triangles.
        title: none by default.
        clim: the values at the ends of the colour scale; the section's range by default.
        cmap: name of a matplotlib colour map.
        label: the colour bar's label; give the unit in it.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``vp`` is not 2D, ``spacing`` is not positive, or positions are not ``(..., 2)``.

    Example:
        >>> axes = model(np.full((30, 80), 2000.0), 20.0, survey_sources=[[20.0, 800.0]], title="Start model")
        >>> axes.get_ylabel()
        'Depth (km)'
    """
    section = checked_section(vp, "vp")
    ax = new_axes((8.0, section_height(section.shape, spacing, width=6.5))) if ax is None else ax
    image = draw_section(ax, section, cmap, clim, spacing)
    for name, positions, marker, size in (
        ("Sources", survey_sources, "*", 40),
        ("Receivers", survey_receivers, "v", 12),
    ):
        if positions is not None:
            z, x = checked_positions(positions, f"survey_{name.lower()}")
            style = {"c": "white", "edgecolors": "black", "linewidths": 0.5, "clip_on": False, "zorder": 3}
            ax.scatter(x, z, marker=marker, s=size, label=name, **style)
    if title is not None:
        ax.set_title(title)
    figure_of(ax).colorbar(image, ax=ax, label=label)
    return ax


def illumination(
    diagonal: ArrayLike,
    spacing: float | Sequence[float],
    ax: Axes | None = None,
    *,
    title: str | None = None,
    clim: tuple[float, float] = (-60.0, 0.0),
    cmap: str = "magma",
) -> Axes:
    """How well the survey lights each cell, in decibels below the one lit best: ``10 log10(diagonal / its maximum)``.

    Args:
        diagonal: energies, none below zero, ``(nz, nx)``: the diagonal of the Gauss-Newton Hessian, as
            `gauss_newton_diagonal` estimates it, or the squares of wavefields summed over time and shots.
        spacing: metres between cells, one number or ``(dz, dx)``.
        ax: where to draw; a new figure by default.
        title: none by default.
        clim: decibels at the ends of the colour scale.
        cmap: name of a matplotlib colour map.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``diagonal`` is not 2D, or has values below zero or nothing else than zeros.

    Example:
        >>> axes = illumination(np.exp(-np.arange(2400.0).reshape(30, 80) / 200), 20.0)
        >>> float(axes.images[0].get_array().max())
        0.0
    """
    energy = checked_section(diagonal, "diagonal")
    most = np.nanmax(energy)
    if not (most > 0 and np.nanmin(energy) >= 0):
        raise ValueError(
            f"diagonal must be energies, none below zero and some above, got {np.nanmin(energy):g} to {most:g}."
        )
    # what is not lit at all is at minus infinity, and drawn as the least that is
    decibels = 10.0 * np.log10(np.maximum(energy / most, np.finfo(np.float64).tiny))
    return model(decibels, spacing, ax, title=title, clim=clim, cmap=cmap, label="Illumination (dB)")


def section_height(shape: tuple[int, ...], spacing: float | Sequence[float], width: float) -> float:
    """Inches that a section drawn ``width`` inches wide needs, labels and title included."""
    dz, dx = checked_spacing(spacing)
    return float(np.clip(width * shape[0] * dz / (shape[1] * dx), 0.8, 1.3 * width)) + 0.9


def draw_section(
    ax: Axes,
    section: FloatArray,
    cmap: str,
    clim: tuple[float, float] | None,
    spacing: float | Sequence[float],
) -> AxesImage:
    """The image of a section, with its axes labelled."""
    dz, dx = checked_spacing(spacing)
    low, high = (None, None) if clim is None else clim
    area = extent(section.shape, (dz / 1e3, dx / 1e3), (0.0, 0.0))
    image = ax.imshow(section, extent=area, cmap=cmap, vmin=low, vmax=high, aspect="equal")
    ax.set_xlabel("Distance (km)")
    ax.set_ylabel("Depth (km)")
    return image
