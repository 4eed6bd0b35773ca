"""Many shots: modelling, and misfit with gradient, in batches inside one compiled program."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from jaxfwi._checks import is_concrete
from jaxfwi._compiler import with_options
from jaxfwi.equations.base import WaveEquation
from jaxfwi.grid.blocks import Split
from jaxfwi.grid.linear import varying_zero
from jaxfwi.shots import budget
from jaxfwi.shots.aperture import cut
from jaxfwi.shots.layout import Aperture, Deal, Devices, Layout, Shots, check_finite, deal, is_array
from jaxfwi.simulation.simulator import Simulator, coefficients_of, one_shot, share_of_shot
from jaxfwi.survey.survey import Survey

__all__ = ["estimate_memory", "misfit_and_gradient", "simulate"]

Misfit = Callable[[Array, Array], Array]


def simulate(
    simulator: Simulator,
    model: WaveEquation,
    survey: Survey,
    *,
    batch: int | None = None,
    devices: Devices = None,
    aperture: Aperture = None,
    domains: int | Sequence[int] = 1,
) -> Array:
    """Model every shot of a survey.

    `batch`, `devices`, `aperture` and `domains` change time and memory, and the data by rounding only (an aperture by
    what it leaves out); `docs/shots.md` tells how to choose them.

    Args:
        simulator: grid, order, boundaries.
        model: an equation with its parameters.
        survey: the shots.
        batch: shots computed at once on a device by `vmap`; the rest follow in sequence, so that memory follows the
            batch. By default one on a CPU, and on other devices as many as fit, by the compiled program's own figures
            (one inside a `jit` or `grad` of yours, where these are not at hand). The gradient of a function of all data
            remembers every shot, that of `misfit_and_gradient` does not.
        devices: to share the shots among: a list, as ``jax.devices()``, or how many of this process. By default all of
            this process, and of a processor that is one device to jax all cores, a shot on each; that device alone
            where jax's default device is set, or the model was put on one. Inside a `jit` or `grad` of yours, where it
            computes without.
        aperture: metres of model around each shot's sources and receivers, on either side along the horizontal axes,
            one number or one per axis: each shot is computed on that window alone. By default on the whole model.
        domains: devices that share the grid of each shot, for a model too large for one: the grid is cut along its last
            axis, or as one number per axis says. Devices must be a multiple of it; each row of them computes a shot.

    Returns:
        Data ``(shots, time, receivers, components)``.

    Raises:
        ValueError: for input that cannot be simulated, or devices of several hosts.
        MemoryError: before anything is computed, if it cannot fit.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=200)
    >>> survey = jf.Survey.fixed_spread(
    ...     source_x=[100.0, 200.0], source_z=50.0, receiver_x=[50.0, 250.0], receiver_z=50.0,
    ...     wavelet=jf.ricker(grid, frequency=15.0))
    >>> jf.simulate(jf.Simulator(grid), jf.Acoustic(vp=jnp.full(grid.shape, 1500.0)), survey).shape
    (2, 200, 2, 1)
    """
    survey = admit(simulator, model, survey)
    dealt = deal(simulator, model, survey, batch=batch, devices=devices, aperture=aperture, domains=domains)
    mesh = dealt.layout.mesh
    if mesh is not None and mesh.is_multi_process:
        raise ValueError(
            "devices belong to several hosts, but each models its own shots: call simulate(simulator, model, "
            "survey[jaxfwi.hosts.share(len(survey))]) without devices."
        )
    data = run(modelled, one_of(simulator, model, dealt), dealt, model, dealt.take(), _joined)
    return data[: len(survey)]


def misfit_and_gradient(
    simulator: Simulator,
    misfit: Misfit,
    model: WaveEquation,
    survey: Survey,
    observed: Any,
    *,
    weights: Any = None,
    batch: int | None = None,
    devices: Devices = None,
    aperture: Aperture = None,
    domains: int | Sequence[int] = 1,
) -> tuple[Array, Any]:
    """The misfit of a model, summed over shots, and its gradient.

    Args:
        simulator: grid, order, boundaries, and by `memory` how the gradient is paid for.
        misfit: ``misfit(predicted, observed)`` of one shot's data, a scalar; as `misfits.l2`. Pass the same function
            object each time: a new one compiles a new program. Or, like the model, a misfit for each parameter, as
            ``jf.Elastic(vp=jf.misfits.l2, vs=jf.misfits.envelope, rho=jf.misfits.l2)``: each parameter's gradient is
            then of its own misfit, and the value is the sum of those that differ.
        model: an equation with its parameters.
        survey: the shots.
        observed: data ``(shots, time, receivers, components)``, an array or what is indexed like one, as a file mapped
            by ``numpy.load(name, mmap_mode="r")``; what stands in padded traces does not matter.
        weights: by which both data are multiplied before the misfit sees them, broadcast against `observed` but with
            all shots: mutes, traces left out, offsets weighed. By default none.
        batch, devices, aperture, domains: as for `simulate`; devices may be those of several hosts, which must all make
            this same call: each then reads only its own part of the observed data.

    Returns:
        The misfit, and its gradient as a model of the same type.

    Raises:
        ValueError: for input that cannot be simulated, or observed data of another shape.
        MemoryError: before anything is computed, if it cannot fit.
    """
    survey = admit(simulator, model, survey)
    check_observed(simulator, model, survey, observed, weights)
    options: dict[str, Any] = {"batch": batch, "devices": devices, "aperture": aperture, "domains": domains}
    dealt = deal(simulator, model, survey, observed, weights=weights, **options)
    return total(gradient_of(misfit, simulator, model, dealt), dealt, model, dealt.take())


def estimate_memory(
    simulator: Simulator,
    model: WaveEquation,
    survey: Survey,
    misfit: Misfit | None = None,
    *,
    batch: int | None = None,
    devices: Devices = None,
    aperture: Aperture = None,
    domains: int | Sequence[int] = 1,
) -> "budget.Memory":
    """The memory that a call of `simulate` or `misfit_and_gradient` takes on each device, as compiled: nothing is
    computed, but the compilation is, and serves the call that follows.

    Args:
        simulator, model, survey: as for `simulate`.
        misfit: to ask about `misfit_and_gradient`; None to ask about `simulate`.
        batch, devices, aperture, domains: as for `simulate`.

    Returns:
        How many bytes on a device are ``arguments`` (model, shots and data), ``working`` space and ``result``, and
        their ``total``; on a processor that computes a shot on each core, of all together.

    Raises:
        ValueError: for input that cannot be simulated.

    >>> import jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=200)
    >>> survey = jf.Survey.from_arrays([[50.0, 50.0]], [[50.0, 150.0]], jf.ricker(grid, frequency=15.0))
    >>> model = jf.Acoustic(vp=jnp.full(grid.shape, 1500.0))
    >>> memory = jf.estimate_memory(jf.Simulator(grid), model, survey, jf.misfits.l2)
    >>> memory.working > 4 * 200 * 2 * (20 + 30)  # the ring of every step is part of it
    True
    """
    survey = admit(simulator, model, survey)
    dealt = deal(simulator, model, survey, batch=batch, devices=devices, aperture=aperture, domains=domains)
    if dealt.traced:
        raise ValueError("estimate_memory needs to know its arguments: call it outside of jit, grad and vmap.")
    program, of_shot = modelled, one_of(simulator, model, dealt)
    shots = dealt.take()[0]
    if misfit is not None:
        program, of_shot = in_one_program, gradient_of(misfit, simulator, model, dealt)
        samples = (survey.receiver.shape[1], len(simulator.fields(type(model))[1]))
        shape, dtype = (len(shots.survey), simulator.grid.nt, *samples), jnp.result_type(*jax.tree.leaves(model))
        there = None if dealt.layout.mesh is None else shots.survey.wavelet.sharding
        shots = shots._replace(observed=jax.ShapeDtypeStruct(shape, dtype, sharding=there))
    one = budget.of(_compiled(program, of_shot, dealt, dealt.place(model), shots)[1])
    return budget.Memory(*(dealt.cores * size for size in one))


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


def check_observed(simulator: Simulator, model: WaveEquation, survey: Survey, observed: Any, weights: Any) -> None:
    """Raise a ValueError if observed data or their weights are not finite or not of the survey's shape."""
    components = len(simulator.fields(type(model))[1])
    expected = (len(survey), simulator.grid.nt, survey.receiver.shape[1], components)
    if not hasattr(observed, "shape"):
        raise ValueError(f"observed must be an array or be indexed like one, got {type(observed).__name__}.")
    shape = tuple(observed.shape)
    if shape != expected:
        raise ValueError(
            f"observed has shape {shape}, but this survey gives (shots, time, receivers, components) = {expected}."
        )
    if is_concrete(observed, survey.receiver_mask) and is_array(observed):
        check_finite(survey.masked(observed))
    if weights is None:
        return
    shape = tuple(np.shape(weights))
    if len(shape) != 4 or shape[0] != len(survey) or any(n not in (1, m) for n, m in zip(shape, expected, strict=True)):
        raise ValueError(f"weights must be {expected}, with 1 for an axis but the first that all share, got {shape}.")
    if is_concrete(weights) and is_array(weights) and not np.isfinite(np.asarray(weights)).all():
        raise ValueError("weights has values that are not finite: 0 leaves a sample out.")


