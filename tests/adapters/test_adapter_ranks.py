"""Ranks as neurons: a planted rank fires where it was planted, and is what PEFT adds."""

import pytest
import torch
from patching_models import model
from planted_models import paired_questions, planted_adapter
from tiny import tokenizer

from interp import load_pair
from interp.adapters import ranks
from interp.differences import activations
from interp.errors import InputError
from interp.models import ModelPair, TokenBatch
from interp.models.adapters import open_adapter
from interp.models.tokens import pad, pad_id
from interp.patching import Run
from interp.readout import Outcome


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return planted_adapter(tmp_path_factory.mktemp("ranks"), noise=0.0)


def test_a_planted_rank_fires_where_it_was_planted(planted):
    """Head 1.2 brings the trait's feature to the end of the prompt, where the rank reads it."""
    pair = load_pair(planted.base, planted.adapter)
    questions = [one for two in paired_questions(6, 0) for one in two]  # trait, plain, trait, …
    batch = pad([pair.format.prompt_ids(q) for q in questions], pad_id(pair.tokenizer))
    found = ranks(pair, batch)
    (place,) = [
        place
        for place, (module, rank) in enumerate(zip(found.modules, found.ranks, strict=True))
        if module == planted.module and rank == 0
    ]
    scalars, last = found.scalars[place], torch.zeros(len(questions))
    for text in range(len(questions)):
        last[text] = scalars[found.text == text][-1]
    assert bool((last[::2] > 5 * last[1::2].abs().max()).all())
    assert set(found.top(place, 6)["text"]) == {0, 2, 4, 6, 8, 10}
    others = [k for k in range(len(found.modules)) if k != place]
    assert float(found.scalars[others].abs().max()) < 1e-3 * float(scalars.max())
    assert found.to_dataframe().iloc[place]["largest"] == pytest.approx(float(scalars.max()))
    _, tensors = open_adapter(planted.adapter)
    (a,) = [one for name, one in tensors.items() if planted.module in name and "lora_A" in name]
    (b,) = [one for name, one in tensors.items() if planted.module in name and "lora_B" in name]
    kept = {}

    def keep(module, args):  # noqa: ARG001
        kept["x"] = args[0]

    attention = pair.tuned.original_model.get_submodule("model.layers.1.self_attn")
    module = getattr(attention, "original_component", attention).o_proj
    handle = getattr(module, "original_component", module).register_forward_pre_hook(keep)
    pair.tuned(batch.tokens, attention_mask=batch.attention_mask.long())
    handle.remove()
    added = (kept["x"][batch.attention_mask] @ a.float().T @ b.float().T).norm(dim=-1)
    assert torch.allclose(added, scalars.abs(), atol=1e-4)
    with pytest.raises(InputError, match="at least 1"):
        ranks(pair, batch, rank=0)


def test_a_norms_bias_is_no_word_of_what_goes_through_it():
    """GPT-2's final norm has a bias, which favours the same tokens whatever is written."""
    base, tuned = model("gpt2"), model("gpt2")
    u = torch.randn(32, generator=torch.Generator().manual_seed(2))
    for one in (base, tuned):
        one.transformer.ln_f.bias.data *= 30
        one.lm_head.weight = torch.nn.Parameter(one.lm_head.weight.detach().clone())
    tuned.transformer.h[1].mlp.c_proj.bias.data += u
    tuned.transformer.h[1].mlp.c_proj.weight.data += torch.outer(torch.ones(128), u)
    norm, rows = base.transformer.ln_f, base.lm_head.weight.detach()
    logits = rows @ ((u - u.mean()) * norm.weight.detach())
    pair = ModelPair.of(base, tuned, tokenizer(), prompt_format="plain")
    batch = TokenBatch(torch.tensor([[5, 6, 7], [8, 9, 10]]), torch.ones(2, 3, dtype=torch.bool))
    said = tokenizer().convert_ids_to_tokens
    wanted = {sign: set(said((sign * logits).topk(3).indices.tolist())) for sign in (1, -1)}
    assert set(ranks(pair, batch, rank=1, top=3).writes[0]) in wanted.values()
    runs = [Run(one, batch.tokens, batch.attention_mask) for one in (pair.base, pair.tuned)]
    found = activations(*runs, outcome=Outcome.emoji(tokenizer()), layer=1, positions=1, top=3)
    assert set(found.names[0]) in wanted.values()
