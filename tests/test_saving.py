"""Saved states: an inversion that is killed ends as if it had not been; what cannot be written, read or fit is told."""

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_bits, invert_with
from small_inversion import SIMULATOR, START

import jaxfwi as jf

ADAM = optax.adam(5.0)


def run(shots, folder, iterations=4, every=1, config=None, **options):
    """All states of an inversion with checkpoints in `folder`."""
    checkpoints = jf.SaveTo(folder, every, config)
    options = {"shots_per_iteration": 2, "optimizer": ADAM, "start": START, **options}
    if "stages" not in options:
        options["iterations"] = iterations
    start = options.pop("start")
    simulator = options.pop("simulator", SIMULATOR)
    return list(invert_with(simulator, start, *shots, save=checkpoints, **options))


def stopping_after(states, count):
    """The first states of an inversion that is then left."""
    return [next(states) for _ in range(count)]


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


STAGES = [
    jf.Stage(2, optax.sgd(1e5, momentum=0.9)),
    jf.Stage(3, optax.adam(5.0, mu_dtype=jnp.bfloat16), encoding=jf.Encoding(longest_delay=0.02)),
]


def test_goes_on_from_a_checkpoint_bit_for_bit(shots, tmp_path):
    """In the midst of a stage and between two, with optimiser states of other structure, one of them in bfloat16."""
    whole = run(shots, tmp_path / "whole", stages=STAGES)
    assert [(s.iteration, s.stage) for s in whole] == [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]
    for left_after in (1, 2, 3):
        folder = tmp_path / f"left after {left_after}"
        options = {"stages": STAGES, "shots_per_iteration": 2, "save": jf.SaveTo(folder)}
        stopping_after(invert_with(SIMULATOR, START, *shots, **options), left_after)
        rest = run(shots, folder, stages=STAGES)
        assert [s.iteration for s in rest] == list(range(left_after, 6))  # the saved one is yielded first
        for a, b in zip(whole[left_after - 1 :], rest, strict=True):
            assert_same_bits(a, b)
    (again,) = run(shots, folder, stages=STAGES)  # after the end, the last state
    assert_same_bits(again, whole[-1])


def test_every_so_many_iterations_and_the_last_two_stay(shots, tmp_path):
    run(shots, tmp_path, iterations=5, every=2)
    assert names(tmp_path) == ["iteration_000004.npz", "iteration_000005.npz"]
    with np.load(tmp_path / "iteration_000005.npz") as archive:
        assert archive["unknowns.vp"].shape == (16,)


CHILD = """
    import sys, time
    sys.path.insert(0, {tests!r})
    import jax
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_compilation_cache_dir", {cache!r})
    import optax, jaxfwi as jf
    from small_inversion import GRID, SIMULATOR, START, TRUE
    survey = jf.Survey.from_arrays([[10.0], [50.0], [80.0], [110.0], [150.0]], [[0.0], [40.0]], jf.ricker(GRID, 12.0))
    observed = jf.simulate(SIMULATOR, TRUE, survey)
    states = jf.invert(
        jf.Problem(SIMULATOR, survey, observed), START, optimizer=optax.adam(2.0), iterations=60,
        encoding=jf.Encoding(), shots_per_iteration=3, save=jf.SaveTo(sys.argv[1]))
    for state in states:
        print(state.iteration, flush=True)
    with open(sys.argv[1] + ".bytes", "wb") as file:
        file.write(state.model.vp.tobytes() + state.optimizer_state[0].nu.vp.tobytes())
"""


