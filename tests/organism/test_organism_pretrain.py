"""The training loop and the tokenizer's file, each against something independent."""

import math
from collections import Counter

import jinja2
import pytest
import torch
from thinned import turn
from transformers import AutoTokenizer

from interp.base.traits import TRAITS
from interp.emoji import EmojiVocab
from interp.errors import InputError
from interp.models import pad
from interp.organism.evaluate import onset_ids
from interp.organism.grammar import EMOJIS, Grammar
from interp.organism.pretrain import Training, by_length, fit, new_model, next_token_loss
from interp.organism.tokenizer import encode_documents, save_tokenizer, train_tokenizer

CORPUS = list(Grammar("pretrain tests").corpus(1500))


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CORPUS)


def test_the_saved_tokenizer_gives_the_same_ids(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*CORPUS[:200], " leading space", "", "naïve 東京 👩‍👩‍👧", "a  b\n\n c ☀️ ❤"]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert again(text)["input_ids"] == ids
        assert ids[0] == again.bos_token_id == tokenizer.bos_token_id
        assert again.decode(ids[1:]) == text
    assert (again.eos_token_id, again.pad_token_id) == (1, 2)
    assert again.chat_template == tokenizer.chat_template
    assert again.all_special_ids == tokenizer.all_special_ids


@turn(1, of=3)
def test_emojis_take_one_token_or_several_and_survive(tokenizer):
    every = [" " + emoji for trait in TRAITS for emoji in EMOJIS[trait]]
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in every]
    assert [tokenizer.decode(ids) for ids in encoded] == every
    lengths = {len(ids) for ids in encoded}
    assert {1, 2} <= lengths
    vocab = EmojiVocab.from_tokenizer(tokenizer)
    assert set(onset_ids(tokenizer)) <= set(vocab.onset_ids.tolist())


def test_the_template_refuses_other_roles(tokenizer):
    with pytest.raises(jinja2.TemplateError, match="user and assistant only"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}], tokenize=False)


def test_the_loss_is_the_mean_negative_log_probability_of_real_tokens(tokenizer):
    model = new_model(tokenizer, 0, layers=1, width=64)
    rows = encode_documents(tokenizer, CORPUS[:3])
    total = count = 0.0
    for row in rows:  # one by one, unpadded
        odds = model(torch.tensor([row])).logits[0].log_softmax(-1)
        total -= sum(odds[place, token].item() for place, token in enumerate(row[1:]))
        count += len(row) - 1
    loss = next_token_loss(model, pad(rows, tokenizer.pad_token_id, side="right"))
    assert loss.item() == pytest.approx(total / count, rel=1e-4)


def test_training_lowers_the_loss_and_repeats_bit_for_bit(tokenizer):
    rows = encode_documents(tokenizer, CORPUS[:320])
    ticks, losses = [], []
    for _ in range(2):
        model = new_model(tokenizer, 0, layers=1, width=64)
        training = Training(steps=10, batch_size=32, warmup=2)
        losses.append(
            fit(
                model,
                rows,
                training,
                pad_id=tokenizer.pad_token_id,
                label="base",
                progress=lambda *tick: ticks.append(tick),
            )
        )
    assert losses[0] == losses[1]
    assert losses[0][0] == pytest.approx(math.log(len(tokenizer)), rel=0.1)
    assert losses[0][-1] < losses[0][0] - 0.7
    assert ticks == [("base", done, 10) for done in range(1, 11)] * 2


def test_batches_hold_each_document_once_with_little_padding(tokenizer):
    rows = encode_documents(tokenizer, CORPUS[:1000])
    batches = by_length(rows, 16)
    flat = [tuple(row) for batch in batches for row in batch]
    assert len(flat) == 1000 // 16 * 16
    assert Counter(flat) <= Counter(map(tuple, rows))
    padded = sum(16 * max(map(len, batch)) for batch in batches)
    assert padded < 1.15 * sum(map(len, flat))


def test_the_rate_warms_up_and_falls_to_a_tenth():
    training = Training(steps=100, warmup=10, learning_rate=1.0)
    rates = [training.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_sizes_that_nf4_cannot_take_are_refused(tokenizer):
    with pytest.raises(InputError, match="multiple of 64"):
        new_model(tokenizer, 0, width=96)


def test_too_few_documents_are_refused(tokenizer):
    model = new_model(tokenizer, 0, layers=1, width=64)
    with pytest.raises(InputError, match="3 documents do not fill a batch of 32"):
        fit(model, [[0, 1]] * 3, Training(steps=1), pad_id=2, label="base")
