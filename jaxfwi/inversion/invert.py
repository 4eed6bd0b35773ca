"""The inversion loop as a generator of states."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxfwi import misfits
from jaxfwi._checks import as_integer, concrete_values, is_concrete
from jaxfwi._compiler import compiler_options
from jaxfwi.inversion.checkpoint import Checkpoints, fingerprint
from jaxfwi.inversion.objective import Objective, check_like, current_model, divided, masked, model_of
from jaxfwi.inversion.stages import Part, Stage, check_traces, described, filtered, planned, words
from jaxfwi.shots.layout import Aperture, Devices, Shots, deal
from jaxfwi.shots.programs import admit, check_observed, gradient_of, total
from jaxfwi.simulation.simulator import Simulator
from jaxfwi.survey.encoding import Encoding
from jaxfwi.survey.survey import Survey

__all__ = ["InversionState", "invert"]


class InversionState(eqx.Module):
    """Where an inversion stands after an iteration. A PyTree: it can be saved, and handed back to `invert` to go on.

    Args:
        iteration: number of updates made, over all stages.
        stage: of the last of them, counted from 0.
        unknowns: after it.
        model: that of the unknowns; the same if the inversion has no `to_model`.
        misfit: of the last iteration's shots, at the unknowns before their update; None before the first.
        penalty: the regularisation there.
        gradient: of misfit and penalty there, by the unknowns, with the mask applied.
        optimizer_state: of the stage's optax optimiser.
        first_misfit: that of the stage's first iteration.
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


