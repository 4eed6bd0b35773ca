"""A section like Marmousi, made of layers that are folded, eroded and faulted as rock is."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxfwi._checks import as_integer, check_grid
from jaxfwi.grid.grid import Grid
from jaxfwi.models.layers import WATER_VELOCITY

__all__ = ["marmousi_like"]

FloatArray = NDArray[np.floating[Any]]

SLOWEST_ROCK, FASTEST_ROCK = 1600.0, 4700.0  # m/s


def marmousi_like(grid: Grid, seed: int = 0, water_depth: float | None = None) -> NDArray[np.float32]:
    """A 2D section in the manner of Marmousi: growth faults over a folded, eroded older series.

    The section is built as geology is, and sampled by going back in time. Cell ``[i, j]`` lies at depth ``i * dz`` and
    distance ``j * dx``. First the slip on each fault is undone, which takes the cell to the place where its rock was
    laid down. Above the unconformity that place is in a younger series, which thickens basinwards and whose lowest
    layers wedge out on the unconformity; below it, in an older, folded series. The layer found there gives the
    velocity, to which compaction adds an increase with today's depth. A gas-filled lens and the sea come last.

    The geology depends only on ``seed``, on the physical size (shape times spacing) and on ``water_depth``: a finer
    grid of the same size samples the same section, and agrees with the coarse one wherever the two have a cell at the
    same position. A section of another size is the same geology stretched. Faults are listric, with the hanging wall
    let down by vertical shear (Gibbs 1983, *Balanced cross-section construction from seismic sections in areas of
    extensional tectonics*, J. Struct. Geol. 5).

    This is an invented section, not the Marmousi model of Versteeg (1994). Where you have the file of that model, use
    it instead: everything here takes plain arrays.

    Args:
        grid: of two dimensions, ``(nz, nx)``.
        seed: a whole number that chooses layer thicknesses and velocities, and shifts faults, folds and the lens a
            little.
        water_depth: mean depth of the sea bed in metres; the bed varies by about a tenth of it. By default 9% of the
            section's depth; 0 gives a section on land.

    Returns:
        The P-wave velocity in m/s, float32, of shape ``(nz, nx)``: 1500 in water, 1600 to 4700 in rock.

    Raises:
        ValueError: if the grid does not have two dimensions, ``seed`` is not a whole number, or ``water_depth`` is
            negative or more than half of the section's depth.

    >>> import jaxfwi as jf
    >>> coarse = jf.models.marmousi_like(jf.Grid((75, 200), 40.0, dt=1e-3, nt=100))
    >>> fine = jf.models.marmousi_like(jf.Grid((150, 400), 20.0, dt=1e-3, nt=100))
    >>> bool((fine[::2, ::2] == coarse).all())
    True
    """
    check_grid(grid)
    if grid.ndim != 2:
        raise ValueError(f"marmousi_like makes a 2D section: give it a grid of shape (nz, nx), not {grid.shape}.")
    seed, shape, (dz, dx) = as_integer("seed", seed, 0), grid.shape, grid.spacing
    height, width = shape[0] * dz, shape[1] * dx
    water_depth = 0.09 * height if water_depth is None else float(water_depth)
    if not 0 <= water_depth <= 0.5 * height:
        raise ValueError(f"water_depth must lie between 0 and {height / 2:g} m, half the depth, got {water_depth:g}.")
    z = (np.arange(shape[0]) * dz)[:, None]
    x = np.broadcast_to(np.arange(shape[1]) * (dx / width), shape)
    # From here on lengths are fractions: x of the width, depth of the way from the mean sea bed to the bottom.
    depth = np.broadcast_to((z - water_depth) / (height - water_depth), shape)

    random = np.random.default_rng(seed)
    vp = _rock(x, depth, random)
    bed = water_depth * (1 + 0.1 * _undulation(x[0], random, longest=1.3))
    return np.where(z < bed, WATER_VELOCITY, vp).astype(np.float32)


def _rock(x: FloatArray, depth: FloatArray, random: np.random.Generator) -> FloatArray:
    """Velocity of the rock at ``(x, depth)``, both as fractions of the section."""
    # Find where each piece of rock lay before the faults moved it, the youngest fault undone first.
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

    # Gas under the crest of the roll-over: flat below, arched above, moved by the faults with its host layer.
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
    """The place where rock now at ``(x, depth)`` lay before one listric fault slipped.

    The fault leaves the sea bed at ``start`` and flattens towards ``floor``: its depth is ``floor (1 - exp(-t /
    length))`` at a distance ``t`` from ``start``, to the right for a positive ``heave``, to the left for a negative
    one. The hanging wall moved sideways by ``heave`` and sank on to the fault. Older rock has slipped further, since
    the fault moved while sediment was laid down; slip therefore dies out towards the sea bed. It also dies out towards
    ``floor``, where rock flows rather than breaks.
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
    t = np.clip((x - start) / (end - start), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _bump(x: FloatArray, centre: float, left: float, right: float) -> FloatArray:
    """A bell of height 1, with one width to its left and another to its right."""
    return np.exp(-(((x - centre) / np.where(x < centre, left, right)) ** 2))


def _layers(
    random: np.random.Generator, count: int, span: tuple[float, float], velocity: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Depths of ``count - 1`` interfaces within ``span``, and the velocity of each layer.

    Velocity follows a trend from the first to the second number of ``velocity``; around it fast and slow beds
    alternate, unevenly.
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
