"""Draws the figures of docs/gallery.md anew: its snippets are run as they stand, in order.

    python docs/make_gallery.py

The page is written by hand but for each figure's image, alternative text and caption, which are
what its snippet made on the organism. For a new kind of figure, write its heading (the function's
name), a sentence, `![](images/gallery/NAME.png)`, `*caption*` and the snippet that ends in it.
About two minutes. Images keep all their colours, since a smaller palette falsifies the colour bars
of heatmaps.
"""

import ast
import io
import re
import sys
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from interp.show.plots import CaptionedFigure, render

PAGE = Path(__file__).parent / "gallery.md"
IMAGES = PAGE.parent / "images" / "gallery"
_SNIPPET = re.compile(r"```python\n(.*?)\n```", re.DOTALL)
_ENTRY = re.compile(
    r"^### (?P<name>\w+)\n\n(?P<says>[^\n]+)\n\n"
    r"(?P<made>!\[[^\n]*\]\(images/gallery/(?P=name)\.png\)\n\n\*[^\n]*\*)\n\n"
    r"```python\n(?P<lines>.*?)\n```",
    re.DOTALL | re.MULTILINE,
)


class Entry(NamedTuple):
    """One kind of figure on the page: its function, a sentence, what was made, and the snippet."""

    name: str
    says: str
    made: str
    lines: str


def read() -> tuple[str, list[Entry]]:
    """The page's first snippet, which all others need, and its entries, in order."""
    page = PAGE.read_text(encoding="utf-8")
    setup = _SNIPPET.search(page)
    assert setup is not None, f"{PAGE} has no snippet"
    return setup[1], [Entry(**found.groupdict()) for found in _ENTRY.finditer(page)]


def draw(smaller: Mapping[str, str] | None = None) -> Iterator[tuple[Entry, CaptionedFigure]]:
    """Run the first snippet and each entry's, and give each figure as soon as it is there.

    `smaller` holds what is run instead of what is written, for tests.
    """
    setup, entries = read()
    space: dict[str, Any] = {}
    exec(_instead(setup, smaller or {}), space)
    for entry in entries:
        *before, last = ast.parse(_instead(entry.lines, smaller or {})).body
        exec(compile(ast.Module(before, []), entry.name, "exec"), space)
        assert isinstance(last, ast.Expr), f"{entry.name} does not end in its figure"
        yield entry, eval(compile(ast.Expression(last.value), entry.name, "eval"), space)


def _instead(code: str, smaller: Mapping[str, str]) -> str:
    for written, instead in smaller.items():
        code = code.replace(written, instead)
    return code


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    page = PAGE.read_text(encoding="utf-8")
    for entry, figure in draw():
        path = IMAGES / f"{entry.name}.png"
        with Image.open(io.BytesIO(render(figure, "png"))) as image:
            image.convert("RGB").save(path, optimize=True)
        alt = escape(figure.alt).replace("[", "(").replace("]", ")")
        made = f"![{alt}](images/gallery/{path.name})\n\n*{figure.caption}*"
        page = page.replace(entry.made, made)
        sys.stderr.write(f"{entry.name}\n")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
