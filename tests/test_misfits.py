"""Misfits: least where data agree, gradients and Hessian products against differences, and what each one sees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import relative

import jaxfwi as jf
from jaxfwi import _traces
from jaxfwi.misfits import (
    Envelope,
    Filtered,
    Huber,
    InstantaneousPhase,
    SlicedGraphSpace,
    Traveltime,
    Wasserstein,
    WeightedSum,
    global_correlation,
    l1,
    l2,
)

NT, DT = 64, 4e-3
GRID = jf.Grid(shape=10, spacing=10.0, dt=DT, nt=NT)
PERIOD = 12.5 * DT  # of the pulses below

SQUARE = Wasserstein(GRID)
SOFTPLUS = Wasserstein(GRID, positive="softplus", scale=3.0)
GRAPH = SlicedGraphSpace(GRID, time_shift=PERIOD)
MISFITS = {
    "l1": l1,
    "l2": l2,
    "Huber": Huber(0.1),
    "global_correlation": global_correlation,
    "Envelope": Envelope(),
    "Envelope, squared": Envelope(power=2.0),
    "InstantaneousPhase": InstantaneousPhase(),
    "Traveltime": Traveltime(GRID),
    "Wasserstein, square": SQUARE,
    "Wasserstein, softplus": SOFTPLUS,
    "Wasserstein, exponential": Wasserstein(GRID, positive="exponential", scale=3.0),
    "Wasserstein, linear": Wasserstein(GRID, positive="linear", scale=0.8),
    "SlicedGraphSpace": GRAPH,
    "WeightedSum": WeightedSum([(2.0, l2), (0.5, Huber(0.2))]),
}
# Differentiated twice here. The other ways of making positive share all but one line with the one.
SECOND = [name for name in MISFITS if "Wasserstein" not in name] + ["Wasserstein, softplus"]
each = pytest.mark.parametrize("name", MISFITS)


@pytest.fixture(scope="module", autouse=True)
def no_optimisation():
    """Nearly all the time here goes into compiling, and half of that into optimising what then runs once."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@functools.cache
def program(name):
    """Value and gradient by the predicted data."""
    both = jax.value_and_grad(MISFITS[name])
    # What takes long to compile of these is a program of its own that they share.
    return both if "Wasserstein" in name else jax.jit(both)


def pulses(*times, phase=0.0):
    """Ricker wavelets of 20 Hz at times in seconds, ``(NT, len(times), 1)``."""
    square = (np.pi * 20.0 * (DT * np.arange(NT)[:, None] - np.array(times))) ** 2
    out = (1.0 - 2.0 * square) * np.exp(-square)
    if phase:
        out = np.cos(phase) * out + np.sin(phase) * np.asarray(_traces.hilbert(out.T)).T
    return jnp.asarray(out[..., None])


def noisy(seed, *times):
    return pulses(*times) + 0.1 * np.random.default_rng(seed).standard_normal((NT, len(times), 1))


PREDICTED, OBSERVED = noisy(1, 0.100, 0.120, 0.130), noisy(2, 0.105, 0.110, 0.120)
DIRECTION, OTHER = (jnp.asarray(np.random.default_rng(s).standard_normal(OBSERVED.shape)) for s in (3, 4))


@each
def test_least_where_data_agree(name):
    value, gradient = program(name)(OBSERVED, OBSERVED)
    away, slope = program(name)(PREDICTED, OBSERVED)
    # Measured: 3e-33 and 7e-17, rounding of transforms and of unit energy; else exactly 0.
    assert abs(value) < 1e-30
    assert abs(gradient).max() < 1e-14 * abs(slope).max()
    assert away > 0


@each
def test_gradient_against_differences(name):
    step = 1e-7
    ahead, behind = (program(name)(PREDICTED + s * DIRECTION, OBSERVED)[0] for s in (step, -step))
    gradient = program(name)(PREDICTED, OBSERVED)[1]
    error = abs((ahead - behind) / (2 * step) - jnp.vdot(gradient, DIRECTION))
    # Rounding by the step. Measured: 3e-10.
    assert error < 1e-6 * jnp.linalg.norm(gradient) * jnp.linalg.norm(DIRECTION)


