"""The script to copy: short, public names only, and it goes on where it was interrupted."""

import re

import numpy as np
import pytest
from running import EXPERIMENTS

import jaxfwi as jf

TEMPLATE = (EXPERIMENTS / "template.py").read_text()
SMALLER = {
    "shape=(80, 200)": "shape=(24, 40)",
    "nt=1000": "nt=150",
    "4976.0": "976.0",
    "4875.0": "875.0",
    ", 10)": ", 3)",
    "length=250.0": "length=60.0",
}


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """The template, smaller, in a folder of its own, for some iterations: what it shows, and its folder of results."""

    def run(folder, iterations):
        text = TEMPLATE
        for old, new in {**SMALLER, "iterations, out = 30,": f"iterations, out = {iterations},"}.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        exec(compile(text, "template.py", "exec"), {"__name__": "__main__"})
        return capsys.readouterr().err, tmp_path / folder / "runs" / "template"

    return run


def test_it_is_short_and_of_public_names():
    assert len(TEMPLATE.splitlines()) <= 45
    for name in re.findall(r"\bjf\.((?:[a-z_]+\.)?\w+)", TEMPLATE):
        room = jf
        for part in name.split("."):
            assert part in room.__all__, name
            room = getattr(room, part)
    assert "def " not in TEMPLATE


@pytest.mark.filterwarnings("ignore:the wavelet reaches:UserWarning")  # so small a case is of few cells
def test_it_runs_and_goes_on_where_it_was_interrupted(run):
    printed, straight = run("straight", 4)
    assert "4/4" in printed  # the bar
    for name in ("models", "misfit", "data"):
        assert (straight / f"{name}.png").stat().st_size > 5_000  # an empty one is smaller
    misfits = np.loadtxt(straight / "misfits.txt")
    np.testing.assert_array_equal(misfits[:, 0], [1, 2, 3, 4])
    assert misfits[-1, 1] < 0.9 * misfits[0, 1]

    run("interrupted", 2)
    printed, interrupted = run("interrupted", 4)
    assert "4/4" in printed
    lines = np.loadtxt(interrupted / "misfits.txt")
    np.testing.assert_array_equal(lines[:, 0], [1, 2, 2, 3, 4])  # the second state is there again, not made again
    np.testing.assert_array_equal(lines[[0, 1, 3, 4]], misfits)
    saved = [np.load(folder / "saved" / "iteration_000004.npz") for folder in (straight, interrupted)]
    np.testing.assert_array_equal(*(file["unknowns.vp"] for file in saved))
