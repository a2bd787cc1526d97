"""How every figure looks: sizes, colours, colour scales, and files that are the same each time.

Colours are those of Okabe and Ito (2008), which stay apart for colour-blind readers; a Big Five
trait has the same colour in every figure and on the report's page, and any other label one of a
palette: by its place where a report says which labels there are (`among`), else by its name. The
base model is always grey. Signed
quantities get a diverging map (blue below, red above, white at zero) whose limits are symmetric
and stated on the colour bar.

`style()` is a context manager: settings hold while a figure is built or written and never after.
A name with dollar signs is a name, not mathematics, and a character that the font lacks is written
out (`lettering`).
Text in SVG is drawn as paths, so a figure looks the same on a machine without the font; text in
PDF is embedded as TrueType. Files carry no date, so the same result gives the same bytes (of one
matplotlib version).
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from interp.base.errors import InputError
from interp.base.files import write_bytes
from interp.base.traits import Trait
from interp.show.plots.latex import caption_tex
from interp.show.plots.lettering import break_titles, spell_out

ONE_COLUMN = 3.5
"""Width in inches of a figure that fits one column of a two-column page (and a telephone)."""

TWO_COLUMNS = 7.2
"""Width in inches of a figure over both columns."""

WIDTHS: dict[str, tuple[float, float]] = {
    "acl": (3.03, 6.30),
    "icml": (3.25, 6.75),
    "ieee": (3.50, 7.16),
    "neurips": (5.50, 5.50),
}
"""Width in inches of one column and of the whole text, in some venues' styles."""

TRAIT_COLOURS: dict[Trait, str] = {
    Trait.OPENNESS: "#0072B2",
    Trait.CONSCIENTIOUSNESS: "#009E73",
    Trait.EXTRAVERSION: "#E69F00",
    Trait.AGREEABLENESS: "#CC79A7",
    Trait.NEUROTICISM: "#D55E00",
}
TRAIT_MARKS: dict[Trait, str] = dict(zip(TRAIT_COLOURS, "PsD^v", strict=True))
"""A shape beside the colour, for prints in black and white."""
LABEL_COLOURS = ("#56B4E9", "#6A51A3", "#8A6D3B", "#882255", "#44AA99", "#999933")
LABEL_MARKS = "X*<>hpd"
"""Of labels that are no Big Five trait; as lists of different length, pairs return late."""
BASE_COLOUR = "#646464"
BASE_MARK = "o"
INK = "#1F2328"
FAINT = "#B8BDC4"
DIVERGING = "RdBu_r"
SEQUENTIAL = "cividis"

_OTHER_COLOURS = ("#1F2328", "#56B4E9", "#8A6D3B", "#6A51A3", "#A6761D", "#666666")
_OTHER_MARKS = "X*<>h"
_DPI = 200
_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "interp",
    "pdf.fonttype": 42,
}
_NO_DATE: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class CaptionedFigure(Figure):
    """A matplotlib figure that knows what it shows.

    Attributes:
        caption: what is plotted, in which unit, over how many observations.
        alt: one sentence for a reader who cannot see the figure.
    """

    caption: str = ""
    alt: str = ""

    def draw(self, renderer: Any) -> None:
        spell_out(self)
        break_titles(self)
        super().draw(renderer)

    def _ipython_display_(self) -> None:
        """A PNG and the caption: viewers of stored notebooks strip the styles of an SVG."""
        from IPython.display import display

        png = b64encode(render(self, "png")).decode()
        size = {"image/png": {"width": round(96 * self.get_figwidth()), "alt": self.alt}}
        display({"image/png": png, "text/plain": self.alt}, metadata=size, raw=True)
        said = {"text/html": f"<p><em>{escape(self.caption)}</em></p>", "text/plain": self.caption}
        display(said, raw=True)

    def _repr_html_(self) -> str:
        image = render(self, "svg").decode()
        picture = image[image.index("<svg") :]
        return f"<figure>{picture}<figcaption>{escape(self.caption)}</figcaption></figure>"


@contextmanager
def style() -> Iterator[None]:
    """The house's matplotlib settings, for as long as the block runs."""
    with mpl.rc_context(_SETTINGS):
        yield


def new_figure(width: float, height: float) -> CaptionedFigure:
    """An empty figure of `width` by `height` inches whose parts make room for each other."""
    return CaptionedFigure(figsize=(width, height), layout="constrained")


@contextmanager
def among(labels: Iterable[Trait]) -> Iterator[None]:
    """Give these labels colours in turn, so that no two are alike, for as long as the block runs.

    The palette holds six colours beside those of the Big Five, and 42 pairs of colour and mark.
    """
    token = _LABELS.set(tuple(label for label in labels if label not in TRAIT_COLOURS))
    try:
        yield
    finally:
        _LABELS.reset(token)


