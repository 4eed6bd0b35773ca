"""How a recorded ring is kept: in the fields' own dtype or a shorter one, on the device or in host memory."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

__all__ = ["DTYPES", "pack", "unpack"]

DTYPES = (None, "float32", "bfloat16", "float16", "int8")
BLOCK = 64  # values that share a scale in float16 and int8


def pack(values: Array, dtype: str | None, host: bool) -> Any:
    """A vector of ring values as it is kept.

    Args:
        values: ``(n,)``.
        dtype: one of `DTYPES`; None keeps the values as they are. float16 and int8 keep with each block of 64 values
            its largest, in float32, and the values as parts of it.
        host: whether to keep it in host memory.
    """
    if dtype in (None, "float32"):
        kept = values.astype(dtype or values.dtype)
    elif dtype == "bfloat16":
        # as bits: some compilers for the CPU would keep bfloat16 arrays in float32
        kept = lax.bitcast_convert_type(_final(values).astype(jnp.bfloat16), jnp.uint16)
    else:
        blocks = jnp.pad(_final(values), (0, -values.size % BLOCK)).reshape(-1, BLOCK)
        scale = jnp.max(jnp.abs(blocks), axis=1, keepdims=True)
        parts = blocks / jnp.where(scale == 0.0, 1.0, scale)
        short = jnp.round(parts * 127.0).astype(jnp.int8) if dtype == "int8" else parts.astype(jnp.float16)
        kept = short, scale.astype(jnp.float32)
    return jax.device_put(kept, jax.memory.Space.Host) if host else kept


def unpack(kept: Any, like: Array, host: bool) -> Array:
    """The ring values from what was kept; `like` gives their number and dtype."""
    if host:
        kept = jax.device_put(kept, jax.memory.Space.Device)
    if not isinstance(kept, tuple):
        return (lax.bitcast_convert_type(kept, jnp.bfloat16) if kept.dtype == jnp.uint16 else kept).astype(like.dtype)
    short, scale = kept
    unit = 127.0 if short.dtype == jnp.int8 else 1.0
    return (short.astype(like.dtype) * (scale.astype(like.dtype) / unit)).reshape(-1)[: like.size]


@jax.custom_jvp
def _final(values: Array) -> Array:
    return values


@_final.defjvp
def _refuse(primals, tangents):
    raise ValueError(
        "A ring shortened to bfloat16, float16 or int8 serves gradients only, not second derivatives: use "
        "memory=BoundarySaving() for Hessian products."
    )
