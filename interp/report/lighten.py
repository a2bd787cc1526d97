"""A page that stays small: the heaviest drawings give way to images of the same figure.

Maps of large models hold thousands of marks and weigh more as drawings (SVG) than as images. Where
all figures, with the token views, would exceed the page's budget, the heaviest are shown as
64-colour images of 200 dpi, one after the other, until the rest fits. The files beside the page
stay as they are.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from interp.report.blocks import FigureBlock, Section

BUDGET = 4_000_000
"""Bytes that figures and token views may take together; answers and tables need far less."""

_COLOURS = 64


def lighten(sections: Sequence[Section], figures: Path, budget: int = BUDGET) -> None:
    """Replace drawings in `sections` by images, heaviest first, until `budget` bytes are kept.

    Args:
        sections: the page's sections; their figures are changed in place.
        figures: the folder that holds every figure as PNG.
        budget: bytes for all figures and token views.
    """
    shelves = [
        shelf
        for one in sections
        for shelf in (
            one.figures,
            *(fold.figures for fold in one.folds),
            *(part.figures for part in one.parts),
        )
    ]
    places = [(shelf, i) for shelf in shelves for i in range(len(shelf))]
    views = [view for one in sections for part in one.parts for view in part.views]
    total = sum(len(shelf[i].uri) for shelf, i in places)
    total += sum(len(view.markup.encode()) for view in views)
    for shelf, i in sorted(places, key=lambda place: -len(place[0][place[1]].uri)):
        if total <= budget:
            return
        image = _image(shelf[i], figures)
        total += min(0, len(image) - len(shelf[i].uri))
        if len(image) < len(shelf[i].uri):
            shelf[i] = replace(shelf[i], uri=image)


def _image(block: FigureBlock, figures: Path) -> str:
    with Image.open(figures / f"{block.stem}.png") as drawn:
        small = drawn.convert("RGB").quantize(_COLOURS)
    buffer = BytesIO()
    small.save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"
