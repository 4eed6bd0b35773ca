"""The stages of an inversion: their settings, and the shots that each of their iterations takes."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxfwi import misfits
from jaxfwi._checks import as_integer
from jaxfwi.equations.base import WaveEquation
from jaxfwi.grid.grid import Grid
from jaxfwi.inversion.objective import Objective
from jaxfwi.shots.observed import check_finite, is_array, rows_of
from jaxfwi.shots.per_shot import Filter, Gradient
from jaxfwi.shots.plan import Plan, Shots
from jaxfwi.shots.problem import Problem, gradient_of_shot, plan_of
from jaxfwi.survey.encoding import Encoding
from jaxfwi.survey.survey import Survey

__all__ = ["PlannedStage", "Stage", "checked_stages", "mini_batch", "planned_stage"]


@dataclass(frozen=True)
class Stage:
    """A stage of an inversion. Settings that are None are those given to `invert`, or of its problem.

    Args:
        iterations: how many this stage makes.
        optimizer: any of optax; it begins anew with the stage.
        filter: ``filter(data, grid)`` along time, for predicted and observed data alike before the misfit sees them, as
            ``jf.filters.Butterworth(high=3.0)``; by default none. The wavelet stays as it is: a filter that looks
            ahead in time would have it begin before the simulation does.
        misfit: as for `Problem`.
        shots_per_iteration: size of the mini-batches.
        encoding: sums each mini-batch to a super-shot.
        batch: shots computed at once on a device, as of `On`: super-shots need another number than shots.
        name: for messages; by default "stage 1" and so on.

    >>> import optax, jaxfwi as jf
    >>> low = jf.filters.Butterworth(high=3.0)
    >>> jf.Stage(20, optax.adam(20.0), filter=low, name="3 Hz").iterations
    20
    """

    iterations: int
    optimizer: optax.GradientTransformation | None = None
    filter: Filter | None = None
    misfit: Any = None
    shots_per_iteration: int | None = None
    encoding: Encoding | None = None
    batch: int | None = None
    name: str | None = None


@dataclass(frozen=True)
class PlannedStage:
    """A stage, with the plan of who computes its shots, and the objective that it lowers.

    Args:
        stage: all of whose settings are given.
        plan: of its shots.
        objective: of its unknowns.
        limits: lower and upper bounds, each None or like the unknowns, on the devices of the plan.
        grid: of the simulator, for encodings.
    """

    stage: Stage
    plan: Plan
    objective: Objective
    limits: tuple[Any, Any]
    grid: Grid

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimiser of the stage."""
        assert self.stage.optimizer is not None
        return self.stage.optimizer

    @property
    def same_shots(self) -> bool:
        """Whether each iteration takes all shots as they are."""
        return self.stage.encoding is None and self.stage.shots_per_iteration == len(self.plan.shots.survey)

    def shares(self, iteration: int, seed: tuple[int, int]) -> list[Shots]:
        """The shots of an iteration, counted within the stage, where they will be computed."""
        encoding = self.stage.encoding
        if encoding is None:
            return self.plan.shares(None if self.same_shots else self._batch(iteration, seed))
        first = iteration // encoding.keep_codes_for * encoding.realisations
        turns = range(first, first + encoding.realisations)
        surveys, data = zip(*(self._super_shot(encoding, turn, seed) for turn in turns), strict=True)
        survey, observed = jax.tree.map(lambda *x: jnp.concatenate(x), *zip(surveys, data, strict=True))
        return self.plan.with_shots(survey, observed).shares()

    def _batch(self, turn: int, seed: tuple[int, int]) -> np.ndarray:
        assert self.stage.shots_per_iteration is not None
        return mini_batch(len(self.plan.shots.survey), self.stage.shots_per_iteration, turn, seed)

    def _super_shot(self, encoding: Encoding, turn: int, seed: tuple[int, int]) -> tuple[Survey, Array]:
        survey, observed = self.plan.shots.survey, self.plan.shots.observed
        chosen = self._batch(turn, seed)
        data = rows_of(observed, chosen)
        if not is_array(observed):
            check_finite(data)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed[0]), seed[1]), turn)
        return _encoded(encoding, key, survey[chosen], data, self.grid)


