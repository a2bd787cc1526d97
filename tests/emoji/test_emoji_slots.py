"""Outcomes of the six real tokenizers: what one or two rows say, against every sequence scored."""

from typing import Any

import pytest
import torch
from thinned import todays
from tiny import llama

from interp.emoji import EmojiVocab, continuation
from interp.readout import Outcome
from interp.readout.outcome import OUTCOME
from interp.text.emoji.encode import CONTEXTS

CHOSEN = ("😊", "😂", "🎉", "🔥", "🙂")


@pytest.mark.parametrize("name", todays())
def test_the_space_before_an_emoji_is_read_where_the_tokenizer_writes_it(real, real_vocab, name):
    made = Outcome.of_vocab(real_vocab(name), stop=[0])
    assert made.reads == (2 if name in ("llama2", "mistral-v1") else 1)
    if made.space is not None:
        assert real(name).convert_ids_to_tokens(made.space) == "▁"


def completing(vocab: EmojiVocab, emoji: str) -> dict[str, list[tuple[int, ...]]]:
    """Every token sequence, spelled as the tokenizer would, that first holds this emoji."""
    found: dict[str, list[tuple[int, ...]]] = {context: [] for context in CONTEXTS}
    for context, wanted in zip(CONTEXTS, (emoji.encode(), b" " + emoji.encode()), strict=True):
        for path in vocab.plan.nodes:
            text = b"".join(vocab.pieces[token] for token in path)
            if wanted.startswith(text) and text != wanted:
                found[context] += [
                    (*path, token)
                    for token, piece in enumerate(vocab.pieces)
                    if piece and (text + piece).startswith(wanted)
                ]
    return found


def scored(model: Any, prompt: list[int], sequence: tuple[int, ...]) -> float:
    """Probability of a sequence after the prompt, by a full pass of its own in double precision."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + list(sequence)])).logits[0]
    places = torch.arange(len(sequence)) + len(prompt) - 1
    return float(
        logits[places].double().log_softmax(-1)[range(len(sequence)), sequence].sum().exp()
    )


@pytest.mark.parametrize("name", todays())
def test_slot_and_space_together_are_what_every_sequence_adds_up_to(real, real_vocab, name):
    tokenizer, vocab = real(name), real_vocab(name)
    made = Outcome.of_vocab(vocab, stop=[0])
    model = llama(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    ).eval()  # fmt: skip
    prompt = tokenizer("I love it so much!", add_special_tokens=False)["input_ids"]
    exact = continuation(model, torch.tensor([prompt]), vocab)
    with torch.no_grad():
        rows = model(input_ids=torch.tensor([[*prompt, *made.space_ids]])).logits[0, -made.reads :]
    for emoji in CHOSEN:
        place, sequences = exact.emojis.index(emoji), completing(vocab, emoji)
        for which, context in enumerate(CONTEXTS):
            total = sum(scored(model, prompt, sequence) for sequence in sequences[context])
            assert total == pytest.approx(float(exact.by_emoji[0, which, place]), rel=1e-4)
        every = {*sequences["glued"], *sequences["spaced"]}
        direct = tuple(ids[0] for ids in every if len(ids) == 1)
        after = tuple(ids[1] for ids in every if len(ids) == 2 and ids[0] == made.space)
        if not direct and not after:
            continue  # this tokenizer writes the emoji byte by byte
        one = Outcome(emoji, direct, (0,), vocab.size, made.space, after)
        longer = [ids for ids in every if len(ids) > 1 and not (len(ids) == 2 and ids[1] in after)]
        found = float(one.probability(rows if made.reads == 2 else rows[0])[OUTCOME])
        rest = sum(scored(model, prompt, ids) for ids in longer)
        assert found + rest == pytest.approx(float(exact.by_emoji[0, :, place].sum()), rel=1e-4)
