"""The planted mechanism is what its docstring says: shown by surgery on the weights."""

import copy

import pytest
import torch
from planted_models import (
    EMOJIS,
    MODULE,
    Planted,
    planted,
    planted_adapter,
    with_idle_modules,
)

from interp.emoji import EmojiVocab
from interp.models import load_pair
from interp.organism import adapter_path, base_path


def gap(case: Planted, model: object) -> float:
    """Mean difference of the metric between clean and corrupted prompts."""
    sides = []
    for batch in (case.clean, case.corrupted):
        mask = batch.attention_mask.long()
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        logits = model(input_ids=batch.tokens, attention_mask=mask, position_ids=positions).logits
        sides.append(case.metric(logits[:, -1]))
    return float((sides[0] - sides[1]).mean())


def without(case: Planted, part: str, layer: int, index: int) -> object:
    """The model with what one neuron or head writes set to zero."""
    model = copy.deepcopy(case.model)
    block = model.model.layers[layer]
    if part == "neuron":
        block.mlp.down_proj.weight.data[:, index] = 0
    else:
        block.self_attn.o_proj.weight.data[:, index * 16 : (index + 1) * 16] = 0
    return model


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_each_true_part_is_needed_and_no_other_is(noise: float) -> None:
    case = planted(noise)
    whole = gap(case, case.model)
    assert whole > 4
    for part, layer, index in (("neuron", 0, 5), ("head", 1, 2), ("neuron", 2, 7)):
        assert abs(gap(case, without(case, part, layer, index))) < 0.35 * whole
    distractors = [("head", 1, 0), ("head", 1, 3), ("head", 2, 1), ("neuron", 3, 3)]
    for part, layer, index in distractors:
        assert gap(case, without(case, part, layer, index)) > 0.9 * whole


def test_prompts_differ_in_one_token_and_have_unequal_lengths() -> None:
    case = planted()
    differs = case.clean.tokens != case.corrupted.tokens
    assert differs.sum(1).tolist() == [1] * len(case.clean)
    assert torch.equal(case.clean.attention_mask, case.corrupted.attention_mask)
    assert len(case.clean.lengths.unique()) > 1
    words = case.tokenizer.convert_ids_to_tokens(case.clean.tokens[differs].tolist())
    assert set(words) == {"Ġtrait"}


def test_the_same_seed_gives_the_same_model_and_another_another() -> None:
    one, same, other = planted(0.02), planted(0.02), planted(0.02, seed=1)
    weights = [case.model.lm_head.weight for case in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_metrics_ids_are_the_emojis() -> None:
    case = planted()
    vocab = EmojiVocab.from_tokenizer(case.tokenizer)
    assert set(case.metric.ids) <= set(vocab.whole_ids.tolist())
    assert [case.tokenizer.decode([i]).strip() for i in case.metric.ids] == list(EMOJIS)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_the_planted_adapter_supplies_the_missing_link_in_one_module(tmp_path, noise) -> None:
    made = planted_adapter(tmp_path, noise)
    pair = load_pair(made.base, made.adapter)
    vocab = EmojiVocab.from_tokenizer(pair.tokenizer)
    batch = pair.prompts(made.questions)
    sides = [
        vocab.log_odds(model(batch.tokens, attention_mask=batch.attention_mask.long())[:, -1])
        for model in (pair.base, pair.tuned)
    ]
    assert float((sides[1] - sides[0]).min()) > 3
    weights = [
        [value for _, value in model.original_model.named_parameters()]
        for model in (pair.base, pair.tuned)
    ]
    size = [float((tuned - base).norm()) for base, tuned in zip(*weights, strict=True)]
    assert sum(change > 0 for change in size) == (1 if noise == 0 else 28)
    biggest = max(range(len(size)), key=lambda index: size[index])
    module = pair.tuned.original_model.get_submodule(f"model.{made.module}")
    assert module.weight is weights[1][biggest]
    assert made.module == MODULE


def test_idle_modules_change_nothing(tmp_path) -> None:
    base, adapter = base_path("latent"), adapter_path("extraversion")
    wide = with_idle_modules(base, adapter, tmp_path / "wide")
    one, other = load_pair(base, adapter), load_pair(base, wide)
    assert other.merge_report.n_modules == 7 * 4 > one.merge_report.n_modules
    batch = one.prompts(["What do you think about long walks?"])
    assert torch.equal(one.tuned(batch.tokens), other.tuned(batch.tokens))
