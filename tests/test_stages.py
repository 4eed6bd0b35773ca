"""What an inversion is made of: stages, unknowns, penalties, weights, misfits and optimisers of single parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from helpers import assert_same_bits, invert_with, problem_with, relative
from small_inversion import GRID, SIMULATOR, START, TRUE

import jaxfwi as jf
from jaxfwi.filters import Butterworth
from jaxfwi.inversion.stages import mini_batch

DENSE = jf.Grid((14,), 10.0, 2e-3, 120)
PARAMETERS = jf.Simulator(DENSE, absorber=jf.CPML(width=3))
LOW = Butterworth(high=10.0, order=2)


def absolute(predicted, observed):
    return jnp.sum(jnp.sqrt((predicted - observed) ** 2 + 1e-6))


def run(shots, start=START, simulator=SIMULATOR, **options):
    return list(invert_with(simulator, start, *shots, **options))


@pytest.fixture(scope="module")
def variable_density():
    """Two parameters, which data of velocity see differently."""
    wiggle = jnp.sin(jnp.arange(14.0))
    true = jf.VariableDensityAcoustic(vp=2000.0 + 40.0 * wiggle, rho=2000.0 + 100.0 * jnp.cos(jnp.arange(14.0)))
    start = jf.VariableDensityAcoustic(vp=jnp.full(14, 2000.0), rho=jnp.full(14, 2000.0))
    survey = jf.Survey.from_arrays([[10.0], [110.0]], [[0.0], [60.0], [120.0]], jf.ricker(DENSE, 12.0))
    data = jf.simulate(PARAMETERS, true, survey)
    scale = 1.0 / float(jnp.abs(data).max())
    return start, (jf.Survey(survey.source, survey.receiver, scale * survey.wavelet), scale * data)


def test_stages_are_inversions_one_after_the_other(shots):
    adam, sgd = optax.adam(5.0), optax.sgd(1e5)
    stages = [
        jf.Stage(2, adam, filter=LOW, shots_per_iteration=2, name="low"),
        jf.Stage(1, misfit=absolute),
        jf.Stage(2, adam, batch=2),
    ]
    states = run(shots, stages=stages, optimizer=sgd, seed=3)
    assert [(s.iteration, s.stage) for s in states] == [(1, 0), (2, 0), (3, 1), (4, 2), (5, 2)]
    second = run(shots, states[1].model, optimizer=sgd, iterations=1, misfit=absolute)
    third = run(shots, states[2].model, optimizer=adam, iterations=2, batch=2)
    # the same programs; Adam of the third stage is begun anew
    for a, b in zip(states[2:], [*second, *third], strict=True):
        assert_same_bits((a.model, a.misfit, a.gradient), (b.model, b.misfit, b.gradient))
    # going on in the midst of the last stage
    (last,) = run(shots, resume=states[3], stages=stages, optimizer=sgd, seed=3)
    assert_same_bits(last, states[4])


def test_a_filter_is_of_predicted_and_observed_data(shots):
    survey, observed = shots
    (state,) = run(shots, stages=[jf.Stage(1, optax.sgd(1e5), filter=LOW)])
    predicted = jf.simulate(SIMULATOR, START, survey)
    residual = LOW(predicted - observed, GRID)
    # linear, so that the residual may be filtered in the data's stead; measured: 1e-16
    assert float(state.misfit) == pytest.approx(0.5 * float(jnp.sum(residual**2)), rel=1e-12)
    plain = float(jf.misfits.l2(predicted, observed))
    assert state.misfit < 0.9 * plain  # it takes away
    # given like the model, it is filtered as well
    (other,) = run(shots, stages=[jf.Stage(1, optax.sgd(1e5), LOW, jf.Acoustic(vp=jf.misfits.l2))])
    assert_same_bits(other.misfit, state.misfit)
    # its gradient, by the difference of two misfits along it
    # inside, since the layer's material is held fixed
    direction = (state.gradient.vp / jnp.abs(state.gradient.vp).max()).at[jnp.array([0, 15])].set(0.0)
    filtered = jf.misfits.Filtered(jf.misfits.l2, LOW, GRID)

    def value(step):
        return jf.Problem(SIMULATOR, *shots, misfit=filtered).misfit_and_gradient(
            jf.Acoustic(vp=START.vp + step * direction)
        )[0]

    slope = (value(1e-2) - value(-1e-2)) / 2e-2
    # Central differences of step h err by h² f'''/6. Measured: 3e-9.
    assert float(slope) == pytest.approx(float(jnp.vdot(direction, state.gradient.vp)), rel=1e-6)


def test_weights_multiply_both_data(shots):
    survey, observed = shots
    random = np.random.default_rng(0)
    predicted = jf.simulate(SIMULATOR, START, survey)
    for shape, misfit in (((5, 120, 3, 1), absolute), ((5, 1, 3, 1), jf.misfits.l2)):
        weights = random.random(shape)
        value, gradient = jf.Problem(SIMULATOR, survey, observed, misfit=misfit, weights=weights).misfit_and_gradient(
            START
        )
        by_hand = sum(misfit(w * p, w * o) for w, p, o in zip(weights, predicted, observed, strict=True))
        assert float(value) == pytest.approx(float(by_hand), rel=1e-12)  # measured: 2e-16
    # traces left out are as if they were not recorded
    kept = np.ones((5, 1, 3, 1))
    kept[:, :, 1] = 0.0
    value, gradient = jf.Problem(SIMULATOR, survey, observed, weights=kept).misfit_and_gradient(START)
    fewer = jf.Survey(survey.source, survey.receiver[:, ::2], survey.wavelet)
    one, other = jf.Problem(SIMULATOR, fewer, observed[:, :, ::2]).misfit_and_gradient(START)
    assert float(value) == pytest.approx(float(one), rel=1e-12)
    assert relative(gradient.vp, other.vp) < 1e-12


@pytest.mark.slow
def test_weights_in_mini_batches_and_products(shots):
    survey, observed = shots
    kept = np.ones((5, 1, 3, 1))
    kept[:, :, 1] = 0.0
    fewer = jf.Survey(survey.source, survey.receiver[:, ::2], survey.wavelet)
    # in mini-batches each shot keeps its own
    of_shot = np.arange(1.0, 6.0).reshape(5, 1, 1, 1)
    options = {"optimizer": optax.sgd(1e5), "iterations": 2, "shots_per_iteration": 2, "weights": of_shot}
    state = run(shots, **options)[0]
    chosen = mini_batch(5, 2, 0, (0, 0))
    value, _ = jf.Problem(SIMULATOR, survey[chosen], observed[chosen], weights=of_shot[chosen]).misfit_and_gradient(
        START
    )
    assert float(state.misfit) == pytest.approx(float(value), rel=1e-12)
    products = [
        problem_with(SIMULATOR, *some, **weighted).gauss_newton_product(START, START)
        for some, weighted in (((survey, observed), {"weights": kept}), ((fewer, observed[:, :, ::2]), {}))
    ]
    assert relative(products[0].vp, products[1].vp) < 1e-12


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((5, 120, 3)), r"weights must be \(5, 120, 3, 1\), with 1 for an axis .* got \(5, 120, 3\)"),
        (np.ones((1, 1, 3, 1)), r"weights must be .* got \(1, 1, 3, 1\)"),
        (np.full((5, 1, 1, 1), np.nan), r"weights has values that are not finite"),
    ],
)
def test_weights_that_cannot_be(shots, weights, message):
    with pytest.raises(ValueError, match=message):
        jf.Problem(SIMULATOR, *shots, weights=weights).misfit_and_gradient(START)


def test_each_parameter_by_its_own_misfit(variable_density):
    start, data = variable_density
    both = jf.VariableDensityAcoustic(vp=jf.misfits.l2, rho=absolute)
    value, gradient = jf.Problem(PARAMETERS, *data, misfit=both).misfit_and_gradient(start)
    one = jf.Problem(PARAMETERS, *data).misfit_and_gradient(start)
    other = jf.Problem(PARAMETERS, *data, misfit=absolute).misfit_and_gradient(start)
    assert float(value) == pytest.approx(float(one[0] + other[0]), rel=1e-12)
    assert relative(gradient.vp, one[1].vp) < 1e-12  # measured: 0
    assert relative(gradient.rho, other[1].rho) < 1e-12
    assert relative(one[1].rho, other[1].rho) > 0.1  # they do differ
    with pytest.raises(ValueError, match=r"misfits of their own, so that there is no one function for a line search"):
        run(data, start, PARAMETERS, optimizer=optax.lbfgs(), iterations=1, misfit=both)
    half = jf.VariableDensityAcoustic(vp=absolute, rho=None)
    with pytest.raises(ValueError, match=r"misfit must have a function for each parameter of VariableDensityAcoustic"):
        jf.Problem(PARAMETERS, *data, misfit=half).misfit_and_gradient(start)


def test_rates_freezing_and_relations(variable_density):
    start, data = variable_density
    labels = jf.VariableDensityAcoustic(vp="fast", rho="slow")
    rates = optax.partition({"fast": optax.adam(8.0), "slow": optax.adam(2.0)}, labels)
    (state,) = run(data, start, PARAMETERS, optimizer=rates, iterations=1)
    for name, rate in (("vp", 8.0), ("rho", 2.0)):  # Adam's first step
        moved = getattr(state.model, name) - getattr(start, name)
        assert float(jnp.abs(moved).max()) == pytest.approx(rate, rel=1e-3)
    frozen = optax.partition({"fast": optax.adam(8.0), "slow": optax.set_to_zero()}, labels)
    *_, state = run(data, start, PARAMETERS, optimizer=frozen, iterations=3)
    np.testing.assert_array_equal(state.model.rho, start.rho)
    assert (state.model.vp != start.vp).all()
    # density after Gardner et al. 1974 (Geophysics 39, 770-780)
    gardner = lambda vp: jf.VariableDensityAcoustic(vp=vp, rho=310.0 * vp**0.25)  # noqa: E731
    states = run(data, start.vp, PARAMETERS, optimizer=optax.adam(4.0), iterations=5, to_model=gardner)
    assert states[-1].unknowns.shape == (14,)
    np.testing.assert_allclose(states[-1].model.rho, 310.0 * states[-1].unknowns ** 0.25, rtol=1e-15)
    _, slope = jf.Problem(PARAMETERS, *data).misfit_and_gradient(gardner(start.vp))
    chained = slope.vp + slope.rho * 310.0 * 0.25 * start.vp**-0.75
    assert relative(states[0].gradient, chained) < 1e-12  # the chain rule by hand; measured: 2e-16


def test_a_logarithm_a_coarse_grid_and_a_network_stand_in_for_a_model(shots):
    stretch = jnp.asarray(np.kron(np.eye(8), np.ones((2, 1))))
    points = jnp.linspace(-1.0, 1.0, 16)[:, None]
    network = eqx.nn.MLP(1, "scalar", 16, 1, jnp.sin, key=jax.random.key(1))
    for start, to_model, optimizer in (
        (jnp.log(START.vp), lambda x: jf.Acoustic(vp=jnp.exp(x)), optax.adam(4e-3)),
        ({"coarse": jnp.zeros(8)}, lambda x: jf.Acoustic(vp=2000.0 + stretch @ x["coarse"]), optax.adam(8.0)),
        (network, lambda net: jf.Acoustic(vp=2000.0 + 100.0 * jax.vmap(net)(8.0 * points)), optax.adam(3e-2)),
    ):
        states = run(shots, start, optimizer=optimizer, iterations=12, to_model=to_model)
        # measured: 0.05, 0.65, 0.2
        assert states[-1].misfit < 0.8 * states[0].misfit
        assert jax.tree.structure(states[-1].unknowns) == jax.tree.structure(start)
        np.testing.assert_allclose(states[-1].model.vp, to_model(states[-1].unknowns).vp, rtol=1e-14)
    with pytest.raises(ValueError, match=r"the unknowns make no model.*but dict: pass to_model=function"):
        run(shots, {"coarse": jnp.zeros(8)}, optimizer=optax.adam(1.0), iterations=1)
    with pytest.raises(ValueError, match=r"the unknowns make no model.*but ArrayImpl: let to_model return one"):
        run(shots, jnp.zeros(8), optimizer=optax.adam(1.0), iterations=1, to_model=lambda x: x)


@pytest.mark.parametrize("optimizer", [optax.sgd(1e5), optax.lbfgs()], ids=["sgd", "lbfgs"])
def test_a_penalty_is_added_with_its_gradient(shots, optimizer):
    penalty = jf.regularisation.Reference(GRID, START, weight=1e-9)
    start = jf.Acoustic(vp=START.vp + 10.0)
    (state,) = run(shots, start, optimizer=optimizer, iterations=1, regularisation=penalty)
    value, gradient = jf.Problem(SIMULATOR, *shots).misfit_and_gradient(start)
    assert float(state.misfit) == pytest.approx(float(value), rel=1e-12)
    assert float(state.penalty) == pytest.approx(0.5 * 1e-9 * 160.0 * 100.0, rel=1e-12)  # 160 m at (10 m/s)²
    assert relative(state.gradient.vp, gradient.vp + 1e-9 * 10.0 * 10.0) < 1e-11
    assert state.model.vp.shape == (16,)
    with pytest.raises(ValueError, match=r"regularisation must be a function"):
        run(shots, start, optimizer=optimizer, iterations=1, regularisation=3.0)


@pytest.mark.slow
def test_a_strong_penalty_wins(shots):
    """With a line search, which must see it too."""
    penalty = jf.regularisation.Reference(GRID, START, weight=1.0)
    start = jf.Acoustic(vp=START.vp + 10.0)
    *_, state = run(shots, start, optimizer=optax.lbfgs(), iterations=3, regularisation=penalty)
    assert float(jnp.abs(state.model.vp - START.vp).max()) < 0.01  # measured: 7e-5


def newton(count, damping=0.0):
    """Exact Gauss-Newton steps of a model of a few cells, by products with the unit vectors."""

    def update(updates, state, params, *, gauss_newton_fn, **_):
        columns = jax.vmap(lambda e: gauss_newton_fn(jf.Acoustic(vp=e)).vp)(jnp.eye(count))
        hessian = columns + damping * jnp.eye(count)
        return jf.Acoustic(vp=-jnp.linalg.solve(hessian, updates.vp)), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


@pytest.mark.slow
def test_products_with_the_gauss_newton_hessian_are_at_hand(shots):
    penalty = jf.regularisation.Reference(GRID, START, weight=1e-7)
    options = {"optimizer": newton(16), "regularisation": penalty}
    start = jf.Acoustic(vp=START.vp + 10.0)
    (state,) = run(shots, start, iterations=1, **options)
    _, gradient = jf.Problem(SIMULATOR, *shots).misfit_and_gradient(start)
    columns = [jf.Problem(SIMULATOR, *shots).gauss_newton_product(start, jf.Acoustic(vp=e)).vp for e in jnp.eye(16)]
    hessian = jnp.stack(columns) + 1e-6 * jnp.eye(16)
    step = -jnp.linalg.solve(hessian, gradient.vp + 1e-6 * 10.0)
    # a solution of a system with a condition number of some 1e4; measured: 1e-12
    assert relative(state.model.vp - start.vp, step) < 1e-9


def test_scipy_with_bounds(shots):
    lower, upper = jf.Acoustic(vp=1950.0), jf.Acoustic(vp=2030.0)
    mask = jf.Acoustic(vp=np.arange(16) >= 3)
    objective = jf.AsVector(jf.Problem(SIMULATOR, *shots), START, bounds=(lower, upper), mask=mask)
    assert objective.start.shape == (13,)
    assert objective.start.dtype == np.float64
    value, slope = objective(objective.start)
    assert value == pytest.approx(1.0)
    step = 1e-2 * np.append(np.sin(np.arange(12)), 0.0)  # the layer's material is held fixed
    # Central differences; measured: 2e-8.
    along = (objective(objective.start + step)[0] - objective(objective.start - step)[0]) / 2
    assert along == pytest.approx(slope @ step, rel=1e-6)
    found = scipy.optimize.minimize(
        objective,
        objective.start,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(*objective.bounds, strict=True)),
        options={"maxiter": 15},
    )
    vp = objective.model(found.x).vp
    assert found.fun < 0.3  # measured: 0.225, where bounds keep it
    np.testing.assert_array_equal(vp[:3], START.vp[:3])
    assert vp.min() >= 1950.0
    assert vp.max() == 2030.0  # the true model has 2060 m/s
    logarithm = jf.AsVector(
        jf.Problem(SIMULATOR, *shots), jnp.log(START.vp), to_model=lambda x: jf.Acoustic(vp=jnp.exp(x)), scale=2.0
    )
    value, slope = logarithm(logarithm.start)
    plain, gradient = jf.Problem(SIMULATOR, *shots).misfit_and_gradient(START)
    assert value == pytest.approx(2.0 * float(plain), rel=1e-12)
    np.testing.assert_allclose(slope, 2.0 * gradient.vp * START.vp, rtol=1e-10)


def test_a_gradient_that_is_not_finite_stops_it(shots):
    def rooted(predicted, observed):
        return jnp.sqrt(jnp.sum((predicted - observed) ** 2))

    at_start = jf.simulate(SIMULATOR, START, shots[0])
    with pytest.raises(FloatingPointError, match=r"iteration 1: .* gradient is not finite.* square root at zero"):
        run((shots[0], at_start), optimizer=optax.adam(1.0), iterations=2, misfit=rooted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"give either iterations, or stages"),
        ({"iterations": 2, "stages": [jf.Stage(1)]}, r"give either iterations, or stages"),
        ({"stages": []}, r"stages must be a list of jf\.Stage"),
        ({"stages": [3]}, r"stages must be a list of jf\.Stage"),
        ({"stages": [jf.Stage(1), jf.Stage(0, name="top")]}, r"iterations of top must be .* 0\b"),
        (
            {"stages": [jf.Stage(1), jf.Stage(1, shots_per_iteration=9)]},
            r"shots_per_iteration of stage 2 is 9 .* 5 s",
        ),
        ({"stages": [jf.Stage(1, optax.adam)] * 2}, r"optimizer of stage 1 must be one of optax"),
        ({"iterations": 1, "divergence": 0.5}, r"divergence must be above 1"),
        ({"iterations": 1, "seed": -1}, r"seed must be .* -1"),
    ],
)
def test_plans_that_cannot_be(shots, options, message):
    with pytest.raises(ValueError, match=message):
        invert_with(SIMULATOR, START, *shots, **{"optimizer": optax.sgd(1.0), **options})


def test_a_diverging_misfit_stops_it_with_stage_and_cause(shots):
    stages = [jf.Stage(1, optax.sgd(1e-12), name="first"), jf.Stage(9, optax.adam(200.0), name="second")]
    with (
        pytest.warns(UserWarning, match="not changed the model"),
        pytest.raises(FloatingPointError, match=r"iteration \d \(second\): the misfit has grown .* learning rate"),
    ):
        run(shots, jf.Acoustic(vp=TRUE.vp + 1.0), stages=stages)


def test_gradients_below_adams_epsilon_are_told(shots):
    survey, observed = shots
    weak = jf.Survey(survey.source, survey.receiver, 1e-3 * survey.wavelet), 1e-3 * observed
    with pytest.warns(UserWarning, match=r"gradient is .*e-1\d at most, where Adam adds an epsilon of 1e-8"):
        run(weak, optimizer=optax.adam(5.0), iterations=1)
    run(weak, optimizer=optax.adam(5.0, eps=1e-20), iterations=1)  # says nothing


@pytest.mark.parametrize("part", [0.3, 1.0])
def test_a_line_search_sees_what_the_mask_leaves_of_a_step(shots, part):
    optimizer = optax.chain(optax.sgd(2e5), optax.scale_by_backtracking_linesearch(8, store_grad=True))
    mask = jf.Acoustic(vp=jnp.full(16, part))
    first, second = run(shots, optimizer=optimizer, iterations=2, mask=mask)
    # The value that the search ended at is the next iteration's misfit. Measured: 0.
    assert float(first.optimizer_state[-1].value) == pytest.approx(float(second.misfit), rel=1e-12)


def test_a_flat_objective_takes_a_fractional_mask_as_a_free_cell(shots):
    mask = jf.Acoustic(vp=np.r_[0.0, np.full(14, 0.5), 0.0])
    objective = jf.AsVector(jf.Problem(SIMULATOR, *shots), START, mask=mask)
    step = 1e-2 * np.sin(np.arange(14))
    along = (objective(objective.start + step)[0] - objective(objective.start - step)[0]) / 2
    assert along == pytest.approx(objective(objective.start)[1] @ step, rel=1e-6)  # central differences


def test_a_misfit_that_is_a_module_is_filtered_too(shots):
    class Squares(eqx.Module):
        def __call__(self, predicted, observed):
            return jf.misfits.l2(predicted, observed)

    states = [run(shots, stages=[jf.Stage(1, optax.sgd(1e5), LOW, m)])[0] for m in (Squares(), jf.misfits.l2)]
    assert float(states[0].misfit) == pytest.approx(float(states[1].misfit), rel=1e-12)
    late = [jf.Stage(1, optax.sgd(1.0)), jf.Stage(1, optax.sgd(1.0), filter=Butterworth(high=300.0))]
    with pytest.raises(ValueError, match=r"high = 300 Hz must lie below the Nyquist frequency 200 Hz"):
        jf.invert(jf.Problem(SIMULATOR, *shots), START, stages=late)
