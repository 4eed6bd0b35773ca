"""Many shots: the numbers do not depend on batches, cores and cutouts; data in files; what cannot be."""

import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiling import compilations
from helpers import invert_with, problem_with, relative, simulate_with, with_memory
from many_shots import LINE, ROUNDING, SECTION, File, check_same, expected, misfit, setting, spread

import jaxfwi as jf
from jaxfwi.inversion import stages
from jaxfwi.shots import plan
from jaxfwi.shots.aperture import cutouts
from jaxfwi.shots.observed import rows_of


@pytest.mark.parametrize(("shots", "options"), [(1, [{"batch": 3}]), (7, [{}, {"batch": 2}, {"batch": 100}])])
def test_batches_and_cores(shots, options, monkeypatch):
    monkeypatch.setattr(plan, "usable_cores", lambda: 3)
    survey, observed, reference = expected(LINE, shots)
    for chosen in options:
        check_same(simulate_with(LINE[0], LINE[2], survey, **chosen), observed)
        check_same(misfit(LINE, survey, observed, **chosen), reference)


@pytest.mark.telling
@pytest.mark.parametrize(("shots", "options"), [(2, {}), (2, {"devices": 1}), (1, {})])
def test_a_misfit_of_what_is_differentiated(shots, options, monkeypatch):
    """A misfit that closes over a weight, by which it is differentiated, mapped and compiled; in one program and in one
    for each core."""
    monkeypatch.setattr(plan, "usable_cores", lambda: 2)
    survey, observed, (value, _) = expected(LINE, shots)

    def weighted(weight):
        def misfit(predicted, observed):
            return weight**2 * jf.misfits.l2(predicted, observed)

        return problem_with(LINE[0], survey, observed, misfit=misfit, **options).misfit_and_gradient(LINE[1])[0]

    assert relative(jax.grad(weighted)(3.0), 6.0 * value) < ROUNDING
    assert relative(jax.vmap(weighted)(jnp.arange(3.0)), value * jnp.arange(3.0) ** 2) < ROUNDING


@pytest.mark.parametrize("shots", [1, 2])
def test_jax_finds_the_step_that_makes_a_nan(shots, monkeypatch):
    monkeypatch.setattr(plan, "usable_cores", lambda: 2)
    survey, observed, _ = expected(LINE, shots)

    def spoiled(predicted, observed):
        return jnp.sum(jnp.sqrt(-1.0 - jnp.square(predicted - observed)))

    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="nan"):
        jf.Problem(LINE[0], survey, observed, misfit=spoiled).misfit_and_gradient(LINE[1])


def test_products_on_all_cores(monkeypatch):
    monkeypatch.setattr(plan, "usable_cores", lambda: 2)
    survey, observed, _ = expected()
    _, start, true = LINE
    simulator = with_memory(LINE[0], jf.FullStorage())  # which compiles soonest, and is no matter for cores
    two, one = (jf.Problem(simulator, survey, observed, on=jf.On(**o)) for o in ({"batch": 2}, {"devices": 1}))
    check_same(two.hessian_product(start, true), one.hessian_product(start, true))
    check_same(two.gauss_newton_product(start, true), one.gauss_newton_product(start, true))


def test_every_core_has_its_own_share(monkeypatch):
    """The programs of all cores run at once: each waits in the middle for the others."""
    cores = 3
    monkeypatch.setattr(plan, "usable_cores", lambda: cores)
    meeting = threading.Barrier(cores, timeout=60)

    def waiting(predicted, observed):
        return jf.misfits.l2(predicted, observed) + jax.pure_callback(
            lambda: np.zeros(()) * meeting.wait(), jax.ShapeDtypeStruct((), jnp.result_type(float))
        )

    survey, observed, (value, _) = expected()
    # 7 shots and two copies, three for each core; the copies do not count
    ours = jf.Problem(LINE[0], survey, observed, misfit=waiting).misfit_and_gradient(LINE[1])
    assert relative(ours[0], value) < ROUNDING


def test_rows_are_those_asked_for_wherever_an_array_is():
    x, order = np.arange(12.0).reshape(4, 3), np.array([2, 0, 2])
    for array in (x, jnp.asarray(x), jnp.asarray(x, jnp.float32)):
        rows = rows_of(array, order)
        np.testing.assert_array_equal(rows, x[order])
        assert rows.dtype == array.dtype
        assert rows_of(array, np.arange(4)) is array
    np.testing.assert_array_equal(jax.jit(lambda a: rows_of(a, order))(x), x[order])


