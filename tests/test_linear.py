"""Operators with a transpose written by hand: under every transformation they agree with the plain function."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from devices import on_devices
from jax.sharding import Mesh, PartitionSpec

import jaxfwi as jf
from jaxfwi.grid.frame import Frame
from jaxfwi.grid.linear import linear_operator

# The same sums of some ten terms in another order: measured 7e-16 of the largest value.
ROUNDING = 1e-14


def apply(residuals, operands):
    """Two arrays to a dict of two; linear in the operands, and in the residuals neither linear nor constant."""
    a, s = residuals["a"], residuals["s"]
    x, y = operands
    return {"p": a**2 * jnp.roll(x, 1) + s * jnp.sum(y), "q": jnp.sin(s) * y + jnp.sum(a * x)}


def transpose(residuals, cotangents):
    a, s = residuals["a"], residuals["s"]
    p, q = cotangents["p"], cotangents["q"]
    return jnp.roll(a**2 * p, -1) + a * jnp.sum(q), s * jnp.sum(p) + jnp.sin(s) * q


def operator(residuals, operands):
    return linear_operator(apply, transpose, residuals, operands)


class Values(NamedTuple):
    r: Any
    x: Any
    dr: Any
    dx: Any
    many_r: Any
    many_x: Any


def values():
    rng = np.random.default_rng(0)
    r = {"a": jnp.asarray(rng.standard_normal(5)), "s": jnp.asarray(0.7)}
    x = (jnp.asarray(rng.standard_normal(5)), jnp.asarray(rng.standard_normal(3)))
    many = jax.tree.map(lambda v: jnp.stack([v, v + 1.0, 2.0 * v, -v]), (r, x))
    return Values(r, x, *jax.tree.map(lambda v: jnp.cos(3.0 * v), (r, x)), *many)


def size(f):
    """A scalar of the output, quadratic in it."""
    return lambda r, x: sum(jnp.sum(jnp.cos(jnp.arange(v.size)) * v**2) for v in jax.tree.leaves(f(r, x)))


def steps(f):
    """The size after the operator five times over, its residuals another in each pass."""

    def loop(r, x):
        def step(x, a):
            out = f({"a": r["a"] + a, "s": r["s"]}, x)
            return (0.3 * out["p"], 0.3 * out["q"]), jnp.sum(out["q"] ** 2)

        return jnp.sum(jax.lax.scan(step, x, jnp.arange(5.0))[1])

    return loop


def mapped(f, axes):
    """The sum of sizes over vmapped inputs."""
    return lambda r, x: jnp.sum(jax.vmap(size(f), axes)(r, x))


def both(f):
    """Gradients by residuals and operands."""
    return jax.grad(f, (0, 1))


def along(f, v):
    """The derivative of the size along the tangents, by reverse mode."""
    return lambda r, x: dot(both(size(f))(r, x), (v.dr, v.dx))


def dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def transposed(f, v):
    return lambda c: jax.linear_transpose(lambda x: f(v.r, x), v.x)(c)


TRANSFORMATIONS = {
    "call": lambda f, v: f(v.r, v.x),
    "grad": lambda f, v: both(size(f))(v.r, v.x),
    "grad of jit": lambda f, v: both(jax.jit(size(f)))(v.r, v.x),
    "grad by one of two": lambda f, v: jax.grad(lambda y: size(f)(v.r, (v.x[0], y)))(v.x[1]),
    "jvp": lambda f, v: jax.jvp(f, (v.r, v.x), (v.dr, v.dx)),
    "jvp by operands": lambda f, v: jax.jvp(lambda x: f(v.r, x), (v.x,), (v.dx,)),
    "jvp by residuals": lambda f, v: jax.jvp(lambda r: f(r, v.x), (v.r,), (v.dr,)),
    "jvp by one of two": lambda f, v: jax.jvp(lambda y: f(v.r, (v.x[0], y)), (v.x[1],), (v.dx[1],)),
    "transpose": lambda f, v: transposed(f, v)(f(v.r, v.x)),
    "transpose of the transpose": lambda f, v: jax.linear_transpose(transposed(f, v), f(v.r, v.x))((v.x,)),
    "vjp of one output": lambda f, v: jax.vjp(lambda x: f(v.r, x)["q"], v.x)[1](v.x[1]),
    "hessian": lambda f, v: jax.hessian(size(f), (0, 1))(v.r, v.x),
    "grad of grad": lambda f, v: both(along(f, v))(v.r, v.x),
    "jvp of grad": lambda f, v: jax.jvp(both(size(f)), (v.r, v.x), (v.dr, v.dx))[1],
    "third derivative": lambda f, v: jax.jvp(both(along(f, v)), (v.r, v.x), (v.dr, v.dx))[1],
    "vmap operands": lambda f, v: jax.vmap(f, (None, 0))(v.r, v.many_x),
    "vmap residuals": lambda f, v: jax.vmap(f, (0, None))(v.many_r, v.x),
    "vmap all": lambda f, v: jax.vmap(f)(v.many_r, v.many_x),
    "vmap some": lambda f, v: jax.vmap(lambda s, y: f({"a": v.r["a"], "s": s}, (v.x[0], y)))(
        v.many_r["s"], v.many_x[1]
    ),
    "vmap last axis": lambda f, v: jax.vmap(lambda a, x: f({"a": a, "s": v.r["s"]}, (x, v.x[1])), 1)(
        v.many_r["a"].T, v.many_x[0].T
    ),
    "vmap neither": lambda f, v: jax.vmap(lambda c: c * f(v.r, v.x)["p"])(jnp.arange(3.0)),
    "vmap of vmap": lambda f, v: jax.vmap(lambda r: jax.vmap(lambda x: f(r, x))(v.many_x))(v.many_r),
    "vmap of grad": lambda f, v: jax.vmap(both(size(f)), (0, None))(v.many_r, v.x),
    "grad of vmap operands": lambda f, v: both(mapped(f, (None, 0)))(v.r, v.many_x),
    "grad of vmap residuals": lambda f, v: both(mapped(f, (0, None)))(v.many_r, v.x),
    "hessian of vmap": lambda f, v: jax.hessian(mapped(f, (0, None)))(v.many_r, v.x),
    "scan": lambda f, v: steps(f)(v.r, v.x),
    "grad of scan": lambda f, v: both(steps(f))(v.r, v.x),
    "vmap of grad of scan": lambda f, v: jax.vmap(both(steps(f)), (None, 0))(v.r, v.many_x),
    "hessian of scan": lambda f, v: jax.hessian(steps(f))(v.r, v.x),
    "map": lambda f, v: jax.lax.map(lambda rx: f(*rx), (v.many_r, v.many_x)),
    "grad of map in batches": lambda f, v: both(
        lambda r, x: jnp.sum(jax.lax.map(lambda rx: size(f)(*rx), (r, x), batch_size=3))
    )(v.many_r, v.many_x),
    "grad of checkpoint": lambda f, v: both(jax.checkpoint(size(f)))(v.r, v.x),
    "grad of checkpoint in scan": lambda f, v: both(steps(jax.checkpoint(f)))(v.r, v.x),
    "grad of cond": lambda f, v: both(lambda r, x: jax.lax.cond(r["s"] > 0, size(f), lambda r, x: 0.0, r, x))(v.r, v.x),
}


def check(ours, plain, name):
    assert jax.tree.structure(ours) == jax.tree.structure(plain), name
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), name
        np.testing.assert_allclose(a, b, rtol=0, atol=ROUNDING * float(jnp.abs(b).max()), err_msg=name)


@pytest.mark.telling
def test_every_transformation():
    @jax.jit
    def all_of_them(v):
        return {name: (t(operator, v), t(apply, v)) for name, t in TRANSFORMATIONS.items()}

    for name, (ours, plain) in all_of_them(values()).items():
        check(ours, plain, name)


@pytest.mark.parametrize("name", ["call", "jvp", "vmap of grad"])
def test_outside_of_jit(name):
    check(TRANSFORMATIONS[name](operator, values()), TRANSFORMATIONS[name](apply, values()), name)


def test_reverse_mode_calls_the_transpose_written_by_hand():
    def wrong(residuals, cotangents):
        return jax.tree.map(lambda x: 2.0 * x, transpose(residuals, cotangents))

    def twice(r, x):
        return linear_operator(apply, wrong, r, x)

    v = values()
    check(jax.grad(size(twice), 1)(v.r, v.x), jax.tree.map(lambda g: 2.0 * g, jax.grad(size(apply), 1)(v.r, v.x)), "")
    # the derivative by residuals comes from `apply`, and so does forward mode
    check(jax.grad(size(twice))(v.r, v.x), jax.grad(size(apply))(v.r, v.x), "")
    check(jax.jvp(twice, (v.r, v.x), (v.dr, v.dx)), jax.jvp(apply, (v.r, v.x), (v.dr, v.dx)), "")


def test_single_precision_stays_single():
    v = jax.tree.map(lambda x: x.astype("float32"), values())
    assert [g.dtype for g in jax.grad(size(operator), 1)(v.r, v.x)] == [jnp.float32, jnp.float32]


def sharded(f, v, mesh, check_vma):
    """Programs in which some inputs are split over devices and others are not."""
    split, replicated = PartitionSpec("shots"), PartitionSpec()

    def split_up(function, specs, out):
        return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=check_vma)

    def each(r, x):
        return jax.lax.map(lambda rx: f(*rx), (r, x))

    def gradients(r, x):
        return jax.lax.map(lambda rx: both(size(f))(*rx), (r, x))

    def shared_residuals(r, x):
        return jax.lax.map(lambda x: f(r, x), x)

    def total(r, x):
        return jax.lax.psum(jnp.sum(jax.lax.map(lambda r: size(f)(r, x), r)), "shots")

    def of_outputs(r, x):
        return jnp.sum(split_up(shared_residuals, (replicated, split), split)(r, x)["p"] ** 2)

    return {
        "call": split_up(each, split, split)(v.many_r, v.many_x),
        "shared residuals": split_up(shared_residuals, (replicated, split), split)(v.r, v.many_x),
        "grad inside": split_up(gradients, split, split)(v.many_r, v.many_x),
        "grad outside": both(of_outputs)(v.r, v.many_x),
        "grad of a sum over devices": both(split_up(total, (split, replicated), replicated))(v.many_r, v.x),
    }


def check_sharded(devices, check_vma):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("shots",))
    v = values()
    ours, plain = jax.jit(lambda v: [sharded(f, v, mesh, check_vma) for f in (operator, apply)])(v)
    for name in plain:
        check(ours[name], plain[name], name)


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map_on_one_device(check_vma):
    check_sharded(1, check_vma)


@pytest.mark.parametrize("check_vma", [True, False])
@on_devices(2)
def test_shard_map_on_two_devices(check_vma):
    check_sharded(2, check_vma)


def random_like(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape)), tree)


LAPLACIANS = [  # shape, spacing, widths or the layer, free surface
    ((12,), (10.0,), 5, False),
    ((9,), (7.0,), ((0, 1),), True),
    ((11, 7), (10.0, 10.0), 0, True),
    ((8, 9), (10.0, 7.0), ((3, 1), (0, 6)), False),
    ((9, 1), (5.0, 12.0), ((2, 4), (1, 0)), True),
    ((4, 5, 3), (9.0, 6.0, 11.0), ((0, 1), (2, 3), (1, 0)), False),
    ((5, 3, 4), (9.0, 6.0, 11.0), ((3, 2), (0, 1), (4, 1)), True),
    ((6, 5), (10.0, 10.0), jf.CPML(width=2, velocity=3e4, reflection=1e-9), False),  # leaves nothing in a step
]


@pytest.mark.parametrize(
    ("shape", "spacing", "widths", "free_surface", "order"),
    [(*case, order) for case in LAPLACIANS for order in ((2, 4, 8) if len(case[0]) < 3 else (2, 8))],
)
def test_transpose_of_the_damped_laplacian(shape, spacing, widths, free_surface, order):
    absorber = widths if isinstance(widths, jf.CPML) else jf.CPML(width=widths)
    frame = Frame(jf.Grid(shape, spacing, 1e-3, 1), order, absorber, free_surface)
    derivative = frame.derivative
    field = jax.ShapeDtypeStruct(frame.shape, jnp.float64)

    def alive(x, across=None):
        """In the margin fields are zero, and so are the cotangents of values that a coefficient scales."""
        inside = (slice(near, -far) for near, far in frame.margins)
        inside = tuple(slice(None) if a == across else s for a, s in enumerate(inside))
        return jnp.zeros_like(x).at[inside].set(x[inside])

    def all_alive(u, memory):
        return alive(u), tuple(
            tuple(alive(x, s.axis) for x in pair) for s, pair in zip(derivative.slabs, memory, strict=True)
        )

    def laplacian(operands):
        return derivative._laplacian((), operands)

    @jax.jit
    def run(operands, cotangents):
        (derived,) = jax.linear_transpose(laplacian, operands)(cotangents)
        # nothing reads a field's own cotangent in the margin beyond the stencil's reach, so it may hold anything
        by_hand = derivative._laplacian_transposed((), cotangents)
        return laplacian(operands), all_alive(*by_hand), all_alive(*derived)

    operands = all_alive(*random_like((field, jax.eval_shape(derivative.layer_at_rest, field)), 1))
    dense, patches, memory, through = random_like(jax.eval_shape(laplacian, operands), 2)
    dense, memory = all_alive(dense, memory)
    axes = [0] * free_surface + [s.axis for s in derivative.slabs]
    cotangents = dense, [alive(patch, axis) for patch, axis in zip(patches, axes, strict=True)], memory, through
    out, by_hand, derived = run(operands, cotangents)
    # The products are sums of a few hundred terms of either sign, of the magnitude below.
    magnitude = float(jnp.sqrt(dot(out, out) * dot(cotangents, cotangents)))
    assert abs(float(dot(out, cotangents) - dot(operands, by_hand))) < ROUNDING * magnitude
    check(by_hand, derived, "transpose")
