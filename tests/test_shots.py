"""Many shots: the numbers do not depend on batches, cores, devices and windows; memory follows the batch."""

import functools
import os
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiling import compilations
from helpers import invert_with, problem_with, relative, simulate_with

import jaxfwi as jf
from jaxfwi.inversion import stages
from jaxfwi.shots import budget, per_shot, plan, programs
from jaxfwi.shots.aperture import cutouts
from jaxfwi.shots.observed import rows_of

# The same sums over shots in another order, and batched steps compiled otherwise. Measured: 7e-15.
ROUNDING = 1e-12


def setting(shape):
    """A simulator, where to start and what is true."""
    grid = jf.Grid(shape, 10.0, 2e-3, 150)
    vp = np.full(shape, 2000.0)
    wave = 200.0 * np.sin(np.arange(shape[-1]) / 5.0)
    return jf.Simulator(grid, absorber=jf.CPML(width=6)), jf.Acoustic(vp=vp), jf.Acoustic(vp=vp + wave)


LINE = setting((60,))  # in one dimension, which compiles soon
SECTION = setting((12, 60))


def spread(simulator, shots, receivers=6):
    """Shots along the last axis, each with receivers behind it."""
    grid = simulator.grid
    source = np.full((shots, grid.ndim), 20.0)
    source[:, -1] = np.linspace(150.0, 550.0, shots).round(-1)
    offset = np.zeros((receivers, grid.ndim))
    offset[:, -1] = 20.0 * np.arange(receivers)
    return jf.Survey.from_arrays(source, source[:, None] - offset, 1e-2 * jf.ricker(grid, 15.0))


def expected(where=LINE, number=7):
    """Survey, data, misfit and gradient on one device, one shot after another."""
    return _expected(where is LINE, number)


@functools.cache
def _expected(line, number):
    simulator, start, true = LINE if line else SECTION
    survey = spread(simulator, number)
    observed = np.asarray(jf.simulate(simulator, true, survey, on=jf.On(devices=1, batch=1)))
    return survey, observed, jf.Problem(simulator, survey, observed, on=jf.On(devices=1)).misfit_and_gradient(start)


def misfit(where, survey, observed, **options):
    simulator, start, _ = where
    return problem_with(simulator, survey, observed, **options).misfit_and_gradient(start)


def check_same(ours, reference, limit=ROUNDING):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        assert a.shape == b.shape
        assert relative(np.asarray(a), np.asarray(b)) < limit


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
    simulator, start, true = LINE
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


def check_devices():
    """Data and gradients on several devices, shots that divide and shots that do not; an inversion that moves."""
    devices = jax.devices()
    simulator, start, true = LINE
    for several, numbers in ((1, (8,)), (7, (2, 4)), (8, (None,))):
        survey, observed, reference = expected(LINE, several)
        for n in numbers:
            check_same(jf.simulate(simulator, true, survey, on=jf.On(devices=n)), observed)
            check_same(misfit(LINE, survey, observed, devices=n, batch=2), reference)
    survey, observed, reference = expected()
    # where the caller has chosen a device, that one, wherever data were before
    everywhere = jf.simulate(simulator, true, survey)
    assert everywhere.devices() == set(devices)
    there = jax.device_put(start, devices[2])
    ours = misfit((simulator, there, None), survey, everywhere)
    check_same(ours, reference)
    assert ours[0].devices() == {devices[2]}
    with jax.default_device(devices[5]):
        assert jf.simulate(simulator, true, survey).devices() == {devices[5]}
    # a state, a mask and bounds go on where others were
    options = {"optimizer": optax.adam(9.0), "shots_per_iteration": 5}
    run = functools.partial(invert_with, simulator, start, survey, observed, **options)
    *_, through = run(iterations=3, devices=1)
    state = None
    for n, number in ((1, 2), (2, 3), (3, 1)):
        limits = {"mask": jax.tree.map(jnp.ones_like, state.gradient)} if state else {}
        (state,) = run(iterations=n, devices=number, resume=state, **limits)
    # An optimiser divides by small gradients. Measured: 2e-14.
    check_same((state.model, state.misfit), (through.model, through.misfit), 1e-11)
    # mini-batches compile nothing new
    states = invert_with(simulator, state.model, survey, observed, iterations=3, devices=3, **options)
    for _ in range(2):
        next(states)
    with compilations() as count:
        next(states)
    assert count() == 0
    # each grid over several devices
    options = {"devices": 6, "domains": 3}
    check_same(simulate_with(simulator, true, survey, **options), observed)
    check_same(misfit(LINE, survey, observed, **options), reference)
    for wrong, message in {
        ("devices", 5): "devices are 5, which is no multiple of the 2 domains",
        ("devices", 1): "domains = 2 needs as many devices, but there are 1",
        ("aperture", 50.0): "domains and aperture both cut the model",
    }.items():
        with pytest.raises(ValueError, match=message):
            misfit(SECTION, *expected(SECTION, 1)[:2], domains=2, **dict([wrong]))


