"""A grid cut along one axis into equal blocks, each on a device of a mesh axis.

All of it is for use inside `jax.shard_map` over that mesh axis. With ``check_vma=True`` derivatives taken inside and
outside of it are both right. Without, no derivative may be taken inside of `Split.total`: JAX then transposes it to
another sum.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

__all__ = ["Split", "in_outermost", "split_along", "with_neighbours"]


@dataclass(frozen=True)
class Split:
    """Which axis of a grid is cut, in how many blocks, over which mesh axis. Hashable and static.

    >>> tuple(Split(1, 4, "domains").spec)
    (None, 'domains')
    """

    axis: int
    blocks: int
    name: str

    @property
    def spec(self) -> PartitionSpec:
        """How an array of the grid's shape lies on the mesh."""
        return PartitionSpec(*[None] * self.axis, self.name)

    @property
    def index(self) -> Array:
        """The number of this device's block along the axis."""
        return lax.axis_index(self.name)

    def total(self, x: Array) -> Array:
        """The sum over all blocks."""
        return lax.psum(x, self.name)


def split_along(split: Split | None, axis: int) -> Split | None:
    """The split, if it cuts this axis."""
    return split if split is not None and split.axis == axis else None


def in_outermost(split: Split | None, far: bool, x: Array, elsewhere: Array | float) -> Array:
    """`x` in the first block (or the last, if `far`), and `elsewhere` in all others. Without a split, `x`."""
    if split is None:
        return x
    return jnp.where(split.index == (split.blocks - 1 if far else 0), x, elsewhere)


def with_neighbours(u: Array, margin: int, split: Split | None) -> Array:
    """`u` with the edges of the neighbouring blocks in its margin, where it holds zeros. Without a split, `u`.

    On the grid as one nothing changes, so that operators stay symmetric or antisymmetric.
    """
    if split is None:
        return u
    axis, n = split.axis, u.shape[split.axis]
    upwards = [(i, i + 1) for i in range(split.blocks - 1)]  # a device that nobody sends to gets zeros
    near = lax.ppermute(lax.slice_in_dim(u, n - 2 * margin, n - margin, axis=axis), split.name, upwards)
    downwards = [(j, i) for i, j in upwards]
    far = lax.ppermute(lax.slice_in_dim(u, margin, 2 * margin, axis=axis), split.name, downwards)
    return jnp.concatenate([near, lax.slice_in_dim(u, margin, n - margin, axis=axis), far], axis)
