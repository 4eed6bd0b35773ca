import numpy as np
import pytest

import jaxfwi as jf
from jaxfwi import models
from jaxfwi.models import marmousi


def grid_of(shape, spacing=20.0):
    return jf.Grid(shape, spacing, 1e-3, 10)


SECTION = grid_of((150, 400))


def test_marmousi_like_is_the_same_each_time_and_differs_between_seeds():
    first = models.marmousi_like(SECTION, seed=3)
    assert first.dtype == np.float32
    assert first.shape == (150, 400)
    np.testing.assert_array_equal(first, models.marmousi_like(SECTION, seed=3))
    assert np.mean(first != models.marmousi_like(SECTION, seed=4)) > 0.5


@pytest.mark.parametrize("spacing", [20.0, (20.0, 10.0), (12.5, 25.0)])
def test_marmousi_like_is_one_geology_at_every_resolution(spacing):
    coarse = models.marmousi_like(grid_of((75, 100), spacing), seed=1)
    fine = models.marmousi_like(grid_of((300, 400), np.asarray(spacing) / 4), seed=1)
    np.testing.assert_array_equal(fine[::4, ::4], coarse)


@pytest.mark.parametrize("seed", range(5))
def test_marmousi_like_velocities(seed):
    vp = models.marmousi_like(SECTION, seed=seed)
    water = models.is_water(vp)
    assert np.isfinite(vp).all()
    assert (vp[water] == 1500).all()
    assert vp[~water].min() >= 1600
    assert 4200 < vp.max() <= 4700
    # Faster with depth on the whole, though not layer by layer.
    mean = np.where(water, np.nan, vp)[30:].reshape(6, 20, 400).mean(axis=(1, 2))
    assert (np.diff(mean) > 0).all()
    layers = (np.abs(np.diff(vp[:, 150])) > 15).sum()
    assert 20 <= layers <= 40
    assert (np.diff(vp[:, 150]) < -50).sum() >= 5


def test_marmousi_like_water_depth():
    vp = models.marmousi_like(grid_of((300, 400), 10.0))
    bed = models.is_water(vp).sum(axis=0) * 10.0
    assert abs(bed - 270).max() < 0.1 * 270 + 10
    assert np.ptp(bed) > 10
    assert abs(np.diff(bed)).max() <= 10
    assert not models.is_water(models.marmousi_like(grid_of((60, 80)), water_depth=0.0)).any()
    deep = models.marmousi_like(grid_of((60, 80)), water_depth=500.0)
    assert abs(models.is_water(deep).sum(axis=0).mean() * 20 - 500) < 40


def horizon(monkeypatch, *, heave):
    """Depth in metres, at each distance, of one interface in the young series; ``heave`` scales all slip."""
    faults = marmousi._faults

    def layers(random, count, span, velocity):
        if span[0] == 0:
            return np.array([0.15]), np.array([2000.0, 2800.0])
        return np.array([0.0]), np.array([4000.0, 4000.0])

    monkeypatch.setattr(marmousi, "_layers", layers)
    monkeypatch.setattr(marmousi, "_faults", lambda random: [(f[0], heave * f[1], *f[2:]) for f in faults(random)])
    return np.argmax(models.marmousi_like(grid_of((600, 1600), 5.0)) > 2500, axis=0) * 5.0


def test_faults_displace_layers(monkeypatch):
    def dip(depth):
        return (depth[10:] - depth[:-10]) / (10 * 5.0)

    unbroken = horizon(monkeypatch, heave=0.0)
    assert abs(dip(unbroken)).max() < 0.3
    monkeypatch.undo()
    broken = horizon(monkeypatch, heave=1.0)
    # Where a fault cuts it the horizon follows the fault, steeper than any bed.
    steep = np.nonzero(abs(dip(broken)) > 1)[0]
    faults = np.split(steep, np.nonzero(np.diff(steep) > 20)[0] + 1)
    throws = [broken[fault[-1] + 10] - broken[fault[0]] for fault in faults]
    # Three let down what lies to their right; the last faces them.
    assert len(throws) == 4
    assert min(*throws[:3], -throws[3]) > 50
    # Left of them nothing moves but for the thin end of the last one's hanging wall.
    np.testing.assert_allclose(broken[: steep[0]], unbroken[: steep[0]], atol=5)


