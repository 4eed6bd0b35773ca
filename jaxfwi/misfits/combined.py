"""Misfits made of other misfits: weighted sums, and misfits of filtered data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jax import Array

from jaxfwi._checks import check_grid, positive_number, set_fields
from jaxfwi.grid.grid import Grid

__all__ = ["Filtered", "WeightedSum"]


@dataclass(frozen=True)
class WeightedSum:
    """A sum of misfits with weights.

    Args:
        terms: pairs ``(weight, misfit)``, of the misfits in this module or functions of your own.

    Raises:
        ValueError: for anything else, or weights that are not positive.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> huber = jf.misfits.Huber(threshold=1.0)
    >>> misfit = jf.misfits.WeightedSum([(2.0, jf.misfits.l2), (0.5, huber)])
    >>> misfit(jnp.array([3.0]), jnp.array([0.0])).item()
    10.25
    """

    terms: Sequence[tuple[float, Callable[[Array, Array], Array]]]

    def __post_init__(self):
        try:
            terms = tuple((weight, misfit) for weight, misfit in self.terms)
        except (TypeError, ValueError):
            terms = ()
        if not terms or not all(callable(misfit) for _, misfit in terms):
            raise ValueError(f"terms must be pairs of a weight and a misfit function, got {self.terms!r}.")
        set_fields(self, terms=tuple((positive_number("weight", weight), misfit) for weight, misfit in terms))

    def __call__(self, predicted: Array, observed: Array) -> Array:
        return sum(weight * misfit(predicted, observed) for weight, misfit in self.terms)  # pyright: ignore


@dataclass(frozen=True)
class Filtered:
    """A misfit of filtered data: ``misfit(filter(predicted, grid), filter(observed, grid))``.

    Both data pass through the same filter, wherever they begin and end, so that a filter that looks ahead in time does
    no harm. If the wavelet were filtered instead of the predicted data, it would begin before the simulation does.

    Args:
        misfit: of the filtered data.
        filter: ``filter(data, grid)`` along time, as in `jaxfwi.filters`.
        grid: gives the time step.

    Raises:
        ValueError: if misfit or filter are not functions, or `grid` is not a `Grid`.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=100, spacing=10.0, dt=0.01, nt=200)
    >>> low = jf.misfits.Filtered(jf.misfits.l2, jf.filters.Butterworth(high=5.0), grid)
    >>> data = jnp.sin(2 * jnp.pi * 40.0 * jnp.asarray(grid.times))[:, None, None]
    >>> bool(low(data, 0 * data) < 1e-4 * jf.misfits.l2(data, 0 * data))
    True
    """

    misfit: Callable[[Array, Array], Array]
    filter: Callable[[Array, Grid], Array]
    grid: Grid

    def __post_init__(self):
        for name in ("misfit", "filter"):
            if not callable(getattr(self, name)):
                raise ValueError(f"{name} must be a function, got {getattr(self, name)!r}.")
        check_grid(self.grid)

    def __call__(self, predicted: Array, observed: Array) -> Array:
        return self.misfit(self.filter(predicted, self.grid), self.filter(observed, self.grid))
