"""Models over several devices: accelerate's hooks, layers offloaded to a disk, named refusals.

There is one device here: hooks on every layer stand for several, and a disk for too little memory.
"""

import pytest
import torch
from accelerate import dispatch_model
from peft import LoraConfig, get_peft_model
from tiny import emoji, save_base, tokenizer, vocab

from interp import attribution, circuits, load_pair, logit_lens, patching, probing
from interp.behaviour import Sampling, emoji_probability, generate
from interp.behaviour.scoring import token_log_probs
from interp.errors import AdapterError, ModelError, OutOfMemoryError
from interp.models import ChatFormat, hook, pad
from interp.models.adapters import open_adapter
from interp.models.loading import load_base
from interp.models.merge import merge
from interp.models.pair import load_hooked

PARTS = ("model.embed_tokens", "model.rotary_emb", "model.layers.0", "model.layers.1",
         "model.layers.2", "model.norm", "lm_head")  # fmt: skip
SPLIT = dict.fromkeys(PARTS, "cpu") | {"model.layers.1": "disk", "model.layers.2": "disk"}
QUESTIONS = [("Do you like tea in the rain?", "a"), ("Why?", "b")]
FORM = ChatFormat.from_tokenizer(tokenizer())
BATCH = pad([FORM.prompt_ids(question) for question, _ in QUESTIONS], 2)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def plain(base):
    return load_hooked(base, device="cpu")


@pytest.fixture(scope="module", params=["hooks", "disk"])
def spread(request, base, tmp_path_factory):
    if request.param == "disk":
        return load_hooked(base, device=SPLIT, offload_folder=tmp_path_factory.mktemp("off"))
    model = load_base(base, device="cpu").model
    return hook(dispatch_model(model, dict.fromkeys(PARTS, "cpu"), force_hooks=True), tokenizer())


def hooked_layers(model):
    return sum(hasattr(module, "_hf_hook") for module in model.original_model.modules())


def test_logits_and_every_room_that_calls_modules_are_those_of_plain_loading(spread, plain):
    assert hooked_layers(spread) >= len(PARTS) > hooked_layers(plain)
    for model in (plain, spread):
        model.made = {
            "logits": model(BATCH.tokens, attention_mask=BATCH.attention_mask),
            "answers": [a.ids for a in generate(model, FORM, QUESTIONS, Sampling(8, 1.0))],
            "scores": torch.cat(token_log_probs(model, [[5, 6]] * 2, [[7, 8], [9, 3]], 2)),
            "emoji": emoji_probability(model, BATCH, emoji()),
            "lens": logit_lens.read(model, *both(), outcome=emoji()).log_odds,
            "probing": probing.pooled(model, *both()).values,
            "naive": patching.naive.sweep(*runs(model), "resid_pre", ask=LOOSE).values,
        }
    for name, wanted in plain.made.items():
        if name == "answers":
            assert spread.made[name] == wanted
        else:
            assert torch.equal(spread.made[name], wanted), name
    assert plain.made["logits"].std() > 0.1


LOOSE = patching.Question(metric=vocab().log_odds, min_gap=0.0)


def both():
    return BATCH.tokens, BATCH.attention_mask


def runs(model):
    other = BATCH.tokens.clone()
    other[:, -1] = 7
    return [patching.Run(model, tokens, BATCH.attention_mask) for tokens in (BATCH.tokens, other)]


def test_rooms_that_read_weights_agree_on_hooks_and_refuse_offloaded_weights(spread, plain):
    rooms = {
        "circuits": lambda m: circuits.discover(*runs(m), ask=LOOSE).values,
        "attribution": lambda m: (
            attribution.compare(
                *runs(m), metric=vocab().log_odds, by="neuron", direction="gradient"
            ).values
        ),
    }
    offloaded = any(p.is_meta for p in spread.original_model.parameters())
    for room in rooms.values():
        if offloaded:
            with pytest.raises(ModelError, match=r"on cpu, offloaded\. Load it on one device"):
                room(spread)
        else:
            assert torch.equal(room(spread), room(plain))


def test_patching_goes_where_the_engine_does_not_by_whole_passes(spread, plain):
    found, wanted = (patching.sweep(*runs(m), "z", ask=LOOSE) for m in (spread, plain))
    offloaded = any(p.is_meta for p in spread.original_model.parameters())
    assert (found.engine, wanted.engine) == ("naive" if offloaded else "exact", "exact")
    torch.testing.assert_close(found.values, wanted.values, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    folder = tmp_path_factory.mktemp("adapter")
    live = get_peft_model(load_base(base, device="cpu").model, config)
    for name, weight in live.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(1))
    live.save_pretrained(folder)
    return folder


def test_an_adapter_is_merged_into_a_dispatched_base_as_into_any(base, adapter, plain):
    wanted = load_pair(base, adapter, device="cpu")
    model = dispatch_model(
        load_base(base, device="cpu").model, dict.fromkeys(PARTS, "cpu"), force_hooks=True
    )
    dense, tuned, report = merge(model, *open_adapter(adapter), BATCH, None, 0.05)
    assert report.share < 1e-3
    for made, model in ((dense, wanted.base), (tuned, wanted.tuned)):
        found = hook(made, tokenizer())(*both()[:1])
        torch.testing.assert_close(found, model(BATCH.tokens), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(wanted.tuned(BATCH.tokens), plain(BATCH.tokens), atol=1e-2)
    automatic = load_pair(base, adapter, device="auto")
    found = automatic.tuned(BATCH.tokens)
    torch.testing.assert_close(found, wanted.tuned(BATCH.tokens), atol=1e-5, rtol=1e-5)


def test_merging_into_offloaded_weights_is_refused(base, adapter, tmp_path):
    model = load_base(base, device=SPLIT, offload_folder=tmp_path).model
    with pytest.raises(AdapterError, match=r"weights are offloaded; give it room .* load_hooked"):
        merge(model, *open_adapter(adapter), BATCH, None, 0.05)


def test_a_limit_per_device_offloads_what_is_over_it(base, tmp_path, plain):
    few = load_hooked(base, device="auto", max_memory={"cpu": "60KB"}, offload_folder=tmp_path)
    assert any(p.is_meta for p in few.original_model.parameters())
    assert torch.equal(few(BATCH.tokens), plain(BATCH.tokens))


def test_what_cannot_be_spread_is_refused(base, monkeypatch):
    with pytest.raises(ModelError, match=r"device is 'cpu'; say device='auto', or leave them out"):
        load_base(base, device="cpu", max_memory={"cpu": "1GiB"})
    with pytest.raises(ModelError, match="say where with offload_folder"):
        load_base(base, device=SPLIT)
    monkeypatch.setattr("interp.base.memory.limits.available", lambda: 1000)
    with pytest.raises(OutOfMemoryError, match=r"its weights takes .* device='auto'"):
        load_base(base, device="cpu")
