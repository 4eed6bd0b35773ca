"""Pages made of the repository's own files: README, CONTRIBUTING, CHANGELOG, and each experiment's README.

They are written to ``docs/repository`` when a build begins, and links to those files, as they are right in the
repository, are turned to these pages. The start page shows the first example of the README.
"""

import os
import re
from pathlib import Path
from typing import Any

__all__ = ["example", "pages", "setup", "turned"]

ROOT = Path(__file__).parent.parent.parent
LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")  # of a path: no scheme, no anchor alone
TITLES = {"README.md": "The README"}  # where a file's own is that of another page
EXAMPLE = "<!-- the first example of the README -->"


def pages() -> dict[str, str]:
    """Files of the repository that become pages, and which."""
    readmes = sorted(ROOT.glob("experiments/*/README.md"))
    found = {path.relative_to(ROOT).as_posix(): f"docs/repository/{path.parent.name}.md" for path in readmes}
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        found[name] = f"docs/repository/{name.lower()}"
    return found


def turned(text: str, written_in: str, shown_in: str) -> str:
    """Text of a file in one folder of the repository, with its links as a page in another folder needs them."""
    page_of = pages()

    def link(match: re.Match) -> str:
        path = os.path.normpath(os.path.join(written_in, match[2]))
        if (ROOT / path).is_dir():
            path = f"{path}/README.md"
        path = page_of.get(path, path)
        known = path in page_of.values() or (ROOT / path).is_file()
        return f"{match[1]}{os.path.relpath(path, shown_in) if known else match[2]}{match[3]}"

    return LINK.sub(link, text)


def example() -> str:
    """The README's first example, as it stands there."""
    found = re.search(
        r"^```python\n.*?^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found
    return found[0]


def _write(app: Any) -> None:
    for file, page in pages().items():
        text = turned((ROOT / file).read_text(encoding="utf-8"), os.path.dirname(file), os.path.dirname(page))
        if file in TITLES:
            text = re.sub(r"^# .*", f"# {TITLES[file]}", text, count=1)
        place = ROOT / page
        place.parent.mkdir(exist_ok=True)
        if not place.is_file() or place.read_text(encoding="utf-8") != text:
            place.write_text(text, encoding="utf-8")


def _read(app: Any, page: str, source: list[str]) -> None:
    if not page.startswith(("repository/", "api/")):
        folder = os.path.dirname(f"docs/{page}")
        source[0] = turned(source[0].replace(EXAMPLE, example()), folder, folder)


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", _write)
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