@dataclass(frozen=True)
class OneShot:
    """The data of a shot ``(time, receivers, components)`` as a function of what `prepared` makes of a model, and of
    the shot.

    Args:
        simulator: as given.
        equation: type of the model.
        window: cells around the shot; None for all.
        split: how its grid is cut over devices.
    """

    simulator: Simulator
    equation: type[WaveEquation]
    window: tuple[int, ...] | None = None
    split: Split | None = None

    def prepared(self, model: Any) -> Any:
        """The model, or where grids are split its coefficients, of which each device gets its block."""
        return model if self.split is None else coefficients_of(self.simulator, model, self.split)

    def share(self, prepared: Any, shot: Shots) -> Array:
        """What this device contributes to the data: all, unless grids are split."""
        if self.split is not None:
            return share_of_shot(self.simulator, self.equation, prepared, shot.survey, self.split)
        if self.window is not None:
            return one_shot(*cut(self.simulator, prepared, shot.survey, shot.corner, self.window))
        return one_shot(self.simulator, prepared, shot.survey)

    def whole(self, share: Array) -> Array:
        """The data, of all devices' shares."""
        return share if self.split is None else self.split.total(share)

    def __call__(self, prepared: Any, shot: Shots) -> Array:
        return self.whole(self.share(prepared, shot))


