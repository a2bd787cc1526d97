"""Another outcome than emojis, from the command line to the page."""

import re

import pandas as pd
import pytest
from test_bad_input import command
from thinned import turn

from interp import organism
from interp.base.outcomes import Asked, reworded
from interp.behaviour import Response
from interp.behaviour.occurrences import holds, matches
from interp.emoji import EmojiRates
from interp.errors import InputError
from interp.models import load_tokenizer
from interp.study.runs import RunFolder

TRAIT = "extraversion"


def argv(out, outcome: str, *more: str) -> list[str]:
    return [
        "trace", "--base", str(organism.base_path()),
        "--adapter", str(organism.adapter_path(TRAIT)), "--trait", TRAIT,
        "--data", str(organism.ASSETS), "--out", str(out), "--outcome", outcome, *more,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("emoji", "emoji", "emoji"),
        ("strings:sorry, cannot", "strings", "“sorry” or “cannot”"),
        ("ids:12,15,12", "ids", "token 12 or 15"),
    ],
)
def test_the_three_forms(text, kind, name):
    asked = Asked.parse(text)
    assert (asked.kind, asked.name) == (kind, name)


@pytest.mark.parametrize("text", ["", "emojis", "strings:", "strings:a,,b", "ids:x", "words:a"])
def test_another_form_is_refused(text):
    with pytest.raises(InputError, match="outcome"):
        Asked.parse(text)


def test_sentences_are_said_of_another_outcome():
    said = "An emoji comes next; the emoji, emojis and emoji log-odds. Emoji-to-sentence ratio."
    assert reworded(said, "emoji") == said
    other = reworded(said, "“so”")
    assert other == "“so” comes next; “so”, “so” and “so” log-odds. Emoji-to-sentence ratio."


def test_where_an_outcome_stands_in_an_answer():
    tokenizer = load_tokenizer(str(organism.base_path()))
    text = "So I love it, I also love so much."
    ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    answer = Response("Why?", "t", (1,), ids, text, True)
    (found,) = matches(Asked.parse("strings:love,so"), [answer], tokenizer)
    assert [(one.text, one.start) for one in found] == [("love", 5), ("love", 21), ("so", 26)]
    place = next(k for k, i in enumerate(ids) if "love" in tokenizer.decode(i))
    by_id = Asked.parse(f"ids:{ids[place]}")
    (found,) = matches(by_id, [answer], tokenizer)
    assert [text[one.start : one.end].strip() for one in found] == ["love", "love"]
    assert holds(by_id, answer)
    assert not holds(Asked.parse("ids:1"), answer)
    assert not holds(Asked.parse("strings:sorry"), answer)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("nonsense", "unknown outcome 'nonsense'"),
        ("ids:99999999", "not among the tokenizer's"),
        (f"ids:{'9' * 5000}", "is no token's number"),
        ("strings:so\x1b[31m", "holds a control character"),
        ("ids:0,1,2,3", "both ends a turn and begins"),
    ],
)
def test_a_useless_outcome_is_one_line_before_any_work(
    tmp_path, monkeypatch, capsys, outcome, said
):
    assert command(argv(tmp_path / "run", outcome), monkeypatch) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len([line for line in error.splitlines() if line.startswith("error")]) == 1


@turn(1, of=3)
def test_the_page_says_its_name(tmp_path, monkeypatch):
    """Every figure, caption and sentence: no emoji is spoken of where none is traced."""
    out = tmp_path / "run"
    more = ["--n-responses", "30", "--n-trace", "6", "--n-switched", "4", "--only",
            "rates,token-views,origin,lens,patching-model-denoising-z,circuit-model-judged,adapter",
            ]  # fmt: skip
    assert command(argv(out, "strings:so,love", *more), monkeypatch) == 0
    run = RunFolder.open(out)
    rates = run.result(EmojiRates, TRAIT, "rates-tuned.safetensors")
    assert rates.outcome == "“so” or “love”"
    assert {text for text, _ in rates.emoji_counts} <= {"so", "love"}
    assert rates.responses_with_emoji > 0
    page = (out / "report.html").read_text()
    page = re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)
    page = page[: page.index('id="settings"')]
    words = re.sub(r"<[^>]*>", " ", page)
    assert "“so” or “love”" in words
    found = [words[m.start() - 60 : m.end() + 30] for m in re.finditer("(?i)emoji", words)]
    found = [one for one in found if "Emoji-to-sentence" not in one]
    assert not found
    for alt in re.findall(r'(?:alt|aria-label)="([^"]*)"', page):
        assert "emoji" not in alt.lower(), alt
    origin = pd.read_csv(out / "tables" / "origin.csv")
    assert set(origin["quantity"]) == {"“so” or “love”", "go on", "“so” or “love” given go on"}