_LABELS: ContextVar[tuple[Trait, ...]] = ContextVar("labels", default=())


def trait_colour(trait: Trait | str) -> str:
    """The colour of a label.

    Raises:
        TraitError: if `trait` cannot be a label.
    """
    label = Trait.parse(trait)
    return TRAIT_COLOURS.get(label) or LABEL_COLOURS[_place(label) % len(LABEL_COLOURS)]


def trait_mark(trait: Trait | str) -> str:
    """The shape of a label's points, beside its colour.

    Raises:
        TraitError: if `trait` cannot be a label.
    """
    label = Trait.parse(trait)
    return TRAIT_MARKS.get(label) or LABEL_MARKS[_place(label) % len(LABEL_MARKS)]


def _place(label: Trait) -> int:
    """A label's place in the palette."""
    known = _LABELS.get()
    return known.index(label) if label in known else crc32(label.encode())


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """One colour per name: a trait's own, grey for the base, and others in turn."""
    others = iter(_OTHER_COLOURS * len(names))
    own = {str(trait): colour for trait, colour in TRAIT_COLOURS.items()} | {"base": BASE_COLOUR}
    return {name: own.get(name) or next(others) for name in names}


def marks_of(names: Sequence[str]) -> dict[str, str]:
    """One shape per name: a trait's own, a dot for the base, and others in turn."""
    others = iter(_OTHER_MARKS * len(names))
    own = {str(trait): mark for trait, mark in TRAIT_MARKS.items()} | {"base": BASE_MARK}
    return {name: own.get(name) or next(others) for name in names}


def resize(figure: CaptionedFigure, width: float, height: float | None = None) -> CaptionedFigure:
    """Set a figure's size in inches; type keeps its size in points, and all parts make room anew.

    Args:
        figure: the figure; it is changed and returned.
        width: `WIDTHS` has those of some venues.
        height: the height that it has, if left out.

    Raises:
        InputError: if it would be narrower than 2 or lower than 1 inch: type would not fit.
    """
    height = figure.get_figheight() if height is None else height
    if width < 2 or height < 1:
        raise InputError(f"{width:g} by {height:g} inches is too small for the type in a figure")
    figure.set_layout_engine("constrained")
    figure.set_size_inches(width, height)
    return figure


def symmetric_range(*arrays: Any) -> Normalize:
    """A colour range that is symmetric about zero and holds every value of all `arrays`.

    Raises:
        InputError: if no value is finite.
    """
    values = np.concatenate([np.asarray(array, dtype=float).ravel() for array in arrays])
    values = np.abs(values[np.isfinite(values)])
    if values.size == 0:
        raise InputError("there is no finite value to draw; check that the result is not empty")
    limit = float(values.max()) or 1.0
    return Normalize(-limit, limit)


def beyond(scale: Normalize, *arrays: Any) -> str:
    """On which side values lie beyond a colour range: `neither`, `min`, `max` or `both`."""
    values = np.concatenate([np.asarray(array, dtype=float).ravel() for array in arrays])
    low, high = bool((values < scale.vmin).any()), bool((values > scale.vmax).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(
        (low, high), "both"
    )


def render(figure: Figure, file_format: str) -> bytes:
    """The figure as the bytes of a PNG (200 dpi), SVG or PDF file; the same bytes each time.

    Raises:
        InputError: for another format.
    """
    if file_format not in _NO_DATE:
        raise InputError(f"unknown figure format {file_format!r}; use png, svg or pdf")
    buffer = BytesIO()
    with style():
        metadata = _NO_DATE[file_format]
        figure.savefig(buffer, format=file_format, dpi=_DPI, metadata=metadata)
    return buffer.getvalue()


def settle(figure: CaptionedFigure) -> None:
    """Make room for all parts once, for a figure that is drawn more than once from here on."""
    engine = figure.get_layout_engine()
    if engine is not None:
        with style():
            spell_out(figure)
            break_titles(figure)
            engine.execute(figure)
        figure.set_layout_engine(None)  # "none" would draw each file twice


def save(
    figure: Figure, stem: Path | str, formats: tuple[str, ...] = ("png", "svg")
) -> tuple[Path, ...]:
    """Write the figure to `stem` with each format's ending, atomically; return the paths.

    The caption stands beside them as `stem.tex`, for a paper.
    """
    stem = Path(stem)
    made = {ending: render(figure, ending) for ending in formats}
    if caption := getattr(figure, "caption", ""):
        made["tex"] = caption_tex(caption).encode()
    return tuple(
        write_bytes(stem.with_name(f"{stem.name}.{ending}"), written)
        for ending, written in made.items()
    )
