"""The distributed experiment end to end, at a size that takes seconds, with two processes for real."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "distributed" / "run.py"


def run(*arguments):
    """The script in a process of its own: it configures jax."""
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_devices_and_processes_agree_and_leave_what_is_promised(tmp_path):
    out = tmp_path / "out"
    names = ("1_device", "4_devices", "2_processes")
    done = run("--preset", "tiny", "--out", out, "--configurations", *names)
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["differences"]) == set(names)
    # the same sums in another order, float32; all shots of one device on the other would be far off
    assert summary["equal to 1e-06"]
    for name in names[1:]:
        assert all(value < 1e-5 for value in summary["differences"][name].values())
    costs = summary["costs"]
    # 5 shots an iteration, one at once on each device
    assert [costs[name]["invert"]["accumulation_steps"] for name in names] == [5, 2, 3]
    assert [costs[name]["model"]["processes"] for name in names] == [1, 1, 2]
    assert all(costs[name]["invert"]["peak_bytes"] > 0 for name in names)

    observed = np.load(out / "observed_2_processes.npy", mmap_mode="r")
    assert observed.shape[0] == 7
    assert observed.shape[2:] == (20, 1)
    assert (np.abs(observed).max(axis=(1, 2, 3)) > 0).all()  # every shot was written
    assert not list(out.glob("unfinished*"))
    assert summary["model error at the end, %"] < summary["model error at the start, %"]
    np.testing.assert_array_equal(np.load(out / "final_vp.npy"), np.load(out / "final_vp_1_device.npy"))
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3 * len(names)
    for name in ("result", "data", "gradients", "misfits"):
        assert str(out / "figures" / f"{name}.png") in done.stdout
        assert (out / "figures" / f"{name}.png").stat().st_size > 5_000  # an empty one is smaller


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--stage", "invert"], "run --stage make first"),
        (["--stage", "compare", "--iterations", "2"], "leave out --iterations"),
        (["--vp", "nowhere.npy", "--spacing", "20"], "there is no file nowhere.npy"),
    ],
)
def test_a_mistake_is_met_with_one_sentence(arguments, sentence, tmp_path):
    done = run(*arguments, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failure_in_a_process_is_told(tmp_path):
    out = tmp_path / "out"
    assert run("--preset", "tiny", "--stage", "make", "--out", out, "--configurations", "1_device").returncode == 0
    done = run("--stage", "invert", "--out", out)  # without data
    assert done.returncode == 2
    assert "1_device failed (exit 2)" in done.stderr
    assert "run --stage model first" in done.stderr
    assert "Traceback" not in done.stderr