def check_devices_slowly():
    """Single precision, odd devices by name, line searches, products, derivatives of all data, sections."""
    devices = jax.devices()
    simulator, start, _ = LINE
    survey, observed, reference = expected()
    check_same(misfit(LINE, survey, observed, devices=devices[3:6]), reference)
    short, single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (start, survey))
    for options in ({"devices": 4}, {"devices": 2, "batch": 2}, {"devices": 4, "domains": 2}):
        one, several = (
            problem_with(simulator, single, observed.astype(np.float32), **o).misfit_and_gradient(short)
            for o in ({"devices": 1}, options)
        )
        assert several[1].vp.dtype == jnp.float32
        # Sums of seven in another order. Measured 2.2e-7. (Compiled at the lowest level, as other tests are, 1.5e-6:
        # then batches of two are computed in another way than one shot.)
        check_same(several, one, 1e-6)
    options = {"devices": 6, "domains": 3}
    run = functools.partial(
        invert_with, simulator, start, survey, observed, optimizer=optax.lbfgs(), iterations=3, shots_per_iteration=5
    )
    last, other, alone = ([*run(**o)][-1] for o in ({"devices": 3}, options, {"devices": 1}))
    # Measured: 8e-14.
    for ours in (last, other):
        check_same((ours.model, ours.misfit), (alone.model, alone.misfit), 1e-11)
    three, one = (jf.Problem(simulator, survey, observed, on=jf.On(devices=n)) for n in (3, 1))
    check_same(three.hessian_product(start, LINE[2]), one.hessian_product(start, LINE[2]))

    def of_model(model):
        return jf.misfits.l2(simulate_with(simulator, model, survey.on_nodes(simulator.grid), **options), observed)

    check_same(jax.jit(jax.value_and_grad(of_model))(start), reference)
    # a section, windows of it, and its columns over two devices
    survey, observed, reference = expected(SECTION, 5)
    check_same(*(misfit(SECTION, survey, observed, aperture=80.0, devices=n) for n in (2, 1)))
    check_same(misfit(SECTION, survey, observed, domains=(1, 2)), reference)


def on_devices(number, program, **variables):
    """Run a program in a process with so many virtual devices, and environment variables."""
    paths = os.pathsep.join([os.path.dirname(__file__), os.path.dirname(os.path.dirname(jf.__file__))])
    program = f"""
        import jax
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_num_cpu_devices", {number})
        import test_shots
        {program}
    """
    environment = {**os.environ, "PYTHONPATH": paths, **variables}
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr


def test_a_program_is_asked_for_its_memory_once():
    survey, before = spread(LINE[0], 3), budget._account.cache_info()
    for _ in range(3):
        jf.simulate(*LINE[:2], survey)
    after = budget._account.cache_info()
    assert after.misses <= before.misses + 1
    assert after.hits >= before.hits + 2


def test_rows_are_those_asked_for_wherever_an_array_is():
    x, order = np.arange(12.0).reshape(4, 3), np.array([2, 0, 2])
    for array in (x, jnp.asarray(x), jnp.asarray(x, jnp.float32)):
        rows = rows_of(array, order)
        np.testing.assert_array_equal(rows, x[order])
        assert rows.dtype == array.dtype
        assert rows_of(array, np.arange(4)) is array
    np.testing.assert_array_equal(jax.jit(lambda a: rows_of(a, order))(x), x[order])


@pytest.mark.telling
def test_devices():
    on_devices(8, "test_shots.check_devices()")


@pytest.mark.slow
def test_devices_slowly():
    on_devices(8, "test_shots.check_devices_slowly()", XLA_FLAGS="")  # compiled as users do


