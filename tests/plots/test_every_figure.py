"""Rules that hold for every kind of figure, on made results: nothing clipped, no box, n said."""

import importlib
import pkgutil
import re
import warnings
from collections.abc import Callable
from functools import cache
from itertools import combinations, pairwise
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest
from looking import check_legible, is_in_view, texts
from made_results import latents, lens, origin, patching, probe, rates
from matplotlib.colors import to_hex
from matplotlib.text import Text
from test_adapter_figures import effects, interpolation, smallest
from test_circuit_figures import curve as faithfulness
from test_circuit_figures import scores
from test_measure_figures import alignment, evaluation, survival
from test_measure_figures import report as self_report
from test_neuron_figures import attribution, shifted
from test_neuron_figures import curve as dose
from thinned import thinned

import interp.show.plots
from interp import adapters, circuits
from interp.base.traits import TRAITS, Trait
from interp.emoji import name
from interp.organism.grammar import EMOJIS
from interp.show.plots import CaptionedFigure, Glyphs, render
from interp.show.plots.lettering import drawable, font_characters
from interp.show.plots.style import BASE_COLOUR, DIVERGING, TRAIT_COLOURS, TRAIT_MARKS

ORGANISM = [emoji for emojis in EMOJIS.values() for emoji in emojis]
TUNED = {trait: rates(trait, 10 + 5 * i) for i, trait in enumerate(TRAITS)}
CLUSTERS = list("abcdef") * 2


def tokens() -> pd.DataFrame:
    rows = [(str(trait), word, 0.5, 0.1, 40) for trait in TRAITS[:2]
            for word in ["party", *EMOJIS[trait], "家", "$x_1$"]]  # fmt: skip
    return pd.DataFrame(rows, columns=["trait", "token", "value", "base", "n"])


def dotted() -> pd.DataFrame:
    rows = [(group, str(trait), 0.4, 0.3, 0.5, 40) for group in ("base", "QLoRA")
            for trait in TRAITS]  # fmt: skip
    return pd.DataFrame(rows, columns=["group", "trait", "value", "low", "high", "n"])


def circuit(trait: str, seed: int):
    return circuits.select(scores(seed=seed), 30, name=trait)


def overlap() -> adapters.Overlap:
    found = [effects(seed=seed) for seed in range(2)]
    return adapters.overlap({str(TRAITS[i]): one for i, one in enumerate(found)})


def dosed() -> pd.DataFrame:
    """Expected rates of two traits over three doses, with a control at the full one."""
    asked = [(dose, "seed 0") for dose in (0.25, 0.5, 1.0)] + [(1.0, "dealt")]
    rows = [
        {"trait": str(trait), "adapter": adapter, "dose": dose, "measure": measure, "n": 12,
         "value": value * dose, "low": value * dose / 3, "high": min(1, value * dose * 3)}
        for trait in TRAITS[:2] for dose, adapter in asked
        for measure, value in (("base", 1e-3), ("own", 0.4), ("text", 2e-2))
    ]  # fmt: skip
    return pd.DataFrame(rows)


