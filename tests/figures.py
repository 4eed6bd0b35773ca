"""How tests look at figures."""

import re

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg


def draw(figure):
    """Draw on the Agg canvas, where a layout or a mathematical text that is wrong shows, as an RGBA array."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def has_units(figure):
    shown = [t for axes in figure.axes for t in (axes.get_xlabel(), axes.get_ylabel()) if t]
    return all(re.search(r"\(.+\)$", text) for text in shown)
