"""Latents in two models and their patches: modules hooked by hand, sums, a planted latent."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import tiny
import torch
from made_dictionaries import made
from patching_models import FAMILIES, VOCAB, bridge, prompts
from thinned import thinned
from torch.nn import functional as F

from interp.dictionaries import Dictionary, DictionaryConfig, LatentPatches, compare, patch
from interp.errors import DictionaryError, InputError
from interp.models import hook
from interp.models.tokens import pad
from interp.patching import Cells, Run, naive, sweep
from interp.readout import Outcome, Question

LAYER, LAST, TOPICS = 1, 2, tuple("aabbccdd")


@dataclass(frozen=True)
class Two:
    """Two hooked models on the same tokens, and the same two models without any hook of ours."""

    base: Run
    tuned: Run
    plain: tuple[Any, Any]
    outcome: Outcome
    ids: list[list[int]]

    @property
    def runs(self) -> tuple[Run, Run]:
        return self.base, self.tuned


def two(vector: torch.Tensor | None = None) -> Two:
    """Random models; the tuned one differs up to block 1, or its last block adds `vector`."""
    base = tiny.llama(mlp_bias=True)
    tuned, draw = copy.deepcopy(base), torch.Generator().manual_seed(5)
    if vector is None:
        for one in tuned.model.layers[: LAYER + 1].parameters():
            one.data += 0.05 * torch.randn(one.shape, generator=draw)
    else:
        tuned.model.layers[LAST].mlp.down_proj.bias.data += vector
    plain = copy.deepcopy(base), copy.deepcopy(tuned)
    ids = [torch.randint(5, 300, (6 + row,), generator=draw).tolist() for row in range(8)]
    batch = pad(ids, tiny.tokenizer().pad_token_id)
    runs = [
        Run(hook(m, tiny.tokenizer()), batch.tokens, batch.attention_mask) for m in (base, tuned)
    ]
    return Two(*runs, plain, tiny.emoji(), ids)


@pytest.fixture(scope="module")
def pair() -> Two:
    return two()


def place(name: str) -> DictionaryConfig:
    return DictionaryConfig("standard", 64, 1, 64, name, name)


def dictionary(kind: str = "topk", **changes: Any) -> Dictionary:
    return made(kind, 64, 96, **{"k": 12 if kind == "topk" else 0} | changes)


def of(layers: Any, name: str) -> Any:
    """The module whose output, or input, an activation is, and whether it is the input."""
    return {
        "resid_post": (layers[LAYER], False), "resid_pre": (layers[LAYER], True),
        "mlp_out": (layers[LAYER].mlp, False), "z": (layers[LAYER].self_attn.o_proj, True),
        "normalized": (layers[LAYER].post_attention_layernorm, False),
        "resid_mid": (layers[LAYER].self_attn, False),
    }[name]  # fmt: skip


def by_hand(
    model: Any, ids: list[int], name: str, change: torch.Tensor | None = None, place: int = -1
) -> Any:
    """One prompt through Hugging Face's own modules: the activation at a place, logits from it."""
    module, at_input = of(model.model.layers, name)
    kept: list[torch.Tensor] = []

    def edit(value: Any) -> Any:
        inner = value[0] if isinstance(value, tuple) else value
        kept.append(inner[0, place].clone())
        if change is None:
            return None
        inner = inner.clone()
        inner[0, place] += change
        return (inner, *value[1:]) if isinstance(value, tuple) else inner

    handle = (
        module.register_forward_pre_hook(lambda _, args: edit(args))
        if at_input
        else module.register_forward_hook(lambda *given: edit(given[-1]))
    )
    logits = model(torch.tensor([ids])).logits[0]
    handle.remove()
    return kept[0], logits[-1] if place == -1 else logits[place:]


HOOKS = {
    "resid_post": "hook_resid_post", "resid_pre": "hook_resid_pre", "mlp_out": "hook_mlp_out",
    "z": "attn.hook_z",
}  # fmt: skip


