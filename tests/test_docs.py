"""The documentation: public names that no page describes fail its build, names in it exist, its code fits its boxes,
links to the repository's files lead to pages, and the README's examples run.
"""

import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import jaxfwi

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXTENSIONS = DOCS / "_extensions"
COLUMNS = 88  # what the boxes for code show at once

PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in [
        *ROOT.glob("*.md"),
        *ROOT.glob("experiments/*/README.md"),
        *DOCS.glob("*.md"),
        *DOCS.glob("notebooks/*.md"),
        *DOCS.glob("api/*.rst"),
    ]
)
PACKAGE = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "jaxfwi").rglob("*.py"))


@pytest.fixture
def of_docs(monkeypatch):
    """Imports one of the documentation's own modules."""
    monkeypatch.syspath_prepend(str(EXTENSIONS))
    yield importlib.import_module
    for path in EXTENSIONS.glob("*.py"):
        sys.modules.pop(path.stem, None)


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


def texts(files):
    return {file: (ROOT / file).read_text("utf-8") for file in files}


def names_in(text):
    """Names of the package with dots that a text holds: ``jf.misfits.l2`` or ``jaxfwi.misfits.l2``; no files."""
    found = re.findall(r"(?<![\w./`-])`?~?(?:jf|jaxfwi)((?:\.[A-Za-z_]\w*)+)(?![\w/])", text)
    return sorted({name[1:] for name in found if not re.search(r"\.(py|sgy|yml)$", name)})


def missing(text):
    """The names of `names_in` that do not exist."""
    return [name for name in names_in(text) if not exists(jaxfwi, name)]


def exists(value, name):
    for part in name.split("."):
        if inspect.ismodule(value) and not hasattr(value, part):
            try:
                importlib.import_module(f"{value.__name__}.{part}")
            except ModuleNotFoundError:
                return False
        if not hasattr(value, part) and part not in getattr(value, "__dataclass_fields__", ()):
            return False
        value = getattr(value, part, None)
    return True


def test_names_that_do_not_exist_are_found():
    text = "`jf.misfits.l2`, {py:func}`~jaxfwi.optimise.smooth`, jf.misfits.envelope, `jaxfwi.quality`, jf.Grid.times."
    assert names_in(text) == ["Grid.times", "misfits.envelope", "misfits.l2", "optimise.smooth", "quality"]
    assert missing(text) == ["misfits.envelope", "quality"]
    assert names_in("`jaxfwi/shots/plan.py`, `~/jaxfwi.py`, numpy.jf.x") == []


def test_names_of_the_package_exist():
    """Every `jf.a.b` and `jaxfwi.a.b` in pages, docstrings and code, and every role. The changelog has what is gone."""
    found = {file: missing(text) for file, text in texts([*PAGES, *PACKAGE]).items() if file != "CHANGELOG.md"}
    assert {file: names for file, names in found.items() if names} == {}
    for file, text in texts(PAGES).items():
        roles = re.findall(r"\{py:\w+\}`(?:[^`<]*<)?~?([\w.]+)>?`", text)
        assert [role for role in roles if not role.startswith("jaxfwi")] == [], file


def too_wide(text):
    """Lines of code in a page that its box cuts off."""
    out, fence = [], None
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r"\s*(`{3,})(.*)", line)
        if found and fence is None:
            fence = found
        elif found and fence is not None and found[1] == fence[1] and not found[2]:
            fence = None
        elif fence is not None and re.match(r"\{code-cell\}|\w*$", fence[2]) and len(line) > COLUMNS:
            out.append(f"{number}: {line}")
    return out


def test_code_fits_its_box():
    found = {file: too_wide(text) for file, text in texts(PAGES).items()}
    assert {file: lines for file, lines in found.items() if lines} == {}


def test_examples_of_docstrings_fit_their_box():
    found = {
        file: [line for line in re.findall(r"^ *((?:>>>|\.\.\.) .*)", text, re.MULTILINE) if len(line) > COLUMNS]
        for file, text in texts(PACKAGE).items()
    }
    assert {file: lines for file, lines in found.items() if lines} == {}


def test_wide_code_is_found():
    line = "x" * (COLUMNS + 1)
    text = f"{line}\n```python\n{line}\n```\n{line}\n```{{code-cell}} ipython3\n{line}\n```\n```{{div}}\n{line}\n```\n"
    assert too_wide(text) == [f"3: {line}", f"7: {line}"]


def test_pages_in_docstrings_become_links(of_docs):
    linked = of_docs("reference").linked
    assert linked("See `docs/shots.md`, `docs/notebooks/first_gradient.md`.") == (
        "See :doc:`/shots`, :doc:`/notebooks/first_gradient`."
    )
    for file, text in texts(PACKAGE).items():
        for page in re.findall(r"`docs/([\w/]+\.md)", text):
            assert (DOCS / page).is_file(), file


