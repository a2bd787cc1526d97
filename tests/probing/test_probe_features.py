"""Collected activations against Hugging Face's hidden states, padded and not."""

import pytest
import tiny
import torch

from interp.errors import InputError
from interp.models import hook, pad
from interp.probing import at_positions, pooled
from interp.readout import Question

ROWS = [[7, 20, 33, 41, 9], [50, 61], [8, 15, 90, 101, 17, 60, 31]]


@pytest.fixture(scope="module")
def model():
    return hook(tiny.llama(seed=2), tiny.tokenizer())


def by_hand(ids: list[int]) -> torch.Tensor:
    """`[layer, pos, d_model]` of one unpadded row: embedding and the output of each block."""
    hugging = tiny.llama(seed=2)
    kept: list[torch.Tensor] = []
    for block in hugging.model.layers:
        block.register_forward_hook(lambda _, __, out: kept.append(out))
    tokens = torch.tensor([ids])
    with torch.no_grad():
        hugging(tokens)
        return torch.stack([hugging.model.embed_tokens(tokens)[0], *(one[0] for one in kept)])


@pytest.mark.parametrize("side", ["left", "right"])
def test_positions_are_the_unpadded_residuals_in_the_order_asked_for(model, side):
    batch = pad(ROWS, 2, side)
    wanted = [(2, 6), (0, 0), (1, 1), (0, 3)]  # (row, place within the unpadded row)
    first = batch.attention_mask.long().argmax(1)
    text = torch.tensor([row for row, _ in wanted])
    pos = torch.tensor([int(first[row]) + place for row, place in wanted])
    said = []
    found = at_positions(
        model,
        batch.tokens,
        batch.attention_mask,
        text=text,
        pos=pos,
        ask=Question(batch_size=2, progress=lambda *step: said.append(step)),
    )
    assert found.layers == ("embedding", "0", "1", "2")
    assert found.values.dtype == torch.float32
    for example, (row, place) in enumerate(wanted):
        torch.testing.assert_close(
            found.values[:, example], by_hand(ROWS[row])[:, place], atol=1e-4, rtol=1e-4
        )
    assert said == [("activations", 2, 3), ("activations", 3, 3)]


@pytest.mark.parametrize("side", ["left", "right"])
def test_pooling_leaves_padding_and_the_rest_out(model, side):
    batch = pad(ROWS, 2, side)
    where = batch.attention_mask.clone()
    first = batch.attention_mask.long().argmax(1)
    where[0, first[0]] = False  # leave one real token of the first row out
    mean = pooled(
        model, batch.tokens, batch.attention_mask, where=where, ask=Question(batch_size=2)
    )
    last = pooled(model, batch.tokens, batch.attention_mask, how="last", layers=[0, 2])
    assert last.layers == ("0", "2")
    for row, ids in enumerate(ROWS):
        hand = by_hand(ids)
        kept = hand[:, 1:] if row == 0 else hand
        torch.testing.assert_close(mean.values[:, row], kept.mean(1), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(last.values[:, row], hand[[1, 3], -1], atol=1e-4, rtol=1e-4)


def test_heads_are_laid_side_by_side(model):
    tokens = torch.tensor(ROWS[:1])
    found = at_positions(
        model, tokens, text=torch.tensor([0]), pos=torch.tensor([4]), site="z", layers=[1]
    )
    with torch.no_grad():
        kept: list[torch.Tensor] = []
        hugging = tiny.llama(seed=2)
        hugging.model.layers[1].self_attn.o_proj.register_forward_pre_hook(
            lambda _, inputs: kept.append(inputs[0])
        )
        hugging(tokens)
    torch.testing.assert_close(found.values[0, 0], kept[0][0, 4], atol=1e-5, rtol=1e-5)


def test_bfloat16_activations_come_as_float32():
    model = hook(tiny.llama(seed=2).to(torch.bfloat16), tiny.tokenizer())
    found = pooled(model, torch.tensor(ROWS[:1]))
    assert found.values.dtype == torch.float32
    torch.testing.assert_close(found.values[:, 0], by_hand(ROWS[0]).mean(1), atol=0.1, rtol=0.1)


def test_the_model_keeps_no_hooks(model):
    pooled(model, torch.tensor(ROWS[:1]))
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_bad_requests_are_named(model):
    batch = pad(ROWS, 2)
    one = torch.tensor([1])
    with pytest.raises(InputError, match="outside the tokens or on padding"):
        at_positions(model, batch.tokens, batch.attention_mask, text=one, pos=torch.tensor([0]))
    with pytest.raises(InputError, match="no examples"):
        at_positions(model, batch.tokens, text=one[:0], pos=one[:0])
    with pytest.raises(InputError, match="unknown site 'resid'; use one of resid_pre"):
        pooled(model, batch.tokens, site="resid")
    with pytest.raises(InputError, match=r"layer 3 is not in -1\.\.2"):
        pooled(model, batch.tokens, layers=[0, 3])
    with pytest.raises(InputError, match=r"layer -1 is not in 0\.\.2 \(site mlp_out\)"):
        pooled(model, batch.tokens, site="mlp_out", layers=[-1])
    with pytest.raises(InputError, match="unknown pooling 'max'"):
        pooled(model, batch.tokens, how="max")
    nowhere = torch.zeros_like(batch.attention_mask)
    with pytest.raises(InputError, match="text 0 has no position to pool over"):
        pooled(model, batch.tokens, where=nowhere)