@pytest.mark.parametrize("name", SECOND)
def test_hessian_product_against_differences(name):
    step = 1e-7
    slopes = [program(name)(PREDICTED + s * DIRECTION, OBSERVED)[1] for s in (step, -step)]

    @jax.jit
    def product(direction):
        return jax.jvp(lambda p: jax.grad(MISFITS[name])(p, OBSERVED), (PREDICTED,), (direction,))[1]

    ours = product(DIRECTION)
    # Rounding of the gradients by the step. Measured: 3e-9; l1 has no second derivative.
    np.testing.assert_allclose((slopes[0] - slopes[1]) / (2 * step), ours, atol=1e-6 * abs(ours).max())
    # Measured: 4e-16.
    assert abs(jnp.vdot(OTHER, ours) - jnp.vdot(product(OTHER), DIRECTION)) <= 1e-11 * jnp.linalg.norm(ours)


@each
def test_zero_traces(name):
    """Zero in both: exactly nothing. In one of both: finite, also at exactly zero."""
    value, gradient = program(name)(0 * PREDICTED, 0 * OBSERVED)
    assert value == 0
    assert not gradient.any()
    for k, data in enumerate([(PREDICTED, 0 * OBSERVED), (0 * PREDICTED, OBSERVED)]):
        value, gradient = program(name)(*data)
        assert jnp.isfinite(value)
        assert jnp.isfinite(gradient).all()
        # a time shift is not defined there; see Traveltime
        assert value > 0 or name == "Traveltime", k


@each
def test_smooth_onsets(name):
    """Pulses that begin with values so small that their powers overflow or vanish: gradients are finite."""
    data = pulses(0.24, 0.20, 0.15), pulses(0.20, 0.22, 0.24)
    assert 0 < abs(data[0]).min() < 1e-90
    value, gradient = program(name)(*data)
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()


def test_exponential_of_a_spike():
    """A spike of the energy of a constant reaches 8 times its peak: exp(800) is none."""
    spike = jnp.zeros_like(OBSERVED).at[5].set(1.0)
    misfit = Wasserstein(GRID, positive="exponential", scale=100.0)
    value, gradient = jax.value_and_grad(misfit)(spike, jnp.ones_like(OBSERVED))
    # All mass in one sample's time: its quantiles against those of even mass, over a 64th, which is the step.
    quantile = 5.0 + (np.arange(64_000) + 0.5) / 64_000 - 64.0 * (np.arange(64_000) + 0.5) / 64_000
    # The quadrature by the midpoint rule. Measured: 8e-11.
    assert relative(value, 3.0 * DT**2 * np.mean(quantile**2)) < 1e-8
    assert jnp.isfinite(gradient).all()


@each
def test_sums_over_traces(name):
    """The misfit is that of its traces alone, the others being zero in both; so are gradients."""
    value, gradient = program(name)(PREDICTED, OBSERVED)
    data = [np.asarray(x) for x in (PREDICTED, OBSERVED)]
    alone = [program(name)(*(x * only for x in data)) for only in np.eye(3)[:, :, None]]
    # Sums in another order. Measured: 3e-16.
    assert relative(sum(v for v, _ in alone), value) < 1e-14
    for i, (_, g) in enumerate(alone):
        assert relative(g[:, i], gradient[:, i]) < 1e-13
        assert not np.delete(np.asarray(g), i, axis=1).any()


@pytest.mark.parametrize("name", ["Traveltime", "Wasserstein, square", "SlicedGraphSpace"])
def test_several_shots(name):
    """With shots in front, and mapped over shots."""
    shots = (jnp.stack([PREDICTED, OBSERVED]), jnp.stack([OBSERVED, PREDICTED]))
    total = sum(program(name)(*shot)[0] for shot in zip(*shots, strict=True))
    assert relative(jax.jit(MISFITS[name])(*shots), total) < 1e-14
    if "Wasserstein" not in name:  # as long to compile as all of this
        mapped = jax.jit(jax.vmap(MISFITS[name]))(*shots)
        assert mapped.shape == (2,)
        assert relative(mapped.sum(), total) < 1e-14


