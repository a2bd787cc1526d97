"""Contributions against algebra, TransformerLens' own, and finite differences."""

import copy

import pytest
import torch
from patching_models import FAMILIES, VOCAB, bridge, pick, prompts
from thinned import thinned
from tiny import vocab
from transformer_lens.tools.analysis import direct_logit_attribution
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

from interp.attribution import attribute, compare
from interp.attribution.direction import Unembedding, path
from interp.errors import InputError, ModelError
from interp.patching import Run
from interp.readout import Question
from interp.traces.attribution.frozen_norm import FrozenNorm

EMOJI = vocab().log_odds


def two(family, lengths=(7, 5), side="left"):
    """A base and a tuned model that shares its embeddings, on the same tokens."""
    base, tuned = bridge(family, 1), bridge(family, 1)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for block in tuned.blocks:
            for part in (block.attn.o, block.mlp.out, block.attn.v):
                weight = part.original_component.weight
                weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    tokens, mask = prompts(lengths, side=side)
    return Run(tuned, tokens, mask), Run(base, tokens, mask)


def last(run):
    return torch.arange(len(run.tokens)), run.last


@pytest.mark.parametrize("family", thinned(FAMILIES))
def test_components_heads_and_neurons_sum_to_the_measured_change(family):
    tuned, base = two(family)
    for by in ("component", "head", "neuron"):
        layers = None if by == "component" else [0, -1]
        found = compare(tuned, base, by=by, layers=layers, metric=EMOJI)
        torch.testing.assert_close(found.values.sum(1), found.total, atol=1e-4, rtol=0)
        change = found.metric_values[1] - found.metric_values[0]
        assert change.abs().max() > 0.05
        torch.testing.assert_close(found.difference().sum(0), change, atol=2e-4, rtol=1e-3)
        assert found.runs == ("base", "tuned")
    with torch.no_grad():
        logits = tuned.model(tuned.tokens, attention_mask=tuned.mask.long())[last(tuned)]
    torch.testing.assert_close(found.metric_values[1], EMOJI(logits), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", thinned(FAMILIES))
def test_split_agrees_with_the_whole(family):
    """Heads of a layer sum to its attention, neurons to its MLP, whatever norms lie between."""
    tuned, _ = two(family)
    whole = attribute(tuned, metric=EMOJI)
    heads = attribute(tuned, by="head", metric=EMOJI)
    neurons = attribute(tuned, by="neuron", layers=range(3), metric=EMOJI)
    for layer in range(3):
        for found, part, letter in ((heads, "a", "h"), (neurons, "m", "n")):
            name = f"{part}{layer}"
            rows = [i for i, n in enumerate(found.names) if n.startswith(f"{name}.{letter}")]
            torch.testing.assert_close(
                found.values[:, rows].sum(1), whole.of(name), atol=1e-4, rtol=0
            )
    torch.testing.assert_close(heads.of("bias"), whole.of("bias"))
    assert heads.grid("head").shape == (1, 3, 4)


def test_gradient_direction_is_expected_emoji_row_minus_expected_other_row():
    run, _ = two("llama")
    found = attribute(run, metric=EMOJI)
    model = run.model.original_model
    with torch.no_grad():
        states = run.model.run_with_cache(run.tokens, attention_mask=run.mask.long())[1]
        final = states["blocks.2.hook_resid_post"][last(run)]
        rms = (final.pow(2).mean(-1, keepdim=True) + model.config.rms_norm_eps).sqrt()
        gain = model.model.norm.weight
        weight = model.get_output_embeddings().weight
        logits = (final / rms * gain) @ weight.T
        ids = vocab().emoji_ids
        emoji = torch.zeros(VOCAB, dtype=torch.bool)
        emoji[ids] = True
        inside = logits.masked_fill(~emoji, -torch.inf).softmax(-1)
        outside = logits.masked_fill(emoji, -torch.inf).softmax(-1)
        direction = (inside - outside) @ weight * gain / rms
        embedded = model.get_input_embeddings()(run.tokens)[last(run)]
        attn = states["blocks.1.hook_attn_out"][last(run)]
    torch.testing.assert_close(found.of("input")[0], (embedded * direction).sum(-1))
    torch.testing.assert_close(found.of("a1")[0], (attn * direction).sum(-1), atol=1e-5, rtol=1e-4)


def test_head_and_neuron_by_hand_under_grouped_queries():
    """Head h owns columns [h d_head, (h + 1) d_head) of o_proj, whichever keys it reads."""
    run, _ = two("llama-mqa")
    model = run.model.original_model
    heads = attribute(run, by="head", direction="fixed", metric=fixed_metric())
    neurons = attribute(run, by="neuron", direction="fixed", metric=fixed_metric())
    with torch.no_grad():
        cache = run.model.run_with_cache(run.tokens, attention_mask=run.mask.long())[1]
        final = cache["blocks.2.hook_resid_post"][last(run)]
        rms = (final.pow(2).mean(-1, keepdim=True) + model.config.rms_norm_eps).sqrt()
        weight = model.get_output_embeddings().weight
        emoji = torch.zeros(VOCAB, dtype=torch.bool)
        emoji[vocab().emoji_ids] = True
        row = weight[emoji].mean(0) - weight[~emoji].mean(0)
        direction = row * model.model.norm.weight / rms
        z = cache["blocks.1.attn.hook_z"][last(run)]
        o = run.model.blocks[1].attn.o.original_component.weight
        head = z[:, 3] @ o[:, 24:32].T
        down = run.model.blocks[2].mlp.out.original_component.weight
        act = cache["blocks.2.mlp.hook_post"][last(run)]
    torch.testing.assert_close(heads.of("a1.h3")[0], (head * direction).sum(-1))
    wanted = act[:, 7] * (direction @ down[:, 7])
    torch.testing.assert_close(neurons.of("m2.n7")[0], wanted, atol=1e-6, rtol=1e-4)


def fixed_metric():
    def metric(logits):
        return EMOJI(logits)

    metric.ids = vocab().emoji_ids
    return metric


@pytest.mark.parametrize(("family", "unit"), [("llama", "component"), ("llama", "head")])
def test_agrees_with_transformer_lens(family, unit):
    """Its own attribution of a logit difference, on a copy with weights folded as it wants them."""
    model = bridge(family, 1)
    tokens, _ = prompts([6, 6])
    found = attribute(
        Run(model, tokens), by=unit, metric=lambda logits: logits[:, 40] - logits[:, 50]
    )
    twin = bridge(family, 1)
    twin.enable_compatibility_mode()
    theirs = direct_logit_attribution(
        twin, tokens, answer_tokens=40, incorrect_tokens=50, unit=unit
    )
    for label, values in zip(theirs.labels, theirs.attribution, strict=True):
        name = {"embed": "input", "remainder": None}.get(label, label)
        if name is None:
            continue
        if unit == "component" and name != "input":
            layer, kind, _ = name.split("_")
            name = f"{kind[0]}{layer}"
        if unit == "head":
            layer, head = name[1:].split("H")
            name = f"a{layer}.h{head}"
        torch.testing.assert_close(found.of(name)[0], values, atol=1e-4, rtol=1e-3)


def test_path_gradient_is_the_mean_of_finite_differences_along_the_line():
    tuned, _ = two("gemma2")  # with a final soft-cap
    unembed = Unembedding.of(tuned.model)
    generator = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 3, 32, generator=generator).double()
    head = copy.deepcopy(unembed.module).double()
    exact = Unembedding(head, unembed.softcap)
    found, missed = path(exact, pick, start, end)
    assert missed < 1e-4
    step, bump = 1e-4, torch.randn(3, 32, generator=generator).double()
    slopes = []
    with torch.no_grad():
        for t in (torch.arange(400) + 0.5) / 400:
            here = start + float(t) * (end - start)
            high, low = (pick(exact(here + sign * step * bump).double()) for sign in (1, -1))
            slopes.append((high - low) / (2 * step))
    wanted = torch.stack(slopes).mean(0)
    torch.testing.assert_close((found.double() * bump).sum(-1), wanted, atol=2e-2, rtol=2e-2)


