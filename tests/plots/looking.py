"""What an eye would check on a figure: no text is cut off, no tick labels overlap."""

from itertools import pairwise

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from interp.show.plots import style


def texts(figure: Figure) -> list[Text]:
    """Every text that is drawn."""
    with style():
        FigureCanvasAgg(figure).draw()
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def words(figure: Figure) -> set[str]:
    return {text.get_text() for text in texts(figure)}


def check_legible(figure: Figure) -> None:
    """No text is cut off by the figure's edge, no two tick labels of an axis overlap."""
    shown = texts(figure)
    page = figure.bbox.padded(1)
    for text in shown:
        box = text.get_window_extent()
        inside = page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1)
        in_view = is_in_view(figure, text)
        assert inside or not in_view, f"{text.get_text()!r} is cut off"
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [
                tick.label1
                for tick in axis.get_major_ticks()
                if tick.label1.get_text()
                and tick.label1.get_visible()
                and _in_view(axis, tick.get_loc())
            ]
            boxes = [label.get_window_extent() for label in labels]
            for (one, first), (other, second) in pairwise(zip(boxes, labels, strict=True)):
                assert not one.padded(-0.5).overlaps(other.padded(-0.5)), (
                    f"{first.get_text()!r} overlaps {second.get_text()!r}"
                )


def _in_view(axis, place: float) -> bool:
    low, high = sorted(axis.get_view_interval())
    return low <= place <= high


def is_in_view(figure: Figure, text: Text) -> bool:
    """Whether a text is drawn: all but the labels of ticks beyond the limits of their axis."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            for tick in axis.get_major_ticks():
                if text in (tick.label1, tick.label2):
                    return _in_view(axis, tick.get_loc()) and text.get_visible()
    return True
