"""A grid cut along one axis into equal blocks, one a device of a mesh axis: who a device is, and what it asks of its
neighbours.

All of it is for the inside of `jax.shard_map` over that mesh axis. With ``check_vma=True`` derivatives taken inside
and outside of it are both right. Without, those inside must not be taken of `Split.total`, which JAX then transposes to
another sum.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

__all__ = ["Split", "with_neighbours"]


@dataclass(frozen=True)
class Split:
    """Which axis of a grid is cut, in how many blocks, over which mesh axis. Hashable and static.

    >>> tuple(Split(1, 4, "domains").spec)
    (None, 'domains')
    """

    axis: int
    parts: int
    name: str

    @property
    def spec(self) -> PartitionSpec:
        """How an array of the grid's shape lies on the mesh."""
        return PartitionSpec(*[None] * self.axis, self.name)

    @property
    def index(self) -> Array:
        """The place of this device's block along the axis."""
        return lax.axis_index(self.name)

    def outermost(self, far: bool) -> Array:
        """Whether this is the first block, or the last."""
        return self.index == (self.parts - 1 if far else 0)

    def total(self, x: Array) -> Array:
        """The sum over all blocks."""
        return lax.psum(x, self.name)


def with_neighbours(u: Array, margin: int, split: Split | None) -> Array:
    """`u`, whose margin along a split axis holds the edges of the blocks beside it instead of zeros.

    Globally nothing changes, so that what is symmetric or antisymmetric on the whole grid stays so.
    """
    if split is None:
        return u
    axis, n = split.axis, u.shape[split.axis]
    upwards = [(i, i + 1) for i in range(split.parts - 1)]  # a device that nobody sends to gets zeros
    near = lax.ppermute(lax.slice_in_dim(u, n - 2 * margin, n - margin, axis=axis), split.name, upwards)
    downwards = [(j, i) for i, j in upwards]
    far = lax.ppermute(lax.slice_in_dim(u, margin, 2 * margin, axis=axis), split.name, downwards)
    return jnp.concatenate([near, lax.slice_in_dim(u, margin, n - margin, axis=axis), far], axis)
