"""Token views: a text's tokens, coloured by how likely an emoji comes next, in base and tuned.

The number behind a token's colour is the emoji log-odds of the *next* token, given the text up to
and including this one (`EmojiVocab.log_odds`, nats). Negative is the normal state of almost every
token, so a scale with its middle at zero would paint the whole text; the colour of the levels
therefore begins at `FLOOR` nats (0.03 %, no colour), is full at `CEILING` (98 %), and a token where
an emoji is more likely than everything else (above 0) is outlined. The difference tuned minus base
has a diverging scale, zero in the middle, clipped at `SPREAD` nats. The legend states the range.
Tokens that are no text (`</s>`) have no colour, but for the one that an answer begins after.

Every token opens by hovering, touching or from the keyboard: the likeliest next tokens of both
models, the emoji probability, the logit lens by layer, and from where a chosen head attends.

A page needs no network and no library: style, script and numbers are in it. (circuitsvis draws
such views too, but its notebooks fetch a React bundle from a CDN, and its offline form repeats
1.6 MB of script in each view; a report of many views that opens from `file://` has room for
neither.) Whatever a tokenizer or a model wrote is escaped; the script builds text nodes only. Under
a content security policy the script needs its hash or a nonce, the style `'unsafe-inline'`.
"""

from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float, Float16, Int
from torch import Tensor

from interp.base.errors import InputError, visible
from interp.base.files import write_text
from interp.base.html import themed
from interp.base.outcomes import EMOJI, reworded
from interp.base.results import Result
from interp.show.views.packing import pack_attention, rounded, script_json
from interp.show.views.pieces import Part, between_words, parts, plain
from interp.text.emoji.find import find_in_pieces

FLOOR, CEILING, SPREAD = -8.0, 4.0, 6.0
MOST_HEADS = 64
MODELS = ("base", "tuned")

_ASSETS = files("interp.show.views") / "assets"

STYLE: str = themed(".itv") + (_ASSETS / "tokens.css").read_text(encoding="utf-8")
"""Style of all token views on a page; put it there once (more often does no harm)."""

SCRIPT: str = (_ASSETS / "tokens.js").read_text(encoding="utf-8")
"""Brings every token view of a page to life; put it once after them (more often does no harm)."""


