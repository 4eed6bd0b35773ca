"""Fails a build of these pages in which a public name is missing, or has no docstring.

Public is what stands in ``jaxfwi.__all__``, and in ``__all__`` of the modules named there, and so on; of a class, its
methods and properties too, which must have a docstring.
"""

import importlib
import inspect
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

__all__ = ["faults", "public", "setup"]


def public(module: ModuleType, seen: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every public name of a package with dots, and its value; the package itself first. A value that modules export
    again is left out there: the pages describe it once.
    """
    yield module.__name__, module
    values = {name: getattr(module, name) for name in getattr(module, "__all__", None) or _made_in(module)}
    own = tuple(value for value in values.values() if not inspect.ismodule(value))
    for name, value in values.items():
        if inspect.ismodule(value):
            yield from public(value, seen + own)
        elif not any(value is other for other in seen):
            yield f"{module.__name__}.{name}", value


def _made_in(module: ModuleType) -> list[str]:
    """Functions and classes of a module that has no ``__all__``."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def undocumented(name: str, value: Any) -> Iterator[str]:
    """The names, this one or some of a class, that should have a docstring and have none."""
    if not (inspect.getdoc(value) or "").strip():
        yield name
    if inspect.isclass(value):
        for attribute, member in vars(value).items():
            described = inspect.isroutine(member) or isinstance(member, property)
            if described and not attribute.startswith("_") and not inspect.getdoc(getattr(value, attribute)):
                yield f"{name}.{attribute}"


def faults(names: Iterable[tuple[str, Any]], documented: Iterable[str]) -> list[str]:
    """What is wrong, a sentence for each name.

    Args:
        names: as of `public`.
        documented: names that the pages describe.
    """
    documented = set(documented)
    out = []
    for name, value in names:
        if name not in documented:
            out.append(f"{name} is public, but no page describes it: add it to docs/api.")
        out += [f"{missing} has no docstring." for missing in undocumented(name, value)]
    return out


def _check(app: Any, env: Any) -> None:
    from sphinx.errors import ExtensionError

    found = faults(public(importlib.import_module("jaxfwi")), env.get_domain("py").objects)
    if found:
        raise ExtensionError("\n".join(found))


def setup(app: Any) -> dict[str, bool]:
    app.connect("env-check-consistency", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
