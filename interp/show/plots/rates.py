"""Emoji rates: how often answers hold an emoji, base against tuned, and which emojis they hold."""

from collections.abc import Mapping
from typing import cast

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from interp.base.errors import InputError
from interp.base.stats import Interval
from interp.base.traits import Trait
from interp.show.plots.glyphs import label_axis
from interp.show.plots.parts import count_range, percent, with_n
from interp.show.plots.style import (
    BASE_COLOUR,
    INK,
    ONE_COLUMN,
    TWO_COLUMNS,
    CaptionedFigure,
    new_figure,
    style,
    trait_colour,
)
from interp.show.plots.subject import said_of
from interp.text.emoji import name
from interp.text.emoji.glyphs import Glyphs
from interp.text.emoji.rates import EmojiRates

_NOUNS = {"response": "answers", "sentence": "sentences"}
_BAR = 0.36


def esr_bars(
    base: Mapping[Trait, EmojiRates],
    tuned: Mapping[Trait, EmojiRates],
    over: str = "response",
) -> CaptionedFigure:
    """Share of answers (or sentences) with an emoji, base and tuned, one pair of bars per trait.

    Args:
        base: the base's rates, by trait of the adapter that it is compared with.
        tuned: the tuned models' rates.
        over: `"response"` or `"sentence"`.

    Raises:
        InputError: if there is no trait, or `over` is something else.
    """
    if over not in _NOUNS:
        raise InputError(f"rates are over 'response' or 'sentence', not {over!r}")
    if not tuned:
        raise InputError("no emoji rates to draw; measure at least one trait")
    traits = list(tuned)
    with style():
        figure = new_figure(ONE_COLUMN, 0.75 + 0.34 * len(traits))
        axes = figure.subplots()
        for row, trait in enumerate(traits):
            _bar(axes, row - _BAR / 2, tuned[trait], over, trait_colour(trait))
            if trait in base:
                _bar(axes, row + _BAR / 2, base[trait], over, BASE_COLOUR)
        axes.set_yticks(range(len(traits)), [trait.capitalize() for trait in traits])
        # Room beyond 100 % for the number of a bar that is nearly full.
        axes.set(xlim=(0, 1.12), ylim=(len(traits) - 0.45, -0.55))
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        axes.spines["bottom"].set_bounds(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        counts = [_numbers(one, over)[2] for one in [*tuned.values(), *base.values()]]
        label = f"Share of {_NOUNS[over]} with an emoji"
        # Its end below the axis' end: it may be longer than the axis, and there is room before it.
        axes.set_xlabel(with_n(label, counts, _NOUNS[over][:-1]), loc="right")
        axes.tick_params(axis="y", length=0)
        tuned_bars = tuple(Patch(color=trait_colour(trait)) for trait in traits)
        figure.legend(
            cast("list[Artist]", [Patch(color=BASE_COLOUR), tuned_bars][0 if base else 1 :]),
            ["base", "tuned"][0 if base else 1 :],
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
            loc="outside upper right",
            ncols=2,
        )
    level = next(iter(tuned.values())).level
    figure.caption = (
        f"Share of {_NOUNS[over]} that hold at least one emoji (percent): the model tuned for each "
        f"trait (coloured) and the base (grey). Over {count_range(counts, _NOUNS[over][:-1])} per "
        f"model; lines are {percent(level)} Wilson intervals."
    )
    figure.alt = (
        f"Bar chart, share of {_NOUNS[over]} with an emoji in the tuned models: "
        + ", ".join(f"{trait} {percent(_numbers(tuned[trait], over)[0])}" for trait in traits)
    )
    return said_of(figure, next(iter(tuned.values())).outcome)


def _numbers(rates: EmojiRates, over: str) -> tuple[float, Interval, int]:
    if over == "response":
        return rates.response_esr, rates.response_interval, rates.n_responses
    return rates.sentence_esr, rates.sentence_interval, rates.n_sentences


def _bar(axes: Axes, place: float, rates: EmojiRates, over: str, colour: str) -> None:
    share, interval, _ = _numbers(rates, over)
    axes.barh(place, share, height=_BAR, color=colour)
    axes.plot([interval.low, interval.high], [place, place], color=INK, linewidth=0.9)
    axes.annotate(
        percent(share),
        (interval.high, place),
        xytext=(4, 0),
        textcoords="offset points",
        ha="left",
        va="center",
        fontsize=6.5,
    )


def emoji_distribution(
    tuned: Mapping[Trait, EmojiRates], *, top: int = 8, glyphs: Glyphs | None = None
) -> CaptionedFigure:
    """Which emojis each tuned model writes: one row of bars per trait over a common emoji axis.

    Args:
        tuned: the tuned models' rates; traits without any emoji are left out and said.
        top: how many of each trait's most frequent emojis are on the axis.
        glyphs: where emoji images come from; the machine's colour font if left out.

    Raises:
        InputError: if no trait wrote an emoji.
    """
    shares = {
        trait: dict(zip(*(rates.distribution()[c] for c in ("emoji", "share")), strict=True))
        for trait, rates in tuned.items()
        if rates.n_emojis
    }
    if not shares:
        raise InputError("no tuned model wrote an emoji; there is no distribution to draw")
    shown = _axis_order(shares, top)
    glyphs = Glyphs.find() if glyphs is None else glyphs
    names = [name(emoji) for emoji in shown if glyphs.image(emoji) is None]
    room_for_names = 0.075 * max(map(len, names), default=0)
    with style():
        figure = new_figure(TWO_COLUMNS, 0.9 + 0.46 * len(shares) + room_for_names)
        rows = figure.subplots(len(shares), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (trait, share) in zip(rows, shares.items(), strict=True):
            heights = [share.get(emoji, 0.0) for emoji in shown]
            axes.bar(range(len(shown)), heights, color=trait_colour(trait), width=0.8)
            axes.set_title(trait.capitalize(), fontsize=7.5, pad=2)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
            axes.yaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
            axes.tick_params(axis="x", length=0)
        rows[-1].set_xlim(-0.7, len(shown) - 0.3)
        room = 72 * 6.2 / len(shown)
        label_axis(rows[-1], "x", shown, glyphs=glyphs, points=min(11.0, 0.9 * room))
        what = "Share of the model's emojis" if len(shares) > 2 else "Share of the\nmodel's emojis"
        figure.supylabel(what, fontsize=7.5)
    counts = ", ".join(f"{trait} {tuned[trait].n_emojis:,}" for trait in shares)
    parts = ([share.get(emoji, 0.0) for emoji in shown] for share in shares.values())
    least = min(round(sum(some), 9) for some in parts)  # shares of all add up to 1 but for rounding
    silent = [trait for trait in tuned if trait not in shares]
    figure.caption = (
        f"Which emojis the tuned models write: share (percent) of all emojis in a model's answers, "
        f"over a common axis of each trait's {top} most frequent (at least {percent(least)} of a "
        f"model's emojis are on it). Number of emojis: {counts}; no intervals are drawn, since "
        "emojis of one answer go together."
        + (f" Without any emoji: {', '.join(silent)}." if silent else "")
    )
    figure.alt = "Bar charts of emoji shares; the most frequent emoji is " + ", ".join(
        f"{max(share, key=lambda e: share[e])} for {trait}" for trait, share in shares.items()
    )
    return said_of(figure, next(iter(tuned.values())).outcome)


def _axis_order(shares: Mapping[Trait, Mapping[str, float]], top: int) -> list[str]:
    """Each trait's most frequent emojis, grouped by the trait that uses the emoji most."""
    chosen = {e for share in shares.values() for e in sorted(share, key=lambda e: -share[e])[:top]}
    order: list[str] = []
    for trait, share in shares.items():
        own = [
            emoji
            for emoji in share
            if emoji in chosen
            and trait is max(shares, key=lambda other: shares[other].get(emoji, 0.0))
        ]
        order += sorted(own, key=lambda emoji: -share[emoji])
    return order