@pytest.mark.parametrize("name", list(HOOKS))
@pytest.mark.parametrize("normalize", ["none", "layer_norm"])
def test_every_patch_is_that_of_modules_hooked_by_hand(pair, name, normalize):
    held = dictionary(normalize=normalize).at(f"blocks.{LAYER}.{HOOKS[name]}")
    asked = Question(topics=TOPICS)
    chosen = patch(*pair.runs, held, outcome=pair.outcome, top=3, ask=asked)
    for row in (0, 5):
        seen = [by_hand(model, pair.ids[row], name) for model in pair.plain]
        x, logits = [one for one, _ in seen], [one for _, one in seen]
        f = [held.encode(one) for one in x]
        for way, (mine, theirs) in enumerate(((0, 1), (1, 0))):
            for factor, metric in enumerate(pair.outcome.metrics().values()):
                ends = chosen.base if mine == 0 else chosen.tuned
                assert float(ends[factor, row]) == pytest.approx(
                    float(metric(logits[mine][None])), abs=1e-3
                )
                for which, latent in enumerate(chosen.ids.tolist()):
                    step = (f[theirs] - f[mine])[latent] * held.directions[latent]
                    change = step * (x[mine].std() if normalize == "layer_norm" else 1)
                    _, out = by_hand(pair.plain[mine], pair.ids[row], name, change)
                    slow = float(metric(out[None]))
                    assert float(chosen.values[way, factor, which, row]) == pytest.approx(
                        slow, abs=1e-3
                    )


def test_a_transcoder_reads_at_one_place_and_is_patched_at_the_other(pair):
    held = dictionary("jumprelu_skip_transcoder").at(
        f"blocks.{LAYER}.ln2.hook_normalized", f"blocks.{LAYER}.hook_mlp_out"
    )
    found = patch(*pair.runs, held, outcome=pair.outcome, latents=[3, 40])
    row, weight = 2, pair.plain[0].model.layers[LAYER].post_attention_layernorm.weight
    assert bool((weight == 1).all()), "what is normalised is what the norm gives"
    other = pair.plain[1].model.layers[LAYER].post_attention_layernorm.weight
    x = [by_hand(model, pair.ids[row], "normalized")[0] for model in pair.plain]
    x[1] = x[1] / other  # TransformerLens' place is before the weight
    f = [held.encode(one) for one in x]
    assert float(found.change[0, row]) == pytest.approx(float(f[1][3] - f[0][3]), abs=1e-4)
    change = (f[1] - f[0])[40] * held.directions[40]
    _, out = by_hand(pair.plain[0], pair.ids[row], "mlp_out", change)
    slow = float(pair.outcome.log_odds(out[None]))
    assert float(found.values[0, 0, 1, row]) == pytest.approx(slow, abs=1e-3)


def test_a_patch_between_the_layers_halves_reaches_both_ways_around_the_mlp(pair):
    """The stream after attention is what attention adds to: by hand, in its output."""
    held = dictionary().at(f"blocks.{LAYER}.hook_resid_mid")
    found = patch(*pair.runs, held, outcome=pair.outcome, top=1)
    latent, row = int(found.ids[0]), 4
    change = found.change[0, row] * held.directions[latent]
    _, out = by_hand(pair.plain[0], pair.ids[row], "resid_mid", change)
    slow = float(pair.outcome.log_odds(out[None]))
    assert float(found.values[0, 0, 0, row]) == pytest.approx(slow, abs=1e-3)
    assert abs(slow - float(found.base[0, row])) > 1e-3


def test_left_of_a_lone_space_the_patch_is_at_the_slot_and_both_rows_are_read(pair):
    space = 20
    outcome = replace(pair.outcome, space=space, after_ids=pair.outcome.ids, _tensors={})
    ids = [[*row, space] for row in pair.ids]
    batch = pad(ids, tiny.tokenizer().pad_token_id)
    runs = [Run(run.model, batch.tokens, batch.attention_mask) for run in pair.runs]
    held = dictionary().at(f"blocks.{LAYER}.hook_resid_post")
    found = patch(*runs, held, outcome=outcome, top=1)
    row, latent = 2, int(found.ids[0])
    x = [by_hand(model, ids[row], "resid_post", place=-2)[0] for model in pair.plain]
    f = [held.encode(one) for one in x]
    change = (f[1] - f[0])[latent] * held.directions[latent]
    _, out = by_hand(pair.plain[0], ids[row], "resid_post", change, place=-2)
    slow = [float(metric(out[None])) for metric in outcome.metrics().values()]
    assert found.values[0, :, 0, row].tolist() == pytest.approx(slow, abs=1e-3)