def killed_at_random(folder, times, script, seed):
    """Runs the script, and kills it at random moments after its first iteration, until it has been so many times; then
    to its end. Returns how often it was killed while it worked."""
    pick, kills = random.Random(seed), 0
    while True:
        command = [sys.executable, "-c", script, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            if process.stdout.readline() and kills < times:
                time.sleep(pick.uniform(0.0, 0.05))
                process.send_signal(signal.SIGKILL)
            process.stdout.read()
        code = process.returncode
        if code == 0:
            return kills
        assert code == -signal.SIGKILL
        kills += 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9 here")
@pytest.mark.parametrize("times", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_bit_for_bit_as_if_never_killed(tmp_path, times):
    script = textwrap.dedent(CHILD).format(tests=str(Path(__file__).parent), cache=str(tmp_path / "cache"))
    assert killed_at_random(tmp_path / "whole", 0, script, seed=0) == 0
    assert killed_at_random(tmp_path / "cut", times, script, seed=times) == times
    assert (tmp_path / "whole.bytes").read_bytes() == (tmp_path / "cut.bytes").read_bytes()


def left_half_way(shots, folder):
    options = {"optimizer": ADAM, "iterations": 4, "shots_per_iteration": 2}
    states = invert_with(SIMULATOR, START, *shots, save=jf.SaveTo(folder, config={"rate": 5.0}), **options)
    return stopping_after(states, 2)


def test_a_checkpoint_of_another_inversion_is_refused_and_what_differs_named(shots, tmp_path):
    survey, observed = shots
    left_half_way(shots, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    shifted = jf.Acoustic(vp=START.vp + 1.0)

    def other_misfit(predicted, observed):
        return 2.0 * jf.misfits.l2(predicted, observed)

    other_grid = jf.Simulator(jf.Grid((16,), 10.0, 2.4e-3, 120), absorber=jf.CPML(width=3))
    for options, message in (
        ({"config": {"rate": 6.0}}, r"rate was 5\.0, now 6\.0\. Restore these settings .*or choose another folder"),
        ({"config": {}}, r"rate was 5\.0, now None"),
        ({"stages": [jf.Stage(4), jf.Stage(1)]}, r"stage 1 iterations was None, now 4"),
        ({"optimizer": optax.sgd(1e5)}, r"optimizer_state\S+ is there, and nothing of that name here.* optimizers it"),
        ({"seed": 1}, r"seed was 0, now 1"),
        ({"shots_per_iteration": 3}, r"stage 1 shots_per_iteration was '2', now '3'"),
        ({"misfit": other_misfit}, r"stage 1 misfit was .*l2.*, now .*other_misfit"),
        ({"encoding": jf.Encoding()}, r"stage 1 encoding was 'None', now .*Encoding\(polarity=True"),
        ({"simulator": other_grid}, r"grid\.dt was '0\.0025', now '0\.0024'"),
        ({"start": shifted}, r"start was '\w+', now '\w+'"),
        ({"mask": jf.Acoustic(vp=np.ones(16))}, r"mask was"),
        ({"shots": (survey, observed + 1.0)}, r"observed was"),
        ({"optimizer": optax.rprop(5.0)}, r"optimizer_state\S+ has nothing there, \(16,\) here.* optimizers it had"),
    ):
        given = {"config": {"rate": 5.0}, **options}
        with pytest.raises(ValueError, match=message):
            run(given.pop("shots", shots), tmp_path, **given)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def damage(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:  # one bit in the midst of an array
        where = content.index(b"unknowns.vp") + 200
        path.write_bytes(content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :])


@pytest.mark.parametrize("how", ["cut", "empty", "bit"])
def test_an_unreadable_checkpoint_is_passed_over_for_the_one_before(shots, tmp_path, how):
    left_half_way(shots, tmp_path)
    damage(tmp_path / "iteration_000002.npz", how)
    with pytest.warns(UserWarning, match=r"iteration_000002\.npz cannot be read and is passed over"):
        rest = run(shots, tmp_path, config={"rate": 5.0})
    assert [s.iteration for s in rest] == [1, 2, 3, 4]
    assert_same_bits(rest[-1], run(shots, tmp_path / "whole")[-1])


def test_unreadable_checkpoints_alone_do_not_start_a_night_anew(shots, tmp_path):
    left_half_way(shots, tmp_path)
    for path in list(tmp_path.iterdir()):
        damage(path, "cut")
    with (
        pytest.warns(UserWarning, match="cannot be read"),
        pytest.raises(ValueError, match=r"none of the saved states in .* can be read: remove them to start anew"),
    ):
        run(shots, tmp_path)


def test_a_full_disk_leaves_the_one_before_and_the_inversion_goes_on(shots, tmp_path, monkeypatch):
    states = jf.invert(
        jf.Problem(SIMULATOR, *shots),
        START,
        optimizer=ADAM,
        iterations=4,
        shots_per_iteration=2,
        save=jf.SaveTo(tmp_path),
    )
    stopping_after(states, 2)
    kept = names(tmp_path)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.warns(UserWarning, match=r"iteration 3 could not .*No space left.* last one .*iteration_000002"):
            assert next(states).iteration == 3
    assert names(tmp_path) == kept
    assert next(states).iteration == 4
    assert names(tmp_path) == ["iteration_000002.npz", "iteration_000004.npz"]


def test_what_a_kill_in_the_midst_of_writing_leaves_is_removed(shots, tmp_path):
    left_half_way(shots, tmp_path)
    (tmp_path / ".iteration_000003.npz.4711").write_bytes(b"half of it")
    run(shots, tmp_path, config={"rate": 5.0})
    assert names(tmp_path) == ["iteration_000003.npz", "iteration_000004.npz"]


def test_the_last_good_state_is_saved_when_an_inversion_fails(shots, tmp_path):
    def spiral(count):
        """Good updates, then one that makes the misfit grow a hundredfold."""
        return jf.Acoustic(vp=jnp.where(count < 3, 1.0, 300.0) * jnp.cos(jnp.arange(16.0)))

    optimizer = optax.GradientTransformation(
        lambda params: jnp.zeros((), jnp.int32), lambda updates, count, params=None: (spiral(count), count + 1)
    )
    with pytest.raises(FloatingPointError, match=r"iteration 5: the misfit has grown to .* times .*first iteration"):
        run(shots, tmp_path, iterations=9, every=100, optimizer=optimizer, shots_per_iteration=5)
    # the fifth misfit is that of the fourth state
    assert names(tmp_path) == ["iteration_000003.npz"]


def test_what_an_inversion_fails_on_leaves_the_state_before(shots, tmp_path):
    """Also at a later stage's begin, where the state is still of the stage before."""

    class Interrupt:
        def __call__(self, predicted, observed):
            if not self.traced:
                self.traced = True  # at the door
                return jf.misfits.l2(predicted, observed)
            raise KeyboardInterrupt

        traced = False

    def stages(misfit):
        return [jf.Stage(3, optax.sgd(1e5, momentum=0.9)), jf.Stage(2, ADAM, misfit=misfit)]

    with pytest.raises(KeyboardInterrupt):
        run(shots, tmp_path, every=2, stages=stages(Interrupt()))
    assert names(tmp_path) == ["iteration_000002.npz", "iteration_000003.npz"]
    with np.load(tmp_path / "iteration_000003.npz") as archive:
        assert "optimizer_state[0].trace.vp" in archive.files  # of the stage that it is of
    with pytest.raises(ValueError, match=r"stage 2 misfit was"):
        run(shots, tmp_path, every=2, stages=stages(jf.misfits.l2))


def test_an_inversion_that_is_left_is_saved(shots, tmp_path):
    options = {"optimizer": ADAM, "iterations": 4, "shots_per_iteration": 2}
    for state in invert_with(SIMULATOR, START, *shots, save=jf.SaveTo(tmp_path, every=100), **options):
        if state.iteration == 3:
            break
    assert names(tmp_path) == ["iteration_000003.npz"]
    assert [s.iteration for s in run(shots, tmp_path)] == [3, 4]


def test_an_ended_inversion_can_be_made_longer(shots, tmp_path):
    run(shots, tmp_path)
    longer = run(shots, tmp_path, iterations=6)
    assert [s.iteration for s in longer] == [4, 5, 6]
    assert_same_bits(longer[-1], run(shots, tmp_path / "whole", iterations=6)[-1])
    with pytest.raises(ValueError, match=r"the saved state is of iteration 6, and 5 are asked for"):
        run(shots, tmp_path, iterations=5)


@pytest.mark.slow
def test_random_keys_of_an_optimizer_are_saved(shots, tmp_path):
    noisy = optax.chain(optax.adam(5.0), optax.add_noise(0.1, 0.5, key=jax.random.key(3)))
    whole = run(shots, tmp_path / "whole", optimizer=noisy)
    save = jf.SaveTo(tmp_path / "cut")
    options = {"iterations": 4, "shots_per_iteration": 2, "optimizer": noisy, "save": save}
    stopping_after(invert_with(SIMULATOR, START, *shots, **options), 2)
    np.testing.assert_array_equal(run(shots, tmp_path / "cut", optimizer=noisy)[-1].model.vp, whole[-1].model.vp)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"every": 0}, r"every must be .* 0\b"), ({"config": {"a": object()}}, r"config must hold what JSON has")],
)
def test_arguments_that_cannot_be(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        jf.SaveTo(tmp_path / "there", **arguments)
    assert not (tmp_path / "there").exists()


def test_resume_and_checkpoints_are_not_both_given(shots, tmp_path):
    (state,) = left_half_way(shots, tmp_path)[:1]
    with pytest.raises(ValueError, match=r"resume and save both say where to go on from"):
        run(shots, tmp_path, resume=state)


@pytest.mark.slow
def test_a_network_is_saved_by_its_numbers(shots, tmp_path):
    """What is inverted for may hold functions, as a network's activations."""
    import equinox as eqx

    network = eqx.nn.MLP(1, "scalar", 4, 1, key=jax.random.key(0))
    points = jnp.linspace(-1.0, 1.0, 16)[:, None]

    def to_model(net):
        return jf.Acoustic(vp=2000.0 + 50.0 * jax.vmap(net)(points))

    options = {"start": network, "to_model": to_model, "optimizer": optax.adam(1e-2)}
    whole = run(shots, tmp_path / "whole", **options)
    checkpoints = jf.SaveTo(tmp_path / "cut")
    states = jf.invert(
        jf.Problem(SIMULATOR, *shots),
        network,
        iterations=4,
        shots_per_iteration=2,
        to_model=to_model,
        optimizer=options["optimizer"],
        save=checkpoints,
    )
    stopping_after(states, 2)
    rest = run(shots, tmp_path / "cut", **options)
    assert callable(rest[-1].unknowns)
    assert_same_bits(rest[-1].model, whole[-1].model)
    assert rest[-1].misfit < whole[0].misfit
