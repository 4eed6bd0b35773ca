"""Several sections or gathers on one scale, and their differences from one of them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from jaxfwi._checks import check_grid
from jaxfwi.grid.grid import Grid
from jaxfwi.plot.arguments import FloatArray, check_same_shape, checked_gather, checked_section
from jaxfwi.plot.figures import DIVERGING, SEQUENTIAL, new_figure
from jaxfwi.plot.gathers import draw_gather
from jaxfwi.plot.scales import factor_in_title, limits, magnitude, round_factor, symmetric_limits
from jaxfwi.plot.sections import draw_section, section_height

__all__ = ["compare", "compare_gathers"]


def compare(
    images: Mapping[str, ArrayLike],
    grid: Grid,
    difference_to: str | None = None,
    *,
    symmetric: bool | None = None,
    percentile: float = 99.5,
    clim: tuple[float, float] | None = None,
    cmap: str | None = None,
    label: str = "Value (own unit)",
    title: str | None = None,
) -> Figure:
    r"""Several sections on one colour scale, and beside each its difference from one of them.

    Sections that look alike on scales of their own prove nothing, so there is one scale for all. A difference is often
    too small to be seen on it, so it is multiplied by a round number that its title states.

    Args:
        images: name to section, each of the grid's shape ``(nz, nx)``, drawn from top to bottom.
        grid: gives the spacing.
        difference_to: name of the section that the others are compared with. No differences by default.
        symmetric: whether the scale is symmetric about zero, as is good for gradients. By default it is if values of
            both signs are present.
        percentile: percentage of the cells within the colour scale. A gradient is so large at the sources that nothing
            else shows at 100.
        clim: the values at the ends of the colour scale, instead of ``percentile``.
        cmap: name of a matplotlib colour map; by default a diverging one if ``symmetric``, else a sequential one.
        label: the colour bar's label; give the unit in it.
        title: over the whole figure; none by default.

    Returns:
        The figure. Its axes are the panels, row by row, then the colour bars.

    Raises:
        ValueError: if ``images`` is empty, one of them is not 2D or not of the grid's shape, or ``difference_to`` is
            not among them.

    >>> import numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=(30, 80), spacing=20.0, dt=1e-3, nt=500)
    >>> exact = np.sin(np.linspace(0, 6, 2400)).reshape(30, 80)
    >>> images = {"full": exact, "boundary": exact * (1 + 2e-6)}
    >>> figure = jf.plot.compare(images, grid, difference_to="full")
    >>> [axes.get_title() for axes in figure.axes[:3]]
    ['full', 'boundary', '(boundary - full) $\\times\\ 5 \\cdot 10^{5}$']
    """
    check_grid(grid)
    sections = {name: checked_section(image, f"images[{name!r}]", grid) for name, image in images.items()}
    check_same_shape(sections, "images", "section")
    everything = list(sections.values())
    if symmetric is None:
        symmetric = any(bool((s < 0).any()) for s in everything) and any(bool((s > 0).any()) for s in everything)
    if clim is None:
        clim = symmetric_limits(everything, percentile) if symmetric else limits(everything, percentile)
    half_range = max(abs(clim[0]), abs(clim[1])) if symmetric else clim[1] - clim[0]
    scale = _Scale(cmap or (DIVERGING if symmetric else SEQUENTIAL), clim, label)
    groups = _with_differences(sections, "images", difference_to, scale, DIVERGING, half_range, percentile)
    size = (5.6 * len(groups), len(sections) * section_height(grid, width=4.5) + 0.3)
    return _figure(groups, partial(draw_section, grid=grid), size, title, one_row_per_name=True)


def compare_gathers(
    gathers: Mapping[str, ArrayLike],
    grid: Grid,
    difference_to: str | None = None,
    *,
    receiver_x: ArrayLike | None = None,
    percentile: float = 99.0,
    clim: tuple[float, float] | None = None,
    cmap: str = "gray",
    label: str = "Amplitude (data units)",
    title: str | None = None,
) -> Figure:
    r"""Several gathers of one shot side by side on one scale, and below each its difference from one of them.

    Args:
        gathers: name to data, each ``(time, receivers)``, drawn from left to right.
        grid: gives the time step.
        difference_to: name of the gather that the others are compared with, such as the observed one. No differences by
            default. Each is multiplied by a round number that its title states, so that it can be seen on the scale.
        receiver_x: positions of the receivers in metres, ``(receivers,)``, evenly spaced. Receivers are numbered by
            default.
        percentile: percentage of the samples whose magnitude lies within the scale.
        clim: the values at the ends of the scale, instead of ``percentile``.
        cmap: name of a matplotlib colour map.
        label: the colour bar's label; give the unit in it.
        title: over the whole figure; none by default.

    Returns:
        The figure. Its axes are the panels, row by row, then the colour bars.

    Raises:
        ValueError: if ``gathers`` is empty, their shapes differ or are not 2D, ``difference_to`` is not among them, or
            another argument is invalid for `gather`.

    >>> import numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=(30, 80), spacing=20.0, dt=4e-3, nt=200)
    >>> observed = np.sin(np.arange(4000.0).reshape(200, 20))
    >>> gathers = {"observed": observed, "predicted": 0.8 * observed}
    >>> figure = jf.plot.compare_gathers(gathers, grid, "observed")
    >>> [axes.get_title() for axes in figure.axes[:3]]
    ['observed', 'predicted', '(predicted - observed) $\\times\\ 2$']
    """
    check_grid(grid)
    panels = {name: checked_gather(data, f"gathers[{name!r}]") for name, data in gathers.items()}
    check_same_shape(panels, "gathers", "gather")
    clim = symmetric_limits(panels.values(), percentile) if clim is None else clim
    half_range = max(abs(clim[0]), abs(clim[1]))
    scale = _Scale(cmap, clim, label)
    groups = _with_differences(panels, "gathers", difference_to, scale, cmap, half_range, percentile)
    size = (1.2 + 3.2 * len(panels), 0.3 + 4.2 * len(groups))
    return _figure(groups, partial(draw_gather, grid=grid, receiver_x=receiver_x), size, title, one_row_per_name=False)


class _Scale(NamedTuple):
    cmap: str
    clim: tuple[float, float]
    label: str


class _Group(NamedTuple):
    """Images on one scale: by name, the title and the array of each."""

    images: dict[str, tuple[str, FloatArray]]
    scale: _Scale


def _with_differences(
    images: dict[str, FloatArray],
    argument: str,
    reference: str | None,
    scale: _Scale,
    cmap: str,
    half_range: float,
    percentile: float,
) -> list[_Group]:
    """The images and, if a reference is given, their differences from it, each as large as the scale allows."""
    if reference is not None and reference not in images:
        raise ValueError(f"difference_to must be one of {list(images)}, the names of {argument}, got {reference!r}.")
    groups = [_Group({name: (name, image) for name, image in images.items()}, scale)]
    differences = {}
    for name, image in images.items():
        if reference is None or name == reference:
            continue
        difference = image - images[reference]
        factor = round_factor(half_range, magnitude([difference], percentile, empty=0.0))
        title = f"({name} - {reference}) {factor_in_title(factor)}" if difference.any() else f"{name} = {reference}"
        differences[name] = (title, difference * factor)
    if differences:
        groups.append(_Group(differences, _Scale(cmap, (-half_range, half_range), f"Scaled difference: {scale.label}")))
    return groups


def _figure(
    groups: list[_Group],
    draw: Callable[[Axes, FloatArray, str, tuple[float, float]], AxesImage],
    size: tuple[float, float],
    title: str | None,
    one_row_per_name: bool,
) -> Figure:
    """A figure with a row for each name and a column for each group, or else the other way round."""
    figure = new_figure(size)
    names = list(groups[0].images)
    grid = figure.add_gridspec(*((len(names), len(groups)) if one_row_per_name else (len(groups), len(names))))
    panels: list[list[tuple[Axes, AxesImage]]] = [[] for _ in groups]
    for row, column in np.ndindex(grid.get_geometry()):
        name, which = (names[row], column) if one_row_per_name else (names[column], row)
        images, scale = groups[which]
        if name in images:
            heading, image = images[name]
            ax = figure.add_subplot(grid[row, column])
            ax.set_title(heading)
            panels[which].append((ax, draw(ax, image, scale.cmap, scale.clim)))
    for drawn, group in zip(panels, groups, strict=True):
        axes = [ax for ax, _ in drawn]
        aspect = 18 * len(axes) if one_row_per_name else 25
        figure.colorbar(drawn[0][1], ax=axes, label=group.scale.label, aspect=aspect)
    if title is not None:
        figure.suptitle(title)
    return figure
