"""Nodes ablated while answers are written: planted heads, and the weights edited by hand."""

import copy

import planted_factors
import pytest
import torch
from planted_models import D_HEAD, NODES, planted
from thinned import turn

from interp.behaviour import Sampling, generate
from interp.decoding import ablated, all_but, without
from interp.emoji import EmojiVocab
from interp.errors import InputError
from interp.models import hook
from interp.models.tokens import ChatFormat
from interp.patching import Run

ONE = Sampling(max_new_tokens=1, temperature=1.0, seed=2)


def named(part: str) -> str:
    return "a{}.h{}".format(*planted_factors.HEADS[part])


@turn(1, of=3)
def test_known_heads_of_both_factors_and_the_weights_without_them():
    tokenizer = planted_factors.small_tokenizer()
    network = planted_factors.model(tokenizer, noise=0.02, seed=0)
    edited = copy.deepcopy(network)
    layer, head = planted_factors.HEADS["emoji"]
    columns = slice(head * D_HEAD, (head + 1) * D_HEAD)
    edited.model.layers[layer].self_attn.o_proj.weight.data[:, columns] = 0
    model, form = hook(network, tokenizer), ChatFormat.from_tokenizer(tokenizer)
    questions = [
        (clean, f"topic {i % 3}")
        for i, (clean, _) in enumerate(planted_factors.paired_questions(6, 0))
    ]
    vocab = EmojiVocab.from_tokenizer(tokenizer)
    how = Sampling(max_new_tokens=6, temperature=1.0, seed=2)
    with without(model, [named("emoji"), "input"]):
        gone = generate(model, form, questions, how)
    assert [a.ids for a in gone] == [a.ids for a in generate(edited, form, questions, how)]
    sets = {"emoji": [named("emoji")], "idle": ["a0.h0", "a3.h1", "a0.h0", "input"]}
    found = ablated(model, form, questions, sets, vocab=vocab, sampling=ONE)
    table = found.to_dataframe().set_index("ablated")
    assert table["nodes"].to_dict() == {"none": 0, "emoji": 1, "idle": 2}
    exact = []  # but for tokens that begin other signs, too
    for one in (model.original_model, edited):
        ids = [torch.tensor([form.prompt_ids(question)]) for question, _ in questions]
        shares = [one(row).logits[0, -1].softmax(-1)[vocab.emoji_ids].sum() for row in ids]
        exact.append(float(torch.stack(shares).mean()))
    assert table["expected"]["none"] == pytest.approx(exact[0], abs=0.01)
    assert table["expected"]["emoji"] == pytest.approx(exact[1], abs=0.01)
    assert abs(table["expected"]["idle"] - exact[0]) < 0.02, "heads that do nothing"
    assert exact[1] < 0.5 * exact[0]
    with pytest.raises(InputError, match="no head or MLP of this model"):
        without(model, ["a9.h0"])


@turn(2, of=3)
def test_a_circuits_nodes_are_needed_and_enough():
    made = planted(noise=0.02)
    made.model.lm_head.weight.data[made.tokenizer.eos_token_id] *= 0.5
    model, form = hook(made.model, made.tokenizer), ChatFormat.from_tokenizer(made.tokenizer)
    vocab = EmojiVocab.from_tokenizer(made.tokenizer)
    reference = Run(model, made.corrupted.tokens, made.corrupted.attention_mask)
    nodes = sorted(NODES)
    rates = {}
    for side in (0, 1):
        questions = [(pair[side], f"topic {i % 3}") for i, pair in enumerate(made.questions)]
        sets = {"circuit": nodes, "rest": all_but(model, nodes)}
        found = ablated(model, form, questions, sets, vocab=vocab, reference=reference,
                        sampling=ONE)  # fmt: skip
        rates[side] = dict(zip(found.names, found.expected.mean(1).tolist(), strict=True))
    whole, plain = rates[0]["none"], rates[1]["none"]
    assert whole > 2 * plain
    assert rates[0]["rest"] > plain + 0.7 * (whole - plain)
    assert rates[0]["circuit"] < plain + 0.3 * (whole - plain)
    assert rates[1]["circuit"] < 0.02, "plain words have nothing to lose"