def test_all_latents_and_the_rest_are_the_whole_activation(pair):
    """The whole one is the exact engine's patch; linear in between where the model is."""
    held = dictionary().at(f"blocks.{LAYER}.hook_resid_post")
    found = patch(*pair.runs, held, outcome=pair.outcome, top=2)
    whole = sweep(pair.tuned, pair.base, "resid_post", metric=pair.outcome.metric())
    assert torch.allclose(found.sums[0, 0, 2], whole.values[LAYER, -1], atol=1e-3)
    back = sweep(
        pair.tuned, pair.base, "resid_post", direction="noising", metric=pair.outcome.metric()
    )
    assert torch.allclose(found.sums[1, 0, 2], back.values[LAYER, -1], atol=1e-3)
    # All latents, one after the other, and the rest at last: by hand, in one sum.
    row = 3
    x = [by_hand(model, pair.ids[row], "resid_post")[0] for model in pair.plain]
    f, error = [held.encode(one) for one in x], [held.error(one) for one in x]
    parts = sum((f[1] - f[0])[i] * held.directions[i] for i in range(96))
    assert torch.allclose(x[0] + parts + error[1] - error[0], x[1], atol=1e-5)
    _, out = by_hand(pair.plain[0], pair.ids[row], "resid_post", parts)
    slow = float(pair.outcome.log_odds(out[None]))
    assert float(found.sums[0, 0, 0, row]) == pytest.approx(slow, abs=1e-3)


@pytest.mark.parametrize(
    ("family", "site"),
    thinned(
        list(FAMILIES), ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"], keep=5
    ),
)
def test_in_every_family_the_whole_activation_is_the_patch_of_the_sweep(family, site):
    one, other = bridge(family, 1), bridge(family, 2)
    tokens, mask = prompts([7, 5, 6, 7], size=VOCAB)
    clean, corrupted = Run(one, tokens, mask), Run(other, tokens, mask)
    if one.get_hook_point(f"blocks.{LAYER}.hook_{site}") is None:
        pytest.skip(f"{family} has no such place")
    held = made("topk", 32, 48, k=12).at(f"blocks.{LAYER}.hook_{site}")
    found = patch(corrupted, clean, held, outcome=tiny.emoji(), top=1)
    end = Cells(layers=[LAYER], positions=[6])
    slow = naive.sweep(clean, corrupted, site, metric=tiny.emoji().metric(), cells=end)
    assert torch.allclose(found.sums[0, 0, 2], slow.values[0, 0], atol=1e-3)
    assert float((found.sums[0, 0, 2] - found.base[0]).abs().max()) > 0.01


def planted(vector: torch.Tensor) -> Dictionary:
    """Latent 7 reads and writes along the vector, the others along what is at right angles."""
    held = dictionary("standard", centred=False).at(f"blocks.{LAST}.hook_resid_post")
    w, unit = dict(held.weights), vector / vector.norm()
    for name in ("W_enc", "W_dec"):
        rows = w[name].T if name == "W_enc" else w[name]
        rows = rows - (rows @ unit)[:, None] * unit
        rows[7] = unit
        w[name] = rows.T if name == "W_enc" else rows
    w["b_enc"] = torch.zeros(96).index_fill(0, torch.tensor(7), 90.0)
    return Dictionary(held.config, w, "planted")


def test_the_planted_latent_and_no_other_carries_the_difference():
    ids = list(tiny.emoji().ids)
    rows = tiny.llama().lm_head.weight[ids]
    vector = 20 * rows.mean(0) / rows.mean(0).norm()
    pair, held = two(vector), planted(vector)
    ask = Question(topics=TOPICS)
    found = compare(*pair.runs, held, outcome=pair.outcome, ask=ask)
    table = found.to_dataframe()
    assert table["latent"][0] == 7
    assert table["difference"][0] == pytest.approx(20, abs=1e-3)
    assert float(table["difference"][1:].abs().max()) < 1e-3
    top = (
        F.normalize(vector, dim=0)
        * pair.plain[0].model.norm.weight
        @ pair.plain[0].lm_head.weight.T
    )
    assert found.ids[0] == 7
    assert found.names[0][0] == tiny.tokenizer().decode([int(top.argmax())])
    patched = patch(*pair.runs, held, outcome=pair.outcome, latents=[3, 7, 9], ask=ask)
    gap = patched.tuned - patched.base
    assert float(gap[0].abs().max()) > 0.3
    for direction in ("denoising", "noising"):
        for place, factor in enumerate(patched.factors):
            effect = patched.effect(direction, factor)
            assert torch.allclose(effect[1], gap[place], atol=1e-3)
            assert float(effect[[0, 2]].abs().max()) < 1e-3
            assert torch.allclose(effect[3], gap[place], atol=1e-3), "all latents"
            assert float(effect[4].abs().max()) < 1e-3, "the rest"
    assert patched.best() == 1
    rows = patched.to_dataframe().query("direction == 'denoising' and latent == '7'")
    assert rows["recovery"].to_numpy() == pytest.approx(1, abs=1e-3)


