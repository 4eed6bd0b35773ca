"""Processing of gradients: smoothing, clipping, muting, preconditioning, truncated Gauss-Newton, parameters apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxfwi as jf
from jaxfwi.optimise import clip_quantile, mute, precondition, smooth, sum_of, truncated_gauss_newton

SHAPE = (12, 9)
GRID = jf.Grid(SHAPE, (10.0, 5.0), 1e-3, 10)
SEA = np.broadcast_to(np.arange(12)[:, None] < np.array([3, 3, 4, 4, 4, 3, 2, 2, 2]), SHAPE)


def noise(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def elastic(seed=0):
    return jf.Elastic(*(noise(seed=seed + i) for i in range(3)))


def run(transformation, updates, params=None, **extra):
    """The first update and the state after it, in a program."""

    @jax.jit
    def first(updates, params):
        return transformation.update(updates, transformation.init(params), params, **extra)

    return first(updates, updates if params is None else params)


@pytest.mark.parametrize("mask", [None, ~SEA], ids=["all", "rock"])
@pytest.mark.parametrize("length", [15.0, (0.0, 15.0), (200.0, 5.0)], ids=repr)
def test_smooths_as_models_smooth(length, mask):
    for update in (noise(), noise().astype(np.float32)):
        ours, _ = run(smooth(GRID, length, mask), update)
        assert ours.dtype == update.dtype
        theirs = jf.models.smooth(np.asarray(update), GRID, length, mask, slowness=False)
        # Sums of 108 terms below 3. Measured: 1e-16, 6e-8.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14 if ours.dtype == float else 1e-6)
    constant, _ = run(smooth(GRID, length, mask), np.full(SHAPE, 0.7))
    np.testing.assert_allclose(constant, 0.7, rtol=1e-13)  # the same sums divided by each other


@pytest.mark.telling
def test_nothing_comes_from_the_sea():
    update = np.where(SEA, 1e30, noise())
    ours, _ = run(smooth(GRID, 20.0, ~SEA), update)
    ours = np.asarray(ours)
    np.testing.assert_array_equal(ours[SEA], 1e30)
    np.testing.assert_array_equal(
        ours[~SEA], np.asarray(run(smooth(GRID, 20.0, ~SEA), np.where(SEA, np.nan, noise()))[0])[~SEA]
    )
    assert abs(np.asarray(ours)[~SEA]).max() < 3


def test_smoothing_of_parameters():
    update = elastic()
    lengths = jf.Elastic(vp=20.0, vs=(10.0, 15.0), rho=0.0)
    ours, _ = run(smooth(GRID, lengths, jf.Elastic(vp=~SEA, vs=~SEA, rho=np.True_)), update)
    for name, length, mask in (("vp", 20.0, ~SEA), ("vs", (10.0, 15.0), ~SEA), ("rho", 0.0, None)):
        theirs = jf.models.smooth(np.asarray(getattr(update, name)), GRID, length, mask, slowness=False)
        np.testing.assert_allclose(getattr(ours, name), theirs, rtol=0, atol=1e-14)


def test_clips_at_a_quantile():
    update = jf.Elastic(vp=np.arange(-50.0, 51.0), vs=1e-20 * np.arange(-50.0, 51.0), rho=np.zeros(101))
    ours, _ = run(clip_quantile(0.9), update)
    # of the 100 sizes 1, 1, 2, 2, ..., 50, 50 that are not zero; numpy's quantile lies between two of 45 and 46
    limit = np.quantile(np.abs(np.arange(-50.0, 51.0))[np.arange(101) != 50], 0.9)
    assert 45 <= limit <= 46
    np.testing.assert_allclose(ours.vp, np.clip(np.arange(-50.0, 51.0), -limit, limit), rtol=1e-15)
    np.testing.assert_allclose(ours.vs, 1e-20 * ours.vp, rtol=1e-14)  # each parameter by itself
    np.testing.assert_array_equal(ours.rho, 0.0)
    np.testing.assert_array_equal(run(clip_quantile(1.0), update)[0].vp, update.vp)


def test_mutes_at_sources():
    grid = jf.Grid(SHAPE, (10.0, 5.0), 1e-3, 10)
    sources = np.array([[[0.0, 12.5]], [[60.0, 20.0]], [[60.0, 20.0]], [[200.0, 20.0]]])  # one off the grid
    ours, _ = run(mute(grid, sources, 30.0), jf.Acoustic(vp=np.ones(SHAPE)))
    z, x = np.meshgrid(10.0 * np.arange(12), 5.0 * np.arange(9), indexing="ij")
    away = np.min([np.hypot(z - a, x - b) for a, b in sources.reshape(-1, 2)], axis=0)
    expected = np.where(away < 30, np.sin(0.5 * np.pi * away / 30) ** 2, 1.0)
    np.testing.assert_allclose(ours.vp, expected, rtol=0, atol=1e-15)
    assert float(ours.vp[6, 4]) == 0.0
    assert float(ours.vp[9, 4]) == 1.0
    assert float(ours.vp[6, 1]) == pytest.approx(0.5)
    line, _ = run(mute(jf.Grid(9, 10.0, 1e-3, 10), [[20.0]], 20.0), jnp.ones(9, jnp.float32))
    np.testing.assert_allclose(line, [1.0, 0.5, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0], atol=1e-7)
    assert line.dtype == jnp.float32


def test_preconditioning():
    update, light = elastic(), jf.Elastic(vp=noise(seed=5) ** 2, vs=1e-25 * noise(seed=6) ** 2, rho=np.zeros(SHAPE))
    normal, _ = run(precondition(light, damping=0.1), update)
    newton, _ = run(precondition(light, damping=0.1, normalise=False), update)
    for name in ("vp", "vs"):
        g, d = np.asarray(getattr(update, name)), np.asarray(getattr(light, name))
        np.testing.assert_allclose(getattr(newton, name), g / (d + 0.1 * d.max()), rtol=1e-13)
        np.testing.assert_allclose(getattr(normal, name), g * 1.1 * d.max() / (d + 0.1 * d.max()), rtol=1e-13)
        brightest = np.unravel_index(d.argmax(), SHAPE)
        assert float(getattr(normal, name)[brightest]) == pytest.approx(g[brightest], rel=1e-13)
    np.testing.assert_array_equal(normal.rho, 0.0)
    np.testing.assert_array_equal(newton.rho, 0.0)


def test_updates_are_added():
    gradient, model = elastic(), elastic(3)
    parts = optax.adam(2.0), optax.chain(smooth(GRID, 20.0), optax.adam(3.0), smooth(GRID, 20.0)), optax.sgd(0.1)
    ours = sum_of(*parts)
    (first, state), states = run(ours, gradient, model), [part.init(model) for part in parts]
    second, _ = ours.update(elastic(9), state, model)
    for updates, given in ((first, gradient), (second, elastic(9))):
        alone = []
        for i, part in enumerate(parts):
            of_part, states[i] = part.update(given, states[i], model)
            alone.append(of_part)
        # the sum of three numbers, by another order of rounding
        jax.tree.map(lambda x, *y: np.testing.assert_allclose(x, sum(y), rtol=1e-12, atol=1e-12), updates, *alone)


def test_added_updates_get_extra_arguments():
    """As a line search needs, of those that take them; others do without."""
    seen = []

    def update(updates, state, params=None, *, value, **extra):
        seen.append(value)
        return updates, state

    takes = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    ours = sum_of(optax.sgd(1.0), takes)
    updates, _ = ours.update(MODEL, ours.init(MODEL), MODEL, value=3.0)
    assert seen == [3.0]
    np.testing.assert_array_equal(updates.vp, 0.0)


def test_parameters_apart():
    """Each transformation under `optax.partition`, which puts masked nodes in the place of the others' parameters."""
    gradient, model = elastic(), elastic(3)
    grid, light = jf.Grid(SHAPE, 10.0, 1e-3, 10), jf.Elastic(*(x**2 for x in jax.tree.leaves(elastic(6))))
    mask = jf.Elastic(~SEA, ~SEA, ~SEA)
    chain = [
        smooth(grid, jf.Elastic(10.0, 20.0, 30.0), mask),
        clip_quantile(0.9),
        mute(grid, [[50.0, 20.0]], 30.0),
        precondition(light),
    ]
    fast, slow = optax.chain(*chain, optax.sgd(10.0)), optax.chain(smooth(grid, 20.0, ~SEA), precondition(light))
    optimizer = optax.partition(
        {"fast": fast, "slow": slow, "frozen": optax.set_to_zero(), "none": fast},
        jf.Elastic(vp="fast", vs="slow", rho="frozen"),
    )
    ours, _ = run(optimizer, gradient, model)
    np.testing.assert_allclose(ours.vp, run(fast, gradient, model)[0].vp, rtol=1e-14)
    np.testing.assert_allclose(ours.vs, run(slow, gradient, model)[0].vs, rtol=1e-14)
    np.testing.assert_array_equal(ours.rho, 0.0)
    assert (np.asarray(ours.vp) != 0).sum() == 107  # all but the one at the source


