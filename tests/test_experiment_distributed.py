"""The distributed experiment end to end, at a size that takes seconds, with two processes for real."""

import json

import numpy as np
import pytest
from running import check_figures, metrics, module, run


@pytest.mark.slow
def test_devices_and_processes_agree_and_leave_what_is_promised(tmp_path):
    out = tmp_path / "out"
    names = ("1_device", "4_devices", "2_processes")
    printed, _ = run("distributed", "--preset", "tiny", "--out", out, "--configurations", *names)
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
    assert len(metrics(out)) == 3 * len(names)
    check_figures(out, printed, "result", "data", "gradients", "misfits")


def test_a_failure_in_a_process_is_reported(tmp_path, monkeypatch):
    experiment = module("distributed")
    # the command line sets one for its process, which here is that of all tests
    monkeypatch.setattr(experiment.kit.drive, "use_compilation_cache", lambda folder: None)
    options = {"preset": "tiny", "stage": "make", "configurations": ("1_device",)}
    experiment.main(experiment.Options(out=tmp_path, **options))
    with pytest.raises(experiment.kit.UserError, match=r"1_device failed \(exit 2\).*run --stage model first"):
        experiment.main(experiment.Options(out=tmp_path, stage="invert"))  # without data