def invert(
    simulator: Simulator,
    start: Any,
    survey: Survey,
    observed: Any,
    *,
    optimizer: optax.GradientTransformation | None = None,
    iterations: int | None = None,
    stages: Sequence[Stage] | None = None,
    misfit: Any = misfits.l2,
    weights: Any = None,
    regularization: Callable[[Any], Array] | None = None,
    to_model: Callable[[Any], Any] | None = None,
    shots_per_iteration: int | None = None,
    encoding: Encoding | None = None,
    seed: int = 0,
    mask: Any = None,
    bounds: tuple[Any, Any] | None = None,
    divergence: float | None = 10.0,
    batch: int | None = None,
    devices: Devices = None,
    aperture: Aperture = None,
    domains: int | Sequence[int] = 1,
    resume: InversionState | None = None,
    checkpoints: Checkpoints | None = None,
) -> Iterator[InversionState]:
    """Full waveform inversion: yields the state after every iteration.

    Args:
        simulator: grid, order, boundaries, and by `memory` how gradients are paid for.
        start: the model to start from; with `to_model` the unknowns, any PyTree.
        survey: the shots.
        observed: data ``(shots, time, receivers, components)``, an array or what is indexed like one; of a file mapped
            by ``numpy.load(name, mmap_mode="r")`` each iteration reads its mini-batch, on each host its own part.
        optimizer: any optax optimiser, those with a line search too; a learning rate is in the parameter's unit if the
            optimiser normalises gradients, as Adam does. Others, as SGD and L-BFGS, see the gradient's own scale: in
            single precision multiply the misfit by a large number for them. ``optax.partition`` gives each parameter
            its own, `jaxfwi.optimise` has what processes gradients. Pass the same object when you go on: a new one
            compiles a new program.
        iterations: how many to end at.
        stages: in the stead of `iterations`: parts of the inversion, one after the other, each from where the one
            before ended.
        misfit: ``misfit(predicted, observed)`` of one shot's data; or one for each parameter, as for
            `misfit_and_gradient`.
        weights: of the data, as for `misfit_and_gradient`.
        regularization: a function of the model, added to the misfit summed over the iteration's shots; as
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
            may lie beyond. An update is cut to them; a line search does not see them, SciPy's L-BFGS-B by
            `FlatObjective` does.
        divergence: stops where the misfit exceeds so many times that of the stage's first iteration; None never does.
        batch, devices, aperture, domains: as for `misfit_and_gradient`; an optimiser's line search is a program of its
            own.
        resume: a state yielded before, to go on from; `start` then only says what to expect.
        checkpoints: a folder to save states in and, if it has one, to go on from: the first state yielded is then the
            one that was saved. An inversion that was killed ends bit for bit as if it had not been. One that has ended
            can be made longer, by more iterations in its last stage.

    Yields:
        `InversionState` after each iteration.

    Raises:
        ValueError: before the first iteration for input that cannot be simulated, masks or bounds of another shape,
            encoding of shots with different receivers, or a checkpoint of another inversion; in a later one if the
            update has made a model that is not finite or cannot be simulated.
        FloatingPointError: if misfit or gradient are not finite or the misfit diverges, naming the iteration. If there
            are `checkpoints`, the last state whose misfit was good is their newest then.

    >>> import jax.numpy as jnp, optax, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 20), spacing=10.0, dt=1e-3, nt=200)
    >>> survey = jf.Survey.from_arrays([[50.0, 50.0]], [[50.0, 150.0]], jf.ricker(grid, frequency=15.0))
    >>> simulator, vp = jf.Simulator(grid), jnp.full(grid.shape, 1500.0)
    >>> observed = jf.simulate(simulator, jf.Acoustic(vp=vp + 50.0), survey)
    >>> states = jf.invert(
    ...     simulator, jf.Acoustic(vp=vp), survey, observed, optimizer=optax.adam(10.0), iterations=2)
    >>> [state.iteration for state in states]
    [1, 2]
    """
    numbers, rest = divided(start)
    model = model_of(to_model, start)
    survey = admit(simulator, model, survey)
    check_observed(simulator, model, survey, observed, weights)
    if not is_concrete(*jax.tree.leaves((numbers, survey, observed))):
        raise ValueError("invert looks at values as it goes, so that it cannot be called inside jit, grad or vmap.")
    plan = planned(
        stages, iterations, Stage(1, optimizer, None, misfit, shots_per_iteration, encoding, batch), survey, numbers
    )
    lower, upper = bounds if bounds is not None else (None, None)
    for name, like in (("mask", mask), ("lower bounds", lower), ("upper bounds", upper)):
        check_like(name, like, numbers)
    if lower is not None and upper is not None:
        crossed = jax.tree.map(lambda a, b: bool(np.any(np.asarray(a) > np.asarray(b))), lower, upper)
        if any(jax.tree.leaves(crossed)):
            raise ValueError("bounds must be (lower, upper), but somewhere the lower one is above the upper one.")
    if divergence is not None and not divergence > 1:
        raise ValueError(f"divergence must be above 1, or None, got {divergence!r}.")
    _check_regularization(regularization, model)
    seed = as_integer("seed", seed, 0)
    parts = []
    for stage in plan:
        assert stage.optimizer is not None
        assert stage.shots_per_iteration is not None
        if stage.encoding is not None and (weights is not None or aperture is not None):
            given = "weights" if weights is not None else "an aperture"
            raise ValueError(f"encoding sums shots, so that {given} of single shots cannot be: leave one of them out.")
        at_once = stage.shots_per_iteration if stage.encoding is None else stage.encoding.realisations
        options: dict[str, Any] = {"devices": devices, "aperture": aperture, "domains": domains, "at_once": at_once}
        dealt = deal(simulator, model, survey, observed, weights=weights, batch=stage.batch, **options)
        of_shot = gradient_of(filtered(stage, simulator), simulator, model, dealt)
        for one in of_shot.misfits:
            check_traces(one, observed.shape[1:], model)
        scale = 1.0 if stage.encoding is None else 1.0 / stage.encoding.realisations
        arrays, functions = eqx.partition(regularization, eqx.is_array)
        penalty = eqx.combine(dealt.place(arrays), functions)
        objective = Objective(of_shot, dealt.layout, scale, to_model, rest, penalty, dealt.place(mask))
        limits = dealt.place((lower, upper))
        parts.append(Part(stage, stage.optimizer, stage.shots_per_iteration, dealt, objective, limits))

    def like_of(stage: int) -> InversionState:
        """A state of a stage's structure."""
        number, (optimizer_state, gradient) = jnp.zeros(()), (parts[stage].optimizer.init(numbers), numbers)
        return InversionState(0, stage, start, None, number, number, gradient, optimizer_state, number)

    state = InversionState(0, 0, eqx.combine(numbers, rest), model, None, None, None, None, None)
    settings, saved = {}, None
    if checkpoints is not None:
        if resume is not None:
            raise ValueError("resume and checkpoints both say where to go on from: give one of them.")
        settings = described(simulator, survey, observed, start, plan, seed)
        settings |= {name: fingerprint(x) for name, x in (("mask", mask), ("bounds", bounds), ("weights", weights))}
        settings |= {"to_model": f"{words(to_model)} {fingerprint(to_model)}", "aperture": repr(aperture)}
        settings |= {"regularization": f"{words(regularization)} {fingerprint(regularization)}"}
        saved = checkpoints.load(like_of, settings)
    if resume is not None:
        _check_resume(resume, like_of, plan)
        state = resume
    if saved is not None:
        unknowns = eqx.combine(jax.tree.map(jnp.asarray, divided(saved.unknowns)[0]), rest)
        counts = {"iteration": int(saved.iteration), "stage": int(saved.stage)}
        model = current_model(parts[counts["stage"]].objective, divided(unknowns)[0])
        state = dataclasses.replace(saved, **counts, unknowns=unknowns, model=model)
        asked = sum(stage.iterations for stage in plan)
        if state.iteration > asked:
            raise ValueError(f"the checkpoint is of iteration {state.iteration}, and {asked} are asked for.")
    driver = _Driver(tuple(parts), simulator, seed, divergence, checkpoints, settings)
    return driver.run(state, saved is not None)