def test_an_iteration_reads_its_mini_batch_alone():
    survey, observed, _ = expected()
    options = {"optimizer": optax.adam(5.0), "iterations": 4, "shots_per_iteration": 3, "seed": 1, "devices": 1}
    file = File(observed)
    states = list(invert_with(*LINE[:2], survey, file, **options))
    assert file.read == [stages.mini_batch(7, 3, i, (1, 0)).tolist() for i in range(4)]
    check_same(states[-1].model, list(invert_with(*LINE[:2], survey, observed, **options))[-1].model, 1e-15)


def test_a_mapped_file(tmp_path):
    survey, observed, reference = expected()
    np.save(tmp_path / "observed.npy", observed)
    check_same(misfit(LINE, survey, np.load(tmp_path / "observed.npy", mmap_mode="r")), reference)
    broken = File(observed.copy())
    broken.data[4, 3, 2, 0] = np.nan
    with pytest.raises(ValueError, match=r"observed has values that are not finite"):
        misfit(LINE, survey, broken)


def test_mini_batches_compile_nothing_new():
    survey, observed, _ = expected(SECTION, 7)
    options = {"optimizer": optax.adam(1.0, eps=1e-20), "iterations": 5, "shots_per_iteration": 3, "aperture": 60.0}
    for data in (jnp.asarray(observed), File(observed)):
        states = invert_with(*SECTION[:2], survey, data, **options)
        for _ in range(2):
            next(states)
        with compilations() as count:
            assert len(list(states)) == 3
        assert count() == 0


def test_windows():
    grid = jf.Grid((10, 50, 40), (10.0, 10.0, 20.0), 1e-3, 10)
    source = [[20.0, 100.0, 400.0], [20.0, 0.0, 0.0], [90.0, 490.0, 780.0]]
    receiver = [[[0.0, 110.0, 400.0], [0.0, 130.0, 430.0]]] * 3
    receiver[1] = [[0.0, 0.0, 60.0]] * 2
    receiver[2] = [[0.0, 450.0, 780.0]] * 2
    survey = jf.Survey.from_arrays(source, receiver, np.zeros(10))
    size, start = cutouts(grid, survey, (50.0, 100.0))
    # along y 100 to 130 m and 50 m on either side; along x 400 to 430 m and 100 m on either side: rows 15 to 27
    assert size == (10, 14, 13)
    first, second, third = start.tolist()
    assert first == [0, 5, 15]
    assert second == [0, 0, 0]
    assert third == [0, 36, 27]
    assert cutouts(grid, survey, 1e6) == ((10, 50, 40), pytest.approx(np.zeros((3, 3))))


def test_an_aperture_keeps_the_data_and_gives_a_gradient_of_the_whole_model():
    """A window as wide as the model is the model; waves that leave a narrower one are absorbed as at its own edge."""
    survey, observed, (_, gradient) = expected(SECTION, 7)
    wide = misfit(SECTION, survey, observed, aperture=1e4)[1].vp
    assert relative(wide, gradient.vp) < ROUNDING
    assert cutouts(SECTION[0].grid, survey, 150.0)[0] == (12, 41)
    # What six damped cells reflect of the waves that leave. Measured: 2.2e-3 and 1.3e-3; 7e-4 and 6e-5 with 200 m.
    assert relative(jf.simulate(SECTION[0], SECTION[2], survey, aperture=150.0), observed) < 4e-3
    assert relative(misfit(SECTION, survey, observed, aperture=150.0)[1].vp, gradient.vp) < 3e-3


