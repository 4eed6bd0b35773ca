"""The grid of a model and the time axis of a simulation, and the limits that follow from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from jaxfwi._checks import as_integer
from jaxfwi.grid import stencils

__all__ = ["Grid"]


@dataclass(frozen=True)
class Grid:
    """Cells, spacing and time steps. Hashable and static: a new grid compiles a new program.

    Args:
        shape: cells along each axis, ``(nz,)``, ``(nz, nx)`` or ``(nz, ny, nx)``. A node ``i`` lies at ``i * spacing``
            metres.
        spacing: metres between nodes, one number or one per axis.
        dt: time step in seconds.
        nt: number of time samples; sample ``n`` is at ``n * dt``.

    Raises:
        ValueError: for a shape, spacing, dt or nt that cannot be.

    >>> Grid(shape=(150, 400), spacing=10.0, dt=1e-3, nt=2000)
    Grid(150 x 400 cells of 10 m: 1.49 km x 3.99 km, 2000 steps of 1 ms: 2 s)
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    dt: float
    nt: int

    def __init__(self, shape: Sequence[int] | int, spacing: Sequence[float] | float, dt: float, nt: int):
        shape = tuple(as_integer("shape", n, 1) for n in np.atleast_1d(shape).tolist())
        if not 1 <= len(shape) <= 3:
            raise ValueError(f"shape must be one to three numbers of cells, got {shape}.")
        spacing = tuple(float(h) for h in np.atleast_1d(spacing))
        spacing = spacing * len(shape) if len(spacing) == 1 else spacing
        if len(spacing) != len(shape):
            raise ValueError(f"spacing must be one number or one per axis of shape {shape}, got {spacing}.")
        if not all(math.isfinite(h) and h > 0 for h in spacing):
            raise ValueError(f"spacing must be positive metres, got {spacing}.")
        if not (math.isfinite(dt) and dt > 0):
            raise ValueError(f"dt must be a positive number of seconds, got {dt}.")
        for name, value in {"shape": shape, "spacing": spacing, "dt": float(dt), "nt": as_integer("nt", nt, 1)}.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        cells = " x ".join(map(str, self.shape))
        same = len(set(self.spacing)) == 1
        spacing = f"{self.spacing[0]:g}" if same else " x ".join(f"{h:g}" for h in self.spacing)
        extent = " x ".join(f"{e / 1000:g} km" for e in self.extent)
        time = f"{self.nt} steps of {self.dt * 1e3:g} ms: {self.nt * self.dt:g} s"
        return f"Grid({cells} cells of {spacing} m: {extent}, {time})"

    @property
    def ndim(self) -> int:
        """Number of space dimensions."""
        return len(self.shape)

    @property
    def extent(self) -> tuple[float, ...]:
        """Metres from the first node to the last along each axis."""
        return tuple((n - 1) * h for n, h in zip(self.shape, self.spacing, strict=True))

    @property
    def times(self) -> np.ndarray:
        """Times of the samples in seconds, ``(nt,)``."""
        return np.arange(self.nt) * self.dt

    def stable_dt(self, speed: float, space_order: int, staggered: bool = False) -> float:
        """The largest stable time step in seconds for waves of up to `speed` m/s, by von Neumann's analysis of second
        order in time. Stencils are centred, as for `Acoustic`, or `staggered`, as for the other equations.

        >>> round(Grid((10, 10), 10.0, 1e-3, 10).stable_dt(2000.0, 2), 6)
        0.003536
        """
        largest = float(stencils.symbol(space_order, np.pi, staggered))
        return 2.0 / (speed * math.sqrt(sum(largest / h**2 for h in self.spacing)))

    def safe_frequency(self, speed: float, space_order: int, staggered: bool = False) -> float:
        """The highest frequency in Hz that waves of `speed` m/s carry with a phase velocity good to 1 % along the axes.

        >>> round(Grid((10, 10), 10.0, 1e-3, 10).safe_frequency(1500.0, 8), 1)
        44.1
        """
        return speed / (max(self.spacing) * points_per_wavelength(space_order, staggered))


@lru_cache
def points_per_wavelength(space_order: int, staggered: bool = False, tolerance: float = 0.01) -> float:
    """Points per wavelength at which the stencil's phase velocity is wrong by `tolerance`."""
    angle = np.linspace(1e-2, np.pi, 4000)
    error = 1.0 - np.sqrt(np.maximum(stencils.symbol(space_order, angle, staggered), 0.0)) / angle
    return float(2.0 * np.pi / angle[np.argmax(error > tolerance)])