FIGURES: dict[str, tuple[Callable[..., CaptionedFigure], ...]] = {
    "adapter_maps": (lambda draw: draw([effects()], "openness"),
                     lambda draw: draw([effects(n_layers=12)], "openness"),
                     lambda draw: draw({str(t): effects(seed=i) for i, t in enumerate(TRAITS)})),
    "adjective_dots": (
        lambda draw: draw({"QLoRA": {trait: evaluation(trait, 0.5, 3) for trait in TRAITS}}),),
    "alignment_dots": (
        lambda draw: draw({"QLoRA": {trait: alignment(trait, 30) for trait in TRAITS}}),),
    "attribution_components": (lambda draw: draw(attribution(), "openness", clusters=CLUSTERS),),
    "attribution_heads": (lambda draw: draw(attribution("head"), "openness"),),
    "circuit_graph": (lambda draw: draw(circuit("openness", 0), "openness"),),
    "circuit_overlap": (lambda draw: draw(circuits.compare(
        {str(t): circuit(str(t), i) for i, t in enumerate(TRAITS)}, n_permutations=19)),),
    "dose_curve": (lambda draw: draw(dose(), "openness"),),
    "dose_curves": (lambda draw: draw(dosed(), ("own", "text"), "dealt"),),
    "dots": (lambda draw: draw(dotted(), "share of answers", share=True),),
    "emoji_distribution": (lambda draw: draw(TUNED), lambda draw: draw(TUNED, glyphs=Glyphs(None))),
    "esr_bars": (lambda draw: draw({t: rates(t, 0) for t in TRAITS}, TUNED),),
    "esr_curve": (lambda draw: draw(interpolation(), "openness"),),
    "faithfulness_curve": (
        lambda draw: draw(faithfulness(), "openness"),
        lambda draw: draw({"openness": faithfulness(), "neuroticism": faithfulness(seed=1)})),
    "latent_effects": (lambda draw: draw(latents(), "openness"),
                       lambda draw: draw(latents(), factor="go_on", top=3)),
    "lens_curves": (lambda draw: draw(lens(n_layers=32), "openness", clusters=CLUSTERS),
                    lambda draw: draw({str(t): lens(seed=i) for i, t in enumerate(TRAITS)})),
    "lens_heatmap": (lambda draw: draw(lens(), "openness"),
                     lambda draw: draw({str(t): lens(seed=i) for i, t in enumerate(TRAITS)})),
    "neuron_shift": (lambda draw: draw(shifted(), "openness"),),
    "onset_curves": (lambda draw: draw({"base": survival(0.0), "openness": survival(0.8, 1)}),),
    "overlap_matrix": (lambda draw: draw(overlap()),),
    "patching_heads": (lambda draw: draw(patching("z"), "openness"),
                       lambda draw: draw({str(t): patching("z", seed=i)
                                          for i, t in enumerate(TRAITS)})),
    "patching_maps": (lambda draw: draw([patching(s) for s in ("resid_pre", "mlp_out")], "E"),
                      lambda draw: draw({str(t): [patching("resid_pre", seed=i)]
                                         for i, t in enumerate(TRAITS)})),
    "probing_curves": (lambda draw: draw({str(t): probe() for t in TRAITS}),
                       lambda draw: draw(probe(), "openness"),
                       lambda draw: draw(probe(), "openness", "accuracy")),
    "questionnaire_scores": (
        lambda draw: draw([self_report("base", 0.1), self_report("neuroticism", 0.8)]),),
    "smallest_set_curve": (lambda draw: draw(smallest(28), "openness"),),
    "text_or_weights": (lambda draw: draw({trait: origin() for trait in TRAITS}),
                        lambda draw: draw({Trait.OPENNESS: origin()})),
    "token_bars": (lambda draw: draw(tokens()),
                   lambda draw: draw(tokens(), glyphs=Glyphs(None))),
}  # fmt: skip

WITHOUT_INTERVALS = {
    "emoji_distribution": "no intervals",
    "token_bars": "without intervals",
    # Maps of means: what is told apart from zero, or from chance, is marked where it is tested.
    "adapter_maps": "false discovery rate",
    "circuit_overlap": "false discovery rate",
    "neuron_shift": "false discovery rate",
    "overlap_matrix": "false discovery rate",
    "attribution_heads": "range",
    "circuit_graph": "EAP-IG",
    "lens_heatmap": "range",
    "patching_heads": "range",
    "patching_maps": "range",
}


def found() -> dict[str, Callable[..., CaptionedFigure]]:
    """Every public function of the room that is handed something and makes a figure of it."""
    made = {}
    for module in pkgutil.iter_modules(interp.show.plots.__path__):
        room = importlib.import_module(f"interp.show.plots.{module.name}")
        for known, value in vars(room).items():
            own = getattr(value, "__module__", "") == room.__name__ and not known.startswith("_")
            is_function = own and callable(value) and not isinstance(value, type)
            if not is_function or module.name == "style":
                continue
            takes = get_type_hints(value)
            makes = takes.pop("return", None) is CaptionedFigure
            if makes and CaptionedFigure not in takes.values():
                made[known] = value
    return made