def quadratic(seed=0):
    """A model of three parameters in different units, and the quadratic misfit ``1/2 m H m - b m`` of it."""
    random = np.random.default_rng(seed)
    root = random.standard_normal((12, 12))
    unit = np.repeat([1.0, 0.1, 30.0], 4)
    hessian = unit[:, None] * (root @ root.T + 2 * np.eye(12)) * unit
    b = unit * random.standard_normal(12)
    start = random.standard_normal(12)

    def value(model, gauss_newton_fn=None):  # the searches of optax pass on to it what they do not know
        m = jnp.concatenate(jax.tree.leaves(model))
        return 0.5 * m @ hessian @ m - b @ m

    def product(direction):
        return in_parts(hessian @ jnp.concatenate(jax.tree.leaves(direction)))

    return hessian, in_parts(start), in_parts(hessian @ start - b), value, product


def in_parts(vector):
    return jf.Elastic(*vector.reshape(3, 4))


def flat(tree):
    return np.concatenate(jax.tree.leaves(tree))


def test_as_many_products_as_unknowns_solve_the_system():
    hessian, model, gradient, _, product = quadratic()
    # In exact arithmetic 12 products would do. The diagonal takes the units out of a condition of 6e5.
    for diagonal, most in ((None, 24), (in_parts(np.diag(hessian)), 13)):
        solver = truncated_gauss_newton(24, tolerance=1e-12, diagonal=diagonal)
        ours, state = run(solver, gradient, model, gauss_newton_fn=product)
        expected = np.linalg.solve(hessian, -flat(gradient))
        # At most the condition times the tolerance. Measured: 4e-11, 5e-12 with the diagonal; products 23 and 13.
        np.testing.assert_allclose(flat(ours), expected, rtol=0, atol=1e-8 * abs(expected).max())
        assert state.residual < 1e-12
        assert 12 <= state.products <= most
    # damping of each parameter
    apart, _ = run(truncated_gauss_newton(24, jf.Elastic(1.0, 2.0, 3.0), 1e-12), gradient, gauss_newton_fn=product)
    expected = np.linalg.solve(hessian + np.diag(np.repeat([1.0, 2.0, 3.0], 4)), -flat(gradient))
    # Measured: 1.6e-9.
    np.testing.assert_allclose(flat(apart), expected, rtol=0, atol=1e-7 * abs(expected).max())


