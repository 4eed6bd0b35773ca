"""One shot's data, as an image and trace by trace."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from jaxfwi.plot.arguments import FloatArray, check_dt, checked_gather, receiver_km
from jaxfwi.plot.figures import extent, figure_of, new_axes
from jaxfwi.plot.scales import magnitude, symmetric_limits

__all__ = ["draw_gather", "gather", "wiggles"]


def gather(
    data: ArrayLike,
    dt: float,
    ax: Axes | None = None,
    *,
    receiver_x: ArrayLike | None = None,
    percentile: float = 99.0,
    title: str | None = None,
    clim: tuple[float, float] | None = None,
    cmap: str = "gray",
    label: str = "Amplitude (data units)",
) -> Axes:
    """One shot's data, time down, with the strongest amplitudes clipped so that the weak ones show.

    Args:
        data: ``(time, receivers)``.
        dt: seconds between samples.
        ax: where to draw; a new figure by default.
        receiver_x: positions of the receivers in metres, ``(receivers,)``, evenly spaced. Receivers are
            numbered by default.
        percentile: share of the samples, in percent, whose magnitude lies within the colour scale.
        title: none by default.
        clim: the values at the ends of the colour scale, instead of ``percentile``: to draw two gathers
            alike.
        cmap: name of a matplotlib colour map.
        label: the colour bar's label; give the unit in it.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``data`` is not 2D, ``dt`` is not positive, ``percentile`` is not in ``(0, 100]``, or
            ``receiver_x`` is not one position per receiver, or not evenly spaced (`wiggles` take any).

    Example:
        >>> axes = gather(np.eye(200, 50), dt=4e-3)
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('Receiver number', 'Time (s)')
    """
    panel = checked_gather(data, "data")
    clim = symmetric_limits([panel], percentile) if clim is None else clim
    ax = new_axes((5.0, 5.5)) if ax is None else ax
    image = draw_gather(ax, panel, cmap, clim, dt, receiver_x)
    if title is not None:
        ax.set_title(title)
    figure_of(ax).colorbar(image, ax=ax, label=label)
    return ax


def wiggles(
    data: ArrayLike,
    dt: float,
    ax: Axes | None = None,
    *,
    receiver_x: ArrayLike | None = None,
    percentile: float = 99.0,
    title: str | None = None,
) -> Axes:
    """One shot's data trace by trace, time down, each a line that swings to the right where the data are positive,
    and is filled there.

    For some dozens of traces; take every tenth of more, ``data[:, ::10]``.

    Args:
        data: ``(time, receivers)``.
        dt: seconds between samples.
        ax: where to draw; a new figure by default.
        receiver_x: positions of the receivers in metres, ``(receivers,)``, anywhere. Receivers are numbered by default.
        percentile: share of the samples, in percent, that swing no further than to the next trace. One amplitude for
            all traces, so that they can be compared.
        title: none by default.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``data`` is not 2D, ``dt`` is not positive, ``percentile`` is not in ``(0, 100]``, or
            ``receiver_x`` is not one position per receiver.

    Example:
        >>> axes = wiggles(np.sin(np.arange(2000.0).reshape(200, 10) / 50), dt=4e-3, receiver_x=np.arange(10) * 25.0)
        >>> axes.get_xlabel(), len(axes.lines)
        ('Distance (km)', 10)
    """
    panel = checked_gather(data, "data")
    check_dt(dt)
    x, xlabel = np.arange(panel.shape[1], dtype=np.float64), "Receiver number"
    if receiver_x is not None:
        x, xlabel = receiver_km(receiver_x, panel.shape[1]), "Distance (km)"
    steps = np.diff(np.unique(x))
    step = float(np.median(steps)) if steps.size else 1.0
    swing = step * panel / magnitude([panel], percentile)
    time = np.arange(len(panel)) * dt
    ax = new_axes((6.0, 5.5)) if ax is None else ax
    for position, trace in zip(x, swing.T, strict=True):
        ax.plot(position + trace, time, color="black", linewidth=0.6)
        lobes = {"where": trace > 0, "interpolate": True, "color": "black", "linewidth": 0.0}
        ax.fill_betweenx(time, position, position + trace, **lobes)
    ax.set_xlim(float(x.min()) - step, float(x.max()) + step)
    ax.set_ylim(time[-1] + 0.5 * dt, -0.5 * dt)
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Time (s)")
    if title is not None:
        ax.set_title(title)
    return ax


def draw_gather(
    ax: Axes, panel: FloatArray, cmap: str, clim: tuple[float, float], dt: float, receiver_x: ArrayLike | None
) -> AxesImage:
    """The image of a gather, with its axes labelled."""
    check_dt(dt)
    first, step, xlabel = 0.0, 1.0, "Receiver number"
    if receiver_x is not None:
        first, step = _even_positions(receiver_x, panel.shape[1])
        xlabel = "Distance (km)"
    area = extent(panel.shape, (dt, step), (0.0, first))
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
