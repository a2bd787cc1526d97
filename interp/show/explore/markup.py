"""The explorer's tables as HTML: factors by token, and the lens; whatever was written is escaped.

Colours are of one scale each: a probability from none to full, log-odds as in token views.
"""

from collections.abc import Iterator, Sequence
from html import escape

from jaxtyping import Float
from torch import Tensor

from interp.show.explore.session import Change, Reading
from interp.show.plots.parts import fraction

_NAMES = ("P(go on)", "P(emoji given go on)")
_FLOOR, _CEILING = -8.0, 4.0
_CELL = "padding:1px 5px;text-align:center;font-variant-numeric:tabular-nums"
_NAME = (
    "padding:1px 5px;text-align:left;position:sticky;left:0;background:var(--jp-layout-color0,#fff)"
)


def tables_html(reading: Reading, change: Change | None = None) -> str:
    """A column for each token of the answer: both factors after it, then the lens by layer.

    Where the model was changed, its factors stand below the tuned model's. The table begins at its
    right end, where an answer decides for an emoji.
    """
    tokens = ("⟨start⟩", *reading.pieces[reading.start :])
    rows = [
        _heading("Both factors after each token", [_shown(piece) for piece in tokens]),
        *_factors(reading, change),
        _heading("Logit lens: emoji log-odds after each token (nats)", [""] * len(tokens)),
        *_lens(reading),
    ]
    return (
        '<div style="overflow-x:auto;direction:rtl;width:0;min-width:100%" tabindex="0" '
        'role="group" aria-label="Both factors and the lens, token by token">'
        '<table style="direction:ltr;'
        f'border-collapse:collapse;font-size:12px;white-space:pre">{"".join(rows)}</table></div>'
    )


def _factors(reading: Reading, change: Change | None) -> Iterator[str]:
    at = slice(reading.start - 1, None)
    for place, name in enumerate(_NAMES):
        for model, values in zip(("base", "tuned"), reading.chances[:, place, at], strict=True):
            yield _row(f"{name}, {model}", *_cells(values))
        if change is not None:
            without = f"{name}, tuned, {_done(change)}"
            yield _row(without, *_cells(change.chances[place, at]))


def _lens(reading: Reading) -> Iterator[str]:
    for model, values in zip(
        ("base", "tuned"), reading.lens[..., reading.start - 1 :], strict=True
    ):
        for label, layer in reversed(list(zip(reading.labels, values, strict=True))):
            shares = [(v - _FLOOR) / (_CEILING - _FLOOR) for v in layer.tolist()]
            cells = [f"{v:.1f}".replace("-", "−") for v in layer.tolist()]
            yield _row(f"{model}, after {label}", cells, shares)


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
    return [fraction(share) for share in shares], shares


def _row(name: str, cells: Sequence[str], shares: Sequence[float]) -> str:
    made = "".join(
        f'<td style="{_CELL};background:rgba(213,94,0,{min(max(0.75 * share, 0), 0.75):.2f})">'
        f"{escape(cell)}</td>"
        for cell, share in zip(cells, shares, strict=True)
    )
    return f'<tr><th scope="row" style="{_NAME};font-weight:500">{escape(name)}</th>{made}</tr>'


def _heading(name: str, cells: Sequence[str]) -> str:
    made = "".join(f'<th scope="col" style="{_CELL}">{escape(cell)}</th>' for cell in cells)
    return f'<tr><th scope="row" style="{_NAME}">{escape(name)}</th>{made}</tr>'


def _shown(piece: str) -> str:
    return piece.replace("\n", "⏎") or "·"