def test_stops_in_time():
    hessian, model, gradient, _, product = quadratic()
    for iterations, tolerance in ((1, 0.0), (3, 0.0), (12, 0.3)):
        ours, state = run(truncated_gauss_newton(iterations, 0.0, tolerance), gradient, gauss_newton_fn=product)
        left = np.linalg.norm(flat(gradient) + hessian @ flat(ours)) / np.linalg.norm(flat(gradient))
        assert float(state.residual) == pytest.approx(left, rel=1e-8)
        if tolerance:
            assert state.products < iterations
            assert left <= tolerance
        else:
            assert state.products == iterations
    nothing, state = run(truncated_gauss_newton(), jax.tree.map(np.zeros_like, model), gauss_newton_fn=product)
    np.testing.assert_array_equal(flat(nothing), 0.0)
    assert state.products == 0


def test_directions_of_no_curvature():
    """The steepest descent if it is the first of them; else what there is before it."""
    curvature = jnp.array([-1.0, 2.0])
    for first, expected in (([1.0, 0.5], [-1.0, -0.5]), ([0.1, 1.0], None)):
        gradient = jnp.array(first)
        ours, state = run(truncated_gauss_newton(5, 0.0, 0.0), gradient, gauss_newton_fn=lambda d: curvature * d)
        if expected is None:
            size = (gradient @ gradient) / (gradient @ (curvature * gradient))
            np.testing.assert_allclose(ours, -size * gradient, rtol=1e-14)
            assert state.products == 2
        else:
            np.testing.assert_allclose(ours, expected, rtol=1e-15)
            assert state.products == 1
        assert ours @ gradient < 0


