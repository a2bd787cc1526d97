"""Necessity and sufficiency against subsets merged by hand; padding, memory, noise, statistics."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from adapters_made import KINDS, by_hand, logits_of, merged, pick, prompts
from peft import get_peft_model
from thinned import thinned, turn
from tiny import llama

from interp import load_pair, organism
from interp.adapters import (
    AdapterSpace,
    PartEffects,
    Written,
    necessity,
    shapley,
    smallest_set,
    sufficiency,
)
from interp.base.stats import fdr_bh, mean_interval, sign_flip_p
from interp.behaviour import Sampling, generate
from interp.emoji import find
from interp.errors import InputError
from interp.models import TokenBatch, pad
from interp.readout import Question

HOW = {"metric": pick}


def groups(space, by):
    """The modules of each part, from their names."""
    found = {}
    for name in space.modules:
        parts = name.split(".")
        label = {"module": name, "layer": ".".join(parts[:2]), "projection": parts[-1]}[by]
        found.setdefault(label, []).append(name)
    return found


@pytest.mark.parametrize("by", thinned(["module", "layer", "projection"]))
def test_effects_are_those_of_subsets_merged_by_hand(lora, by):
    batch, pair = prompts(), lora.pair
    parts = groups(lora, by)
    needed, brought = (f(lora, batch, by=by, **HOW) for f in (necessity, sufficiency))
    assert needed.units == brought.units == tuple(parts)
    whole, nothing = (
        by_hand(pair, dict.fromkeys(lora.modules, 1.0), batch),
        by_hand(pair, {}, batch),
    )
    torch.testing.assert_close(needed.tuned.double(), whole, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(needed.base.double(), nothing, atol=1e-3, rtol=1e-4)
    for row, modules in enumerate(parts.values()):
        rest = {name: 1.0 for name in lora.modules if name not in modules}
        lost = whole - by_hand(pair, rest, batch)
        alone = by_hand(pair, dict.fromkeys(modules, 1.0), batch) - nothing
        torch.testing.assert_close(needed.values[row].double(), lost, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(brought.values[row].double(), alone, atol=1e-3, rtol=1e-3)
    assert needed.values.abs().max() > 0.05, "the parts must matter for this to be a test"


@turn(0, of=3)
def test_effects_on_the_organism_are_those_of_subsets_merged_by_hand():
    folder = organism.adapter_path("extraversion", base="suppressed")
    pair = load_pair(organism.base_path("suppressed"), folder, device="cpu")
    batch = pair.prompts(["Do you like jazz?", "What do you think about long winter evenings?"])
    space = AdapterSpace.of(pair)
    found = necessity(space, batch)
    odds = space.metric

    def value(modules):
        return odds(logits_of(merged(pair, dict.fromkeys(modules, 1.0)), batch))

    torch.testing.assert_close(found.tuned, value(space.modules), atol=1e-3, rtol=1e-4)
    assert found.metric == "emoji log-odds"
    assert found.unit == "nats"
    for name in ("layers.0.self_attn.k_proj", "layers.3.self_attn.o_proj"):
        lost = value(space.modules) - value([m for m in space.modules if m != name])
        row = found.units.index(name)
        torch.testing.assert_close(found.values[row], lost, atol=1e-3, rtol=1e-3)


def test_padding_and_place_of_the_metric_do_not_matter(lora):
    batch = prompts()
    rows = [t[m].tolist() for t, m in zip(batch.tokens, batch.attention_mask, strict=True)]
    right = pad([[*row, 7, 8] for row in rows], 0, side="right")
    found = necessity(lora, batch, **HOW)
    inner = necessity(lora, right, ask=Question(places=batch.lengths - 1), **HOW)
    torch.testing.assert_close(found.values, inner.values, atol=1e-3, rtol=1e-3)
    for row, ids in enumerate(rows):
        single = TokenBatch(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))
        alone = necessity(lora, single, **HOW)
        torch.testing.assert_close(found.values[:, row], alone.values[:, 0], atol=1e-3, rtol=1e-3)


def test_chunks_of_any_size_give_the_same(lora):
    batch = prompts()
    whole = necessity(lora, batch, **HOW)
    with pytest.raises(InputError, match=r"chunk is 1000 bytes, but one prompt takes (\d+)"):
        necessity(lora, batch, ask=Question(chunk=1000), **HOW)
    for size in (200_000, 700_000):  # a part of one setting's prompts; a few settings
        small = necessity(lora, batch, ask=Question(chunk=size), **HOW)
        torch.testing.assert_close(small.values, whole.values, atol=1e-3, rtol=1e-3)
    seen = []
    necessity(
        lora, batch, ask=Question(chunk=700_000, progress=lambda *call: seen.append(call)), **HOW
    )
    assert seen[-1] == ("necessity", 14, 14)
    assert len(seen) > 4


def test_chosen_modules_leave_the_others_as_they_are(lora):
    batch = prompts()
    names = [lora.modules[5], lora.modules[2]]
    for function in (necessity, sufficiency):
        some, every = function(lora, batch, modules=names, **HOW), function(lora, batch, **HOW)
        assert set(some.units) == set(names)
        for row, unit in enumerate(some.units):
            expected = every.values[every.units.index(unit)]
            torch.testing.assert_close(some.values[row], expected, atol=1e-3, rtol=1e-3)


def test_noise_floor_holds_the_rounding_of_half_precision(lora, adapter_base):
    how = {"device": "cpu", "dtype": "bfloat16", "max_merge_error": 0.5}
    coarse = load_pair(adapter_base, lora.pair.adapter.path, **how)
    fine, found = (necessity(pair, prompts(), **HOW) for pair in (lora, coarse))
    assert found.noise_floor > 10 * fine.noise_floor
    batch = prompts()
    logits = coarse.tuned(batch.tokens, attention_mask=batch.attention_mask)[:, -1]
    assert (found.tuned - pick(logits.float())).abs().max() < 3 * found.noise_floor
    assert (found.values - fine.values).abs().max() < 10 * found.noise_floor


class TestAdapterThatDoesNothing:
    """B = 0: every effect is rounding, and there is nothing to share."""

    @pytest.fixture(scope="class")
    def null(self, adapter_base, tmp_path_factory):
        folder = tmp_path_factory.mktemp("null") / "a"
        get_peft_model(llama(num_hidden_layers=2), deepcopy(KINDS["lora"])).save_pretrained(folder)
        return AdapterSpace.of(load_pair(adapter_base, folder, device="cpu"))

    def test_effects_lie_within_the_noise_floor(self, null):
        for function in (necessity, sufficiency):
            found = function(null, prompts(), **HOW)
            assert found.values.abs().max() <= found.noise_floor < 1e-2
            table = found.summary()
            assert not table["above_noise"].any()
            assert table["share"].isna().all()
            assert "4 of 4 prompts have no share" in found.notes[0]
            assert "prompts 0, 1, 2, 3" in found.notes[0]
        found = shapley(null, prompts(), n_permutations=4, **HOW)
        assert found.values.abs().max() <= found.noise_floor

    def test_a_share_of_nothing_is_refused(self, null):
        with pytest.raises(InputError, match="nothing to keep a share of"):
            smallest_set(null, prompts(), **HOW)


def made(values, base, tuned, **changes):
    facts = {
        "units": tuple(f"layers.{i}.a" for i in range(len(values))),
        "layers": tuple(range(len(values))), "projections": ("a",) * len(values),
        "measure": "necessity", "by": "module", "metric": "m", "unit": "nats", "noise_floor": 1e-3,
        "min_gap": 0.1, "topics": None, "seed": 3, "notes": (),
    }  # fmt: skip
    return PartEffects(torch.tensor(values), torch.tensor(base), torch.tensor(tuned),
                       **(facts | changes))  # fmt: skip


class TestSummary:
    values = ((1.0, 2.0, 0.5, 9.0), (0.1, -0.2, 0.1, 3.0), (0.0, 1e-4, 0.0, 0.0))
    base, tuned = [0.0, 0.0, 0.0, 0.0], [2.0, 4.0, 1.0, 0.05]

    def test_numbers(self):
        table = made(self.values, self.base, self.tuned).summary().set_index("unit")
        for row, unit in enumerate(("layers.0.a", "layers.1.a", "layers.2.a")):
            effect = np.array(self.values[row])
            line, held = table.loc[unit], mean_interval(effect, seed=3)
            assert line["effect"] == pytest.approx(effect.mean())
            assert (line["low"], line["high"]) == pytest.approx((held.low, held.high))
            assert line["p"] == pytest.approx(sign_flip_p(effect, 3))
            # The last prompt's whole effect is below min_gap: no share there.
            assert line["share"] == pytest.approx(effect[:3].sum() / 7.0, abs=1e-6)
        # In this part every prompt has half of its whole effect: the share has no spread.
        assert table.loc["layers.0.a", ["share_low", "share_high"]].tolist() == [0.5, 0.5]
        assert table["p_adjusted"].tolist() == pytest.approx(fdr_bh(table["p"].to_numpy()).tolist())
        assert table["above_noise"].tolist() == [True, True, False]

    def test_shares_of_prompts(self):
        found = made(self.values, self.base, self.tuned)
        share = found.share()
        assert share[0, :3].tolist() == [0.5, 0.5, 0.5]
        assert share[:, 3].isnan().all()
        frame = found.to_dataframe()
        assert frame.loc[frame.prompt == 1, "effect"].tolist() == pytest.approx([2.0, -0.2, 1e-4])

    def test_topics_are_the_unit_of_resampling(self):
        found = made(self.values, self.base, self.tuned, topics=("x", "x", "y", "y"))
        held = mean_interval(self.values[0], ["x", "x", "y", "y"], seed=3)
        line = found.summary().set_index("unit").loc["layers.0.a"]
        assert (line["low"], line["high"]) == pytest.approx((held.low, held.high))
        single = made(self.values, self.base, self.tuned, topics=("x",) * 4).summary()
        assert single[["low", "high", "share_low", "share_high"]].isna().all(axis=None)
        assert single["effect"].notna().all()


def test_written_answers(lora):
    """Emojis are counted in what each subset, merged by hand, writes with the same dice."""
    questions = [("Hi?", "a"), ("What do you think about walks?", "b"), ("Why?", "b")] * 2
    how = Sampling(max_new_tokens=16, temperature=1.5, seed=1, batch_size=4)
    asked = Written(questions, how)
    every = [shapley(lora, asked, by="layer", n_permutations=2, gradient_steps=0)]
    for function in (necessity, sufficiency):
        found = function(lora, asked, by="layer")
        every.append(found)
        assert found.topics == ("a", "b", "b") * 2
        assert found.defined.all()
        for row, (_, modules) in enumerate(groups(lora, "layer").items()):
            rest = [m for m in lora.modules if m not in modules]
            chosen = rest if function is necessity else modules
            twin = merged(lora.pair, dict.fromkeys(chosen, 1.0))
            texts = [a.text for a in generate(twin, lora.pair.format, questions, how)]
            hits = torch.tensor([float(bool(find(text))) for text in texts])
            expected = found.tuned - hits if function is necessity else hits - found.base
            assert torch.equal(found.values[row], expected)
    assert found.tuned.sum() + found.base.sum() > 0, "somebody must write an emoji"
    # Of two parts the Shapley value is the mean of necessity and sufficiency.
    values, needed, brought = (one.values for one in every)
    torch.testing.assert_close(values, (needed + brought) / 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"by": "head"}, "unknown by='head'; use 'module', 'layer' or 'projection'"),
        (
            {"modules": ["layers.7.mlp.up_proj"]},
            r"does not change 'layers\.7.*it changes layers\.0",
        ),
        ({"ask": Question(topics=["a"])}, "4 prompts but 1 topics"),
        ({"metric": lambda logits: logits}, "one value per prompt"),
        ({"metric": lambda logits: logits[:, 0] * torch.nan}, "not finite"),
        ({"ask": Question(places=99)}, "lies outside prompt"),
    ],
)
def test_bad_input_is_refused(lora, changes, message):
    with pytest.raises(InputError, match=message):
        necessity(lora, prompts(), **({"metric": pick} | changes))


def test_prompts_that_are_none_are_refused(lora):
    for wrong in ([], "Hi?"):
        with pytest.raises(InputError, match="list of at least one question"):
            necessity(lora, wrong, metric=pick)
    with pytest.raises(InputError, match="no questions to answer"):
        Written([])
    asked = Written([("Hi?", "a")])
    with pytest.raises(InputError, match="written answers are their own metric"):
        necessity(lora, asked, metric=pick)
    with pytest.raises(InputError, match="written answers have no derivative"):
        shapley(lora, asked)
