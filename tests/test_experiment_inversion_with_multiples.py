"""The inversion with multiples end to end, at a size that takes seconds, on a model of the user."""

import json

import numpy as np
import pytest
from running import check_figures, metrics, run

RUNS = ("absorbing", "modelled", "ignored")


@pytest.mark.slow
def test_inverts_three_times_and_leaves_what_it_promises(tmp_path):
    vp = np.full((24, 60), 1500.0)
    vp[5:] = 1800.0
    vp[10:] = 2200.0
    np.save(tmp_path / "vp.npy", vp)
    out = tmp_path / "out"
    options = "--preset", "tiny", "--vp", tmp_path / "vp.npy", "--spacing", 50
    printed, _ = run("inversion_with_multiples", *options, "--out", out)
    summary = json.loads((out / "summary.json").read_text())
    # a difference that the free surface makes, and that an inversion which ignores it cannot explain
    left = {label: summary[label]["data misfit, end / start"] for label in RUNS}
    assert max(left["absorbing"], left["modelled"]) < 0.8 < left["ignored"]
    multiples = {label: summary[label]["multiples in the middle shot, % of the rest (L2)"] for label in RUNS}
    assert multiples["absorbing"] == 0.0 < multiples["modelled"] == multiples["ignored"]
    for label in RUNS:
        final = np.load(out / f"final_vp_{label}.npy")
        assert final.shape == vp.shape
        np.testing.assert_array_equal(final[:5], np.load(out / "true_vp.npy")[:5])  # the water is held fixed
        iterations = json.loads((out / "config.json").read_text())["iterations"]
        assert len(metrics(out, f"metrics_{label}.jsonl")) == sum(iterations)
    np.testing.assert_array_equal(np.load(out / "final_vp.npy"), np.load(out / "final_vp_modelled.npy"))
    check_figures(out, printed, "models", "convergence", "data", "residuals")