def test_undoing_a_fault_lifts_the_hanging_wall_only():
    start, heave, length, floor = 0.3, 0.03, 0.1, 0.8
    x = np.array([0.29, 0.45, 0.36, 0.36])
    surface = floor * (1 - np.exp(-(x - start) / length))
    depth = np.array([0.4, surface[1] + 0.01, surface[2] - 1e-6, surface[2] + 1e-6])
    x_old, depth_old = marmousi._undo_fault(x, depth, start, heave, length, floor)
    moved = np.array([False, False, True, False])
    np.testing.assert_array_equal(x_old[~moved], x[~moved])
    np.testing.assert_array_equal(depth_old[~moved], depth[~moved])
    assert x_old[2] < x[2]
    assert depth_old[2] < depth[2] - 0.05
    # The mirrored fault does the mirrored thing.
    x_mirrored, depth_mirrored = marmousi._undo_fault(1 - x, depth, 1 - start, -heave, length, floor)
    np.testing.assert_allclose(1 - x_mirrored, x_old)
    np.testing.assert_allclose(depth_mirrored, depth_old)


@pytest.mark.parametrize("seed", range(5))
def test_gas_lens_is_slow_and_is_not_water(seed):
    vp = models.marmousi_like(grid_of((300, 800), 10.0), seed=seed)
    deep = vp[115:]
    z, x = np.nonzero(deep < 0.9 * np.delete(deep, np.s_[480:620], axis=1).min())
    assert z.size > 100
    assert 480 <= x.min() < x.max() < 620
    assert not models.is_water(vp, water_velocity=deep.min())[100:].any()


def test_is_water_stops_at_the_first_fast_cell_in_any_dimension():
    column = np.array([1500, 1500, 1800, 1400, 1500], np.float32)
    expected = np.array([True, True, False, False, False])
    np.testing.assert_array_equal(models.is_water(column), expected)
    np.testing.assert_array_equal(
        models.is_water(np.tile(column[:, None, None], (1, 3, 2))),
        np.tile(expected[:, None, None], (1, 3, 2)),
    )
    assert models.is_water(np.float32([1480.3, 2000.0]), water_velocity=1480.3).tolist() == [True, False]


@pytest.mark.parametrize("shape", [(10,), (10, 4), (10, 4, 3)])
def test_two_layers(shape):
    grid = grid_of(shape)
    vp = models.two_layers(grid)
    assert vp.shape == shape
    assert vp.dtype == np.float32
    assert (vp[:5] == 1500).all()
    assert (vp[5:] == 2000).all()
    assert (models.two_layers(grid, depth=0.0) == 2000).all()
    assert (models.two_layers(grid, depth=200.0) == 1500).all()
    assert models.two_layers(grid, depth=40.0, upper=1700.0).reshape(10, -1)[:, 0].tolist() == [1700] * 2 + [2000] * 8
    assert (models.two_layers(grid, depth=40.1)[2] == 1500).all()


@pytest.mark.parametrize("spacing", [0.1, 1 / 3, 12.5, 33.3])
def test_an_interface_at_a_node_lies_there_whatever_the_rounding(spacing):
    for cells in range(101):
        vp = models.two_layers(grid_of(100, spacing), depth=cells * spacing)
        assert (vp == 1500).sum() == cells


@pytest.mark.parametrize("slowness", [True, False])
@pytest.mark.parametrize("shape", [(40,), (20, 30), (8, 9, 10)])
def test_smoothing_leaves_a_constant(shape, slowness):
    constant = np.full(shape, 2345.678, np.float64)
    np.testing.assert_allclose(models.smooth(constant, grid_of(shape), 120.0, slowness=slowness), constant, rtol=1e-13)


