"""Source encoding: a super-shot is what its sources would have given together."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_bits, invert_with, relative
from small_inversion import GRID, SIMULATOR, START, TRUE

import jaxfwi as jf
from jaxfwi.inversion import stages

SECTION = jf.Grid((16, 22), 10.0, 1.5e-3, 160)
DELAYED = jf.Encoding(longest_delay=0.02)


def elastic():
    """Forces of two components, recorded as two; two sources a shot, off the grid."""
    simulator = jf.Simulator(
        SECTION, absorber=jf.CPML(width=5), source_fields=("vx", "vz"), receiver_fields=("vx", "vz")
    )
    z = jnp.linspace(0.0, 1.0, 16)[:, None] * jnp.ones((16, 22))
    model = jf.Elastic(vp=2000.0 + 400.0 * z, vs=1100.0 + 200.0 * z, rho=2000.0 + 100.0 * z)
    sources = np.array([[[40.0, 50.0], [52.0, 61.0]], [[40.0, 150.0], [41.0, 177.0]], [[90.0, 100.0], [70.0, 30.0]]])
    # Zero at both ends: forces act between samples, and what is interpolated there has nothing beyond the record.
    wavelet = jf.ricker(SECTION, 12.0, delay=0.1)
    wavelet = jnp.where(jnp.abs(wavelet) > 1e-3, wavelet, 0.0)[None, :, None, None] * jnp.array([1.0, -0.4])
    wavelet = jnp.concatenate([wavelet, 0.5 * wavelet], axis=2)
    survey = jf.Survey.from_arrays(sources, [[30.0, 30.0], [35.0, 188.0]], jnp.repeat(wavelet, 3, axis=0))
    return simulator, model, survey


def acoustic():
    survey = jf.Survey.from_arrays(
        [[10.0], [50.0], [80.0], [110.0], [150.0]], [[0.0], [40.0], [150.0]], jf.ricker(GRID, 12.0)
    )
    return SIMULATOR, TRUE, survey


@pytest.mark.parametrize(
    ("make", "encoding"),
    [
        (acoustic, jf.Encoding()),
        (acoustic, jf.Encoding(polarity=False, longest_delay=0.05)),
        (elastic, DELAYED),
    ],
)
def test_data_of_a_super_shot_are_the_coded_data_of_its_shots(make, encoding):
    """The promise by which encoding compares like with like; delays push a part of the data beyond the record's end."""
    simulator, model, survey = make()
    data = jf.simulate(simulator, model, survey)
    super_shot, observed = encoding(jax.random.key(3), survey, data, simulator.grid)
    assert len(super_shot) == 1
    assert super_shot.source.shape[1] == survey.source.shape[0] * survey.source.shape[1]
    # Superposition and causality, to rounding. Measured: at most 3e-15.
    assert relative(jf.simulate(simulator, model, super_shot), observed) < 1e-13
    # by the codes themselves
    signs, delays = encoding.codes(jax.random.key(3), len(survey), simulator.grid)
    by_hand = sum(
        s * np.pad(d, ((k, 0), (0, 0), (0, 0)))[: len(d)] for s, k, d in zip(signs, delays, data, strict=True)
    )
    assert relative(observed[0], by_hand) < 1e-14
    # it matters: other codes give other data
    assert relative(observed, encoding(jax.random.key(4), survey, data, simulator.grid)[1]) > 0.1


