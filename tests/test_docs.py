"""The documentation: public names that no page describes fail its build, links to the repository's files lead to pages,
and the README's example runs.
"""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import jaxfwi

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture
def of_docs(monkeypatch):
    """Imports one of the documentation's own modules."""
    monkeypatch.syspath_prepend(str(DOCS))
    yield importlib.import_module
    for name in ("public_names", "repository_pages"):
        sys.modules.pop(name, None)


def described():
    """What the reference's pages describe, by their directives."""
    names, module = set(), None
    for page in sorted((DOCS / "api").glob("*.rst")):
        for directive, given, whole in re.findall(
            r"^\.\. (\w+):: (\S+)\n(?:   :(members):\s*$)?", page.read_text("utf-8"), re.MULTILINE
        ):
            if directive in ("currentmodule", "automodule"):
                module = importlib.import_module(given)
                names.add(given)
            if directive in ("autoclass", "data", "autofunction"):
                assert module is not None
                names.add(f"{module.__name__}.{given}")
            elif directive == "automodule" and whole:
                names |= {f"{given}.{name}" for name in getattr(module, "__all__", vars(module))}
    return names


def test_every_public_name_is_described(of_docs):
    public_names = of_docs("public_names")
    names = dict(public_names.public(jaxfwi))
    assert {"jaxfwi", "jaxfwi.simulate", "jaxfwi.misfits.l2", "jaxfwi.io.segy.read"} <= set(names)
    assert public_names.faults(names.items(), described()) == []


def test_a_name_left_out_is_found(of_docs):
    """A new function, a new method of a class, and a module that nobody has described."""

    class Told:
        """Has a docstring."""

        def told(self):
            """And so has this."""

        def untold(self):
            pass

    inner = ModuleType("package.inner", "A module.")
    inner.__all__ = ["told"]
    inner.told = Told.told
    package = ModuleType("package", "A package.")
    package.__all__ = ["Told", "inner", "new"]
    package.Told, package.inner, package.new = Told, inner, lambda: None
    public_names = of_docs("public_names")
    names = list(public_names.public(package))
    assert [name for name, _ in names] == [
        "package",
        "package.Told",
        "package.inner",
        "package.inner.told",
        "package.new",
    ]
    assert public_names.faults(names, ["package", "package.Told", "package.inner"]) == [
        "package.Told.untold has no docstring.",
        "package.inner.told is public, but no page describes it: add it to docs/api.",
        "package.new is public, but no page describes it: add it to docs/api.",
        "package.new has no docstring.",
    ]


def test_links_are_turned_to_pages(of_docs):
    turned = of_docs("repository_pages").turned
    readme = "experiments/towed_streamer/README.md"
    assert turned(f"[a](../{readme}#the-case)", "docs", "docs") == "[a](repository/towed_streamer.md#the-case)"
    there = turned("[b](../first_inversion/) ![c](figures/result.png)", "experiments/towed_streamer", "docs/repository")
    assert there == "[b](first_inversion.md) ![c](../../experiments/towed_streamer/figures/result.png)"
    for text in ("[d](https://docs.jax.dev)", "[e](#anchor)", "f = simulator[0](model)"):
        assert turned(text, "docs", "docs") == text


def test_the_readme_runs(capsys):
    """The example of the README, made smaller."""
    text = (ROOT / "README.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for number, smaller in ((", 10), source_z", ", 4), source_z"), ("iterations=20", "iterations=2")):
        assert number in code
        code = code.replace(number, smaller)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]


def test_versions_agree():
    declared = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert declared
    assert f"\nversion: {declared[1]}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"version = {{{declared[1]}}}" in (ROOT / "README.md").read_text("utf-8")
