"""Running the programs of many shots: compiled for a batch that fits, on cores, devices and hosts."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec

from jaxfwi._compiler import with_options
from jaxfwi.grid.linear import varying_zero
from jaxfwi.shots import budget
from jaxfwi.shots.per_shot import OfShot, Operation
from jaxfwi.shots.plan import Layout, Plan, Shots
from jaxfwi.simulation.shot import OneShot

__all__ = ["all_data", "memory_of_program", "run_program", "sum_over_shots", "summed"]

T = TypeVar("T")


def sum_over_shots(operation: Operation, plan: Plan, shared: Any, shares: list[Shots]) -> Any:
    """An operation summed over shots; `shared` is a model, or a PyTree of all that the operation takes."""
    return run_program(summed, operation, plan, shared, shares, lambda sums: functools.reduce(_add, sums))


def run_program(
    program: Any, static: Any, plan: Plan, shared: Any, shares: list[Shots], combined: Callable[[list[T]], T]
) -> T:
    """Run ``program(static, layout, shared, share)`` for each core's share of the shots, and combine the results."""
    if plan.traced:
        return program(static, plan.layout, shared, shares[0])
    shared, layout = plan.replicated(shared), plan.layout
    if _debugging():
        return combined([program(static, layout, shared, share) for share in shares])
    jitted = with_options(program, (0, 1), plan.device)
    if layout.batch is None:
        layout = _with_batch_that_fits(jitted, static, plan, shared, shares[0])
    compiled = jitted.lower(static, layout, shared, shares[0]).compile()
    at_once = budget.shares_that_fit(budget.memory_of(compiled), plan.device, plan.side_by_side)
    try:
        if len(shares) == 1:
            return combined([compiled(shared, shares[0])])
        # A program of jax runs on the core of the thread that calls it, whatever else runs on the same device. It
        # must be compiled before: settings of jax by `with` belong to the thread that made them.
        with ThreadPoolExecutor(at_once) as threads:
            run = threads.map(lambda share: jax.block_until_ready(compiled(shared, share)), shares)
            return combined(list(run))
    except TypeError as error:
        if not str(error).startswith(_CLOSES_OVER_TRACED_VALUES):
            raise
        # A misfit of the user's closes over values that are differentiated or mapped, for which a compiled program has
        # no argument. Run under jit, it is a part of their program, and has no options.
        return combined([program(static, layout, shared, share) for share in shares])


# how jax says so, when a compiled program is called
_CLOSES_OVER_TRACED_VALUES = ("Computation compiled for", "Cannot apply JAX transformations")


def memory_of_program(program: Any, static: Any, plan: Plan, shared: Any, share: Shots) -> "budget.Memory":
    """The memory that `run_program` takes: on a processor that computes a shot on each core, of all together."""
    jitted, shared, layout = with_options(program, (0, 1), plan.device), plan.replicated(shared), plan.layout
    if layout.batch is None:
        layout = _with_batch_that_fits(jitted, static, plan, shared, share)
    one = budget.memory_of(jitted.lower(static, layout, shared, share).compile())
    return budget.Memory(*(plan.cores * size for size in one))


def _debugging() -> bool:
    """Whether jax was asked to run step by step, or to look for the step that makes a NaN, which compiled programs do
    not do.
    """
    config: Any = jax.config
    return config.jax_disable_jit or config.jax_debug_nans or config.jax_debug_infs


def _with_batch_that_fits(jitted: Any, static: Any, plan: Plan, shared: Any, share: Shots) -> Layout:
    """The plan's layout with the largest batch that fits on its device."""

    def memory(batch: int) -> budget.Memory:
        layout = replace(plan.layout, batch=batch)
        return budget.memory_of(jitted.lower(static, layout, shared, share).compile())

    most = len(share.survey) // plan.layout.shares
    return replace(plan.layout, batch=budget.largest_batch(memory, most, plan.device))


@functools.partial(jax.jit, static_argnums=(0, 1))
def all_data(one_shot: OneShot, layout: Layout, model: Any, shots: Shots) -> Array:
    """The data of all shots ``(shots, time, receivers, components)``."""

    def of_shots(prepared, shots):
        batch = None if layout.batch in (None, 1) else min(layout.batch, len(shots.survey))
        data = functools.partial(_data_of_one, one_shot, prepared)
        return jax.lax.map(data, shots, batch_size=batch)

    return _on_devices(of_shots, layout, one_shot.spec, PartitionSpec("shots"))(one_shot.prepared(model), shots)


def _data_of_one(one_shot: OneShot, prepared: Any, shot: Shots) -> Array:
    return one_shot.data(prepared, shot.survey, shot.corner)


@functools.partial(jax.jit, static_argnums=(0, 1))
def summed(operation: Operation, layout: Layout, shared: Any, shots: Shots) -> Any:
    """An operation summed over all shots."""

    def sum_of_shots(of_shot: OfShot, argument: Any, where: Any, out: Any) -> Any:
        def on_device(argument, shots):
            total = _sum_on_one(of_shot, layout.batch, argument, shots)
            return total if layout.mesh is None else jax.tree.map(lambda x: jax.lax.psum(x, "shots"), total)

        return _on_devices(on_device, layout, where, out)(argument, shots)

    return operation.total(sum_of_shots, shared)


def _on_devices(
    function: Callable[[Any, Shots], Any], layout: Layout, where: Any, out: Any
) -> Callable[[Any, Shots], Any]:
    """``function(argument, shots)`` on every device's share of the shots.

    `where` says how the argument lies on the devices, `out` the result.
    """
    if layout.mesh is None:
        return function
    specs = {"in_specs": (where, PartitionSpec("shots")), "out_specs": out}
    return jax.shard_map(function, mesh=layout.mesh, **specs, check_vma=False)


def _sum_on_one(of_shot: OfShot, batch: int | None, argument: Any, shots: Shots) -> Any:
    """The sum over shots on one device, `batch` at once; a rest that does not fill a batch comes at the end."""
    n = len(shots.survey)
    batch = min(batch or 1, n)
    full = n - n % batch  # shots in full batches

    def of_one(shot):
        out = of_shot(argument, shot)
        return out if shot.counts is None else jax.tree.map(lambda x: jnp.where(shot.counts, x, 0), out)

    def of_batch(some):
        if batch == 1:
            return of_one(_row(some, 0))
        return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.vmap(of_one)(some))

    def add(sum_so_far, some):
        return _add(sum_so_far, of_batch(some)), None

    batches = jax.tree.map(lambda x: x[:full].reshape(full // batch, batch, *x.shape[1:]), shots)
    like = jax.eval_shape(of_one, _row(shots, 0))
    zero = varying_zero((argument, shots))
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype) + zero.astype(x.dtype), like)
    out, _ = jax.lax.scan(add, nothing, batches)
    return add(out, jax.tree.map(lambda x: x[full:], shots))[0] if full < n else out


def _row(shots: Shots, i: int) -> Shots:
    return jax.tree.map(lambda x: x[i], shots)


def _add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)
