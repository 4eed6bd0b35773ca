"""The loop of an inversion: from one state to the next, checked, saved and yielded."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxfwi._checks import concrete_values
from jaxfwi._compiler import compiler_options
from jaxfwi.inversion.objective import current_model, masked, split_numbers
from jaxfwi.inversion.saving import SaveTo
from jaxfwi.inversion.stages import PlannedStage
from jaxfwi.shots.plan import Shots
from jaxfwi.shots.programs import sum_over_shots
from jaxfwi.simulation.simulator import Simulator

__all__ = ["Driver", "InversionState"]


class InversionState(eqx.Module):
    """Where an inversion stands after an iteration. A PyTree: it can be saved, and handed back to `invert` to go on.

    Args:
        iteration: number of updates made, over all stages.
        stage: stage of the last update, counted from 0.
        unknowns: the unknowns after the last update.
        model: the model that the unknowns make; they are the model itself if the inversion has no `to_model`.
        misfit: misfit of the last iteration's shots, at the unknowns before the last update; None before the first.
        penalty: the regularisation at the unknowns before the last update.
        gradient: gradient of misfit and penalty by the unknowns, before the last update, with the mask applied.
        optimizer_state: state of the stage's optax optimiser.
        first_misfit: misfit of the stage's first iteration.
    """

    iteration: int
    stage: int
    unknowns: Any
    model: Any
    misfit: Array | None
    penalty: Array | None
    gradient: Any
    optimizer_state: Any
    first_misfit: Array | None

    def __repr__(self) -> str:
        value, unknowns = concrete_values(self.misfit), self.unknowns
        misfit = eqx.tree_pformat(self.misfit) if value is None or value.ndim else f"{value.item():g}"
        where = f"iteration={self.iteration}, stage={self.stage}, misfit={misfit}"
        shown = repr(unknowns) if isinstance(unknowns, eqx.Module) else eqx.tree_pformat(unknowns)
        return f"InversionState({where}, unknowns={shown})"


class _BadState(FloatingPointError):
    """The state that an iteration began from is not usable."""


@dataclass(frozen=True)
class Driver:
    """Runs the stages from a state on."""

    stages: tuple[PlannedStage, ...]
    simulator: Simulator
    seed: int
    divergence: float | None
    save: SaveTo | None
    settings: dict[str, Any]

    def run(self, state: InversionState, saved: bool) -> Iterator[InversionState]:
        """Yields the states; the first one too, if it was `saved`."""
        if saved:
            yield state
        first, before = 0, None
        for number, planned in enumerate(self.stages):
            last = first + planned.stage.iterations
            kept = None
            while state.iteration < last:
                i = int(state.iteration) - first
                begun = state
                if i == 0:
                    optimizer_state = planned.optimizer.init(split_numbers(state.unknowns)[0])
                    begun = dataclasses.replace(state, optimizer_state=optimizer_state, first_misfit=None)
                if kept is None and planned.same_shots:
                    kept = planned.shares(0, (self.seed, number))
                try:
                    new = self._next(begun, planned, number, i, kept)
                except _BadState as error:  # the misfit is that of the state before this iteration
                    self._go_back(before)
                    raise FloatingPointError(*error.args) from None
                except BaseException:
                    self._save(state)
                    raise
                before, state = state, new
                if self._is_due(new.iteration) or new.iteration == last:
                    self._save(new)
                try:
                    yield new
                except GeneratorExit:  # left by a break, or an error in what is done with the states
                    self._save(new)
                    raise
            first = last

    def _is_due(self, iteration: int) -> bool:
        return self.save is not None and iteration % self.save.every == 0

    def _save(self, state: InversionState) -> None:
        if self.save is not None and state.misfit is not None:
            reduced = dataclasses.replace(state, model=None)  # that of the unknowns
            self.save.write(reduced, int(state.stage), int(state.iteration), self.settings)

    def _go_back(self, state: InversionState | None) -> None:
        """Save a state, and remove what came after it."""
        if self.save is not None:
            if state is not None:
                self._save(state)
            self.save.remove_after(0 if state is None else int(state.iteration))

    def _next(self, state: InversionState, planned: PlannedStage, number: int, i: int, kept: list[Shots] | None):
        where = f"iteration {int(state.iteration) + 1}"
        if len(self.stages) > 1:
            where += f" ({planned.stage.name})"
        plan, objective = planned.plan, planned.objective
        shares = kept or planned.shares(i, (self.seed, number))
        numbers, rest = split_numbers(state.unknowns)
        numbers, optimizer_state = plan.replicated((numbers, state.optimizer_state))
        update = _compiled_update(tuple(compiler_options(plan.device).items()))
        value, slope = sum_over_shots(objective.of_shot, plan, current_model(objective, numbers), shares)
        value, penalty, gradient, new, tried, optimizer_state = update(
            objective, planned.optimizer, numbers, optimizer_state, value, slope, shares, planned.limits
        )
        model = current_model(objective, new)
        self._check_values(where, value, penalty, gradient)
        first = value if state.first_misfit is None else state.first_misfit
        if self.divergence is not None and float(value) > self.divergence * float(first) > 0:
            raise _BadState(
                f"{where}: the misfit has grown to {float(value):.3g}, {float(value) / float(first):.3g} times that of "
                f"the stage's first iteration. The steps are likely too long, or jumped to another cycle: lower the "
                "learning rate, or begin with lower frequencies. Where shots differ that much, raise divergence."
            )
        self._check_model(where, model)
        if i == 0:
            _check_first_update(bool(tried), gradient, new, numbers, optimizer_state)
        unknowns = eqx.combine(new, rest)
        return InversionState(
            int(state.iteration) + 1, number, unknowns, model, value, penalty, gradient, optimizer_state, first
        )

    def _check_model(self, where: str, model: Any) -> None:
        try:
            self.simulator.check_model(model)
        except ValueError as error:
            raise ValueError(
                f"{where} has made a model that cannot be simulated: {error} Set bounds=(lower, upper) or "
                "lower the learning rate."
            ) from None

    def _check_values(self, where: str, value: Array, penalty: Array, gradient: Any) -> None:
        if not bool(jnp.isfinite(value)):
            raise _BadState(
                f"{where}: the misfit is {float(value)}. Look at the last model for values that cannot be, "
                "or lower the learning rate."
            )
        if not bool(jnp.isfinite(penalty)):
            raise _BadState(f"{where}: the regularisation is {float(penalty)} at this model.")
        if not all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(gradient)):
            raise FloatingPointError(
                f"{where}: the misfit is {float(value):.3g} but its gradient is not finite. The likely cause is a "
                "misfit, penalty or to_model whose derivative has no value there, as that of a square root at zero."
            )


@functools.cache
def _compiled_update(options: tuple[tuple[str, Any], ...]) -> Callable:
    more: dict[str, Any] = {"compiler_options": dict(options)}  # for jax.jit
    return eqx.filter_jit(_update, **more)


def _update(objective, optimizer, numbers, optimizer_state, misfit, slope, shares, limits):
    lower, upper = limits
    misfit, penalty, gradient = objective.gradient(numbers, misfit, slope)
    shots = jax.tree.map(lambda *x: jnp.concatenate(x), *shares)
    updates, optimizer_state = optax.with_extra_args_support(optimizer).update(
        gradient,
        optimizer_state,
        numbers,
        value=misfit + penalty.astype(misfit.dtype),
        grad=gradient,
        value_fn=objective.value_fn(numbers, shots),
        gauss_newton_fn=objective.gauss_newton_fn(numbers, shots),
    )
    updates = masked(updates, objective.mask)
    tried = jnp.stack([jnp.any(u != 0) for u in jax.tree.leaves(updates)]).any()
    new = optax.apply_updates(numbers, updates)
    if lower is not None:
        new = jax.tree.map(lambda x, limit: jnp.maximum(x, jnp.asarray(limit, x.dtype)), new, lower)
    if upper is not None:
        new = jax.tree.map(lambda x, limit: jnp.minimum(x, jnp.asarray(limit, x.dtype)), new, upper)
    if objective.mask is not None:  # what is masked stays as it is, outside the bounds too
        new = jax.tree.map(lambda x, old, m: jnp.where(jnp.asarray(m) == 0, old, x), new, numbers, objective.mask)
    return misfit, penalty, gradient, new, tried, optimizer_state


def _check_first_update(tried: bool, gradient: Any, new: Any, old: Any, optimizer_state: Any) -> None:
    """Warn where the first update of a stage shows a learning rate or scale that cannot work."""
    if tried and all(bool(jnp.array_equal(a, b)) for a, b in _pairs(new, old)):
        warnings.warn(
            "the first update has not changed the model at all: it is below its rounding. Raise the learning rate, "
            "or multiply the misfit by a large number for optimisers that see its scale, as L-BFGS.",
            stacklevel=4,
        )
    _check_adam(optimizer_state, gradient, new, old)


def _check_adam(optimizer_state: Any, gradient: Any, new: Any, old: Any) -> None:
    """Adam's first step is its rate in every cell, unless its epsilon is of the size of the gradient."""
    states = jax.tree.leaves(optimizer_state, is_leaf=lambda x: isinstance(x, optax.ScaleByAdamState))
    if not any(isinstance(x, optax.ScaleByAdamState) for x in states):
        return
    for slope, a, b in zip(*map(jax.tree.leaves, (gradient, new, old)), strict=True):
        step, largest = np.abs(np.asarray(a) - np.asarray(b)), float(np.abs(np.asarray(slope)).max())
        if 0 < largest < 1e-5 and step.max() > 0 and np.median(step[step > 0]) < 0.5 * step.max():
            warnings.warn(
                f"the gradient is {largest:.2g} at most, where Adam adds an epsilon of 1e-8 to it by default: steps "
                "are shorter than the learning rate where the gradient is small. Multiply wavelet and data by a large "
                "number, or give a smaller eps.",
                stacklevel=5,
            )
            return


def _pairs(a: Any, b: Any) -> zip:
    return zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
