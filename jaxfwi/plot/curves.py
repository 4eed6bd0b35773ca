"""Curves: convergence, spectra, the fit of data."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from jaxfwi._checks import check_grid
from jaxfwi.grid.grid import Grid
from jaxfwi.plot.figures import new_axes

__all__ = ["convergence", "data_fit", "spectrum"]


def convergence(
    values: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    *,
    relative: bool = False,
    xlabel: str = "Iteration (count)",
    label: str | None = None,
    title: str | None = None,
) -> Axes:
    """Curves on a logarithmic axis: how a misfit, or anything positive, falls with the iterations.

    Args:
        values: name to curve, each ``(iterations,)``; they need not be equally long. Values of zero or less cannot be
            drawn and leave a gap.
        ax: where to draw; a new figure by default.
        relative: divide each curve by its first value, so that different misfits can be compared.
        xlabel: label of the horizontal axis.
        label: label of the vertical axis; give the unit in it. A misfit by default.
        title: none by default.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``values`` is empty, a curve is not 1D or has no values, or, with ``relative``, starts at zero or
            less.

    >>> import jaxfwi as jf
    >>> misfits = {"Adam": [4.0, 2.0, 1.0], "L-BFGS": [4.0, 0.5]}
    >>> axes = jf.plot.convergence(misfits, relative=True)
    >>> axes.get_yscale()
    'log'
    """
    curves = {name: np.asarray(curve, dtype=np.float64) for name, curve in values.items()}
    if not curves:
        raise ValueError("values must hold one curve or more, got none.")
    for name, curve in curves.items():
        if curve.ndim != 1 or curve.size == 0:
            raise ValueError(f"values[{name!r}] must be one row of numbers, got shape {curve.shape}.")
        if relative and not curve[0] > 0:
            raise ValueError(f"values[{name!r}] starts at {curve[0]:g}, which nothing can be relative to.")
    if label is None:
        label = "Misfit / first misfit (1)" if relative else "Misfit (own unit)"
    ax = new_axes((5.5, 3.8)) if ax is None else ax
    for name, curve in curves.items():
        curve = curve / curve[0] if relative else curve
        ax.semilogy(np.where(curve > 0, curve, np.nan), label=name, marker="o" if curve.size < 30 else None, ms=3)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
    ax.legend()
    if title is not None:
        ax.set_title(title)
    return ax


def spectrum(
    wavelet: ArrayLike,
    grid: Grid,
    ax: Axes | None = None,
    *,
    highest: float | None = None,
    title: str | None = None,
) -> Axes:
    """The amplitude spectrum of a wavelet: which frequencies a survey contains, for choosing spacing and stages.

    The curve is ``|W(f)| = dt |Σ w(t) exp(-2πi f t)|``, which does not depend on the time step ``dt``.

    Args:
        wavelet: ``(time,)``.
        grid: gives the time step.
        ax: where to draw; a new figure by default.
        highest: the highest frequency drawn, Hz. By default a little above the last one with a hundredth of the peak's
            amplitude.
        title: none by default.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``wavelet`` is not 1D or has no samples, or ``highest`` is not positive.

    >>> import jaxfwi as jf
    >>> grid = jf.Grid(shape=(30, 80), spacing=20.0, dt=1e-3, nt=1000)
    >>> axes = jf.plot.spectrum(jf.ricker(grid, frequency=10.0), grid)
    >>> axes.get_xlabel()
    'Frequency (Hz)'
    """
    check_grid(grid)
    samples = np.asarray(wavelet, dtype=np.float64)
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(
            f"wavelet must be one row of samples, got shape {samples.shape}; pass one of them, wavelet[0]."
        )
    # Zeros after the end do not change the spectrum; they give its curve more points.
    length = max(4 * samples.size, 4096)
    frequency = np.fft.rfftfreq(length, grid.dt)
    amplitude = grid.dt * np.abs(np.fft.rfft(samples, length))
    if highest is None:
        strong = np.flatnonzero(amplitude >= 0.01 * amplitude.max())
        highest = float(min(1.1 * frequency[max(strong[-1], 1)], frequency[-1]))
    if not highest > 0:
        raise ValueError(f"highest must be a positive frequency in Hz, got {highest!r}.")
    ax = new_axes((5.5, 3.4)) if ax is None else ax
    ax.plot(frequency, amplitude)
    ax.set_xlim(0.0, highest)
    ax.set_ylim(bottom=0.0)
    ax.set_xlabel("Frequency (Hz)")
    ax.set_ylabel("Amplitude (wavelet unit / Hz)")
    ax.grid(alpha=0.3)
    if title is not None:
        ax.set_title(title)
    return ax


def data_fit(
    edges: ArrayLike,
    misfits: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    *,
    label: str = "Relative data misfit (1)",
    title: str | None = None,
) -> Axes:
    """How well the data of several models fit at each offset, as steps; of the results of
    `diagnostics.misfit_by_offset`.

    Args:
        edges: of the bins of offset, in metres, ``(bins + 1,)``, rising.
        misfits: name to values, each ``(bins,)``; nan leaves a gap.
        ax: where to draw; a new figure by default.
        label: label of the vertical axis; give the unit in it.
        title: none by default.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``misfits`` is empty, ``edges`` do not rise, or there is not one value for each bin.

    >>> import jaxfwi as jf
    >>> misfits = {"start": [0.8, 1.3], "result": [0.1, 0.3]}
    >>> axes = jf.plot.data_fit([0.0, 500.0, 1000.0], misfits)
    >>> axes.get_xlabel()
    'Offset (km)'
    """
    km = np.asarray(edges, dtype=np.float64) / 1e3
    if km.ndim != 1 or km.size < 2 or not (np.diff(km) > 0).all():
        raise ValueError(f"edges must be two or more rising numbers of metres, got {edges!r}.")
    curves = {name: np.asarray(values, dtype=np.float64) for name, values in misfits.items()}
    if not curves:
        raise ValueError("misfits must hold one row of values or more, got none.")
    for name, values in curves.items():
        if values.shape != (km.size - 1,):
            raise ValueError(f"misfits[{name!r}] must be one value for each of {km.size - 1} bins, got {values.shape}.")
    ax = new_axes((5.5, 3.8)) if ax is None else ax
    for i, (name, values) in enumerate(curves.items()):
        ax.stairs(values, km, baseline=None, label=name, color=f"C{i % 10}")
    ax.set_ylim(bottom=0.0)
    ax.set_xlabel("Offset (km)")
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
    ax.legend()
    if title is not None:
        ax.set_title(title)
    return ax
