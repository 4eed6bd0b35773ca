"""Sections: the model with the survey on it, and how well the survey illuminates it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from jaxfwi.grid.grid import Grid
from jaxfwi.plot.arguments import FloatArray, checked_section
from jaxfwi.plot.figures import SEQUENTIAL, extent, figure_of, new_axes
from jaxfwi.survey.survey import Survey

__all__ = ["draw_section", "illumination", "model", "section_height"]


def model(
    vp: ArrayLike,
    grid: Grid,
    ax: Axes | None = None,
    *,
    survey: Survey | None = None,
    title: str | None = None,
    clim: tuple[float, float] | None = None,
    cmap: str = SEQUENTIAL,
    label: str = "P-wave velocity (m/s)",
) -> Axes:
    """A section ``[z, x]`` with depth down, in km, and a colour bar.

    Args:
        vp: the section, of the grid's shape ``(nz, nx)``; cell ``[i, j]`` is centred on depth ``i * dz``, distance
            ``j * dx``.
        grid: gives the spacing.
        ax: where to draw; a new figure by default.
        survey: its sources are drawn as stars, its receivers as triangles; none by default. To draw fewer, pass some of
            its shots, such as ``survey[::10]``.
        title: none by default.
        clim: the values at the ends of the colour scale; the section's range by default.
        cmap: name of a matplotlib colour map.
        label: the colour bar's label; give the unit in it.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``vp`` is not 2D or not of the grid's shape, or the survey is not 2D.

    >>> import numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=(30, 80), spacing=20.0, dt=1e-3, nt=500)
    >>> receiver, wavelet = [[40.0, 100.0], [40.0, 1500.0]], jf.ricker(grid, 10.0)
    >>> survey = jf.Survey.from_arrays([[20.0, 800.0]], receiver, wavelet)
    >>> vp = np.full(grid.shape, 2000.0)
    >>> axes = jf.plot.model(vp, grid, survey=survey, title="Start model")
    >>> axes.get_ylabel()
    'Depth (km)'
    """
    section = checked_section(vp, "vp", grid)
    points = None if survey is None else _survey_km(survey)
    ax = new_axes((8.0, section_height(grid, width=6.5))) if ax is None else ax
    image = draw_section(ax, section, cmap, clim, grid)
    for name, (z, x), marker, size in points or ():
        style = {"c": "white", "edgecolors": "black", "linewidths": 0.5, "clip_on": False, "zorder": 3}
        ax.scatter(x, z, marker=marker, s=size, label=name, **style)
    if title is not None:
        ax.set_title(title)
    figure_of(ax).colorbar(image, ax=ax, label=label)
    return ax


def illumination(
    diagonal: ArrayLike,
    grid: Grid,
    ax: Axes | None = None,
    *,
    title: str | None = None,
    clim: tuple[float, float] = (-60.0, 0.0),
    cmap: str = "magma",
) -> Axes:
    """How well the survey illuminates each cell, in decibels below the brightest: ``10 log10(diagonal / its maximum)``.

    Args:
        diagonal: energies, none below zero, ``(nz, nx)``: the diagonal of the Gauss-Newton Hessian, as
            `Problem.gauss_newton_diagonal` estimates it, or the squares of wavefields summed over time and shots.
        grid: gives the spacing.
        ax: where to draw; a new figure by default.
        title: none by default.
        clim: decibels at the ends of the colour scale.
        cmap: name of a matplotlib colour map.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``diagonal`` is not 2D or not of the grid's shape, has values below zero, or only zeros.

    >>> import numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=(30, 80), spacing=20.0, dt=1e-3, nt=500)
    >>> axes = jf.plot.illumination(np.exp(-np.arange(2400.0).reshape(30, 80) / 200), grid)
    >>> float(axes.images[0].get_array().max())
    0.0
    """
    energy = checked_section(diagonal, "diagonal", grid)
    largest = np.nanmax(energy)
    if not (largest > 0 and np.nanmin(energy) >= 0):
        raise ValueError(
            f"diagonal must be energies, none below zero and some above, got {np.nanmin(energy):g} to {largest:g}."
        )
    # Cells without any light would be at minus infinity.
    decibels = 10.0 * np.log10(np.maximum(energy / largest, np.finfo(np.float64).tiny))
    return model(decibels, grid, ax, title=title, clim=clim, cmap=cmap, label="Illumination (dB)")


def section_height(grid: Grid, width: float) -> float:
    """The height in inches of a section drawn ``width`` inches wide, labels and title included."""
    (nz, nx), (dz, dx) = grid.shape, grid.spacing
    return float(np.clip(width * nz * dz / (nx * dx), 0.8, 1.3 * width)) + 0.9


def draw_section(
    ax: Axes,
    section: FloatArray,
    cmap: str,
    clim: tuple[float, float] | None,
    grid: Grid,
) -> AxesImage:
    """Draw a section and label its axes."""
    dz, dx = grid.spacing
    low, high = (None, None) if clim is None else clim
    area = extent(section.shape, (dz / 1e3, dx / 1e3), (0.0, 0.0))
    image = ax.imshow(section, extent=area, cmap=cmap, vmin=low, vmax=high, aspect="equal")
    ax.set_xlabel("Distance (km)")
    ax.set_ylabel("Depth (km)")
    return image


def _survey_km(survey: Survey) -> list[tuple[str, FloatArray, str, int]]:
    """The points that show a survey: label, depths and distances in km ``(2, positions)``, marker and its size."""
    if not isinstance(survey, Survey):
        raise ValueError(f"survey must be a jaxfwi.Survey, whose sources and receivers are drawn, got {survey!r}.")
    out = []
    for name, positions, marker, size in (("Sources", survey.source, "*", 40), ("Receivers", survey.receiver, "v", 12)):
        metres = np.asarray(positions, dtype=np.float64)
        if metres.shape[-1] != 2:
            raise ValueError(f"survey must have positions (z, x), got {name.lower()} of shape {metres.shape}.")
        # Once each: all shots of a fixed spread have the same receivers, and padded receivers lie on real ones.
        out.append((name, np.unique(metres.reshape(-1, 2), axis=0).T / 1e3, marker, size))
    return out
