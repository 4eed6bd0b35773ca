"""The configuration of a Seistorch project: a YAML file with a section geom."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxfwi.io.files import optional_package

__all__ = ["file_of", "geom", "layer_width", "names", "number", "parsed"]


def parsed(path: Path) -> dict[str, Any]:
    """The configuration in a YAML file, checked to have a section geom."""
    yaml = optional_package("yaml", "seistorch")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML of plain values: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("geom"), dict):
        raise ValueError(f"{path} has no section geom: it is no configuration of Seistorch.")
    return config


_MISSING: Any = object()


def geom(config: Mapping[str, Any], key: str, default: Any = _MISSING) -> Any:
    """A value of the section geom. A blank value counts as missing."""
    value = config["geom"].get(key)
    if value is None and default is _MISSING:
        raise ValueError(f"the configuration has no geom: {key}.")
    return default if value is None else value


def number(config: Mapping[str, Any], key: str, default: Any = _MISSING) -> float:
    value = geom(config, key, default)
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)  # YAML reads 1e-3 as text
    except (TypeError, ValueError):
        raise ValueError(f"geom: {key} must be a number, got {value!r}.") from None


def names(config: Mapping[str, Any], key: str) -> list[str]:
    value = geom(config, key, [])
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ValueError(f"geom: {key} must be a list of names, got {value!r}.")
    return names


def file_of(root: Path, key: str, given: Any) -> Path:
    """The file that a key names, checked to exist."""
    if not isinstance(given, str):
        raise ValueError(f"geom: {key} must be a path, got {given!r}.")
    path = root / given
    if not path.exists():
        raise FileNotFoundError(
            errno.ENOENT, f"geom: {key} names a file that is not there (root= says where paths start)", str(path)
        )
    return path


def layer_width(config: Mapping[str, Any]) -> int:
    """The width of the absorbing layer in cells, whose key changed from version to version."""
    for section, key in (("pml", "N"), ("boundary", "width"), ("boundary", "bwidth")):
        found = geom(config, section, {})
        if isinstance(found, dict) and isinstance(found.get(key), int):
            return found[key]
    raise ValueError("the configuration has no width of the absorbing layer, geom: pml: N or geom: boundary: width.")
