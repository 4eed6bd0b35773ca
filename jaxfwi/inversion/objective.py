"""What an inversion minimises: misfit and penalty as a function of its unknowns."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi import misfits
from jaxfwi.equations.base import WaveEquation
from jaxfwi.shots.layout import Deal, Devices, Layout, Shots, deal
from jaxfwi.shots.products import GaussNewtonProduct
from jaxfwi.shots.programs import Gradient, admit, check_observed, gradient_of, in_one_program, total
from jaxfwi.simulation.simulator import Simulator
from jaxfwi.survey.survey import Survey

__all__ = ["FlatObjective", "Objective", "check_like", "current_model", "divided", "masked", "model_of"]


class Objective(eqx.Module):
    """Misfit and penalty of some shots as a function of the unknowns, for one compiled program.

    Args:
        of_shot: the misfit of a shot and its gradient by the model.
        layout: how the shots of a program are dealt out.
        scale: by which the misfit is multiplied.
        to_model: the model of the unknowns; None if these are the model.
        rest: what of the unknowns are no numbers.
        regularization: the penalty as a function of the model, or None.
        mask: by which gradients are multiplied, or None.
    """

    of_shot: Gradient = eqx.field(static=True)
    layout: Layout = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    to_model: Callable | None = eqx.field(static=True)
    rest: Any
    regularization: Any
    mask: Any

    def model(self, unknowns: Any) -> Any:
        """The model, of the numbers among the unknowns."""
        return model_of(self.to_model, eqx.combine(unknowns, self.rest))

    def gradient(self, unknowns: Any, misfit: Array, slope: Any) -> tuple[Array, Array, Any]:
        """Misfit, penalty, and the gradient of their sum by the unknowns; of the shots' summed misfit and its gradient
        by the model."""
        model, pull = jax.vjp(self.model, unknowns)
        slope = jax.tree.map(lambda x: self.scale * x, slope)
        penalty = jnp.zeros_like(misfit)
        if self.regularization is not None:
            penalty, steeper = jax.value_and_grad(self._penalty)(model)
            slope = jax.tree.map(lambda a, b: a + b.astype(a.dtype), slope, steeper)
        return self.scale * misfit, penalty, masked(pull(slope)[0], self.mask)

    def of_shots(self, unknowns: Any, shots: Shots) -> tuple[Array, Any]:
        """The objective and its gradient, by all shots in one program."""
        misfit, slope = in_one_program(self.of_shot, self.layout, self.model(unknowns), shots)
        misfit, penalty, gradient = self.gradient(unknowns, misfit, slope)
        return misfit + penalty.astype(misfit.dtype), gradient

    def value_fn(self, start: Any, shots: Shots) -> Callable:
        """The objective as a function to differentiate, for line searches from `start`: where a step ends once the mask
        has been applied to it. Its masked gradient comes with it."""

        @jax.custom_vjp
        def value(unknowns):
            return self.of_shots(unknowns, shots)[0]

        def checked(unknowns, gauss_newton_fn=None):
            # optax's line searches refuse what their function does not take of the things other optimisers ask for
            self._check_single()
            return value(self._masked_step(start, unknowns))

        value.defvjp(lambda u: self.of_shots(u, shots), lambda g, ct: (jax.tree.map(lambda x: ct * x, g),))
        return checked

    def gauss_newton_fn(self, unknowns: Any, shots: Shots) -> Callable:
        """Products with the Gauss-Newton Hessian: of the misfit by the unknowns, and the penalty's own second
        derivative."""

        def times(direction):
            self._check_single()
            product = GaussNewtonProduct(self.of_shot.data_of, self.of_shot.misfits[0])
            direction = masked(direction, self.mask)
            model, along = jax.jvp(self.model, (unknowns,), (direction,))
            out = in_one_program(product, self.layout, (model, along), shots)
            out = jax.tree.map(lambda x: self.scale * x, out)
            if self.regularization is not None:
                bent = jax.jvp(jax.grad(self._penalty), (model,), (along,))[1]
                out = jax.tree.map(lambda a, b: a + b.astype(a.dtype), out, bent)
            return masked(jax.vjp(self.model, unknowns)[1](out)[0], self.mask)

        return times

    def _masked_step(self, start: Any, end: Any) -> Any:
        if self.mask is None:
            return end
        part = jax.tree.map(lambda a, b, m: a + jnp.asarray(m, a.dtype) * (b - a), start, end, self.mask)
        return jax.tree.map(lambda p, e: jax.lax.stop_gradient(p - e) + e, part, end)  # the mask is in the gradient

    def _check_single(self) -> None:
        if len(self.of_shot.misfits) > 1:
            raise ValueError(
                "parameters have misfits of their own, so that there is no one function for a line search or a "
                "Gauss-Newton product: give one misfit, or an optimizer as optax.adam."
            )

    def _penalty(self, model: Any) -> Array:
        value = self.regularization(model)
        if jnp.shape(value) != ():
            raise ValueError(f"regularization must return a number, got shape {jnp.shape(value)}.")
        return value


class FlatObjective:
    """Misfit and penalty as a function of one flat vector, in double precision, for optimisers outside of jax as
    SciPy's L-BFGS-B (Byrd et al. 1995, SIAM Journal on Scientific Computing 16, 1190-1208).

    Called with a vector it returns the objective and its gradient, both multiplied by `scale`. Cells that are masked
    out are not in the vector.

    Args:
        simulator, start, survey, observed, misfit, weights, regularization, to_model, mask, bounds, batch, devices: as
            for `invert`.
        scale: by default 1 / the misfit at the start, so that tolerances mean something.

    Attributes:
        start: the vector to start from.
        bounds: lower and upper limits, arrays of its length, infinite where there is none: ``zip(*bounds)`` is what
            SciPy takes.

    Raises:
        ValueError: as `invert`.

    >>> import jax.numpy as jnp, scipy.optimize, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 20), spacing=10.0, dt=1e-3, nt=200)
    >>> survey = jf.Survey.from_arrays([[50.0, 50.0]], [[50.0, 150.0]], jf.ricker(grid, frequency=15.0))
    >>> simulator, vp = jf.Simulator(grid), jnp.full(grid.shape, 1500.0)
    >>> observed = jf.simulate(simulator, jf.Acoustic(vp=vp + 50.0), survey)
    >>> objective = jf.FlatObjective(
    ...     simulator, jf.Acoustic(vp=vp), survey, observed, bounds=(jf.Acoustic(vp=1400.0), jf.Acoustic(vp=1700.0)))
    >>> found = scipy.optimize.minimize(
    ...     objective, objective.start, jac=True, method="L-BFGS-B", bounds=list(zip(*objective.bounds)),
    ...     options={"maxiter": 3})
    >>> bool(found.fun < 1.0), objective.unknowns(found.x).vp.shape
    (True, (20, 20))
    """

    def __init__(
        self,
        simulator: Simulator,
        start: Any,
        survey: Survey,
        observed: Any,
        *,
        misfit: Any = misfits.l2,
        weights: Any = None,
        regularization: Callable | None = None,
        to_model: Callable | None = None,
        mask: Any = None,
        bounds: tuple[Any, Any] | None = None,
        batch: int | None = None,
        devices: Devices = None,
        scale: float | None = None,
    ):
        numbers, rest = divided(start)
        model = model_of(to_model, start)
        survey = admit(simulator, model, survey)
        check_observed(simulator, model, survey, observed, weights)
        lower, upper = bounds if bounds is not None else (None, None)
        for name, like in (("mask", mask), ("lower bounds", lower), ("upper bounds", upper)):
            check_like(name, like, numbers)
        self._dealt: Deal = deal(
            simulator, model, survey, observed, weights=weights, batch=batch, devices=devices, aperture=None
        )
        of_shot = gradient_of(misfit, simulator, model, self._dealt)
        free = None if mask is None else jax.tree.map(lambda m: np.asarray(m) != 0, mask)
        self._objective = Objective(of_shot, self._dealt.layout, 1.0, to_model, rest, regularization, free)
        self._shots = self._dealt.take()
        leaves, self._structure = jax.tree.flatten(numbers)
        self._leaves = [np.asarray(x) for x in leaves]
        self._free = [m.ravel().astype(bool) for m in self._each(mask, True)]
        self.start = self._flat(self._leaves)
        self.bounds = tuple(
            self._flat(self._each(like, missing)) for like, missing in ((lower, -np.inf), (upper, np.inf))
        )
        self.scale = 1.0
        if scale is None:
            misfit_at_start = abs(self(self.start)[0])
            scale = 1.0 / misfit_at_start if misfit_at_start > 0 else 1.0
        self.scale = float(scale)

    def __call__(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        unknowns = self._dealt.place(self._numbers(vector))
        misfit, slope = total(
            self._objective.of_shot, self._dealt, current_model(self._objective, unknowns), self._shots
        )
        misfit, penalty, gradient = _gradient(self._objective, unknowns, misfit, slope)
        value = float(misfit) + float(penalty)
        return self.scale * value, self.scale * self._flat([np.asarray(x) for x in jax.tree.leaves(gradient)])

    def unknowns(self, vector: np.ndarray) -> Any:
        """The unknowns of a vector."""
        return eqx.combine(jax.tree.map(jnp.asarray, self._numbers(vector)), self._objective.rest)

    def model(self, vector: np.ndarray) -> WaveEquation:
        """The model of a vector."""
        return model_of(self._objective.to_model, self.unknowns(vector))

    def _numbers(self, vector: np.ndarray) -> Any:
        out, begin = [], 0
        for leaf, free in zip(self._leaves, self._free, strict=True):
            new = leaf.ravel().copy()
            new[free] = vector[begin : begin + free.sum()]
            begin += free.sum()
            out.append(new.reshape(leaf.shape))
        return jax.tree.unflatten(self._structure, out)

    def _each(self, like: Any, missing: Any) -> list[np.ndarray]:
        given = [missing] * len(self._leaves) if like is None else jax.tree.leaves(like)
        return [np.broadcast_to(np.asarray(x), leaf.shape) for x, leaf in zip(given, self._leaves, strict=True)]

    def _flat(self, leaves: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([x.ravel()[free].astype(float) for x, free in zip(leaves, self._free, strict=True)])


def current_model(objective: Objective, unknowns: Any) -> Any:
    """The model of the numbers among the unknowns, by a compiled program if it takes one."""
    return eqx.combine(unknowns, objective.rest) if objective.to_model is None else _model(objective, unknowns)


@eqx.filter_jit
def _model(objective: Objective, unknowns: Any) -> Any:
    return objective.model(unknowns)


@eqx.filter_jit
def _gradient(objective: Objective, unknowns: Any, misfit: Array, slope: Any) -> tuple[Array, Array, Any]:
    return objective.gradient(unknowns, misfit, slope)


def divided(unknowns: Any) -> tuple[Any, Any]:
    """The numbers among the unknowns as arrays, and the rest, as a network's activation functions."""
    numbers, rest = eqx.partition(unknowns, eqx.is_inexact_array_like)
    # with an explicit dtype, so that the second iteration's model is no other type to the compiler (weak types)
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), numbers), rest