def one_of(simulator: Simulator, model: WaveEquation, dealt: Deal) -> OneShot:
    """A shot as it is dealt out."""
    return OneShot(simulator, type(model), dealt.window, dealt.layout.split)


@dataclass(frozen=True)
class Gradient:
    """The misfit of a shot and its gradient.

    Args:
        data_of: the data.
        misfits: one, or several of which the value is the sum.
        of_leaf: which of several misfits each of the model's leaves is differentiated in.
    """

    data_of: OneShot
    misfits: tuple[Misfit, ...]
    of_leaf: tuple[int, ...] = ()

    def __call__(self, prepared: Any, shot: Shots) -> tuple[Array, Any]:
        # The sum over the devices that share a grid is left out of the derivative: with respect to what it is given,
        # each device's share has a derivative of its own.
        share, pull = jax.vjp(lambda p: self.data_of.share(p, shot), prepared)
        predicted, observed = self.data_of.whole(share), shot.compared(shot.observed)
        values, slopes = zip(
            *(jax.value_and_grad(self._number)(predicted, observed, misfit, shot) for misfit in self.misfits),
            strict=True,
        )
        gradients = [pull(slope)[0] for slope in slopes]
        if len(gradients) == 1:
            return values[0], gradients[0]
        leaves, structure = zip(*map(jax.tree.flatten, gradients), strict=True)
        chosen = [leaves[which][leaf] for leaf, which in enumerate(self.of_leaf)]
        return functools.reduce(jnp.add, values), jax.tree.unflatten(structure[0], chosen)

    def _number(self, predicted: Array, observed: Array, misfit: Misfit, shot: Shots) -> Array:
        value = misfit(shot.compared(predicted), observed)
        if jnp.shape(value) != ():
            raise ValueError(f"misfit must return a number for one shot's data, got shape {jnp.shape(value)}.")
        return value


