"""The inversion loop: optimisers, masks, bounds, mini-batches, going on from a state, stopping with a reason."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_bits, invert_with
from small_inversion import SIMULATOR, START

import jaxfwi as jf
from jaxfwi.inversion import stages


def run(shots, optimizer, iterations, model=START, **options):
    return list(invert_with(SIMULATOR, model, *shots, optimizer=optimizer, iterations=iterations, **options))


class Counting:
    """The usual misfit, which counts how often it is traced for a program."""

    def __init__(self):
        self.traces = 0

    def __call__(self, predicted, observed):
        self.traces += 1
        return jf.misfits.l2(predicted, observed)


@pytest.mark.parametrize(
    ("optimizer", "ratio"),
    # The last misfit as a part of the first. Measured: 0.17, 0.36, 1.1e-3.
    [(optax.adam(10.0), 0.25), (optax.sgd(5e5), 0.5), (optax.lbfgs(), 0.01)],
    ids=["adam", "sgd", "lbfgs"],
)
def test_misfit_falls(shots, optimizer, ratio):
    count = Counting()
    states, traces = [], []
    for state in jf.invert(jf.Problem(SIMULATOR, *shots, misfit=count), START, optimizer=optimizer, iterations=6):
        states.append(state)
        traces.append(count.traces)
    assert [s.iteration for s in states] == [1, 2, 3, 4, 5, 6]
    assert states[-1].misfit < ratio * states[0].misfit
    assert traces[0] > 0
    assert traces == traces[:1] * 6  # one program for all iterations


def test_a_state_tells_the_misfit_and_gradient_before_its_update(shots):
    first, second = run(shots, optax.sgd(1e5), 2)
    for state, model in ((first, START), (second, first.model)):
        value, gradient = jf.Problem(SIMULATOR, *shots).misfit_and_gradient(model)
        # The same sums, compiled otherwise. Measured: 0.
        assert float(state.misfit) == pytest.approx(float(value), rel=1e-12)
        scale = float(jnp.abs(gradient.vp).max())
        np.testing.assert_allclose(state.gradient.vp, gradient.vp, rtol=0, atol=1e-12 * scale)
        update = -1e5 * gradient.vp
    # Subtracting two models of 2000 m/s leaves 2e-13 of absolute rounding.
    np.testing.assert_allclose(second.model.vp - first.model.vp, update, rtol=0, atol=1e-9)


@pytest.mark.telling
def test_mask_and_bounds(shots):
    start = jf.Acoustic(vp=(2000.0 + 3.0 * jnp.cos(jnp.arange(16.0))).at[0].set(1700.0))
    mask = jf.Acoustic(vp=np.arange(16) >= 4)
    bounds = (jf.Acoustic(vp=1985.0), jf.Acoustic(vp=jnp.full(16, 2010.0)))
    states = run(shots, optax.adam(10.0), 4, start, mask=mask, bounds=bounds)
    for state in states:
        vp = np.asarray(state.model.vp)
        np.testing.assert_array_equal(vp[:4], start.vp[:4])  # one of them beyond the bounds
        assert (vp[4:] != start.vp[4:]).all()
        assert vp[4:].min() >= 1985.0
        assert vp[4:].max() <= 2010.0
        np.testing.assert_array_equal(state.gradient.vp[:4], 0.0)
    # Adam's steps of 10 m/s run into both.
    assert vp[4:].min() == 1985.0
    assert vp[4:].max() == 2010.0


def test_single_precision_stays_single(shots):
    start = jf.Acoustic(vp=START.vp.astype(jnp.float32))
    limits = {"mask": jf.Acoustic(vp=np.ones(16)), "bounds": (jf.Acoustic(vp=np.full(16, 1985.0)), None)}
    states = run(shots, optax.adam(10.0), 2, start, **limits)
    assert [s.model.vp.dtype for s in states] == [jnp.float32] * 2
    assert [s.gradient.vp.dtype for s in states] == [jnp.float32] * 2


def test_an_update_below_rounding_is_told(shots):
    with pytest.warns(UserWarning, match=r"first update has not changed the model .* Raise the learning rate"):
        run(shots, optax.sgd(1e-12), 1)


def test_mini_batches_of_an_epoch_do_not_overlap():
    for size in (1, 2, 3, 5):
        turns = 5 // size
        epochs = []
        for epoch in range(4):
            batches = [stages.mini_batch(5, size, turns * epoch + i, seed=3) for i in range(turns)]
            assert all(len(b) == size for b in batches)
            drawn = np.concatenate(batches)
            assert len(set(drawn.tolist())) == turns * size
            assert set(drawn.tolist()) <= set(range(5))
            epochs.append(drawn.tolist())
        if size < 5:
            assert len({tuple(e) for e in epochs}) > 1
    again = stages.mini_batch(5, 2, 7, seed=3)
    np.testing.assert_array_equal(again, stages.mini_batch(5, 2, 7, seed=3))
    assert any((stages.mini_batch(5, 2, 7, seed=k) != again).any() for k in (4, 5, 6))
    # every shot has its turn, though one of five sits out each epoch
    drawn = np.concatenate([stages.mini_batch(5, 2, i, seed=0) for i in range(20)])
    assert set(drawn.tolist()) == set(range(5))


def test_mini_batches_and_going_on(shots):
    optimizer = optax.adam(5.0)
    count = Counting()
    options = {"shots_per_iteration": 2, "seed": 3, "batch": 2, "misfit": count}
    states = run(shots, optimizer, 1, **options)
    traces = count.traces
    states += run(shots, optimizer, 4, resume=states[0], **options)
    survey, observed = shots
    indices = stages.mini_batch(5, 2, 2, (3, 0))
    value, _ = jf.Problem(SIMULATOR, survey[indices], observed[indices], on=jf.On(batch=2)).misfit_and_gradient(
        states[1].model
    )
    assert float(states[2].misfit) == pytest.approx(float(value), rel=1e-12)  # compiled otherwise; measured: 0
    for a, b in zip(states, run(shots, optimizer, 4, **options), strict=True):
        assert_same_bits(a, b)
    other = run(shots, optimizer, 4, **{**options, "seed": 4})
    assert any(a.misfit != b.misfit for a, b in zip(states, other, strict=True))
    # going on from a state, as it was yielded and as a file would give it back
    for loaded in (states[1], jax.tree.map(np.asarray, states[1])):
        rest = run(shots, optimizer, 4, resume=loaded, **options)
        assert [s.iteration for s in rest] == [3, 4]
        for a, b in zip(states[2:], rest, strict=True):
            assert_same_bits(a, b)
    assert count.traces == traces


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        (1000.0, r"grid.dt = 0.0025 s is unstable for \d+ m/s at space order 4: the largest stable dt is 0.00\d+ s"),
        (-1100.0, r"Acoustic vp must be positive m/s everywhere, its smallest value is -\d+"),
        (np.nan, r"Acoustic vp has values that are not finite"),
    ],
)
def test_a_model_that_cannot_be_simulated_stops_it(shots, shift, message):
    optimizer = optax.stateless(lambda updates, _: jax.tree.map(lambda g: jnp.full_like(g, shift), updates))
    states = jf.invert(jf.Problem(SIMULATOR, *shots), START, optimizer=optimizer, iterations=5, divergence=None)
    with pytest.raises(
        ValueError, match=rf"iteration [1-3] has .*: {message}.* bounds=\(lower, upper\) .*learning rate"
    ):
        list(states)


def test_a_misfit_that_is_not_finite_stops_it(shots):
    survey, observed = (x[:1] for x in shots)
    at_start = jf.simulate(SIMULATOR, START, survey)[0]

    def finite_at_start(predicted, observed):
        there = jnp.max(jnp.abs(predicted - at_start)) < 1e-12 * jnp.max(jnp.abs(at_start))
        return jnp.where(there, jf.misfits.l2(predicted, observed), jnp.nan)

    states = jf.invert(
        jf.Problem(SIMULATOR, survey, observed, misfit=finite_at_start), START, optimizer=optax.adam(1.0), iterations=3
    )
    assert next(states).iteration == 1
    with pytest.raises(FloatingPointError, match=r"iteration 2: the misfit is nan\. .*lower the learning rate"):
        next(states)


def test_a_state_of_another_inversion_is_refused(shots):
    (state,) = run(shots, optax.sgd(1e5), 1)
    with pytest.raises(ValueError, match=r"resume has another optimizer_state"):
        run(shots, optax.adam(1.0), 2, resume=state)
    with pytest.raises(ValueError, match=r"iterations must be above the 1 already made, got 1"):
        run(shots, optax.sgd(1e5), 1, resume=state)
    other = eqx.tree_at(lambda s: s.unknowns.vp, state, jnp.full(15, 2000.0))
    with pytest.raises(ValueError, match=r"resume has another model"):
        run(shots, optax.sgd(1e5), 2, resume=other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": jf.Acoustic(vp=jnp.full(15, 2000.0))}, r"Acoustic vp has shape \(15,\) but the grid has \(16,\)"),
        ({"observed": jnp.zeros((5, 120, 2, 1))}, r"observed has shape \(5, 120, 2, 1\).*\(5, 120, 3, 1\)"),
        ({"batch": 0}, r"batch must be .* 0\b"),
        ({"iterations": 0}, r"iterations must be .* 0\b"),
        ({"iterations": 2.5}, r"iterations must be .* 2\.5"),
        ({"shots_per_iteration": 6}, r"shots_per_iteration.* 6.*\b5 shots"),
        ({"shots_per_iteration": 0}, r"shots_per_iteration .* 0\b"),
        ({"mask": np.ones(16)}, r"mask must be .*Acoustic.*, got ndarray"),
        ({"mask": jf.Acoustic(vp=np.ones(15))}, r"mask must be .* of the model's shape \(16,\), got \(15,\)"),
        ({"bounds": (1500.0, 3000.0)}, r"lower bounds must be .*Acoustic.*, got float"),
        (
            {"bounds": (jf.Acoustic(vp=1500.0), jf.Acoustic(vp=np.ones(3)))},
            r"upper bounds must be .* of the model's shape \(16,\), got \(3,\)",
        ),
        ({"bounds": (jf.Acoustic(vp=3000.0), jf.Acoustic(vp=1500.0))}, r"bounds must be \(lower, upper\), .* above"),
        ({"optimizer": optax.adam}, r"optimizer must be one of optax, as optax\.adam"),
    ],
    ids=lambda x: x if isinstance(x, str) else None,
)
def test_mistakes_are_told_at_the_call(shots, options, message):
    survey, observed = shots
    given = {"start": START, "survey": survey, "observed": observed}
    usual = {"optimizer": optax.sgd(1.0), "iterations": 1}
    with pytest.raises(ValueError, match=message):
        invert_with(SIMULATOR, **{**given, **usual, **options})
