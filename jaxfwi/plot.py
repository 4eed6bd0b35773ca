"""Figures of models, gathers, gradients, convergence, wavelets and the fit of data.

Each function takes arrays (numpy, jax or lists) and draws one thing with units on its axes. Without ``ax`` it
makes its own figure, which belongs to nobody else: pyplot's list of open figures and its current figure stay
as they are, no backend is chosen, and nothing is left to close. Such a figure shows itself as the last line
of a notebook cell and is written by ``ax.figure.savefig("model.png")``.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating[Any]]

SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"


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
    section = _checked_section(vp, "vp")
    ax = _new_axes((8.0, _height(section.shape, spacing, width=6.5))) if ax is None else ax
    image = _section(ax, section, spacing, cmap=cmap, clim=clim)
    for name, positions, marker, size in (
        ("Sources", survey_sources, "*", 40),
        ("Receivers", survey_receivers, "v", 12),
    ):
        if positions is not None:
            z, x = _checked_positions(positions, f"survey_{name.lower()}")
            style = {"c": "white", "edgecolors": "black", "linewidths": 0.5, "clip_on": False, "zorder": 3}
            ax.scatter(x, z, marker=marker, s=size, label=name, **style)
    if title is not None:
        ax.set_title(title)
    _figure_of(ax).colorbar(image, ax=ax, label=label)
    return ax


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
            ``receiver_x`` is not evenly spaced or not one position per receiver.

    Example:
        >>> axes = gather(np.eye(200, 50), dt=4e-3)
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('Receiver number', 'Time (s)')
    """
    panel = _checked_2d(data, "data", "(time, receivers)", "one shot and component, data[shot, :, :, 0]")
    _check_dt(dt)
    if clim is None:
        limit = _magnitude([panel], percentile)
        clim = (-limit, limit)
    first, step, xlabel = 0.0, 1.0, "Receiver number"
    if receiver_x is not None:
        first, step = _even_positions(receiver_x, panel.shape[1])
        xlabel = "Distance (km)"
    ax = _new_axes((5.0, 5.5)) if ax is None else ax
    extent = _extent(panel.shape, (dt, step), (0.0, first))
    image = ax.imshow(panel, extent=extent, aspect="auto", cmap=cmap, vmin=clim[0], vmax=clim[1])
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Time (s)")
    if title is not None:
        ax.set_title(title)
    _figure_of(ax).colorbar(image, ax=ax, label=label)
    return ax


