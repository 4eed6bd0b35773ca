"""Waves travelling through the model: several times side by side, or all of them as a film."""

import math

import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from jaxfwi._checks import check_grid, check_shape, positive_number
from jaxfwi.grid.grid import Grid
from jaxfwi.plot.arguments import FloatArray, checked_section
from jaxfwi.plot.figures import DIVERGING, new_figure
from jaxfwi.plot.scales import symmetric_limits
from jaxfwi.plot.sections import draw_section, section_height

__all__ = ["animation", "snapshots"]


def snapshots(
    waves: ArrayLike,
    times: ArrayLike,
    grid: Grid,
    *,
    background: ArrayLike | None = None,
    percentile: float = 99.5,
    clim: tuple[float, float] | None = None,
    label: str = "Wavefield (own unit)",
    title: str | None = None,
) -> Figure:
    """A wavefield at several times, on one colour scale about zero.

    Args:
        waves: ``(snapshots, nz, nx)``, as `jaxfwi.snapshots` returns them, or some of these.
        times: of the snapshots in seconds, ``(snapshots,)``.
        grid: gives the spacing.
        background: the model, ``(nz, nx)``, drawn in grey; it shines through the waves where they are weak. None by
            default.
        percentile: percentage of the cells of all snapshots within the colour scale. The waves are so strong near the
            source that little else shows at 100.
        clim: the values at the ends of the colour scale, instead of ``percentile``: to draw two figures alike.
        label: the colour bar's label; give the unit in it.
        title: over the whole figure; none by default.

    Returns:
        The figure. Its axes are the panels, row by row, then the colour bar.

    Raises:
        ValueError: if ``waves`` is not 3D, there is not one time for each snapshot, or waves or background do not have
            the grid's shape.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=200)
    >>> wavelet = jf.ricker(grid, frequency=15.0)
    >>> survey = jf.Survey.from_arrays([[50.0, 150.0]], [[50.0, 250.0]], wavelet)
    >>> vp = jnp.full(grid.shape, 1500.0)
    >>> _, waves = jf.snapshots(jf.Simulator(grid), jf.Acoustic(vp=vp), survey[0], every=50)
    >>> times = grid.times[::50]
    >>> figure = jf.plot.snapshots(waves["u"][1:], times[1:], grid, background=vp)
    >>> [axes.get_title() for axes in figure.axes[:3]]
    ['0.050 s', '0.100 s', '0.150 s']
    """
    fields, seconds, behind = _checked(waves, times, grid, background)
    clim = symmetric_limits(fields, percentile) if clim is None else clim
    columns = min(3, math.ceil(math.sqrt(len(fields))))
    rows = math.ceil(len(fields) / columns)
    size = (4.2 * columns + 1.0, rows * section_height(grid, width=3.5))
    figure = new_figure(size)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for panel, (ax, field, time) in enumerate(zip(axes, fields, seconds, strict=False)):
        _draw(ax, field, grid, behind, clim)
        ax.set_title(_in_seconds(time))
        if panel % columns:
            ax.set_ylabel("")
        if panel + columns < len(fields):
            ax.set_xlabel("")
    for ax in axes[len(fields) :]:
        ax.remove()
    _colour_bar(figure, figure.axes, clim, label)
    if title is not None:
        figure.suptitle(title)
    return figure


