"""Emojis on the axes of figures: small images, or their CLDR short names.

matplotlib cannot draw colour fonts and prints an empty box for an emoji, so an image is placed
where the text would stand (`interp.emoji.glyphs`), and the name ("red heart") where there is none.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from numpy.typing import NDArray

from interp.text.emoji.data import name
from interp.text.emoji.find import find
from interp.text.emoji.glyphs import Glyphs


def label_axis(
    axes: Axes,
    which: Literal["x", "y"],
    emojis: Sequence[str],
    *,
    glyphs: Glyphs | None = None,
    points: float = 9.0,
) -> None:
    """Label the ticks 0, 1, 2, ... of an axis with emojis.

    Args:
        axes: where; its limits are left as they are.
        which: `"x"` or `"y"`.
        emojis: one emoji per tick; what is no emoji stands as it is.
        glyphs: where the images come from; the machine's colour font if left out.
        points: height of an image.
    """
    glyphs = Glyphs.find() if glyphs is None else glyphs
    images = [glyphs.image(text) if find(text) else None for text in emojis]
    words = [
        "" if image is not None else name(text) if find(text) else text
        for text, image in zip(emojis, images, strict=True)
    ]
    if which == "x":
        axes.set_xticks(range(len(emojis)), words, rotation=90)
    else:
        axes.set_yticks(range(len(emojis)), words)
    axes.tick_params(axis=which, length=0)
    for place, image in enumerate(images):
        if image is not None:
            axes.add_artist(_on_axis(axes, which, place, image, points))


def _on_axis(
    axes: Axes, which: str, place: int, image: NDArray[np.uint8], points: float
) -> AnnotationBbox:
    picture = OffsetImage(image, zoom=points / max(image.shape[:2]), interpolation="antialiased")
    along_x = which == "x"
    return AnnotationBbox(
        picture,
        (place, 0) if along_x else (0, place),
        xycoords=axes.get_xaxis_transform() if along_x else axes.get_yaxis_transform(),
        xybox=(0, -3) if along_x else (-3, 0),
        boxcoords="offset points",
        box_alignment=(0.5, 1) if along_x else (1, 0.5),
        frameon=False,
        pad=0,
        annotation_clip=False,
    )