def compare(
    images: Mapping[str, ArrayLike],
    spacing: float | Sequence[float],
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

    Sections that look alike on scales of their own prove nothing, so there is one scale for all. A difference
    is too small to see on it, so it is multiplied by a round number that its title states.

    Args:
        images: name to section, each ``(nz, nx)``, drawn from top to bottom.
        spacing: metres between cells, one number or ``(dz, dx)``.
        difference_to: name of the section that the others are compared with. No differences by default.
        symmetric: whether the scale is symmetric about zero, as gradients want it. By default it is if values
            of both signs are present.
        percentile: share of the cells, in percent, within the colour scale. A gradient is so large at the
            sources that nothing else shows at 100.
        clim: the values at the ends of the colour scale, instead of ``percentile``.
        cmap: name of a matplotlib colour map; by default a diverging one if ``symmetric``, else a sequential
            one.
        label: the colour bar's label; give the unit in it.
        title: over the whole figure; none by default.

    Returns:
        The figure. Its axes are the panels, row by row, then the colour bars.

    Raises:
        ValueError: if ``images`` is empty, their shapes differ or are not 2D, or ``difference_to`` is not
            among them.

    Example:
        >>> exact = np.sin(np.linspace(0, 6, 2400)).reshape(30, 80)
        >>> figure = compare({"full": exact, "boundary": exact * (1 + 2e-6)}, 20.0, difference_to="full")
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['full', 'boundary', '(boundary - full) $\\times\\ 5 \\cdot 10^{5}$']
    """
    sections = {name: _checked_section(image, f"images[{name!r}]") for name, image in images.items()}
    shapes = {section.shape for section in sections.values()}
    if len(shapes) != 1:
        raise ValueError(f"images must hold one section or more, all of one shape, got shapes {sorted(shapes)}.")
    if difference_to is not None and difference_to not in sections:
        raise ValueError(f"difference_to must be one of {list(sections)}, got {difference_to!r}.")

    everything = list(sections.values())
    if symmetric is None:
        symmetric = any(bool((s < 0).any()) for s in everything) and any(bool((s > 0).any()) for s in everything)
    if clim is None:
        clim = _limits(everything, symmetric, percentile)
    cmap = cmap or (DIVERGING if symmetric else SEQUENTIAL)
    half_range = max(abs(clim[0]), abs(clim[1])) if symmetric else clim[1] - clim[0]

    rows, columns = len(sections), 1 if difference_to is None else 2
    height = rows * _height(next(iter(shapes)), spacing, width=4.5) + 0.3
    figure = _Figure(figsize=(5.6 * columns, height), layout="constrained")
    grid = figure.add_gridspec(rows, columns)

    panels: list[list[Axes]] = [[], []]
    drawn: list[AxesImage | None] = [None, None]
    for row, (name, section) in enumerate(sections.items()):
        ax = figure.add_subplot(grid[row, 0])
        drawn[0] = _section(ax, section, spacing, cmap=cmap, clim=clim)
        ax.set_title(name)
        panels[0].append(ax)
        if difference_to is None or name == difference_to:
            continue
        difference = section - sections[difference_to]
        factor = _round_factor(half_range, _magnitude([difference], percentile, empty=0.0))
        ax = figure.add_subplot(grid[row, 1])
        drawn[1] = _section(ax, difference * factor, spacing, cmap=DIVERGING, clim=(-half_range, half_range))
        same = not difference.any()
        ax.set_title(f"{name} = {difference_to}" if same else f"({name} - {difference_to}) {_times(factor)}")
        panels[1].append(ax)

    labels = (label, f"Scaled difference: {label}")
    for axes, image, text in zip(panels, drawn, labels, strict=True):
        if image is not None:
            figure.colorbar(image, ax=axes, label=text, aspect=18 * len(axes))
    if title is not None:
        figure.suptitle(title)
    return figure


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
        values: name to curve, each ``(iterations,)``; they need not be equally long. What is zero or less
            cannot be drawn and leaves a gap.
        ax: where to draw; a new figure by default.
        relative: divide each curve by its first value, so that different misfits can be compared.
        xlabel: label of the horizontal axis.
        label: label of the vertical axis; give the unit in it. A misfit by default.
        title: none by default.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``values`` is empty, a curve is not 1D or has no values, or, with ``relative``, starts
            at zero or less.

    Example:
        >>> axes = convergence({"Adam": [4.0, 2.0, 1.0], "L-BFGS": [4.0, 0.5]}, relative=True)
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
    ax = _new_axes((5.5, 3.8)) if ax is None else ax
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
    dt: float,
    ax: Axes | None = None,
    *,
    highest: float | None = None,
    title: str | None = None,
) -> Axes:
    """The amplitude spectrum of a wavelet: which frequencies a survey holds, for choosing spacing and stages.

    Drawn is ``|W(f)| = dt |Σ w(t) exp(-2πi f t)|``, which does not depend on ``dt``.

    Args:
        wavelet: ``(time,)``.
        dt: seconds between samples.
        ax: where to draw; a new figure by default.
        highest: the highest frequency drawn, Hz. By default a little above the last one with a hundredth of
            the peak's amplitude.
        title: none by default.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``wavelet`` is not 1D or has no samples, ``dt`` is not positive, or ``highest`` is not.

    Example:
        >>> t = np.arange(1000) * 1e-3
        >>> axes = spectrum(np.exp(-(((t - 0.5) / 0.05) ** 2)), dt=1e-3)
        >>> axes.get_xlabel()
        'Frequency (Hz)'
    """
    samples = np.asarray(wavelet, dtype=np.float64)
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(
            f"wavelet must be one row of samples, got shape {samples.shape}; pass one of them, wavelet[0]."
        )
    _check_dt(dt)
    # Zeros after the end do not change the spectrum; they draw its curve at more frequencies.
    length = max(4 * samples.size, 4096)
    frequency = np.fft.rfftfreq(length, dt)
    amplitude = dt * np.abs(np.fft.rfft(samples, length))
    if highest is None:
        strong = np.flatnonzero(amplitude >= 0.01 * amplitude.max())
        highest = float(min(1.1 * frequency[max(strong[-1], 1)], frequency[-1]))
    if not highest > 0:
        raise ValueError(f"highest must be a positive frequency in Hz, got {highest!r}.")
    ax = _new_axes((5.5, 3.4)) if ax is None else ax
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
    """How well data of several models fit at each offset, as steps: what `quality.misfit_by_offset` gives.

    Args:
        edges: of the bins of offset in metres, ``(bins + 1,)``, rising.
        misfits: name to values, each ``(bins,)``; nan leaves a gap.
        ax: where to draw; a new figure by default.
        label: label of the vertical axis; give the unit in it.
        title: none by default.

    Returns:
        The axes drawn on.

    Raises:
        ValueError: if ``misfits`` is empty, ``edges`` do not rise, or there is not one value for each bin.

    Example:
        >>> axes = data_fit([0.0, 500.0, 1000.0], {"start": [0.8, 1.3], "result": [0.1, 0.3]})
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
    ax = _new_axes((5.5, 3.8)) if ax is None else ax
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


def _png(figure: Figure | SubFigure) -> bytes:
    buffer = io.BytesIO()
    figure.figure.savefig(buffer, format="png")
    return buffer.getvalue()


class _Figure(Figure):
    """A figure a notebook shows although pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        return _png(self)


class _Axes(Axes):
    """Axes of such a figure: a notebook shows the figure. Axes that a user made stay silent."""

    def _repr_png_(self) -> bytes:
        return _png(_figure_of(self))


def _new_axes(size: tuple[float, float]) -> Axes:
    return _Figure(figsize=size, layout="constrained").add_subplot(axes_class=_Axes)


def _height(shape: tuple[int, ...], spacing: float | Sequence[float], width: float) -> float:
    """Inches that a section drawn ``width`` inches wide needs, labels and title included."""
    dz, dx = _checked_spacing(spacing)
    return float(np.clip(width * shape[0] * dz / (shape[1] * dx), 0.8, 1.3 * width)) + 0.9


def _figure_of(ax: Axes) -> Figure | SubFigure:
    figure = ax.get_figure()
    if figure is None:
        raise ValueError("ax must belong to a figure.")
    return figure


def _section(
    ax: Axes,
    section: FloatArray,
    spacing: float | Sequence[float],
    cmap: str,
    clim: tuple[float, float] | None,
) -> AxesImage:
    dz, dx = _checked_spacing(spacing)
    low, high = (None, None) if clim is None else clim
    extent = _extent(section.shape, (dz / 1e3, dx / 1e3), (0.0, 0.0))
    image = ax.imshow(section, extent=extent, cmap=cmap, vmin=low, vmax=high, aspect="equal")
    ax.set_xlabel("Distance (km)")
    ax.set_ylabel("Depth (km)")
    return image


def _extent(
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


def _magnitude(arrays: Sequence[FloatArray], percentile: float, empty: float = 1.0) -> float:
    """The percentile of the magnitude; the greatest if that is zero; ``empty`` if all are."""
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must be above 0 and at most 100, got {percentile!r}.")
    values = np.abs(np.concatenate([array.ravel() for array in arrays]))
    values = values[np.isfinite(values)]
    if not values.any():
        return empty
    return float(np.percentile(values, percentile)) or float(values.max())


def _limits(arrays: Sequence[FloatArray], symmetric: bool, percentile: float) -> tuple[float, float]:
    limit = _magnitude(arrays, percentile)
    if symmetric:
        return -limit, limit
    values = np.concatenate([array[np.isfinite(array)] for array in arrays])
    low, high = (float(np.percentile(values, p)) for p in (100 - percentile, percentile))
    return (low, high) if high > low else (low - limit / 2, high + limit / 2)


def _round_factor(scale: float, size: float) -> float:
    """Greatest 1, 2 or 5 times a power of ten that keeps ``size`` within ``scale``; 1 if ``size`` is 0."""
    if size == 0:
        return 1.0
    exponent = np.floor(np.log10(scale) - np.log10(size))
    digit = max(d for d in (1, 2, 5) if d == 1 or d * size * 10.0**exponent <= scale)
    return float(digit * 10.0**exponent)


def _times(factor: float) -> str:
    digit, exponent = f"{factor:.0e}".split("e")
    if abs(int(exponent)) < 3:
        return rf"$\times\ {factor:g}$"
    return rf"$\times\ {digit} \cdot 10^{{{int(exponent)}}}$"


def _checked_2d(array: ArrayLike, name: str, axes: str, how: str) -> FloatArray:
    values = np.asarray(array)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"{name} must be a 2D array {axes}, got shape {values.shape}; pass {how}.")
    return values.astype(np.float64)


def _checked_section(array: ArrayLike, name: str) -> FloatArray:
    ndim = np.ndim(array)
    how = {
        1: "a 2D model, or plot a profile with matplotlib",
        3: "a slice, such as array[:, array.shape[1] // 2, :]",
    }
    return _checked_2d(array, name, "[z, x]", how.get(ndim, "two axes of it"))


def _checked_spacing(spacing: float | Sequence[float]) -> tuple[float, float]:
    steps = np.asarray(spacing, dtype=np.float64)
    if steps.shape not in ((), (2,)) or not (steps > 0).all():
        raise ValueError(f"spacing must be positive, one number or (dz, dx) in metres, got {spacing!r}.")
    dz, dx = np.broadcast_to(steps, 2).tolist()
    return dz, dx


def _checked_positions(positions: ArrayLike, name: str) -> FloatArray:
    metres = np.asarray(positions, dtype=np.float64)
    if metres.ndim == 0 or metres.shape[-1] != 2:
        raise ValueError(f"{name} must be positions [z, x] in metres of shape (..., 2), got shape {metres.shape}.")
    # A fixed spread repeats its receivers for every shot; padding of ragged receivers may not be finite.
    unique = np.unique(metres.reshape(-1, 2), axis=0)
    return unique[np.isfinite(unique).all(axis=1)].T / 1e3


def _even_positions(receiver_x: ArrayLike, count: int) -> tuple[float, float]:
    """First position and step, in km."""
    x = np.asarray(receiver_x, dtype=np.float64) / 1e3
    if x.shape != (count,):
        raise ValueError(f"receiver_x must hold one position per receiver, shape ({count},), got shape {x.shape}.")
    if count == 1:
        return float(x[0]), 1e-3
    step = float(x[-1] - x[0]) / (count - 1)
    if step == 0 or not np.allclose(np.diff(x), step, rtol=0, atol=1e-3 * abs(step)):
        raise ValueError("receiver_x must be evenly spaced; leave it out to number the receivers.")
    return float(x[0]), step


def _check_dt(dt: float) -> None:
    if not dt > 0:
        raise ValueError(f"dt must be positive, in seconds, got {dt!r}.")
