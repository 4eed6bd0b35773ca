"""Figures that pyplot does not know about, and how they show themselves in notebooks."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

__all__ = ["DIVERGING", "SEQUENTIAL", "extent", "figure_of", "new_axes", "new_figure"]

SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"


def _png(figure: Figure | SubFigure) -> bytes:
    buffer = io.BytesIO()
    figure.figure.savefig(buffer, format="png")
    return buffer.getvalue()


class _Figure(Figure):
    """A figure that a notebook shows although pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        return _png(self)


class _Axes(Axes):
    """Axes of such a figure, for which a notebook shows the figure. It shows nothing for axes that a user made."""

    def _repr_png_(self) -> bytes:
        return _png(figure_of(self))


def new_figure(size: tuple[float, float]) -> Figure:
    """A figure unknown to pyplot, ``(width, height)`` in inches."""
    return _Figure(figsize=size, layout="constrained")


def new_axes(size: tuple[float, float]) -> Axes:
    """The axes of such a figure that has no others."""
    return new_figure(size).add_subplot(axes_class=_Axes)


def figure_of(ax: Axes) -> Figure | SubFigure:
    """The figure that the axes belong to."""
    figure = ax.get_figure()
    if figure is None:
        raise ValueError("ax must belong to a figure.")
    return figure


def extent(
    shape: tuple[int, ...], steps: tuple[float, float], start: tuple[float, float]
) -> tuple[float, float, float, float]:
    """``(left, right, bottom, top)`` that centres each cell on its position, first axis down."""
    (rows, columns), (down, across), (top, left) = shape, steps, start
    return (
        left - across / 2,
        left + (columns - 0.5) * across,
        top + (rows - 0.5) * down,
        top - down / 2,
    )
