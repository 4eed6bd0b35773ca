"""Encoded acoustic inversion end to end, at a size that takes seconds: what it leaves, and that it goes on."""

import json
import shutil

import numpy as np
import pytest
from running import check_figures, metrics, run


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """Water over two layers, 24 x 50 cells."""
    vp = np.full((24, 50), 1500.0)
    vp[6:] = 1800.0
    vp[14:] = 2300.0
    path = tmp_path_factory.mktemp("model") / "vp.npy"
    np.save(path, vp)
    return path


def test_inverts_leaves_what_it_promises_and_goes_on_where_it_was_left(model_file, tmp_path):
    out, options = tmp_path / "out", ("--preset", "tiny", "--vp", model_file, "--spacing", 60)
    printed, _ = run("source_encoding_acoustic", *options, "--out", out)
    summary = json.loads((out / "summary.json").read_text())
    # measured 3.97 % to 3.6 % in 2 x 2 iterations; a wrong sign of the gradient makes it rise
    assert summary["vp: error at the end, %"] < 0.97 * summary["vp: error at the start, %"]
    assert summary["simulations with a gradient"] == 4
    final = np.load(out / "final_vp.npy")
    assert final.shape == (24, 50)
    np.testing.assert_array_equal(final[:6], np.load(out / "true_vp.npy")[:6])  # water
    lines = metrics(out)
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
    check_figures(out, printed, "result_vp", "data", "convergence")
    # as it was after three iterations: the same command goes on, and ends as it did
    shutil.copytree(out, left := tmp_path / "left")
    for path in ("saved/iteration_000004.npz", "summary.json", "final_vp.npy"):
        (left / path).unlink()
    run("source_encoding_acoustic", *options, "--out", left)
    np.testing.assert_array_equal(np.load(left / "final_vp.npy"), final)
    assert [{**line, "seconds": 0} for line in metrics(left)] == [{**line, "seconds": 0} for line in lines]
