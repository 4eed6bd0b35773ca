"""How tests run experiments: as a user does, or, to be quick, as a module."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def script(name):
    return EXPERIMENTS / name / "run.py"


def run(name, *arguments, timeout=300):
    """An experiment in a process of its own, since it configures jax; it must end well. What it printed, and its
    standard error."""
    command = [sys.executable, script(name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def module(name):
    """An experiment's script, imported. Its command line configures jax, which here is that of all tests, so that only
    its functions can be called."""
    called = f"experiment_{name}"
    if called not in sys.modules:
        before = sys.path[:]
        sys.path[:0] = [str(EXPERIMENTS), str(script(name).parent)]
        try:
            spec = importlib.util.spec_from_file_location(called, script(name))
            assert spec is not None
            assert spec.loader is not None
            sys.modules[called] = importlib.util.module_from_spec(spec)  # where dataclasses look for it
            spec.loader.exec_module(sys.modules[called])
        finally:
            sys.path[:] = before
    return sys.modules[called]


def metrics(folder, log="metrics.jsonl"):
    """The lines of an experiment's log."""
    path = folder / log
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check_figures(folder, printed, *names):
    """They are there, not empty, and named to the user."""
    for name in names:
        assert str(folder / "figures" / f"{name}.png") in printed
        assert (folder / "figures" / f"{name}.png").stat().st_size > 5_000  # an empty one is smaller