DRAW = found()
CASES = [(kind, i) for kind, made in FIGURES.items() for i in range(len(made))]
every = pytest.mark.parametrize("case", thinned(CASES, keep=5))


@pytest.fixture(scope="module")
def figures() -> Callable[[tuple[str, int]], CaptionedFigure]:
    return cache(lambda case: FIGURES[case[0]][case[1]](DRAW[case[0]]))


def test_all_kinds_are_here():
    assert set(FIGURES) == set(DRAW)
    exported = {known for known in interp.show.plots.__all__ if known in DRAW}
    assert set(DRAW) - exported == {"dose_curves", "dots", "token_bars"}


@every
def test_a_figure_says_what_it_shows_and_over_how_many(case, figures):
    figure = figures(case)
    nouns = "prompt|answer|question|item|example|draw|permutation|emoji|edge|unit|topic"
    counted = re.search(rf"\d[\d,]*( \w+)? ({nouns})s?\b|: \w+ \d+", figure.caption)
    assert counted, figure.caption
    assert figure.caption.endswith((".", ")"))
    assert not re.search(r"  |\bnan\b|\{|\}", figure.caption + figure.alt), figure.caption
    assert len(figure.alt) > 40
    said = WITHOUT_INTERVALS.get(case[0], "interval|bootstrap")
    assert re.search(said, figure.caption), figure.caption


@every
def test_text_is_whole_large_enough_and_apart(case, figures):
    figure = figures(case)
    check_legible(figure)
    shown = [text for text in texts(figure) if text.get_text().strip()]
    assert min(text.get_fontsize() for text in shown) >= 5
    free = [text for text in shown if is_in_view(figure, text)]
    # of an annotation the words alone, without the line that leads to them
    boxes = [(text.get_text(), Text.get_window_extent(text).padded(-1)) for text in free]
    for (one, first), (other, second) in combinations(boxes, 2):
        assert not first.overlaps(second), f"{one!r} lies on {other!r}"


@every
def test_every_letter_is_in_its_font(case, figures):
    for text in texts(figures(case)):
        known = font_characters(text)
        missing = {letter for letter in text.get_text() if ord(letter) not in known} - {"\n"}
        assert not missing, f"{text.get_text()!r} would have a box for {missing}"
        assert not text.get_parse_math()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that is missing
        render(figures(case), "png")


@every
def test_signed_colours_are_centred_and_their_range_is_said(case, figures):
    figure = figures(case)
    maps = [image for axes in figure.axes for image in axes.images if image.get_array().ndim == 2]
    signed = [image for image in maps if image.get_cmap().name == DIVERGING]
    for image in signed:
        low, high = image.get_clim()
        assert low == -high < 0
        beyond = np.abs(np.ma.filled(image.get_array(), 0)).max() > high
        assert not beyond or "beyond it have its last colour" in figure.caption
        at_zero = np.array(image.get_cmap()(image.norm(0.0)))
        assert (at_zero[:3] > 0.95).all(), "zero is white"
    if signed:
        assert re.search(r"range ±\d|from −1 to 1", figure.caption), figure.caption
        assert any(axes.get_label() == "<colorbar>" for axes in figure.axes)


@every
def test_a_traits_points_have_its_shape(case, figures):
    own = {colour: TRAIT_MARKS[trait] for trait, colour in TRAIT_COLOURS.items()}
    own[BASE_COLOUR] = "o"
    for axes in figures(case).axes:
        for line in axes.lines:
            colour, mark = to_hex(line.get_color()).upper(), line.get_marker()
            is_control = mark == "x" or line.get_linestyle() == ":"
            if colour in own and mark not in ("None", "", None, ".", "_") and not is_control:
                assert mark == own[colour], (colour, mark)