def gradient_of(misfit: Any, simulator: Simulator, model: WaveEquation, dealt: Deal) -> Gradient:
    """The gradient of a shot as it is dealt out, by a misfit or, like the model, one for each parameter.

    Raises:
        ValueError: for what is no misfit.
    """
    each = jax.tree.leaves(misfit) if isinstance(misfit, type(model)) else [misfit]
    for one in each:
        check_misfit(one)
    if isinstance(misfit, type(model)) and len(each) != len(jax.tree.leaves(model)):
        raise ValueError(f"misfit must have a function for each parameter of {type(model).__name__}, got {misfit}.")
    distinct = tuple(dict.fromkeys(each))
    if len(distinct) > 1 and dealt.layout.split is not None:
        raise ValueError("domains cut a model that all parameters share: give one misfit, or leave domains out.")
    of_leaf = tuple(distinct.index(one) for one in each) if len(distinct) > 1 else ()
    return Gradient(one_of(simulator, model, dealt), distinct, of_leaf)


def check_misfit(misfit: Any) -> None:
    """Raise a ValueError if a misfit is no function that programs can be compiled for."""
    if not callable(misfit):
        raise ValueError(f"misfit must be a function of predicted and observed data, got {type(misfit).__name__}.")
    try:
        hash(misfit)
    except TypeError:
        raise ValueError(
            "misfit must be hashable: wrap what holds arrays in a function, and pass that each time."
        ) from None


def total(of_shot: Callable[[Any, Shots], Any], dealt: Deal, shared: Any, parts: list[Shots]) -> Any:
    """The sum over shots of ``of_shot(shared, shot)``, a PyTree; `shared` is a model, or a PyTree of several."""
    return run(in_one_program, of_shot, dealt, shared, parts, lambda sums: functools.reduce(_add, sums))


def run(
    program: Any, of_shot: Any, dealt: Deal, shared: Any, parts: list[Shots], together: Callable[[list], Any]
) -> Any:
    """What `program` makes of the parts that shots were dealt out in; `together` puts their results together."""
    if dealt.traced:
        return program(of_shot, dealt.layout, shared, parts[0])
    shared, layout = dealt.place(shared), dealt.layout
    if _debugging():
        return together([program(of_shot, layout, shared, part) for part in parts])
    layout, compiled = _compiled(program, of_shot, dealt, shared, parts[0])
    at_once = budget.fitting(budget.of(compiled), dealt.device, dealt.side_by_side)
    try:
        if len(parts) == 1:
            results = [compiled(shared, parts[0])]
        else:
            # A program of jax runs on the core of the thread that calls it, whatever else runs on the same device. It
            # must be compiled before: settings of jax by `with` belong to the thread that made them.
            with ThreadPoolExecutor(at_once) as threads:
                results = list(threads.map(lambda part: jax.block_until_ready(compiled(shared, part)), parts))
    except TypeError:
        # The misfit closes over values that are differentiated or mapped, for which `compiled` has no place; what runs
        # then is a part of their program, and has no options.
        results = [program(of_shot, layout, shared, part) for part in parts]
    return together(results)


def _debugging() -> bool:
    """Whether jax is told to run step by step, or to look for the step that makes a NaN, which compiled programs do
    not.
    """
    config: Any = jax.config
    return config.jax_disable_jit or config.jax_debug_nans or config.jax_debug_infs


