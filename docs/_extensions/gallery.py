"""The gallery of experiments: a card for each, made of its README when a build begins.

A README gives its title, its first paragraph, which says what the experiment shows, a line ``Cost: ...``, and the
picture: its first one of a result, or of what came out, unless `PICTURES` names another.
"""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Card", "card", "page", "setup"]

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "repository" / "gallery.md"
INTRODUCTION = """# Experiments

Each is a script in the folder `experiments`, to be run with a model of yours or with ours, and a page with its pictures
and tables, which were made with the command, on the hardware and at the date that stand beside them. To write one of
your own, begin with `experiments/template.py`.
"""
# Where another picture tells more: most results look alike.
PICTURES = {
    "distributed": "figures/gradients.png",
    "inversion_with_multiples": "figures/models.png",
    "source_encoding_elastic": "figures/data_vz.png",
    "towed_streamer": "figures/acquisition.gif",
}
IMAGE = re.compile(r"^!\[.*?\]\((\S*?)\)", re.MULTILINE)


class Card(NamedTuple):
    """What a card shows."""

    title: str
    shows: str
    cost: str
    picture: str  # as seen from the README's folder


def card(readme: str) -> Card:
    """The card of an experiment, from the text of its README; ValueError says what is missing."""
    title = re.search(r"^# (.*)", readme)
    shows = re.search(r"^# .*\n\n((?:.+\n)+)", readme)
    cost = re.search(r"^Cost: ((?:.+\n)+)", readme, re.MULTILINE)
    pictures = IMAGE.findall(readme)
    pictures = [picture for picture in pictures if Path(picture).name.startswith("result")] + (
        IMAGE.findall(readme.partition("\n## What came out")[2]) + pictures
    )
    parts = {"title": title, "first paragraph": shows, "line `Cost: ...`": cost, "picture": pictures}
    for name, found in parts.items():
        if not found:
            raise ValueError(f"the README has no {name}, which the gallery shows: write one.")
    assert title is not None
    assert shows is not None
    assert cost is not None
    return Card(title[1], _line(shows[1]), _line(cost[1]), pictures[0])


def _line(text: str) -> str:
    """A paragraph on one line, and without links."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(text.split()))


def _order(readme: Path) -> tuple[bool, str]:
    """By name, but where one begins comes first."""
    return readme.parent.name != "first_inversion", readme.parent.name


def page(readmes: dict[str, str]) -> str:
    """The gallery's page.

    Args:
        readmes: the text of each experiment's README, by the name of its folder.
    """
    parts = [INTRODUCTION, "`````{grid} 1 2 2 2\n:gutter: 3\n"]
    for name, text in readmes.items():
        try:
            shown = card(text)
        except ValueError as error:
            raise ValueError(f"experiments/{name}/README.md: {error}") from None
        picture = os.path.normpath(f"../../experiments/{name}/{PICTURES.get(name, shown.picture)}")
        parts.append(
            f"````{{grid-item-card}} {shown.title}\n:link: {name}\n:link-type: doc\n:img-top: {picture}\n"
            f":class-item: experiment\n\n{shown.shows}\n\n```{{div}} cost\nCost: {shown.cost}\n```\n````\n"
        )
    listed = "\n".join(readmes)
    return "\n".join([*parts, "`````", "", f"```{{toctree}}\n:hidden:\n:maxdepth: 1\n\n{listed}\n```", ""])


def _write(app: Any) -> None:
    from sphinx.errors import ExtensionError

    readmes = {
        path.parent.name: path.read_text("utf-8") for path in sorted(ROOT.glob("experiments/*/README.md"), key=_order)
    }
    try:
        text = page(readmes)
    except ValueError as error:
        raise ExtensionError(str(error)) from error
    PAGE.parent.mkdir(exist_ok=True)
    if not PAGE.is_file() or PAGE.read_text("utf-8") != text:
        PAGE.write_text(text, "utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