@pytest.mark.parametrize("slowness", [True, False])
def test_smoothing_keeps_water_and_does_not_let_it_leak(slowness):
    vp = np.random.default_rng(0).uniform(2000, 4000, (40, 50)).astype(np.float32)
    grid, rock = grid_of(vp.shape), np.ones(vp.shape, bool)
    rock[:8] = False
    vp[~rock] = 1480.3
    smoothed = models.smooth(vp, grid, 60.0, rock, slowness=slowness)
    np.testing.assert_array_equal(smoothed[~rock], vp[~rock])
    # The rock does not see what is in the water, not even a value that is not a number.
    vp[~rock] = np.nan
    np.testing.assert_array_equal(models.smooth(vp, grid, 60.0, rock, slowness=slowness)[rock], smoothed[rock])
    # numbers are a mask too
    np.testing.assert_array_equal(models.smooth(vp, grid, 60.0, 1.0 * rock, slowness=slowness)[rock], smoothed[rock])
    alone = models.smooth(vp[8:], grid_of((32, 50)), 60.0, slowness=slowness)
    np.testing.assert_allclose(smoothed[8:], alone, rtol=1e-6)
    assert smoothed[8:].min() > 2000


def test_a_wave_falls_by_the_gaussian_factor_along_its_axis_only():
    cells, length = 400, 5.0
    grid = grid_of((400, 3), (20.0, 40.0))
    k = 2 * np.pi / 25
    wave = np.broadcast_to(np.cos(k * np.arange(cells))[:, None], (cells, 3))
    middle = slice(100, 300)  # away from the edges, where part of the Gaussian is outside
    smoothed = models.smooth(wave, grid, (20.0 * length, 0.0), slowness=False)
    expected = np.exp(-((k * length) ** 2) / 2)
    np.testing.assert_allclose(smoothed[middle], expected * wave[middle], atol=1e-12)
    np.testing.assert_allclose(models.smooth(wave, grid, (0.0, 40.0), slowness=False), wave, rtol=1e-14)
    np.testing.assert_array_equal(models.smooth(wave, grid, 0.0, slowness=False), wave)
    # In slowness it is the wave in slowness that falls so.
    slow = 1 / (4e-4 + 1e-4 * wave)
    smoothed = models.smooth(slow, grid, (20.0 * length, 0.0))
    np.testing.assert_allclose(1 / smoothed[middle], 4e-4 + expected * 1e-4 * wave[middle], rtol=1e-12)


def test_smoothing_slowness_keeps_traveltime():
    vp = models.marmousi_like(grid_of((150, 50)), seed=2)[30:].astype(np.float64)
    vp = np.concatenate([np.full((60, 50), vp[0]), vp, np.full((60, 50), vp[-1])])
    grid = grid_of(vp.shape)
    time = (20 / vp).sum(axis=0)
    kept = (20 / models.smooth(vp, grid, (200.0, 0.0))).sum(axis=0)
    lost = (20 / models.smooth(vp, grid, (200.0, 0.0), slowness=False)).sum(axis=0)
    assert abs(kept / time - 1).max() < 0.2 * abs(lost / time - 1).min()


def test_smoothing_does_not_touch_its_input_and_keeps_float64():
    grid = grid_of((20, 5))
    vp = models.two_layers(grid)
    before = vp.copy()
    assert models.smooth(vp, grid, 40.0).dtype == np.float32
    np.testing.assert_array_equal(vp, before)
    assert models.smooth(vp.astype(np.float64), grid, 40.0).dtype == np.float64
    assert models.smooth(np.full((4, 4), 2000), grid_of((4, 4)), 20.0).dtype == np.float32


def test_linear_in_depth_follows_the_sea_bed():
    vp = np.full((11, 3), 2000.0, np.float32)
    rock = np.ones(vp.shape, bool)
    rock[:3, 0] = rock[:1, 1] = rock[:, 2] = False
    vp[~rock] = 1500
    line = models.linear_in_depth(vp, rock, top=1600.0, bottom=2500.0)
    np.testing.assert_array_equal(line[~rock], vp[~rock])
    np.testing.assert_allclose(line[3:, 0], 1600 + 100 * np.arange(8))
    np.testing.assert_allclose(line[1:, 1], 1600 + 100 * np.arange(10))


