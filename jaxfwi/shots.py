"""Many shots: modelling, and misfit with gradient, in batches inside one compiled program."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxfwi.equations.base import WaveEquation
from jaxfwi.simulator import Simulator, known, one_shot
from jaxfwi.survey import Survey

__all__ = ["misfit_and_gradient", "simulate"]


def simulate(simulator: Simulator, model: WaveEquation, survey: Survey, *, batch: int = 1) -> Array:
    """Model every shot of a survey.

    Args:
        simulator: grid, order, boundaries.
        model: an equation with its parameters.
        survey: the shots.
        batch: shots computed at once by `vmap`; the rest follow in sequence, so that memory follows the batch. On a CPU
            one is fastest.

    Returns:
        Data ``(shots, time, receivers, components)``.

    Raises:
        ValueError: for input that cannot be simulated.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=200)
    >>> survey = jf.Survey.fixed_spread(
    ...     source_x=[100.0, 200.0], source_z=50.0, receiver_x=[50.0, 250.0], receiver_z=50.0,
    ...     wavelet=jf.ricker(grid, frequency=15.0))
    >>> jf.simulate(jf.Simulator(grid), jf.Acoustic(vp=jnp.full(grid.shape, 1500.0)), survey).shape
    (2, 200, 2, 1)
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
    """Check what functions of many shots are given, and return the survey ready for them."""
    if survey.source.ndim != 3:
        raise ValueError(
            "survey has no shot axis: pass survey[i : i + 1] for one shot, or call simulator(model, survey[i])."
        )
    if batch != int(batch) or batch < 1:
        raise ValueError(f"batch must be a positive whole number of shots, got {batch}.")
    return simulator.admit(model, survey)


def check_observed(simulator: Simulator, model: WaveEquation, survey: Survey, observed: Any) -> None:
    """Raise a ValueError if observed data are not shaped like the data of the survey, or not finite."""
    components = len(simulator.fields(type(model))[1])
    expected = (len(survey), simulator.grid.nt, survey.receiver.shape[1], components)
    if jnp.shape(observed) != expected:
        raise ValueError(
            f"observed has shape {jnp.shape(observed)}, but this survey gives (shots, time, receivers, components) = "
            f"{expected}."
        )
    if known(observed) and not bool(jnp.all(jnp.isfinite(observed))):
        raise ValueError("observed has values that are not finite: mute or interpolate those traces.")


@functools.partial(jax.jit, static_argnums=(0, 3))
def _simulate(simulator: Simulator, model: WaveEquation, survey: Survey, batch: int) -> Array:
    batch_size = None if batch == 1 else min(batch, len(survey))
    return jax.lax.map(lambda shot: one_shot(simulator, model, shot), survey, batch_size=batch_size)


@functools.partial(jax.jit, static_argnums=(0, 1, 5))
def _misfit_and_gradient(simulator, misfit, model, survey, observed, batch):
    def of_shot(shot, observed):
        return jax.value_and_grad(lambda m: misfit(one_shot(simulator, m, shot), observed))(model)

    return sum_over_shots(of_shot, (survey, observed), batch)


def sum_over_shots(of_shot: Callable[..., Any], shots: tuple, batch: int) -> Any:
    """The sum over shots of ``of_shot(*shot)``, a PyTree; `batch` of them at once, so that memory follows the batch.

    Args:
        of_shot: function of one shot's survey and data.
        shots: the same with a leading shot axis on every leaf.
        batch: shots computed at once by `vmap`; a rest that does not fill a batch is computed at the end.
    """
    n = jax.tree.leaves(shots)[0].shape[0]
    batch = min(batch, n)
    whole = n - n % batch

    def of_batch(chunk):
        if batch == 1:
            return of_shot(*jax.tree.map(lambda x: x[0], chunk))
        return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.vmap(of_shot)(*chunk))

    def add(total, chunk):
        return jax.tree.map(jnp.add, total, of_batch(chunk)), None

    batches = jax.tree.map(lambda x: x[:whole].reshape(whole // batch, batch, *x.shape[1:]), shots)
    like = jax.eval_shape(of_shot, *jax.tree.map(lambda x: x[0], shots))
    total, _ = jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like), batches)
    return add(total, jax.tree.map(lambda x: x[whole:], shots))[0] if whole < n else total
