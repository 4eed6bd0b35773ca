"""The benchmark: what it compares, what it says, and that it goes on where it was left."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    """The scripts' modules; they stand beside one another as the experiments do."""
    before = sys.path[:]
    sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
    try:
        import cases
        import kernel
        import kit
        import report
        import run

        yield {"cases": cases, "kernel": kernel, "kit": kit, "report": report, "run": run}
    finally:
        sys.path[:] = before
        for name in ("bandwidth", "cases", "kernel", "report", "run", "side_jaxfwi"):
            sys.modules.pop(name, None)


def script(*arguments):
    return subprocess.run(
        [sys.executable, FOLDER / "run.py", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def test_every_case_can_be_admitted_at_every_order(modules):
    """Stable, and its shots and receivers on the grid."""
    import jaxfwi as jf

    cases = modules["cases"]
    every = [case for preset in cases.PRESETS.values() for case in preset]
    assert len({case.name for case in every}) == len(every)
    for case in every:
        arrays = case.arrays()
        assert arrays["vp"].shape == arrays["vs"].shape == arrays["rho"].shape == case.shape
        assert len(arrays["sources"]) == len(np.unique(arrays["sources"], axis=0)) == case.shots
        for cells in (arrays["sources"], arrays["receivers"]):
            assert (cells >= 4).all()
            assert (cells < np.array(case.shape) - 4).all()
        for order in (4, 8):
            grid = jf.Grid(case.shape, case.spacing, case.dt, case.nt)
            # Deepwave takes two steps in the place of one beyond this
            assert case.dt * float(arrays["vp"].max()) * len(case.shape) ** 0.5 / case.spacing <= 0.6
            assert case.dt < grid.stable_dt(float(arrays["vp"].max()), order, staggered=case.equation == "elastic")


@pytest.mark.parametrize("shape", [(30,), (9, 10), (5, 6, 7)])
def test_the_kernel_for_a_gpu_computes_a_step(modules, shape):
    """In Pallas' interpreter, with a last block that is not full, alone and for several shots of one coefficient."""
    kernel, rng = modules["kernel"], np.random.default_rng(0)
    u, before = (jnp.asarray(rng.standard_normal((2, *shape))) for _ in range(2))
    scale = jnp.asarray(rng.standard_normal(shape))

    def by_xla(u, before):
        inside = (slice(2, -2),) * len(shape)
        return kernel.in_a_margin(*(jnp.pad(x, 2) for x in (u, before, scale)))[inside]

    def by_kernel(u, before):
        return kernel.step(u, before, scale, block=32, warps=4, interpret=True)

    for way in (lambda f: f(u[0], before[0]), lambda f: jax.vmap(f)(u, before)):
        found, expected = way(by_kernel), way(by_xla)
        # the same sums of some ten terms in another order
        np.testing.assert_allclose(found, expected, atol=1e-13)


def test_agreement_finds_the_part_of_a_sample_and_tells_another_amplitude(modules, tmp_path):
    case, rng = modules["cases"].QUICK[0], np.random.default_rng(0)
    t = np.arange(200.0)

    def data(shift, factor=1.0):
        pulses = [factor * np.exp(-(((t - shift - 60 - 20 * i) / 8.0) ** 2)) for i in range(3)]
        return np.stack(pulses, axis=1)[None].astype(np.float32)

    gradient = rng.standard_normal(case.shape)
    np.save(tmp_path / "jaxfwi_forward.npy", data(0.0))
    np.save(tmp_path / "jaxfwi_vp.npy", gradient)
    np.save(tmp_path / "peer_vp.npy", 1.01 * gradient)
    np.save(tmp_path / "peer_forward.npy", data(0.5))
    run = modules["run"]
    run.NAMES["peer"] = "Peer"
    found = run.agreement(case, tmp_path, "peer")
    assert found["data_shift_samples"] == 0.5
    assert found["data_difference"] < 1e-5  # pulses in float32, moved by the exact shift
    assert found["gradient_difference_vp"] == pytest.approx(0.01)
    np.save(tmp_path / "peer_forward.npy", data(0.5, 1.1))
    assert run.agreement(case, tmp_path, "peer") == {"error": "its data differ from ours by 10.0 %"}
    np.save(tmp_path / "peer_forward.npy", np.full_like(data(0.0), np.nan))
    assert "error" in run.agreement(case, tmp_path, "peer")
    np.save(tmp_path / "peer_forward.npy", data(0.5))
    np.save(tmp_path / "jaxfwi_vp.npy", np.full_like(gradient, np.nan))
    assert np.isnan(run.agreement(case, tmp_path, "peer")["gradient_difference_vp"])
    gradient[14:-8, 8:-8] *= 1e-6  # no wave came back from within
    np.save(tmp_path / "jaxfwi_vp.npy", gradient)
    assert "gradient_difference_vp" not in run.agreement(case, tmp_path, "peer")


def test_runs_on_several_devices_do_not_stand_in_one_table(modules, tmp_path):
    results = modules["kit"].Results(tmp_path)
    for side, device in (("jaxfwi", "gpu"), ("deepwave", "cpu")):
        results.add_metrics(case="a case", order=4, side=side, settings={"device": device})
    with pytest.raises(modules["kit"].UserError, match=r"metrics.jsonl holds runs on several devices.* --out"):
        modules["report"].report(results)


def test_a_gpu_that_is_not_there_is_said_at_once(tmp_path):
    done = script("--device", "gpu", "--out", tmp_path)
    assert done.returncode == 2
    assert "error: --device gpu: jax finds none here" in done.stderr


def test_powers(modules):
    report = modules["report"]
    assert report.exponent([1, 10, 100], [3, 30, 300]) == pytest.approx(1.0)
    assert report.exponent([1, 10, 100], [5, 500, 50_000]) == pytest.approx(2.0)
    assert report.straight([1, 10, 100], [5, 23, 203]) == pytest.approx((3.0, 2.0, 0.0), abs=1e-9)
    assert report.straight([1, 2, 3], [1, 4, 1])[2] > 0.5
    memory = [[n, nt, 1000 + 7 * n * nt] for n in (10, 20) for nt in (100, 500, 1000)]
    assert report.bytes_of_step(memory) == {10: 70.0, 20: 140.0}


def test_the_report_puts_packages_side_by_side_and_says_what_failed(modules, tmp_path, capsys):
    results = modules["kit"].Results(tmp_path)
    figures = {
        "equation": "acoustic", "updates": 1e9, "bytes_of_update": 16, "bandwidth": 32e9, "date": "2026-01-01",
        "settings": {},
        "environment": {"device": "CPU", "cores": 2, "system": "Linux", "python": "3.13", "jax": "0.12"},
    }  # fmt: skip

    def add(side, seconds, memory, **more):
        of_kinds = {}
        for kind in ("forward", "gradient"):
            of_kinds |= {f"{kind}_first_seconds": 9.0, f"{kind}_seconds": seconds, f"{kind}_memory_bytes": memory}
        results.add_metrics(case="a case", order=4, side=side, version=side, **figures, **of_kinds, **more)

    add("jaxfwi", 2.0, 10e6)
    add("deepwave", 5.0, 200e6, data_difference=1e-5, gradient_difference_vp=2e-5)
    results.add_metrics(case="a case", order=4, side="sweep", error="it cannot", **figures)
    modules["report"].report(results)
    text = (tmp_path / "table.md").read_text()
    first = next(line for line in text.splitlines() if line.startswith("| a case"))
    assert [cell.strip() for cell in first.split("|")[1:-1]] == [
        "a case",
        "4",
        "2",
        "2",
        "10",
        "2.50 x",
        "2.50 x",
        "20.0 x",
    ]
    assert "500 |" in text  # million updates a second
    assert "25 % |" in text  # of the bandwidth: 0.5e9 updates of 16 bytes of 32e9
    assert "it cannot" in text
    assert (tmp_path / "figures" / "ratios.png").stat().st_size > 5_000
    assert text.strip() in capsys.readouterr().out


@pytest.mark.slow
def test_measures_ourselves_and_goes_on_where_it_was_left(tmp_path):
    arguments = ["--peers", "--orders", 4, "--rounds", 1, "--patience", 0, "--only", "acoustic", "--out", tmp_path]
    done = script(*arguments, "--stage", "measure")
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    figures = json.loads(line)
    assert figures["gradient_first_seconds"] > figures["gradient_seconds"] > 0  # a first call compiles
    # the ring of two shots in float32: 200 steps of 2 x (60 + 70) x 2 cells; and their fields
    assert 2 * 200 * 4 * 520 < figures["gradient_memory_bytes"] < 20e6
    again = script(*arguments, "--stage", "measure")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == [line]
    assert script("--stage", "report", "--out", tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"peers": ("devito",)}, "--peers: devito is none of deepwave, sweep"),
        ({"rounds": 0}, "--rounds must be at least 1, got 0"),
        ({"stage": "measure"}, "run --stage setup first"),
        ({"only": "5D"}, "--only: no case's name holds '5D'"),
        ({"stage": "report"}, "run --stage measure first"),
    ],
)
def test_a_mistake_is_met_with_one_sentence(modules, options, sentence, tmp_path):
    with pytest.raises(modules["kit"].UserError, match=sentence):
        modules["run"].main(modules["run"].Options(out=tmp_path, **options))