def test_padding_side_and_columns_do_not_matter():
    left, right = (two("llama", (7, 4), side)[0] for side in ("left", "right"))
    one, other = (attribute(run, by="head", metric=EMOJI) for run in (left, right))
    # the two paddings draw the same ids row by row
    torch.testing.assert_close(one.values, other.values, atol=1e-5, rtol=0)
    early = attribute(right, metric=EMOJI, ask=Question(places=torch.tensor([3, 3])))
    cut = attribute(Run(right.model, right.tokens[:, :4]), metric=EMOJI)
    torch.testing.assert_close(early.values, cut.values, atol=1e-5, rtol=0)


def test_batches_change_nothing_and_progress_counts_prompts():
    tuned, base = two("llama", (6, 5, 4, 6, 3))
    seen = []
    small = compare(
        tuned, base, metric=EMOJI, ask=Question(batch_size=2, progress=lambda *c: seen.append(c))
    )
    whole = compare(tuned, base, metric=EMOJI)
    torch.testing.assert_close(small.values, whole.values, atol=1e-5, rtol=0)
    assert [done for _, done, total in seen if total == 5] == [2, 4, 5] * 2


def test_biases_are_a_component_of_their_own():
    run, _ = two("gpt2")
    before = attribute(run, metric=lambda x: x[:, 40] - x[:, 50])
    with torch.no_grad():
        run.model.blocks[2].mlp.out.original_component.bias.add_(torch.linspace(-1, 1, 32))
    after = attribute(run, metric=lambda x: x[:, 40] - x[:, 50])
    # what others wrote moves with the final norm's scale alone: by one factor per prompt
    ratio = after.of("m2") / before.of("m2")
    torch.testing.assert_close(ratio, after.of("input") / before.of("input"), atol=1e-4, rtol=1e-4)
    assert (after.of("bias") - before.of("bias")).abs().max() > 0.05


