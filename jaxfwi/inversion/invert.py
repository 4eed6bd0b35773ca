"""Full waveform inversion as a generator of states."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxfwi._checks import as_integer, check_kind, is_concrete
from jaxfwi.inversion.driver import Driver, InversionState
from jaxfwi.inversion.objective import (
    check_limits,
    check_regularisation,
    current_model,
    model_of,
    objective_of,
    split_numbers,
)
from jaxfwi.inversion.saving import SaveTo, settings_of
from jaxfwi.inversion.stages import PlannedStage, Stage, checked_stages, planned_stage
from jaxfwi.shots.problem import Problem, admitted
from jaxfwi.survey.encoding import Encoding

__all__ = ["invert"]


def invert(
    problem: Problem,
    start: Any,
    *,
    optimizer: optax.GradientTransformation | None = None,
    iterations: int | None = None,
    stages: Sequence[Stage] | None = None,
    regularisation: Callable[[Any], Array] | None = None,
    to_model: Callable[[Any], Any] | None = None,
    shots_per_iteration: int | None = None,
    encoding: Encoding | None = None,
    seed: int = 0,
    mask: Any = None,
    bounds: tuple[Any, Any] | None = None,
    divergence: float | None = 10.0,
    resume: InversionState | None = None,
    save: SaveTo | None = None,
) -> Iterator[InversionState]:
    """Full waveform inversion: yields the state after every iteration.

    Args:
        problem: what was recorded and how it is compared. Of observed data in a file, mapped by
            ``numpy.load(name, mmap_mode="r")``, each iteration reads its mini-batch, on each host its own share.
        start: the model to start from; with `to_model` the unknowns, any PyTree.
        optimizer: any optax optimiser, those with a line search too; a learning rate is in the parameter's unit if the
            optimiser normalises gradients, as Adam does. Others, as SGD and L-BFGS, see the gradient's own scale: in
            single precision multiply the misfit by a large number for them. ``optax.partition`` gives each parameter
            its own, `jaxfwi.optimise` has what processes gradients. Pass the same object when you go on: a new one
            compiles a new program.
        iterations: how many to end at.
        stages: instead of `iterations`: stages of the inversion, one after the other, each from where the one before
            ended.
        regularisation: a function of the model, added to the misfit summed over the iteration's shots; as
            `jaxfwi.regularisation` has them.
        to_model: the model as a function of the unknowns: a parameter that follows another, a coarser grid, a
            logarithm, an Equinox network. Pass the same function object when you go on.
        shots_per_iteration: size of the mini-batches; by default all shots. Each epoch draws its batches anew without
            replacement; shots that do not fill a batch sit that epoch out.
        encoding: sums each mini-batch to a super-shot, with new codes in every iteration.
        seed: of mini-batches and codes.
        mask: like the unknowns, with numbers or booleans by which gradient and update are multiplied: 0 in cells to be
            left alone, as a water column.
        bounds: lower and upper limit, each None or like the unknowns, with arrays or numbers for leaves. Masked cells
            may lie beyond. An update is cut to them; a line search does not see them, SciPy's L-BFGS-B by `AsVector`
            does.
        divergence: stops where the misfit exceeds so many times that of the stage's first iteration; None never does.
        resume: a state yielded before, to go on from; `start` then only says what to expect.
        save: a folder to save states in and, if it has one, to go on from: the first state yielded is then the one that
            was saved. An inversion that was killed ends bit for bit as if it had not been. One that has ended can be
            made longer, by more iterations in its last stage.

    Yields:
        `InversionState` after each iteration.

    Raises:
        ValueError: before the first iteration for input that cannot be simulated, masks or bounds of another shape,
            encoding of shots with different receivers, or a saved state of another inversion; in a later one if the
            update has made a model that is not finite or cannot be simulated.
        FloatingPointError: if misfit or gradient are not finite or the misfit diverges, naming the iteration. With
            `save`, the newest saved state is then the last whose misfit was good.

    >>> import jax.numpy as jnp, optax, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 20), spacing=10.0, dt=1e-3, nt=200)
    >>> wavelet = jf.ricker(grid, frequency=15.0)
    >>> survey = jf.Survey.from_arrays([[50.0, 50.0]], [[50.0, 150.0]], wavelet)
    >>> simulator, vp = jf.Simulator(grid), jnp.full(grid.shape, 1500.0)
    >>> observed = jf.simulate(simulator, jf.Acoustic(vp=vp + 50.0), survey)
    >>> problem = jf.Problem(simulator, survey, observed)
    >>> start, adam = jf.Acoustic(vp=vp), optax.adam(10.0)
    >>> states = jf.invert(problem, start, optimizer=adam, iterations=2)
    >>> [state.iteration for state in states]
    [1, 2]
    """
    check_kind("problem", problem, Problem, "(simulator, survey, observed, ...)")
    for name, value, kind in (("resume", resume, InversionState), ("save", save, SaveTo)):
        if value is not None:
            check_kind(name, value, kind)
    numbers, rest = split_numbers(start)
    model = model_of(to_model, start)
    problem = admitted(problem, model)
    if not is_concrete(*jax.tree.leaves((numbers, problem))):
        raise ValueError("invert looks at values as it goes, so that it cannot be called inside jit, grad or vmap.")
    given = Stage(1, optimizer, None, problem.misfit, shots_per_iteration, encoding, problem.on.batch)
    checked = checked_stages(stages, iterations, given, problem.survey, numbers)
    limits = check_limits(mask, bounds, numbers)
    if divergence is not None and not divergence > 1:
        raise ValueError(f"divergence must be above 1, or None, got {divergence!r}.")
    check_regularisation(regularisation, model)
    seed = as_integer("seed", seed, 0)

    def objective(of_shot, plan, scale):
        return objective_of(of_shot, plan, to_model, rest, regularisation, mask, scale)

    planned = tuple(planned_stage(stage, problem, model, objective, limits) for stage in checked)
    settings, state, saved = {}, InversionState(0, 0, eqx.combine(numbers, rest), model, *[None] * 5), None
    if save is not None:
        if resume is not None:
            raise ValueError("resume and save both say where to go on from: give one of them.")
        functions = {"to_model": to_model, "regularisation": regularisation}
        settings = settings_of(problem, start, checked, seed, mask, bounds, **functions)
        saved = save.load(lambda stage: _like(planned[stage], stage, start, numbers), settings)
    if resume is not None:
        _check_resume(resume, lambda stage: _like(planned[stage], stage, start, numbers), checked)
        state = resume
    if saved is not None:
        state = _going_on(saved, planned, rest)
    return Driver(planned, problem.simulator, seed, divergence, save, settings).run(state, saved is not None)


def _like(planned: PlannedStage, stage: int, start: Any, numbers: Any) -> InversionState:
    """A state of the structure that one of this stage has."""
    number, optimizer_state = jnp.zeros(()), planned.optimizer.init(numbers)
    return InversionState(0, stage, start, None, number, number, numbers, optimizer_state, number)


def _going_on(saved: InversionState, planned: Sequence[PlannedStage], rest: Any) -> InversionState:
    """A saved state with its model, and the leaves of the unknowns that are no numbers."""
    unknowns = eqx.combine(jax.tree.map(jnp.asarray, split_numbers(saved.unknowns)[0]), rest)
    counts = {"iteration": int(saved.iteration), "stage": int(saved.stage)}
    asked = sum(stage.stage.iterations for stage in planned)
    if counts["iteration"] > asked:
        raise ValueError(f"the saved state is of iteration {counts['iteration']}, and {asked} are asked for.")
    model = current_model(planned[counts["stage"]].objective, split_numbers(unknowns)[0])
    return dataclasses.replace(saved, **counts, unknowns=unknowns, model=model)


def _check_resume(resume: InversionState, like: Callable[[int], InversionState], stages: tuple[Stage, ...]) -> None:
    """A state to go on from is one of this model and this optimiser, and not yet at the end."""
    iteration, ends = int(resume.iteration), np.cumsum([stage.iterations for stage in stages])
    if iteration >= ends[-1]:
        raise ValueError(f"iterations must be above the {iteration} already made, got {ends[-1]}.")
    stage = int(np.searchsorted(ends, iteration))
    if stage != int(resume.stage):
        raise ValueError(
            f"resume is of stage {int(resume.stage)} (from 0), but iteration {iteration} is of {stage} here."
        )
    expected = like(stage)
    for name in ("unknowns", "optimizer_state"):
        old, new = (eqx.filter(getattr(x, name), eqx.is_array_like) for x in (resume, expected))
        same = jax.tree.structure(old) == jax.tree.structure(new)
        if not same or any(
            jnp.shape(a) != jnp.shape(b) for a, b in zip(*map(jax.tree.leaves, (old, new)), strict=True)
        ):
            what = "model" if name == "unknowns" else name
            raise ValueError(f"resume has another {what} than this inversion: give the start and optimizer it had.")