class _Spoiled(FloatingPointError):
    """The state that an iteration began from is no good."""


@dataclass(frozen=True)
class _Driver:
    """Runs the stages from a state on."""

    parts: tuple[Part, ...]
    simulator: Simulator
    seed: int
    divergence: float | None
    checkpoints: Checkpoints | None
    settings: dict[str, Any]

    def run(self, state: InversionState, saved: bool) -> Iterator[InversionState]:
        """Yields the states; the first one too, if it was `saved`."""
        if saved:
            yield state
        first, before = 0, None
        for number, part in enumerate(self.parts):
            last = first + part.stage.iterations
            kept = None
            while state.iteration < last:
                i = int(state.iteration) - first
                begun = state
                if i == 0:
                    optimizer_state = part.optimizer.init(divided(state.unknowns)[0])
                    begun = dataclasses.replace(state, optimizer_state=optimizer_state, first_misfit=None)
                if kept is None and part.every:
                    kept = part.shots(0, (self.seed, number))
                try:
                    new = self._next(begun, part, number, i, kept)
                except _Spoiled as error:  # the misfit tells of the state that it was computed at
                    self._go_back(before)
                    raise FloatingPointError(*error.args) from None
                except BaseException:
                    self._save(state)
                    raise
                before, state = state, new
                if new.iteration % self.every == 0 or new.iteration == last:
                    self._save(new)
                try:
                    yield new
                except GeneratorExit:  # left by a break, or an error in what is done with the states
                    self._save(new)
                    raise
            first = last

    @property
    def every(self) -> int:
        return 1 if self.checkpoints is None else self.checkpoints.every

    def _save(self, state: InversionState) -> None:
        if self.checkpoints is not None and state.misfit is not None:
            reduced = dataclasses.replace(state, model=None)  # that of the unknowns
            self.checkpoints.save(reduced, int(state.stage), int(state.iteration), self.settings)

    def _go_back(self, state: InversionState | None) -> None:
        """Save a state, and remove what came after it."""
        if self.checkpoints is not None:
            if state is not None:
                self._save(state)
            self.checkpoints.remove_after(0 if state is None else int(state.iteration))

    def _next(self, state: InversionState, part: Part, number: int, i: int, kept: list[Shots] | None):
        where = f"iteration {int(state.iteration) + 1}"
        if len(self.parts) > 1:
            where += f" ({part.stage.name})"
        dealt, objective = part.dealt, part.objective
        shots = kept or part.shots(i, (self.seed, number))
        numbers, rest = divided(state.unknowns)
        numbers, optimizer_state = dealt.place((numbers, state.optimizer_state))
        update = _compiled_update(tuple(compiler_options(dealt.device).items()))
        value, slope = total(objective.of_shot, dealt, current_model(objective, numbers), shots)
        value, penalty, gradient, new, tried, optimizer_state = update(
            objective, part.optimizer, numbers, optimizer_state, value, slope, shots, part.limits
        )
        model = current_model(objective, new)
        self._check_values(where, value, penalty, gradient)
        first = value if state.first_misfit is None else state.first_misfit
        if self.divergence is not None and float(value) > self.divergence * float(first) > 0:
            raise _Spoiled(
                f"{where}: the misfit has grown to {float(value):.3g}, {float(value) / float(first):.3g} times that of "
                f"the stage's first iteration. The steps are likely too long, or jumped to another cycle: lower the "
                "learning rate, or begin with lower frequencies. Where shots differ that much, raise divergence."
            )
        try:
            self.simulator.check_model(model)
        except ValueError as error:
            raise ValueError(
                f"{where} has made a model that cannot be simulated: {error} Set bounds=(lower, upper) or "
                "lower the learning rate."
            ) from None
        if i == 0 and bool(tried) and all(bool(jnp.array_equal(a, b)) for a, b in _pairs(new, numbers)):
            warnings.warn(
                "the first update has not changed the model at all: it is below its rounding. Raise the learning rate, "
                "or multiply the misfit by a large number for optimisers that see its scale, as L-BFGS.",
                stacklevel=2,
            )
        if i == 0:
            _check_adam(optimizer_state, gradient, new, numbers)
        unknowns = eqx.combine(new, rest)
        return InversionState(
            int(state.iteration) + 1, number, unknowns, model, value, penalty, gradient, optimizer_state, first
        )

    def _check_values(self, where: str, value: Array, penalty: Array, gradient: Any) -> None:
        if not bool(jnp.isfinite(value)):
            raise _Spoiled(
                f"{where}: the misfit is {float(value)}. Look at the last model for values that cannot be, "
                "or lower the learning rate."
            )
        if not bool(jnp.isfinite(penalty)):
            raise _Spoiled(f"{where}: the regularization is {float(penalty)} at this model.")
        if not all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(gradient)):
            raise FloatingPointError(
                f"{where}: the misfit is {float(value):.3g} but its gradient is not finite. The likely cause is a "
                "misfit, penalty or to_model whose derivative has no value there, as that of a square root at zero."
            )


