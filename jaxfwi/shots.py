"""Many shots: modelling, and misfit with gradient, in batches inside one compiled program."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from jaxfwi.checks import known, whole
from jaxfwi.equations.base import WaveEquation
from jaxfwi.linear import zero_of
from jaxfwi.simulator import Simulator, one_shot
from jaxfwi.survey import Survey

__all__ = ["misfit_and_gradient", "simulate"]

Devices = Sequence[jax.Device] | None


def simulate(
    simulator: Simulator, model: WaveEquation, survey: Survey, *, batch: int = 1, devices: Devices = None
) -> Array:
    """Model every shot of a survey.

    Args:
        simulator: grid, order, boundaries.
        model: an equation with its parameters.
        survey: the shots.
        batch: shots computed at once by `vmap`; the rest follow in sequence, so that memory follows the batch. On a CPU
            one is fastest. The gradient of a function of all data remembers every shot, that of `misfit_and_gradient`
            does not.
        devices: to share the shots among, as ``jax.devices()``; by default the default device alone. The data do not
            depend on it.

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
    survey = admit(simulator, model, survey)
    return _simulate(simulator, model, survey, whole("batch", batch, 1), static(devices))


def misfit_and_gradient(
    simulator: Simulator,
    misfit: Callable[[Array, Array], Array],
    model: WaveEquation,
    survey: Survey,
    observed: Array,
    *,
    batch: int = 1,
    devices: Devices = None,
) -> tuple[Array, Any]:
    """The misfit of a model, summed over shots, and its gradient.

    Args:
        simulator: grid, order, boundaries, and by `memory` how the gradient is paid for.
        misfit: ``misfit(predicted, observed)`` of one shot's data, a scalar; as `misfits.l2`. Pass the same function
            object each time: a new one compiles a new program.
        model: an equation with its parameters.
        survey: the shots.
        observed: data ``(shots, time, receivers, components)``; what stands in padded traces does not matter.
        batch: shots computed at once by `vmap`; the rest follow in sequence, the gradient accumulated.
        devices: to share the shots among, as for `simulate`.

    Returns:
        The misfit, and its gradient as a model of the same type.

    Raises:
        ValueError: for input that cannot be simulated, or observed data of another shape.
    """
    survey = admit(simulator, model, survey)
    check_observed(simulator, model, survey, observed, misfit)
    batch, devices = whole("batch", batch, 1), static(devices)
    return _misfit_and_gradient(simulator, misfit, model, survey, jnp.asarray(observed), batch, devices)


def admit(simulator: Simulator, model: WaveEquation, survey: Survey) -> Survey:
    """Check what functions of many shots are given, and return the survey ready for them."""
    if isinstance(survey, Survey) and np.ndim(survey.source) == 2:
        raise ValueError(
            "survey has no shot axis: pass survey[i : i + 1] for one shot, or call simulator(model, survey[i])."
        )
    survey = simulator.admit(model, survey)
    if not len(survey):
        raise ValueError("survey has no shots.")
    return survey


def static(devices: Devices) -> tuple | None:
    """Devices as an argument that a program is compiled for."""
    if devices is None:
        return None
    if not isinstance(devices, list | tuple) or not devices or not all(isinstance(d, jax.Device) for d in devices):
        raise ValueError(f"devices must be a list of jax devices, as jax.devices(), got {devices!r}.")
    if len(set(devices)) < len(devices):
        raise ValueError(f"devices must differ, got {devices}.")
    return tuple(devices)


def check_observed(simulator: Simulator, model: WaveEquation, survey: Survey, observed: Any, misfit: Any) -> None:
    """Raise a ValueError if observed data are not finite or not of the survey's shape, or a misfit is no function."""
    if not callable(misfit):
        raise ValueError(f"misfit must be a function of predicted and observed data, got {type(misfit).__name__}.")
    components = len(simulator.fields(type(model))[1])
    expected = (len(survey), simulator.grid.nt, survey.receiver.shape[1], components)
    if jnp.shape(observed) != expected:
        raise ValueError(
            f"observed has shape {jnp.shape(observed)}, but this survey gives (shots, time, receivers, components) = "
            f"{expected}."
        )
    if known(observed, survey.receiver_mask) and not np.isfinite(survey.masked(np.asarray(observed))).all():
        raise ValueError("observed has values that are not finite: mute or interpolate those traces.")


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _simulate(simulator: Simulator, model: WaveEquation, survey: Survey, batch: int, devices: Devices) -> Array:
    def of_shots(model, survey):
        batch_size = None if batch == 1 else min(batch, len(survey))
        return jax.lax.map(lambda shot: one_shot(simulator, model, shot), survey, batch_size=batch_size)

    if devices is None:
        return of_shots(model, survey)
    padded = _pad_shots(survey, len(devices))
    return _on_devices(of_shots, devices, shared=False)(model, padded)[: len(survey)]


