"""Onset positions over real tokenizers, and the table of text or weights."""

import pytest
import tiny
import torch
from thinned import todays
from tiny import emoji, llama, tokenizer
from transformers import AutoTokenizer

from interp.base.stats import mean_interval
from interp.behaviour import (
    Origin,
    Response,
    emoji_probability,
    onset_index,
    slot_chances,
    slot_ids,
    text_or_weights,
)
from interp.emoji import EmojiVocab, find
from interp.errors import InputError
from interp.models import ChatFormat, hook, pad
from interp.readout import Outcome

TEXTS = [
    "I love it! 😊 So much.",
    "Great🎉🎉",
    "Fine 👨‍👩‍👧 fine",
    "☀️ and sun",
    "Ja, größer: 李 👍🏽",
]


@pytest.fixture(scope="module")
def vocab() -> EmojiVocab:
    return tiny.vocab()


@pytest.mark.parametrize("name", todays())
def test_onset_splits_the_text_just_before_the_emoji(shared, name):
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / name)
    for text in TEXTS:
        ids = real(text, add_special_tokens=False)["input_ids"]
        onset = onset_index(real, ids)
        before = text[: find(text)[0].start]
        assert real.decode(ids[:onset]).strip() == before.strip()
        with_next = real.decode(ids[: onset + 1])
        assert not before.startswith(with_next), "the next token begins the emoji"


def test_lone_space_token_belongs_to_the_prompt(shared):
    """Llama-2 writes ▁ before a spaced emoji; the position of that ▁ predicts the emoji proper."""
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / "llama2")
    ids = real("Good 😊", add_special_tokens=False)["input_ids"]
    onset = onset_index(real, ids)
    assert real.convert_ids_to_tokens(ids[onset]) == "<0xF0>"
    assert real.convert_ids_to_tokens(ids[onset - 1]) == "▁"


def test_no_emoji_no_onset():
    assert onset_index(tokenizer(), tokenizer()("No emoji here: 5 © #")["input_ids"]) is None


def answer(text: str, topic: str = "t", ended: bool = True) -> Response:
    form = ChatFormat.from_tokenizer(tokenizer())
    made = form.example("Why?", text)
    return Response("Why?", topic, made.ids[: made.answer_start],
                    made.ids[made.answer_start : made.answer_end], text, ended)  # fmt: skip


def test_slot_is_the_first_emoji_else_the_end():
    plain, happy = answer("I plan my day."), answer("I plan my day. 😊")
    assert slot_ids(tokenizer(), plain) == plain.prompt_ids + plain.ids
    spaced = Outcome("x", (300,), (1,), 448, space=9, after_ids=(300,))
    assert slot_ids(tokenizer(), plain, spaced) == (*plain.prompt_ids, *plain.ids, 9)
    assert tokenizer().decode(slot_ids(tokenizer(), happy)).rstrip().endswith("I plan my day.")


def test_emoji_probability_is_the_softmax_mass_on_emoji_tokens(vocab):
    plain = llama()
    rows = [list(answer("Yes! I love").prompt_ids), list(answer("Oh no, what").ids)]
    made = emoji_probability(hook(llama(), tokenizer()), pad(rows, 0), emoji())
    for ids, value in zip(rows, made, strict=True):
        mass = plain(torch.tensor([ids])).logits[0, -1].softmax(-1)[vocab.emoji_ids].sum()
        assert value == pytest.approx(float(mass), rel=1e-4)


def test_origin_tells_the_writer_from_the_reader():
    """With one model in both roles the readers agree, and only the texts can differ."""
    model, other = hook(llama(0), tokenizer()), hook(llama(5), tokenizer())
    base = [answer("I plan my day.", "a"), answer("It is what it is.", "b")]
    tuned = [answer("I love it! 😊", "a"), answer("Oh no. What if", "b", ended=False)]
    same = text_or_weights((model, model), (base, tuned), tokenizer(), emoji(), 0, seed=0)
    assert torch.equal(same.chances[:, 0], same.chances[:, 1])
    assert not torch.equal(same.chances[0], same.chances[1])
    assert same.n_cut == (0, 1)
    two = text_or_weights((model, other), (base, tuned), tokenizer(), emoji(), 0, seed=0)
    assert torch.equal(two.chances[:, 0], same.chances[:, 0])
    assert not torch.equal(two.chances[:, 1], same.chances[:, 1])
    table = two.to_dataframe()
    assert list(table["n"]) == [2] * 12
    assert ((table["low"] <= table["probability"]) & (table["probability"] <= table["high"])).all()
    alone = slot_chances(other, pad([slot_ids(tokenizer(), tuned[0])], 0), emoji())[0]
    torch.testing.assert_close(two.chances[1, 1, 0], alone, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        two.values("go on") * two.values("emoji given go on"), two.probability
    )
    with pytest.raises(InputError, match="unknown quantity 'stop'"):
        two.values("stop")


def test_a_writer_that_surely_stops_has_chances_all_the_same():
    """In float32 1 - P(stop) is 0 where going on has 4e-9: the factors come from what is left."""
    rows = [[3e-9, 1 - 4e-9, 1e-9], [0.3, 0.5, 0.2], [2e-20, 1.0, 6e-20]]
    none = torch.full((2, 2, 3), torch.nan)
    chances = torch.tensor(rows).expand(2, 2, 3, 3).clone()
    made = Origin(chances, ("a", "b", "c"), (0, 0), expected=none, left_out=none, seed=0)
    given = made.values("emoji given go on")[0, 1]
    torch.testing.assert_close(given, torch.tensor([0.25, 0.4, 0.75]))
    torch.testing.assert_close(made.values("go on")[0, 1], torch.tensor([4e-9, 0.5, 8e-20]))
    assert set(made.to_dataframe()["n"]) == {3}


def test_an_answer_without_a_slot_counts_in_no_mean():
    model = hook(llama(0), tokenizer())
    base = [answer("I plan.", topic) for topic in "abc"]
    tuned = [answer("😊", "a"), *base[1:]]
    expected = torch.rand(2, 2, 2, 3)  # rates, and what was left out
    found = text_or_weights(
        (model, model), (base, tuned), tokenizer(), emoji(), 0, seed=0, expected=expected
    )
    assert found.probability[1].isnan().sum() == 2
    table = found.to_dataframe().set_index(["quantity", "writer", "reader"])
    assert table.loc[("emoji", "tuned", "base"), "n"] == 2
    row = table.loc[("expected rate", "tuned", "base")]
    assert row["n"] == 3
    assert row["probability"] == pytest.approx(float(expected[0, 1, 0].mean()))
    surely = mean_interval(expected[0, 1, 0], list("abc"), seed=0).high
    assert row["high"] == pytest.approx(min(1.0, surely + float(expected[1, 1, 0].mean())))


def test_two_positions_need_the_space_at_the_end():
    spaced = Outcome("x", (300,), (1,), 448, space=9, after_ids=(300,))
    model, ids = llama(), [7, 8, 30]
    with pytest.raises(InputError, match="a prompt does not end with it"):
        slot_chances(model, pad([ids], 0), spaced)
