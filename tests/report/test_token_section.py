"""The section of token views and other sentences: what they say of planted numbers."""

from dataclasses import replace

import pytest
import torch
from made_results import factors, patching

from interp.base.traits import Trait
from interp.emoji import find
from interp.report.blocks import Maker, Part, Section, ViewBlock
from interp.report.collect import Contents, TraitResults
from interp.report.lighten import lighten
from interp.report.sections import patching as places
from interp.report.sections import tokens
from interp.show import plots
from interp.show.views import TokenView
from interp.study.catalogue import PATCHING, TOKEN_VIEWS
from interp.study.runs import RunFolder

WORDS = ("Do", " you", "?", "Yes", "!", " 🎉")


def view(peak: float, gap: float, *, emoji: bool = True, n_heads: int = 4) -> TokenView:
    """Six tokens; the tuned model's log-odds are `peak` after the fifth, the base's `gap` less."""
    tokens = torch.arange(6 if emoji else 5)
    n = len(tokens)
    tuned = torch.full((n,), -7.0)
    tuned[4] = peak
    odds = torch.stack([tuned, tuned])
    odds[0, 4] -= gap
    pattern = torch.rand(2, n_heads, n, n, generator=torch.Generator().manual_seed(0)).tril()
    return TokenView(
        tokens=tokens,
        vocabulary=tuple((i, w.encode().hex(), "", bool(find(w))) for i, w in enumerate(WORDS)),
        joined=(),
        answer_start=3,
        log_odds=odds,
        top_ids=torch.zeros(2, n, 1, dtype=torch.long),
        top_probability=torch.full((2, n, 1), 0.5),
        lens=odds[:, None].repeat(1, 2, 1),
        labels=("embedding", "final"),
        heads=tuple((1, head) for head in range(n_heads)),
        attention=pattern.half(),
        noise=3e-5,
        title="Do you?",
    )


@pytest.fixture
def made(tmp_path):
    """`made(rows, openness=..., ...)`: contents with these results of the rows, and a maker."""
    folder = RunFolder.create(tmp_path / "run", {})

    def contents(rows, **traits) -> tuple[Contents, Maker]:
        found = tuple(
            TraitResults(Trait(name), {row.name: one for row, one in zip(rows, some, strict=False)})
            for name, some in traits.items()
        )
        return Contents(folder, folder.manifest, found), Maker(folder.path)

    return contents


def test_token_views_are_summed_up_over_traits(made) -> None:
    some = {"openness": [view(0.0, 1.0), view(2.0, 3.5, emoji=False)], "neuroticism": [view(3, 0)]}
    section = tokens.section(*made(TOKEN_VIEWS, **some))
    # logistic(0), logistic(3), and the base's logistic(-1), logistic(3)
    assert "they give it 50 % (openness) to 95 % (neuroticism), and the base" in section.answer
    assert "after the same words, 27 % (openness) to 95 % (neuroticism)." in section.answer
    assert "places of 3 answers where an emoji could come next" in section.answer
    assert "base and tuned differ by up to 3.5 nats" in section.answer
    assert "(openness); differences up to 0.00003 are rounding." in section.answer
    openness, neuroticism = section.parts
    assert [part.unfolded for part in section.parts] == [True, False]
    assert [block.label for block in openness.views] == [
        "", "Another answer, without any emoji: Do you?",
    ]  # fmt: skip
    assert "88 % and the base, on the same words, 18 % (+3.50 nats" in openness.views[1].words
    assert len(neuroticism.views) == 1


def test_one_view_of_one_trait_names_no_trait(made) -> None:
    section = tokens.section(*made(TOKEN_VIEWS, openness=[view(0.0, 1.0)]))
    assert "in the answer below, it gives 50 %, and the base, after the same words, 27 %." in (
        section.answer
    )
    assert "the places of 1 answer where an emoji could come next" in section.answer


def test_a_place_within_a_word_is_no_place_for_an_emoji(made) -> None:
    """Planted: the largest level and difference stand within the word `Yester`."""
    odd = view(0.0, 1.0)
    split = (*WORDS[:3], "Yes", "ter", "!")
    odds = odd.log_odds.clone()
    odds[1, 3], odds[0, 3] = 5.0, -4.0
    vocabulary = tuple((i, w.encode().hex(), "", False) for i, w in enumerate(split))
    odd = replace(odd, vocabulary=vocabulary, log_odds=odds)
    section = tokens.section(*made(TOKEN_VIEWS, openness=[odd]))
    assert "in the answer below, it gives 50 %" in section.answer
    assert "differ by up to 1.0 nats" in section.answer


def test_views_that_are_too_heavy_keep_fewer_heads() -> None:
    views = {Trait.OPENNESS: [view(0, 1, n_heads=16), view(0, 1, n_heads=16)]}
    weights = {}
    for budget in (10**9, 0):
        most, markup = tokens._fragments(views, budget)
        weights[most] = sum(len(text.encode()) for text in markup[Trait.OPENNESS])
    assert set(weights) == {64, 0}
    most, markup = tokens._fragments(views, (weights[64] + weights[0]) // 2)
    assert most in (1, 2, 4, 8)
    assert weights[0] < sum(len(text.encode()) for text in markup[Trait.OPENNESS]) < weights[64]


def test_figures_make_room_for_views(tmp_path) -> None:
    part = Part(Trait.OPENNESS, views=[ViewBlock("x" * 5000, 1, "")])
    maker = Maker(tmp_path)
    figure = plots.patching_heads(patching("z", n_layers=32, n_units=32), Trait.OPENNESS)
    part.figures.append(maker.figure("heavy", figure))
    budget = len(part.figures[0].uri) + 4999
    lighten([Section("One?", "One.", parts=[part])], tmp_path / "figures", budget)
    assert part.figures[0].uri.startswith("data:image/png")


@pytest.mark.parametrize(
    ("carries", "title", "factor"),
    [
        ("go_on", "carry going on?", "Going on makes"),
        ("given_go_on", "carry the emoji, given that the writer goes on?", "The emoji, given that"),
    ],
)
def test_the_factor_that_carries_the_difference_comes_first(made, carries, title, factor):
    """Planted: seven nats in one factor, a tenth in the other."""
    sweep = factors("z", n_units=4, carries=carries)
    (row,) = [row for row in PATCHING if row.name == "patching-model-denoising-z"]
    section = places.section(*made([row], openness=[sweep]))
    assert section.title.endswith(title)
    assert section.detail.startswith(factor)
    assert section.detail.count("P(go on)") == section.detail.count("P(emoji given go on)") == 1
    name = {"go_on": "go on (nats)", "given_go_on": "emoji given go on (nats)"}[carries]
    assert [name in block.caption for block in section.figures] == [True]
    (fold,) = section.folds
    assert ["emoji log-odds (nats)" in block.caption for block in fold.figures] == [True]
    assert section.tables[0].rows[0].cells[1].text == (
        "going on" if carries == "go_on" else "emoji given go on"
    )
