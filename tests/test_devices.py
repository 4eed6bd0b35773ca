"""Shots over several devices and several processes: the same numbers, wherever they are computed."""

import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiling import compilations
from devices import on_devices
from helpers import invert_with, problem_with, simulate_with
from many_shots import LINE, SECTION, check_same, expected, misfit

import jaxfwi as jf

DOMAINS = {"devices": 6, "domains": 3}


@pytest.mark.telling
@pytest.mark.parametrize(("shots", "devices"), [(1, 8), (7, 2), (7, 4), (8, None)])
@on_devices(8)
def test_data_and_gradients(shots, devices):
    """Shots that divide over the devices, and shots that do not."""
    survey, observed, reference = expected(LINE, shots)
    check_same(jf.simulate(LINE[0], LINE[2], survey, on=jf.On(devices=devices)), observed)
    check_same(misfit(LINE, survey, observed, devices=devices, batch=2), reference)


@on_devices(8)
def test_where_the_caller_has_chosen_a_device():
    """That one computes, wherever data were before."""
    devices = jax.devices()
    simulator, start, true = LINE
    survey, _, reference = expected()
    everywhere = jf.simulate(simulator, true, survey)
    assert everywhere.devices() == set(devices)
    ours = misfit((simulator, jax.device_put(start, devices[2]), None), survey, everywhere)
    check_same(ours, reference)
    assert ours[0].devices() == {devices[2]}
    with jax.default_device(devices[5]):
        assert jf.simulate(simulator, true, survey).devices() == {devices[5]}


@on_devices(8)
def test_an_inversion_goes_on_on_other_devices():
    """Its state, a mask and bounds with it; and its mini-batches compile nothing new."""
    simulator, start, _ = LINE
    survey, observed, _ = expected()
    options = {"optimizer": optax.adam(9.0), "shots_per_iteration": 5}
    run = functools.partial(invert_with, simulator, start, survey, observed, **options)
    *_, through = run(iterations=3, devices=1)
    state = None
    for n, number in ((1, 2), (2, 3), (3, 1)):
        limits = {}
        if state:  # arrays that lie where the iteration before was computed
            limits["mask"] = jax.tree.map(jnp.ones_like, state.gradient)
            limits["bounds"] = tuple(jax.tree.map(lambda x, v=v: x + v, state.model) for v in (-1000.0, 1000.0))
        (state,) = run(iterations=n, devices=number, resume=state, **limits)
    # An optimiser divides by small gradients. Measured: 2e-14.
    check_same((state.model, state.misfit), (through.model, through.misfit), 1e-11)
    states = invert_with(simulator, state.model, survey, observed, iterations=3, devices=3, **options)
    for _ in range(2):
        next(states)
    with compilations() as count:
        next(states)
    assert count() == 0


@on_devices(8)
def test_each_grid_over_several_devices():
    simulator, _, true = LINE
    survey, observed, reference = expected()
    check_same(simulate_with(simulator, true, survey, **DOMAINS), observed)
    check_same(misfit(LINE, survey, observed, **DOMAINS), reference)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"devices": 5}, "devices are 5, which is no multiple of the 2 domains"),
        ({"devices": 1}, "domains = 2 needs as many devices, but there are 1"),
        ({"aperture": 50.0}, "domains and aperture both cut the model"),
    ],
    ids=str,
)
@on_devices(8)
def test_domains_that_cannot_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        misfit(SECTION, *expected(SECTION, 1)[:2], domains=2, **wrong)


# compiled as users do
as_compiled = on_devices(8, XLA_FLAGS="")


@pytest.mark.slow
@as_compiled
def test_odd_devices_by_name():
    survey, observed, reference = expected()
    check_same(misfit(LINE, survey, observed, devices=jax.devices()[3:6]), reference)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"devices": 4}, {"devices": 2, "batch": 2}, {"devices": 4, "domains": 2}], ids=str)
@as_compiled
def test_single_precision(options):
    survey, observed, _ = expected()
    start, single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (LINE[1], survey))
    one, several = (
        problem_with(LINE[0], single, observed.astype(np.float32), **o).misfit_and_gradient(start)
        for o in ({"devices": 1}, options)
    )
    assert several[1].vp.dtype == jnp.float32
    # Sums of seven in another order. Measured 2.2e-7. (Compiled at the lowest level, as other tests are, 1.5e-6: then
    # batches of two are computed in another way than one shot.)
    check_same(several, one, 1e-6)


@pytest.mark.slow
@as_compiled
def test_line_searches():
    survey, observed, _ = expected()
    options = {"optimizer": optax.lbfgs(), "iterations": 3, "shots_per_iteration": 5}
    last, other, alone = (
        [*invert_with(*LINE[:2], survey, observed, **options, **on)][-1]
        for on in ({"devices": 3}, DOMAINS, {"devices": 1})
    )
    # Measured: 8e-14.
    for ours in (last, other):
        check_same((ours.model, ours.misfit), (alone.model, alone.misfit), 1e-11)


@pytest.mark.slow
@as_compiled
def test_hessian_products():
    survey, observed, _ = expected()
    three, one = (jf.Problem(LINE[0], survey, observed, on=jf.On(devices=n)) for n in (3, 1))
    check_same(three.hessian_product(*LINE[1:]), one.hessian_product(*LINE[1:]))


@pytest.mark.slow
@as_compiled
def test_derivatives_of_all_data():
    simulator, start, _ = LINE
    survey, observed, reference = expected()

    def of_model(model):
        return jf.misfits.l2(simulate_with(simulator, model, survey.on_nodes(simulator.grid), **DOMAINS), observed)

    check_same(jax.jit(jax.value_and_grad(of_model))(start), reference)


@pytest.mark.slow
@as_compiled
def test_sections():
    """Cutouts of a section, and its columns over two devices."""
    survey, observed, reference = expected(SECTION, 5)
    check_same(*(misfit(SECTION, survey, observed, aperture=80.0, devices=n) for n in (2, 1)))
    check_same(misfit(SECTION, survey, observed, domains=(1, 2)), reference)


PROCESSES = """
    import sys
    import jax, numpy as np, optax
    import jaxfwi as jf

    jax.config.update("jax_enable_x64", True)
    jf.hosts.start()
    import many_shots
    from helpers import invert_with
    from many_shots import LINE, spread

    folder, read = sys.argv[1], []

    class File(many_shots.File):
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
