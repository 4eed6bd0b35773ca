"""One object for recorded data and how they are compared: gradients, second derivatives, and inversions of it."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi import misfits
from jaxfwi._checks import as_integer, check_kind
from jaxfwi.equations.base import WaveEquation
from jaxfwi.shots.aperture import Aperture
from jaxfwi.shots.budget import Memory
from jaxfwi.shots.devices import On
from jaxfwi.shots.observed import check_observed, check_weights
from jaxfwi.shots.per_shot import (
    Filter,
    GaussNewtonProduct,
    Gradient,
    HessianProduct,
    Misfit,
    Operation,
    SquaredGradients,
)
from jaxfwi.shots.plan import Plan, Shots, planned
from jaxfwi.shots.programs import all_data, memory_of_program, sum_over_shots, summed
from jaxfwi.simulation.door import check_many
from jaxfwi.simulation.simulator import Simulator
from jaxfwi.survey.survey import Survey

__all__ = ["Problem"]


def _hashable(aperture: Any) -> Any:
    """An aperture as a number or a tuple of numbers; `cutouts` checks it."""
    given = np.asarray(aperture).tolist() if hasattr(aperture, "shape") else aperture
    return tuple(given) if isinstance(given, list) else given


def _as_array(weights: Any) -> Any:
    return weights if weights is None or hasattr(weights, "shape") else np.asarray(weights)


def _checked_misfit(misfit: Any) -> Any:
    """A misfit, or one for each parameter; a ValueError for what is no function that programs can be compiled for."""
    for one in jax.tree.leaves(misfit) if isinstance(misfit, WaveEquation) else [misfit]:
        if not callable(one):
            raise ValueError(f"misfit must be a function of predicted and observed data, got {type(one).__name__}.")
        try:
            hash(one)
        except TypeError:
            raise ValueError(
                "misfit must be hashable: wrap what holds arrays in a function, and pass that each time."
            ) from None
    return misfit


Model = TypeVar("Model", bound=WaveEquation)


class Problem(eqx.Module):
    """Recorded data and how they are compared: a simulator, a survey, its data, and a misfit.

    The objective is the sum over shots of ``misfit(predicted, observed)``. A problem is a PyTree whose leaves are
    survey, observed data and weights; all else is static. Arrays are looked at when something is computed.

    Its methods are compiled by themselves. In a program of your own, close over the problem or make it an argument:
    ``jax.jit(lambda model: problem.misfit_and_gradient(model))``; with an aperture close over it, as positions must be
    known.

    Args:
        simulator: grid, order, boundaries, and by `memory` how gradients are paid for.
        survey: the shots.
        observed: data ``(shots, time, receivers, components)``, an array or what is indexed like one, as a file mapped
            by ``numpy.load(name, mmap_mode="r")``; what stands in padded traces does not matter. It may be left out for
            `gauss_newton_diagonal` and `memory`.
        misfit: ``misfit(predicted, observed)`` of one shot's data, a scalar; as `misfits.l2`. Use the same function
            object each time: a new one compiles a new program. Or, like the model, a misfit for each parameter, as
            ``jf.Elastic(vp=jf.misfits.l2, vs=jf.misfits.Envelope(), rho=jf.misfits.l2)``: each parameter's gradient is
            then of its own misfit, and the value is the sum of those that differ.
        weights: by which both data are multiplied before the misfit sees them, broadcast against `observed` but with
            all shots: mutes, traces left out, offsets weighed. By default none.
        aperture: metres of model around each shot's sources and receivers, on either side along the horizontal axes,
            one number or one per axis: each shot is computed on that cutout alone. By default on the whole model.
        on: devices, shots at once, and domains that a grid is cut into: these change results by rounding only.

    Raises:
        ValueError: for a simulator, survey, misfit or `on` that cannot be; when something is computed, for input that
            cannot be simulated, or observed data of another shape than the survey gives.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 20), spacing=10.0, dt=1e-3, nt=200)
    >>> wavelet = jf.ricker(grid, frequency=15.0)
    >>> survey = jf.Survey.from_arrays([[50.0, 50.0]], [[50.0, 150.0]], wavelet)
    >>> simulator, model = jf.Simulator(grid), jf.Acoustic(vp=jnp.full(grid.shape, 1500.0))
    >>> observed = jf.simulate(simulator, jf.Acoustic(vp=model.vp + 50.0), survey)
    >>> problem = jf.Problem(simulator, survey, observed)
    >>> value, gradient = problem.misfit_and_gradient(model)
    >>> value.shape, gradient.vp.shape
    ((), (20, 20))
    """

    simulator: Simulator = eqx.field(static=True)
    survey: Survey
    observed: Any = None
    misfit: Any = eqx.field(static=True, default=misfits.l2, converter=_checked_misfit)
    weights: Any = eqx.field(default=None, converter=_as_array)
    aperture: Aperture = eqx.field(static=True, default=None, converter=_hashable)
    on: On = eqx.field(static=True, default=On())

    def __check_init__(self):
        for name, kind in (("simulator", Simulator), ("survey", Survey), ("on", On)):
            check_kind(name, getattr(self, name), kind)

    def __repr__(self) -> str:
        shown = [
            repr(self.simulator),
            repr(self.survey),
            f"misfit={getattr(self.misfit, '__name__', repr(self.misfit))}",
        ]
        shown += ["weights=..."] if self.weights is not None else []
        shown += [f"aperture={self.aperture}"] if self.aperture is not None else []
        shown += [f"on={self.on}"] if self.on != On() else []
        return f"Problem({', '.join(shown)})"

    def misfit_and_gradient(self, model: Model) -> tuple[Array, Model]:
        """The misfit of a model, summed over shots, and its gradient.

        Args:
            model: an equation with its parameters.

        Returns:
            The misfit, and its gradient as a model of the same type.

        Raises:
            ValueError: for input that cannot be simulated, or observed data of another shape.
            MemoryError: before anything is computed, if it cannot fit.
        """
        return self._sum(model, model, lambda model, plan: gradient_of_shot(self, model, plan))

    def hessian_product(self, model: Model, direction: Model) -> Model:
        """The Hessian of the misfit at a model, times a perturbation of the model.

        Args:
            model: an equation with its parameters.
            direction: the perturbation, of the type and shape of the model.

        Returns:
            The product, of the type of the model.

        Raises:
            ValueError: as `misfit_and_gradient`, for a direction of another shape, or misfits that differ by parameter.

        >>> import jax.numpy as jnp, jaxfwi as jf
        >>> grid = jf.Grid(shape=(20, 20), spacing=10.0, dt=1e-3, nt=200)
        >>> wavelet = jf.ricker(grid, frequency=15.0)
        >>> survey = jf.Survey.from_arrays([[50.0, 50.0]], [[50.0, 150.0]], wavelet)
        >>> problem = jf.Problem(jf.Simulator(grid), survey, jnp.zeros((1, 200, 1, 1)))
        >>> model = jf.Acoustic(vp=jnp.full(grid.shape, 1500.0))
        >>> problem.hessian_product(model, direction=model).vp.shape
        (20, 20)
        """
        self._one_misfit()
        shared = (model, _like_model(direction, model))
        return self._sum(model, shared, lambda model, plan: HessianProduct(gradient_of_shot(self, model, plan)))

    def gauss_newton_product(self, model: Model, direction: Model) -> Model:
        """The Gauss-Newton Hessian at a model, times a perturbation: ``J^T W J d``.

        J is the derivative of the data and W the second derivative of the misfit by the data, the identity for
        `misfits.l2`. Positive semidefinite where the misfit is convex in the data.

        Args:
            model: an equation with its parameters.
            direction: the perturbation d, of the type and shape of the model.

        Returns:
            The product, of the type of the model.

        Raises:
            ValueError: as `hessian_product`.
        """
        misfit = self._one_misfit()
        shared = (model, _like_model(direction, model))
        return self._sum(model, shared, lambda _, plan: GaussNewtonProduct(plan.one_shot, misfit))

    def gauss_newton_diagonal(
        self, model: Model, seed: int = 0, samples: int = 1, filter: Filter | None = None
    ) -> Model:
        """An estimate of the diagonal of the Gauss-Newton Hessian ``J^T J`` of `misfits.l2`: how well sources and
        receivers together illuminate each cell, for any equation. For `optimise.precondition`. Observed data, misfit
        and weights play no part.

        It is the mean of ``(J^T z)^2`` over random data z of signs, independent for each shot, summed over shots, whose
        expectation is the diagonal (after Bekas, Kokiopoulou & Saad 2007, Applied Numerical Mathematics 57, 1214-1229).
        A shot is modelled once, and each sample costs the backward half of a gradient.

        The standard deviation of an estimate is ``sqrt(2 / (samples * shots))`` of it where all shots count alike, and
        ``sqrt(2 / samples)`` at most; errors change within a wavelength, so that smoothing helps. As a preconditioner
        it takes the place of the pseudo-Hessian, which knows the sources only (Shin, Jang & Min 2001, Geophysical
        Prospecting 49, 592-606).

        Args:
            model: an equation with its parameters.
            seed: of the random data; the same one gives the same estimate.
            samples: random data for each shot.
            filter: ``filter(data, grid)`` of one shot's data ``(time, receivers, components)``, a linear function as
                `filters.Butterworth`: the diagonal is that of filtered data then. Use the same or an equal one each
                time.

        Returns:
            The diagonal, of the type of the model, in units of the misfit per parameter squared; 0 or more.

        Raises:
            ValueError: as `misfit_and_gradient`, and for samples, a seed or a filter that cannot be.

        >>> import jax.numpy as jnp, jaxfwi as jf
        >>> grid = jf.Grid(shape=(20, 20), spacing=10.0, dt=1e-3, nt=200)
        >>> wavelet = jf.ricker(grid, frequency=15.0)
        >>> survey = jf.Survey.from_arrays([[50.0, 50.0]], [[50.0, 150.0]], wavelet)
        >>> problem = jf.Problem(jf.Simulator(grid), survey)
        >>> model = jf.Acoustic(vp=jnp.full(grid.shape, 1500.0))
        >>> light = problem.gauss_newton_diagonal(model, samples=2)
        >>> light.vp.shape, bool((light.vp >= 0).all())
        ((20, 20), True)
        """
        samples, seed = as_integer("samples", samples, 1), as_integer("seed", seed, 0)
        if filter is not None and not callable(filter):
            raise ValueError(f"filter must be a function of data and a grid, got {type(filter).__name__}.")
        try:
            hash(filter)
        except TypeError:
            raise ValueError(f"filter must be hashable, got {filter!r}: make it a frozen dataclass.") from None
        bare, key = dataclasses.replace(self, observed=None, weights=None), jax.random.key(seed)
        problem = admitted(bare, model, needs_observed=False)
        words, kind = jax.random.key_data(jax.random.split(key, len(self.survey))), str(jax.random.key_impl(key))
        plan = plan_of(dataclasses.replace(problem, observed=words), type(model), model)
        squares = SquaredGradients(plan.one_shot, filter, self.simulator.grid, samples, kind)
        return sum_over_shots(squares, plan, model, plan.shares())

    def memory(self, model: WaveEquation, gradient: bool = True) -> Memory:
        """The memory on each device of `misfit_and_gradient`, or of modelling all shots by `simulate`, as compiled.

        Nothing is computed, but the program is compiled, and that serves the call that follows.

        Args:
            model: an equation with its parameters.
            gradient: whether to ask about `misfit_and_gradient`; if not, about `simulate`.

        Returns:
            How many bytes on a device are ``arguments`` (model, shots and data), ``working`` space and ``result``, and
            their ``total``; on a processor that computes a shot on each core, of all together.

        Raises:
            ValueError: for input that cannot be simulated.

        >>> import jax.numpy as jnp, jaxfwi as jf
        >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=200)
        >>> wavelet = jf.ricker(grid, frequency=15.0)
        >>> survey = jf.Survey.from_arrays([[50.0, 50.0]], [[50.0, 150.0]], wavelet)
        >>> model = jf.Acoustic(vp=jnp.full(grid.shape, 1500.0))
        >>> memory = jf.Problem(jf.Simulator(grid), survey).memory(model)
        >>> memory.working > 4 * 200 * 2 * (20 + 30)  # the ring of every step is part of it
        True
        """
        problem = dataclasses.replace(admitted(self, model, needs_observed=False), observed=None)
        plan = plan_of(problem, type(model), model)
        if plan.traced:
            raise ValueError("memory looks at its arguments' values: call it outside of jit, grad and vmap.")
        share = plan.shares()[0]
        if not gradient:
            return memory_of_program(all_data, plan.one_shot, plan, model, share)
        shape = (len(share.survey), *_data_shape(self, model)[1:])
        there = None if plan.layout.mesh is None else share.survey.wavelet.sharding
        like = jax.tree.leaves(model) if self.observed is None else [self.observed.dtype]
        data = jax.ShapeDtypeStruct(shape, jnp.result_type(*like), sharding=there)
        operation = gradient_of_shot(self, model, plan)
        return memory_of_program(summed, operation, plan, model, share._replace(observed=data))

    def _sum(self, model: WaveEquation, shared: Any, operation: Callable[[Any, Plan], Operation]) -> Any:
        problem = admitted(self, model)
        plan = plan_of(problem, type(model), shared)
        return sum_over_shots(operation(model, plan), plan, shared, plan.shares())

    def _one_misfit(self) -> Misfit:
        if isinstance(self.misfit, WaveEquation):
            raise ValueError("parameters have misfits of their own, so that there is no one Hessian: give one misfit.")
        return self.misfit


def admitted(problem: Problem, model: WaveEquation, needs_observed: bool = True) -> Problem:
    """The same problem with everything checked against a model, and the survey prepared for it.

    Args:
        problem: as the user made it.
        model: an equation with its parameters.
        needs_observed: whether observed data must have been given.

    Raises:
        ValueError: naming what is wrong, its value and the fix.
    """
    check_many(problem.survey)
    survey = problem.simulator.admit(model, problem.survey)
    if problem.observed is not None:
        check_observed(survey, problem.observed, _data_shape(problem, model))
    elif needs_observed:
        raise ValueError("observed is missing: give the recorded data, Problem(simulator, survey, observed).")
    check_weights(problem.weights, _data_shape(problem, model))
    return dataclasses.replace(problem, survey=survey)


def plan_of(problem: Problem, equation: type[WaveEquation], shared: Any, at_once: int | None = None) -> Plan:
    """Who computes which shots, of an admitted problem; `at_once` of them, or all, in a call."""
    shots = Shots(problem.survey, problem.observed, weights=problem.weights)
    return planned(problem.simulator, equation, shared, shots, problem.aperture, problem.on, at_once)


def gradient_of_shot(problem: Problem, model: WaveEquation, plan: Plan) -> Gradient:
    """The misfit of a shot and its gradient, by one misfit or by one for each parameter."""
    misfit, name = problem.misfit, type(model).__name__
    each = jax.tree.leaves(misfit) if isinstance(misfit, WaveEquation) else [misfit]
    if isinstance(misfit, WaveEquation) and (
        not isinstance(misfit, type(model)) or len(each) != len(jax.tree.leaves(model))
    ):
        raise ValueError(f"misfit must have a function for each parameter of {name}, got {misfit}.")
    distinct = tuple(dict.fromkeys(each))
    if len(distinct) > 1 and plan.one_shot.split is not None:
        raise ValueError("domains cut a model that all parameters share: give one misfit, or leave domains out.")
    of_leaf = tuple(distinct.index(one) for one in each) if len(distinct) > 1 else ()
    return Gradient(plan.one_shot, distinct, of_leaf)


def _data_shape(problem: Problem, model: WaveEquation) -> tuple[int, int, int, int]:
    components = len(problem.simulator.fields(type(model))[1])
    return len(problem.survey), problem.simulator.grid.nt, problem.survey.receiver.shape[1], components


def _like_model(direction: Any, model: WaveEquation) -> Any:
    """The direction, of the dtype of the model; a ValueError for one of another shape."""
    same_type = jax.tree.structure(direction) == jax.tree.structure(model)
    if not same_type or jax.tree.map(jnp.shape, direction) != jax.tree.map(jnp.shape, model):
        raise ValueError(f"direction must be shaped like the model, {model}, got {direction}.")
    return jax.tree.map(lambda d, m: jnp.asarray(d, jnp.result_type(m)), direction, model)
