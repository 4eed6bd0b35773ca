"""Many shots: modelling, and misfit with gradient, in batches inside one compiled program."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxfwi.equations.base import WaveEquation
from jaxfwi.simulator import Simulator, one_shot
from jaxfwi.survey import Survey

__all__ = ["misfit_and_gradient", "simulate"]


def simulate(simulator: Simulator, model: WaveEquation, survey: Survey, *, batch: int = 1) -> Array:
    """Model every shot of a survey.

    Args:
        simulator: grid, order, boundaries.
        model: an equation with its parameters.
        survey: the shots.
        batch: shots computed at once by `vmap`; the rest follow in sequence, so that memory follows the batch. On a CPU one is fastest.

    Returns:
        Data ``(shots, time, receivers, components)``.

    Raises:
        ValueError: for input that cannot be simulated.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=100)
    >>> survey = jf.Survey.fixed_spread(
    ...     source_x=[100.0, 200.0], source_z=50.0, receiver_x=[50.0, 250.0], receiver_z=50.0, wavelet=jf.ricker(grid, frequency=15.0))
    >>> jf.simulate(jf.Simulator(grid), jf.Acoustic(vp=jnp.full(grid.shape, 1500.0)), survey).shape
    (2, 100, 2, 1)
    """
    survey = admit(simulator, model, survey, batch)
    return _simulate(simulator, model, survey, batch)


def misfit_and_gradient(
    simulator: Simulator,
    misfit: Callable[[Array, Array], Array],
    model: WaveEquation,
    survey: Survey,
    observed: Array,
    *,
    batch: int = 1,
) -> tuple[Array, Any]:
    """The misfit of a model, summed over shots, and its gradient.

    Args:
        simulator: grid, order, boundaries, and by `memory` how the gradient is paid for.
        misfit: ``misfit(predicted, observed)`` of one shot's data, a scalar; as `misfits.l2`.
        model: an equation with its parameters.
        survey: the shots.
        observed: data ``(shots, time, receivers, components)``.
        batch: shots computed at once by `vmap`; the rest follow in sequence, the gradient accumulated.

    Returns:
        The misfit, and its gradient as a model of the same type.

    Raises:
        ValueError: for input that cannot be simulated, or observed data of another shape.
    """
    survey = admit(simulator, model, survey, batch)
    check_observed(simulator, model, survey, observed)
    return _misfit_and_gradient(simulator, misfit, model, survey, jnp.asarray(observed), batch)


def admit(simulator: Simulator, model: WaveEquation, survey: Survey, batch: int) -> Survey:
    """Check what `simulate` and `misfit_and_gradient` are given, and return the survey ready for them."""
    if survey.source.ndim != 3:
        raise ValueError(
            "survey has no shot axis: pass survey[i : i + 1] for one shot, or call simulator(model, survey[i])."
        )
    if batch != int(batch) or batch < 1:
        raise ValueError(f"batch must be a positive whole number of shots, got {batch}.")
    return simulator.admit(model, survey)


def check_observed(simulator: Simulator, model: WaveEquation, survey: Survey, observed: Array) -> None:
    """Raise a ValueError if observed data are not shaped like the data of the survey, or not finite."""
    components = len(simulator.fields(type(model))[1])
    expected = (len(survey), simulator.grid.nt, survey.receiver.shape[1], components)
    if jnp.shape(observed) != expected:
        raise ValueError(
            f"observed has shape {jnp.shape(observed)} but this survey gives (shots, time, receivers, components) = {expected}."
        )
    if not isinstance(observed, jax.core.Tracer) and not bool(jnp.all(jnp.isfinite(observed))):
        raise ValueError("observed has values that are not finite.")


@functools.partial(jax.jit, static_argnums=(0, 3))
def _simulate(simulator: Simulator, model: WaveEquation, survey: Survey, batch: int) -> Array:
    return jax.lax.map(lambda shot: one_shot(simulator, model, shot), survey, batch_size=_batch_size(batch, survey))


@functools.partial(jax.jit, static_argnums=(0, 1, 5))
def _misfit_and_gradient(simulator, misfit, model, survey, observed, batch):
    def of_shot(model, shot, observed):
        return misfit(one_shot(simulator, model, shot), observed)

    def of_shots(total, shots):
        survey, observed = shots
        value_and_gradient = jax.value_and_grad(lambda m: jnp.sum(jax.vmap(of_shot, (None, 0, 0))(m, survey, observed)))
        return jax.tree.map(jnp.add, total, value_and_gradient(model)), None

    total = jax.eval_shape(lambda: jax.value_and_grad(lambda m: of_shot(m, survey[0], observed[0]))(model))
    total = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), total)
    return scan_batches(of_shots, total, (survey, observed), batch)


def scan_batches(function: Callable, total: Any, shots: Any, batch: int) -> Any:
    """Fold `function` over whole batches of shots, then over the rest."""
    n = jax.tree.leaves(shots)[0].shape[0]
    batch = min(batch, n)
    whole = n - n % batch
    batches = jax.tree.map(lambda x: x[:whole].reshape(whole // batch, batch, *x.shape[1:]), shots)
    total, _ = jax.lax.scan(function, total, batches)
    return function(total, jax.tree.map(lambda x: x[whole:], shots))[0] if whole < n else total


def _batch_size(batch: int, survey: Survey) -> int | None:
    return None if batch == 1 else min(batch, len(survey))
