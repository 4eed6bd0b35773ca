"""The inversion with multiples end to end, at a size that takes seconds, on a model of the user."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "inversion_with_multiples" / "run.py"
RUNS = ("absorbing", "modelled", "ignored")


def run(*arguments):
    """The script in a process of its own: it configures jax."""
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_inverts_three_times_and_leaves_what_it_promises(tmp_path):
    vp = np.full((24, 60), 1500.0)
    vp[5:] = 1800.0
    vp[10:] = 2200.0
    np.save(tmp_path / "vp.npy", vp)
    out = tmp_path / "out"
    done = run("--preset", "tiny", "--vp", tmp_path / "vp.npy", "--spacing", 50, "--out", out)
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    # a difference that the free surface makes, and that an inversion which ignores it cannot explain
    left = {label: summary[label]["data misfit, end / start"] for label in RUNS}
    assert max(left["absorbing"], left["modelled"]) < 0.8 < left["ignored"]
    multiples = {label: summary[label]["multiples in the middle shot, % of the rest (L2)"] for label in RUNS}
    assert multiples["absorbing"] == 0.0 < multiples["modelled"] == multiples["ignored"]
    for label in RUNS:
        final = np.load(out / f"final_vp_{label}.npy")
        assert final.shape == vp.shape
        np.testing.assert_array_equal(final[:5], np.load(out / "true_vp.npy")[:5])  # the water is known
        iterations = json.loads((out / "config.json").read_text())["iterations"]
        assert len((out / f"metrics_{label}.jsonl").read_text().splitlines()) == sum(iterations)
    np.testing.assert_array_equal(np.load(out / "final_vp.npy"), np.load(out / "final_vp_modelled.npy"))
    for name in ("models", "convergence", "data", "residuals"):
        assert str(out / "figures" / f"{name}.png") in done.stdout
        assert (out / "figures" / f"{name}.png").stat().st_size > 5_000  # an empty one is smaller


def test_a_stage_that_is_missing_is_named_in_one_sentence(tmp_path):
    done = run("--stage", "invert", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "run --stage make first" in done.stderr
    assert "Traceback" not in done.stderr
