"""The stages of an inversion: what each is given, which shots each of its iterations takes, how it is described."""

import dataclasses
import functools
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxfwi import misfits
from jaxfwi._checks import as_integer
from jaxfwi.equations.base import WaveEquation
from jaxfwi.inversion.checkpoint import fingerprint
from jaxfwi.inversion.objective import Objective
from jaxfwi.shots.layout import Deal, Shots, check_finite, is_array, rows_of
from jaxfwi.simulation.simulator import Simulator
from jaxfwi.survey.encoding import Encoding
from jaxfwi.survey.survey import Survey

__all__ = ["Part", "Stage", "check_traces", "described", "filtered", "mini_batch", "planned", "words"]


@dataclass(frozen=True)
class Stage:
    """A part of an inversion. What is None is as given to `invert`.

    Args:
        iterations: of this stage.
        optimizer: any of optax, begun anew.
        filter: ``filter(data, dt)`` along time, for predicted and observed data alike before the misfit sees them, as
            ``jf.filters.Butterworth(high=3.0)``; by default none. The wavelet stays as it is: a filter that looks
            ahead in time would have it begin before the simulation does.
        misfit: of this stage.
        shots_per_iteration: of this stage.
        encoding: of this stage.
        batch: of this stage.
        name: for messages; by default "stage 1" and so on.

    >>> import optax, jaxfwi as jf
    >>> jf.Stage(20, optax.adam(20.0), filter=jf.filters.Butterworth(high=3.0), name="3 Hz").iterations
    20
    """

    iterations: int
    optimizer: optax.GradientTransformation | None = None
    filter: Callable[[Array, float], Array] | None = None
    misfit: Any = None
    shots_per_iteration: int | None = None
    encoding: Encoding | None = None
    batch: int | None = None
    name: str | None = None


@dataclass(frozen=True)
class Part:
    """A stage with how its shots are dealt out and what it minimises."""

    stage: Stage
    optimizer: optax.GradientTransformation
    size: int
    dealt: Deal
    objective: Objective
    limits: tuple[Any, Any]

    @property
    def every(self) -> bool:
        """Whether each iteration is of all shots as they are."""
        return self.stage.encoding is None and self.size == len(self.dealt.shots.survey)

    def shots(self, iteration: int, seed: tuple[int, int]) -> list[Shots]:
        """Those of an iteration, counted within the stage."""
        dealt, encoding = self.dealt, self.stage.encoding
        if encoding is None:
            return dealt.take(None if self.every else self._batch(iteration, seed))
        first = iteration // encoding.renew * encoding.realisations
        turns = range(first, first + encoding.realisations)
        surveys, data = zip(*(self._super_shot(encoding, turn, seed) for turn in turns), strict=True)
        return dealt.given(*jax.tree.map(lambda *x: jnp.concatenate(x), *zip(surveys, data, strict=True))).take()

    def _batch(self, turn: int, seed: tuple[int, int]) -> np.ndarray:
        return mini_batch(len(self.dealt.shots.survey), self.size, turn, seed)

    def _super_shot(self, encoding: Encoding, turn: int, seed: tuple[int, int]) -> tuple[Survey, Array]:
        survey, observed = self.dealt.shots.survey, self.dealt.shots.observed
        chosen = self._batch(turn, seed)
        data = rows_of(observed, chosen)
        if not is_array(observed):
            check_finite(data)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed[0]), seed[1]), turn)
        dt = self.objective.of_shot.data_of.simulator.grid.dt
        return _encoded(encoding, key, survey[chosen], data, dt)


def mini_batch(shots: int, size: int, iteration: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """Indices of the shots of an iteration: without replacement within an epoch, the same for the same seed."""
    per_epoch = shots // size
    epoch, turn = divmod(iteration, per_epoch)
    order = np.random.default_rng((*np.atleast_1d(seed).tolist(), epoch)).permutation(shots)
    return np.sort(order[turn * size : (turn + 1) * size])


@functools.partial(jax.jit, static_argnums=(0, 4))
def _encoded(encoding: Encoding, key: Array, survey: Survey, observed: Any, dt: float) -> tuple[Survey, Array]:
    return encoding(key, survey, observed, dt)


def planned(
    stages: Sequence[Stage] | None, iterations: int | None, defaults: Stage, survey: Survey, numbers: Any
) -> tuple[Stage, ...]:
    """The stages with all that `invert` was given for them, checked."""
    if (stages is None) == (iterations is None):
        raise ValueError("give iterations, or stages=[jf.Stage(iterations, ...), ...] in their stead.")
    stages = None if stages is None else list(stages)
    if stages is None:
        stages = [Stage(iterations)]  # pyright: ignore[reportArgumentType]
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
    kept = stage.encoding.renew if stage.encoding is not None else 1
    changing = stage.encoding is not None or stage.shots_per_iteration != len(survey)
    if changing and stage.iterations > kept and any(isinstance(x, optax.ScaleByLBFGSState) for x in found):
        warnings.warn(
            f"the optimizer{which} is an L-BFGS, which compares gradients of successive iterations, but each of these "
            "has other shots or codes: use all shots, codes that stay for the whole of a stage "
            "(jf.Encoding(renew=...)), or an optimizer as optax.adam.",
            stacklevel=3,
        )


def check_traces(misfit: Any, shape: tuple[int, ...], model: Any) -> None:
    """Find before the first iteration what a filter or misfit cannot be called with."""
    data = jax.ShapeDtypeStruct(shape, jnp.result_type(*jax.tree.leaves(model)))
    out = jax.eval_shape(misfit, data, data)
    if getattr(out, "shape", None) != ():
        raise ValueError(f"misfit must return a number for one shot's data, got {out}.")


def filtered(stage: Stage, simulator: Simulator) -> Any:
    by = stage.filter
    if by is None:
        return stage.misfit
    if isinstance(stage.misfit, WaveEquation):  # one for each parameter
        return jax.tree.map(lambda misfit: misfits.Filtered(misfit, by, simulator.grid.dt), stage.misfit)
    return misfits.Filtered(stage.misfit, by, simulator.grid.dt)


def described(simulator, survey, observed, start, plan, seed) -> dict[str, Any]:
    """The settings of an inversion by name, as a checkpoint must agree with them."""
    out = {f"grid.{f.name}": repr(getattr(simulator.grid, f.name)) for f in dataclasses.fields(simulator.grid)}
    out |= {f"simulator.{f.name}": repr(getattr(simulator, f.name)) for f in dataclasses.fields(simulator)}
    del out["simulator.grid"], out["simulator.memory"]  # the one is there already, the other changes rounding only
    some = np.unique([0, len(survey) // 2, len(survey) - 1])
    out |= {"start": fingerprint(start), "survey": fingerprint(survey), "shots": len(survey)}
    out |= {"observed": fingerprint([rows_of(observed, np.array([i])) for i in some]), "seed": seed}
    for number, stage in enumerate(plan):
        for name in ("shots_per_iteration", "encoding", "filter", "misfit"):
            setting = getattr(stage, name)
            arrays = fingerprint(setting) if any(map(eqx.is_array, jax.tree.leaves(setting))) else ""
            out[f"stage {number + 1} {name}"] = f"{words(setting)} {arrays}".strip()
        if stage is not plan[-1]:  # the last one may be made longer
            out[f"stage {number + 1} iterations"] = stage.iterations
    return out


def words(x: Any) -> str:
    """What can be told of a setting, without the addresses of functions."""
    told = repr(jax.tree.map(lambda leaf: getattr(leaf, "__qualname__", leaf), x))
    return re.sub(r" at 0x[0-9a-fA-F]+", "", told)
