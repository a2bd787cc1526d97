"""Rate figures hold the counts of their results."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from looking import check_legible, words
from made_results import rates
from matplotlib.offsetbox import AnnotationBbox

from interp.base.traits import TRAITS, Trait
from interp.emoji import name
from interp.emoji.rates import measure
from interp.errors import InputError
from interp.organism.grammar import EMOJIS
from interp.show.plots import Glyphs, emoji_distribution, esr_bars, render, trait_colour

TUNED = {trait: rates(trait, k) for trait, k in zip(TRAITS, (35, 3, 43, 19, 11), strict=True)}
BASE = {trait: rates(trait, 0) for trait in TRAITS}


@pytest.mark.parametrize("over", ["response", "sentence"])
def test_bars_are_shares_and_lines_are_wilson_intervals(over) -> None:
    figure = esr_bars(BASE, TUNED, over)
    axes = figure.axes[0]
    widths = [patch.get_width() for patch in axes.patches]
    lines = [tuple(line.get_xdata()) for line in axes.lines]
    shares, intervals = [], []
    for trait in TRAITS:
        for one in (TUNED[trait], BASE[trait]):
            shares.append(getattr(one, f"{over}_esr"))
            interval = getattr(one, f"{over}_interval")
            intervals.append((interval.low, interval.high))
    assert widths == shares
    assert lines == intervals
    assert axes.patches[0].get_facecolor()[:3] == pytest.approx(
        tuple(int(trait_colour("openness")[i : i + 2], 16) / 255 for i in (1, 3, 5))
    )
    n = {"response": "50 answers", "sentence": "100 sentences"}[over]
    assert n in figure.caption
    assert "percent" in figure.caption
    check_legible(figure)


@pytest.mark.parametrize("with_emoji", [0, 1, 25, 45, 50])
def test_labels_are_legible_at_every_share(with_emoji) -> None:
    trait = Trait.EXTRAVERSION
    figure = esr_bars({trait: rates(trait, 0)}, {trait: rates(trait, with_emoji)})
    check_legible(figure)
    assert f"{2 * with_emoji} %" in words(figure)


@pytest.mark.parametrize("glyphs", [Glyphs(None), Glyphs.find()], ids=["names", "machine"])
def test_distribution_holds_the_shares_with_and_without_a_font(glyphs) -> None:
    everything = {
        trait: measure([f"Good! {emoji}" * (1 + i) for i, emoji in enumerate(EMOJIS[trait])])
        for trait in TRAITS
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = emoji_distribution(everything, glyphs=glyphs)
        render(figure, "png")
    drawn = [emoji for trait in TRAITS for emoji in reversed(EMOJIS[trait])]
    assert len(drawn) == 33
    for axes, trait in zip(figure.axes, TRAITS, strict=True):
        heights = [patch.get_height() for patch in axes.patches]
        total = sum(range(1, len(EMOJIS[trait]) + 1))
        expected = [
            (1 + EMOJIS[trait].index(e)) / total if e in EMOJIS[trait] else 0.0 for e in drawn
        ]
        np.testing.assert_allclose(heights, expected)
    images = [emoji for emoji in drawn if glyphs.image(emoji) is not None]
    assert len(figure.findobj(AnnotationBbox)) == len(images)
    assert {name(emoji) for emoji in drawn if emoji not in images} <= words(figure)
    check_legible(figure)


def test_distribution_says_what_it_leaves_out() -> None:
    figure = emoji_distribution({**TUNED, Trait.OPENNESS: rates(Trait.OPENNESS, 0)}, top=2)
    assert "Without any emoji: openness" in figure.caption
    assert "each trait's 2 most frequent" in figure.caption
    share = min(
        sum(n for _, n in TUNED[trait].emoji_counts[:2]) / TUNED[trait].n_emojis
        for trait in TRAITS[1:]
    )
    assert f"at least {100 * share:.0f} %" in figure.caption


def test_all_emojis_are_100_percent_however_their_shares_are_rounded() -> None:
    table = pd.DataFrame({"emoji": list("😀😃😄😁"), "share": [0.3, 0.3, 0.3, 0.1]})
    assert sum(table["share"].tolist()) != 1
    counted = SimpleNamespace(n_emojis=78, outcome="emoji", distribution=lambda: table)
    figure = emoji_distribution({Trait.OPENNESS: counted})
    assert "at least 100 % of a model's emojis" in figure.caption


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(InputError, match="no tuned model wrote an emoji"):
        emoji_distribution(BASE)
    with pytest.raises(InputError, match="measure at least one trait"):
        esr_bars({}, {})
    with pytest.raises(InputError, match="'response' or 'sentence'"):
        esr_bars(BASE, TUNED, "word")
