"""The objective of an inversion: misfit and penalty as a function of its unknowns."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi.equations.base import WaveEquation
from jaxfwi.shots.per_shot import GaussNewtonProduct, Gradient
from jaxfwi.shots.plan import Layout, Plan, Shots
from jaxfwi.shots.programs import summed

__all__ = [
    "Objective",
    "check_limits",
    "check_regularisation",
    "current_model",
    "masked",
    "model_of",
    "objective_of",
    "split_numbers",
]


class Objective(eqx.Module):
    """Misfit and penalty of some shots as a function of the unknowns, for one compiled program.

    Args:
        of_shot: the misfit of a shot and its gradient by the model.
        layout: how the shots are laid out over devices.
        scale: by which the misfit is multiplied.
        to_model: the model of the unknowns; None if these are the model.
        rest: leaves of the unknowns that are no numbers, as activation functions.
        regularisation: the penalty as a function of the model, or None.
        mask: by which gradients are multiplied, or None.
    """

    of_shot: Gradient = eqx.field(static=True)
    layout: Layout = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    to_model: Callable | None = eqx.field(static=True)
    rest: Any
    regularisation: Any
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
        if self.regularisation is not None:
            penalty, steeper = jax.value_and_grad(self._penalty)(model)
            slope = jax.tree.map(lambda a, b: a + b.astype(a.dtype), slope, steeper)
        return self.scale * misfit, penalty, masked(pull(slope)[0], self.mask)

    def of_shots(self, unknowns: Any, shots: Shots) -> tuple[Array, Any]:
        """The objective and its gradient, by all shots in one program."""
        misfit, slope = summed(self.of_shot, self.layout, self.model(unknowns), shots)
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
            product = GaussNewtonProduct(self.of_shot.one_shot, self.of_shot.misfits[0])
            direction = masked(direction, self.mask)
            model, along = jax.jvp(self.model, (unknowns,), (direction,))
            out = summed(product, self.layout, (model, along), shots)
            out = jax.tree.map(lambda x: self.scale * x, out)
            if self.regularisation is not None:
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
        value = self.regularisation(model)
        if jnp.shape(value) != ():
            raise ValueError(f"regularisation must return a number, got shape {jnp.shape(value)}.")
        return value


def objective_of(
    of_shot: Gradient,
    plan: Plan,
    to_model: Callable | None,
    rest: Any,
    regularisation: Any,
    mask: Any,
    scale: float = 1.0,
) -> Objective:
    """The objective of a plan's shots, with its arrays on the devices of the plan."""
    arrays, functions = eqx.partition(regularisation, eqx.is_array)
    penalty = eqx.combine(plan.replicated(arrays), functions)
    return Objective(of_shot, plan.layout, scale, to_model, rest, penalty, plan.replicated(mask))


def current_model(objective: Objective, unknowns: Any) -> Any:
    """The model of the numbers among the unknowns, by a compiled program if it takes one."""
    return eqx.combine(unknowns, objective.rest) if objective.to_model is None else _model(objective, unknowns)


@eqx.filter_jit
def _model(objective: Objective, unknowns: Any) -> Any:
    return objective.model(unknowns)


def split_numbers(unknowns: Any) -> tuple[Any, Any]:
    """The numbers among the unknowns as arrays, and all other leaves, as a network's activation functions."""
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


def check_limits(mask: Any, bounds: tuple[Any, Any] | None, numbers: Any) -> tuple[Any, Any]:
    """The lower and upper bounds, each None or like the unknowns.

    Raises:
        ValueError: for a mask or bounds that do not fit the unknowns, are NaN, or cross.
    """
    lower, upper = bounds if bounds is not None else (None, None)
    for name, like in (("mask", mask), ("lower bounds", lower), ("upper bounds", upper)):
        _check_like(name, like, numbers)
    if lower is not None and upper is not None:
        crossed = jax.tree.map(lambda a, b: bool(np.any(np.asarray(a) > np.asarray(b))), lower, upper)
        if any(jax.tree.leaves(crossed)):
            raise ValueError("bounds must be (lower, upper), but somewhere the lower one is above the upper one.")
    return lower, upper


def _check_like(name: str, like: Any, unknowns: Any) -> None:
    """Raise a ValueError unless a mask or bound has the unknowns' structure, and leaves of their shape or numbers."""
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


def check_regularisation(regularisation: Any, model: Any) -> None:
    if regularisation is None:
        return
    if not callable(regularisation):
        raise ValueError(f"regularisation must be a function of the model, got {type(regularisation).__name__}.")
    try:
        hash(eqx.partition(regularisation, eqx.is_array)[1])
    except TypeError:
        raise ValueError(
            "regularisation must be hashable but for its arrays: make it an eqx.Module, or wrap it in a function."
        ) from None
    shape = jnp.shape(jax.eval_shape(regularisation, model))
    if shape != ():
        raise ValueError(f"regularisation must return a number, got shape {shape}.")
