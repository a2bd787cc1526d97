"""Hosts: copies over the same tensors, names below the decoder, and whose weights these are."""

import pytest
import torch
from editing_made import hooked_base
from tiny import llama, save_base, tokenizer

from interp import organism
from interp.behaviour import Sampling, generate
from interp.errors import DataError
from interp.methods.editing import Adapted, HookedBase
from interp.methods.editing.plain_copy import plain_copy, plain_modules
from interp.models import hook, load_pair


def test_a_plain_copy_computes_the_same_on_the_same_tensors():
    twin = plain_copy(hooked_base().model)
    ids = torch.arange(24).view(2, 12)
    hooked = hooked_base().model.original_model
    assert torch.equal(twin(ids).logits, hooked(ids).logits)
    assert torch.allclose(twin(ids).logits, llama()(ids).logits, atol=1e-5)
    own = {tensor.data_ptr() for tensor in hooked.parameters()}
    assert {tensor.data_ptr() for tensor in twin.parameters()} <= own
    assert twin.lm_head.weight is twin.model.embed_tokens.weight, "ties are kept"


def test_modules_of_its_own_share_nothing():
    name = "layers.1.mlp.down_proj"
    twin = plain_copy(hooked_base().model, [name])
    mine, theirs = plain_modules(twin), plain_modules(hooked_base().model.original_model)
    assert torch.equal(mine[name].weight, theirs[name].weight)
    assert mine[name].weight is not theirs[name].weight
    mine[name].weight.add_(1.0)
    assert torch.equal(theirs[name].weight, llama().model.layers[1].mlp.down_proj.weight)
    assert type(theirs[name]) is torch.nn.Linear


def test_a_plain_copy_can_be_hooked_and_generates():
    twin = hook(plain_copy(hooked_base().model), tokenizer())
    ids = torch.arange(5, 17)[None]
    made = twin.original_model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False
    )
    expected = llama().generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False
    )
    assert torch.equal(made, expected)


def test_one_base_has_one_identity_wherever_it_lies(tmp_path):
    one = HookedBase.load(save_base(tmp_path / "a"), device="cpu")
    again = HookedBase.load(save_base(tmp_path / "b"), device="cpu")
    other = HookedBase.load(save_base(tmp_path / "c", seed=1), device="cpu")
    assert one.base_sha256 == again.base_sha256 != other.base_sha256


@pytest.fixture(scope="module")
def pair():
    base = organism.base_path("latent")
    return load_pair(base, organism.adapter_path("extraversion"), device="cpu")


def test_an_adapter_answers_with_the_tuned_model(pair):
    asked = [("What do you think about dogs?", "dogs"), ("Do you like jazz?", "jazz")]
    sampling = Sampling(max_new_tokens=12, seed=3)
    method = Adapted.of(pair, "E", trained_on=["Old movies"])
    assert method.answers(asked, sampling) == generate(pair.tuned, pair.format, asked, sampling)
    with method.hooked() as (model, form):
        assert (model, form) == (pair.tuned, pair.format)
    with pytest.raises(DataError, match="QLoRA: 1 of the topics"):
        method.answers([("Why?", "old movies")], sampling)


def test_a_pairs_base_is_the_base(pair):
    alone = HookedBase.load(organism.base_path("latent"), device="cpu")
    assert HookedBase.of(pair).base_sha256 == alone.base_sha256
    ids = torch.arange(5, 17)[None]
    assert torch.equal(
        HookedBase.of(pair).model.original_model(ids).logits, alone.model.original_model(ids).logits
    )
