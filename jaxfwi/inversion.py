"""The inversion loop as a generator of states."""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxfwi import misfits
from jaxfwi.checks import whole
from jaxfwi.equations.base import WaveEquation
from jaxfwi.layout import Aperture, Devices, deal
from jaxfwi.shots import Gradient, admit, check_observed, in_one_program, one_of, total
from jaxfwi.simulator import Simulator
from jaxfwi.survey import Survey

__all__ = ["InversionState", "invert"]


class InversionState(eqx.Module):
    """Where an inversion stands after an iteration. A PyTree: it can be saved, and handed back to `invert` to go on.

    Args:
        iteration: number of updates made.
        model: after the last of them.
        misfit: of the last iteration's shots, at the model before its update; None before the first.
        gradient: the misfit's gradient there, with the mask applied; None before the first.
        optimizer_state: of the optax optimiser.
    """

    iteration: int
    model: Any
    misfit: Array | None
    gradient: Any
    optimizer_state: Any


def invert(
    simulator: Simulator,
    model: WaveEquation,
    survey: Survey,
    observed: Any,
    *,
    optimizer: optax.GradientTransformation,
    iterations: int,
    misfit: Callable[[Array, Array], Array] = misfits.l2,
    shots_per_iteration: int | None = None,
    seed: int = 0,
    mask: Any = None,
    bounds: tuple[Any, Any] | None = None,
    batch: int | None = None,
    devices: Devices = None,
    aperture: Aperture = None,
    domains: int | Sequence[int] = 1,
    resume: InversionState | None = None,
) -> Iterator[InversionState]:
    """Full waveform inversion: yields the state after every iteration.

    Args:
        simulator: grid, order, boundaries, and by `memory` how gradients are paid for.
        model: to start from.
        survey: the shots.
        observed: data ``(shots, time, receivers, components)``, an array or what is indexed like one; of a file mapped
            by ``numpy.load(name, mmap_mode="r")`` each iteration reads its mini-batch, on each host its own part.
        optimizer: any optax optimiser, those with a line search too; a learning rate is in the parameter's unit if the
            optimiser normalises gradients, as Adam does. Others, as SGD and L-BFGS, see the gradient's own scale: in
            single precision multiply the misfit by a large number for them. Pass the same object when you go on: a new
            one compiles a new program.
        iterations: how many to end at.
        misfit: ``misfit(predicted, observed)`` of one shot's data.
        shots_per_iteration: size of the mini-batches; by default all shots. Each epoch draws its batches anew without
            replacement; shots that do not fill a batch sit that epoch out.
        seed: of the mini-batches.
        mask: like the model, with numbers or booleans by which gradient and update are multiplied: 0 in cells to be
            left alone, as a water column.
        bounds: lower and upper limit, each None or like the model, with arrays or numbers for leaves. Masked cells
            may lie beyond.
        batch, devices, aperture, domains: as for `misfit_and_gradient`; an optimiser's line search is a program of its
            own.
        resume: a state yielded before, to go on from; `model` then only says what to expect.

    Yields:
        `InversionState` after each iteration.

    Raises:
        ValueError: before the first iteration for input that cannot be simulated, masks or bounds of another shape; in
            a later one if the update has made a model that is not finite or cannot be simulated.
        FloatingPointError: if the misfit is not finite, naming the iteration.

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
    survey = admit(simulator, model, survey)
    check_observed(simulator, model, survey, observed, misfit)
    shots = len(survey) if shots_per_iteration is None else whole("shots_per_iteration", shots_per_iteration, 1)
    if shots > len(survey):
        raise ValueError(f"shots_per_iteration is {shots} but the survey has {len(survey)} shots.")
    iterations = whole("iterations", iterations, 1)
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(f"optimizer must be one of optax, as optax.adam(10.0), got {optimizer!r}.")
    lower, upper = bounds if bounds is not None else (None, None)
    for name, like in (("mask", mask), ("lower bounds", lower), ("upper bounds", upper)):
        _check_like(name, like, model)
    if lower is not None and upper is not None:
        crossed = jax.tree.map(lambda a, b: bool(np.any(np.asarray(a) > np.asarray(b))), lower, upper)
        if any(jax.tree.leaves(crossed)):
            raise ValueError("bounds must be (lower, upper), but somewhere the lower one is above the upper one.")
    # with an explicit dtype, so that the second iteration's model is no other type to the compiler (weak types)
    unknowns: Any = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), model)
    start = InversionState(0, unknowns, None, None, optimizer.init(unknowns))
    if resume is not None:
        _check_resume(resume, start, iterations)
        start = resume
    dealt = deal(
        simulator,
        model,
        survey,
        observed,
        batch=batch,
        devices=devices,
        aperture=aperture,
        domains=domains,
        at_once=shots,
    )
    of_shot = Gradient(one_of(simulator, model, dealt), misfit)
    return _iterate(simulator, of_shot, optimizer, dealt, start, shots, iterations, seed, (mask, lower, upper))


def _iterate(simulator, of_shot, optimizer, dealt, state, size, iterations, seed, limits) -> Iterator[InversionState]:
    n = len(dealt.shots.survey)
    all_shots, limits = dealt.take() if size == n else None, dealt.place(limits)
    while state.iteration < iterations:
        i = int(state.iteration)
        shots = all_shots or dealt.take(mini_batch(n, size, i, seed))
        unknowns, optimizer_state = dealt.place((state.model, state.optimizer_state))
        value, gradient = total(of_shot, dealt, unknowns, shots)
        gradient, model, optimizer_state = _update(
            optimizer, of_shot, dealt.layout, unknowns, optimizer_state, value, gradient, shots, limits
        )
        if not bool(jnp.isfinite(value)):
            raise FloatingPointError(
                f"iteration {i + 1}: the misfit is {float(value)}. Look at the last model for values that cannot be, "
                "or lower the learning rate."
            )
        try:
            simulator.check_model(model)
        except ValueError as error:
            raise ValueError(
                f"iteration {i + 1} has made a model that cannot be simulated: {error} Set bounds=(lower, upper) or "
                "lower the learning rate."
            ) from None
        if i == 0 and all(bool(jnp.array_equal(a, b)) for a, b in _pairs(model, unknowns)):
            warnings.warn(
                "the first update has not changed the model at all: it is below its rounding. Raise the learning rate, "
                "or multiply the misfit by a large number for optimisers that see its scale, as L-BFGS.",
                stacklevel=2,
            )
        state = InversionState(i + 1, model, value, gradient, optimizer_state)
        yield state


def mini_batch(shots: int, size: int, iteration: int, seed: int) -> np.ndarray:
    """Indices of the shots of an iteration: without replacement within an epoch, the same for the same seed."""
    per_epoch = shots // size
    epoch, turn = divmod(iteration, per_epoch)
    order = np.random.default_rng((seed, epoch)).permutation(shots)
    return np.sort(order[turn * size : (turn + 1) * size])


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _update(optimizer, of_shot, layout, model, optimizer_state, value, gradient, parts, limits):
    mask, lower, upper = limits

    def value_and_gradient(model):
        shots = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
        value, gradient = in_one_program(of_shot, layout, model, shots)
        return value, _masked(gradient, mask)

    gradient = _masked(gradient, mask)
    updates, optimizer_state = optax.with_extra_args_support(optimizer).update(
        gradient,
        optimizer_state,
        model,
        value=value,
        grad=gradient,
        value_fn=_with_gradient(value_and_gradient),
    )
    new = optax.apply_updates(model, _masked(updates, mask))
    if lower is not None:
        new = jax.tree.map(lambda x, limit: jnp.maximum(x, jnp.asarray(limit, x.dtype)), new, lower)
    if upper is not None:
        new = jax.tree.map(lambda x, limit: jnp.minimum(x, jnp.asarray(limit, x.dtype)), new, upper)
    if mask is not None:  # what is masked stays as it is, outside the bounds too
        new = jax.tree.map(lambda x, old, m: jnp.where(jnp.asarray(m) == 0, old, x), new, model, mask)
    return gradient, new, optimizer_state


def _with_gradient(value_and_gradient: Callable) -> Callable:
    """The misfit as a function to differentiate, for line searches: its masked gradient comes with it, shot by shot."""

    @jax.custom_vjp
    def value(model):
        return value_and_gradient(model)[0]

    value.defvjp(lambda m: value_and_gradient(m), lambda g, ct: (jax.tree.map(lambda x: ct * x, g),))
    return value


def _masked(tree: Any, mask: Any) -> Any:
    return tree if mask is None else jax.tree.map(lambda x, m: x * jnp.asarray(m, x.dtype), tree, mask)


def _pairs(a: Any, b: Any) -> zip:
    return zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)


def _check_like(name: str, like: Any, model: WaveEquation) -> None:
    """Masks and bounds have the model's structure, and leaves of its shape or numbers."""
    if like is None:
        return
    if jax.tree.structure(like) != jax.tree.structure(model):
        raise ValueError(f"{name} must be like the model, {type(model).__name__}(...), got {type(like).__name__}.")
    for leaf, parameter in _pairs(like, model):
        if jnp.shape(leaf) not in ((), jnp.shape(parameter)):
            raise ValueError(
                f"{name} must be numbers or arrays of the model's shape {jnp.shape(parameter)}, got {jnp.shape(leaf)}."
            )


def _check_resume(resume: InversionState, start: InversionState, iterations: int) -> None:
    """A state to go on from is one of this model and this optimiser, and not yet at the end."""
    for name in ("model", "optimizer_state"):
        old, new = getattr(resume, name), getattr(start, name)
        same = jax.tree.structure(old) == jax.tree.structure(new)
        if not same or any(jnp.shape(a) != jnp.shape(b) for a, b in _pairs(old, new)):
            raise ValueError(f"resume has another {name} than this inversion: give the model and optimizer it had.")
    if int(resume.iteration) >= iterations:
        raise ValueError(f"iterations must be above the {int(resume.iteration)} already made, got {iterations}.")