# What six damped cells reflect, and what has hardly come back yet. Measured: 6.4e-4 and 6.3e-11.
@pytest.mark.slow
@pytest.mark.parametrize(("case", "limit"), [("3D", 2e-3), ("elastic, ragged, free surface", 1e-9)])
def test_an_aperture_in_all_cases(case, limit):
    """As long as nothing comes back from beyond the window, data and gradient are those of the whole model."""
    if case == "3D":
        simulator, model, _ = setting((6, 30, 26))
        source = [[20.0, 120.0, 100.0], [20.0, 290.0, 0.0]]
        receiver = [[[30.0, 130.0, 110.0]], [[10.0, 250.0, 30.0]]]
        survey = jf.Survey.from_arrays(source, receiver, 1e-2 * jf.ricker(simulator.grid, 15.0))
        aperture = (140.0, 120.0)
    else:
        grid = jf.Grid((14, 60), 10.0, 2e-3, 120)
        fields = {"source_fields": ("vz",), "receiver_fields": ("vx", "p")}
        simulator = jf.Simulator(grid, absorber=jf.CPML(width=6), free_surface=True, **fields)
        rock = 2000.0 + 100.0 * np.sin(np.arange(60) / 4.0) * np.ones((14, 1))
        model = jf.Elastic(vp=rock, vs=0.5 * rock, rho=rock)
        source = [[20.0, 0.0], [20.0, 300.0], [20.0, 580.0]]
        receiver = [[[30.0, 20.0]], [[30.0, 330.0], [30.0, 285.0]], [[20.0, 590.0], [20.0, 560.0], [20.0, 550.0]]]
        survey = jf.Survey.from_lists(source, receiver, jf.ricker(grid, 8.0))
        aperture = 200.0
    assert cutouts(simulator.grid, survey, aperture)[0] < simulator.grid.shape

    def results(**options):
        data = simulate_with(simulator, model, survey, **options)
        gradient = problem_with(simulator, survey, np.zeros(data.shape), **options).misfit_and_gradient(model)[1]
        return data, gradient

    for a, b in zip(jax.tree.leaves(results(aperture=aperture)), jax.tree.leaves(results()), strict=True):
        assert relative(np.asarray(a), np.asarray(b)) < limit


@pytest.mark.slow
def test_an_aperture_holds_under_transformations():
    simulator, start, _ = SECTION
    survey, observed, _ = expected(SECTION, 3)
    survey = survey.on_nodes(simulator.grid)

    def of_model(model):
        return jf.misfits.l2(jf.simulate(simulator, model, survey, aperture=60.0), observed)

    ours = misfit(SECTION, survey, observed, aperture=60.0, batch=2)
    check_same(jax.jit(jax.value_and_grad(of_model))(start), ours)


class Weighted(eqx.Module):
    """A misfit that holds an array."""

    weight: jax.Array

    def __call__(self, predicted, observed):
        return jf.misfits.l2(self.weight * predicted, observed)


def test_misfits_and_data_that_cannot_be():
    survey, observed, _ = expected()
    for function, message in (
        (
            lambda p, o: jnp.sum(p - o, axis=(0, 1)),
            r"misfit must return a number for one shot's data, got shape \(1,\)",
        ),
        (Weighted(jnp.ones(1)), r"misfit must be hashable: wrap"),
    ):
        with pytest.raises(ValueError, match=message):
            jf.Problem(LINE[0], survey, observed, misfit=function).misfit_and_gradient(LINE[1])
    with pytest.raises(ValueError, match=r"observed must be an array or be indexed like one, got list"):
        misfit(LINE, survey, observed.tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aperture": -1.0}, r"aperture must be a finite number of metres, 0 or more, got -1\.0"),
        ({"aperture": (1.0, 2.0)}, r"aperture must be one number or one for each of the grid's 1 horizontal axes"),
        ({"aperture": np.inf}, r"aperture must be a finite number of metres"),
        ({"devices": 64}, r'devices asks for 64 but this process has 1 \(cpu\): .*jax_num_cpu_devices", 64\) before'),
        ({"devices": 0}, r"devices must be a whole number of at least 1, got 0"),
        ({"devices": "cpu"}, r"devices must be a number or a list of jax devices, .*, got 'cpu'"),
        ({"devices": []}, r"devices must be a number or a list"),
        ({"devices": jax.devices() * 2}, r"devices must differ"),
        ({"domains": 2}, r"domains = 2 needs as many devices"),
        ({"domains": 40}, r"domains = 40 leaves blocks"),
        ({"batch": 0}, r"batch must be a whole number of at least 1, got 0"),
    ],
    ids=str,
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        simulate_with(*SECTION[:2], spread(SECTION[0], 2), **options)


def test_an_aperture_needs_positions():
    with pytest.raises(ValueError, match=r"aperture needs to know the survey's positions"):
        jax.jit(lambda survey: jf.simulate(*SECTION[:2], survey, aperture=50.0))(spread(SECTION[0], 2))
    with pytest.raises(ValueError, match=r"needs a horizontal axis"):
        jf.simulate(*LINE[:2], spread(LINE[0], 2), aperture=50.0)
