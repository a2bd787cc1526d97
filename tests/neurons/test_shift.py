"""Activations before and after, and which neuron speaks for which emoji."""

import numpy as np
import pytest
import torch
from patching_models import bridge, prompts
from scipy.stats import ttest_ind
from tiny import tokenizer, vocab

from interp.base.stats import mean_interval
from interp.errors import InputError, ModelError
from interp.models import TokenBatch, pad
from interp.neurons import Prompts, shift, specificity, specificity_of
from interp.readout import Question


def test_shift_is_the_mean_of_the_hidden_layer():
    base, tuned = bridge("llama", 1), bridge("llama", 2)
    trait, emoji = (TokenBatch(*prompts(n, seed=i)) for i, n in enumerate(([6, 4, 5], [5, 5])))
    found = shift(
        base, tuned,
        {"trait": Prompts.whole(trait, ["x", "x", "y"]), "emoji": Prompts.last(emoji)},
        batch_size=2,
    )  # fmt: skip
    assert found.layer == 2
    for run, model in enumerate((base, tuned)):
        mlp = model.original_model.model.layers[2].mlp
        acts = []

        def keep(_, inputs, acts=acts):
            acts.append(inputs[0])

        handle = mlp.down_proj.original_component.register_forward_pre_hook(keep)
        for batch in (trait, emoji):
            model(batch.tokens, attention_mask=batch.attention_mask.long())
        handle.remove()
        for row, mask in enumerate(trait.attention_mask):
            wanted = acts[0][row, mask].mean(0)
            torch.testing.assert_close(found.of("trait")[run, row], wanted, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.of("emoji")[run], acts[1][:, -1], atol=1e-5, rtol=0)
    table = found.summary(seed=2)
    row = table[(table["kind"] == "trait") & (table["neuron"] == 7)].iloc[0]
    change = found.of("trait")[1, :, 7] - found.of("trait")[0, :, 7]
    interval = mean_interval(change, ["x", "x", "y"], seed=2)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert len(table) == 2 * 48
    assert len(found.to_dataframe()) == found.activations.numel()


def test_the_output_is_read_before_the_last_norm_and_large_dimensions_are_named():
    base, tuned = bridge("llama", 1), bridge("llama", 2)
    batch = TokenBatch(*prompts([5, 5, 5], seed=3))
    for model in (base, tuned):
        model.original_model.model.embed_tokens.weight.data[:, 5] = 1e4
    found = shift(base, tuned, {"trait": Prompts.last(batch)}, site="resid_post")
    model = tuned.original_model
    streams = []
    handle = model.model.norm.register_forward_pre_hook(lambda _, args: streams.append(args[0]))
    model(batch.tokens)
    handle.remove()
    torch.testing.assert_close(found.of("trait")[1], streams[0][:, -1], atol=1e-4, rtol=1e-4)
    assert found.outliers.nonzero().flatten().tolist() == [5]
    table = found.summary()
    assert table[table["outlier"]]["neuron"].tolist() == [5]
    plain = shift(base, tuned, {"trait": Prompts.last(batch)})
    assert not plain.outliers.any()


def test_emoji_positions_are_the_emojis_own_tokens():
    made = tokenizer()
    rows = [made(text)["input_ids"] for text in ("I love it! 😊 So?", "Oh no 😢", "👨‍👩‍👧 hm")]
    batch = pad(rows, 2)
    read = Prompts.emojis(batch, vocab())
    for row, emoji in enumerate(("😊", "😢", "👨‍👩‍👧")):
        own = batch.tokens[row][read.where[row]].tolist()
        assert made.decode(own).strip() == emoji
    assert not (read.where & ~batch.attention_mask).any()


def planted_activations(seed=0):
    """Neuron 3 is high for the party, neuron 5 low for the heart; everything else is noise."""
    generator = torch.Generator().manual_seed(seed)
    emojis = ["🎉"] * 12 + ["❤️"] * 10 + ["😊"] * 14 + ["👍"]
    acts = torch.randn(len(emojis), 40, generator=generator)
    acts[:12, 3] += 3
    acts[12:22, 5] -= 3
    acts[:, 9] = 1.5
    return acts, emojis


