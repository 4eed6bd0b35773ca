"""Diagnostics: lags, skipped cycles and offsets of data made so that the answers are known."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxfwi as jf
from figures import draw, has_units
from jaxfwi import plot
from jaxfwi.diagnostics import cycle_skipping, misfit_by_offset, time_shifts

NT, DT = 125, 4e-3  # an odd number of samples
GRID = jf.Grid(shape=10, spacing=10.0, dt=DT, nt=NT)
FREQUENCY = 15.0  # Hz, of the Ricker wavelets' peak
# The mean of f weighted by the power f⁴ exp(-2 f² / peak²) of a Ricker wavelet.
PERIOD = 3.0 * np.sqrt(2.0 * np.pi) / (8.0 * FREQUENCY)


def pulses(times, frequency=FREQUENCY):
    """Ricker wavelets at times in seconds, ``(..., receivers)``, as data ``(..., NT, receivers, 1)``."""
    square = (np.pi * frequency * (DT * np.arange(NT)[:, None] - np.asarray(times)[..., None, :])) ** 2
    return ((1.0 - 2.0 * square) * np.exp(-square))[..., None]


TIMES = np.array([[0.20, 0.24, 0.28], [0.22, 0.26, 0.30]])
OBSERVED = pulses(TIMES)


@pytest.mark.parametrize(
    ("late", "error"),
    [
        # Rounding of the transforms by the curvature of the correlation, 0.18 per sample squared. Measured: 7e-15.
        (np.array([[3, -7, 0], [30, -30, 1]]) * DT, 1e-12),
        # The correlation is no parabola between samples. Measured: 4e-3.
        (np.array([[0.3, -0.5, 2.25], [-11.7, 6.1, -0.01]]) * DT, 1e-2),
    ],
    ids=["samples", "between"],
)
def test_lags_of_shifted_pulses(late, error):
    amplitudes = np.array([2.0, 1e-3, 0.5])[:, None]
    lags, correlations = time_shifts(amplitudes * pulses(TIMES + late), OBSERVED, GRID)
    assert lags.shape == correlations.shape == (2, 3, 1)
    np.testing.assert_allclose(lags[..., 0] / DT, late / DT, atol=error)
    # 1 at whole samples, to rounding; half a sample off, it has fallen by 0.5 x 0.18 x 0.5² = 0.022.
    np.testing.assert_allclose(correlations, 1.0, atol=1e-12 if error < 1e-10 else 0.025)


def test_lags_of_polarity_and_silence():
    """The largest value of the correlation, not of its magnitude; nothing from silence."""
    lags, correlations = time_shifts(-OBSERVED, OBSERVED, GRID)
    # Half a period of this wavelet of one cycle and a half, on either side. Measured: 0.46 periods, correlation 0.62.
    np.testing.assert_allclose(abs(lags), 0.5 * PERIOD, rtol=0.1)
    np.testing.assert_allclose(correlations, 0.62, atol=0.01)
    for data in ((0 * OBSERVED, OBSERVED), (OBSERVED, 0 * OBSERVED), (0 * OBSERVED, 0 * OBSERVED)):
        lags, correlations = time_shifts(*data, GRID)
        assert not lags.any()
        assert not correlations.any()


@pytest.mark.parametrize("where", [np.asarray, jnp.asarray])
def test_numpy_and_jax_in_numpy_out(where):
    survey = jf.Survey.from_arrays(np.zeros((2, 2)), np.eye(3, 2), np.zeros(NT))
    data = [where(x.astype(np.float32)) for x in (pulses(TIMES + DT), OBSERVED)]
    results = [*time_shifts(*data, GRID), cycle_skipping(*data, GRID)[0], *misfit_by_offset(*data, survey, 2)]
    assert all(type(x) is np.ndarray for x in results)
    # Single precision by the correlation's curvature of 0.18 per sample squared. Measured: 2e-7.
    np.testing.assert_allclose(results[0], DT, rtol=1e-5)


def test_threshold_of_half_a_period():
    """Just below half a period and just above, either way, and far off."""
    half = 0.5 * PERIOD
    late = half * np.array([[0.98, -0.98, 0.0], [1.02, -1.02, 3.0]])
    skipped, share = cycle_skipping(pulses(TIMES + late), OBSERVED, GRID)
    # Measured: lags are good to 4e-3 samples, the period to 3e-9 of itself. Half of it is 7.83 samples, 2% 0.16.
    assert skipped.tolist() == [[[False]] * 3, [[True]] * 3]
    assert share == 0.5


def test_period_is_that_of_the_observed():
    """The same lag is 0.7 of half the slower period, and 1.4 of half the faster."""
    late = 0.7 * 0.5 * PERIOD
    for predicted, observed, expected in ((2, 1, 0.0), (1, 2, 1.0)):
        data = pulses(TIMES + late, predicted * FREQUENCY), pulses(TIMES, observed * FREQUENCY)
        for dt in (DT, 0.1 * DT):  # which counts samples in seconds, and no more
            grid = jf.Grid(shape=10, spacing=10.0, dt=dt, nt=NT)
            assert cycle_skipping(*data, grid)[1] == expected


def test_share_of_traces_with_energy():
    predicted, observed = pulses(TIMES + PERIOD), OBSERVED.copy()
    predicted[0, :, 0] = 0.0  # zero in the predicted
    observed[1, :, 2] = 0.0  # in the observed
    predicted[1, :, 1], observed[1, :, 1] = 0.0, 0.0  # in both
    predicted[0, :, 1] = observed[0, :, 1]
    skipped, share = cycle_skipping(predicted, observed, GRID)
    assert skipped[..., 0].tolist() == [[False, False, True], [True, False, False]]
    assert share == 2 / 3
    observed[0, :, 2] *= 0.009  # quiet within its shot
    skipped, share = cycle_skipping(predicted, observed, GRID, least=0.01)
    assert skipped[..., 0].tolist() == [[False, False, False], [True, False, False]]
    assert share == 1 / 2
    skipped, share = cycle_skipping(0 * predicted, observed, GRID)
    assert not skipped.any()
    assert np.isnan(share)


def test_one_trace_and_components():
    one = cycle_skipping(pulses([[0.3]]), pulses([[0.2]]), GRID)
    assert (one[0].tolist(), one[1]) == ([[[True]]], 1.0)
    both = [np.concatenate(x, axis=-1) for x in ((pulses(TIMES + DT), OBSERVED), (OBSERVED, OBSERVED))]
    np.testing.assert_allclose(time_shifts(*both, GRID)[0], np.full((2, 3, 2), [DT, 0.0]), atol=1e-12)


# Two shots of 3 and 2 receivers, the second with two sources; offsets 30, 50 (3, 4, 5) and 100; 20 and 40.
UNEVEN = jf.Survey.from_lists(
    [[[10.0, 0.0]], [[10.0, 1000.0], [10.0, 2000.0]]],
    [[[10.0, 30.0], [40.0, 40.0], [10.0, -100.0]], [[10.0, 1020.0], [10.0, 1960.0]]],
    np.zeros(7),
)


def test_misfit_by_offset_of_uneven_shots():
    rng = np.random.default_rng(0)
    predicted, observed = rng.standard_normal((2, 2, 7, 3, 2))
    assert np.asarray(UNEVEN.receiver_mask).tolist() == [[True, True, True], [True, True, False]]
    predicted[1, :, 2], observed[1, :, 2] = np.nan, 1e9  # padding
    edges, misfit, count = misfit_by_offset(predicted, observed, UNEVEN, [0.0, 25.0, 50.0, 60.0, 90.0, 100.0])
    assert edges.tolist() == [0.0, 25.0, 50.0, 60.0, 90.0, 100.0]
    members = [[(1, 0)], [(0, 0), (1, 1)], [(0, 1)], [], [(0, 2)]]  # lower edges are in, and the last
    assert count.tolist() == [2, 4, 2, 0, 2]
    for found, bin in zip(misfit, members, strict=True):
        if not bin:
            assert np.isnan(found)
            continue
        p, o = (np.concatenate([x[s, :, r].ravel() for s, r in bin]) for x in (predicted, observed))
        # Sums of 28 squares.
        np.testing.assert_allclose(found, ((p - o) ** 2).sum() / (o**2).sum(), rtol=1e-14)
    # what lies outside is left out
    assert misfit_by_offset(predicted, observed, UNEVEN, [25.0, 45.0])[2].tolist() == [4]
    assert misfit_by_offset(predicted, observed, UNEVEN, [500.0, 600.0])[2].tolist() == [0]


def test_bins_by_their_number():
    data = np.ones((2, 7, 3, 1))
    edges, misfit, count = misfit_by_offset(0 * data, data, UNEVEN, 4)
    assert edges.tolist() == [20.0, 40.0, 60.0, 80.0, 100.0]
    assert count.tolist() == [2, 2, 0, 1]
    np.testing.assert_array_equal(misfit, [1.0, 1.0, np.nan, 1.0])
    # one offset alone, and observed data of zeros
    one = jf.Survey.from_arrays([[0.0]], [[5.0]], np.zeros(7))
    edges, misfit, count = misfit_by_offset(data[:1, :, :1], data[:1, :, :1], one, 1)
    assert (edges[0] <= 5.0 <= edges[1], misfit.tolist(), count.tolist()) == (True, [0.0], [1])
    assert np.isnan(misfit_by_offset(data[:1, :, :1], 0 * data[:1, :, :1], one)[1]).all()


def test_what_misfit_by_offset_gives_is_drawn():
    edges, misfit, _ = misfit_by_offset(np.zeros((2, 7, 3, 1)), np.ones((2, 7, 3, 1)), UNEVEN, 4)
    axes = plot.data_fit(edges, {"start": misfit, "result": 0.2 * misfit}, title="Fit")
    draw(axes.figure)
    assert has_units(axes.figure)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["start", "result"]
    start, result = axes.patches
    np.testing.assert_allclose(start.get_data().edges, [0.02, 0.04, 0.06, 0.08, 0.1])
    np.testing.assert_array_equal(result.get_data().values, 0.2 * misfit)
    assert start.get_edgecolor() != result.get_edgecolor()
    assert axes.get_ylim()[0] == 0.0
    assert plot.data_fit(edges, {"again": misfit}, axes) is axes


NAN = np.where(np.arange(2)[:, None, None, None] == 1, np.nan, OBSERVED)
FLAT = jf.Survey.from_arrays(np.zeros((2, 2)), np.eye(3, 2), np.zeros(NT))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: time_shifts(OBSERVED, OBSERVED[:, 1:], GRID), r"must both be \(shots, time, receivers, components\)"),
        (lambda: time_shifts(OBSERVED[0], OBSERVED[0], GRID), "must both be"),
        (lambda: time_shifts(OBSERVED[:0], OBSERVED[:0], GRID), "must both be"),
        (lambda: time_shifts(OBSERVED, OBSERVED, DT), r"grid must be a jaxfwi\.Grid, .* got 0\.004: pass the grid"),
        (lambda: cycle_skipping(OBSERVED, OBSERVED, DT), "grid must be a"),
        (lambda: time_shifts(NAN, OBSERVED, GRID), "predicted data of shot 1 have values that are not finite"),
        (lambda: cycle_skipping(OBSERVED, NAN, GRID), "observed data of shot 1 have values"),
        (lambda: cycle_skipping(OBSERVED, OBSERVED, GRID, least=1.0), "least must be a number from 0 to below 1"),
        (lambda: misfit_by_offset(NAN, OBSERVED, FLAT), "predicted data of shot 1 have values"),
        (lambda: misfit_by_offset(OBSERVED, OBSERVED, FLAT[:1]), "survey must have the data's 2 shots and 3 receivers"),
        (lambda: misfit_by_offset(OBSERVED, OBSERVED, FLAT[0]), "survey must have"),
        (lambda: misfit_by_offset(OBSERVED, OBSERVED, FLAT, 0), "bins must be a whole number of at least 1"),
        (lambda: misfit_by_offset(OBSERVED, OBSERVED, FLAT, [0.0]), "bins must be a number of bins or two or more"),
        (lambda: misfit_by_offset(OBSERVED, OBSERVED, FLAT, [0.0, 5.0, 5.0]), "rising edges in metres"),
        (lambda: plot.data_fit([0.0, 1.0], {}), "misfits must hold one row of values or more"),
        (lambda: plot.data_fit([0.0, 0.0], {"a": [1.0]}), "edges must be two or more rising"),
        (lambda: plot.data_fit([0.0, 1.0], {"a": [1.0, 2.0]}), "one value for each of 1 bins"),
    ],
)
def test_mistakes(make, words):
    with pytest.raises(ValueError, match=words):
        make()
