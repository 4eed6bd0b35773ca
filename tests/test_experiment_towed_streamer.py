"""The towed streamer end to end, at a size that takes seconds, as a user would run it."""

import json

import numpy as np
from PIL import Image
from running import check_figures, metrics, run


def test_inverts_towed_data_and_leaves_what_it_promises(tmp_path):
    out = tmp_path / "out"
    printed, _ = run("towed_streamer", "--preset", "tiny", "--out", out)
    summary = json.loads((out / "summary.json").read_text())
    lit, rock = "in illuminated cells", "in all rock"
    # measured 7.9 % to 7.5 % in 2 x 3 iterations; a wrong sign of the gradient makes it rise
    assert summary[f"model error {lit} at the end, %"] < 0.98 * summary[f"model error {lit} at the start, %"]
    assert summary[f"model error {rock} at the end, %"] < summary[f"model error {rock} at the start, %"]
    assert 20 < summary["illuminated cells, % of the rock"] < 100
    # the cutouts' waves are the whole model's but for what comes back from more than 300 m beyond: measured 0.02 %
    assert 0 < summary["difference of the data by the aperture, %"] < 0.2
    assert len(metrics(out)) == 6

    true, final = np.load(out / "true_vp.npy"), np.load(out / "final_vp.npy")
    assert final.shape == true.shape == (40, 80)
    np.testing.assert_array_equal(final[true == 1500.0], 1500.0)
    real, observed = np.load(out / "receiver_mask.npy"), np.load(out / "observed_1.npy")
    assert observed.shape[:1] + observed.shape[2:3] == real.shape
    assert real[-1].all()
    assert real[0].sum() == 6  # a quarter of 20 receivers, and the one above the model's edge
    assert observed[0][:, real[0]].any()
    assert not observed[0][:, ~real[0]].any()

    check_figures(out, printed, "acquisition", "gathers", "result", "data", "convergence")
    with Image.open(out / "figures" / "acquisition.gif") as animation:
        assert getattr(animation, "n_frames", 1) == len(real)  # a frame a shot, of 40 at most
