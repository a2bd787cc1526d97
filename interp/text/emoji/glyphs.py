"""Emojis as small images from a colour emoji font.

Pillow draws each emoji once from the machine's colour font (Noto Color Emoji, Apple Color Emoji,
Segoe UI Emoji). An emoji that the font lacks, or a machine without such a font, has no image: who
asked then writes the emoji's CLDR short name ("red heart"). There is never an empty box.
"""

import os
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from matplotlib.font_manager import findSystemFonts
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from interp.base.errors import InputError
from interp.text.emoji.data import VS16

_PLACES = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf",
    "/System/Library/Fonts/Apple Color Emoji.ttc",
    "C:/Windows/Fonts/seguiemj.ttf",
)
_NAMES = ("notocoloremoji", "noto-color-emoji", "apple color emoji", "seguiemj", "twemoji")
_BITMAP_SIZES = (109, 160, 128, 136, 96, 64)  # a bitmap font has one of these and no other
_MISSING = "\U0010fffe"  # a noncharacter: every font draws it as a missing glyph
_PIXELS = 56


class Glyphs:
    """A source of emoji images: one colour font, or none (then every emoji is named in words)."""

    def __init__(self, font: Path | str | None) -> None:
        """Use the colour font at `font`; None means names only.

        Raises:
            InputError: if the file is no font that Pillow can draw from.
        """
        self.path = None if font is None else Path(font)
        self._font = None if self.path is None else _open(self.path)

    @classmethod
    def find(cls) -> "Glyphs":
        """The machine's colour emoji font; names only where there is none."""
        return _found()

    @lru_cache(maxsize=512)  # noqa: B019 (there are one or two sources per process)
    def image(self, emoji: str) -> NDArray[np.uint8] | None:
        """The emoji as an RGBA image some 56 pixels high, or None if the font cannot draw it."""
        if self._font is None:
            return None
        spellings = (emoji, emoji.replace(VS16, ""))
        usable = (text for text in spellings if self._font.getlength(text) <= self._widest)
        for text in usable:
            drawn = _draw(self._font, text)
            if drawn is not None and drawn.tobytes() != self._box:
                scale = _PIXELS / max(drawn.size)
                size = (max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale)))
                return np.asarray(drawn.resize(size, Image.Resampling.LANCZOS))
        return None

    @property
    def _widest(self) -> float:
        """Wider than this is several glyphs side by side: a sequence that the font lacks."""
        assert self._font is not None
        return 1.5 * float(self._font.getlength("😀"))

    @property
    def _box(self) -> bytes | None:
        assert self._font is not None
        drawn = _draw(self._font, _MISSING)
        return None if drawn is None else drawn.tobytes()


@cache
def _found() -> Glyphs:
    try:
        home = [str(path) for path in (Path.home() / ".fonts").glob("*.tt[fc]")]
    except (OSError, RuntimeError):  # a home that may not be read, or none at all
        home = []
    others = (
        path
        for path in [*home, *sorted(findSystemFonts())]
        if any(word in Path(path).name.lower() for word in _NAMES)
    )
    for place in [*(place for place in _PLACES if os.path.exists(place)), *others]:  # noqa: PTH110
        try:
            glyphs = Glyphs(place)
        except InputError:
            continue
        if glyphs.image("😀") is not None:  # some colour formats open, but draw nothing
            return glyphs
    return Glyphs(None)


def _open(path: Path) -> ImageFont.FreeTypeFont:
    for size in _BITMAP_SIZES:
        try:
            return ImageFont.truetype(str(path), size)
        except OSError as problem:
            if "invalid pixel size" not in str(problem):
                break
    raise InputError(f"{path}: no font that emojis can be drawn from; name a colour emoji font")


def _draw(font: ImageFont.FreeTypeFont, text: str) -> Image.Image | None:
    """`text` in colour on nothing, cropped; None where nothing is drawn."""
    side = int(3 * font.size)
    canvas = Image.new("RGBA", (2 * side, side), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((side // 4, side // 4), text, font=font, embedded_color=True)
    box = canvas.getbbox()
    return None if box is None else canvas.crop(box)