def test_small_numbers_in_single_precision():
    _, _, gradient, _, product = quadratic()
    small = jax.tree.map(lambda x: (1e-25 * x).astype(jnp.float32), gradient)

    def scaled(direction):
        return jax.tree.map(lambda x: (1e-25 * x).astype(jnp.float32), product(direction))

    ours, _ = run(truncated_gauss_newton(3), small, gauss_newton_fn=scaled)
    usual, _ = run(truncated_gauss_newton(3), gradient, gauss_newton_fn=product)
    assert [x.dtype for x in jax.tree.leaves(ours)] == [jnp.float32] * 3
    # Rounding of single precision in three products. Measured: 1e-8.
    np.testing.assert_allclose(flat(ours), flat(usual), rtol=0, atol=1e-6 * abs(flat(usual)).max())


def test_a_line_search_behind_it():
    """No sign, no learning rate: the chain takes the whole step of a quadratic, and shortens one that is too long."""
    hessian, model, gradient, value, product = quadratic()
    solver = truncated_gauss_newton(24, 0.0, 1e-12)
    search = optax.scale_by_backtracking_linesearch(max_backtracking_steps=20)
    best = flat(model) - np.linalg.solve(hessian, flat(gradient))
    number = value(model)
    for chain, long in ((optax.chain(solver, search), 1), (optax.chain(solver, optax.scale(3.0), search), 3)):
        extra = {"value": number, "grad": gradient, "value_fn": value, "gauss_newton_fn": product}
        updates, state = run(chain, gradient, model, **extra)
        new = jax.tree.map(np.add, model, updates)
        rate = float(state[-1].learning_rate)
        if long == 1:
            assert rate == 1.0
            np.testing.assert_allclose(flat(new), best, rtol=0, atol=1e-8 * abs(best).max())
        else:  # three times too long climbs: 0.8 to the power that brings it below twice is taken
            assert rate == pytest.approx(0.8**2)
        assert value(new) < number


def test_parameters_of_a_group():
    """The Hessian's block of a group, as if the others were fixed."""
    hessian, model, gradient, _, product = quadratic()
    optimizer = optax.partition(
        {"solved": truncated_gauss_newton(24, tolerance=1e-12), "other": optax.sgd(1.0)},
        jf.Elastic(vp="solved", vs="other", rho="solved"),
    )
    ours, _ = run(optimizer, gradient, model, grad=gradient, gauss_newton_fn=product)
    chosen = np.r_[0:4, 8:12]
    expected = np.linalg.solve(hessian[np.ix_(chosen, chosen)], -flat(gradient)[chosen])
    # Measured: 6e-14, of the same tolerance.
    np.testing.assert_allclose(flat(ours)[chosen], expected, rtol=0, atol=1e-11 * abs(expected).max())
    np.testing.assert_array_equal(ours.vs, -gradient.vs)
    with pytest.raises(ValueError, match=r"needs the extra argument grad, the gradient of the whole model"):
        run(optimizer, gradient, model, gauss_newton_fn=product)


