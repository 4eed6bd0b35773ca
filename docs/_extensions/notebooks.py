"""Pages with code as notebooks to take away: each has a link to its own below its title.

They are written to ``docs/repository/notebooks`` when a build begins, without output. A notebook knows nothing of these
pages, so that names in it are plain and links to other pages become their words.
"""

import re
from pathlib import Path
from typing import Any

__all__ = ["notebook", "setup", "with_link"]

DOCS = Path(__file__).parent.parent
FOLDER = DOCS / "repository" / "notebooks"
ROLE = re.compile(r"\{py:\w+\}`~?(?:jaxfwi(?=[.`]))?([^`]*)`")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:)[^)]*\)")
FIRST = "*From the documentation of jaxfwi, which has to be installed where this notebook runs.*\n\n"


def has_code(page: str) -> bool:
    """Whether a page is one whose code is run."""
    return page.startswith("---\njupytext:")


def notebook(page: str) -> str:
    """A page as a notebook, JSON.

    Args:
        page: the page's text.
    """
    import jupytext
    import nbformat

    book = jupytext.reads(page, fmt={"extension": ".md", "format_name": "myst"})
    text = [cell for cell in book.cells if cell.cell_type == "markdown"]
    for cell in text:
        cell.source = LINK.sub(
            r"\1", ROLE.sub(lambda role: f"`jf{role[1]}`" if role[1][:1] == "." else f"`{role[1]}`", cell.source)
        )
    text[0].source = re.sub(r"^(# .*\n\n?)", rf"\1{FIRST}", text[0].source, count=1)
    for number, cell in enumerate(book.cells):
        cell["id"] = str(number)  # the same at each build
    book.metadata.pop("jupytext", None)
    return nbformat.writes(book)


def with_link(page: str, to: str) -> str:
    """A page with a link below its title.

    Args:
        page: the page's text.
        to: the notebook, as seen from the page.
    """
    link = f"```{{div}} notebook-link\n{{download}}`Download as a notebook <{to}>`\n```"
    return re.sub(r"^(# .*)$", rf"\1\n\n{link}", page, count=1, flags=re.MULTILINE)


def _write(app: Any) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for page in [*DOCS.glob("*.md"), *DOCS.glob("notebooks/*.md")]:
        text = page.read_text("utf-8")
        if has_code(text):
            made, place = notebook(text), FOLDER / f"{page.stem}.ipynb"
            if not place.is_file() or place.read_text("utf-8") != made:
                place.write_text(made, "utf-8")


def _read(app: Any, page: str, source: list[str]) -> None:
    if has_code(source[0]):
        source[0] = with_link(source[0], f"/repository/notebooks/{Path(page).name}.ipynb")


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", _write)
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
