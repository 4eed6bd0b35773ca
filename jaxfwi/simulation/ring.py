"""How the values of a recorded ring are stored: in their own dtype or a shorter one, on the device or on the host."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxfwi.grid.linear import refuse_derivatives

__all__ = ["DTYPES", "pack", "unpack"]

DTYPES = (None, "float32", "bfloat16", "float16", "int8")
NO_SECOND_DERIVATIVES = (
    "A ring shortened to bfloat16, float16 or int8 serves gradients only, not second derivatives: use "
    "memory=BoundarySaving() for Hessian products."
)
BLOCK = 64  # values that share a scale in float16 and int8


def pack(values: Array, dtype: str | None, host: bool) -> Any:
    """A vector of ring values in the form in which it is stored.

    Args:
        values: ``(n,)``.
        dtype: one of `DTYPES`; None leaves the values as they are. float16 and int8 store with each block of 64 values
            the largest of them, in float32, and all as fractions of it.
        host: whether to store it in host memory.
    """
    if dtype in (None, "float32"):
        stored = values.astype(dtype or values.dtype)
    elif dtype == "bfloat16":
        # as bits: some compilers for the CPU would keep bfloat16 arrays in float32
        stored = lax.bitcast_convert_type(
            refuse_derivatives(values, NO_SECOND_DERIVATIVES).astype(jnp.bfloat16), jnp.uint16
        )
    else:
        blocks = jnp.pad(refuse_derivatives(values, NO_SECOND_DERIVATIVES), (0, -values.size % BLOCK)).reshape(
            -1, BLOCK
        )
        scale = jnp.max(jnp.abs(blocks), axis=1, keepdims=True)
        fractions = blocks / jnp.where(scale == 0.0, 1.0, scale)
        short = jnp.round(fractions * 127.0).astype(jnp.int8) if dtype == "int8" else fractions.astype(jnp.float16)
        stored = short, scale.astype(jnp.float32)
    return jax.device_put(stored, jax.memory.Space.Host) if host else stored


def unpack(stored: Any, like: Array, host: bool) -> Array:
    """The ring values again; `like` has their number and dtype."""
    if host:
        stored = jax.device_put(stored, jax.memory.Space.Device)
    if not isinstance(stored, tuple):
        bits = stored.dtype == jnp.uint16
        return (lax.bitcast_convert_type(stored, jnp.bfloat16) if bits else stored).astype(like.dtype)
    short, scale = stored
    unit = 127.0 if short.dtype == jnp.int8 else 1.0
    return (short.astype(like.dtype) * (scale.astype(like.dtype) / unit)).reshape(-1)[: like.size]