def test_nonlinear_least_squares():
    """Gauss-Newton on residuals that vanish converges quadratically."""
    time = jnp.linspace(0.0, 2.0, 20)
    true = {"height": jnp.array([3.0, 1.0]), "rate": jnp.array([0.5, 4.0])}

    def data(model):
        return jnp.sum(model["height"] * jnp.exp(-model["rate"] * time[:, None]), axis=1)

    def value(model, gauss_newton_fn=None):
        return 0.5 * jnp.sum((data(model) - data(true)) ** 2)

    optimizer = optax.chain(truncated_gauss_newton(4, tolerance=1e-10), optax.scale_by_backtracking_linesearch(10))

    @jax.jit
    def step(model, state):
        number, gradient = jax.value_and_grad(value)(model)

        def product(direction):
            return jax.vjp(data, model)[1](jax.jvp(data, (model,), (direction,))[1])[0]

        extra = {"value": number, "grad": gradient, "value_fn": value, "gauss_newton_fn": product}
        updates, state = optimizer.update(gradient, state, model, **extra)
        return optax.apply_updates(model, updates), state, number

    model = {"height": jnp.array([2.5, 1.5]), "rate": jnp.array([0.6, 3.0])}
    state, numbers = optimizer.init(model), []
    for _ in range(8):
        model, state, number = step(model, state)
        numbers.append(float(number))
    # Measured: 1, 5e-2, 3e-5, 3e-10, 2e-21, then rounding.
    assert numbers[-1] < 1e-20
    np.testing.assert_allclose(model["rate"], true["rate"], rtol=1e-8)


MODEL = jf.Acoustic(vp=jnp.ones(9))
LINE = jf.Grid(9, 10.0, 1e-3, 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (sum_of, r"sum_of\(\) needs one transformation or more"),
        (lambda: smooth(20.0, ~SEA), r"grid must be a jaxfwi\.Grid, .* got 20\.0: pass the grid of your simulator"),
        (lambda: smooth(LINE, -1.0), r"length must be zero or more metres, got -1\.0"),
        (lambda: smooth(LINE, (1.0, 2.0)).init(MODEL), r"length must be .* one per axis, 1 in all, got \(1\.0, 2\.0\)"),
        (
            lambda: smooth(LINE, jf.Elastic(1.0, 1.0, 1.0)).init(MODEL),
            r"length must be one for all parameters or like the model, Acoustic",
        ),
        (
            lambda: smooth(LINE, 1.0, np.full(9, 2.0)).init(MODEL),
            r"mask must have the model's shape \(9,\) and be True \(or 1\) where cells may change.* got float64",
        ),
        (
            lambda: smooth(LINE, 1.0, np.ones(8, bool)).init(MODEL),
            r"mask must have .* \(9,\).* got bool of shape \(8,\)",
        ),
        (
            lambda: smooth(GRID, 1.0).init(MODEL),
            r"the model has shape \(9,\), the grid \(12, 9\): pass the grid it lies on",
        ),
        (lambda: clip_quantile(0.0), r"quantile must lie above 0 and be at most 1, got 0\.0"),
        (lambda: mute(10.0, [[10.0]], 5.0), r"grid must be a jaxfwi\.Grid, .* got 10\.0"),
        (lambda: mute(LINE, [[10.0]], 0.0), r"radius must be a positive number of metres, got 0\.0"),
        (
            lambda: mute(LINE, [[10.0, 20.0]], 5.0),
            r"positions must be finite metres \(\.\.\., 1\).* got shape \(1, 2\)",
        ),
        (lambda: mute(LINE, [[10.0]], 5.0).init(jnp.ones(8)), r"the model has shape \(8,\), the grid \(9,\): pass the"),
        (lambda: precondition(MODEL, 0.0), r"damping must be a positive number, got 0\.0"),
        (lambda: precondition(jf.Acoustic(vp=-jnp.ones(9))), r"diagonal must be finite and nowhere below 0"),
        (lambda: precondition(jnp.ones(8)).init(MODEL), r"diagonal must be of the model's shape \(9,\) or a"),
        (lambda: truncated_gauss_newton(0), r"iterations must be a whole number of at least 1, got 0"),
        (lambda: truncated_gauss_newton(tolerance=1.0), r"tolerance must lie from 0 to below 1, got 1\.0"),
        (lambda: truncated_gauss_newton(damping=-1.0), r"damping must be a number, 0 or more.* got -1\.0"),
        (lambda: truncated_gauss_newton(diagonal=MODEL.vp.at[0].set(jnp.nan)), r"diagonal must be finite"),
        (lambda: run(truncated_gauss_newton(), MODEL), r"needs the extra argument gauss_newton_fn.*jaxfwi\.invert"),
    ],
    ids=range(21),
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()