def test_signatures_read_as_python(of_docs):
    readable = of_docs("reference").readable
    assert (
        readable("(misfit: Any = <function l2>, kind=<class 'jaxfwi.Acoustic'>)") == "(misfit: Any = l2, kind=Acoustic)"
    )
    signature = readable(str(inspect.signature(jaxfwi.Simulator)), jaxfwi.Simulator)
    assert "<" not in signature
    assert "BoundarySaving(" in signature


def test_tables_list_what_a_page_describes(of_docs):
    names = of_docs("reference").described("misfits")
    assert {"jaxfwi.misfits", "jaxfwi.misfits.l2", "jaxfwi.diagnostics.time_shifts"} <= set(names)


def test_a_page_becomes_a_notebook(of_docs):
    """Its code as it is; names without roles, and links to other pages without their targets."""
    pytest.importorskip("jupytext")
    notebooks = of_docs("notebooks")
    page = (
        "---\njupytext:\n  text_representation:\n    format_name: myst\n---\n\n# Title\n\n"
        "{py:func}`~jaxfwi.simulate` and "
        "[this](../shots.md#x), [that](https://docs.jax.dev).\n\n```{code-cell} ipython3\nx = [f](y)\n```\n"
    )
    assert notebooks.has_code(page)
    assert not notebooks.has_code("# Title\n")
    cells = json.loads(notebooks.notebook(page))["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code"]
    text, code = ("".join(cell["source"]) for cell in cells)
    assert text.startswith("# Title\n\n*From the documentation of jaxfwi")
    assert text.endswith("`jf.simulate` and this, [that](https://docs.jax.dev).")
    assert code == "x = [f](y)"
    shown = notebooks.with_link(page, "/there.ipynb")
    assert "# Title\n\n```{div} notebook-link\n{download}`Download as a notebook </there.ipynb>`\n```\n" in shown


def test_the_gallery_shows_every_experiment(of_docs):
    gallery = of_docs("gallery")
    cards = {path.parent.name: gallery.card(path.read_text("utf-8")) for path in ROOT.glob("experiments/*/README.md")}
    for name, card in cards.items():
        assert (ROOT / "experiments" / name / gallery.PICTURES.get(name, card.picture)).is_file(), name
        assert len(card.shows) < 300, name  # a card, no page
    assert set(gallery.PICTURES) <= set(cards)


def test_a_readme_that_says_too_little_is_refused(of_docs):
    gallery = of_docs("gallery")
    readme = "# Name\n\nWhat it\n[shows](x.md).\n\nCost: a\nminute.\n\n![a](a.png)\n\n## What came out\n\n![b](b.png)\n"
    assert gallery.card(readme) == ("Name", "What it shows.", "a minute.", "b.png")
    assert gallery.card(readme + "![c](figures/result_vp.png)\n").picture == "figures/result_vp.png"
    with pytest.raises(ValueError, match=r"x/README\.md: the README has no line `Cost"):
        gallery.page({"x": readme.replace("Cost", "Price")})
    assert ":link: x\n" in gallery.page({"x": readme})


def test_formulas_are_mathml(of_docs):
    math_core = pytest.importorskip("math_core")
    mathml = of_docs("formulas").mathml
    assert mathml(r"v_p^2", False).startswith("<math>")
    assert 'display="block"' in mathml(r"v_p^2", True)
    with pytest.raises(math_core.LatexError):
        mathml(r"\frac{1", False)


def test_a_page_that_fetches_is_found(of_docs):
    fetched = of_docs("offline").fetched
    assert fetched('<a href="https://a.org"><script defer src="https://b.org/x.js"></script><img src="c.png">') == [
        "https://b.org/x.js"
    ]
    assert fetched("a { src: url(https://d.org/f.woff) } b { src: url('f.ttf') }") == ["https://d.org/f.woff"]


def examples_of_readme():
    text = (ROOT / "README.md").read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_readme_runs(capsys):
    """The examples of the README, made smaller."""
    first, *more = examples_of_readme()
    for number, smaller in (("3800.0, 10)", "3800.0, 3)"), ("nt=1000", "nt=800"), ("iterations=20", "iterations=2")):
        assert number in first
        first = first.replace(number, smaller)
    names = {"__name__": "readme"}
    for code in (first, *more):
        exec(compile(code, "README.md", "exec"), names)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]
    assert names["many"].shape == names["observed"].shape


def test_the_start_page_shows_the_readme(of_docs):
    pages = of_docs("repository_pages")
    assert pages.example() == f"```python\n{examples_of_readme()[0]}```"
    assert pages.EXAMPLE in (DOCS / "index.md").read_text("utf-8")


def test_versions_agree():
    declared = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert declared
    assert f"\nversion: {declared[1]}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"version = {{{declared[1]}}}" in (ROOT / "README.md").read_text("utf-8")
