"""The explorer's tables as HTML: factors by token, and the lens; whatever was written is escaped.

Colours are of one scale each: a probability from none to full, log-odds as in token views.
"""

from collections.abc import Sequence
from html import escape

from jaxtyping import Float
from torch import Tensor

from interp.show.explore.session import Change, Reading

_NAMES = ("P(go on)", "P(emoji given go on)")
_FLOOR, _CEILING = -8.0, 4.0
_CELL = "padding:1px 5px;text-align:center;font-variant-numeric:tabular-nums"


def factors_html(reading: Reading, change: Change | None = None) -> str:
    """Both factors after each token of the answer: base, tuned, and tuned without the part."""
    at = slice(reading.start - 1, None)
    head = _row("", [_shown(piece) for piece in ("⟨start⟩", *reading.pieces[reading.start :])])
    rows = [head]
    for place, name in enumerate(_NAMES):
        for model, values in zip(("base", "tuned"), reading.chances[:, place, at], strict=True):
            rows.append(_row(f"{name}, {model}", *_cells(values)))
        if change is not None:
            without = f"{name}, tuned, {_done(change)}"
            rows.append(_row(without, *_cells(change.chances[place, at])))
    return _table(rows, "Both factors after each token")


def lens_html(reading: Reading) -> str:
    """The lens' log-odds of an emoji by layer, after each token of the answer: base, tuned."""
    at = slice(reading.start - 1, None)
    rows = []
    for model, values in zip(("base", "tuned"), reading.lens[..., at], strict=True):
        for label, layer in reversed(list(zip(reading.labels, values, strict=True))):
            shares = [(v - _FLOOR) / (_CEILING - _FLOOR) for v in layer.tolist()]
            cells = [f"{v:.1f}".replace("-", "−") for v in layer.tolist()]
            rows.append(_row(f"{model}, after {label}", cells, shares))
    return _table(rows, "Logit lens, emoji log-odds (nats) after each token")


def answers_html(reading: Reading, change: Change | None = None) -> str:
    """The answer that stands, and the one that is written without the part."""
    said = [("tuned", reading.answer)]
    if change is not None:
        said.append((f"tuned, {_done(change)}", change.answer))
    return "".join(
        f'<p style="margin:.2em 0"><b>{escape(who)}:</b> <span dir="auto">{escape(text)}</span></p>'
        for who, text in said
    )


def _done(change: Change) -> str:
    return f"{change.part} {'ablated' if change.how == 'ablate' else 'patched from the base'}"


def _cells(values: Float[Tensor, " pos"]) -> tuple[list[str], list[float]]:
    shares = values.tolist()
    return [f"{share:.2f}" for share in shares], shares


def _row(name: str, cells: Sequence[str], shares: Sequence[float] = ()) -> str:
    filled = [*shares, *[0.0] * (len(cells) - len(shares))]
    made = "".join(
        f'<td style="{_CELL};background:rgba(213,94,0,{min(max(0.75 * share, 0), 0.75):.2f})">'
        f"{escape(cell)}</td>"
        for cell, share in zip(cells, filled, strict=True)
    )
    return f'<tr><th style="{_CELL};text-align:left;font-weight:500">{escape(name)}</th>{made}</tr>'


def _table(rows: Sequence[str], label: str) -> str:
    return (
        f'<div style="overflow-x:auto" tabindex="0" role="group" aria-label="{escape(label)}">'
        f'<table style="border-collapse:collapse;font-size:12px;white-space:pre">'
        f'<caption style="text-align:left">{escape(label)}</caption>{"".join(rows)}</table></div>'
    )


def _shown(piece: str) -> str:
    return piece.replace("\n", "⏎") or "·"
