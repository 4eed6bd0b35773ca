"""Whether a hand-written kernel for a GPU is worth it: the undamped acoustic step as XLA compiles it, and as one Pallas
kernel (Triton), on random fields.

    python experiments/benchmarks/kernel.py

Prints microseconds a step and the share of what the least traffic there is would take at the memory's bandwidth: 12
bytes an update, and 4 a cell for the coefficient, which all shots share. Needs a GPU; what the kernel computes is
tested without one, in Pallas' interpreter. It times a part of the package, so that it alone of the experiments imports
what is not public.
"""

import functools
import math
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

import bandwidth
import kit
from jaxfwi.grid import stencils
from jaxfwi.grid.frame import margins

ORDER = 4
CASES = ((None, (148, 148, 148)), (None, (248, 248, 248)), (8, (244, 244)), (32, (544, 544)))  # shots, cells
BLOCKS = ((256, 4), (512, 4), (1024, 8))  # cells and warps of a kernel's program


def step(u: Array, before: Array, scale: Array, block: int, warps: int, interpret: bool = False) -> Array:
    """``2 u - before + scale * laplacian(u)`` for unit spacing, of fields that are zero outside their arrays; a block
    of cells, in memory's order, is a program of the kernel."""
    c = stencils.second_derivative(ORDER)
    strides = [math.prod(u.shape[axis + 1 :]) for axis in range(u.ndim)]

    def kernel(field, older, factor, out):
        cell = pl.program_id(0) * block + jnp.arange(block)

        def at(offset, where):
            return triton.load(field.at[cell + offset], mask=where, other=0.0)

        inside = cell < u.size
        total = c[0] * u.ndim * at(0, inside)
        for stride, n in zip(strides, u.shape, strict=True):
            i = cell // stride % n
            for k in range(1, len(c)):
                total += c[k] * (at(k * stride, inside & (i + k < n)) + at(-k * stride, inside & (i >= k)))
        beside = [triton.load(x.at[cell], mask=inside, other=0.0) for x in (older, factor)]
        triton.store(out.at[cell], 2.0 * at(0, inside) - beside[0] + beside[1] * total, mask=inside)

    run = pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((u.size,), u.dtype),
        grid=(-(-u.size // block),),
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpret,
    )
    return run(*(x.reshape(-1) for x in (u, before, scale))).reshape(u.shape)


def in_a_margin(u: Array, before: Array, scale: Array) -> Array:
    """As the package computes it: inside a margin, which is no part of the cells that are counted."""
    return 2.0 * u - before + scale * jnp.pad(stencils.laplacian(u, ORDER, (1.0,) * u.ndim), ORDER // 2)


def seconds_of_step(step_of, shots: int | None, shape: tuple[int, ...], steps: int = 200) -> float:
    """Median of several runs."""
    rng = np.random.default_rng(0)
    u = jnp.asarray(rng.standard_normal(shape if shots is None else (shots, *shape)), jnp.float32)
    scale = jnp.full(shape, 0.05, jnp.float32)

    def propagated(u, before):
        def one(carry, _):
            u, before = carry
            return (step_of(u, before, scale), u), None

        return jax.lax.scan(one, (u, before), None, length=steps, unroll=2)[0]

    run = jax.jit(propagated if shots is None else jax.vmap(propagated))
    times = []
    for _ in range(8):
        begin = time.perf_counter()
        jax.block_until_ready(run(u, 0.9 * u))
        times.append((time.perf_counter() - begin) / steps)
    return statistics.median(times[1:])


def main() -> None:
    if jax.devices()[0].platform != "gpu":
        raise kit.UserError("kernel.py needs a GPU and jax with CUDA; jax has found none.")
    moved, rows = bandwidth.of_gpu(), []
    for shots, shape in CASES:
        ways = {"XLA": (in_a_margin, tuple(n + sum(m) for n, m in zip(shape, margins(shape, ORDER // 2), strict=True)))}
        for b, w in BLOCKS:
            ways[f"Pallas, {b} cells, {w} warps"] = functools.partial(step, block=b, warps=w), shape
        for name, (way, cells_of_it) in ways.items():
            seconds = seconds_of_step(way, shots, cells_of_it)
            least = (12 * (shots or 1) + 4) * math.prod(shape) / moved
            cells = " x ".join(map(str, shape)) + (f", {shots} shots" if shots else "")
            rows.append([cells, name, f"{1e6 * seconds:.1f}", f"{100 * least / seconds:.0f} %"])
    print(kit.table(["cells", "step", "us a step", "of bandwidth"], rows))


if __name__ == "__main__":
    with kit.ending_on_errors():
        main()
