"""Implicit inversion end to end, at a size that takes seconds: what it leaves, and that it goes on when killed."""

import importlib
import json
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import check_figures, metrics, run, script

LOG = "metrics_network.jsonl"


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Water over two layers and a lens, 24 x 50 cells."""
    vp = np.full((24, 50), 1500.0)
    vp[6:] = 1800.0
    vp[14:] = 2300.0
    vp[9:12, 20:32] = 2000.0
    path = tmp_path_factory.mktemp("model") / "vp.npy"
    np.save(path, vp)
    return "--preset", "tiny", "--vp", path, "--spacing", 60, "--out"


def killed_in_the_network(options, out):
    """Kill the script, with no warning to it, once the network's first iteration is in its metrics."""
    command = [sys.executable, script("implicit_fwi"), *options, out]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 300
        while not metrics(out, LOG) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        assert process.poll() is None
        process.kill()


@pytest.mark.slow
def test_inverts_and_killed_in_the_midst_goes_on(options, tmp_path):
    out, left = tmp_path / "out", tmp_path / "left"
    check_results(out, run("implicit_fwi", *options, out)[0])
    shutil.copytree(out, left)  # with the grid's inversion, which is not made again
    for pattern in ("*_network*", "final_vp.npy", "summary.json"):
        for path in left.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    killed_in_the_network(options, left)
    assert not (left / "final_vp.npy").exists()
    assert 1 <= len(metrics(left, LOG)) < 6
    run("implicit_fwi", *options, left)
    for name in ("final_vp.npy", "final_vp_grid.npy", "final_vp_network.npy"):
        np.testing.assert_array_equal(np.load(left / name), np.load(out / name), err_msg=name)
    for line, expected in zip(metrics(left, LOG), metrics(out, LOG), strict=True):
        assert line["misfit"] == expected["misfit"]
        # the model of a saved network is computed by another program, to rounding the same
        numbers = {name: value for name, value in expected.items() if name not in ("stage", "seconds")}
        assert {name: line[name] for name in numbers} == pytest.approx(numbers, rel=1e-5)


def check_results(out, printed):
    true, start, final = (np.load(out / f"{name}_vp.npy") for name in ("true", "start", "final"))
    np.testing.assert_array_equal(final, np.load(out / "final_vp_network.npy"))
    np.testing.assert_array_equal(final[:6], true[:6])  # water
    config = json.loads((out / "config.json").read_text())
    summary = json.loads((out / "summary.json").read_text())
    for form in ("grid", "network"):
        vp = np.load(out / f"final_vp_{form}.npy")
        assert vp.shape == (24, 50)
        assert not np.array_equal(vp, start)
        assert config["slowest"] <= vp.min()
        assert vp.max() <= config["fastest"]
        # measured in 6 iterations: 0.16 and 0.50; a wrong sign of the gradient makes it rise
        assert summary[form]["data misfit, end / start"] < 0.9
        assert summary[form]["simulations with a gradient"] == 6
    check_figures(out, printed, "result", "wavelengths", "convergence", "data_grid", "data_network")


def test_a_network_of_sines_begins_as_its_initialisation_promises(monkeypatch):
    """Arguments of a hidden layer of standard deviation 1 (Sitzmann et al. 2020, theorem 1.8), a small output."""
    monkeypatch.syspath_prepend(str(script("implicit_fwi").parent))
    siren = importlib.import_module("siren").Siren(2, 256, 3, 30.0, jax.random.key(0))
    x = jax.random.uniform(jax.random.key(1), (2000, 2), minval=-1.0)
    first = jnp.sin(30.0 * (x @ siren.weights[0] + siren.biases[0]))
    # uniform weights of variance 2/256/30² times 256 sines of variance 1/2
    assert float(jnp.std(30.0 * (first @ siren.weights[1]))) == pytest.approx(1.0, rel=0.05)
    assert siren(x).shape == (2000,)
    assert float(jnp.abs(siren(x)).max()) < 0.2
