"""XLA's options for compiled programs."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxfwi._checks import is_concrete

__all__ = ["compiler_options", "jitted_with_options", "with_options"]


def compiler_options(device: Any = None) -> dict[str, Any]:
    """Options of XLA's with which programs that model waves are faster, for a `jax.jit` of your own.

    A simulator called by itself, `snapshots`, `simulate`, the methods of a `Problem` and `invert` are compiled with
    them. A part of a larger program is compiled with the options of the outermost `jax.jit`, and without any under
    `jax.grad` or `jax.vmap` alone: put a `jax.jit` with these options around. jax refuses options on any but the
    outermost. Here they override the environment variable ``XLA_FLAGS``. They change results by rounding only.

    On a CPU they are:

    - vectors as wide as the processor has them: by default XLA takes half the width of AVX-512;
    - before jax 0.11, to leave out the pass that drops ``optimization_barrier`` too early, after which XLA computes
      values again at each point of a stencil: up to three times as slow.

    Args:
        device: which will compute; by default the one that jax would choose. To ask starts jax: join several processes
            and set the number of CPU devices before.

    Returns:
        For ``compiler_options`` of `jax.jit`, or `jax.stages.Lowered.compile`; empty on anything but a CPU, and without
        options that this jax does not know.

    >>> import jax, jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=200)
    >>> wavelet = jf.ricker(grid, frequency=15.0)
    >>> shot = jf.Survey.from_arrays([[50.0, 150.0]], [[50.0, 250.0]], wavelet)[0]
    >>> energy = lambda model: jnp.sum(jf.Simulator(grid)(model, shot) ** 2)
    >>> gradient = jax.jit(jax.grad(energy), compiler_options=jf.compiler_options())
    >>> gradient(jf.Acoustic(vp=jnp.full(grid.shape, 1500.0))).vp.shape
    (20, 30)
    """
    if device is None:
        with jax.ensure_compile_time_eval():
            device = _device_of(jnp.zeros(()))
    if device.platform != "cpu":
        return {}
    options: dict[str, Any] = {"xla_cpu_prefer_vector_width": 512}
    if jax.__version_info__ < (0, 11):  # from 0.11 on the pass runs late, and cannot be left out
        options["xla_disable_hlo_passes"] = "cse_barrier_expander"
    return {name: value for name, value in options.items() if _is_known(name, value)}


@functools.cache
def _is_known(name: str, value: Any) -> bool:
    """Whether this jax takes an option: one that it does not know would be an error in every program."""
    try:
        jax.jit(lambda: 0.0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True


def jitted_with_options(program: Any, static_argnums: tuple[int, ...], arguments: Any) -> Callable:
    """The jitted function to call with these arguments: with options, unless the call is a part of another program."""
    here = jnp.zeros(())  # under jit what is made of known values is traced too
    leaves = jax.tree.leaves(arguments)
    if not is_concrete(*leaves, here):
        return program
    there = next((x for x in leaves if isinstance(x, jax.Array) and x.committed), here)
    return with_options(program, static_argnums, _device_of(there))


def with_options(program: Any, static_argnums: tuple[int, ...], device: Any) -> Any:
    """A jitted function, compiled with the options for a device."""
    return _jitted(program, static_argnums, tuple(compiler_options(device).items()))


@functools.cache
def _jitted(program: Any, static_argnums: tuple[int, ...], options: tuple[tuple[str, Any], ...]) -> Any:
    return jax.jit(program.__wrapped__, static_argnums=static_argnums, compiler_options=dict(options))


def _device_of(x: jax.Array) -> Any:
    return next(iter(x.devices()))