@each
def test_single_precision_stays(name):
    single = jax.ShapeDtypeStruct((2, NT, 3, 1), jnp.float32)
    value, gradient = jax.eval_shape(jax.value_and_grad(MISFITS[name]), single, single)
    assert value.dtype == gradient.dtype == jnp.float32
    assert value.shape == ()


@pytest.mark.parametrize("name", ["InstantaneousPhase", "Traveltime"])
def test_small_amplitudes_in_single_precision(name):
    """Amplitudes, the squares of which vanish: what does not depend on amplitudes does not there either."""
    expected, slope = program(name)(PREDICTED, OBSERVED)
    value, gradient = program(name)(*(jnp.asarray(1e-25 * x, jnp.float32) for x in (PREDICTED, OBSERVED)))
    # Single precision. Measured: 3e-7 and 4e-7.
    assert relative(value, expected) < 1e-5
    assert relative(1e-25 * gradient.astype(float), slope) < 1e-5


LATE = pulses(0.108, 0.128, 0.138)
CHANGES = {
    "amplitude": jnp.array([3.0, 0.5, 1e-3])[:, None] * LATE,
    "polarity": -LATE,
    "phase": pulses(0.108, 0.128, 0.138, phase=0.7),
    "time": pulses(0.112, 0.132, 0.142),
}


@pytest.mark.parametrize(
    ("name", "unseen"),
    [
        ("l1", {}),
        ("l2", {}),
        ("Huber", {}),
        ("global_correlation", {"amplitude"}),
        ("Envelope", {"polarity", "phase"}),
        ("Envelope, squared", {"polarity", "phase"}),
        ("InstantaneousPhase", {"amplitude"}),
        ("Traveltime", {"amplitude"}),
        ("Wasserstein, square", {"amplitude", "polarity"}),
        ("Wasserstein, softplus", {"amplitude"}),
        ("Wasserstein, exponential", {"amplitude"}),
        ("Wasserstein, linear", {"amplitude"}),
        ("SlicedGraphSpace", {}),
    ],
)
def test_what_is_seen(name, unseen):
    """Each change of a trace, as a part of what the change of time costs."""
    reference = program(name)(CHANGES["time"], LATE)[0]
    for change, data in CHANGES.items():
        cost = program(name)(data, LATE)[0] / reference
        # Measured: 6e-6 for the phase, a rotation by a Hilbert transform cut at the record's ends; 1e-14 else. What is
        # seen costs 0.9 at least.
        assert (cost < 2e-5) if change in unseen else (cost > 0.1), (change, cost)


def test_against_definitions():
    """Sums written out by numpy."""
    p, o = np.asarray(PREDICTED[..., 0]), np.asarray(OBSERVED[..., 0])
    residual = abs(p - o)
    expected = {
        "l1": residual.sum(),
        "l2": 0.5 * (residual**2).sum(),
        "Huber": np.where(residual < 0.1, 0.5 * residual**2, 0.1 * (residual - 0.05)).sum(),
        "global_correlation": (1.0 - (p * o).sum(0) / np.sqrt((p**2).sum(0) * (o**2).sum(0))).sum(),
    }
    for name, value in expected.items():
        assert relative(program(name)(PREDICTED, OBSERVED)[0], value) < 1e-13


