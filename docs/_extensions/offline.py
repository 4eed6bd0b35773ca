"""Fails a build whose pages would fetch a script, a style, a font or a picture from elsewhere: they are read on
clusters that have no network.
"""

import re
from pathlib import Path
from typing import Any

__all__ = ["fetched", "setup"]

FETCHED = re.compile(r"""<(?:script|img|link)\b[^>]*?\b(?:src|href)=["'](https?:[^"']*)|url\(["']?(https?:[^"')]*)""")


def fetched(text: str) -> list[str]:
    """Addresses that a browser fetches by itself when it shows a page, or uses a style sheet."""
    return [html or style for html, style in FETCHED.findall(text)]


def _check(app: Any, error: Exception | None) -> None:
    from sphinx.errors import ExtensionError

    if error is None and app.builder.format == "html":
        files = [*Path(app.outdir).rglob("*.html"), *Path(app.outdir).rglob("*.css")]
        found = {path.name: fetched(path.read_text("utf-8")) for path in files}
        if any(found.values()):
            raise ExtensionError(f"these pages fetch from the network: { {k: v for k, v in found.items() if v} }")


def setup(app: Any) -> dict[str, bool]:
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
