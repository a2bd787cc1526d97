"""Differences of base and tuned: a planted constant shift, the definition written out, a stop."""

import copy

import pytest
import torch
from planted_models import (
    D_HEAD,
    HEADS,
    KV,
    LAYERS,
    D,
    emoji_ids,
    paired_questions,
    small_tokenizer,
)
from scipy.stats import entropy
from transformers import LlamaConfig, LlamaForCausalLM

from interp.base.traits import Trait
from interp.differences import activations, kl, shifts
from interp.errors import InputError
from interp.models import hook
from interp.models.tokens import ChatFormat, pad, pad_id
from interp.patching import Run
from interp.readout import Outcome
from interp.report.sections.differences import _cells, _shifts

LAYER = 1


@pytest.fixture(scope="module")
def shifted() -> tuple[Run, Run, Outcome, torch.Tensor]:
    """Two models that differ by one bias: what block 1 writes, everywhere, is the emojis' row."""
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=D, intermediate_size=32, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV, head_dim=D_HEAD, mlp_bias=True,
        max_position_embeddings=64, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    base = LlamaForCausalLM(config).eval().requires_grad_(False)
    tuned = copy.deepcopy(base)
    rows = tuned.lm_head.weight.data[emoji_ids(tokenizer)]
    vector = 3 * rows.mean(0) / rows.mean(0).norm()
    tuned.model.layers[LAYER].mlp.down_proj.bias.data += vector
    form = ChatFormat.from_tokenizer(tokenizer)
    ids = [form.prompt_ids(question) for question, _ in paired_questions(5, 0)]
    batch = pad(ids, pad_id(tokenizer))
    runs = [Run(hook(one, tokenizer), batch.tokens, batch.attention_mask) for one in (base, tuned)]
    return (*runs, Outcome.emoji(tokenizer), vector)


def test_a_planted_constant_shift_is_found_named_and_suffices(shifted):
    base, tuned, outcome, vector = shifted
    found = activations(base, tuned, outcome=outcome, layer=LAYER, positions=4)
    assert torch.allclose(found.difference, vector.expand(4, -1), atol=1e-4)
    assert torch.allclose(found.share, torch.ones(4), atol=1e-4)
    assert all(set(row[:3]) & set(emoji_ids(base.model.tokenizer)) for row in found.ids.tolist())
    one, steered, other = found.log_odds
    assert torch.allclose(steered, other, atol=1e-3)
    assert bool((other - one).abs().min() > 0.2)
    before = activations(base, tuned, outcome=outcome, layer=LAYER - 1, positions=4)
    assert float(before.difference.abs().max()) == 0
    assert torch.allclose(before.log_odds[1], before.log_odds[0], atol=1e-4)


def test_kl_is_the_definition_and_nothing_between_equal_models(shifted):
    base, tuned, *_ = shifted
    batch = pad([r[m].tolist() for r, m in zip(base.tokens, base.mask, strict=True)], 0)
    found = kl(base.model, tuned.model, batch, groups=["a"] * 3 + ["b"] * 2)
    ids = batch.tokens[4][batch.attention_mask[4]][None]
    logits = [run.model.original_model(ids).logits[0].double() for run in (base, tuned)]
    p, q = (one.softmax(-1).numpy() for one in logits)
    slow = torch.tensor(entropy(q, p, axis=1)).float()
    assert torch.allclose(found.kl[found.text == 4], slow, atol=1e-5)
    assert found.to_dataframe()["n"].sum() == int(batch.attention_mask.sum()) == len(found.tokens)
    same = kl(base.model, base.model, batch, groups=["a"] * 5)
    assert float(same.kl.abs().max()) == 0
    where = torch.zeros_like(batch.attention_mask)
    with pytest.raises(InputError, match="0 places"):
        kl(base.model, tuned.model, batch, groups=["a"] * 5, where=where)


def test_the_planted_tokens_rise_by_what_both_models_say(shifted):
    base, tuned, *_ = shifted
    found = shifts(base, tuned, floor=0.0, top=3)
    assert len(set(found.ids[:3].tolist()) & set(emoji_ids(base.model.tokenizer))) >= 2
    logits = []
    for run in (base, tuned):
        rows = [row[mask][None] for row, mask in zip(run.tokens, run.mask, strict=True)]
        logits.append(torch.cat([run.model.original_model(row).logits[:, -1] for row in rows]))
    change = logits[1] - logits[0]
    change = change - change.mean(1, keepdim=True)
    slow = change[:, found.ids].T
    assert torch.allclose(found.change, slow, atol=1e-4)
    means = found.change.mean(1)
    assert bool((means.diff() <= 0).all())
    assert float(means[0]) == pytest.approx(
        float((change - change.mean(1, keepdim=True)).mean(0).max()), abs=1e-4
    )
    with pytest.raises(InputError, match="lower floor"):
        shifts(base, tuned, floor=1.1)


def test_what_rose_did_not_fall_however_few_tokens_are_named(shifted):
    """All named tokens rose against the mean of the vocabulary; turned round, all fell."""
    base, tuned, *_ = shifted
    rose = shifts(base, tuned, floor=0.0, top=10**6)
    assert 0 < rose.n_rose < len(rose.names)
    floor = float(rose.probability[1, 0]) * 0.99  # the model that fell has none so likely
    few = shifts(base, tuned, floor=floor)
    assert few.names
    assert few.n_rose == len(few.names)
    back = shifts(tuned, base, floor=floor)
    assert back.n_rose == 0
    assert back.names == few.names[::-1]
    assert [cell.text for cell in _cells(few)[2:]] == ["none", "none"]
    assert _cells(back)[0].text == "none"
    assert "none fell" in _shifts({Trait.OPENNESS: few})
    assert "no logit rose" in _shifts({Trait.OPENNESS: back})