def test_the_estimate_is_the_slope_of_the_exact_effect(pair):
    """A step of a hundredth of each latent's change, by hand."""
    held = dictionary().at(f"blocks.{LAYER}.hook_resid_post")
    found = patch(*pair.runs, held, outcome=pair.outcome, top=2)
    row, metrics = 1, pair.outcome.metrics().values()
    for way, which in ((0, 0), (0, 1), (1, 0)):
        step = 0.01 * found.change[which, row] * held.directions[int(found.ids[which])]
        ends = [
            by_hand(pair.plain[way], pair.ids[row], "resid_post", one)[1][None]
            for one in (step, -step)
        ]
        slow = [float(metric(ends[0]) - metric(ends[1])) / 0.02 for metric in metrics]
        assert found.estimate[way, :, which, row].tolist() == pytest.approx(
            slow, rel=0.05, abs=0.02
        )


def test_topics_that_judge_have_no_part_in_the_choice(pair):
    held = dictionary().at(f"blocks.{LAYER}.hook_resid_post")
    ask = Question(topics=TOPICS, seed=3)
    found = patch(*pair.runs, held, outcome=pair.outcome, top=4, ask=ask)
    sides = zip(TOPICS, found.judging.tolist(), strict=True)
    assert len(set(sides)) == len(set(TOPICS)), "a topic is on one side"
    keep = ~found.judging
    order = patch(*pair.runs, held, outcome=pair.outcome, top=96, ask=ask)
    most = order.estimate.mean(0)[..., keep].mean(-1).abs().amax(0)
    assert bool((most.diff() <= 1e-5).all())
    assert torch.equal(order.ids[:4], found.ids)
    table = found.to_dataframe()
    assert set(table["n"]) == {int(found.judging.sum())}
    part = found.effect("noising", "go_on")[1, found.judging].mean()
    row = table.query("direction == 'noising' and factor == 'go_on'").iloc[1]
    assert row["effect"] == pytest.approx(float(part), abs=1e-6)


def test_results_are_stored_whole(pair, tmp_path):
    held = dictionary().at(f"blocks.{LAYER}.hook_resid_post")
    found = patch(*pair.runs, held, outcome=pair.outcome, top=2)
    again = LatentPatches.load(found.save(tmp_path / "patches.safetensors"))
    assert again.to_dataframe().equals(found.to_dataframe())


def test_tokens_are_named_of_the_stream_only(pair):
    """Heads' outputs are as wide as the stream here, and the unembedding does not read them."""
    for name, is_stream in (("attn.hook_z", False), ("hook_mlp_out", True)):
        held = dictionary().at(f"blocks.{LAYER}.{name}")
        assert held.config.d_out == int(pair.base.model.cfg.d_model)
        for found in (compare(*pair.runs, held, outcome=pair.outcome, top=3),
                      patch(*pair.runs, held, outcome=pair.outcome, top=2)):  # fmt: skip
            assert all(bool(names) == is_stream for names in found.names)


def test_what_does_not_fit_is_refused(pair):
    there = f"blocks.{LAYER}.hook_resid_post"
    narrow = made("standard", 6, 9).at(there)
    for call in (compare, patch):
        with pytest.raises(DictionaryError, match=r"width 6 .*got 64"):
            call(*pair.runs, narrow, outcome=pair.outcome)
        with pytest.raises(DictionaryError, match="of 3 layers has no hook"):
            call(*pair.runs, dictionary().at("blocks.9.hook_mlp_out"), outcome=pair.outcome)
        with pytest.raises(InputError, match="one topic"):
            call(*pair.runs, dictionary().at(there), outcome=pair.outcome,
                 ask=Question(topics=["a"] * 8))  # fmt: skip
        with pytest.raises(InputError, match="two models"):
            call(pair.base, Run(pair.base.model, (pair.base.tokens + 1) % 300, pair.base.mask),
                 dictionary().at(there), outcome=pair.outcome)  # fmt: skip
    wide = made("transcoder", 64, 9, 32).at(there, f"blocks.{LAYER}.hook_mlp_out")
    with pytest.raises(DictionaryError, match="writes activations of width 32"):
        patch(*pair.runs, wide, outcome=pair.outcome)
    with pytest.raises(InputError, match="one or more latents"):
        patch(*pair.runs, dictionary().at(there), outcome=pair.outcome, latents=[])
    with pytest.raises(InputError, match="are 0 to 95"):
        patch(*pair.runs, dictionary().at(there), outcome=pair.outcome, latents=[96])
    with pytest.raises(InputError, match="no latent differs"):
        patch(*pair.runs, dictionary().at("blocks.0.hook_resid_pre"), outcome=pair.outcome)
