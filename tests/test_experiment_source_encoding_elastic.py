"""Source-encoded elastic inversion end to end, at a size that takes seconds, as a user would run it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "source_encoding_elastic" / "run.py"
SEA = 7  # rows


def run(*arguments):
    """The script in a process of its own: it configures jax."""
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def model_files(tmp_path_factory):
    """A sea over two layers, 28 x 48 cells: vp, and a vs of another ratio in each."""
    folder = tmp_path_factory.mktemp("model")
    vp, vs = np.full((28, 48), 1500.0), np.zeros((28, 48))
    vp[SEA:], vs[SEA:] = 2000.0, 1000.0
    vp[16:], vs[16:] = 2600.0, 1500.0
    np.save(folder / "vp.npy", vp)
    np.save(folder / "vs.npy", vs)
    return folder


@pytest.mark.slow
def test_inverts_models_of_the_user_for_both_velocities(model_files, tmp_path):
    own = ["--vp", model_files / "vp.npy", "--vs", model_files / "vs.npy", "--spacing", 70]
    done = run("--preset", "tiny", *own, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr  # as of dispersion, or of a model that has not changed
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text())
    for name in ("vp", "vs"):
        true, start, final = (np.load(out / f"{when}_{name}.npy") for when in ("true", "start", "final"))
        np.testing.assert_array_equal(true, np.load(model_files / f"{name}.npy"))
        np.testing.assert_array_equal(final[:SEA], true[:SEA])
        assert np.abs(final - start)[SEA:].mean() > 5.0  # m/s; Adam's steps are 20 and 12, three of them
        assert summary[f"{name}: error at the end, %"] < summary[f"{name}: error at the start, %"]
    assert summary["data misfit, end / start"] < 0.9
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3
    assert json.loads((out / "config.json").read_text())["spacing"] == 70
    for name in ("result_vp", "result_vs", "data_vx", "data_vz", "convergence"):
        assert str(out / "figures" / f"{name}.png") in done.stdout
        assert (out / "figures" / f"{name}.png").stat().st_size > 5_000  # an empty one is smaller


def test_its_preset_of_half_resolution_can_be_asked_for(model_files, tmp_path):
    """The other experiments of encoded inversion have none."""
    own = ["--vp", model_files / "vp.npy", "--spacing", 70]
    done = run("--preset", "half", "--stage", "make", *own, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["scales"] == [2.0, 3.0, 4.0, 0.0]


def test_a_vs_that_is_zero_in_rock_is_met_with_one_sentence(model_files, tmp_path):
    vs = np.load(model_files / "vs.npy")
    vs[-1, :3] = 0.0
    np.save(tmp_path / "vs.npy", vs)
    done = run("--vp", model_files / "vp.npy", "--vs", tmp_path / "vs.npy", "--spacing", 70, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "--vs: the S-wave velocity is 0 in 3 cells below the sea" in done.stderr
    assert "Traceback" not in done.stderr