def test_summary():
    tuned, base = two("llama", (6, 5, 6, 4, 5, 6))
    found = compare(tuned, base, by="head", metric=EMOJI)
    table = found.summary(clusters=list("aabbcc"), seed=3)
    row = table[table["name"] == "a1.h2"].iloc[0]
    values = found.of("a1.h2")
    assert row["difference"] == pytest.approx(float((values[1] - values[0]).mean()), abs=1e-6)
    assert row["low"] <= row["difference"] <= row["high"]
    assert (row["kind"], row["layer"], row["element"]) == ("head", 1, 2)
    assert len(found.to_dataframe()) == 2 * len(found.names) * 6


@pytest.mark.parametrize("family", thinned(["llama", "gemma2", "gpt2", "gpt_neox"], keep=4))
def test_half_precision_stays_near_the_measured_change(family):
    half = [bridge(family, 1, torch.bfloat16) for _ in range(2)]
    with torch.no_grad():
        for block in half[1].blocks:
            block.mlp.out.original_component.weight[:16] *= 1.5
    tokens, mask = prompts([7, 5])
    found = compare(Run(half[1], tokens, mask), Run(half[0], tokens, mask), by="head", metric=EMOJI)
    torch.testing.assert_close(found.values.sum(1), found.total, atol=2e-2, rtol=1e-2)
    change = found.metric_values[1] - found.metric_values[0]
    torch.testing.assert_close(found.difference().sum(0), change, atol=5e-2, rtol=0)


def test_bad_input():
    tuned, base = two("llama")
    with pytest.raises(InputError, match="cannot attribute by 'layer'"):
        compare(tuned, base, by="layer")
    with pytest.raises(InputError, match="unknown direction 'mean'"):
        compare(tuned, base, direction="mean", metric=EMOJI)
    with pytest.raises(InputError, match="layer 3 does not exist"):
        compare(tuned, base, by="head", layers=[3], metric=EMOJI)
    with pytest.raises(InputError, match="by component has all layers"):
        compare(tuned, base, layers=[0], metric=EMOJI)
    with pytest.raises(InputError, match="no token ids"):
        compare(tuned, base, direction="fixed", metric=pick)
    with pytest.raises(InputError, match="no gradient with respect to the logits"):
        attribute(tuned, metric=lambda logits: logits.argmax(-1).float())
    with pytest.raises(InputError, match="a path runs between two runs"):
        attribute(tuned, direction="path", metric=EMOJI)
    with pytest.raises(InputError, match="one run only"):
        attribute(tuned, metric=EMOJI).difference()
    with pytest.raises(InputError, match="no component 'a9'"):
        attribute(tuned, metric=EMOJI).of("a9")
    with pytest.raises(ModelError, match="unembed differently"):
        compare(tuned, Run(bridge("llama", 2), tuned.tokens, tuned.mask), metric=EMOJI)


def test_a_stream_that_is_written_to_elsewhere_is_refused():
    run, _ = two("llama")
    run.model.add_hook("blocks.1.hook_resid_post", lambda value, **_: value * 1.5)
    with pytest.raises(ModelError, match="off the projected total"):
        attribute(run, metric=EMOJI)
    run.model.reset_hooks()


def test_gains_that_are_stored_less_one_are_told_from_others_in_half_precision():
    """Of large ones both readings pass a bar that half precision needs; one is nearer."""
    norm = Gemma2RMSNorm(64).requires_grad_(False)
    norm.weight.copy_(torch.linspace(30, 50, 64))
    norm = norm.to(torch.bfloat16)
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(FrozenNorm.of(norm, x).weight, 1 + norm.weight.float())