def test_sinusoids_with_known_envelope_and_phase():
    """Modulated sinusoids, in the middle of a record that they fade out before its ends."""
    t = np.arange(NT) - NT / 2
    fade = np.exp(-((t / 12.0) ** 2))
    carrier, phase = 0.7 * t, 0.4

    def trace(x):
        return jnp.asarray(np.repeat(x[:, None, None], 3, axis=1))

    two, one = trace(2.0 * fade * np.cos(carrier)), trace(fade * np.cos(carrier + phase))
    # The analytic signal is the fade times exp(i carrier), if the fade has no frequencies beyond the carrier's: of
    # its spectrum 1e-8 is there. The water level in squares is 1e-6. Measured: 2e-6.
    assert relative(program("Envelope")(two, one)[0], 3 * 0.5 * (fade**2).sum()) < 1e-5
    weight = fade**2 / (fade**2 + 0.1**2)
    # Measured: 5e-7.
    expected = 3 * (weight * (1.0 - np.cos(phase))).sum()
    assert relative(program("InstantaneousPhase")(two, one)[0], expected) < 1e-5


def quantiles(mass, u):
    """Of mass that fills each sample's time, by numpy."""
    whole = np.concatenate([[0.0], np.cumsum(mass)])
    return np.interp(u, whole / whole[-1], np.arange(NT + 1) * DT)


@pytest.mark.parametrize(
    ("name", "positive"),
    [
        ("square", lambda x: x**2),
        ("softplus", lambda x: np.log(1.0 + np.exp(3.0 * x))),
        ("exponential", lambda x: np.exp(3.0 * x)),
        ("linear", lambda x: np.maximum(1.0 + 0.8 * x, 0.0)),
    ],
)
def test_wasserstein_by_quadrature(name, positive):
    u = (np.arange(200_000) + 0.5) / 200_000
    total = 0.0
    for p, o in zip(np.asarray(PREDICTED[..., 0]).T, np.asarray(OBSERVED[..., 0]).T, strict=True):
        p = p * np.linalg.norm(o) / np.linalg.norm(p)
        a, b = (quantiles(positive(x / abs(o).max()), u) for x in (p, o))
        total += np.mean((a - b) ** 2)
    # The quadrature's steps; it cuts the jumps of quantile functions where a square has no mass. Measured: 3e-7.
    assert relative(program("Wasserstein, " + name)(PREDICTED, OBSERVED)[0], total) < 2e-6


def test_graphs_by_sorting():
    """The definition, point by point; a narrow plane gives l2."""
    p, o = np.asarray(PREDICTED[..., 0]), np.asarray(OBSERVED[..., 0])
    time = np.arange(NT)[:, None] * DT / PERIOD * abs(o).max(axis=0)
    total = 0.0
    for angle in np.pi * (np.arange(16) + 0.5) / 16:
        a, b = (np.sort(np.cos(angle) * time + np.sin(angle) * x, axis=0) for x in (p, o))
        total += ((a - b) ** 2).sum() / 16
    assert relative(program("SlicedGraphSpace")(PREDICTED, OBSERVED)[0], total) < 1e-13
    narrow = SlicedGraphSpace(GRID, time_shift=DT / 100)
    assert relative(narrow(PREDICTED, OBSERVED), l2(PREDICTED, OBSERVED)) < 1e-13


def test_a_shift_in_time():
    """A pulse that comes late: for l2 the cost has a maximum at half a period and falls again; for others it does not,
    and Wasserstein distance and travel time give the square of the shift."""
    shifts = 2 * DT * np.arange(18)
    data, still = [pulses(0.06 + s, 0.06, 0.06) for s in shifts], pulses(0.06, 0.06, 0.06)
    cost = {}
    for name in ("l2", "Envelope", "Traveltime", "Wasserstein, square", "SlicedGraphSpace"):
        cost[name] = np.array([program(name)(x, still)[0] for x in data])
    top = cost["l2"].argmax()
    assert abs(shifts[top] - PERIOD / 2) < 2 * DT
    assert cost["l2"][2 * top] < 0.7 * cost["l2"][top]
    for name in cost.keys() - {"l2"}:
        assert (np.diff(cost[name]) > 0).all(), name
    # Pulses cut at the record's ends, 1e-6 of their peak there. Measured: 2e-9.
    np.testing.assert_allclose(cost["Wasserstein, square"], shifts**2, rtol=1e-7, atol=1e-30)
    np.testing.assert_allclose(cost["Traveltime"], 0.5 * shifts**2, rtol=1e-7, atol=1e-30)


