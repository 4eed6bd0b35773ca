"""Sums over shots: misfit and gradient, products with second derivatives, illumination.

Each is an `Operation`: `of_shot` runs once a shot, on a device's block of the grid where grids are split; `total` does
once what all shots share. Products are forward-mode derivatives of what a gradient computes (Fichtner & Trampert 2011,
Geophysical Journal International 185, 775-798), so that with `BoundarySaving` they too keep memory at the boundary.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

from jaxfwi.grid.grid import Grid
from jaxfwi.grid.linear import varying_like
from jaxfwi.shots.plan import Shots
from jaxfwi.simulation.memory import FullStorage
from jaxfwi.simulation.shot import OneShot

__all__ = ["Filter", "GaussNewtonProduct", "Gradient", "HessianProduct", "Misfit", "Operation", "SquaredGradients"]

Misfit = Callable[[Array, Array], Array]
Filter = Callable[[Array, Grid], Array]
OfShot = Callable[[Any, Shots], Any]
# of what is computed for a shot, its argument, and how argument and result lie on the devices that share a grid
SumOfShots = Callable[[OfShot, Any, Any, Any], Any]

EVERYWHERE = PartitionSpec()


class Operation(Protocol):
    """A sum over shots, of what all shots share, as a model."""

    def total(self, sum_of_shots: SumOfShots, shared: Any) -> Any:
        """The sum, by a function that sums over all shots on all devices."""
        ...


@dataclass(frozen=True)
class Gradient:
    """The misfit and its gradient.

    Args:
        one_shot: the program of a shot.
        misfits: one, or several, of which the value is the sum.
        of_leaf: which of several misfits each of the model's leaves is differentiated in.
    """

    one_shot: OneShot
    misfits: tuple[Misfit, ...]
    of_leaf: tuple[int, ...] = ()

    def total(self, sum_of_shots: SumOfShots, shared: Any) -> tuple[Array, Any]:
        prepared, pull = jax.vjp(self.one_shot.prepared, shared)
        blocks = self.one_shot.spec
        value, slope = sum_of_shots(self.of_shot, prepared, blocks, (EVERYWHERE, blocks))
        return value, pull(slope)[0]

    def of_shot(self, prepared: Any, shot: Shots) -> tuple[Array, Any]:
        """Misfit and gradient of a shot, by what its program is computed from."""
        # The sum over the devices that share a grid is left out of the derivative: with respect to its own block, each
        # device's contribution has a derivative of its own.
        data, pull = jax.vjp(lambda p: self.one_shot.block_data(p, shot.survey, shot.corner), prepared)
        predicted, observed = self.one_shot.sum_of_blocks(data), shot.compared(shot.observed)
        values, slopes = zip(
            *(jax.value_and_grad(self._number)(predicted, observed, misfit, shot) for misfit in self.misfits),
            strict=True,
        )
        gradients = [pull(slope)[0] for slope in slopes]
        if len(gradients) == 1:
            return values[0], gradients[0]
        leaves, structure = zip(*map(jax.tree.flatten, gradients), strict=True)
        chosen = [leaves[which][leaf] for leaf, which in enumerate(self.of_leaf)]
        return functools.reduce(jnp.add, values), jax.tree.unflatten(structure[0], chosen)

    def _number(self, predicted: Array, observed: Array, misfit: Misfit, shot: Shots) -> Array:
        value = misfit(shot.compared(predicted), observed)
        if jnp.shape(value) != ():
            raise ValueError(f"misfit must return a number for one shot's data, got shape {jnp.shape(value)}.")
        return value


@dataclass(frozen=True)
class HessianProduct:
    """The Hessian of the misfit times a direction; of a model and a direction."""

    gradient: Gradient

    def total(self, sum_of_shots: SumOfShots, shared: tuple[Any, Any]) -> Any:
        model, direction = shared
        return jax.jvp(lambda m: self.gradient.total(sum_of_shots, m)[1], (model,), (direction,))[1]


@dataclass(frozen=True)
class GaussNewtonProduct:
    """The Gauss-Newton Hessian times a direction; of a model and a direction."""

    one_shot: OneShot
    misfit: Misfit

    def total(self, sum_of_shots: SumOfShots, shared: tuple[Any, Any]) -> Any:
        model, direction = shared
        prepared, along = jax.jvp(self.one_shot.prepared, (model,), (direction,))
        blocks = self.one_shot.spec
        slope = sum_of_shots(self.of_shot, (prepared, along), blocks, blocks)
        return jax.vjp(self.one_shot.prepared, model)[1](slope)[0]

    def of_shot(self, shared: tuple[Any, Any], shot: Shots) -> Any:
        """The product of a shot."""
        prepared, along = shared
        # forward mode stores nothing, so that a memory strategy would only be in its way
        forward = replace(self.one_shot, memory=FullStorage())
        data, change = jax.jvp(lambda p: forward.block_data(p, shot.survey, shot.corner), (prepared,), (along,))
        predicted, perturbed = (shot.compared(self.one_shot.sum_of_blocks(x)) for x in (data, change))
        slope = jax.grad(self.misfit)
        weighted = jax.jvp(lambda d: slope(d, shot.compared(shot.observed)), (predicted,), (perturbed,))[1]
        compared = lambda p: shot.compared(self.one_shot.block_data(p, shot.survey, shot.corner))  # noqa: E731
        return jax.vjp(compared, prepared)[1](weighted)[0]


@dataclass(frozen=True)
class SquaredGradients:
    """The mean of the squared gradients of data of random signs; of a model. Observed data are words of random keys.

    Args:
        one_shot: the program of a shot.
        filter: of a shot's data, or None.
        grid: for the filter.
        samples: random data for each shot.
        key_kind: the implementation of the random keys.
    """

    one_shot: OneShot
    filter: Filter | None
    grid: Grid
    samples: int
    key_kind: str

    def total(self, sum_of_shots: SumOfShots, shared: Any) -> Any:
        prepared, where = self.one_shot.prepared(shared), (self.one_shot.spec, EVERYWHERE)
        return sum_of_shots(self.of_shot, (prepared, shared), where, EVERYWHERE)

    def of_shot(self, shared: tuple[Any, Any], shot: Shots) -> Any:
        """The estimate of a shot, by what its program is computed from, and by the model."""
        prepared, model = shared
        data, pull = jax.vjp(lambda p: self.one_shot.block_data(p, shot.survey, shot.corner), prepared)
        pull_model = jax.vjp(self.one_shot.prepared, model)[1]

        filtered, pull_filter = jax.vjp(self._filtered, data)  # the filter is linear: any data will do

        def add(sum_so_far, key):
            signs = shot.survey.masked(jax.random.rademacher(key, filtered.shape, filtered.dtype))
            slope = self.one_shot.joined_blocks(pull(pull_filter(signs)[0])[0])
            return jax.tree.map(lambda s, g: s + g**2, sum_so_far, pull_model(slope)[0]), None

        keys = jax.random.split(jax.random.wrap_key_data(shot.observed, impl=self.key_kind), self.samples)
        nothing = varying_like(jax.tree.map(jnp.zeros_like, model), (model, shot))
        squares, _ = lax.scan(add, nothing, keys)
        return jax.tree.map(lambda x: x / self.samples, squares)

    def _filtered(self, data: Array) -> Array:
        return data if self.filter is None else self.filter(data, self.grid)
