"""Regularisers: exact values, gradients, grids, masks, and what they favour."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfwi as jf
from jaxfwi.regularisation import Reference, Sum, Tikhonov, TotalVariation

SHAPES = [(40,), (12, 9), (6, 5, 4)]
SPACINGS = {1: (5.0,), 2: (5.0, 8.0), 3: (5.0, 8.0, 4.0)}


def grid_of(shape, spacing=None):
    return jf.Grid(shape, SPACINGS[len(shape)] if spacing is None else spacing, 1e-3, 10)


LINE, SECTION = grid_of((40,)), grid_of((12, 9))


@jax.jit
def value(regulariser, x):
    return regulariser(x)


@jax.jit
def values(regularisers, x):
    return jnp.stack([regulariser(x) for regulariser in regularisers])


@jax.jit
def slope(regulariser, x):
    return jax.grad(regulariser)(x)


def noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def all_three(grid, reference=0.0, **options):
    return Tikhonov(grid, **options), TotalVariation(grid, **options), Reference(grid, reference, **options)


@pytest.mark.parametrize("shape", SHAPES, ids=len)
def test_values_of_constants_ramps_and_steps(shape):
    spacing = SPACINGS[len(shape)]
    h, volume, cells = spacing[-1], np.prod(spacing), np.prod(shape)
    faces = cells // shape[-1] * (shape[-1] - 1)
    ramp = np.broadcast_to(0.3 * h * np.arange(shape[-1]), shape)
    step = np.broadcast_to(np.where(np.arange(shape[-1]) < 2, 1.0, 8.0), shape)
    regularisers = (*all_three(grid_of(shape), 2000.0), TotalVariation(grid_of(shape), epsilon=1e-9))
    np.testing.assert_array_equal(values(regularisers, np.full(shape, 2000.0)), 0.0)
    tikhonov, variation, distance, _ = values(regularisers, ramp + 2000.0)
    # Sums of up to 120 equal terms, of models whose own rounding is 2e-13.
    assert float(tikhonov) == pytest.approx(0.5 * 0.3**2 * volume * faces, rel=1e-11)
    assert float(variation) == pytest.approx((np.hypot(0.3, 0.1) - 0.1) * volume * faces, rel=1e-11)
    assert float(distance) == pytest.approx(0.5 * volume * np.sum(ramp**2), rel=1e-11)
    # A step of 7 costs 7 times the area of its face; rounded below its epsilon, by 1e-9 a cell.
    sharp = values(regularisers, step)[3]
    assert float(sharp) == pytest.approx(7.0 * volume / h * (cells / shape[-1]), rel=1e-8)


def test_the_length_of_a_slanted_gradient():
    """All axes count in one length; the gradient of a plane that slants is no sum over axes."""
    z, x = np.meshgrid(5.0 * np.arange(12), 8.0 * np.arange(9), indexing="ij")
    inner = np.zeros((12, 9), bool)
    inner[:-1, :-1] = True
    plane = 0.3 * z + 0.4 * x
    regulariser = TotalVariation(SECTION, epsilon=1e-9)
    # cells of the last row and column have a difference along one axis only
    expected = 40.0 * (0.5 * 11 * 8 + 0.3 * 11 + 0.4 * 8)
    assert float(value(regulariser, plane)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("shape", SHAPES[1:], ids=len)
def test_gradients_by_differences(shape):
    mask = np.random.default_rng(1).random(shape) < 0.8
    regularisers = all_three(grid_of(shape), noise(shape, 2), weight=0.7, mask=mask)
    at, along, step = noise(shape, 3), noise(shape, 4), 1e-4
    difference = (values(regularisers, at + step * along) - values(regularisers, at - step * along)) / (2 * step)
    derivative = jax.jit(jax.jacrev(values, argnums=1))
    slopes = jnp.sum(derivative(regularisers, at) * along, axis=tuple(range(1, 1 + len(shape))))
    # The difference's error is step^2 times a third derivative. Measured: 4e-8 at most, of total variation.
    np.testing.assert_allclose(slopes, difference, rtol=1e-6)
    assert np.isfinite(derivative(regularisers, np.full(shape, 3.0))).all()


def test_a_finer_grid_has_the_same_value():
    """A smooth anomaly in a square of 800 m, on ever finer grids."""

    def on_grid(n):
        h = 800.0 / n
        at = (np.arange(n) + 0.5) * h
        bump = np.exp(-0.5 * ((at[:, None] - 380) ** 2 + (at - 420) ** 2) / 100.0**2)
        grid = grid_of((n, n), h)
        return values((Tikhonov(grid), TotalVariation(grid, epsilon=1e-5), Reference(grid, 0.0)), 100.0 * bump)

    coarse, fine = on_grid(40), on_grid(80)
    # By hand: a Gaussian bump of height a and width s has int |grad|^2 = pi a^2, int |grad| = (2 pi)^1.5 a s / 2, int
    # square = pi a^2 s^2. Differences are of second order, of first where they lie half a cell apart, as in a length;
    # the edges cut 1e-7 off. Measured: 5e-3, 1.7e-3, 7e-8 on the coarse grid; 1.3e-3, 0.9e-3, 8e-8 on the fine one.
    exact = [0.5 * np.pi * 1e4, (2 * np.pi) ** 1.5 / 2 * 100 * 100, 0.5 * np.pi * 1e8]
    np.testing.assert_allclose(coarse, exact, rtol=6e-3)
    np.testing.assert_allclose(fine, exact, rtol=2e-3)


def test_differences_across_a_mask_do_not_count():
    sea = np.arange(12)[:, None] < 4
    bed = np.where(sea, 1500.0, 2000.0) * np.ones((12, 9))
    for ours in all_three(SECTION, jf.Acoustic(vp=2000.0), mask=~np.broadcast_to(sea, (12, 9))):
        assert float(value(ours, jf.Acoustic(vp=bed))) == 0.0
        rock = jf.Acoustic(vp=bed + noise((12, 9)))
        gradient = slope(ours, rock).vp
        np.testing.assert_array_equal(gradient[:4], 0.0)
        assert (gradient[4:] != 0).all()
        # the rock alone, as if the sea were not there
        alone = dataclasses.replace(ours, mask=None, grid=grid_of((8, 9)))
        below = float(value(alone, jf.Acoustic(vp=rock.vp[4:])))
        assert float(value(ours, rock)) == pytest.approx(below, rel=1e-13)
        # of the model's kind, with numbers, as the mask of an inversion
        numbers = dataclasses.replace(ours, mask=jf.Acoustic(vp=np.where(sea, 0.0, 1.0) * np.ones((12, 9))))
        assert float(value(numbers, rock)) == pytest.approx(below, rel=1e-13)


def test_weights_of_parameters():
    model = jf.Elastic(vp=noise((12, 9)), vs=noise((12, 9), 1), rho=noise((12, 9), 2))
    for one, weighted in zip(
        all_three(SECTION), all_three(SECTION, weight=jf.Elastic(vp=2.0, vs=0.0, rho=0.5)), strict=True
    ):
        expected = 2.0 * value(one, model.vp) + 0.5 * value(one, model.rho)
        assert float(value(weighted, model)) == pytest.approx(float(expected), rel=1e-13)
        np.testing.assert_array_equal(slope(weighted, model).vs, 0.0)
    apart = value(TotalVariation(SECTION, epsilon=jf.Elastic(vp=0.1, vs=0.2, rho=0.3)), model)
    each = [
        value(TotalVariation(SECTION, epsilon=e), x)
        for e, x in zip((0.1, 0.2, 0.3), jax.tree.leaves(model), strict=True)
    ]
    assert float(apart) == pytest.approx(float(sum(each)), rel=1e-13)


def test_sums():
    a, b, c = all_three(LINE)
    x = noise((40,))
    for total in (a + b + c, a + (b + c), sum([a, b, c])):
        assert isinstance(total, Sum)
        assert len(total.terms) == 3
        assert float(total(x)) == pytest.approx(float(a(x) + b(x) + c(x)), rel=1e-14)
    for total in (a + jnp.sum, jnp.sum + a):
        assert float(total(x)) == float(a(x) + jnp.sum(x))


def test_arrays_are_leaves():
    """New weights and references are no new program."""
    traces = []

    @jax.jit
    def counted(regulariser, x):
        traces.append(0)
        return regulariser(x)

    x = noise((40,))
    values = [
        float(counted(Tikhonov(LINE, w, reference=noise((40,), w)) + TotalVariation(LINE, 2.0 * w), x))
        for w in (1, 2, 3)
    ]
    assert len(traces) == 1
    assert len(set(values)) == 3


def test_differences_from_a_reference():
    x, reference = noise((12, 9)), noise((12, 9), 1)
    ours = Tikhonov(SECTION, reference=reference)
    assert float(value(ours, reference + 7.0)) == pytest.approx(0.0, abs=1e-26)  # rounding, squared
    assert float(value(ours, x)) == pytest.approx(float(value(Tikhonov(SECTION), x - reference)), rel=1e-14)


def test_single_precision_stays():
    mask, x = np.arange(40) > 3, noise((40,)).astype(jnp.float32)
    for ours in all_three(LINE, np.zeros(40), mask=mask, weight=np.float64(2.0)):
        assert value(ours, x).dtype == jnp.float32
        assert slope(ours, x).dtype == jnp.float32


def test_total_variation_keeps_a_step_that_tikhonov_smooths():
    grid = grid_of((60,), 1.0)
    true = np.where(np.arange(60) < 30, 0.0, 1.0)
    seen = true + 0.05 * noise((60,))

    def denoised(regulariser, rate, steps):
        downhill = jax.grad(lambda x: 0.5 * jnp.sum((x - seen) ** 2) + regulariser(x))
        return jax.jit(lambda x: jax.lax.fori_loop(0, steps, lambda _, x: x - rate * downhill(x), x))(seen)

    sharp = denoised(TotalVariation(grid, weight=0.3, epsilon=1e-2), 0.8 / 121, 4000)  # 1 + 4 weight / epsilon is the
    smooth = denoised(Tikhonov(grid, weight=20.0), 1.8 / 81, 2000)  # largest curvature, 1 + 4 weight here
    jump, rough, wrong = zip(
        *[
            (float(x[30] - x[29]), float(np.std(np.diff(x[:25]))), float(np.linalg.norm(x - true)))
            for x in (seen, sharp, smooth)
        ],
        strict=True,
    )
    # Measured: jumps 0.94, 0.88, 0.11; differences within a block 0.054, 0.003, 0.009; distances 0.35, 0.15, 1.03.
    assert max(rough[1:]) < 0.25 * rough[0]
    assert jump[1] > 0.8
    assert jump[2] < 0.2
    assert wrong[1] < 0.5 * wrong[0]
    assert wrong[2] > 2.0 * wrong[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tikhonov(5.0), r"grid must be a jaxfwi\.Grid, .* got 5\.0: pass the grid of your simulator"),
        (lambda: TotalVariation((5.0, 5.0)), r"grid must be a jaxfwi\.Grid, .* got \(5\.0, 5\.0\)"),
        (lambda: Reference(np.ones(40), LINE), r"grid must be a jaxfwi\.Grid, .* got an array of shape \(40,\)"),
        (lambda: Tikhonov(LINE, -1.0), r"weight must be a number, 0 or more.* got -1\.0"),
        (lambda: Tikhonov(LINE, np.ones(40)), r"weight must be a number"),
        (lambda: Tikhonov(LINE, np.inf), r"weight must be a number"),
        (lambda: TotalVariation(LINE, epsilon=0.0), r"epsilon must be a positive number.* got 0\.0"),
        (lambda: Tikhonov(SECTION)(jnp.ones(40)), r"the model has shape \(40,\), the grid \(12, 9\): pass the grid it"),
        (lambda: Tikhonov(SECTION)(jnp.ones((9, 12))), r"It may be transposed: depth comes first"),
        (
            lambda: Tikhonov(LINE, mask=np.ones(3))(jnp.ones(40)),
            r"mask must be .* shape \(40,\) or a number, got shape \(3,\)",
        ),
        (
            lambda: Reference(LINE, np.ones(3))(jnp.ones(40)),
            r"reference must be .* \(40,\) or a number, got shape \(3,\)",
        ),
        (
            lambda: Tikhonov(LINE, jf.Elastic(1.0, 1.0, 1.0))(jf.Acoustic(vp=jnp.ones(40))),
            r"weight must be one for all parameters or like the model, Acoustic, got Elastic",
        ),
    ],
    ids=range(12),
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()
