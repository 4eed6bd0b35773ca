"""Implicit inversion end to end, at a size that takes seconds: what it leaves, and that it goes on when killed."""

import importlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "implicit_fwi" / "run.py"
FIGURES = ("result", "wavelengths", "convergence", "data_grid", "data_network")


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Of the script: water over two layers and a lens, 24 x 50 cells."""
    vp = np.full((24, 50), 1500.0)
    vp[6:] = 1800.0
    vp[14:] = 2300.0
    vp[9:12, 20:32] = 2000.0
    path = tmp_path_factory.mktemp("model") / "vp.npy"
    np.save(path, vp)
    return [sys.executable, str(SCRIPT), "--preset", "tiny", "--vp", str(path), "--spacing", "60", "--out"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def finished(command):
    """The script in a process of its own: it configures jax."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def killed_in_the_network(command, log):
    """Kill the script, with no warning to it, once the network's first iteration is told of."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 300
        while not lines(log) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        assert process.poll() is None
        process.kill()


@pytest.mark.slow
def test_inverts_and_killed_in_the_midst_goes_on(options, tmp_path):
    out, left = tmp_path / "out", tmp_path / "left"
    check_results(out, finished([*options, out]))
    shutil.copytree(out, left)  # with the grid's inversion, which is not made again
    for pattern in ("*_network*", "final_vp.npy", "summary.json"):
        for path in left.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    log = left / "metrics_network.jsonl"
    killed_in_the_network([*options, left], log)
    assert not (left / "final_vp.npy").exists()
    assert 1 <= len(lines(log)) < 6
    finished([*options, left])
    for name in ("final_vp.npy", "final_vp_grid.npy", "final_vp_network.npy"):
        np.testing.assert_array_equal(np.load(left / name), np.load(out / name), err_msg=name)
    for line, expected in zip(lines(log), lines(out / log.name), strict=True):
        assert line["misfit"] == expected["misfit"]
        # the model of a checkpoint's network is computed by another program, to rounding the same
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
    for name in FIGURES:
        assert str(out / "figures" / f"{name}.png") in printed
        assert (out / "figures" / f"{name}.png").stat().st_size > 5_000  # an empty one is smaller


def test_a_network_of_sines_begins_as_its_initialisation_promises(monkeypatch):
    """Arguments of a hidden layer of standard deviation 1 (Sitzmann et al. 2020, theorem 1.8), a small output."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    siren = importlib.import_module("siren").Siren(2, 256, 3, 30.0, jax.random.key(0))
    x = jax.random.uniform(jax.random.key(1), (2000, 2), minval=-1.0)
    first = jnp.sin(30.0 * (x @ siren.weights[0] + siren.biases[0]))
    # uniform weights of variance 2/256/30² times 256 sines of variance 1/2
    assert float(jnp.std(30.0 * (first @ siren.weights[1]))) == pytest.approx(1.0, rel=0.05)
    assert siren(x).shape == (2000,)
    assert float(jnp.abs(siren(x)).max()) < 0.2
