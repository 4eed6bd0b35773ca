"""Velocity models to test with, and start models to invert from.

Everything here is a pure function of numpy arrays, seeded where it is random, so that an experiment is the
same on every run and at every resolution. Arrays are indexed ``[z]``, ``[z, x]`` or ``[z, y, x]``: axis 0 is
depth.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["WATER_VELOCITY", "linear_in_depth", "marmousi_like", "smooth", "two_layers", "water_mask"]

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

WATER_VELOCITY = 1500.0  # m/s
SLOWEST_ROCK, FASTEST_ROCK = 1600.0, 4700.0  # m/s


def two_layers(
    shape: Sequence[int], depth: int | None = None, upper: float = 1500.0, lower: float = 2000.0
) -> NDArray[np.float32]:
    """Two homogeneous layers with a flat interface, in one, two or three dimensions.

    Args:
        shape: cells along each axis, depth first.
        depth: number of cells in the upper layer: cells ``0 .. depth - 1`` have velocity ``upper``. Half of
            ``shape[0]``, rounded down, by default.
        upper: velocity above the interface, m/s.
        lower: velocity below it, m/s.

    Returns:
        The velocity in m/s, float32, of shape ``shape``.

    Raises:
        ValueError: if ``shape`` is not one to three positive integers, ``depth`` lies outside the model, or a
            velocity is not positive.

    Example:
        >>> two_layers((4,), depth=1)
        array([1500., 2000., 2000., 2000.], dtype=float32)
    """
    shape = _checked_shape(shape, dimensions=(1, 2, 3))
    depth = shape[0] // 2 if depth is None else depth
    if not _is_integer(depth) or not 0 <= depth <= shape[0]:
        raise ValueError(f"depth must be a whole number of cells between 0 and {shape[0]}, got {depth!r}.")
    _check_positive(upper=upper, lower=lower)
    vp = np.full(shape, lower, np.float32)
    vp[:depth] = upper
    return vp


def marmousi_like(
    shape: Sequence[int] = (150, 400),
    spacing: float | Sequence[float] = 20.0,
    seed: int = 0,
    water_depth: float | None = None,
) -> NDArray[np.float32]:
    """A 2D section in the manner of Marmousi: growth faults over a folded, eroded older series.

    The section is built as geology is, and sampled by going back in time. Cell ``[i, j]`` lies at depth
    ``i * dz`` and distance ``j * dx``. Slip on each fault is undone, which takes the cell to the place where
    its rock was laid down; above the unconformity that place is in a younger series which thickens basinwards
    and whose lowest layers wedge out on the unconformity, below it in an older, folded series. The layer
    found there gives the velocity, to which compaction adds an increase with today's depth. A gas-filled lens
    and the sea come last.

    The geology depends on ``seed``, on the physical size ``shape * spacing`` and on ``water_depth`` only: a
    finer grid of the same size samples the same section, and agrees with the coarse one wherever the two have
    a cell at the same position. A section of another size is the same geology stretched. Faults are listric,
    with the hanging wall let down by vertical shear (Gibbs 1983, *Balanced cross-section construction from
    seismic sections in areas of extensional tectonics*, J. Struct. Geol. 5).

    This is an invented section, not the Marmousi model of Versteeg (1994), whose file can be used instead in
    all that takes an array.

    Args:
        shape: cells ``(nz, nx)``.
        spacing: metres between cells, one number or ``(dz, dx)``.
        seed: chooses layer thicknesses and velocities, and shifts faults, folds and the lens a little.
        water_depth: mean depth of the sea bed in metres; the bed varies by about a tenth of it. By default 9%
            of the section's depth; 0 gives a section on land.

    Returns:
        The P-wave velocity in m/s, float32, of shape ``(nz, nx)``: 1500 in water, 1600 to 4700 in rock.

    Raises:
        ValueError: if ``shape`` is not two positive integers, ``spacing`` is not positive, or ``water_depth``
            is negative or more than half of the section's depth.

    Example:
        >>> coarse = marmousi_like((75, 200), spacing=40.0)
        >>> fine = marmousi_like((150, 400), spacing=20.0)
        >>> bool((fine[::2, ::2] == coarse).all())
        True
    """
    shape = _checked_shape(shape, dimensions=(2,))
    dz, dx = _per_axis(spacing, 2, "spacing")
    if not (dz > 0 and dx > 0):
        raise ValueError(f"spacing must be positive, in metres, got {spacing!r}.")
    height, width = shape[0] * dz, shape[1] * dx
    water_depth = 0.09 * height if water_depth is None else float(water_depth)
    if not 0 <= water_depth <= 0.5 * height:
        raise ValueError(f"water_depth must lie between 0 and {height / 2:g} m, half the depth, got {water_depth:g}.")
    z = (np.arange(shape[0]) * dz)[:, None]
    x = np.broadcast_to(np.arange(shape[1]) * (dx / width), shape)
    # From here on lengths are shares: x of the width, depth of the way from the mean sea bed to the bottom.
    depth = np.broadcast_to((z - water_depth) / (height - water_depth), shape)

    random = np.random.default_rng(seed)
    vp = _rock(x, depth, random)
    bed = water_depth * (1 + 0.1 * _undulation(x[0], random, longest=1.3))
    return np.where(z < bed, WATER_VELOCITY, vp).astype(np.float32)


def _rock(x: FloatArray, depth: FloatArray, random: np.random.Generator) -> FloatArray:
    """Velocity of the rock at ``(x, depth)``, both as shares of the section."""
    # Where each piece of rock lay before the faults moved it, the youngest fault undone first.
    x_old, depth_old = x, depth
    for start, heave, length, floor in _faults(random):
        x_old, depth_old = _undo_fault(x_old, depth_old, start, heave, length, floor)

    # The younger series: a gentle basinward dip, thicker to the right, warped a little.
    warp = 0.012 * _undulation(x_old, random, longest=0.7)
    young = (depth_old - 0.10 * (x_old - 0.5) - warp) / (0.86 + 0.30 * x_old)
    # The older series: an anticline, steeper on its right, beside a syncline, cut by a steep fault.
    crest = random.uniform(0.24, 0.32)
    fold = -0.24 * _bump(x_old, crest, 0.20, 0.14) + 0.11 * _bump(x_old, crest + 0.40, 0.13, 0.18)
    fold -= 0.10 * _bump(x_old, crest + 0.74, 0.15, 0.12)
    steep = x_old - (crest + 0.10) > 0.06 * (depth_old - 0.6)
    old = depth_old - fold - 0.02 * _undulation(x_old, random, longest=0.5) - np.where(steep, 0.05, 0.0)
    # The unconformity cuts the fold's crest and dips basinwards faster than the younger layers do.
    unconformity = 0.40 + 0.26 / (1 + np.exp(-(x_old - 0.42) / 0.09)) + 0.015 * _undulation(x_old, random, 0.6)

    young_tops, young_velocity = _layers(random, count=22, span=(0.0, 0.70), velocity=(1740.0, 2850.0))
    old_tops, old_velocity = _layers(random, count=16, span=(0.48, 1.20), velocity=(2750.0, 3850.0))
    is_young = depth_old < unconformity
    vp = np.where(
        is_young,
        young_velocity[np.searchsorted(young_tops, young, side="right")],
        old_velocity[np.searchsorted(old_tops, old, side="right")],
    )
    vp = vp + 500.0 * np.maximum(depth, 0.0)  # compaction

    # Gas under the crest of the roll-over: flat below, arched above, moved by the faults as its host layer
    # was.
    centre, base = random.uniform(0.615, 0.630), random.uniform(0.26, 0.28)
    arch = 0.05 * (1 - ((x_old - centre) / 0.042) ** 2)
    gas = is_young & (young < base) & (young > base - arch)
    vp = np.where(gas, 0.78 * vp, vp)
    return np.clip(vp, SLOWEST_ROCK, FASTEST_ROCK)


def _faults(random: np.random.Generator) -> list[tuple[float, float, float, float]]:
    """``(start, heave, length, floor)`` of each fault, the youngest first; see :func:`_undo_fault`."""
    faults = []
    for start, heave, length in (
        (0.80, -0.016, 0.10),
        (0.56, 0.024, 0.12),
        (0.42, 0.030, 0.13),
        (0.28, 0.022, 0.15),
    ):
        faults.append((start + random.uniform(-0.02, 0.02), heave * random.uniform(0.85, 1.15), length, 0.82))
    return faults


def _undo_fault(
    x: FloatArray, depth: FloatArray, start: float, heave: float, length: float, floor: float
) -> tuple[FloatArray, FloatArray]:
    """Where rock now at ``(x, depth)`` lay before one listric fault slipped.

    The fault leaves the sea bed at ``start`` and flattens towards ``floor``: ``floor (1 - exp(-t / length))``
    at a distance ``t`` from it, to the right for a positive ``heave``, to the left for a negative one. The
    hanging wall moved sideways by ``heave`` and sank on to the fault. Older rock has slipped further: the
    fault moved while sediment was laid down, so that slip dies out towards the sea bed. It dies out towards
    ``floor`` too, where rock flows rather than breaks.
    """
    side = np.sign(heave)
    distance = side * (x - start)
    surface = floor * (1 - np.exp(-distance / length))
    slip = np.abs(heave) * _ramp(depth, 0.01, 0.40) * (1 - _ramp(depth, 0.55 * floor, floor))
    drop = (floor - surface) * (np.exp(slip / length) - 1)
    moved = depth < surface
    return np.where(moved, x - side * slip, x), np.where(moved, depth - drop, depth)


def _ramp(x: FloatArray, start: float, end: float) -> FloatArray:
    """Rises smoothly from 0 at ``start`` to 1 at ``end``."""
    share = np.clip((x - start) / (end - start), 0.0, 1.0)
    return share * share * (3 - 2 * share)


def _bump(x: FloatArray, centre: float, left: float, right: float) -> FloatArray:
    """A bell of height 1 with different widths on its two sides."""
    return np.exp(-(((x - centre) / np.where(x < centre, left, right)) ** 2))


def _layers(
    random: np.random.Generator, count: int, span: tuple[float, float], velocity: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Depths of ``count - 1`` interfaces within ``span`` and the velocity of each layer.

    Velocity follows a trend from the first to the second number of ``velocity``; fast and slow beds alternate
    about it, unevenly.
    """
    thickness = random.uniform(0.45, 1.55, count)
    edges = np.concatenate([[0.0], np.cumsum(thickness)]) / thickness.sum()
    middle = (edges[1:] + edges[:-1]) / 2
    sign = np.where(np.arange(count) % 2, 1.0, -1.0)
    contrast = 1 + sign * random.uniform(0.01, 0.10, count)
    trend = velocity[0] + (velocity[1] - velocity[0]) * middle
    return span[0] + (span[1] - span[0]) * edges[1:-1], trend * contrast


