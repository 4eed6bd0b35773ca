"""Second derivatives of the misfit, applied to a model perturbation: products with the Hessian and with its
Gauss-Newton part, and an estimate of the latter's diagonal.

Products are sums over shots of forward-mode derivatives of what a gradient computes (Fichtner & Trampert 2011,
Geophysical Journal International 185, 775-798). With `BoundarySaving` they too keep memory at the boundary.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxfwi._checks import as_integer
from jaxfwi.equations.base import WaveEquation
from jaxfwi.grid.linear import varying_like
from jaxfwi.shots.layout import Aperture, Devices, Shots, deal
from jaxfwi.shots.programs import Misfit, OneShot, admit, check_misfit, check_observed, one_of, total
from jaxfwi.simulation.memory import FullStorage
from jaxfwi.simulation.simulator import Simulator
from jaxfwi.survey.survey import Survey

__all__ = ["gauss_newton_diagonal", "gauss_newton_product", "hessian_product"]

Filter = Callable[[Array, float], Array]


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


def gauss_newton_diagonal(
    simulator: Simulator,
    model: WaveEquation,
    survey: Survey,
    key: Array,
    *,
    samples: int = 1,
    filter: Filter | None = None,
    batch: int | None = None,
    devices: Devices = None,
    aperture: Aperture = None,
) -> Any:
    """An estimate of the diagonal of the Gauss-Newton Hessian ``J^T J`` of `misfits.l2`: how well sources and receivers
    together illuminate each cell, whichever the equation. For `optimise.precondition`.

    The mean of ``(J^T z)^2`` over random data z of signs, independent for each shot, summed over shots: the expectation
    is the diagonal (after Bekas, Kokiopoulou & Saad 2007, Applied Numerical Mathematics 57, 1214-1229). A shot is
    modelled once, and each sample costs the backward half of a gradient.

    The standard deviation of an estimate is ``sqrt(2 / (samples * shots))`` of it where all shots count alike, and
    ``sqrt(2 / samples)`` at most; errors change within a wavelength, so that smoothing helps. As a preconditioner it
    takes the place of the pseudo-Hessian, which knows the sources only (Shin, Jang & Min 2001, Geophysical Prospecting
    49, 592-606).

    Args:
        simulator, model, survey, batch, devices, aperture: as for `misfit_and_gradient`.
        key: of `jax.random`, as ``jax.random.key(0)``; the same one gives the same estimate.
        samples: random data for each shot.
        filter: ``filter(data, dt)`` of one shot's data ``(time, receivers, components)``, a linear function as
            `Butterworth`: the diagonal is that of filtered data then. Pass the same or an equal one each time.

    Returns:
        The diagonal, of the type of the model, in units of the misfit per parameter squared; 0 or more.

    Raises:
        ValueError: as `misfit_and_gradient`, and for samples or a key that cannot be.

    >>> import jax, jax.numpy as jnp, jaxfwi as jf
    >>> from jaxfwi.shots.products import gauss_newton_diagonal
    >>> grid = jf.Grid(shape=(20, 20), spacing=10.0, dt=1e-3, nt=200)
    >>> survey = jf.Survey.from_arrays([[50.0, 50.0]], [[50.0, 150.0]], jf.ricker(grid, frequency=15.0))
    >>> simulator, model = jf.Simulator(grid), jf.Acoustic(vp=jnp.full(grid.shape, 1500.0))
    >>> light = gauss_newton_diagonal(simulator, model, survey, jax.random.key(0), samples=2)
    >>> light.vp.shape, bool((light.vp >= 0).all())
    ((20, 20), True)
    """
    survey = admit(simulator, model, survey)
    samples = as_integer("samples", samples, 1)
    if filter is not None and not callable(filter):
        raise ValueError(f"filter must be a function of data and their time step, got {type(filter).__name__}.")
    try:
        hash(filter)
        words = jax.random.key_data(jax.random.split(key, len(survey)))
        kind = str(jax.random.key_impl(key))
    except TypeError:
        raise ValueError(
            f"key must be one key of jax.random, as jax.random.key(0), and filter hashable, got {key!r} and {filter!r}."
        ) from None
    dealt = deal(simulator, model, survey, words, batch=batch, devices=devices, aperture=aperture)
    return total(_Diagonal(one_of(simulator, model, dealt), filter, samples, kind), dealt, model, dealt.take())


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


@dataclass(frozen=True)
class _Diagonal:
    """Of one shot, whose observed data are the words of a key."""

    data_of: OneShot
    filter: Filter | None
    samples: int
    kind: str

    def __call__(self, model: Any, shot: Shots) -> Any:
        def filtered(model):
            data = self.data_of(model, shot)
            return data if self.filter is None else self.filter(data, self.data_of.simulator.grid.dt)

        data, pull = jax.vjp(filtered, model)

        def add(sum_so_far, key):
            signs = shot.survey.masked(jax.random.rademacher(key, data.shape, data.dtype))
            return jax.tree.map(lambda s, g: s + g**2, sum_so_far, pull(signs)[0]), None

        keys = jax.random.split(jax.random.wrap_key_data(shot.observed, impl=self.kind), self.samples)
        nothing = varying_like(jax.tree.map(jnp.zeros_like, model), (model, shot))
        squares, _ = lax.scan(add, nothing, keys)
        return jax.tree.map(lambda x: x / self.samples, squares)
