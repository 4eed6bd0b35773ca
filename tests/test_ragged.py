"""Shots of unequal size: padded and masked, they are the same shots alone; towed streamers; gathers without padding."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import STRATEGIES, problem_with, relative
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxfwi as jf

GRID = jf.Grid((20, 24), (10.0, 12.0), 1.5e-3, 100)
MODEL = jf.Acoustic(vp=jnp.asarray(np.random.default_rng(0).uniform(2000.0, 2400.0, GRID.shape)))
WAVELET = jf.ricker(GRID, 17.0)
L2 = jf.misfits.l2
SOURCES = [[[30.0, 60.0]], [[50.0, 120.0], [20.0, 24.0]], [[90.0, 36.0]]]
RECEIVERS = [
    [[40.0, 120.0], [10.0, 0.0]],
    [[10.0, 12.0], [150.0, 276.0], [190.0, 60.0], [70.0, 132.0], [20.0, 180.0]],
    [[30.0, 60.0], [60.0, 36.0]],
]
COUNTS = [2, 5, 2]


def ragged(between=False, grid=GRID):
    """A survey of three shots, and the same shots as surveys of their own without padding."""
    amplitudes = [np.array([1.0]), np.array([1.0, -0.6]), np.array([0.7])]
    wavelets = [np.asarray(WAVELET)[:, None] * a for a in amplitudes]
    sources, receivers = (
        [[[0.97 * x + 1.3 if between else x for x in p[: grid.ndim]] for p in shot] for shot in positions]
        for positions in (SOURCES, RECEIVERS)
    )
    each = [jf.Survey.from_arrays([s], r, w[None]) for s, r, w in zip(sources, receivers, wavelets, strict=True)]
    return jf.Survey.from_lists(sources, receivers, wavelets), each


def noise(survey):
    """Observed data, the padded traces being anything but data."""
    data = np.random.default_rng(1).standard_normal((len(survey), 100, survey.receiver.shape[1], 1))
    padded = ~np.asarray(survey.receiver_mask)
    assert padded.any()
    data[np.broadcast_to(padded[:, None, :, None], data.shape)] = np.nan
    return data


simulate = jax.jit(jf.simulate, static_argnums=0)


@functools.partial(jax.jit, static_argnums=(0, 1))
def summed(simulator, misfit, model, survey, observed):
    return jf.Problem(simulator, survey, observed, misfit).misfit_and_gradient(model)


LINE = jf.Grid((40,), 10.0, 2e-3, 100)
ON_LINE = jf.Acoustic(vp=jnp.linspace(2000.0, 2400.0, 40))


def problem(between=False, **options):
    """A simulator, a model, a ragged survey and its shots alone; on one axis, which compiles soonest."""
    return jf.Simulator(LINE, absorber=jf.CPML(width=4), **options), ON_LINE, *ragged(between, LINE)


@functools.cache
def alone(between):
    """Data, misfit and gradient of the three shots, each in a survey of its own that knows nothing of padding."""
    simulator, model, survey, each = problem(between, free_surface=True, memory=jf.FullStorage())
    each = [one.on_nodes(LINE) for one in each]
    observed = survey.unpad(noise(survey))
    data = [simulate(simulator, model, one)[0] for one in each]
    parts = [summed(simulator, L2, model, one, o[None]) for one, o in zip(each, observed, strict=True)]
    return data, sum(value for value, _ in parts), sum(gradient.vp for _, gradient in parts)


CASES = {f"{name}, on nodes": (name, False) for name in STRATEGIES} | {"boundary, between": ("boundary", True)}


@pytest.mark.parametrize(("name", "between"), CASES.values(), ids=CASES)
def test_each_shot_is_as_it_is_alone(name, between):
    simulator, model, survey, _ = problem(between, free_surface=True, memory=STRATEGIES[name])
    survey = survey.on_nodes(LINE)
    assert (survey.source_lattice is None) == (survey.receiver_lattice is None) == between
    expected = alone(between)
    data = simulate(simulator, model, survey)
    assert data.shape == (3, LINE.nt, 5, 1)
    for gather, its in zip(survey.unpad(data), expected[0], strict=True):
        assert float(jnp.abs(its).max(axis=0).min()) > 0.0
        # The same steps in a program for other shapes. Measured: 0.
        assert relative(gather, its) < 1e-13
    for shot, count in enumerate(COUNTS):
        np.testing.assert_array_equal(data[shot, :, count:], 0.0)
    value, gradient = summed(simulator, L2, model, survey, noise(survey))
    # Sums of three, by strategies that compute otherwise. Measured: 0, and 3.6e-15 of boundary saving.
    assert relative(value, expected[1]) < 1e-12
    assert relative(gradient.vp, expected[2]) < 1e-12


def test_two_components_of_elastic_waves():
    """One of them is recorded half a step beside the samples' times, and moved from there."""
    model = jf.Elastic(vp=MODEL.vp, vs=MODEL.vp / 1.8, rho=jnp.full(GRID.shape, 2000.0))
    simulator = jf.Simulator(GRID, absorber=jf.CPML(width=3), receiver_fields=("vx", "p"))
    survey, each = ragged()
    survey, each = survey.on_nodes(GRID), [one.on_nodes(GRID) for one in each]
    data = simulate(simulator, model, survey)
    assert data.shape == (3, GRID.nt, 5, 2)
    for shot in (0, 2):  # of one shape, compiled once
        gather, its = survey.unpad(data)[shot], simulate(simulator, model, each[shot])[0]
        assert float(jnp.abs(its).max(axis=0).min()) > 0.0
        assert relative(gather, its) < 1e-13  # as above; measured 0
        np.testing.assert_array_equal(data[shot, :, COUNTS[shot] :], 0.0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_padding_has_no_part_in_any_derivative(name):
    simulator, model, survey, _ = problem(memory=STRATEGIES[name])
    shot = survey[0]
    padded = slice(COUNTS[0], None)

    def data(vp, source, receiver, wavelet):
        return simulator.one_shot(jf.Acoustic).data(
            jf.Acoustic(vp=vp), dataclasses.replace(shot, source=source, receiver=receiver, wavelet=wavelet)
        )

    rng = np.random.default_rng(3)
    inputs = (model.vp, shot.source, shot.receiver, shot.wavelet)
    tangents = tuple(jnp.asarray(rng.standard_normal(x.shape)) for x in inputs)
    weights = jnp.asarray(rng.standard_normal((LINE.nt, 5, 1)))

    @jax.jit
    def derivatives(inputs, tangents, weights, of_padded):
        _, pull = jax.vjp(data, *inputs)
        return pull(weights), pull(of_padded), jax.jvp(data, inputs, tangents)[1]

    back, of_padded, forth = derivatives(inputs, tangents, weights, weights.at[:, : COUNTS[0]].set(0.0))
    for x in of_padded:  # a misfit of padded traces alone is a constant
        np.testing.assert_array_equal(x, 0.0)
    by_vp, by_source, by_receiver, by_wavelet = back
    np.testing.assert_array_equal(by_receiver[padded], 0.0)
    np.testing.assert_array_equal(by_source[1:], 0.0)  # silent
    for x in (by_vp, by_source[:1], by_receiver[: COUNTS[0]], by_wavelet):
        assert float(jnp.abs(x).max()) > 0.0
    np.testing.assert_array_equal(forth[:, padded], 0.0)
    one, other = jnp.vdot(weights, forth), sum(jnp.vdot(x, y) for x, y in zip(back, tangents, strict=True))
    # Sums in another order. Measured: 9.8e-15.
    assert abs(float(one / other) - 1.0) < 1e-11


def test_transforms_of_a_simulator():
    simulator, model, survey, _ = problem(free_surface=True, memory=jf.FullStorage())
    survey = survey.on_nodes(LINE)
    expected = simulate(simulator, model, survey)
    each = jnp.stack([simulator(model, survey[i]) for i in range(3)])
    # The same steps, batched and compiled otherwise. Measured: 1.1e-15.
    assert relative(each, expected) < 1e-12
    for data in (
        jax.vmap(simulator, (None, 0))(model, survey),
        jax.jit(jax.vmap(simulator, (None, 0)))(model, survey),
        jnp.stack([jax.jit(simulator)(model, survey[i]) for i in range(3)]),
        jf.simulate(simulator, model, survey, on=jf.On(batch=2)),
        jf.simulate(simulator, model, survey, on=jf.On(devices=jax.devices())),
        jf.simulate(simulator, model, survey[[2, 1, 0]])[::-1],
    ):
        assert relative(data, expected) < 1e-12
        np.testing.assert_array_equal(jnp.where(survey.receiver_mask[:, None, :, None], 0.0, data), 0.0)


def of_all_traces(predicted, observed):
    """A misfit in which one trace that is not a number spoils every derivative."""
    return jnp.log1p(L2(predicted, observed))


FUNCTIONS = {
    "misfit_and_gradient": lambda s, m, *a: problem_with(
        s, *a, misfit=of_all_traces, devices=jax.devices()
    ).misfit_and_gradient(m),
    "hessian_product": lambda s, m, *a: jf.Problem(s, *a, misfit=of_all_traces).hessian_product(m, m),
    "gauss_newton_product": lambda s, m, *a: jf.Problem(s, *a, misfit=of_all_traces).gauss_newton_product(m, m),
    "invert": lambda s, m, *a: (
        next(jf.invert(jf.Problem(s, *a), m, optimizer=optax.sgd(1.0), iterations=1, shots_per_iteration=2)).model
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_stands_in_padded_traces_does_not_matter(name):
    simulator, model, survey, _ = problem()
    run = FUNCTIONS[name]
    observed = noise(survey)
    expected = run(simulator, model, survey, survey.pad(survey.unpad(observed)))  # zeros there
    for with_nan in (observed, jnp.asarray(observed)):
        ours = run(simulator, model, survey, with_nan)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)
            assert np.isfinite(a).all()
    with pytest.raises(ValueError, match="observed has values that are not finite"):
        run(simulator, model, survey, np.where(np.arange(5)[:, None] == 1, np.nan, observed))


def test_a_survey_and_its_parts():
    survey, _ = ragged()
    mask = np.arange(5) < np.array(COUNTS)[:, None]
    np.testing.assert_array_equal(survey.receiver_mask, mask)
    np.testing.assert_array_equal(survey[1].receiver_mask, mask[1])
    np.testing.assert_array_equal(survey[[2, 1]].receiver_mask, mask[[2, 1]])
    np.testing.assert_array_equal(survey.on_nodes(GRID)[1:].receiver_mask, mask[1:])
    # padding takes the place of the first of its kind, and is silent
    for shot, count in enumerate(COUNTS):
        np.testing.assert_array_equal(survey.receiver[shot, :count], RECEIVERS[shot])
        np.testing.assert_array_equal(survey.receiver[shot, count:] - survey.receiver[shot, 0], 0.0)
    np.testing.assert_array_equal(survey.source[:, 1], [[30.0, 60.0], [20.0, 24.0], [90.0, 36.0]])
    np.testing.assert_array_equal(survey.wavelet[1, :, 1], -0.6 * WAVELET)
    np.testing.assert_array_equal(survey.wavelet[::2, :, 1], 0.0)
    assert repr(survey) == "Survey(3 shots: 2 sources and 2 to 5 receivers each, 100 time samples)"
    assert repr(survey[::2]) == "Survey(2 shots: 2 sources and 2 receivers each, 100 time samples)"
    assert repr(survey[1]) == "Survey(one shot: 2 sources and 5 receivers, 100 time samples)"
    shown = []
    jax.eval_shape(lambda s: shown.append(repr(s)), survey)
    assert shown == ["Survey(3 shots: 2 sources and up to 5 receivers each, 100 time samples)"]
    # as many in every shot: no mask
    assert jf.Survey.from_lists(SOURCES[::2], RECEIVERS[::2], WAVELET).receiver_mask is None


def test_masked():
    survey, _ = ragged()
    data = noise(survey).astype(np.float32)
    ours = survey.masked(data)
    assert type(ours) is np.ndarray
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, survey.pad(survey.unpad(data)))
    np.testing.assert_array_equal(survey.masked(jnp.asarray(data)), ours)
    np.testing.assert_array_equal(survey[2].masked(data[2]), ours[2])
    assert survey[1:2].masked(data[1:2]).shape == (1, 100, 5, 1)
    whole = jf.Survey.from_lists(SOURCES[::2], RECEIVERS[::2], WAVELET)
    assert whole.masked(data) is data


@pytest.mark.parametrize("kind", ["shared", "per shot", "lists", "nested", "components"])
def test_wavelets(kind):
    one = np.arange(4.0)
    shots = np.array([one, -one, 2.0 * one])
    expected = np.broadcast_to(one[:, None], (3, 4, 2)) if kind == "shared" else np.stack([shots, shots], axis=-1)
    expected = expected * [[[1.0, 0.0]], [[1.0, 1.0]], [[1.0, 0.0]]]
    given = {"shared": one, "per shot": jnp.asarray(shots), "lists": shots.tolist()}
    given["nested"] = [shots[0][:, None], np.stack([shots[1]] * 2, axis=1).tolist(), shots[2][:, None]]
    given["components"] = [np.stack([w, 3.0 * np.asarray(w)], axis=-1) for w in given["nested"]]
    if kind == "components":
        expected = expected[..., None] * [1.0, 3.0]
    np.testing.assert_array_equal(jf.Survey.from_lists(SOURCES, RECEIVERS, given[kind]).wavelet, expected)


def test_positions_in_one_and_three_dimensions():
    line = jf.Survey.from_lists([[5.0], [[6.0], [7.0]]], [[[1.0]], [[1.0], [2.0]]], np.zeros(9))
    np.testing.assert_array_equal(line.source[..., 0], [[5.0, 5.0], [6.0, 7.0]])
    space = jf.Survey.from_lists([[1.0, 2.0, 3.0]], [[[4.0, 5.0, 6.0]]], np.zeros(9))
    assert space.source.shape == space.receiver.shape == (1, 1, 3)


# Towed streamers


def streamer(**options):
    given = {"source_x": [100.0, 200.0], "source_z": 6.0, "wavelet": np.zeros(9), "receiver_z": 8.0}
    given |= {"first_offset": 30.0, "receiver_spacing": 20.0, "receivers": 3}
    return jf.Survey.towed_streamer(**given | options)


@pytest.mark.parametrize(
    ("options", "x"),
    [
        ({}, [[70.0, 50.0, 30.0], [170.0, 150.0, 130.0]]),
        ({"direction": -1}, [[130.0, 150.0, 170.0], [230.0, 250.0, 270.0]]),
        ({"side": "ahead"}, [[130.0, 150.0, 170.0], [230.0, 250.0, 270.0]]),
        ({"side": "ahead", "direction": -1}, [[70.0, 50.0, 30.0], [170.0, 150.0, 130.0]]),
        ({"direction": [1, -1]}, [[70.0, 50.0, 30.0], [230.0, 250.0, 270.0]]),
        (
            {"side": "both"},
            [[30.0, 50.0, 70.0, 130.0, 150.0, 170.0], [130.0, 150.0, 170.0, 230.0, 250.0, 270.0]],
        ),
        ({"side": "both", "direction": -1, "receivers": 1}, [[130.0, 70.0], [230.0, 170.0]]),
        ({"side": "both", "first_offset": 0.0, "receivers": 2}, [[80.0, 100.0, 120.0], [180.0, 200.0, 220.0]]),
        ({"receivers": None, "cable_length": 40.0}, [[70.0, 50.0], [170.0, 150.0]]),
    ],
)
def test_towed_streamer(options, x):
    survey = streamer(**options)
    np.testing.assert_array_equal(survey.source, [[[6.0, 100.0]], [[6.0, 200.0]]])
    np.testing.assert_array_equal(survey.receiver, np.stack([np.full_like(x, 8.0), x], axis=-1))
    assert survey.receiver_mask is None


def test_towed_streamer_in_three_dimensions():
    survey = streamer(source_y=[40.0, 50.0], source_z=[6.0, 7.0], receiver_z=[8.0, 9.0], receivers=2)
    np.testing.assert_array_equal(survey.source, [[[6.0, 40.0, 100.0]], [[7.0, 50.0, 200.0]]])
    np.testing.assert_array_equal(
        survey.receiver, [[[8.0, 40.0, 70.0], [8.0, 40.0, 50.0]], [[9.0, 50.0, 170.0], [9.0, 50.0, 150.0]]]
    )


def test_cables_of_a_length():
    assert streamer(receivers=None, cable_length=2560.0).receiver.shape == (2, 128, 2)
    # 0.3 / 0.1 is 2.9999999999999996
    assert streamer(receivers=None, cable_length=0.3, receiver_spacing=0.1).receiver.shape == (2, 3, 2)


def test_a_cable_that_hangs_outside_the_model():
    grid = jf.Grid((10, 20), 10.0, 1e-3, 9)  # to 190 m
    survey = streamer(source_x=[40.0, 60.0, 190.0], first_offset=20.0, receivers=4, grid=grid)
    np.testing.assert_array_equal(survey.receiver_mask, np.arange(4) < np.array([[2], [3], [4]]))
    x = [[20.0, 0.0, 20.0, 20.0], [40.0, 20.0, 0.0, 40.0], [170.0, 150.0, 130.0, 110.0]]
    np.testing.assert_array_equal(survey.receiver[..., 1], x)
    ahead = streamer(source_x=[150.0, 160.0], direction=-1, first_offset=20.0, grid=grid)
    np.testing.assert_array_equal(ahead.receiver[..., 1], [[170.0, 190.0], [180.0, 180.0]])
    both = streamer(source_x=[20.0], side="both", first_offset=20.0, receivers=2, grid=grid)
    np.testing.assert_array_equal(both.receiver[0, :, 1], [0.0, 40.0, 60.0])
    # without a grid nothing is left out
    assert streamer(source_x=[-500.0]).receiver_mask is None
    jf.Simulator(grid).admit(jf.Acoustic(vp=jnp.full((10, 20), 2000.0)), survey)


# Gathers and buckets


def of_counts(counts):
    receivers = [[[0.0, float(i)] for i in range(n)] for n in counts]
    return jf.Survey.from_lists([[0.0, 1.0]] * len(counts), receivers, np.ones(4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("counts", [[2, 5, 2], [3, 3]])
def test_pad_and_unpad(counts, dtype):
    survey, rng = of_counts(counts), np.random.default_rng(2)
    gathers = [rng.standard_normal((4, n, 2)).astype(dtype) for n in counts]
    padded = survey.pad(gathers)
    assert padded.shape == (len(counts), 4, max(counts), 2)
    assert type(padded) is np.ndarray
    assert padded.dtype == dtype
    assert np.count_nonzero(padded) == sum(g.size for g in gathers)
    for data in (padded, jnp.asarray(padded)):
        for gather, its in zip(survey.unpad(data), gathers, strict=True):
            assert type(gather) is np.ndarray
            np.testing.assert_array_equal(gather, its)


def test_receivers_that_are_masked_by_hand():
    """Dead channels anywhere in the spread."""
    whole = of_counts([4, 4])
    mask = np.array([[True, False, True, True], [False, True, False, False]])
    survey = dataclasses.replace(whole, receiver_mask=jnp.asarray(mask))
    gathers = [np.ones((4, 3, 1)), np.full((4, 1, 1), 2.0)]
    padded = survey.pad(gathers)
    np.testing.assert_array_equal(padded[:, 0, :, 0], [[1.0, 0.0, 1.0, 1.0], [0.0, 2.0, 0.0, 0.0]])
    for gather, its in zip(survey.unpad(padded), gathers, strict=True):
        np.testing.assert_array_equal(gather, its)
    buckets = survey.buckets()
    assert [indices.tolist() for indices, _ in buckets] == [[0], [1]]
    np.testing.assert_array_equal(buckets[0][1].receiver[0, :, 1], [0.0, 2.0, 3.0])
    np.testing.assert_array_equal(buckets[1][1].receiver[0, :, 1], [1.0])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.sampled_from([0.0, 0.1, 0.25, 0.6]))
def test_buckets_hold_every_shot_once(counts, waste):
    survey, counts = of_counts(counts), np.array(counts)
    buckets, whole = survey.buckets(waste), np.asarray(survey.receiver)
    assert sorted(i for indices, _ in buckets for i in indices) == list(range(len(counts)))
    for indices, bucket in buckets:
        assert np.array_equal(indices, np.sort(indices))
        its = counts[indices]
        receiver = np.asarray(bucket.receiver)
        assert receiver.shape == (len(its), its.max(), 2)
        assert 1.0 - its.sum() / (len(its) * its.max()) <= waste
        for shot, n in enumerate(its):
            np.testing.assert_array_equal(receiver[shot, :n], whole[indices[shot], :n])
        mask = np.arange(its.max()) < its[:, None]
        if mask.all():
            assert bucket.receiver_mask is None
        else:
            np.testing.assert_array_equal(bucket.receiver_mask, mask)
    # shots are taken in order of size, and the first of the next would not have fitted
    for (one, _), (after, _) in itertools.pairwise(buckets):
        assert counts[one].min() >= counts[after].max()
        together = counts[one].sum() + counts[after].max()
        assert 1.0 - together / ((len(one) + 1) * counts[one].max()) > waste


@pytest.mark.parametrize(
    ("counts", "waste", "expected"),
    [
        ([3, 10, 9, 3], 0.25, [[1, 2], [0, 3]]),
        ([10, 5], 0.25, [[0, 1]]),  # 5 of 20 traces
        ([10, 4], 0.25, [[0], [1]]),
        ([4, 10, 10, 4, 10], 0.0, [[1, 2, 4], [0, 3]]),
        ([7, 7, 7], 0.0, [[0, 1, 2]]),
    ],
)
def test_buckets_by_hand(counts, waste, expected):
    assert [indices.tolist() for indices, _ in of_counts(counts).buckets(waste)] == expected


def test_misfits_of_buckets_add_up():
    simulator, model, survey, _ = problem(free_surface=True, memory=jf.FullStorage())
    survey = survey.on_nodes(LINE)
    gathers = survey.unpad(noise(survey))
    total, gradient = summed(simulator, L2, model, survey, survey.pad(gathers))
    buckets = survey.buckets()
    assert [indices.tolist() for indices, _ in buckets] == [[1], [0, 2]]
    assert [bucket.source.shape[1] for _, bucket in buckets] == [2, 1]  # silent sources are left out
    parts = [
        summed(simulator, L2, model, bucket, bucket.pad([gathers[i] for i in indices])) for indices, bucket in buckets
    ]
    # The same sums in another order. Measured: 2.1e-16.
    assert relative(sum(v for v, _ in parts), total) < 1e-12
    assert relative(sum(g.vp for _, g in parts), gradient.vp) < 1e-12


ONE, TWO = [[20.0, 40.0]], [[20.0, 40.0], [20.0, 60.0]]


def lists(source=(ONE, ONE), receiver=(ONE, TWO), wavelet=WAVELET):
    return jf.Survey.from_lists(source, receiver, wavelet)


def masked(mask):
    survey, _ = ragged()
    return dataclasses.replace(survey, receiver_mask=mask)


TOLD = {
    "shots": (lambda: lists(source=[ONE]), r"source has 1 shots but receiver has 2: give"),
    "no shots": (lambda: lists([], []), r"a survey needs a shot"),
    "no receiver": (lambda: lists(receiver=[ONE, []]), r"shot 1 has no receiver: give it one, or leave the shot out"),
    "no source": (lambda: lists(source=[[], ONE]), r"shot 0 has no source: give it one, or leave the shot out"),
    "twice": (
        lambda: lists(receiver=[ONE, [[20.0, 100.0], [20.0, 90.0], (20, 100)]]),
        r"shot 1 has receiver 2 at the place of receiver 0, \(20, 100\) m: leave one",
    ),
    "coordinates": (
        lambda: lists(receiver=[ONE, [[1.0, 2.0], [1.0, 2.0, 3.0]]]),
        r"shot 1 has receiver 1 at \[1\.0, 2\.0, 3\.0\] where the first source has 2 coordinates: positions must be",
    ),
    "coordinates of a source": (lambda: lists(source=[ONE, [[1.0]]]), r"shot 1 has source 0 at \[1\.0\] where"),
    "four coordinates": (lambda: lists(source=[[[1.0] * 4]] * 2), r"must be \(z,\), .* \[1\.0, 1\.0, 1\.0, 1\.0\]"),
    "a number in a list": (lambda: lists(receiver=[ONE, [1.0, 2.0]]), r"shot 1 has receiver 0 at 1\.0 where"),
    "a number": (lambda: lists(receiver=[ONE, 3.0]), r"shot 1 has receiver 3\.0: give a list of positions"),
    "a number for a source": (lambda: lists(source=[3.0, 4.0]), r"shot 0 has source 3\.0: give a list of positions"),
    "not finite": (
        lambda: lists(receiver=[ONE, [[1.0, 2.0], [np.nan, 20.0]]]),
        r"shot 1 has receiver 1 at \(nan, 20\) m: positions must be finite",
    ),
    "source not finite": (lambda: lists(source=[[[np.inf, 1.0]], ONE]), r"shot 0 has source 0 at \(inf, 1\) m"),
    "wavelet shots": (lambda: lists(wavelet=np.zeros((3, 9))), r"wavelet has 3 shots but source has 2"),
    "wavelet sources": (
        lambda: lists(source=[ONE, TWO], wavelet=[np.zeros((9, 1))] * 2),
        r"shot 1 has a wavelet of shape \(9, 1\) but 2 sources: give \(time, 2\)",
    ),
    "wavelet samples": (
        lambda: lists(wavelet=[np.zeros(9), np.zeros(8)]),
        r"shot 1 has a wavelet of shape \(8,\) where the first shot has \(9,\): all shots must",
    ),
    "wavelet axes": (
        lambda: lists(wavelet=np.zeros((2, 9, 1, 1, 1))),
        r"wavelet must be \(time,\), \(shots, time\), or",
    ),
    "wavelet not finite": (
        lambda: lists(wavelet=[np.zeros(9), np.full(9, np.nan)]),
        r"shot 1 has a wavelet that is not finite, from source 0 at sample 0",
    ),
    # towed streamers
    "length and number": (lambda: streamer(cable_length=60.0), r"give one of .*cable_length=60\.0 and receivers=3"),
    "neither": (lambda: streamer(receivers=None), r"give one of cable_length and receivers, got .*None and .*None"),
    "receivers": (lambda: streamer(receivers=0), r"receivers must be a whole number of at least 1, got 0"),
    "broken length": (
        lambda: streamer(receivers=None, cable_length=50.0),
        r"cable_length must be a whole number of receiver_spacing = 20 m, got 50\.0 m: give receivers",
    ),
    "no length": (lambda: streamer(receivers=None, cable_length=0.0), r"cable_length must be .* got 0\.0 m"),
    "spacing": (lambda: streamer(receiver_spacing=-20.0), r"receiver_spacing must be positive metres, got -20\.0"),
    "offset": (lambda: streamer(first_offset=-1.0), r"first_offset must be metres of zero or more, got -1\.0"),
    "NaN offset": (lambda: streamer(first_offset=np.nan), r"first_offset must be .* got nan"),
    "direction": (lambda: streamer(direction=2), r"direction must be 1 to sail to larger x, or -1 .* got 2"),
    "side": (lambda: streamer(side="left"), r'side must be "behind", "ahead" or "both", got \'left\''),
    "source_x": (lambda: streamer(source_x=[1.0, np.nan]), r"source_x must be a finite number, or one per shot, got"),
    "depth": (lambda: streamer(receiver_z=np.zeros((2, 2))), r"receiver_z must be a finite number, or one per shot"),
    "numbers of shots": (
        lambda: streamer(source_z=[1.0, 2.0, 3.0]),
        r"one per shot: got source_z \(3,\), source_x \(2,\), receiver_z \(\), direction \(\)",
    ),
    "axes of the grid": (lambda: streamer(source_y=1.0, grid=GRID), r"grid has 2 axes: give source_y for three"),
    "off the grid": (
        lambda: streamer(source_x=[200.0, 20.0], grid=GRID),
        r"shot 1 has no receiver on the grid: its source is at \(6, 20\) m, its cable from x = -50 to -10 m, the grid "
        r"from 0 to 276 m\. Leave the shot out, or turn",
    ),
    "streamer's wavelet": (lambda: streamer(wavelet=np.zeros((3, 9))), r"wavelet has 3 shots but source has 2"),
    # masks
    "mask of numbers": (
        lambda: masked(jnp.ones((3, 5))).check(),
        r"receiver_mask must be .* bool .*\(3, 5\), got float64",
    ),
    "shape of a mask": (
        lambda: masked(jnp.ones(5, bool)).check(),
        r"receiver_mask must be .*\(3, 5\), got bool .*\(5,\)",
    ),
    "list for a mask": (lambda: masked([True]).check(), r"receiver_mask must be .*, got list of shape \(1,\)"),
    "mask without a receiver": (
        lambda: masked(jnp.ones((3, 5), bool).at[1].set(False)).check(),
        r"receiver_mask leaves a shot without a receiver",
    ),
    "mask at the door": (lambda: jf.Simulator(GRID).admit(MODEL, masked(jnp.ones((3, 5)))), r"receiver_mask must be"),
    # data
    "masked": (
        lambda: ragged()[0].masked(np.zeros((3, 9, 4, 1))),
        r"data must be \(shots, time, receivers, components\) .*\(3, 5\), got shape \(3, 9, 4, 1\)",
    ),
    "masked shot": (
        lambda: ragged()[0][0].masked(np.zeros((3, 9, 5, 1))),
        r"data must be \(time, receivers, components\) .*\(5,\), got shape",
    ),
    "unpad": (
        lambda: ragged()[0].unpad(np.zeros((3, 9, 4, 1))),
        r"data must be .* 3 shots and 5 receivers, got shape \(3, 9, 4, 1\)",
    ),
    "unpad a gather": (lambda: ragged()[0].unpad(np.zeros((9, 5, 1))), r"data must be .* got shape \(9, 5, 1\)"),
    "unpad with one shot": (lambda: ragged()[0][0].unpad(np.zeros((9, 5, 1))), r"survey has no shot axis: pass"),
    "gathers": (lambda: ragged()[0].pad([np.zeros((9, 2, 1))]), r"there are 1 gathers but the survey has 3 shots"),
    "receivers of a gather": (
        lambda: ragged()[0].pad([np.zeros((9, 2, 1))] * 3),
        r"the gather of shot 1 must be \(time, 5, components\), .* got shape \(9, 2, 1\)",
    ),
    "samples of a gather": (
        lambda: of_counts([2, 2]).pad([np.zeros((9, 2, 1)), np.zeros((8, 2, 1))]),
        r"the gather of shot 1 must be .* as many samples and components as the first, got shape \(8, 2, 1\)",
    ),
    "axes of a gather": (lambda: of_counts([2]).pad([np.zeros((9, 2))]), r"the gather of shot 0 .* got shape \(9, 2\)"),
    "waste": (lambda: ragged()[0].buckets(1.0), r"waste must be a fraction from 0 to below 1, got 1\.0"),
    "negative waste": (lambda: ragged()[0].buckets(-0.1), r"waste must be .* got -0\.1"),
}


@pytest.mark.parametrize("name", TOLD)
def test_told(name):
    mistake, message = TOLD[name]
    with pytest.raises(ValueError, match=message):
        mistake()