def _undulation(x: FloatArray, random: np.random.Generator, longest: float) -> FloatArray:
    """A smooth seeded curve in ``[-1, 1]``: three cosines, the longest wavelength ``longest``."""
    phases = random.uniform(0, 2 * np.pi, 3)
    waves = [np.cos(2 * np.pi * x * n / longest + phase) / n for n, phase in zip((1, 2, 3), phases, strict=True)]
    return np.sum(waves, axis=0) / (1 + 1 / 2 + 1 / 3)


def water_mask(vp: ArrayLike, water_velocity: float = WATER_VELOCITY) -> BoolArray:
    """True in the water: the cells of each column from the top down to the first that is faster than water.

    Slow rock below the sea bed, such as a gas-filled lens, is not water however slow it is.

    Args:
        vp: velocity in m/s, any number of dimensions, depth first.
        water_velocity: greatest velocity of water, m/s.

    Returns:
        A boolean array of ``vp``'s shape.

    Raises:
        ValueError: if ``vp`` is a single number or ``water_velocity`` is not positive.

    Example:
        >>> water_mask([1500.0, 1500.0, 2000.0, 1400.0])
        array([ True,  True, False, False])
    """
    vp = np.asarray(vp)
    if vp.ndim == 0:
        raise ValueError("vp must be an array with depth along its first axis, got a single number.")
    _check_positive(water_velocity=water_velocity)
    rounding = 1e-6  # a water velocity such as 1480.3 is not itself in float32
    return np.logical_and.accumulate(vp <= water_velocity * (1 + rounding), axis=0)


