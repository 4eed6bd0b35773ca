"""The data of one shot, as an image and trace by trace."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from jaxfwi._checks import check_grid
from jaxfwi.grid.grid import Grid
from jaxfwi.plot.arguments import FloatArray, checked_gather, receiver_km
from jaxfwi.plot.figures import extent, figure_of, new_axes
from jaxfwi.plot.scales import magnitude, symmetric_limits

__all__ = ["draw_gather", "gather", "wiggles"]


def gather(
    data: ArrayLike,
    grid: Grid,
    ax: Axes | None = None,
    *,
    receiver_x: ArrayLike | None = None,
    percentile: float = 99.0,
    title: str | None = None,
    clim: tuple[float, float] | None = None,
    cmap: str = "gray",
    label: str = "Amplitude (data units)",
) -> Axes:
    """The data of one shot, time down, with the strongest amplitudes clipped so that the weak ones show.

    Args:
        data: ``(time, receivers)``.
        grid: gives the time step.
        ax: where to draw; a new figure by default.
        receiver_x: positions of the receivers in metres, ``(receivers,)``, evenly spaced. Receivers are numbered by
            default.
        percentile: percentage of the samples whose magnitude lies within the colour scale.
        title: none by default.
        clim: the values at the ends of the colour scale, instead of ``percentile``: to draw two gathers alike.
        cmap: name of a matplotlib colour map.
        label: the colour bar's label; give the unit in it.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``data`` is not 2D, ``percentile`` is not in ``(0, 100]``, or ``receiver_x`` is not one position
            per receiver, or not evenly spaced (`wiggles` takes any positions).

    >>> import numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=(30, 80), spacing=20.0, dt=4e-3, nt=200)
    >>> axes = jf.plot.gather(np.eye(200, 50), grid)
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('Receiver number', 'Time (s)')
    """
    check_grid(grid)
    panel = checked_gather(data, "data")
    clim = symmetric_limits([panel], percentile) if clim is None else clim
    ax = new_axes((5.0, 5.5)) if ax is None else ax
    image = draw_gather(ax, panel, cmap, clim, grid, receiver_x)
    if title is not None:
        ax.set_title(title)
    figure_of(ax).colorbar(image, ax=ax, label=label)
    return ax


def wiggles(
    data: ArrayLike,
    grid: Grid,
    ax: Axes | None = None,
    *,
    receiver_x: ArrayLike | None = None,
    percentile: float = 99.0,
    title: str | None = None,
) -> Axes:
    """The data of one shot trace by trace, time down. Each trace is a line that swings to the right where the data are
    positive, and is filled there.

    This suits some dozens of traces; of more, take for instance every tenth, ``data[:, ::10]``.

    Args:
        data: ``(time, receivers)``.
        grid: gives the time step.
        ax: where to draw; a new figure by default.
        receiver_x: positions of the receivers in metres, ``(receivers,)``, anywhere. Receivers are numbered by default.
        percentile: percentage of the samples that swing no further than to the next trace. All traces have the same
            scale, so that they can be compared.
        title: none by default.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``data`` is not 2D, ``percentile`` is not in ``(0, 100]``, or ``receiver_x`` is not one position
            per receiver.

    >>> import numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=(30, 80), spacing=20.0, dt=4e-3, nt=200)
    >>> data = np.sin(np.arange(2000.0).reshape(200, 10) / 50)
    >>> axes = jf.plot.wiggles(data, grid, receiver_x=np.arange(10) * 25.0)
    >>> axes.get_xlabel(), len(axes.lines)
    ('Distance (km)', 10)
    """
    check_grid(grid)
    panel = checked_gather(data, "data")
    x, xlabel = np.arange(panel.shape[1], dtype=np.float64), "Receiver number"
    if receiver_x is not None:
        x, xlabel = receiver_km(receiver_x, panel.shape[1]), "Distance (km)"
    steps = np.diff(np.unique(x))
    step = float(np.median(steps)) if steps.size else 1.0
    swing = step * panel / magnitude([panel], percentile)
    time = np.arange(len(panel)) * grid.dt
    ax = new_axes((6.0, 5.5)) if ax is None else ax
    for position, trace in zip(x, swing.T, strict=True):
        ax.plot(position + trace, time, color="black", linewidth=0.6)
        lobes = {"where": trace > 0, "interpolate": True, "color": "black", "linewidth": 0.0}
        ax.fill_betweenx(time, position, position + trace, **lobes)
    ax.set_xlim(float(x.min()) - step, float(x.max()) + step)
    ax.set_ylim(time[-1] + 0.5 * grid.dt, -0.5 * grid.dt)
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Time (s)")
    if title is not None:
        ax.set_title(title)
    return ax


def draw_gather(
    ax: Axes, panel: FloatArray, cmap: str, clim: tuple[float, float], grid: Grid, receiver_x: ArrayLike | None
) -> AxesImage:
    """Draw a gather and label its axes."""
    first, step, xlabel = 0.0, 1.0, "Receiver number"
    if receiver_x is not None:
        first, step = _even_positions(receiver_x, panel.shape[1])
        xlabel = "Distance (km)"
    area = extent(panel.shape, (grid.dt, step), (0.0, first))
    image = ax.imshow(panel, extent=area, aspect="auto", cmap=cmap, vmin=clim[0], vmax=clim[1])
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Time (s)")
    return image


def _even_positions(receiver_x: ArrayLike, count: int) -> tuple[float, float]:
    """First position and step, in km."""
    x = receiver_km(receiver_x, count)
    if count == 1:
        return float(x[0]), 1e-3
    step = float(x[-1] - x[0]) / (count - 1)
    if step == 0 or not np.allclose(np.diff(x), step, rtol=0, atol=1e-3 * abs(step)):
        raise ValueError("receiver_x must be evenly spaced; leave it out to number the receivers.")
    return float(x[0]), step