@functools.cache
def _compiled_update(options: tuple[tuple[str, Any], ...]) -> Callable:
    more: dict[str, Any] = {"compiler_options": dict(options)}  # for jax.jit
    return eqx.filter_jit(_update, **more)


def _update(objective, optimizer, numbers, optimizer_state, misfit, slope, parts, limits):
    lower, upper = limits
    misfit, penalty, gradient = objective.gradient(numbers, misfit, slope)
    shots = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
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
                stacklevel=2,
            )
            return


def _check_regularization(regularization: Any, model: Any) -> None:
    if regularization is None:
        return
    if not callable(regularization):
        raise ValueError(f"regularization must be a function of the model, got {type(regularization).__name__}.")
    try:
        hash(eqx.partition(regularization, eqx.is_array)[1])
    except TypeError:
        raise ValueError(
            "regularization must be hashable but for its arrays: make it an eqx.Module, or wrap it in a function."
        ) from None
    shape = jnp.shape(jax.eval_shape(regularization, model))
    if shape != ():
        raise ValueError(f"regularization must return a number, got shape {shape}.")


def _pairs(a: Any, b: Any) -> zip:
    return zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)


def _check_resume(resume: InversionState, like: Callable[[int], InversionState], plan: tuple[Stage, ...]) -> None:
    """A state to go on from is one of this model and this optimiser, and not yet at the end."""
    iteration, ends = int(resume.iteration), np.cumsum([stage.iterations for stage in plan])
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
        if not same or any(jnp.shape(a) != jnp.shape(b) for a, b in _pairs(old, new)):
            what = "model" if name == "unknowns" else name
            raise ValueError(f"resume has another {what} than this inversion: give the start and optimizer it had.")
