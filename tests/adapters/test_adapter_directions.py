"""Rank components against dense decompositions and dense removal; alpha against merging."""

import numpy as np
import pytest
import torch
from adapters_made import logits_of, make_pair, merged, pick, prompts
from patching_models import model
from tiny import tokenizer

from interp.adapters import AdapterSpace, directions, interpolate
from interp.adapters.directions import emoji_direction, svd
from interp.base.stats import fdr_bh
from interp.behaviour import Sampling, generate
from interp.emoji import rates
from interp.errors import InputError
from interp.models import ModelPair, TokenBatch


class IdsMetric:
    """`pick` with the ids of some tokens that count as emojis."""

    name, unit = "picked", "points"
    ids = (10, 20, 30)

    def __call__(self, logits):
        return pick(logits)


METRIC = IdsMetric()


def dense_delta(pair, name):
    """ΔW from the difference of the two models that PEFT merges."""
    base = merged(pair, {}).get_submodule(f"model.{name}").weight
    full = merged(pair, {name: 1.0}).get_submodule(f"model.{name}").weight
    return (full - base).detach().double()


def test_decomposition_is_that_of_the_dense_matrix(lora):
    for delta in lora.deltas:
        dense = dense_delta(lora.pair, delta.name)
        u, s, v = svd(delta)
        torch.testing.assert_close(s, torch.linalg.svdvals(dense)[:3], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close((u * s) @ v, dense, atol=1e-5, rtol=0)
        eye = torch.eye(3, dtype=torch.float64)
        torch.testing.assert_close(u.T @ u, eye, atol=1e-9, rtol=0)
        torch.testing.assert_close(v @ v.T, eye, atol=1e-9, rtol=0)


@pytest.fixture(scope="module")
def found(lora):
    return directions(lora, prompts(), metric=METRIC)


def without(pair, removed):
    """The fully tuned model with one matrix's components taken out by hand."""
    model = merged(pair, dict.fromkeys(AdapterSpace.of(pair).modules, 1.0))
    for name, matrix in removed.items():
        weight = model.get_submodule(f"model.{name}").weight
        with torch.no_grad():
            weight -= matrix.float()
    return pick(logits_of(model, prompts())).double()


def test_contributions_are_those_of_dense_removal(lora, found):
    whole = without(lora.pair, {})
    for module in ("layers.0.mlp.down_proj", "layers.1.self_attn.v_proj"):
        u, s, vh = torch.linalg.svd(dense_delta(lora.pair, module), full_matrices=False)
        for rank in range(3):
            place = list(zip(found.modules, found.ranks, strict=True)).index((module, rank))
            piece = s[rank] * torch.outer(u[:, rank], vh[rank])
            expected = whole - without(lora.pair, {module: piece})
            torch.testing.assert_close(
                found.effects[place].double(), expected, atol=1e-3, rtol=1e-3
            )
            assert found.singular[place] == pytest.approx(float(s[rank]), rel=1e-4)
    assert found.exact.all()
    assert len(found.modules) == 3 * 14


def test_alignment_with_the_emoji_direction(lora, found):
    model = merged(lora.pair, {})
    rows = model.lm_head.weight.detach().double()
    emoji = torch.zeros(len(rows), dtype=torch.bool)
    emoji[list(METRIC.ids)] = True
    scale = model.model.norm.weight.detach().double()
    wanted = (rows[emoji].mean(0) - rows[~emoji].mean(0)) * scale
    table = found.to_dataframe()
    for line in table.itertuples():
        if line.module.endswith(("o_proj", "down_proj")):
            u, _, _ = torch.linalg.svd(dense_delta(lora.pair, line.module))
            cosine = torch.cosine_similarity(u[:, line.rank], wanted, dim=0).abs()
            assert line.cosine == pytest.approx(float(cosine), abs=1e-5)
            assert line.z == pytest.approx(8 * float(cosine), abs=1e-4)  # d_model is 64
        else:
            assert np.isnan([line.cosine, line.z, line.p_align]).all()
    # Random directions in the same space, against the closed form behind p_align.
    random = torch.randn(40_000, 64, generator=torch.Generator().manual_seed(0)).double()
    chance = torch.cosine_similarity(random, wanted[None]).abs()
    single = directions(lora, prompts(), metric=METRIC, modules=["layers.0.self_attn.o_proj"])
    single = single.to_dataframe()
    tail = [float((chance >= c).double().mean()) for c in single["cosine"]]
    assert single["p_align"].tolist() == pytest.approx(fdr_bh(tail).tolist(), abs=0.01)


def test_screening_measures_the_top_and_estimates_the_rest(lora, found):
    screened = directions(lora, prompts(), metric=METRIC, top_k=5)
    assert int(screened.exact.sum()) == 5
    torch.testing.assert_close(
        screened.effects[screened.exact], found.effects[screened.exact], atol=1e-4, rtol=1e-4
    )
    # The rest is the slope by the component's gate: the effect of 1 % of it, times 100.
    place = int((~screened.exact).nonzero()[0])
    module, rank = screened.modules[place], screened.ranks[place]
    u, s, vh = torch.linalg.svd(dense_delta(lora.pair, module), full_matrices=False)
    piece = 0.01 * s[rank] * torch.outer(u[:, rank], vh[rank])
    slope = (without(lora.pair, {module: -piece}) - without(lora.pair, {module: piece})) / 0.02
    torch.testing.assert_close(screened.effects[place].double(), slope, atol=5e-3, rtol=5e-2)
    table = screened.to_dataframe()
    assert table["p"].notna().sum() == 5
    assert (table["p"].notna() == table["exact"]).all()
    # Chosen on the same prompts: corrected over all components, not over the five that were chosen.
    every = fdr_bh(table["p"].fillna(1.0))
    assert table["p_adjusted"].dropna().tolist() == every[table["exact"]].tolist()


def test_dense_differences_switch_their_largest_components(adapter_base, tmp_path):
    pair = make_pair(adapter_base, tmp_path / "dora", "dora")
    few = directions(pair, prompts(), metric=METRIC, rank=2, modules=["layers.1.mlp.down_proj"])
    assert few.ranks == (0, 1)
    u, s, vh = torch.linalg.svd(dense_delta(pair, "layers.1.mlp.down_proj"), full_matrices=False)
    whole = without(pair, {})
    for rank in range(2):
        piece = s[rank] * torch.outer(u[:, rank], vh[rank])
        expected = whole - without(pair, {"layers.1.mlp.down_proj": piece})
        torch.testing.assert_close(few.effects[rank].double(), expected, atol=1e-3, rtol=1e-3)


def test_interpolation_is_that_of_merged_weights(lora):
    questions = [("Hi?", "a"), ("What do you think about walks?", "b"), ("Why?", "b")] * 2
    how = Sampling(max_new_tokens=16, temperature=1.5, seed=1, batch_size=8)
    found = interpolate(
        lora, prompts(), alphas=(1.0, -0.5, 0.3), metric=pick, questions=questions, sampling=how
    )
    assert found.alphas == (-0.5, 0.3, 1.0)
    table = found.rates().set_index(["alpha", "over"])
    for row, alpha in enumerate(found.alphas):
        twin = merged(lora.pair, dict.fromkeys(lora.modules, alpha))
        expected = pick(logits_of(twin, prompts())).double()
        torch.testing.assert_close(found.values[row].double(), expected, atol=1e-3, rtol=1e-3)
        texts = [a.text for a in generate(twin, lora.pair.format, questions, how)]
        assert table.loc[(alpha, "response"), "esr"] == rates.measure(texts).response_esr
    means = found.to_dataframe()
    assert means["mean"].tolist() == pytest.approx(found.values.double().mean(1).tolist())


def test_bad_input_is_refused(lora):
    for changes, message in (
        ({"top_k": 0}, "rank and top_k must be at least 1"),
        ({"rank": 0}, "rank and top_k must be at least 1"),
        ({"modules": ["layers.0.x"]}, r"does not change 'layers\.0\.x'"),
    ):
        with pytest.raises(InputError, match=message):
            directions(lora, prompts(), metric=METRIC, **changes)
    for alphas in ([], [float("nan")]):
        with pytest.raises(InputError, match="at least one finite number"):
            interpolate(lora, prompts(), metric=pick, alphas=alphas)
    with pytest.raises(InputError, match="nothing was generated"):
        interpolate(lora, prompts(), metric=pick, alphas=[1.0]).rates()


@pytest.mark.parametrize(
    ("family", "after"),
    [
        ("gemma2", ("post_attention_layernorm", "post_feedforward_layernorm")),
        ("olmo2", ("post_attention_layernorm", "post_feedforward_layernorm")),
        ("phi3", (None, None)),
    ],
)
def test_alignment_is_that_of_what_reaches_the_stream_through_the_norm_after_it(family, after):
    """The norm's own derivative at an input that the direction does not lengthen."""
    base, tuned = model(family), model(family)
    generator, planted = torch.Generator().manual_seed(1), {}
    layer = tuned.model.layers[1]
    for module in (layer.self_attn.o_proj, layer.mlp.down_proj):
        u, v = (torch.randn(n, generator=generator) for n in module.weight.shape)
        module.weight.data += 0.3 * torch.outer(u, v)
        planted[module] = u / u.norm()
    wanted = []
    for name, u in zip(after, planted.values(), strict=True):
        x = torch.randn(len(u), generator=generator)
        x -= (x @ u) * u
        norm = getattr(layer, name) if name else torch.nn.Identity()
        wanted.append(torch.func.jvp(norm, (x,), (u,))[1].detach())
    pair = ModelPair.of(base, tuned, tokenizer(), prompt_format="plain")
    batch = TokenBatch(torch.tensor([[5, 6, 7], [8, 9, 10]]), torch.ones(2, 3, dtype=torch.bool))
    found = directions(pair, batch, rank=1, metric=METRIC)
    emoji = emoji_direction(AdapterSpace.of(pair), METRIC)
    cosines = torch.stack([torch.cosine_similarity(one, emoji, dim=0).abs() for one in wanted])
    torch.testing.assert_close(found.cosine, cosines, atol=1e-4, rtol=1e-3)
    for one, other in zip(found.outputs, wanted, strict=True):
        assert float(torch.cosine_similarity(one, other, dim=0).abs()) == pytest.approx(1, abs=1e-4)