def model_of(to_model: Callable | None, unknowns: Any) -> Any:
    """The model of the unknowns."""
    model = unknowns if to_model is None else to_model(unknowns)
    if not isinstance(model, WaveEquation):
        way = "pass to_model=function" if to_model is None else "let to_model return one"
        raise ValueError(f"the unknowns make no model, as jf.Acoustic(vp=...), but {type(model).__name__}: {way}.")
    return model


def masked(tree: Any, mask: Any) -> Any:
    """A PyTree multiplied by a mask, if there is one."""
    return tree if mask is None else jax.tree.map(lambda x, m: x * jnp.asarray(m, x.dtype), tree, mask)


def check_like(name: str, like: Any, unknowns: Any) -> None:
    """Masks and bounds have the structure of the unknowns, and leaves of their shape or numbers."""
    if like is None:
        return
    if jax.tree.structure(like) != jax.tree.structure(unknowns):
        kind = type(unknowns).__name__
        raise ValueError(f"{name} must be like what is inverted for, {kind}(...), got {type(like).__name__}.")
    if any(np.isnan(np.asarray(leaf, float)).any() for leaf in jax.tree.leaves(like)):
        raise ValueError(f"{name} has values that are NaN.")
    for leaf, parameter in zip(jax.tree.leaves(like), jax.tree.leaves(unknowns), strict=True):
        if jnp.shape(leaf) not in ((), jnp.shape(parameter)):
            raise ValueError(
                f"{name} must be numbers or arrays of the model's shape {jnp.shape(parameter)}, got {jnp.shape(leaf)}."
            )
