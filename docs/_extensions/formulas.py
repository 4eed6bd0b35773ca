"""Formulas as MathML, made when the pages are built: a browser draws them without a script and without a network.

Their letters are those of STIX Two Math, a font under the Open Font Licence, as the package ziamath carries it.
"""

import shutil
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["mathml", "setup"]

FONT = "STIXTwoMath-Regular.ttf"


@cache
def mathml(latex: str, display: bool) -> str:
    """A formula in LaTeX as MathML, on a line of its own or within one; a faulty one raises `math_core.LatexError`."""
    from math_core import LatexToMathML

    return LatexToMathML().convert_with_local_state(latex, displaystyle=display)


def _write(translator: Any, node: Any, display: bool) -> None:
    from docutils.nodes import SkipNode
    from sphinx.errors import ExtensionError

    try:
        formula = mathml(node.astext(), display)
    except Exception as error:
        raise ExtensionError(f"{node.source}:{node.line}: {error}") from error
    translator.body.append(f'<div class="formula">{formula}</div>\n' if display else formula)
    raise SkipNode


def _copy_font(app: Any, error: Exception | None) -> None:
    spec = find_spec("ziamath")
    if error is None and app.builder.format == "html" and spec is not None and spec.origin is not None:
        shutil.copy(Path(spec.origin).parent / "fonts" / FONT, Path(app.outdir) / "_static" / FONT)


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer(
        "mathml",
        (lambda translator, node: _write(translator, node, display=False), None),
        (lambda translator, node: _write(translator, node, display=True), None),
    )
    app.connect("build-finished", _copy_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
