"""No empty box in any text of a figure: what the font cannot draw is written out.

matplotlib draws a character that its font lacks as a box. Titles, legends and labels may hold what
a user or a tokenizer named (a method, a model, a token), so every figure is gone through before it
is drawn: an emoji becomes its CLDR short name ("red heart"), any other character its code point
("U+4F60"), a tab or control character what Python would write ("\\t"). Emojis on axes have become
images by then (`glyphs.label_axis`). Captions and alternative texts are not drawn here and keep
their characters. Looking up a figure's some hundred texts takes about a millisecond.
"""

from functools import lru_cache
from typing import Any

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from interp.text.emoji.data import VS16, canonical, name
from interp.text.emoji.find import find

_LINE_END = "\n"  # matplotlib breaks lines there; the figures' own labels use it


def drawable(text: str, known: frozenset[int]) -> str:
    """`text` with all that is not among a font's `known` code points written out."""
    if text.isascii() and text.replace(_LINE_END, "").isprintable():
        return text
    whole, end = "", 0
    for emoji in find(text):
        if not _is_sign(emoji.text, known):
            whole += _spelled(text[end : emoji.start], known) + f" {name(emoji.text)} "
            end = emoji.end
    whole += _spelled(text[end:], known)
    if whole == text:
        return text
    return _LINE_END.join(" ".join(line.split()) for line in whole.split(_LINE_END))


def spell_out(figure: Figure) -> None:
    """Write out, in all texts of a figure, what their fonts cannot draw."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            _spell_ticks(axis)
    for text in figure.findobj(Text):
        shown = drawable(text.get_text(), font_characters(text))
        if shown != text.get_text():
            text.set_text(shown)


def font_characters(text: Text) -> frozenset[int]:
    """The code points that the fonts of a text have a glyph for."""
    properties = text.get_fontproperties()
    return frozenset().union(*(_characters(path) for path in _paths(properties)))


def _spell_ticks(axis: Axis) -> None:
    """Ticks with names of their own: a formatter would bring the old name back."""
    places = axis.get_major_locator()
    if not isinstance(places, FixedLocator) or not len(getattr(places, "locs", ())):
        return
    labels = axis.get_majorticklabels()
    shown = [drawable(label.get_text(), font_characters(label)) for label in labels]
    if shown != [label.get_text() for label in labels]:
        axis.set_ticklabels(shown)


def _is_sign(emoji: str, known: frozenset[int]) -> bool:
    """Whether it is a sign of text, as ↔ without the selector of its picture, and in the font."""
    plain = VS16 not in emoji and canonical(emoji) != emoji
    return plain and all(ord(part) in known for part in emoji)


def _spelled(text: str, known: frozenset[int]) -> str:
    def one(letter: str) -> str:
        if letter == _LINE_END or ord(letter) in known:
            return letter
        return f"U+{ord(letter):04X} " if letter.isprintable() else repr(letter)[1:-1]

    return "".join(map(one, text))


def _paths(properties: FontProperties) -> list[Any]:
    """The files of a text's font families, in order; unknown families are left out."""
    paths = []
    for family in properties.get_family():
        one = properties.copy()
        one.set_family([family])
        try:
            paths.append(findfont(one, fallback_to_default=False))
        except ValueError:
            continue
    return paths or [findfont(properties)]


@lru_cache(maxsize=32)
def _characters(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())