def mini_batch(shots: int, size: int, iteration: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """Indices of the shots of an iteration: without replacement within an epoch, the same for the same seed."""
    per_epoch = shots // size
    epoch, turn = divmod(iteration, per_epoch)
    order = np.random.default_rng((*np.atleast_1d(seed).tolist(), epoch)).permutation(shots)
    return np.sort(order[turn * size : (turn + 1) * size])


@functools.partial(jax.jit, static_argnums=(0, 4))
def _encoded(encoding: Encoding, key: Array, survey: Survey, observed: Any, grid: Grid) -> tuple[Survey, Array]:
    return encoding(key, survey, observed, grid)


def checked_stages(
    stages: Sequence[Stage] | None, iterations: int | None, defaults: Stage, survey: Survey, numbers: Any
) -> tuple[Stage, ...]:
    """The stages with all settings filled in from the defaults, and checked."""
    if (stages is None) == (iterations is None):
        raise ValueError("give either iterations, or stages=[jf.Stage(iterations, ...), ...].")
    stages = [Stage(iterations or 0)] if stages is None else list(stages)
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise ValueError(f"stages must be a list of jf.Stage(...), got {stages!r}.")
    plan = []
    for number, stage in enumerate(stages):
        name = stage.name or f"stage {number + 1}"
        own = {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage) if getattr(stage, f.name) is not None}
        stage = dataclasses.replace(defaults, **{**own, "name": name})
        which = "" if len(stages) == 1 else f" of {name}"
        size = len(survey) if stage.shots_per_iteration is None else stage.shots_per_iteration
        size = as_integer(f"shots_per_iteration{which}", size, 1)
        if size > len(survey):
            raise ValueError(f"shots_per_iteration{which} is {size} but the survey has {len(survey)} shots.")
        if not isinstance(stage.optimizer, optax.GradientTransformation):
            raise ValueError(f"optimizer{which} must be one of optax, as optax.adam(10.0), got {stage.optimizer!r}.")
        if stage.encoding is not None:
            if not isinstance(stage.encoding, Encoding):
                raise ValueError(f"encoding{which} must be a jf.Encoding(...), got {stage.encoding!r}.")
            stage.encoding.check(survey)
        count = as_integer(f"iterations{which}", stage.iterations, 1)
        plan.append(dataclasses.replace(stage, iterations=count, shots_per_iteration=size))
        _check_memory_of_gradients(plan[-1], survey, numbers, which)
    return tuple(plan)


def _check_memory_of_gradients(stage: Stage, survey: Survey, numbers: Any, which: str) -> None:
    """L-BFGS compares gradients of successive iterations, which must be of the same function."""
    state = jax.eval_shape(stage.optimizer.init, numbers)  # pyright: ignore[reportOptionalMemberAccess]
    found = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, optax.ScaleByLBFGSState))
    kept = stage.encoding.keep_codes_for if stage.encoding is not None else 1
    changing = stage.encoding is not None or stage.shots_per_iteration != len(survey)
    if changing and stage.iterations > kept and any(isinstance(x, optax.ScaleByLBFGSState) for x in found):
        warnings.warn(
            f"the optimizer{which} is an L-BFGS, which compares gradients of successive iterations, but each of these "
            "has other shots or codes: use all shots, codes that stay for the whole of a stage "
            "(jf.Encoding(keep_codes_for=...)), or an optimizer as optax.adam.",
            stacklevel=4,
        )


def planned_stage(
    stage: Stage,
    problem: Problem,
    model: WaveEquation,
    objective: Callable[[Gradient, Plan, float], Objective],
    limits: tuple[Any, Any],
) -> PlannedStage:
    """Plan a stage of an admitted problem.

    Args:
        stage: with all settings filled in.
        problem: what was recorded and how it is compared.
        model: to start from.
        objective: makes the objective, of the gradient of a shot, a plan, and a scale of the misfit.
        limits: lower and upper bounds, each None or like the unknowns.
    """
    encoding, at_once, scale = stage.encoding, stage.shots_per_iteration, 1.0
    if encoding is not None:
        if problem.weights is not None or problem.aperture is not None:
            given = "weights" if problem.weights is not None else "an aperture"
            raise ValueError(f"encoding sums shots, so that {given} of single shots cannot be: leave one of them out.")
        at_once, scale = encoding.realisations, 1.0 / encoding.realisations
    grid, on = problem.simulator.grid, dataclasses.replace(problem.on, batch=stage.batch)
    problem = dataclasses.replace(problem, misfit=_filtered(stage, grid), on=on)
    plan = plan_of(problem, type(model), model, at_once)
    of_shot = gradient_of_shot(problem, model, plan)
    for misfit in of_shot.misfits:
        _check_traces(misfit, problem.observed.shape[1:], model)
    return PlannedStage(stage, plan, objective(of_shot, plan, scale), plan.replicated(limits), grid)


def _check_traces(misfit: Any, shape: tuple[int, ...], model: Any) -> None:
    """Raise before the first iteration the error of a filter or misfit that cannot take the data."""
    data = jax.ShapeDtypeStruct(shape, jnp.result_type(*jax.tree.leaves(model)))
    out = jax.eval_shape(misfit, data, data)
    if getattr(out, "shape", None) != ():
        raise ValueError(f"misfit must return a number for one shot's data, got {out}.")


def _filtered(stage: Stage, grid: Grid) -> Any:
    """The misfit of a stage, of filtered data if it has a filter."""
    by = stage.filter
    if by is None:
        return stage.misfit
    if isinstance(stage.misfit, WaveEquation):  # one for each parameter
        return jax.tree.map(lambda misfit: misfits.Filtered(misfit, by, grid), stage.misfit)
    return misfits.Filtered(stage.misfit, by, grid)
