"""Where things end up on printed pages, read from the PDF itself.

Before printing, two invisible links are put at the top and bottom edge of each box. Chromium
writes links as annotations with their rectangle on their page, uncompressed, so a few regular
expressions tell on which page, and where, each edge lies.
"""

import re
from dataclasses import dataclass
from typing import Any

_MARK = "https://mark.invalid/"
_PUT = """([selector, mark]) => document.querySelectorAll(selector).forEach((box, i) => {
  box.style.position = "relative";
  for (const edge of ["top", "bottom"]) {
    const link = document.createElement("a");
    link.href = `${mark}${i}/${edge}`;
    link.textContent = ".";
    link.style.cssText = "position: absolute; left: 0; font-size: 1px; line-height: 1px";
    link.style[edge] = 0;
    box.append(link);
  }
})"""


@dataclass(frozen=True)
class Edge:
    """One edge of a box: its page, counted from 0, and height on it in points from below."""

    page: int
    y: float


def printed(page: Any, selector: str) -> tuple[list[dict[str, Edge]], float, int]:
    """Print the page; both edges of every box, the paper's height in points, and pages in all."""
    page.evaluate(_PUT, [selector, _MARK])
    pdf = page.pdf(prefer_css_page_size=True)
    objects = {
        int(number): body
        for number, body in re.findall(rb"\n(\d+) 0 obj\n(<<.*?)\nendobj", pdf, re.DOTALL)
    }
    sheets = _sheets(objects)
    (height,) = {float(h) for h in re.findall(rb"/MediaBox \[0 0 \S+ (\S+)\]", pdf)}
    found: dict[int, dict[str, Edge]] = {}
    for place, sheet in enumerate(sheets):
        (links,) = re.findall(rb"/Annots \[(.*?)\]", objects[sheet]) or [b""]
        for number in re.findall(rb"(\d+) 0 R", links):
            link = objects[int(number)].decode("latin-1")
            mark = re.search(rf"/URI \({re.escape(_MARK)}(\d+)/(\w+)\)", link)
            if mark:
                ends = [float(x) for x in re.search(r"/Rect \[(.*?)\]", link)[1].split()]
                found.setdefault(int(mark[1]), {})[mark[2]] = Edge(place, ends[1])
    return [found[i] for i in sorted(found)], height, len(sheets)


def _sheets(objects: dict[int, bytes]) -> list[int]:
    """The numbers of the pages in order, from a page tree that may have branches."""
    trees = {number: body for number, body in objects.items() if b"/Type /Pages" in body}
    (root,) = [number for number, body in trees.items() if b"/Parent" not in body]

    def leaves(number: int) -> list[int]:
        if number not in trees:
            return [number]
        kids = re.search(rb"/Kids \[(.*?)\]", trees[number], re.DOTALL)[1]
        return [leaf for kid in re.findall(rb"(\d+) 0 R", kids) for leaf in leaves(int(kid))]

    return leaves(root)
