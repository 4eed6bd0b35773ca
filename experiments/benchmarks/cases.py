"""What is measured: grids, models and shots, the same for every package."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.ndimage import gaussian_filter

import jaxfwi as jf

Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """One setting; lengths in metres, times in seconds."""

    name: str
    equation: Literal["acoustic", "elastic"]
    shape: tuple[int, ...]
    shots: int
    nt: int
    spacing: float = 10.0
    dt: float = 1e-3
    frequency: float = 12.0  # of the Ricker wavelet, Hz
    marmousi: bool = False  # a Marmousi-like section, else a velocity that grows with depth around a fast sphere
    width: int = 20  # of the absorbing layer, cells

    @property
    def updates(self) -> int:
        """Cell updates of a forward run, the absorbing layer's cells included."""
        return int(np.prod([n + 2 * self.width for n in self.shape])) * self.nt * self.shots

    @property
    def bytes_of_update(self) -> float:
        """Traffic of one cell's update in single precision, the mean over cells: what a step, or each half of an
        elastic step, needs is read once, and what it changes is written once; so are the layer's variables."""
        ndim = len(self.shape)
        of_cell, layer = (4, 2) if self.equation == "acoustic" else {2: (20, 4), 3: (35, 6)}[ndim]
        damped = sum(2 * self.width / (n + 2 * self.width) for n in self.shape)  # along each axis, its own variables
        return 4 * (of_cell + 2 * layer * damped)

    def arrays(self, vp: Array | None = None) -> dict[str, Array]:
        """Models in SI units, the wavelet, and the cells of shots ``(shots, axes)`` and receivers ``(receivers,
        axes)``; `vp` takes the place of the case's own."""
        grid = jf.Grid(self.shape, self.spacing, self.dt, self.nt)
        if vp is None:
            vp = jf.models.marmousi_like(grid) if self.marmousi else _sphere(self.shape)
        depth, last = 4, self.shape[-1] - 9  # of shots and receivers, cells
        line = np.arange(8, last + 1)
        middle = [n // 2 for n in self.shape[1:-1]]

        def cells(columns: Array) -> Array:
            return np.stack([np.full_like(columns, i) for i in (depth, *middle)] + [columns], axis=1)

        return {
            "vp": vp.astype(np.float32),
            "vs": (vp / 1.8).astype(np.float32),
            "rho": (310.0 * vp**0.25).astype(np.float32),  # Gardner et al. (1974)
            "wavelet": np.asarray(jf.ricker(grid, self.frequency), np.float32),
            "sources": cells(np.linspace(line[0], line[-1], self.shots + 2)[1:-1].round().astype(int)),
            "receivers": cells(line),
        }

    def job(self, order: int, **settings: Any) -> dict[str, Any]:
        """What a worker needs beside the arrays."""
        return {
            "equation": self.equation,
            "shape": self.shape,
            "spacing": self.spacing,
            "dt": self.dt,
            "nt": self.nt,
            "width": self.width,
            "frequency": self.frequency,
            "order": order,
            **settings,
        }


def _sphere(shape: tuple[int, ...]) -> Array:
    """2000 m/s at the top, 3000 at the bottom, and a smooth sphere in the middle that is 300 m/s faster."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    return 2500.0 + 500.0 * axes[0] + 300.0 * gaussian_filter((radius < 0.4).astype(float), 3.0)


QUICK = (
    Case("acoustic 2D, 60 x 70, 2 shots", "acoustic", (60, 70), 2, 200),
    Case("elastic 2D, 60 x 70, 2 shots", "elastic", (60, 70), 2, 200),
)
FULL = (
    Case("acoustic 2D, 200 x 200, 8 shots", "acoustic", (200, 200), 8, 500),
    Case("acoustic 2D, 500 x 500, 4 shots", "acoustic", (500, 500), 4, 500),
    Case("acoustic 2D, Marmousi 173 x 561, 8 shots", "acoustic", (173, 561), 8, 2000, 20.0, 1.5e-3, 5.0, True),
    Case("acoustic 3D, 100^3, 2 shots", "acoustic", (100, 100, 100), 2, 200),
    Case("elastic 2D, 200 x 200, 4 shots", "elastic", (200, 200), 4, 300),
    Case("elastic 2D, Marmousi 173 x 561, 2 shots", "elastic", (173, 561), 2, 1000, 20.0, 1.5e-3, 2.5, True),
    Case("elastic 3D, 60^3, 2 shots", "elastic", (60, 60, 60), 2, 100),
)
LARGE = (
    Case("acoustic 2D, 500 x 500, 32 shots", "acoustic", (500, 500), 32, 500),
    Case("acoustic 3D, 200^3, 1 shot", "acoustic", (200, 200, 200), 1, 200),
    Case("elastic 2D, 500 x 500, 16 shots", "elastic", (500, 500), 16, 300),
)
PRESETS = {"quick": QUICK, "full": FULL, "large": LARGE}