def test_codes():
    signs, delays = DELAYED.codes(jax.random.key(0), 1000, GRID)
    assert set(signs.tolist()) == {-1, 1}
    assert abs(int(signs.sum())) < 4 * 1000**0.5  # four standard deviations
    assert set(delays.tolist()) == set(range(9))  # 0.02 s are 8 steps, and both ends can be drawn
    for a, b in zip((signs, delays), DELAYED.codes(jax.random.key(0), 1000, GRID), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (DELAYED.codes(jax.random.key(1), 1000, GRID)[0] != signs).any()
    signs, delays = jf.Encoding(polarity=False).codes(jax.random.key(0), 7, GRID)
    assert (signs.tolist(), delays.tolist()) == ([1] * 7, [0] * 7)


def test_over_signs_the_gradient_is_that_of_the_single_shots(shots):
    """Of two shots there are two codes that differ, equal and opposite signs: their mean has no cross-talk."""
    survey, observed = (x[jnp.array([1, 4])] for x in shots)
    of_signs = {}
    for seed in range(10):
        key = jax.random.key(seed)
        signs, _ = jf.Encoding().codes(key, 2, GRID)
        of_signs[int(signs[0] * signs[1])] = jf.Encoding()(key, survey, observed, GRID)
    assert set(of_signs) == {-1, 1}
    results = [jf.Problem(SIMULATOR, *shot).misfit_and_gradient(START) for shot in of_signs.values()]
    mean = jax.tree.map(lambda a, b: 0.5 * (a + b), *results)
    single = jf.Problem(SIMULATOR, survey, observed).misfit_and_gradient(START)
    # To rounding. Measured: 2e-15. One code alone is off by more than 1e-2.
    assert relative(mean[1].vp, single[1].vp) < 1e-13
    assert float(mean[0]) == pytest.approx(float(single[0]), rel=1e-13)
    assert relative(results[0][1].vp, single[1].vp) > 1e-2


def test_works_under_jit_and_grad(shots):
    survey, observed = shots
    key = jax.random.key(2)

    def misfit(vp):
        super_shot, data = DELAYED(key, survey, observed, GRID)
        return jf.misfits.l2(jax.vmap(SIMULATOR, (None, 0))(jf.Acoustic(vp=vp), super_shot), data)

    gradient = jax.jit(jax.grad(misfit))(START.vp)
    encoded = DELAYED(key, survey, observed, GRID)
    expected = jf.Problem(SIMULATOR, *encoded).misfit_and_gradient(START)[1].vp
    assert relative(gradient, expected) < 1e-12  # compiled otherwise; measured: 1e-15


def run(shots, iterations, encoding, **options):
    options = {"optimizer": optax.adam(5.0), "seed": 7, "encoding": encoding, **options}
    return list(invert_with(SIMULATOR, START, *shots, iterations=iterations, **options))


@pytest.mark.parametrize("realisations", [2])
def test_an_inversion_draws_shots_and_codes_anew(shots, realisations):
    survey, observed = shots
    encoding = jf.Encoding(longest_delay=0.02, realisations=realisations)
    states = run(shots, 3, encoding, shots_per_iteration=2)
    assert states[-1].model.vp.shape == (16,)
    # the second iteration by hand
    value, gradient = 0.0, 0.0
    for turn in range(realisations, 2 * realisations):
        chosen = stages.mini_batch(5, 2, turn, (7, 0))
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 0), turn)
        encoded = encoding(key, survey[chosen], observed[chosen], GRID)
        of_one = jf.Problem(SIMULATOR, *encoded).misfit_and_gradient(states[0].model)
        value, gradient = value + of_one[0] / realisations, gradient + of_one[1].vp / realisations
    assert float(states[1].misfit) == pytest.approx(float(value), rel=1e-12)  # compiled otherwise; measured: 2e-16
    assert relative(states[1].gradient.vp, gradient) < 1e-12
    for a, b in zip(states, run(shots, 3, encoding, shots_per_iteration=2), strict=True):
        assert_same_bits(a, b)
    assert run(shots, 1, encoding, seed=8)[0].misfit != states[0].misfit


def test_codes_can_be_kept_for_some_iterations(shots):
    """So that an L-BFGS sees one function, and says nothing; it warns where codes change."""
    still = optax.set_to_zero()
    misfits = [
        float(s.misfit) for s in run(shots, 4, jf.Encoding(keep_codes_for=2), shots_per_iteration=3, optimizer=still)
    ]
    assert misfits[0] == misfits[1] != misfits[2] == misfits[3]
    states = run(shots, 5, jf.Encoding(keep_codes_for=5), optimizer=optax.lbfgs())
    assert states[-1].misfit < 0.25 * states[0].misfit  # measured: 0.19, after five iterations
    with pytest.warns(UserWarning, match=r"L-BFGS, which compares gradients .* codes that stay .*keep_codes_for"):
        jf.invert(
            jf.Problem(SIMULATOR, *shots),
            START,
            optimizer=optax.lbfgs(),
            iterations=6,
            encoding=jf.Encoding(keep_codes_for=5),
        )


