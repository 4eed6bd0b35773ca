"""Misfits that measure how late a trace is, and so see further than half a period."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi import _traces
from jaxfwi._checks import as_integer, check_grid, positive_number, set_fields
from jaxfwi.grid.grid import Grid

__all__ = ["SlicedGraphSpace", "Traveltime", "Wasserstein"]


@dataclass(frozen=True)
class Traveltime:
    """Half the sum of squared time shifts between predicted and observed traces (Luo & Schuster 1991, Geophysics 56,
    645-653).

    The shift is the lag at which their cross-correlation is largest, over all lags. It is found between samples by the
    parabola through the largest sample and its neighbours. The derivatives are those of this parabola: value and
    gradient agree, also at the second derivative. The shift is 0 where the traces nowhere correlate positively.

    Args:
        grid: gives the time step.

    Raises:
        ValueError: if `grid` is not a `Grid`.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=2.0, nt=6)
    >>> pulse = jnp.array([0.0, 1.0, 2.0, 1.0, 0.0, 0.0]).reshape(6, 1, 1)
    >>> late = jnp.roll(pulse, 1, axis=0)
    >>> jf.misfits.Traveltime(grid)(late, pulse).round(3).item()  # half of 2 s squared
    2.0
    """

    grid: Grid

    def __post_init__(self):
        check_grid(self.grid)

    def __call__(self, predicted: Array, observed: Array) -> Array:
        lag, _ = _traces.lag(*_traces.paired(predicted, observed))
        return 0.5 * jnp.sum((self.grid.dt * lag) ** 2)


# Functions that make traces positive. Their sums are divided out afterwards, so that constant factors do not matter.
_POSITIVE: dict[str, Callable[[Array], Array]] = {
    "square": jnp.square,
    "softplus": jax.nn.softplus,
    # At most 1: a spike has a peak far above that of a long signal of the same energy, and would overflow.
    "exponential": lambda x: jnp.exp(x - jax.lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True))),
    "linear": lambda x: jnp.maximum(1.0 + x, 0.0),
}


@dataclass(frozen=True)
class Wasserstein:
    """The sum of the squared 2-Wasserstein distances between predicted and observed traces, made positive and of unit
    mass (Yang et al. 2018, Geophysics 83, R43-R62).

    A pulse that is t seconds late in an otherwise silent trace costs t² seconds squared, however far away it is: there
    is no other minimum, where `l2` has one every period. This holds for "square", under which silence has no mass. The
    other ways keep the polarity but give mass to silence as well, much of it in a long record: they do not see as far.

    Args:
        grid: gives the time step.
        positive: how a scaled trace x becomes positive: "square", x²; "softplus", log(1 + exp(x)); "exponential",
            exp(x); or "linear", 1 + x, and 0 where that is negative.
        scale: the peak to which each observed trace is scaled; the predicted trace is scaled to the same energy. A
            larger one raises pulses above silence; "square" does not depend on it, and "linear" cuts off values below
            -1.

    Raises:
        ValueError: for another way to become positive, or a scale that is not positive.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=0.5, nt=8)
    >>> pulse = jnp.array([0.0, 1.0, -2.0, 1.0, 0.0, 0.0, 0.0, 0.0]).reshape(8, 1, 1)
    >>> late = jnp.roll(pulse, 3, axis=0)
    >>> jf.misfits.Wasserstein(grid)(late, pulse).round(4).item()  # 1.5 s squared
    2.25
    """

    grid: Grid
    positive: str = "square"
    scale: float = 1.0

    def __post_init__(self):
        check_grid(self.grid)
        if self.positive not in list(_POSITIVE):
            raise ValueError(f"positive must be one of {', '.join(_POSITIVE)}, got {self.positive!r}.")
        set_fields(self, scale=positive_number("scale", self.scale))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        ours, theirs = (_traces.unit(x) for x in _traces.paired(predicted, observed))
        scale = self.scale / _traces.peak(theirs)
        ours, theirs = (self._mass(scale * x) for x in (ours, theirs))
        return self.grid.dt**2 * jnp.sum(_traces.transport(ours, theirs))

    def _mass(self, traces: Array) -> Array:
        mass = _POSITIVE[self.positive](traces)
        return jnp.where(jnp.any(mass > 0, axis=-1, keepdims=True), mass, 1.0)


@dataclass(frozen=True)
class SlicedGraphSpace:
    """The squared distance, by sliced optimal transport, between the graphs of predicted and observed traces (their
    points of time and amplitude), summed.

    Optimal transport between graphs sees shifts as shifts, without making traces positive (Metivier et al. 2019,
    Inverse Problems 35, 085001). Here it is sliced: the mean, over directions in the plane, of the one-dimensional
    transport between the points' projections (Bonneel et al. 2015, Journal of Mathematical Imaging and Vision 51,
    22-45), which costs one sort for each direction. With a `time_shift` far below a sample it is `l2`.

    Args:
        grid: gives the time step.
        time_shift: the number of seconds that count as much in the plane as the peak of the observed trace does in
            amplitude: about the largest shift to be expected.
        directions: their number; they are evenly spread.

    Raises:
        ValueError: for a time shift that is not positive, or fewer than two directions.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=1.0, nt=3)
    >>> data = jnp.array([1.0, 2.0, 0.0]).reshape(3, 1, 1)
    >>> jf.misfits.SlicedGraphSpace(grid, time_shift=0.01)(data + 2.0, data).round().item()
    6.0
    >>> jf.misfits.l2(data + 2.0, data).item()
    6.0
    """

    grid: Grid
    time_shift: float
    directions: int = 16

    def __post_init__(self):
        check_grid(self.grid)
        time_shift = positive_number("time_shift", self.time_shift, "number of seconds")
        set_fields(self, time_shift=time_shift, directions=as_integer("directions", self.directions, 2))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        ours, theirs = _traces.paired(predicted, observed)
        sample = jnp.max(jnp.abs(theirs), axis=-1, keepdims=True) * (self.grid.dt / self.time_shift)
        time = sample * jnp.arange(theirs.shape[-1], dtype=theirs.dtype)

        def along(direction):
            a, b = (jnp.sort(direction[0] * time + direction[1] * x, axis=-1) for x in (ours, theirs))
            return jnp.sum((a - b) ** 2)

        angle = np.pi * (np.arange(self.directions) + 0.5) / self.directions
        directions = jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], axis=1), theirs.dtype)
        # One direction after the other, computed again for the gradient: else memory would hold all sorted data.
        return jnp.mean(jax.lax.map(jax.checkpoint(along), directions))