def smooth(
    model: ArrayLike, length: float | Sequence[float], keep: ArrayLike | None = None, slowness: bool = True
) -> FloatArray:
    """Smooth a model with a Gaussian, as a start model for inversion needs it.

    A wave of wavenumber ``k`` per cell keeps ``exp(-(k length)² / 2)`` of its amplitude: wavelengths below
    twice ``length`` are gone (less than 1% is left), those above fifteen times ``length`` stay (more than
    90%).

    By default the average is taken of slowness, ``1 / model``. The time a wave takes along a path is the sum
    of the slownesses on it, so smoothing slowness keeps traveltimes, and with them the kinematics that an
    inversion must start from; smoothing velocity would make them too short. Pass ``slowness=False`` for
    anything that is not a velocity: density, a gradient, an update.

    The average of a cell is over the model's cells only, weighted by the Gaussian and divided by the sum of
    the weights. Edges are therefore neither darkened nor mirrored, and a constant stays constant.

    Args:
        model: the model, any number of dimensions.
        length: standard deviation of the Gaussian in cells, one number or one per axis; 0 leaves an axis
            alone.
        keep: True in cells, such as those of the water, that keep their value exactly and do not enter the
            average of any other cell. None by default.
        slowness: average ``1 / model``, the default, instead of ``model``.

    Returns:
        The smoothed model, of ``model``'s shape, float64 if ``model`` is, float32 otherwise.

    Raises:
        ValueError: if ``length`` is negative or has not one number per axis, ``keep`` is not a boolean array
            of the model's shape, a smoothed cell is not finite, or, with ``slowness``, is not positive.

    Example:
        >>> vp = two_layers((6,), depth=2, upper=1500.0, lower=3000.0)
        >>> smooth(vp, 2.0, keep=water_mask(vp))
        array([1500., 1500., 3000., 3000., 3000., 3000.], dtype=float32)
    """
    model = _as_float(model)
    lengths = _per_axis(length, model.ndim, "length")
    if not all(0 <= sigma < np.inf for sigma in lengths):
        raise ValueError(f"length must be zero or more, in cells, got {length!r}.")
    kept = _checked_mask(keep, model.shape)
    if not np.isfinite(model[~kept]).all():
        raise ValueError("model must be finite in every cell that is smoothed.")
    if slowness and not (model[~kept] > 0).all():
        raise ValueError("model must be positive where it is smoothed in slowness; pass slowness=False to average it.")

    free = np.where(kept, 1.0, model).astype(np.float64)
    total = np.where(kept, 0.0, 1 / free if slowness else free)
    weight = (~kept).astype(np.float64)
    for axis, sigma in enumerate(lengths):
        if sigma > 0:
            total, weight = (_blur(array, axis, sigma) for array in (total, weight))
    weight[kept] = 1.0
    mean = total / weight
    if slowness:
        mean[kept] = 1.0
        mean = 1 / mean
    return np.where(kept, model, mean).astype(model.dtype)