PROCESSES = """
    import sys
    import jax, numpy as np, optax
    import jaxfwi as jf

    jax.config.update("jax_enable_x64", True)
    jf.hosts.start()
    import test_shots
    from helpers import invert_with
    from test_shots import LINE, spread

    folder, read = sys.argv[1], []

    class File(test_shots.File):
        def __getitem__(self, index):
            read.extend(index.tolist())
            return super().__getitem__(index)

    survey = spread(LINE[0], 7)
    file = File(np.load(folder + "/observed.npy", mmap_mode="r"))
    devices = jax.devices()
    problem = jf.Problem(LINE[0], survey, file, on=jf.On(devices=devices))
    value, gradient = problem.misfit_and_gradient(LINE[1])
    own, n = sorted(set(read)), jax.process_index()
    assert own == ([0, 1, 2, 3], [0, 4, 5, 6])[n], own  # the first of them again fills up the last share
    # a mask and bounds as a user has them, on one process; an optimiser with a line search, its state taken up again
    options = {"mask": jf.Acoustic(vp=np.arange(60) > 2), "bounds": (jf.Acoustic(vp=1500.0), None), "seed": 1}
    options |= {"optimizer": optax.lbfgs(), "shots_per_iteration": 5, "devices": devices}
    first = next(invert_with(*LINE[:2], survey, file, iterations=2, **options))
    last = [*invert_with(*LINE[:2], survey, file, iterations=2, resume=first, **options)][-1]
    # each process models its own shots
    mine = jf.hosts.share(7)
    data = jf.simulate(LINE[0], LINE[2], survey[mine])
    try:
        jf.simulate(LINE[0], LINE[2], survey, on=jf.On(devices=devices))
    except ValueError as error:
        assert "each models its own shots" in str(error)
    results = {"value": value, "gradient": gradient.vp, "model": last.model.vp, "mine": mine, "data": data}
    np.savez(f"{folder}/{n}.npz", **{name: np.asarray(x) for name, x in results.items()})
"""


