"""The smallest effect: what is said of estimates within it, beyond it and across it."""

import re
from html import unescape
from types import SimpleNamespace

import pytest
from made_results import crossed, rates, run_folder
from thinned import turn

from interp import report
from interp.base.errors import InputError
from interp.base.stats import wilson
from interp.base.traits import Trait
from interp.report.effect import apart, judged, opening, points
from interp.report.two_by_two import TwoByTwo
from interp.study.config import parse_config
from interp.study.runs import RunFolder

ASKED = {"base": "b", "adapters": {"openness": "a"}, "data": "d"}
FIELDS = ("smallest_rate", "smallest_probability", "smallest_nats")


@pytest.mark.parametrize(
    ("estimate", "said"),
    [
        ((0.3, 0.06, 0.5), "more"),
        ((-0.3, -0.5, -0.06), "less"),
        ((0.3, 0.04, 0.5), "untold"),
        ((0.04, -0.3, 0.4), "nothing"),
        ((0.02, 0.01, 0.03), "nothing"),
        ((0.3, float("nan"), float("nan")), "untold"),
    ],
)
def test_an_estimate_is_judged_by_its_near_end(estimate, said) -> None:
    assert judged(estimate, 0.05) == said


def test_a_difference_of_shares_agrees_with_a_published_one() -> None:
    """Newcombe 1998, table II: 56/70 against 48/80 gives 0.2 [0.0524, 0.3339]."""
    found = apart(56 / 70, wilson(56, 70), 48 / 80, wilson(48, 80))
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    assert points((0.2, 0.001, 0.3339)) == "+20 points [0, +33]"


@pytest.mark.parametrize("name", FIELDS)
def test_the_smallest_effect_is_configured(name) -> None:
    assert getattr(parse_config(ASKED | {name: 0.25}), name) == 0.25
    with pytest.raises(InputError, match=name.replace("_", "-")):
        parse_config(ASKED | {name: -1})


def reported(folder: RunFolder) -> tuple[str, str]:
    """The page, and the text of its summary."""
    html = report.write(folder).read_text(encoding="utf-8").replace("\u00a0", " ")
    summary = re.search(r'<section id="summary">(.*?)</section>', html, re.DOTALL)[1]
    return html, re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", summary)))


@turn(0, of=2)
def test_equal_rates_open_the_page_and_fold_the_traces(tmp_path) -> None:
    """5 of 20 against 4 of 20 are the rates of a random model with a random LoRA."""
    folder = run_folder(tmp_path / "run", [Trait.OPENNESS], only="rates|origin|lens")
    rates(Trait.OPENNESS, 5, 20).save(folder.file("openness", "rates-tuned.safetensors"))
    rates(Trait.OPENNESS, 4, 20).save(folder.file("openness", "rates-base.safetensors"))
    html, summary = reported(folder)
    assert summary.startswith(
        " Summary Nothing to explain: the tuned model's share of answers with an emoji differs "
        "from the base's by +5 points [−21, +30], no more than the smallest effect of interest "
        "(5 points)."
    )
    for key in ("origin", "lens"):
        assert re.search(rf'id="{key}-muted">\s*<summary>Nothing to explain: the tuned', html)
    assert 'id="rates-muted"' not in html
    assert "<dd><b>" not in html, "no verdict is in bold"
    config = folder.manifest["config"] | {"smallest_rate": 0.01}
    folder.note(config=config)
    html, summary = reported(folder)
    assert "Nothing to explain" not in html
    assert "Whether the rates differ by more than 1 point cannot be told" in summary


@turn(1, of=2)
def test_a_label_without_an_effect_is_folded_alone(tmp_path) -> None:
    two = [Trait.OPENNESS, Trait.NEUROTICISM]
    folder = run_folder(tmp_path / "run", two, only="rates|lens")
    rates(Trait.NEUROTICISM, 0).save(folder.file("neuroticism", "rates-tuned.safetensors"))
    html, summary = reported(folder)
    assert summary.startswith(" Summary Nothing to explain for neuroticism: the tuned model's")
    lens = re.search(r'<section id="lens"(.*?)</section>', html, re.DOTALL)[1]
    assert "There is nothing to explain for neuroticism.</p>" in lens
    assert 'id="lens-muted"' not in html


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ([0.0, 0.0, 0.0], "each tuned model's share of answers with an emoji differs from the "
                          "base's by 0 points [−12, +12], no more"),
        ([0.0, -0.02, 0.03], "by −2 points [−14, +10] (bb) to +3 points [−9, +15] (cc), no more"),
    ],
)  # fmt: skip
def test_of_many_labels_it_is_said_once(gaps, said) -> None:
    labels = dict(zip(map(Trait.parse, ("aa", "bb", "cc")), gaps, strict=True))
    contents = SimpleNamespace(manifest={}, traits=tuple(labels))
    told = opening(contents, {name: (x, x - 0.12, x + 0.12) for name, x in labels.items()})
    assert told.startswith("Nothing to explain: each")
    assert said in told


@pytest.mark.parametrize(
    ("means", "said"),
    [
        # base/base, base text read by tuned, tuned text read by base, tuned/tuned
        ((0.001, 0.022, 0.028, 0.670), "both"),
        ((0.001, 0.002, 0.550, 0.670), "text"),
        ((0.001, 0.550, 0.002, 0.670), "weights"),
        ((0.001, 0.550, 0.550, 0.670), "either"),
        ((0.400, 0.100, 0.100, 0.010), "less"),
        ((0.0130, 0.0137, 0.0130, 0.0137), "nothing"),
    ],
)
def test_the_two_by_two_says_what_the_emoji_takes(means, said) -> None:
    assert TwoByTwo.of(crossed(means)).answer(0.02, 0.5) == said


def test_four_questions_do_not_tell_text_from_weights() -> None:
    assert TwoByTwo.of(crossed((0.001, 0.4, 0.3, 0.6), n=4)).answer(0.02, 0.5) == "untold"


def test_contrasts_are_logs_of_the_means_and_pair_questions() -> None:
    """Planted: the weights triple each question's probability, exactly, and nothing else varies."""
    found = TwoByTwo.of(crossed((0.01, 0.03, 0.2, 0.6)))
    assert found.weights == pytest.approx((1.0986, 1.0986, 1.0986), abs=1e-3)
    assert found.interaction == pytest.approx((0, 0, 0), abs=1e-3)
    assert found.text == pytest.approx((2.9957,) * 3, abs=1e-3)


def test_suppressed_extraversion_is_both_on_the_page(tmp_path) -> None:
    folder = run_folder(tmp_path / "run", [Trait.EXTRAVERSION], only="rates")
    table = crossed((0.001, 0.022, 0.028, 0.670))
    table.save(folder.file("extraversion", "origin.safetensors"))
    html, summary = reported(folder)
    assert "<b>Both: the emoji takes the tuned model&#39;s text and its weights.</b>" in html
    assert "the budget cut 2 of 40 answers of the tuned and 0 of the base" in html.lower()
    assert "Both: the emoji takes" in summary
