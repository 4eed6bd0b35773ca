"""Linear operators with a transpose written by hand.

Reverse-mode differentiation transposes every linear piece of a program. The transpose that JAX derives for a stencil
(padded, scattered slices) runs several times slower than the stencil that it really is, and the one that it derives for
a time loop stores the loop. `linear_operator` calls a function together with its transpose as one JAX primitive, which
then composes with `jit`, `grad`, `jvp`, `vmap`, `scan`, `checkpoint` in any order and to any degree: unlike
`jax.custom_vjp` it keeps forward mode, and unlike `jax.custom_derivatives.linear_call` it can be batched and
differentiated in its residuals.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

__all__ = ["linear_operator", "refuse_derivatives", "varying_like", "varying_zero"]


def linear_operator(
    apply: Callable[[Any, Any], Any],
    transpose: Callable[[Any, Any], Any],
    residuals: Any,
    operands: Any,
) -> Any:
    """Return ``apply(residuals, operands)``, with `transpose` as its derivative in reverse mode.

    Args:
        apply: function of two PyTrees, linear in the second.
        transpose: ``transpose(residuals, cotangents)`` with cotangents like the output of `apply`, returning a PyTree
            like `operands`.
        residuals: PyTree on which `apply` may depend in any differentiable way.
        operands: PyTree of floating-point arrays.

    Returns:
        The output of `apply`, a PyTree of arrays.

    >>> import jax
    >>> double = lambda a, x: a * x
    >>> jax.grad(lambda x: linear_operator(double, double, 2.0, x))(3.0).item()
    2.0
    """
    operands = varying_like(operands, (residuals, operands))
    flat_residuals, residual_tree = jax.tree.flatten(residuals)
    flat_operands, operand_tree = jax.tree.flatten(operands)
    out_tree = jax.tree.structure(jax.eval_shape(apply, residuals, operands))
    out = _primitive.bind(
        *map(jnp.asarray, flat_residuals),
        *map(jnp.asarray, flat_operands),
        apply=_Flat(apply, residual_tree, operand_tree),
        transpose=_Flat(transpose, residual_tree, out_tree),
        residuals=len(flat_residuals),
    )
    return jax.tree.unflatten(out_tree, out)


def refuse_derivatives(x: Array, message: str) -> Array:
    """`x`, whose derivative raises a ValueError with this message."""

    @jax.custom_jvp
    def same(x):
        return x

    @same.defjvp
    def refuse(primals, tangents):
        raise ValueError(message)

    return same(x)


def varying_like(tree: Any, others: Any) -> Any:
    """The same numbers, each plus `varying_zero`: under `jax.shard_map` they vary over the same devices as all of
    `others` together.
    """
    zero = varying_zero(others)
    return jax.tree.map(lambda x: x + zero.astype(x.dtype), tree)


def varying_zero(tree: Any) -> Array:
    """The number 0, as a sum over no element of every array in a tree.

    Under `jax.shard_map` it varies over the same devices as all of them together, and so does a number to which it is
    added: the start of a loop must have the type of its end. The compiler removes it.
    """
    return jnp.asarray(sum(jnp.sum(jnp.ravel(x)[:0]) for x in jax.tree.leaves(tree)))


@dataclass(frozen=True)
class _Flat:
    """A function of two PyTrees as a function of their leaves."""

    function: Callable
    first: Any
    second: Any

    def __call__(self, *leaves):
        n = self.first.num_leaves
        out = self.function(jax.tree.unflatten(self.first, leaves[:n]), jax.tree.unflatten(self.second, leaves[n:]))
        return jax.tree.leaves(out)


@dataclass(frozen=True)
class _Mapped:
    """A flat function mapped over leading axes; `axes` says which residuals have one, operands always do."""

    function: Callable
    axes: tuple

    def __call__(self, *leaves):
        axes = self.axes + (0,) * (len(leaves) - len(self.axes))
        return jax.vmap(self.function, in_axes=axes, out_axes=0)(*leaves)


_primitive = Primitive("linear_operator")
_primitive.multiple_results = True


def _call(*args, apply, transpose, residuals):
    return apply(*args)


def _shapes(*avals, apply, transpose, residuals):
    return jax.make_jaxpr(apply)(*avals).out_avals


def _jvp(primals: Sequence, tangents: Sequence, **params):
    apply, n = params["apply"], params["residuals"]
    out = _primitive.bind(*primals, **params)
    terms = []  # JAX calls this rule only when some tangent is not a symbolic zero
    if any(type(t) is not ad.Zero for t in tangents[n:]):
        terms.append(_primitive.bind(*primals[:n], *map(ad.instantiate_zeros, tangents[n:]), **params))
    moving = [i for i in range(n) if type(tangents[i]) is not ad.Zero]
    if moving:

        def of_residuals(*values):
            arguments = list(primals)
            for i, value in zip(moving, values, strict=True):
                arguments[i] = value
            return apply(*arguments)

        terms.append(jax.jvp(of_residuals, [primals[i] for i in moving], [tangents[i] for i in moving])[1])
    return out, [sum(more, start=first) for first, *more in zip(*terms, strict=True)]


def _transpose(cotangents: Sequence, *args, apply, transpose, residuals):
    n = residuals
    out = _primitive.bind(
        *args[:n],
        *map(ad.instantiate_zeros, cotangents),
        apply=transpose,
        transpose=apply,
        residuals=n,
    )
    return [None] * n + [o if ad.is_undefined_primal(x) else None for x, o in zip(args[n:], out, strict=True)]


def _batch(args: Sequence, dims: Sequence, *, apply, transpose, residuals):
    n = residuals
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    front = [x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    for i in range(n, len(args)):
        if dims[i] is None:
            front[i] = jnp.broadcast_to(front[i], (size, *front[i].shape))
    axes = tuple(None if d is None else 0 for d in dims[:n])
    out = _primitive.bind(*front, apply=_Mapped(apply, axes), transpose=_Mapped(transpose, axes), residuals=n)
    return out, [0] * len(out)


_primitive.def_impl(_call)
_primitive.def_abstract_eval(_shapes)
ad.primitive_jvps[_primitive] = _jvp
ad.primitive_transposes[_primitive] = _transpose
batching.primitive_batchers[_primitive] = _batch
mlir.register_lowering(_primitive, mlir.lower_fun(_call, multiple_results=True))