def test_two_processes(tmp_path):
    survey, observed, (value, gradient) = expected()
    np.save(tmp_path / "observed.npy", observed)
    (tmp_path / "script.py").write_text(textwrap.dedent(PROCESSES))
    root = Path(__file__).resolve().parents[1]
    paths = os.pathsep.join([str(root / "tests"), str(root)])
    process = subprocess.run(
        [sys.executable, root / "experiments/launch.py", "--processes", "2", tmp_path / "script.py", tmp_path],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    options = {"optimizer": optax.lbfgs(), "shots_per_iteration": 5, "seed": 1, "iterations": 2, "devices": 1}
    options |= {"mask": jf.Acoustic(vp=np.arange(60) > 2), "bounds": (jf.Acoustic(vp=1500.0), None)}
    with pytest.warns(UserWarning, match="L-BFGS, which compares gradients"):
        *_, last = invert_with(*LINE[:2], survey, observed, **options)
    modelled = []
    for n in range(2):
        theirs = np.load(tmp_path / f"{n}.npz")
        check_same((theirs["value"], theirs["gradient"]), (np.asarray(value), gradient.vp))
        check_same(theirs["model"], last.model.vp, 1e-11)
        check_same(theirs["data"], observed[theirs["mine"]])
        modelled += theirs["mine"].tolist()
    assert modelled == list(range(7))


def test_memory_follows_the_batch_and_not_the_survey():
    simulator, start, _ = LINE

    def working(shots, **options):
        survey = spread(simulator, shots)
        return problem_with(simulator, survey, devices=1, **options).memory(start).working

    few, some, many = (working(n) for n in (8, 32, 128))
    assert few == some == many  # measured: 34176 bytes each
    # what a shot needs, twice; measured 1.95 times
    assert 1.8 * few < working(32, batch=2) < 2.0 * few


def test_memory_is_told_as_it_is_taken(monkeypatch):
    monkeypatch.setattr(plan, "usable_cores", lambda: 2)
    simulator, start, _ = LINE
    survey, observed, _ = expected(LINE, 8)
    one = jf.Problem(simulator, survey, on=jf.On(devices=1)).memory(start)
    two = jf.Problem(simulator, survey).memory(start)
    # of two cores, each with half of the shots: measured 1.97 times for 60 cells
    assert two.working == pytest.approx(2 * one.working, rel=0.1)
    assert one.total == one.arguments + one.working + one.result
    without = jf.Problem(simulator, survey, on=jf.On(devices=1)).memory(start, gradient=False)
    assert one.arguments - without.arguments == pytest.approx(observed.nbytes, abs=64)
    assert without.result == pytest.approx(observed.nbytes, abs=64)


@pytest.mark.parametrize("devices", [1, None], ids=str)
def test_asking_for_memory_compiles_the_program_of_the_run(devices):
    simulator, start, _ = LINE
    survey, observed, _ = expected(LINE, 5)
    misfit(LINE, survey[:2], observed[:2], devices=devices)
    jf.Problem(simulator, survey, on=jf.On(devices=devices)).memory(start)
    models = start, jax.tree.map(jnp.asarray, start)
    with compilations() as count:
        for model in models:
            misfit((simulator, model, None), survey, observed, devices=devices)
    assert count() == 0


def test_a_run_that_cannot_fit_says_so(monkeypatch):
    survey, observed, reference = expected(LINE, 8)
    need = jf.Problem(LINE[0], survey, on=jf.On(devices=1)).memory(LINE[1])
    monkeypatch.setattr(budget, "_free", lambda device: need.working + need.result - 1)
    with pytest.raises(
        MemoryError, match=r"takes [\d.]+ kB beside .* has [\d.]+ kB\. .*groups.*; lower batch; .*BoundarySaving"
    ):
        misfit(LINE, survey, observed, devices=1)
    # where one core's share fits but not two, one runs after the other
    monkeypatch.setattr(plan, "usable_cores", lambda: 2)
    monkeypatch.setattr(budget, "_free", lambda device: 1.5 * need.working + 4 * need.result)
    check_same(misfit(LINE, survey, observed), reference)


@pytest.mark.parametrize(
    ("free", "shares", "fits"), [(500, 1, 1), (380, 4, 2), (379, 4, 1), (10**6, 4, 4), (230, 4, 1), (160, 1, 1)]
)
def test_how_many_shares_fit_at_once(monkeypatch, free, shares, fits):
    """150 bytes to work in for each, and 10 of result, all kept and once more when they are put together."""
    monkeypatch.setattr(budget, "_free", lambda device: free)
    assert budget.shares_that_fit(budget.Memory(10**9, 150, 10), jax.devices()[0], shares) == fits
    monkeypatch.setattr(budget, "_free", lambda device: 159)
    with pytest.raises(MemoryError, match=r"takes (160|230) B beside"):
        budget.shares_that_fit(budget.Memory(0, 150, 10), jax.devices()[0], shares)


@pytest.mark.parametrize(
    ("free", "most", "batch"),
    [(0, 8, 1), (1000, 1, 1), (1000, 8, 8), (399, 8, 3), (600, 20, 5), (50, 3, 1)],
)
def test_the_largest_batch_that_fits(monkeypatch, free, most, batch):
    """100 bytes for each shot; a tenth is left free, and batches are evened out."""
    monkeypatch.setattr(budget, "_free", lambda device: free)
    asked = []

    def of_batch(n):
        asked.append(n)
        return budget.Memory(10**9, 100 * n, 0)

    assert budget.largest_batch(of_batch, most, jax.devices()[0]) == batch
    assert set(asked) <= {1, 2}


@pytest.mark.slow
def test_batches_are_chosen_by_the_compiled_program(monkeypatch):
    """As on a GPU, where memory decides."""
    simulator, start, _ = LINE
    survey, observed, reference = expected(LINE, 4)
    problem = jf.Problem(simulator, survey, observed, on=jf.On(devices=1)).admitted(start)
    planned = problem.plan(jf.Acoustic, start)
    assert planned.layout.batch == 1  # on a CPU
    planned = replace(planned, layout=replace(planned.layout, batch=None))
    of_shot = per_shot.Gradient(planned.one_shot, (jf.misfits.l2,))
    sizes = [jf.Problem(simulator, survey, on=jf.On(devices=1, batch=n)).memory(start)[1:] for n in (1, 2, 4)]
    one, two, four = map(sum, sizes)
    monkeypatch.setattr(budget, "_free", lambda device: (one + 3.5 * (two - one)) / 0.9)  # room for four
    memory = programs.memory_of_program(programs.summed, of_shot, planned, start, planned.shares()[0])
    # by the estimate 129 kB, and 67 kB for two at once
    assert sum(memory[1:]) == pytest.approx(four, rel=0.1)
    monkeypatch.setattr(budget, "_free", lambda device: 2**40)
    check_same(programs.sum_over_shots(of_shot, planned, start, planned.shares()), reference)


class File:
    """Data that can be indexed by rising indices alone, as some files are, and tell what was read of them."""

    def __init__(self, data):
        self.data, self.read = np.asarray(data), []
        self.shape, self.dtype = self.data.shape, self.data.dtype

    def __getitem__(self, index):
        assert (np.diff(index) > 0).all()
        self.read.append(index.tolist())
        return self.data[index]


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
        ({"devices": 0}, r"devices asks for 0 .*: ask for 1 to 1"),
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


def test_an_estimate_needs_values():
    with pytest.raises(ValueError, match=r"memory looks at its arguments"):
        jax.jit(lambda model: jf.Problem(LINE[0], spread(LINE[0], 2)).memory(model, gradient=False).total)(LINE[1])
