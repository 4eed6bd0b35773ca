"""The house: imports point one way, files can be read in a sitting, calls are short and shallow."""

import ast
import dataclasses
import functools
import graphlib
import inspect
import re
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

import jaxfwi as jf

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jaxfwi"
NAMESPACES = ("misfits", "filters", "models", "optimise", "regularisation", "diagnostics", "hosts", "io", "plot")
# nothing else in the package imports these
LEAVES = ("filters", "models", "optimise", "regularisation", "diagnostics", "hosts", "io", "plot")


def name_of(path):
    """As it is imported: ``jaxfwi.grid.frame``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def imports():
    """For each file, the files of the package that it imports, wherever in the file."""
    graph = {}
    for name, path in FILES.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno} imports by a relative name"
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= inside & FILES.keys() or {node.module}
                found |= {node.module} if inside - FILES.keys() else set()
        graph[name] = (found & FILES.keys()) - {name}
    return graph


def room(name):
    """The wing, namespace or ``_x`` of a file; "" for the package itself."""
    return name.partition(".")[2].partition(".")[0]


def rooms():
    """For each room, the rooms that it imports."""
    graph = {}
    for name, found in imports().items():
        if room(name):
            graph.setdefault(room(name), set()).update({room(x) for x in found} - {room(name)})
    return graph


@functools.cache
def wings():
    """The wings in the order of imports, with what each holds, as CONTRIBUTING.md lists them."""
    for block in re.findall(r"```text\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S):
        lines = [re.fullmatch(r"(\w+): +(\S.*)", line) for line in block.splitlines()]
        if lines and all(lines) and lines[-1].group(1) == "inversion":
            return {line.group(1): line.group(2) for line in lines}
    return pytest.fail("CONTRIBUTING.md has no block of lines `wing: what it holds`, the last of them inversion")


def test_contributing_lists_the_wings():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert set(wings()) == folders - set(NAMESPACES)
    assert {name for name in files if not name.startswith("_")} | folders == set(NAMESPACES) | set(wings())


def test_imports_have_no_circle():
    # the package itself imports all of its names, and nothing in it imports those
    for graph in (imports(), rooms()):
        assert list(graphlib.TopologicalSorter(graph).static_order())
    assert not [name for name, found in imports().items() if "jaxfwi" in found]


def test_imports_between_wings_point_one_way():
    order = list(wings())
    for wing in order:
        allowed = {*order[: order.index(wing)], "misfits"}  # the default misfit of a problem
        imported = {x for x in rooms()[wing] if not x.startswith("_")}
        assert imported <= allowed, f"{wing} imports {', '.join(sorted(imported - allowed))}"


def test_namespaces_know_the_grid_and_the_survey_only():
    below = {"grid", "equations", "survey"}
    for name in NAMESPACES:
        allowed = below | ({"simulation"} if name == "io" else set())  # a foreign project is read as a simulator too
        imported = {x for x in rooms().get(name, ()) if not x.startswith("_")}
        assert imported <= allowed, f"{name} imports {', '.join(sorted(imported - allowed))}"


def test_what_serves_all_knows_no_wing_but_the_grid():
    for name, imported in rooms().items():
        if name.startswith("_"):
            assert {x for x in imported if not x.startswith("_")} <= {"grid"}, name


def test_leaves_are_imported_by_none():
    for name, imported in rooms().items():
        assert not imported & set(LEAVES), name


def floors(graph):
    """The number of nodes on the longest path."""

    @functools.cache
    def height(node):
        return 1 + max((height(x) for x in graph[node]), default=0)

    return max(map(height, graph))


def test_the_house_is_low():
    """Before there were wings: 36 files at the top, 18 floors, and 465 lines in the longest file."""
    top = [path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert len(top) <= 12
    assert floors(rooms()) <= 8
    lines = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert not {name: n for name, n in lines.items() if n > 350}


# A problem counts the arguments it is made of, each method those of a call.
PUBLIC = (
    jf.simulate,
    jf.On,
    jf.Problem,
    jf.Problem.misfit_and_gradient,
    jf.Problem.hessian_product,
    jf.Problem.gauss_newton_product,
    jf.Problem.gauss_newton_diagonal,
    jf.Problem.memory,
    jf.invert,
    jf.AsVector,
)


def test_few_parameters():
    """Before there was a problem, eight functions that did the same had 90."""
    counts = {f.__qualname__: len(inspect.signature(f).parameters.keys() - {"self"}) for f in PUBLIC}
    assert sum(counts.values()) <= 50, counts


def test_few_calls_from_simulate_to_the_step(monkeypatch):
    """Frames of the package from `jf.simulate` to the equation's step, both counted. Before, they were 21."""
    depths = []

    class Counted(jf.Acoustic):
        """Notes how deep its step is called, since a new equation is traced anew."""

        @classmethod
        def substeps(cls, ndim, space_order):
            (step,) = super().substeps(ndim, space_order)

            def forward(*arguments):
                frame, count = sys._getframe(), 1  # itself in the place of the equation's own
                while frame := frame.f_back:
                    count += frame.f_code.co_filename.startswith(f"{PACKAGE}/")
                    if frame.f_code is jf.simulate.__code__:
                        depths.append(count)
                return step.forward(*arguments)

            return (dataclasses.replace(step, forward=forward),)

    grid = jf.Grid((8, 9), 10.0, 1e-3, 200)  # steps: from 200 on the loop has one call more
    survey = jf.Survey.from_arrays([[20.0, 30.0]], [[10.0, 10.0]], jnp.zeros(200))
    jf.simulate(jf.Simulator(grid, absorber=jf.CPML(width=2)), Counted(vp=jnp.full((8, 9), 2000.0)), survey)
    assert depths
    assert max(depths) <= 16, depths


def test_pages_import_public_names_only():
    """What a page or an experiment imports is `jaxfwi` or a namespace of it."""
    docs = [path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "repository"} & {*path.parts}]
    # but for the kernel written by hand, which stands in for the engine's own derivative
    experiments = {*(ROOT / "experiments").rglob("*.py")} - {ROOT / "experiments/benchmarks/kernel.py"}
    public = "|".join((*NAMESPACES, "equations"))
    found = []
    for path in [ROOT / "README.md", *docs, *experiments]:
        for line in path.read_text().splitlines():
            name = re.match(r"\s*(?:>>> )?(?:from|import) (jaxfwi\.[\w.]+)", line)
            if name and not re.fullmatch(rf"jaxfwi\.({public})(\.(gathers|models|segy|seistorch))?", name.group(1)):
                found.append(f"{path.relative_to(ROOT)}: {line.strip()}")
    assert not found
