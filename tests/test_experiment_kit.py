"""What all experiments have in common: mistakes met with one sentence, READMEs that say what a gallery needs."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from running import EXPERIMENTS, module, script

INVERSIONS = (
    "distributed", "first_inversion", "implicit_fwi", "inversion_with_multiples", "source_encoding_acoustic",
    "source_encoding_elastic", "towed_streamer",
)  # fmt: skip


@pytest.fixture
def call(monkeypatch):
    """An experiment with options, in this process."""

    def call(name, **options):
        experiment = module(name)
        # the command line sets one for its process, which here is that of all tests
        monkeypatch.setattr(experiment.kit.drive, "use_compilation_cache", lambda folder: None)
        experiment.main(experiment.Options(**options))
        return experiment

    return call


@pytest.fixture
def models(tmp_path):
    """A sea over two layers, 28 x 48 cells: files of vp, and of a vs that is 0 in three cells of rock."""
    vp = np.full((28, 48), 1500.0)
    vp[7:] = 2000.0
    np.save(tmp_path / "vp.npy", vp)
    vs = np.where(vp > 1500.0, 1000.0, 0.0)
    vs[-1, :3] = 0.0
    np.save(tmp_path / "vs.npy", vs)
    return tmp_path


@pytest.mark.parametrize("name", INVERSIONS)
def test_a_stage_that_is_missing_and_a_file_that_is_not_there_are_named(call, name, tmp_path):
    kit = module(name).kit
    with pytest.raises(kit.UserError, match=r"config\.json is missing: run --stage make first"):
        call(name, stage="invert", out=tmp_path)
    with pytest.raises(kit.UserError, match=r"--vp: there is no file .*nowhere\.npy"):
        call(name, vp=tmp_path / "nowhere.npy", spacing=20.0, out=tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("first_inversion", {"vp": "vp.npy"}, "--vp needs --spacing"),
        ("first_inversion", {"spacing": 20.0}, "give --vp FILE"),
        ("distributed", {"stage": "compare", "iterations": 2}, "leave out --iterations"),
        ("distributed", {"stage": "make", "iterations": 0}, "--iterations must be at least 1, got 0"),
        ("towed_streamer", {"vp": "vp.npy", "spacing": 15.0}, "the model is 705 m long, but a quarter of the cable"),
        ("source_encoding_elastic", {"vs": "vs.npy"}, "--vs goes with a model of your own"),
        (
            "source_encoding_elastic",
            {"vp": "vp.npy", "vs": "vs.npy", "spacing": 70.0},
            "--vs: the S-wave velocity is 0 in 3 cells below the sea",
        ),
    ],
)
def test_a_mistake_is_met_with_one_sentence(call, models, name, options, sentence):
    files = {option: models / file for option, file in options.items() if option in ("vp", "vs")}
    with pytest.raises(module(name).kit.UserError, match=sentence):
        call(name, **options | files, out=models / "out")


def test_on_the_command_line_it_is_printed_and_the_status_is_2(tmp_path):
    command = [sys.executable, script("first_inversion"), "--stage", "compare", "--out", tmp_path / "out"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*run --stage make first, with the same --out\.\n", done.stderr)


def test_a_preset_that_one_experiment_has_can_be_asked_for(call, models):
    options = {"preset": "half", "stage": "make", "vp": models / "vp.npy", "spacing": 70.0, "out": models / "out"}
    call("source_encoding_elastic", **options)
    config = json.loads((models / "out" / "config.json").read_text())
    assert config["scales"] == [2.0, 3.0, 4.0, 0.0]
    assert config["shape"] == [28, 48]


def test_a_finished_run_is_made_anew_and_an_interrupted_one_goes_on(call, models):
    options = {"preset": "tiny", "stage": "make", "vp": models / "vp.npy", "spacing": 50.0, "out": models / "out"}
    call("first_inversion", **options)
    left = models / "out" / "observed_0.npy"
    left.touch()
    call("first_inversion", **options)
    assert left.exists()
    call("first_inversion", **options | {"spacing": 40.0})  # another case
    assert not left.exists()
    left.touch()
    (models / "out" / "summary.json").touch()
    call("first_inversion", **options | {"spacing": 40.0})
    assert not left.exists()


@pytest.mark.parametrize("readme", sorted(EXPERIMENTS.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_a_readme_says_first_what_is_shown_and_what_it_costs(readme):
    """The gallery of the documentation quotes both."""
    title, shows, cost, *_ = readme.read_text().split("\n\n")
    assert re.fullmatch(r"# .+", title)
    assert re.fullmatch(r"[A-Z][^.]*(\.\d[^.]*)*\.", " ".join(shows.split())), "one sentence"
    assert re.fullmatch(r"Cost: .+\.", " ".join(cost.split()))


def test_scripts_extend_the_path_in_one_line_and_import_what_is_public():
    for path in sorted(EXPERIMENTS.rglob("*.py")):
        text = path.read_text()
        assert text.count("sys.path") <= 1, path
        private = re.findall(r"^\s*(?:from|import) (jaxfwi\.\S+)", text, re.MULTILINE)
        # it times a part of the package
        assert not private or path.name == "kernel.py", (path, private)
