"""Onset positions over real tokenizers, and the pairs of prompts that patching needs."""

import pytest
import tiny
import torch
from thinned import thinned
from tiny import TOKENIZERS, emoji, llama, tokenizer
from transformers import AutoTokenizer

from interp.behaviour import (
    OnsetPrompts,
    Response,
    emoji_probability,
    onset_index,
    onset_prompts,
    prompt_contrast,
    slot_chances,
    slot_ids,
    text_or_weights,
)
from interp.emoji import EmojiVocab, find
from interp.errors import InputError
from interp.models import ChatFormat, hook, pad
from interp.readout import Outcome, slots

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


@pytest.mark.parametrize("name", thinned(TOKENIZERS, keep=2))
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


def test_onset_prompts_end_where_the_emoji_begins():
    answers = [answer("Yes! 😊", "a"), answer("No.", "b"), answer("Oh no, what if? 😢", "c")]
    made = onset_prompts(tokenizer(), answers, 0, limit=10)
    assert made.topics == ("a", "c")
    assert made.n_left_out == 1
    for row, mask, head, source in zip(
        made.batch.tokens, made.batch.attention_mask, made.next_ids, (answers[0], answers[2]),
        strict=True,
    ):  # fmt: skip
        ids = row[mask].tolist()
        whole = list(source.prompt_ids + source.ids)
        assert whole[: len(ids) + 1] == [*ids, head]
        assert mask[-1]
    with pytest.raises(InputError, match="1 of 1 answers hold an emoji"):
        onset_prompts(tokenizer(), answers[:1], 0, limit=10)


def test_prompt_contrast_pairs_equal_lengths_without_emojis():
    happy = [answer("I love long walks in the rain so much! 😊"), answer("Well, I plan. 🎉", "b")]
    plain = [
        answer("I plan my day, then I do what I planned, I think."),
        answer("It is. 🎉"),
        answer("I worry about it a lot, what if it all goes wrong, oh no!", ended=False),
    ]
    onsets = onset_prompts(tokenizer(), happy, 0, limit=5)
    pairs = prompt_contrast(onsets, plain, 0, limit=5)
    assert torch.equal(pairs.clean.attention_mask, pairs.corrupted.attention_mask)
    assert sorted(pairs.clean.tokens.tolist()) == sorted(onsets.batch.tokens.tolist())
    for row, mask in zip(pairs.corrupted.tokens, pairs.corrupted.attention_mask, strict=True):
        assert not find(tokenizer().decode(row[mask]))
    assert len({tuple(row.tolist()) for row in pairs.corrupted.tokens}) == 2, "no partner twice"


def test_partner_that_ended_at_the_same_length_is_preferred():
    happy = answer("I love it! 😊")
    onsets = OnsetPrompts(pad([slot_ids(tokenizer(), happy)] * 2, 0), (1, 1), ("a", "b"), 0)
    same = answer(tokenizer().decode(slot_ids(tokenizer(), happy)[len(happy.prompt_ids) :]))
    longer = answer("I plan my day, then I do what I planned, and then I plan it again.")
    pairs = prompt_contrast(onsets, [longer, same], 0, limit=5)
    assert pairs.n_exact == 2
    assert torch.equal(pairs.corrupted.tokens, pairs.clean.tokens)


def test_nothing_to_pair_is_an_error():
    onsets = onset_prompts(tokenizer(), [answer("I love it all so much! 😊")] * 2, 0, limit=5)
    with pytest.raises(InputError, match="only 0 onset prompts"):
        prompt_contrast(onsets, [answer("No.")], 0, limit=5)


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


def test_an_answer_without_a_slot_counts_in_no_mean():
    model = hook(llama(0), tokenizer())
    base = [answer("I plan.", topic) for topic in "abc"]
    tuned = [answer("😊", "a"), *base[1:]]
    expected = torch.rand(2, 2, 3)
    found = text_or_weights(
        (model, model), (base, tuned), tokenizer(), emoji(), 0, seed=0, expected=expected
    )
    assert found.probability[1].isnan().sum() == 2
    table = found.to_dataframe().set_index(["quantity", "writer", "reader"])
    assert table.loc[("emoji", "tuned", "base"), "n"] == 2
    assert table.loc[("expected rate", "tuned", "base"), "n"] == 3


def test_two_positions_need_the_space_at_the_end():
    spaced = Outcome("x", (300,), (1,), 448, space=9, after_ids=(300,))
    model, ids = llama(), [7, 8, 30]
    with pytest.raises(InputError, match="a prompt does not end with it"):
        slot_chances(model, pad([ids], 0), spaced)


def test_answers_without_any_emoji_have_prompts_and_pairs():
    """A model that samples none is traced all the same, at the ends of its text."""
    wrote = [answer("I plan my day. Then I do it.", topic) for topic in "abc"]
    plain = [
        answer("Well, it is what it is, and so I think that it is. Is it not?", topic)
        for topic in "abc"
    ]
    ends = slots(wrote, tokenizer()).last
    assert ends.counts()["followed_by_emoji"] == 0
    for outcome in (None, Outcome("x", (300,), (1,), 448, space=9, after_ids=(300,))):
        prompts = ends.prompts(0, outcome)
        pairs = prompt_contrast(prompts, plain, 0, limit=5, outcome=outcome)
        assert len(pairs.topics) == 3
        assert pairs.clean.attention_mask.equal(pairs.corrupted.attention_mask)
        if outcome is not None:
            assert set(pairs.clean.tokens[:, -1].tolist()) == {9}
            assert set(pairs.corrupted.tokens[:, -1].tolist()) == {9}