def test_linear_in_depth_fits_what_is_not_given():
    depth = np.arange(20)[:, None, None]
    vp = np.broadcast_to(1700.0 + 30.0 * depth, (20, 4, 3))
    np.testing.assert_allclose(models.linear_in_depth(vp), vp)
    noisy = vp + np.random.default_rng(0).normal(0, 50, vp.shape)
    slope, intercept = np.polyfit(np.broadcast_to(depth, vp.shape).ravel(), noisy.ravel(), 1)
    np.testing.assert_allclose(models.linear_in_depth(noisy), np.broadcast_to(intercept + slope * depth, vp.shape))
    half = models.linear_in_depth(noisy, top=1700.0)
    np.testing.assert_allclose(half[0], 1700.0)
    t = depth / 19
    bottom = 1700 + np.sum(t * (noisy - 1700)) / np.sum(t**2 * np.ones_like(vp))
    np.testing.assert_allclose(half[-1], bottom)


def test_linear_in_depth_without_rock_or_depth():
    vp = np.full((3, 2), 1500.0, np.float32)
    np.testing.assert_array_equal(models.linear_in_depth(vp, np.zeros(vp.shape, bool)), vp)
    np.testing.assert_allclose(models.linear_in_depth(np.array([[1600.0, 1800.0]])), 1700.0)


rock = np.full((6, 5), 2000.0)
GRID = grid_of((6, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.marmousi_like((150, 400)), r"grid must be a jaxfwi\.Grid, .* got \(150, 400\): pass the grid"),
        (lambda: models.marmousi_like(grid_of(10)), r"give it a grid of shape \(nz, nx\), not \(10,\)"),
        (lambda: models.marmousi_like(SECTION, seed=1.5), "seed must be a whole number of at least 0, got 1.5"),
        (lambda: models.marmousi_like(SECTION, seed=None), "seed must be a whole number of at least 0, got None"),
        (
            lambda: models.marmousi_like(grid_of((10, 10), 10.0), water_depth=60.0),
            "water_depth must lie between 0 and 50 m",
        ),
        (lambda: models.two_layers((3, 3)), r"grid must be a jaxfwi\.Grid, .* got \(3, 3\)"),
        (lambda: models.two_layers(GRID, depth=121.0), r"depth must lie between 0 and 120 metres, got 121\.0"),
        (lambda: models.two_layers(GRID, depth=-1), "depth must lie between 0 and 120 metres"),
        (lambda: models.two_layers(GRID, depth="20"), "depth must lie between 0 and 120 metres, got '20'"),
        (lambda: models.two_layers(GRID, upper=-1.0), "upper must be a positive number in m/s, got -1.0"),
        (lambda: models.is_water(1500.0), "vp must be an array"),
        (lambda: models.is_water(rock, water_velocity=0.0), "water_velocity must be a positive number"),
        (lambda: models.smooth(rock, 20.0, 40.0), r"grid must be a jaxfwi\.Grid, .* got 20\.0"),
        (lambda: models.smooth(rock, (20.0, 20.0), 40.0), r"grid must be a jaxfwi\.Grid, .* got \(20\.0, 20\.0\)"),
        (lambda: models.smooth(rock.T, GRID, 40.0), r"model has shape \(5, 6\), the grid \(6, 5\).* may be transposed"),
        (lambda: models.smooth(rock, GRID, -1.0), r"length must be zero or more metres, got -1\.0"),
        (lambda: models.smooth(rock, GRID, (1.0, np.nan)), "length must be zero or more metres"),
        (lambda: models.smooth(rock, GRID, (1.0, 1.0, 1.0)), "length must be one number or one per axis, 2 in all"),
        (
            lambda: models.smooth(rock, GRID, 1.0, mask=np.zeros((5, 6), bool)),
            r"mask must have the model's shape \(6, 5\) .* got bool of shape \(5, 6\)",
        ),
        (
            lambda: models.smooth(rock, GRID, 1.0, mask=np.full((6, 5), 0.5)),
            r"mask must .* be True \(or 1\) where cells may change, .* got float64 of shape \(6, 5\)",
        ),
        (lambda: models.smooth(0 * rock, GRID, 1.0), "pass slowness=False"),
        (lambda: models.smooth(np.nan * rock, GRID, 1.0), "model must be finite"),
        (lambda: models.linear_in_depth(1500.0), "vp must be an array"),
        (lambda: models.linear_in_depth(rock, top=0.0), "top must be a positive number"),
        (lambda: models.linear_in_depth(rock, mask=np.zeros(6, bool)), "mask must have the model's shape"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
