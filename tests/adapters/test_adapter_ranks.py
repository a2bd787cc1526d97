"""Ranks as neurons: a planted rank fires where it was planted, and is what PEFT adds."""

import pytest
import torch
from planted_models import paired_questions, planted_adapter

from interp import load_pair
from interp.adapters import ranks
from interp.errors import InputError
from interp.models.adapters import open_adapter
from interp.models.tokens import pad, pad_id


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
