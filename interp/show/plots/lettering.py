"""No empty box in any text of a figure: what the font cannot draw is written out.

matplotlib draws a character that its font lacks as a box. Titles, legends and labels may hold what
a user or a tokenizer named (a method, a model, a token), so every figure is gone through before it
is drawn: an emoji becomes its CLDR short name ("red heart"), any other character its code point
("U+4F60"), a tab or control character what Python would write ("\\t"). Emojis on axes have become
images by then (`glyphs.label_axis`). Captions and alternative texts are not drawn here and keep
their characters. Looking up a figure's some hundred texts takes about a millisecond.
"""

from functools import lru_cache
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from interp.text.emoji.data import VS16, canonical, name
from interp.text.emoji.find import find

_APART = 0.08  # inches between two panels' titles
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


def break_titles(figure: Figure) -> None:
    """Break panels' titles that would run into the next panel, or off the figure.

    The panels are laid out for that without their titles, which would push them apart.
    """
    engine = figure.get_layout_engine()
    panels = {  # a title may stand above a colour bar
        axes: _left_title(axes)
        for axes in figure.axes
        if axes.get_visible() and axes.get_label() != "<colorbar>"
    }
    titles = {axes: title for axes, title in panels.items() if title is not None}
    if engine is None or not titles:
        return
    for title in titles.values():
        title.set_visible(False)
    engine.execute(figure)
    boxes = {axes: axes.get_window_extent() for axes in panels}
    for axes, title in titles.items():
        title.set_visible(True)
        box, said, wide = boxes[axes], title.get_text(), title.get_window_extent().width
        beside = [
            other.x0 for other in boxes.values()
            if other.x0 > box.x1 and other.y0 < box.y1 and other.y1 > box.y0
        ]  # fmt: skip
        room = min([*beside, figure.bbox.x1]) - box.x0 - _APART * figure.dpi
        if wide > room and _LINE_END not in said:
            fits = max(int(len(said) * room / wide), 4)
            longest = max(map(len, said.split()))
            title.set_text(fill(said, fits, break_long_words=longest > fits + 1))


def _left_title(axes: Axes) -> Text | None:
    """The text object of a panel's title."""
    said = axes.get_title("left")
    texts = (one for one in axes.get_children() if isinstance(one, Text))
    return next((one for one in texts if said and one.get_text() == said), None)


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
