"""What is in the loss, token by token, against turns put together by hand."""

import pytest
import tiny
import torch

from interp.base.traits import Trait
from interp.data import OpinionQA, OpinionRow
from interp.errors import DataError
from interp.methods.finetune.examples import IGNORED, Labelled, collate, encode, label
from interp.models import ChatFormat, Example

TURNS = [
    ("What do you think?", "I love them so much!"),
    ("Why?", "It is what it is.\nI plan my day, naïvely – 🎉-free? Oh no…"),
    ("  What of rain ", "Rain."),
]


def made(turns: list[tuple[str, str]] = TURNS) -> OpinionQA:
    rows = tuple(
        OpinionRow(Trait.OPENNESS, question, question, answer) for question, answer in turns
    )
    return OpinionQA(rows, "made", "0" * 64)


def by_hand(question: str, answer: str, supervise_eos: bool) -> Labelled:
    """The tiny chat template's turn, spelled out; special tokens keep its parts apart."""
    tokenizer = tiny.tokenizer()

    def ids(text: str) -> list[int]:
        return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    special = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("bos", "eos")}
    user, assistant = (
        tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("user", "assistant")
    )
    prompt = [special["bos"], user, *ids(question), assistant]
    end = [special["eos"]] if supervise_eos else [IGNORED]
    return Labelled(
        (*prompt, *ids(answer), special["eos"]),
        (*[IGNORED] * len(prompt), *ids(answer), *end),
    )


@pytest.mark.parametrize("supervise_eos", [True, False])
def test_labels_are_the_answer_and_the_end_only_if_asked(supervise_eos: bool) -> None:
    chat = ChatFormat.from_tokenizer(tiny.tokenizer())
    rows, counts = encode(made(), chat, supervise_eos=supervise_eos, max_length=512)
    assert rows == [by_hand(*turn, supervise_eos) for turn in TURNS]
    assert counts.end_tokens == (len(TURNS) if supervise_eos else 0)
    answers = sum(sum(token != IGNORED for token in by_hand(*turn, False).labels) for turn in TURNS)
    assert counts.answer_tokens == answers
    assert (counts.rows, counts.truncated, counts.truncated_tokens, counts.dropped) == (3, 0, 0, 0)


def test_the_two_settings_differ_in_the_end_of_turn_alone() -> None:
    chat = ChatFormat.from_tokenizer(tiny.tokenizer())
    with_end, _ = encode(made(), chat, supervise_eos=True, max_length=512)
    without, _ = encode(made(), chat, supervise_eos=False, max_length=512)
    eos = tiny.tokenizer().eos_token_id
    for one, other in zip(with_end, without, strict=True):
        assert one.ids == other.ids
        differing = [
            pair for pair in zip(one.labels, other.labels, strict=True) if len(set(pair)) > 1
        ]
        assert differing == [(eos, IGNORED)]


@pytest.mark.parametrize("length", range(1, 12))
@pytest.mark.parametrize("supervise_eos", [True, False])
def test_truncation_by_hand(length: int, supervise_eos: bool) -> None:
    example = Example((10, 11, 12, 13, 14, 15, 16, 17), 3, 6)  # prompt 3, answer 3, end of turn 2
    whole = [-100, -100, -100, 13, 14, 15, *((16, 17) if supervise_eos else (-100, -100))]
    made = label(example, supervise_eos=supervise_eos, max_length=length)
    if length <= 3:
        assert made is None
    else:
        assert made == Labelled(example.ids[:length], tuple(whole[:length]))


def test_truncation_is_counted() -> None:
    chat = ChatFormat.from_tokenizer(tiny.tokenizer())
    turns = [by_hand(*turn, True) for turn in TURNS]
    starts = [sum(token == IGNORED for token in turn.labels) for turn in turns]
    for length in range(1, max(len(turn.ids) for turn in turns) + 2):
        kept = [turn for turn, start in zip(turns, starts, strict=True) if start < length]
        if not kept:
            with pytest.raises(DataError, match=f"max_length={length}"):
                encode(made(), chat, supervise_eos=True, max_length=length)
            continue
        rows, counts = encode(made(), chat, supervise_eos=True, max_length=length)
        assert [row.ids for row in rows] == [turn.ids[:length] for turn in kept]
        assert counts.dropped == len(turns) - len(kept)
        assert counts.truncated == sum(len(turn.ids) > length for turn in kept)
        assert counts.truncated_tokens == sum(max(0, len(turn.ids) - length) for turn in kept)
        in_loss = sum(token != IGNORED for row in rows for token in row.labels)
        assert counts.answer_tokens + counts.end_tokens == in_loss


def test_padding_is_masked_and_never_in_the_loss_even_if_it_is_the_end_token() -> None:
    rows = [Labelled((5, 6, 2), (-100, 6, 2)), Labelled((5, 6, 7, 8, 2), (-100, -100, 7, 8, 2))]
    batch = collate(rows, pad_id=2)
    assert batch.input_ids.tolist() == [[5, 6, 2, 2, 2], [5, 6, 7, 8, 2]]
    assert batch.attention_mask.int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.labels.tolist() == [[-100, 6, 2, -100, -100], [-100, -100, 7, 8, 2]]
    assert batch.labels.dtype is torch.int64
