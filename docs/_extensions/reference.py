"""What the pages of the reference share: tables of their names, links from docstrings to pages, readable signatures.

``.. names::`` is a table of what a page in ``docs/api`` describes, each name with the first sentence of its docstring:
of the page itself, or of the page that is its argument.
"""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from docutils.statemachine import StringList
from sphinx.ext.autosummary import Autosummary

__all__ = ["Names", "described", "linked", "readable", "setup"]

API = Path(__file__).parent.parent / "api"
DIRECTIVE = re.compile(r"^\.\. (\w+):: (\S+)\n(?:   :(members):\s*$)?", re.MULTILINE)
PAGE = re.compile(r"`docs/([\w/]+)\.md`")


def described(page: str) -> list[str]:
    """The names that a page of the reference describes, in its order: modules, and all of a module's if it says so."""
    names, module = [], None
    for directive, given, whole in DIRECTIVE.findall((API / f"{page}.rst").read_text("utf-8")):
        if directive in ("currentmodule", "automodule"):
            module = importlib.import_module(given)
            if directive == "automodule":
                names.append(given)
                names += [f"{given}.{name}" for name in getattr(module, "__all__", vars(module))] if whole else []
        elif directive in ("autoclass", "autofunction", "data"):
            assert module is not None
            names.append(f"{module.__name__}.{given}")
    return names


def linked(docstring: str) -> str:
    """A docstring whose pages, written as `docs/shots.md`, are links to them."""
    return PAGE.sub(r":doc:`/\1`", docstring)


class Names(Autosummary):
    """The table: names without their signatures."""

    required_arguments = 0
    optional_arguments = 1
    has_content = False

    def run(self) -> list[Any]:
        page = self.arguments[0] if self.arguments else Path(self.env.docname).name
        names = [name for name in described(page) if _is_listed(name)]
        self.env.note_dependency(str(API / f"{page}.rst"))
        self.options["nosignatures"] = None
        self.content = StringList([f"~{name}" for name in names], source=self.env.docname)
        return super().run()


def _is_listed(name: str) -> bool:
    """No modules, whose functions stand beside them, and no constants, which have no docstring of their own."""
    module, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(module), attribute, None) if module else None
    return inspect.isclass(value) or inspect.isroutine(value)


def _link(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    lines[:] = linked("\n".join(lines)).split("\n")


def readable(signature: str, value: Any = None) -> str:
    """A signature that reads as Python, which is what Sphinx can set in lines.

    Args:
        signature: may have ``<function l2>``, which becomes ``l2``, and ``<factory>``.
        value: whose signature it is; of a dataclass the defaults are shown that its factories make.
    """
    for field in dataclasses.fields(value) if dataclasses.is_dataclass(value) else ():
        if field.init and field.default_factory is not dataclasses.MISSING:
            signature = signature.replace("<factory>", repr(field.default_factory()), 1)
    return re.sub(r"<(?:function|class) '?([\w.]+)[^>]*>", lambda name: name[1].rpartition(".")[2], signature)


def _signature(app: Any, what: str, name: str, value: Any, options: Any, signature: Any, returns: Any) -> Any:
    return (readable(signature, value), returns) if signature else None


def setup(app: Any) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autosummary")
    app.add_directive("names", Names)
    app.connect("autodoc-process-docstring", _link)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
