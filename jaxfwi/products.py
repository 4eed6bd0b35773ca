"""Second derivatives of the misfit, applied to a model perturbation: products with the Hessian and with its
Gauss-Newton part.

Both are sums over shots of forward-mode derivatives of what a gradient computes (Fichtner & Trampert 2011, Geophysical
Journal International 185, 775-798). With `BoundarySaving` they too keep memory at the boundary.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxfwi.equations.base import WaveEquation
from jaxfwi.layout import Aperture, Devices, Shots, deal
from jaxfwi.memory import FullStorage
from jaxfwi.shots import Misfit, OneShot, admit, check_misfit, check_observed, one_of, total
from jaxfwi.simulator import Simulator
from jaxfwi.survey import Survey

__all__ = ["gauss_newton_product", "hessian_product"]


def hessian_product(
    simulator: Simulator,
    misfit: Misfit,
    model: WaveEquation,
    survey: Survey,
    observed: Any,
    direction: WaveEquation,
    *,
    weights: Any = None,
    batch: int | None = None,
    devices: Devices = None,
    aperture: Aperture = None,
) -> Any:
    """The Hessian of the misfit at a model, times a perturbation of the model.

    Args:
        simulator, misfit, model, survey, observed, weights, batch, devices, aperture: as for
            `misfit_and_gradient`; one misfit for all parameters.
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
    options: dict[str, Any] = {"weights": weights, "batch": batch, "devices": devices, "aperture": aperture}
    return _product(HessianProduct, simulator, misfit, model, survey, observed, direction, **options)


def gauss_newton_product(
    simulator: Simulator,
    misfit: Misfit,
    model: WaveEquation,
    survey: Survey,
    observed: Any,
    direction: WaveEquation,
    *,
    weights: Any = None,
    batch: int | None = None,
    devices: Devices = None,
    aperture: Aperture = None,
) -> Any:
    """The Gauss-Newton Hessian at a model, times a perturbation: ``J^T W J d``.

    J is the derivative of the data and W the second derivative of the misfit by the data, the identity for
    `misfits.l2`. Positive semidefinite where the misfit is convex in the data.

    Args:
        simulator, misfit, model, survey, observed, direction, weights, batch, devices, aperture: as for
            `hessian_product`.

    Returns:
        The product, of the type of the model.

    Raises:
        ValueError: as `hessian_product`.
    """
    options: dict[str, Any] = {"weights": weights, "batch": batch, "devices": devices, "aperture": aperture}
    return _product(GaussNewtonProduct, simulator, misfit, model, survey, observed, direction, **options)


def _product(kind, simulator, misfit, model, survey, observed, direction, weights, **options) -> Any:
    survey = admit(simulator, model, survey)
    check_misfit(misfit)
    check_observed(simulator, model, survey, observed, weights)
    same_type = jax.tree.structure(direction) == jax.tree.structure(model)
    if not same_type or jax.tree.map(jnp.shape, direction) != jax.tree.map(jnp.shape, model):
        raise ValueError(f"direction must be shaped like the model, {model}, got {direction}.")
    direction = jax.tree.map(lambda d, m: jnp.asarray(d, jnp.result_type(m)), direction, model)
    shared = (model, direction)
    dealt = deal(simulator, shared, survey, observed, weights=weights, **options)
    return total(kind(one_of(simulator, model, dealt), misfit), dealt, shared, dealt.take())


@dataclass(frozen=True)
class HessianProduct:
    """Of one shot; of model and direction."""

    data_of: OneShot
    misfit: Misfit

    def __call__(self, shared: tuple[Any, Any], shot: Shots) -> Any:
        model, direction = shared
        gradient = jax.grad(lambda m: self.misfit(shot.compared(self.data_of(m, shot)), shot.compared(shot.observed)))
        return jax.jvp(gradient, (model,), (direction,))[1]


@dataclass(frozen=True)
class GaussNewtonProduct:
    """Of one shot; of model and direction."""

    data_of: OneShot
    misfit: Misfit

    def __call__(self, shared: tuple[Any, Any], shot: Shots) -> Any:
        model, direction = shared
        # forward mode stores nothing, so that a strategy would only be in its way
        forward = replace(self.data_of, simulator=replace(self.data_of.simulator, memory=FullStorage()))
        predicted, perturbed = jax.jvp(lambda m: shot.compared(forward(m, shot)), (model,), (direction,))
        slope = jax.grad(self.misfit)
        weighted = jax.jvp(lambda d: slope(d, shot.compared(shot.observed)), (predicted,), (perturbed,))[1]
        return jax.vjp(lambda m: shot.compared(self.data_of(m, shot)), model)[1](weighted)[0]