def _compiled(program: Any, of_shot: Any, dealt: Deal, shared: Any, shots: Shots) -> tuple[Layout, Any]:
    """The layout with its batch chosen, and the program for a core's share of the shots. jax keeps what it compiles."""

    alone = with_options(program, (0, 1), dealt.device)

    def with_batch(batch):
        layout = replace(dealt.layout, batch=batch)
        return layout, alone.lower(of_shot, layout, shared, shots).compile()

    if dealt.layout.batch is not None:
        return with_batch(dealt.layout.batch)
    most = len(shots.survey) // dealt.layout.shares
    return with_batch(budget.largest_batch(lambda batch: budget.of(with_batch(batch)[1]), most, dealt.device))


@functools.partial(jax.jit, static_argnums=(0, 1))
def modelled(data_of: OneShot, layout: Layout, model: Any, shots: Shots) -> Array:
    """The data of all shots as a part of a larger program."""

    def of_shots(prepared, shots):
        batch = None if layout.batch in (None, 1) else min(layout.batch, len(shots.survey))
        return jax.lax.map(lambda shot: data_of(prepared, shot), shots, batch_size=batch)

    return _on_devices(of_shots, layout, PartitionSpec("shots"))(data_of.prepared(model), shots)


@functools.partial(jax.jit, static_argnums=(0, 1))
def in_one_program(of_shot: Callable[[Any, Shots], Any], layout: Layout, shared: Any, shots: Shots) -> Any:
    """The sum over shots as a part of a larger program."""

    def of_shots(shared, shots):
        out = _sum_on_one(of_shot, layout.batch, shared, shots)
        return out if layout.mesh is None else jax.tree.map(lambda x: jax.lax.psum(x, "shots"), out)

    if layout.split is None:
        return _on_devices(of_shots, layout, PartitionSpec())(shared, shots)
    if not isinstance(of_shot, Gradient):
        raise ValueError("domains serve gradients only: leave them out for products with second derivatives.")
    coefficients, pull = jax.vjp(of_shot.data_of.prepared, shared)
    value, slope = _on_devices(of_shots, layout, (PartitionSpec(), layout.split.spec))(coefficients, shots)
    return value, pull(slope)[0]


def _on_devices(function: Callable[[Any, Shots], Any], layout: Layout, out: Any) -> Callable[[Any, Shots], Any]:
    """``function(shared, shots)`` on every device's share of the shots; `out` says how its result lies on them."""
    if layout.mesh is None:
        return function
    shared = PartitionSpec() if layout.split is None else layout.split.spec
    specs = {"in_specs": (shared, PartitionSpec("shots")), "out_specs": out}
    return jax.shard_map(function, mesh=layout.mesh, **specs, check_vma=False)


def _sum_on_one(of_shot: Callable[[Any, Shots], Any], batch: int | None, shared: Any, shots: Shots) -> Any:
    """The sum over shots on one device, `batch` at once; a rest that does not fill a batch comes at the end."""
    n = len(shots.survey)
    batch = min(batch or 1, n)
    whole = n - n % batch

    def of_one(shot):
        out = of_shot(shared, shot)
        return out if shot.counts is None else jax.tree.map(lambda x: jnp.where(shot.counts, x, 0), out)

    def of_batch(some):
        if batch == 1:
            return of_one(_row(some, 0))
        return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.vmap(of_one)(some))

    def add(sum_so_far, some):
        return _add(sum_so_far, of_batch(some)), None

    batches = jax.tree.map(lambda x: x[:whole].reshape(whole // batch, batch, *x.shape[1:]), shots)
    like = jax.eval_shape(of_one, _row(shots, 0))
    zero = varying_zero((shared, shots))
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype) + zero.astype(x.dtype), like)
    out, _ = jax.lax.scan(add, nothing, batches)
    return add(out, jax.tree.map(lambda x: x[whole:], shots))[0] if whole < n else out


def _row(shots: Shots, i: int) -> Shots:
    return jax.tree.map(lambda x: x[i], shots)


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def _add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)