def animation(
    waves: ArrayLike,
    times: ArrayLike,
    grid: Grid,
    *,
    background: ArrayLike | None = None,
    percentile: float = 99.5,
    clim: tuple[float, float] | None = None,
    label: str = "Wavefield (own unit)",
    frame_rate: float = 15.0,
) -> FuncAnimation:
    """A film of waves that cross the model.

    It plays as the last line of a notebook cell. ``film.save("waves.gif", writer="pillow")`` writes a file with nothing
    but matplotlib, ``film.save("waves.mp4")`` needs ffmpeg, and ``film.to_jshtml()`` returns a page with buttons.

    Args:
        waves, times, grid, background, percentile, clim, label: as for `snapshots`.
        frame_rate: snapshots shown per second.

    Returns:
        The film. Keep a reference to it as long as it is to be shown.

    Raises:
        ValueError: as `snapshots`, and for a ``frame_rate`` that is not positive.

    >>> import numpy as np, jaxfwi as jf
    >>> grid = jf.Grid(shape=(30, 40), spacing=10.0, dt=0.1, nt=5)
    >>> distance = np.hypot(*np.mgrid[0:30, 0:40])
    >>> waves = [np.exp(-((distance - 100 * t) ** 2)) for t in grid.times]
    >>> film = jf.plot.animation(waves, grid.times, grid)
    >>> film.to_jshtml().count("data:image/png;base64")
    5
    """
    fields, seconds, behind = _checked(waves, times, grid, background)
    rate = positive_number("frame_rate", frame_rate, "number of snapshots a second")
    clim = symmetric_limits(fields, percentile) if clim is None else clim
    figure = new_figure((6.5, section_height(grid, width=5.0)))
    ax = figure.add_subplot()
    image = _draw(ax, fields[0], grid, behind, clim)
    _colour_bar(figure, [ax], clim, label)
    ax.set_title(_in_seconds(float(seconds[0])))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout of the first frame serves all of them

    def show(frame):
        image.set_data(fields[frame])
        if behind is not None:
            image.set_alpha(_opacity(fields[frame], clim))
        return image, ax.set_title(_in_seconds(float(seconds[frame])))

    return _Film(figure, show, frames=len(fields), interval=1000.0 / rate)


class _Film(FuncAnimation):
    """An animation that a notebook plays even if matplotlib's settings disable that."""

    def _repr_html_(self) -> str:
        return self.to_jshtml()


def _draw(
    ax: Axes,
    field: FloatArray,
    grid: Grid,
    behind: FloatArray | None,
    clim: tuple[float, float],
) -> AxesImage:
    if behind is not None:
        # Only light greys, so that dark waves stand out.
        low, high = float(np.nanmin(behind)), float(np.nanmax(behind))
        draw_section(ax, behind, "gray", (low - ((high - low) or 1.0), high), grid)
    image = draw_section(ax, field, DIVERGING, clim, grid)
    if behind is not None:
        image.set_alpha(_opacity(field, clim))
    return image


def _opacity(field: FloatArray, clim: tuple[float, float]) -> FloatArray:
    return np.minimum(1.0, 3.0 * np.abs(field) / max(abs(clim[0]), abs(clim[1])))


def _colour_bar(figure: Figure, axes: list[Axes], clim: tuple[float, float], label: str) -> None:
    # Made from the scale alone: the bar of an image would be as transparent as the image.
    scale = ScalarMappable(Normalize(*clim), DIVERGING)
    figure.colorbar(scale, ax=axes, label=label)


def _in_seconds(seconds: float) -> str:
    return f"{seconds:.3f} s"


def _checked(
    waves: ArrayLike, times: ArrayLike, grid: Grid, background: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Waves, times and background as arrays."""
    check_grid(grid)
    fields, seconds = np.asarray(waves, dtype=np.float64), np.asarray(times, dtype=np.float64)
    if fields.ndim != 3 or fields.size == 0:
        advice = {
            2: "waves[None] for a single snapshot",
            4: "a slice, such as waves[:, :, waves.shape[2] // 2, :]",
        }.get(fields.ndim, "one field of what jaxfwi.snapshots returns")
        raise ValueError(f"waves must be (snapshots, nz, nx), got shape {fields.shape}; pass {advice}.")
    if seconds.shape != fields.shape[:1]:
        raise ValueError(
            f"times must hold one number of seconds for each of {len(fields)} snapshots, got shape {seconds.shape}; "
            "pass grid.times[::every]."
        )
    check_shape("each snapshot", fields.shape[1:], grid)
    return fields, seconds, None if background is None else checked_section(background, "background", grid)