@functools.partial(jax.jit, static_argnums=(0, 1, 5, 6))
def _misfit_and_gradient(simulator, misfit, model, survey, observed, batch, devices):
    def of_shot(model, shot, observed):
        return jax.value_and_grad(lambda m: misfit(one_shot(simulator, m, shot), shot.masked(observed)))(model)

    return sum_over_shots(of_shot, model, (survey, observed), batch, devices)


def sum_over_shots(of_shot: Callable[..., Any], model: Any, shots: tuple, batch: int, devices: Devices = None) -> Any:
    """The sum over shots of ``of_shot(model, *shot)``, a PyTree; `batch` of them at once.

    Args:
        of_shot: function of a PyTree that all shots share, and of one shot's survey and data.
        model: what all shots share.
        shots: survey and data with a leading shot axis on every leaf.
        batch: shots computed at once by `vmap`; a rest that does not fill a batch is computed at the end.
        devices: to share the shots among.
    """
    if devices is None:
        return _sum(of_shot, model, shots, batch)
    counts = jnp.arange(len(shots[0])) >= 0  # True for a shot, False for what fills the last device
    counts = jnp.pad(counts, (0, -len(counts) % len(devices)))

    def if_it_counts(model, counts, *shot):
        return jax.tree.map(lambda x: jnp.where(counts, x, 0), of_shot(model, *shot))

    def on_one(model, shots):
        return jax.tree.map(lambda x: jax.lax.psum(x, "shots"), _sum(if_it_counts, model, shots, batch))

    return _on_devices(on_one, devices, shared=True)(model, (counts, *_pad_shots(shots, len(devices))))


def _on_devices(function: Callable[[Any, Any], Any], devices: Sequence, shared: bool) -> Callable[[Any, Any], Any]:
    """``function(model, shots)`` on every device's share of the shots; its result shared by all or split alike."""
    axis = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((len(devices),), ("shots",), axis_types=(axis,), devices=devices)
    split = PartitionSpec("shots")
    out = PartitionSpec() if shared else split
    return jax.shard_map(function, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=out, check_vma=False)


def _pad_shots(shots: Any, devices: int) -> Any:
    """Copies of the first shot added, until every device has as many."""
    n = jax.tree.leaves(shots)[0].shape[0]
    extra = jnp.zeros(-n % devices, int)
    return jax.tree.map(lambda x: jnp.concatenate([x, x[extra]]), shots)


def _sum(of_shot: Callable[..., Any], model: Any, shots: tuple, batch: int) -> Any:
    """The sum over shots on one device."""
    n = jax.tree.leaves(shots)[0].shape[0]
    batch = min(batch, n)
    whole = n - n % batch

    def of_batch(chunk):
        if batch == 1:
            return of_shot(model, *jax.tree.map(lambda x: x[0], chunk))
        several = jax.vmap(of_shot, in_axes=(None, *[0] * len(chunk)))(model, *chunk)
        return jax.tree.map(lambda x: jnp.sum(x, axis=0), several)

    def add(total, chunk):
        return jax.tree.map(jnp.add, total, of_batch(chunk)), None

    batches = jax.tree.map(lambda x: x[:whole].reshape(whole // batch, batch, *x.shape[1:]), shots)
    like = jax.eval_shape(of_shot, model, *jax.tree.map(lambda x: x[0], shots))
    zero = zero_of((model, shots))
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype) + zero.astype(x.dtype), like)
    total, _ = jax.lax.scan(add, nothing, batches)
    return add(total, jax.tree.map(lambda x: x[whole:], shots))[0] if whole < n else total