def _blur(array: FloatArray, axis: int, sigma: float) -> FloatArray:
    """Gaussian-weighted sum along one axis, as a dense matrix: no truncation, no padding, fast BLAS."""
    cell = np.arange(array.shape[axis])
    kernel = np.exp(-0.5 * ((cell[:, None] - cell) / sigma) ** 2)
    return np.moveaxis(np.tensordot(kernel, array, axes=(1, axis)), 0, axis)


def linear_in_depth(
    vp: ArrayLike, keep: ArrayLike | None = None, top: float | None = None, bottom: float | None = None
) -> FloatArray:
    """Replace a model by one that is linear in depth below the sea bed: the poorest honest start model.

    Depth is counted in each column from its first cell that is not kept. A velocity that is not given is
    fitted to ``vp`` by least squares over the cells that are not kept.

    Args:
        vp: velocity in m/s, any number of dimensions, depth first.
        keep: True in cells, such as those of the water, that keep their value exactly. None by default.
        top: velocity in m/s of the first cell below the sea bed. Fitted by default.
        bottom: velocity in m/s at the greatest depth below the sea bed that the model reaches. Fitted by
            default.

    Returns:
        The model, of ``vp``'s shape, float64 if ``vp`` is, float32 otherwise.

    Raises:
        ValueError: if ``vp`` is a single number, ``keep`` is not a boolean array of its shape, or a velocity
            given is not positive.

    Example:
        >>> vp = two_layers((5,), depth=1, upper=1500.0, lower=2500.0)
        >>> linear_in_depth(vp, keep=water_mask(vp), top=1600.0, bottom=2200.0)
        array([1500., 1600., 1800., 2000., 2200.], dtype=float32)
    """
    vp = _as_float(vp)
    if vp.ndim == 0:
        raise ValueError("vp must be an array with depth along its first axis, got a single number.")
    kept = _checked_mask(keep, vp.shape)
    _check_positive(**{name: v for name, v in (("top", top), ("bottom", bottom)) if v is not None})
    rock = ~kept
    if not rock.any():
        return vp.copy()

    cell = np.arange(vp.shape[0]).reshape((-1,) + (1,) * (vp.ndim - 1))
    depth = (cell - np.argmax(rock, axis=0)).astype(np.float64)
    share = depth / max(depth[rock].max(), 1.0)
    # vp = top (1 - share) + bottom share; what is given goes to the left, what is not is fitted.
    parts = {"top": 1 - share[rock], "bottom": share[rock]}
    ends = {"top": top, "bottom": bottom}
    unknown = [name for name, value in ends.items() if value is None]
    if unknown:
        rest = vp[rock] - sum(parts[name] * value for name, value in ends.items() if value is not None)
        fitted = np.linalg.lstsq(np.stack([parts[name] for name in unknown], axis=1), rest, rcond=None)[0]
        ends.update(zip(unknown, fitted.tolist(), strict=True))
    line = ends["top"] * (1 - share) + ends["bottom"] * share
    return np.where(kept, vp, line).astype(vp.dtype)