@dataclass(frozen=True, eq=False, repr=False)
class TokenView(Result):
    """What two models make of one text, token by token. Axis `model` is base, tuned.

    Attributes:
        tokens: ids of the text.
        vocabulary: of every id that occurs: (id, its bytes in hex, its name where it adds no
            bytes, whether it counts as emoji).
        joined: runs of tokens that only together make a character or an emoji: (start, end, text).
        answer_start: index of the first token of the answer; the number of tokens if there is none.
        log_odds: emoji log-odds of the next token after each position, nats.
        top_ids, top_probability: the likeliest next tokens, likeliest first.
        lens: emoji log-odds read from the residual stream at each reading point, nats.
        labels: the reading points.
        heads: (layer, head) of each pattern in `attention`; where they were chosen, the one that
            changed most first.
        attention: attention weights, query position then key position; None if not recorded.
        noise: log-odds differ by up to this much between two ways to compute the same (rounding).
        title: what stands above the view.
        outcome: what comes next or not; "emoji" above stands for it.
    """

    kind: ClassVar[str] = "token view"

    tokens: Int[Tensor, " pos"]
    vocabulary: tuple[tuple[int, str, str, bool], ...]
    joined: tuple[tuple[int, int, str], ...]
    answer_start: int
    log_odds: Float[Tensor, "model pos"]
    top_ids: Int[Tensor, "model pos top"]
    top_probability: Float[Tensor, "model pos top"]
    lens: Float[Tensor, "model layer pos"]
    labels: tuple[str, ...]
    heads: tuple[tuple[int, int], ...]
    attention: Float16[Tensor, "model head pos pos"] | None
    noise: float
    title: str
    outcome: str = EMOJI

    def __post_init__(self) -> None:
        known = {entry[0] for entry in self.vocabulary}
        lost = {*self.tokens.tolist(), *self.top_ids.flatten().tolist()} - known
        if lost:
            raise InputError(f"a token view of ids that its vocabulary lacks: {sorted(lost)[:5]}")
        if not bool(torch.isfinite(self.log_odds).all() and torch.isfinite(self.lens).all()):
            raise InputError("a token view needs finite log-odds; is the model loaded in float16?")

    def __repr__(self) -> str:
        return f"TokenView({len(self.tokens)} tokens, {len(self.heads)} heads, {self.title!r})"

    @property
    def pieces(self) -> list[bytes]:
        """The bytes of each token, none where it is no text (`</s>`)."""
        known = {entry[0]: bytes.fromhex(entry[1]) for entry in self.vocabulary}
        return [known[token] for token in self.tokens.tolist()]

    @property
    def bare(self) -> tuple[int, ...]:
        """Tokens that are no text and that no answer begins after: what follows is no reading."""
        last = self.answer_start - 1
        return tuple(i for i, piece in enumerate(self.pieces) if not piece and i != last)

    @property
    def places(self) -> Bool[Tensor, " pos"]:
        """Where an emoji could come next: after a whole word of the text, or as the first token."""
        places = torch.tensor(between_words(self.pieces))
        places[list(self.bare)] = False
        if self.answer_start:
            places[self.answer_start - 1] = True
        return places

    @property
    def opening(self) -> int:
        """The place that a view opens at: where the tuned model expects an emoji most.

        Of the answer's places (the text's, if there is no answer) up to its first emoji.
        """
        start = self.answer_start if self.answer_start < len(self.tokens) else 0
        end = start + self._first(start)
        first = max(0, start - 1)
        allowed = self.places[first : max(end, first + 1)]
        if not bool(allowed.any()):
            allowed = torch.ones_like(allowed)
        levels = self.log_odds[1, first : first + len(allowed)]
        return first + int(levels.masked_fill(~allowed, -torch.inf).argmax())

    @property
    def holds(self) -> bool:
        """Whether the outcome is written in the answer (the text, if there is no answer)."""
        start = self.answer_start if self.answer_start < len(self.tokens) else 0
        return start + self._first(start) < len(self.tokens)

    def _first(self, start: int) -> int:
        """How many tokens from `start` on stand before the first emoji."""
        if self.outcome == EMOJI:
            emojis = find_in_pieces(self.pieces[start:])
            return emojis[0].start if emojis else len(self.tokens) - start
        counted = {entry[0] for entry in self.vocabulary if entry[3]}
        rest = self.tokens[start:].tolist()
        return next((place for place, token in enumerate(rest) if token in counted), len(rest))

    @property
    def probability(self) -> Float[Tensor, "model pos"]:
        """Probability that the next token is an emoji token: the logistic of the log-odds."""
        return self.log_odds.sigmoid()

    def to_dataframe(self) -> pd.DataFrame:
        """One row per model and position, with the likeliest next token."""
        words = {entry[0]: plain(bytes.fromhex(entry[1]), entry[2]) for entry in self.vocabulary}
        rows = []
        for model, name in enumerate(MODELS):
            for place, token in enumerate(self.tokens.tolist()):
                rows.append(
                    {
                        "model": name,
                        "position": place,
                        "id": token,
                        "token": words[token],
                        "log_odds": float(self.log_odds[model, place]),
                        "unit": "nats",
                        "probability": float(self.probability[model, place]),
                        "next": words[int(self.top_ids[model, place, 0])],
                        "next_probability": float(self.top_probability[model, place, 0]),
                    }
                )
        return pd.DataFrame(rows)

    def to_html(self) -> str:
        """The view with its style and script: what a notebook shows."""
        return f"<style>{STYLE}</style>{fragment(self)}<script>{SCRIPT}</script>"

    def _repr_html_(self) -> str:
        return self.to_html()

    def save_html(self, path: Path | str) -> Path:
        """Write a page of its own that opens anywhere, also from a file."""
        allowed = b64encode(sha256(SCRIPT.encode()).digest()).decode()
        policy = (
            f"default-src 'none'; script-src 'sha256-{allowed}'; style-src 'unsafe-inline'; "
            "base-uri 'none'; form-action 'none'"
        )
        page = (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n"
            f'<body class="itv-page">\n<main>\n<h1>{escape(self.title)}</h1>\n'
            f"{fragment(self)}\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
        )
        return write_text(path, visible(page))


def fragment(view: TokenView, most_heads: int = MOST_HEADS) -> str:
    """The view's markup and numbers, without style and script: for a page that holds these once.

    Args:
        view: the view.
        most_heads: the attention of so many heads is kept, the first ones recorded.
    """
    data = script_json(_data(view, most_heads))
    return (
        f'<div class="itv" role="group" aria-label="{escape(f"Token view: {view.title}")}">'
        f'<div class="itv-tools"><span class="itv-static">Colour: the tuned model.</span></div>'
        '<div class="itv-main"><div class="itv-left">'
        '<div class="itv-text" role="listbox" aria-orientation="horizontal" '
        f'aria-label="Tokens of {escape(view.title)}">{_tokens(view)}</div>'
        f'{_legend(view.outcome)}</div><div class="itv-panel"></div></div>'
        f'<script type="application/json" class="itv-data">{data}</script></div>'
    )


