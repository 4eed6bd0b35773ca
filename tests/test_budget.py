"""Memory: known before it is taken, and as much as is taken; the batch that fits."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from compiling import compilations
from helpers import problem_with
from many_shots import LINE, check_same, expected, misfit, spread

import jaxfwi as jf
from jaxfwi.shots import budget, per_shot, plan, programs
from jaxfwi.shots.problem import admitted, plan_of


def test_a_program_is_asked_for_its_memory_once():
    survey, before = spread(LINE[0], 3), budget._account.cache_info()
    for _ in range(3):
        jf.simulate(*LINE[:2], survey)
    after = budget._account.cache_info()
    assert after.misses <= before.misses + 1
    assert after.hits >= before.hits + 2


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
    problem = admitted(jf.Problem(simulator, survey, observed, on=jf.On(devices=1)), start)
    planned = plan_of(problem, jf.Acoustic, start)
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


def test_an_estimate_needs_values():
    with pytest.raises(ValueError, match=r"memory looks at its arguments"):
        jax.jit(lambda model: jf.Problem(LINE[0], spread(LINE[0], 2)).memory(model, gradient=False).total)(LINE[1])
