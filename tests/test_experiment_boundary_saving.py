"""The experiment from end to end, small; and what it says when a stage comes too early or a model is no model."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from running import module


@pytest.fixture(scope="module")
def experiment():
    return module("boundary_saving")


@pytest.fixture(autouse=True)
def no_compilation_cache(experiment, monkeypatch):
    """The command line sets one for its process, which here is that of all tests."""
    monkeypatch.setattr(experiment.kit.drive, "use_compilation_cache", lambda folder: None)


@pytest.fixture
def tiny(experiment):
    """One source, one kind of top, the strategies that say most."""
    chosen = ("full_storage", "boundary_saving", "boundary_saving_bfloat16", "boundary_saving_int8")
    return experiment.Case(
        (24, 40), 10.0, dt=2e-3, steps=300, frequency=8.0, shots=1, absorber_width=8, start_smoothing=30.0, repeats=1,
        strategies=chosen, surfaces=("free_surface",),
    )  # fmt: skip


@pytest.fixture
def run(experiment, tiny, monkeypatch, tmp_path):
    """The stages of a case, in place of the default preset's, and the folder of results."""

    def run(case=tiny, stage="all"):
        monkeypatch.setitem(experiment.PRESETS, "quick", case)
        experiment.main(experiment.Options(out=tmp_path / "out", stage=stage))
        return experiment.kit.Results(tmp_path / "out")

    return run


@pytest.mark.slow
def test_runs_end_to_end_and_the_numbers_stand_up(run, tiny, capsys):
    results = run()
    summary = json.loads(results.path("summary.json").read_text())
    found = summary["strategies"]["free_surface"]
    assert list(found) == list(tiny.strategies)
    assert found["full_storage"]["difference"]["vp"] == 0.0
    assert found["boundary_saving"]["difference"]["vp"] < 1e-5  # rounding, grown over 300 steps there and back
    # 8 and 7 significant bits: bfloat16 has one for each value, int8 shares a scale among a block
    assert (
        1e-6
        < found["boundary_saving_bfloat16"]["difference"]["vp"]
        < found["boundary_saving_int8"]["difference"]["vp"]
        < 1e-2
    )
    assert summary["float64"]["free_surface"]["boundary_saving"]["vp"] < 1e-13
    assert 1e-9 < summary["float64"]["free_surface"]["float32_plain"]["vp"] < 1e-3
    for row in found.values():
        assert row["seconds"] > 0
        assert row["measured_bytes"] > 0
        assert row["compiled_bytes"] > 0
    # a padded field of 34 x 60 cells in float32 at each step; the kernel's pages and threads blur some 0.1 MB
    assert found["full_storage"]["measured_bytes"] > 0.8 * found["full_storage"]["compiled_bytes"] > 300 * 34 * 60 * 4
    assert found["boundary_saving"]["measured_bytes"] < 0.4 * found["full_storage"]["measured_bytes"]

    gradient = np.load(results.path("gradient_free_surface_boundary_saving.npy"))
    assert gradient.shape == tiny.shape
    assert gradient.dtype == np.float32
    assert {path.name for path in results.path("figures").iterdir()} == {"models.png", "gathers.png", "gradients.png"}
    assert len(results.metrics()) == len(tiny.strategies)
    assert not [path for path in results.folder.rglob(".*")]  # nothing half written
    assert results.path("table.md").read_text() in capsys.readouterr().out


@pytest.mark.slow
def test_the_elastic_case_has_a_gradient_for_each_parameter(experiment, run, tiny):
    force = {**experiment.FORCE, "repeats": 1, "receiver_every": 1, "steps": 150}
    results = run(dataclasses.replace(tiny, **force, strategies=("full_storage", "boundary_saving")))

    summary = json.loads(results.path("summary.json").read_text())
    found = summary["strategies"]["free_surface"]
    assert found["full_storage"]["compiled_bytes"] > 2 * found["boundary_saving"]["compiled_bytes"]
    assert list(found["boundary_saving"]["difference"]) == ["vp", "vs", "rho"]
    assert max(found["boundary_saving"]["difference"].values()) < 1e-4
    assert max(summary["float64"]["free_surface"]["boundary_saving"].values()) < 1e-12
    for parameter in ("vp", "vs", "rho"):
        gradient = np.load(results.path(f"gradient_free_surface_boundary_saving_{parameter}.npy"))
        assert gradient.shape == tiny.shape
        assert results.path(f"figures/gradients_{parameter}.png").exists()


@pytest.mark.parametrize("stage", ["model", "gradients", "compare"])
def test_a_stage_in_an_empty_folder_says_which_comes_first(experiment, run, stage):
    with pytest.raises(experiment.kit.UserError, match=r"config\.json is missing: run --stage make first"):
        run(stage=stage)


def test_gradients_without_data_and_comparison_without_gradients(experiment, run):
    run(stage="make")
    with pytest.raises(experiment.kit.UserError, match=r"data_free_surface\.npy is missing: run --stage model"):
        run(stage="gradients")
    with pytest.raises(experiment.kit.UserError, match=r"gradient_.* is missing: run --stage gradients first"):
        run(stage="compare")


def test_a_case_survives_the_folder(experiment, run, tiny):
    case = experiment.kit.read_config(run(stage="make"), experiment.Case)
    assert case.slowest < 1500.0 < 2000.0 < case.fastest
    assert dataclasses.replace(case, slowest=0.0, fastest=0.0) == tiny


def test_a_model_of_the_users_sets_the_time_axis(experiment, tmp_path):
    np.save(tmp_path / "vp.npy", np.full((30, 50), 4000.0))
    experiment.main(experiment.Options(out=tmp_path / "out", vp=tmp_path / "vp.npy", spacing=5.0, stage="make"))
    case = experiment.kit.read_config(experiment.kit.Results(tmp_path / "out"), experiment.Case)
    assert case.shape == (30, 50)
    assert case.dt < case.grid.stable_dt(4000.0, case.space_order)
    assert case.steps * case.dt > 1.5 * 50 * 5.0 / 4000.0
    assert (np.load(tmp_path / "out" / "start_vp.npy") == 4000.0).all()


@pytest.mark.parametrize(
    ("model", "changes", "sentence"),
    [
        (None, {}, "there is no file"),
        (np.ones(5), {}, "has shape .* of 2 axes"),
        (np.full((9, 9), np.nan), {}, "81 cells that are NaN"),
        (np.zeros((9, 9)), {}, "positive everywhere"),
        (np.array([["a"]]), {}, "not a .npy file of real numbers"),
        (np.full((30, 50), 2000.0), {"spacing": None}, "needs --spacing"),
        (np.full((30, 50), 2000.0), {"vp": None}, "give --vp FILE"),
        (np.full((30, 50), 2000.0), {"stage": "model"}, "leave out --vp"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(experiment, tmp_path, model, changes, sentence):
    if model is not None:
        np.save(tmp_path / "vp.npy", model)
    options = experiment.Options(out=tmp_path / "out", vp=tmp_path / "vp.npy", spacing=10.0)
    with pytest.raises(experiment.kit.UserError, match=sentence):
        experiment.main(dataclasses.replace(options, **changes))


def test_an_error_of_the_users_ends_the_program_without_a_traceback(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--stage", "compare", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        experiment.kit.main(experiment.main, experiment.Options)
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ")
    assert "\n" not in said