NAMES = ["QLoRA 🎉", "你好", "cost $5 to $6", "tab\there", "👩🏽‍🚀 crew", "☀️☀", "नमस्ते"]


def test_hostile_names_are_written_out_in_every_place_they_can_reach():
    table = pd.concat([dotted().assign(group=one, trait=one) for one in NAMES])
    drawn = [
        DRAW["dots"](table, "share 🎉 of 你"),
        DRAW["onset_curves"]({one: survival(0.5, i) for i, one in enumerate(NAMES)}),
        DRAW["questionnaire_scores"]([self_report(one, 0.1) for one in NAMES[:4]]),
        DRAW["alignment_dots"]({n: {Trait.OPENNESS: alignment(TRAITS[0], 9)} for n in NAMES}),
    ]
    for figure in drawn:
        shown = " | ".join(text.get_text() for text in texts(figure))
        for text in texts(figure):
            assert {ord(letter) for letter in text.get_text()} - {10} <= font_characters(text)
        assert "QLoRA party popper" in shown
        assert "U+4F60 U+597D" in shown
        assert "cost $5 to $6" in shown
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            render(figure, "png")


def test_what_the_font_has_stays_and_what_it_lacks_is_named():
    latin = frozenset(range(32, 0x2300))
    assert drawable("α − β → 3 × 2", latin) == "α − β → 3 × 2"
    assert drawable("a\nb", latin) == "a\nb"
    for emoji in ORGANISM:
        assert drawable(f"so {emoji}!", latin) == f"so {name(emoji)} !"
        assert drawable(emoji * 2, latin) == f"{name(emoji)} {name(emoji)}"
        assert drawable(emoji, latin | set(map(ord, emoji))) == name(emoji), "no plain outline"
    assert drawable("© ↔ ok", latin) == "© ↔ ok", "signs that text fonts have"
    assert drawable("\u202ea\x00", latin - {0x202E}) == "\\u202ea\\x00"


def test_names_of_all_emojis_are_drawn_and_none_is_empty():
    """Without a colour font each of the 33 is a word with ink, and no two look the same."""
    figure = DRAW["emoji_distribution"](TUNED, top=9, glyphs=Glyphs(None))
    labels = [t for t in texts(figure) if t.get_text() in set(map(name, ORGANISM))]
    assert len(labels) == len({text.get_text() for text in labels}) > 20
    for text in labels:
        extent = text.get_window_extent()
        assert extent.height > extent.width > 0, "a word, upright"
    ends = sorted(text.get_window_extent().x0 for text in labels)
    assert all(b - a > 5 for a, b in pairwise(ends))


NEUTRAL = {
    "adapter_maps": [effects()], "attribution_components": attribution(),
    "attribution_heads": attribution("head"), "circuit_graph": circuit("openness", 0),
    "dose_curve": dose(), "esr_curve": interpolation(), "faithfulness_curve": faithfulness(),
    "lens_curves": lens(), "lens_heatmap": lens(), "neuron_shift": shifted(),
    "patching_heads": patching("z"), "patching_maps": [patching("resid_pre")],
    "probing_curves": probe(), "smallest_set_curve": smallest(28), "text_or_weights": origin(),
}  # fmt: skip


@pytest.mark.parametrize("kind", thinned(list(NEUTRAL), keep=4))
def test_without_a_trait_none_is_named_and_no_traits_colour_is_used(kind):
    figure = DRAW[kind](NEUTRAL[kind])
    check_legible(figure)
    words = " ".join([figure.caption, figure.alt, *(text.get_text() for text in texts(figure))])
    assert not [trait for trait in TRAITS if trait in words.lower()]
    used = {to_hex(line.get_color()).upper() for axes in figure.axes for line in axes.lines}
    assert not used & set(TRAIT_COLOURS.values())
    assert not re.search(r"  | ,|,\.|\bNone\b", words), words