def test_of_a_file_it_reads_the_shots_it_sums(shots, tmp_path):
    survey, observed = shots
    np.save(tmp_path / "observed.npy", observed)
    file = np.load(tmp_path / "observed.npy", mmap_mode="r")
    options = {"iterations": 2, "encoding": DELAYED, "shots_per_iteration": 2}
    for a, b in zip(run((survey, file), **options), run(shots, **options), strict=True):
        assert_same_bits(a, b)


@pytest.mark.slow
def test_elastic_shots_are_inverted_encoded():
    simulator, true, survey = elastic()
    survey = survey[:2]
    observed = 1e9 * jf.simulate(simulator, true, survey)
    survey = jf.Survey(survey.source, survey.receiver, 1e9 * survey.wavelet)
    start = jf.Elastic(vp=true.vp - 60.0, vs=true.vs - 40.0, rho=true.rho)
    rates = optax.partition(
        {"vp": optax.adam(6.0), "vs": optax.adam(4.0), "fixed": optax.set_to_zero()},
        jf.Elastic(vp="vp", vs="vs", rho="fixed"),
    )
    states = list(
        jf.invert(jf.Problem(simulator, survey, observed), start, optimizer=rates, iterations=8, encoding=jf.Encoding())
    )
    assert states[-1].misfit < 0.5 * states[0].misfit  # measured: 0.15
    np.testing.assert_array_equal(states[-1].model.rho, true.rho)
    first = states[0].model
    assert float(jnp.abs(first.vp - start.vp).max()) == pytest.approx(6.0, rel=1e-3)  # Adam's first step
    assert float(jnp.abs(first.vs - start.vs).max()) == pytest.approx(4.0, rel=1e-3)


def streamer():
    return jf.Survey.from_arrays([[10.0], [50.0]], [[[0.0]], [[40.0]]], jf.ricker(GRID, 12.0))


def ragged():
    return jf.Survey.from_lists([[10.0], [50.0]], [[[0.0]], [[0.0], [40.0]]], jf.ricker(GRID, 12.0))


@pytest.mark.parametrize("make", [streamer, ragged])
def test_receivers_that_differ_are_refused_with_the_way_out(make):
    survey = make()
    observed = jnp.zeros((2, 120, survey.receiver.shape[1], 1))
    message = r"receivers differ, as a streamer's do.*mini-batches \(shots_per_iteration\)"
    with pytest.raises(ValueError, match=message):
        jf.Encoding()(jax.random.key(0), survey, observed, GRID)
    with pytest.raises(ValueError, match=message):
        jf.invert(
            jf.Problem(SIMULATOR, survey, observed),
            START,
            optimizer=optax.sgd(1.0),
            iterations=1,
            encoding=jf.Encoding(),
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": np.ones((5, 1, 1, 1))}, r"encoding sums shots, so that weights of single shots cannot be"),
        ({"aperture": 50.0}, r"encoding sums shots, so that an aperture of single shots cannot be"),
        ({"encoding": 3}, r"encoding must be a jf\.Encoding"),
    ],
)
def test_what_does_not_go_with_encoding(shots, options, message):
    options = {"encoding": jf.Encoding(), **options}
    with pytest.raises(ValueError, match=message):
        invert_with(SIMULATOR, START, *shots, optimizer=optax.sgd(1.0), iterations=1, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"realisations": 0}, r"realisations must be .* 0\b"),
        ({"keep_codes_for": 1.5}, r"keep_codes_for must be .* 1\.5"),
        ({"longest_delay": -1.0}, r"longest_delay must be zero or more seconds, got -1\.0"),
        ({"longest_delay": np.nan}, r"longest_delay must be .* nan"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        jf.Encoding(**arguments)
