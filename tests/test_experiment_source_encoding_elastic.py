"""Source-encoded elastic inversion end to end, at a size that takes seconds, as a user would run it."""

import json

import numpy as np
import pytest
from running import check_figures, metrics, run

SEA = 7  # rows


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
    printed, said = run("source_encoding_elastic", "--preset", "tiny", *own, "--out", tmp_path / "out")
    assert "Warning" not in said  # as of dispersion, or of a model that has not changed
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text())
    for name in ("vp", "vs"):
        true, start, final = (np.load(out / f"{when}_{name}.npy") for when in ("true", "start", "final"))
        np.testing.assert_array_equal(true, np.load(model_files / f"{name}.npy"))
        np.testing.assert_array_equal(final[:SEA], true[:SEA])
        assert np.abs(final - start)[SEA:].mean() > 5.0  # m/s; Adam's steps are 20 and 12, three of them
        assert summary[f"{name}: error at the end, %"] < summary[f"{name}: error at the start, %"]
    assert summary["data misfit, end / start"] < 0.9
    assert len(metrics(out)) == 3
    assert json.loads((out / "config.json").read_text())["spacing"] == 70
    check_figures(out, printed, "result_vp", "result_vs", "data_vx", "data_vz", "convergence")
