"""Second derivatives of the misfit, applied to a model perturbation: products with the Hessian and with its
Gauss-Newton part.

Both are sums over shots of forward-mode derivatives of what a gradient computes (Fichtner & Trampert 2011, Geophysical
Journal International 185, 775-798). With `BoundarySaving` they too keep memory at the boundary.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxfwi.checks import whole
from jaxfwi.equations.base import WaveEquation
from jaxfwi.memory import FullStorage
from jaxfwi.shots import Devices, admit, check_observed, static, sum_over_shots
from jaxfwi.simulator import Simulator, one_shot
from jaxfwi.survey import Survey

__all__ = ["gauss_newton_product", "hessian_product"]

Misfit = Callable[[Array, Array], Array]


def hessian_product(
    simulator: Simulator,
    misfit: Misfit,
    model: WaveEquation,
    survey: Survey,
    observed: Array,
    direction: WaveEquation,
    *,
    batch: int = 1,
    devices: Devices = None,
) -> Any:
    """The Hessian of the misfit at a model, times a perturbation of the model.

    Args:
        simulator, misfit, model, survey, observed, batch, devices: as for `misfit_and_gradient`.
        direction: the perturbation, of the type and shape of the model.

    Returns:
        The product, of the type of the model.

    Raises:
        ValueError: as `misfit_and_gradient`, and for a direction of another shape.

    >>> import jax, jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 20), spacing=10.0, dt=1e-3, nt=200)
    >>> survey = jf.Survey.from_arrays([[50.0, 50.0]], [[50.0, 150.0]], jf.ricker(grid, frequency=15.0))
    >>> simulator, model = jf.Simulator(grid), jf.Acoustic(vp=jnp.full(grid.shape, 1500.0))
    >>> observed = jnp.zeros((1, 200, 1, 1))
    >>> jf.hessian_product(simulator, jf.misfits.l2, model, survey, observed, direction=model).vp.shape
    (20, 20)
    """
    survey = _admit(simulator, misfit, model, survey, observed, direction)
    batch, devices = whole("batch", batch, 1), static(devices)
    return _hessian_product(simulator, misfit, model, survey, jnp.asarray(observed), direction, batch, devices)


def gauss_newton_product(
    simulator: Simulator,
    misfit: Misfit,
    model: WaveEquation,
    survey: Survey,
    observed: Array,
    direction: WaveEquation,
    *,
    batch: int = 1,
    devices: Devices = None,
) -> Any:
    """The Gauss-Newton Hessian at a model, times a perturbation: ``J^T W J d``.

    J is the derivative of the data and W the second derivative of the misfit by the data, the identity for
    `misfits.l2`. Positive semidefinite where the misfit is convex in the data.

    Args:
        simulator, misfit, model, survey, observed, direction, batch, devices: as for `hessian_product`.

    Returns:
        The product, of the type of the model.

    Raises:
        ValueError: as `hessian_product`.
    """
    survey = _admit(simulator, misfit, model, survey, observed, direction)
    batch, devices = whole("batch", batch, 1), static(devices)
    return _gauss_newton_product(simulator, misfit, model, survey, jnp.asarray(observed), direction, batch, devices)


def _admit(simulator, misfit, model, survey, observed, direction) -> Survey:
    survey = admit(simulator, model, survey)
    check_observed(simulator, model, survey, observed, misfit)
    same_type = jax.tree.structure(direction) == jax.tree.structure(model)
    if not same_type or jax.tree.map(jnp.shape, direction) != jax.tree.map(jnp.shape, model):
        raise ValueError(f"direction must be shaped like the model, {model}, got {direction}.")
    return survey


@functools.partial(jax.jit, static_argnums=(0, 1, 6, 7))
def _hessian_product(simulator, misfit, model, survey, observed, direction, batch, devices):
    def of_shot(model, shot, observed):
        gradient = jax.grad(lambda m: misfit(one_shot(simulator, m, shot), shot.masked(observed)))
        return jax.jvp(gradient, (model,), (direction,))[1]

    return sum_over_shots(of_shot, model, (survey, observed), batch, devices)


@functools.partial(jax.jit, static_argnums=(0, 1, 6, 7))
def _gauss_newton_product(simulator, misfit, model, survey, observed, direction, batch, devices):
    def of_shot(model, shot, observed):
        def data(m, simulator=simulator):
            return one_shot(simulator, m, shot)

        # forward mode stores nothing, so that a strategy would only be in its way
        forward = functools.partial(data, simulator=replace(simulator, memory=FullStorage()))
        predicted, perturbed = jax.jvp(forward, (model,), (direction,))
        weighted = jax.jvp(lambda d: jax.grad(misfit)(d, shot.masked(observed)), (predicted,), (perturbed,))[1]
        return jax.vjp(data, model)[1](weighted)[0]

    return sum_over_shots(of_shot, model, (survey, observed), batch, devices)