def test_equal_when_parameters_are():
    """Made anew, also from numbers of other types, they are the same to jit; with other parameters not."""
    traced = []

    @functools.partial(jax.jit, static_argnums=0)
    def program(misfit, x):
        traced.append(misfit)
        return x

    def grid(dt):
        return jf.Grid(shape=10, spacing=10.0, dt=dt, nt=NT)

    makers = [
        lambda x: Huber(x),
        lambda x: Envelope(power=1 + x),
        lambda x: InstantaneousPhase(x / 4),
        lambda x: Traveltime(grid(x)),
        lambda x: Wasserstein(grid(x), "softplus"),
        lambda x: Wasserstein(GRID, "softplus", x),
        lambda x: SlicedGraphSpace(grid(x), 1.0),
        lambda x: SlicedGraphSpace(GRID, x),
        lambda x: WeightedSum([(x, l2), (1.0, Envelope())]),
    ]
    for make in makers:
        traced.clear()
        for x in (1.0, 1, np.float32(1.0)):
            assert make(x) == make(1.0)
            assert hash(make(x)) == hash(make(1.0))
            program(make(x), 0.0)
        assert len(traced) == 1
        assert make(2.0) != make(1.0)
        program(make(2.0), 0.0)
        assert len(traced) == 2
    assert Wasserstein(GRID) != SOFTPLUS


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Huber(0.0), "threshold must be a positive number in units of the data, got 0.0"),
        (lambda: Huber("1"), "threshold must be"),
        (lambda: Huber(np.nan), "threshold must be"),
        (lambda: Huber(jnp.ones(2)), "threshold must be"),
        (lambda: Envelope(power=0.5), "power must be at least 1"),
        (lambda: Envelope(power=True), "power must be a positive number"),
        (lambda: Envelope(water_level=1.0), "water_level must be a number from 0 to below 1, got 1.0"),
        (lambda: Envelope(water_level=-0.1), "water_level must be"),
        (lambda: InstantaneousPhase(0.0), "water_level must be a positive number"),
        (lambda: InstantaneousPhase(2.0), "water_level must be a number from 0 to below 1"),
        (lambda: Traveltime(DT), r"grid must be a jaxfwi\.Grid, .*got 0\.004: pass the grid of your simulator"),
        (lambda: Wasserstein(DT), "grid must be"),
        (lambda: SlicedGraphSpace(DT, 1.0), "grid must be"),
        (lambda: Filtered(l2, abs, DT), "grid must be"),
        (lambda: Wasserstein(GRID, "abs"), "positive must be one of square, softplus, exponential, linear, got 'abs'"),
        (lambda: Wasserstein(GRID, ["square"]), "positive must be one of"),
        (lambda: Wasserstein(GRID, scale=np.inf), "scale must be a positive number"),
        (lambda: SlicedGraphSpace(GRID, 0.0), "time_shift must be a positive number of seconds"),
        (lambda: SlicedGraphSpace(GRID, 1.0, directions=1), "directions must be a whole number of at least 2"),
        (lambda: WeightedSum([]), "terms must be pairs of a weight and a misfit function"),
        (lambda: WeightedSum(l2), "terms must be pairs"),
        (lambda: WeightedSum([l2]), "terms must be pairs"),
        (lambda: WeightedSum([(1.0, 2.0)]), "terms must be pairs"),
        (lambda: WeightedSum([(-1.0, l2)]), "weight must be a positive number, got -1.0"),
        (lambda: global_correlation(OBSERVED, OBSERVED[:-1]), r"predicted and observed must both be \(..., time"),
        (lambda: global_correlation(OBSERVED[..., 0], OBSERVED[..., 0]), "predicted and observed must both be"),
    ],
)
def test_mistakes(make, words):
    with pytest.raises(ValueError, match=words):
        make()