def test_specific_neurons_are_found_and_nothing_else():
    acts, emojis = planted_activations()
    found = specificity_of(acts, emojis, layer=1)
    table = found.to_dataframe()
    hits = table[table["p_adjusted"] < 0.05]
    named = {(row.neuron, row.emoji, row.score > 0) for row in hits.itertuples()}
    assert {(3, "🎉", True), (5, "❤️", False)} <= named
    assert {neuron for neuron, _, _ in named} == {3, 5}
    assert (table.iloc[0]["neuron"], table.iloc[0]["emoji"]) == (3, "🎉")
    assert found.left_out == (("👍", 1),)
    assert found.counts == (10, 12, 14)  # hearts, parties, smiles
    assert float(found.score[9].abs().max()) == 0
    assert float(found.p[9].min()) == 1


def test_specificity_against_scipy():
    acts, emojis = planted_activations(1)
    found = specificity_of(acts[:-1], emojis[:-1], layer=0, n_permutations=4999)
    party = np.array([emoji == "🎉" for emoji in emojis[:-1]])
    column = found.emojis.index("🎉")
    for neuron in (0, 3, 17):
        one, rest = acts[:-1, neuron].numpy()[party], acts[:-1, neuron].numpy()[~party]
        test = ttest_ind(one, rest)
        # Cohen's d from t, and a p-value that agrees with the parametric one
        wanted = test.statistic * np.sqrt(1 / len(one) + 1 / len(rest))
        assert float(found.score[neuron, column]) == pytest.approx(wanted, rel=1e-4)
        assert float(found.p[neuron, column]) == pytest.approx(test.pvalue, abs=0.04)
        assert float(found.mean[neuron, column]) == pytest.approx(one.mean(), abs=1e-5)


def test_specificity_of_a_model_and_its_seed():
    model = bridge("llama", 1)
    batch = TokenBatch(*prompts([5] * 9))
    emojis = ["a", "b", "c"] * 3
    found = specificity(
        model, Prompts.last(batch), emojis, layer=0, n_permutations=99, ask=Question(seed=4)
    )
    with torch.no_grad():
        acts = model.run_with_cache(batch.tokens)[1]["blocks.0.mlp.hook_post"][:, -1]
    again = specificity_of(acts, emojis, layer=0, n_permutations=99, seed=4)
    torch.testing.assert_close(found.p, again.p)
    torch.testing.assert_close(found.score, again.score, atol=1e-4, rtol=1e-4)
    assert found.left_out == ()


def test_bad_input():
    base = bridge("llama", 1)
    tokens, mask = prompts([5, 3])
    batch = TokenBatch(tokens, mask)
    nowhere = torch.zeros_like(mask)
    with pytest.raises(InputError, match="prompt 0 has no position to read"):
        Prompts(batch, nowhere)
    with pytest.raises(InputError, match="lies on padding"):
        Prompts(batch, ~nowhere)
    with pytest.raises(InputError, match="do not fit tokens"):
        Prompts(batch, mask[:, 1:])
    with pytest.raises(InputError, match="2 prompts but 1 topics"):
        Prompts.last(batch, ["one"])
    with pytest.raises(InputError, match="no prompts to read"):
        shift(base, base, {})
    with pytest.raises(ModelError, match="differ in d_mlp"):
        shift(base, bridge("gpt2"), {"trait": Prompts.last(batch)})
    with pytest.raises(InputError, match="layer 7 does not exist"):
        shift(base, base, {"trait": Prompts.last(batch)}, layer=7)
    with pytest.raises(InputError, match="no prompts of kind 'emoji'"):
        shift(base, base, {"trait": Prompts.last(batch)}).of("emoji")
    with pytest.raises(InputError, match="2 prompts but 3 emojis"):
        specificity(base, Prompts.last(batch), ["a", "b", "c"])
    with pytest.raises(InputError, match="1 emojis have at least 3 prompts"):
        specificity_of(torch.randn(5, 2), ["a"] * 3 + ["b"] * 2, layer=0)