def _as_float(array: ArrayLike) -> FloatArray:
    array = np.asarray(array)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _checked_shape(shape: Sequence[int], dimensions: tuple[int, ...]) -> tuple[int, ...]:
    counts = " or ".join(str(n) for n in dimensions)
    try:
        sizes = tuple(shape)
    except TypeError:
        sizes = ()
    if len(sizes) not in dimensions or not all(_is_integer(n) and n > 0 for n in sizes):
        raise ValueError(f"shape must be {counts} positive integers, depth first, got {shape!r}.")
    return tuple(int(n) for n in sizes)


def _per_axis(value: float | Sequence[float], ndim: int, name: str) -> tuple[float, ...]:
    values = np.asarray(value, dtype=np.float64)
    if values.ndim == 0:
        return (float(values),) * ndim
    if values.shape != (ndim,):
        raise ValueError(f"{name} must be one number or one per axis, {ndim} in all, got {value!r}.")
    return tuple(values.tolist())


def _checked_mask(keep: ArrayLike | None, shape: tuple[int, ...]) -> BoolArray:
    if keep is None:
        return np.zeros(shape, bool)
    kept = np.asarray(keep)
    if kept.dtype != bool or kept.shape != shape:
        raise ValueError(f"keep must be boolean and of the model's shape {shape}, got {kept.dtype} {kept.shape}.")
    return kept


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be a positive number in m/s, got {value!r}.")