def _tokens(view: TokenView) -> str:
    shown = {entry[0]: parts(bytes.fromhex(entry[1]), entry[2]) for entry in view.vocabulary}
    breaks = {entry[0] for entry in view.vocabulary if "0a" in _pairs(entry[1])}
    starts = {start: (end, text) for start, end, text in view.joined}
    ends = {end for _, end, _ in view.joined}
    made, bare = [], set(view.bare)
    for place, token in enumerate(view.tokens.tolist()):
        if place in ends:
            made.append("</span></span>")
        if place == view.answer_start:
            made.append('<span class="itv-turn" role="presentation"></span>')
        if place in starts:
            end, text = starts[place]
            label = escape(f"{text}, in {end - place} tokens")
            made.append(
                f'<span class="itv-g" role="group" aria-label="{label}">'
                f'<span class="itv-e" aria-hidden="true">{escape(text)}</span><span class="itv-p">'
            )
        level = FLOOR if place in bare else float(view.log_odds[1, place])
        likely = " itv-y" if level > 0 else ""
        made.append(
            f'<span class="itv-t{likely}" role="option" aria-selected="false" '
            f'style="--v:{_share(level):.2g}">{_marked(shown[token])}</span>'
        )
        if token in breaks:
            made.append("<br>")
    if len(view.tokens) in ends:
        made.append("</span></span>")
    return "".join(made)


def _share(log_odds: float) -> float:
    """How strong the colour of a level is, 0 to 1."""
    return min(1.0, max(0.0, (log_odds - FLOOR) / (CEILING - FLOOR)))


def _pairs(written: str) -> list[str]:
    return [written[place : place + 2] for place in range(0, len(written), 2)]


def _marked(shown: tuple[Part, ...]) -> str:
    return "".join(
        escape(text) if kind == "text" else f'<i class="itv-{kind}">{escape(text)}</i>'
        for kind, text in shown
    )


def _legend(outcome: str) -> str:
    levels = {-8.0: "0.03 %", -4.0: "1.8 %", 0.0: "50 %", 4.0: "98 %"}
    ticks = "".join(
        f'<span style="left:{100 * _share(level):.3g}%">{_signed(level)}'
        f"<small>{share}</small></span>"
        for level, share in levels.items()
    )
    return (
        f'<div class="itv-legend"><div class="itv-what">{escape(_words(outcome)["odds"])} after '
        "each token, nats (and probability); outlined above 0</div>"
        f'<div class="itv-scale"></div><div class="itv-ticks">{ticks}</div></div>'
    )


def _words(outcome: str) -> dict[str, str]:
    """What the view says of its outcome, here and in the script."""
    said = {"odds": "Emoji log-odds", "inner": "emoji log-odds", "next": "An emoji"}
    return {key: reworded(text, outcome) for key, text in said.items()}


def _signed(level: float) -> str:
    return f"{level:+.0f}".replace("-", "−") if level else "0"


def _data(view: TokenView, most_heads: int) -> dict[str, Any]:
    """The numbers that the script reads."""
    place_of = {entry[0]: place for place, entry in enumerate(view.vocabulary)}
    words = [
        [[kind[0], text] if kind != "text" else text for kind, text in parts(bytes.fromhex(b), n)]
        for _, b, n, _ in view.vocabulary
    ]
    data: dict[str, Any] = {
        "tokens": [place_of[token] for token in view.tokens.tolist()],
        "ids": [entry[0] for entry in view.vocabulary],
        "words": words,
        "emoji": [place for place, entry in enumerate(view.vocabulary) if entry[3]],
        "said": _words(view.outcome),
        "odds": rounded(view.log_odds, 6),
        "bare": list(view.bare),
        "open": view.opening,
        "top": [[[place_of[i] for i in row] for row in model] for model in view.top_ids.tolist()],
        "share": rounded(view.top_probability),
        "lens": rounded(view.lens),
        "layers": list(view.labels),
        "range": [FLOOR, CEILING, SPREAD],
        "noise": float(f"{view.noise:.2g}"),
    }
    if view.attention is not None and most_heads:
        order = sorted(range(len(view.heads))[:most_heads], key=lambda place: view.heads[place])
        data["heads"] = [list(view.heads[place]) for place in order]
        data["attention"] = [
            [pack_attention(model[place]) for place in order] for model in view.attention
        ]
    return data
