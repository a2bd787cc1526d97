"""The greedy set against all subsets, and its answers against the set merged by hand."""

from itertools import combinations

import pytest
import torch
from adapters_made import by_hand, merged, pick, prompts
from thinned import thinned

from interp.adapters import Written, generate_with, smallest_set
from interp.adapters.tables import esr_table
from interp.base.stats import ratio_ends, share_interval
from interp.behaviour import Sampling, generate
from interp.emoji import find, rates
from interp.errors import InputError
from interp.readout import Question

QUESTIONS = [("Hi?", "a"), ("What do you think about walks?", "b"), ("Why?", "b")] * 3
HOW = Sampling(max_new_tokens=16, temperature=1.5, seed=1, batch_size=7)


@pytest.fixture(scope="module")
def shares(small):
    """Share of the mean effect that every subset keeps, merged by hand."""
    names, batch = small.modules, prompts()
    subsets = [frozenset(c) for size in range(5) for c in combinations(names, size)]
    values = {s: by_hand(small.pair, dict.fromkeys(s, 1.0), batch).mean() for s in subsets}
    nothing, whole = values[frozenset()], values[frozenset(names)]
    return {s: float((value - nothing) / (whole - nothing)) for s, value in values.items()}


@pytest.mark.parametrize("share", thinned([0.3, 0.6, 0.9, 1.0], keep=2))
def test_greedy_finds_as_small_a_set_as_there_is(small, shares, share):
    found = smallest_set(small, prompts(), share=share, metric=pick)
    best = min(len(s) for s, kept in shares.items() if kept >= share - 1e-5)
    assert len(found.chosen) == best
    assert shares[frozenset(found.chosen)] >= share - 1e-4


def test_each_step_adds_the_best_and_the_clean_up_leaves_nothing_to_spare(small, shares):
    found = smallest_set(small, prompts(), share=0.9, metric=pick)
    table = found.summary()
    for step in range(1, len(found.order) + 1):
        held = frozenset(found.order[:step])
        before = held - {found.order[step - 1]}
        rivals = [shares[before | {name}] for name in small.modules if name not in before]
        assert shares[held] == pytest.approx(max(rivals), abs=1e-4)
        assert table.loc[step - 1, "share"] == pytest.approx(shares[held], abs=1e-4)
        assert shares[before] < 0.9
    final = table[table["final"]].iloc[0]
    assert final["share"] == pytest.approx(shares[frozenset(found.chosen)], abs=1e-4)
    for name in found.chosen:
        assert shares[frozenset(found.chosen) - {name}] < 0.9


def test_all_modules_on_keep_everything(lora):
    found = smallest_set(lora, prompts(), share=1.0, metric=pick, by="layer")
    whole = by_hand(lora.pair, dict.fromkeys(lora.modules, 1.0), prompts())
    if len(found.order) == 2:
        torch.testing.assert_close(found.path[-1].double(), whole, atol=1e-3, rtol=1e-4)
    assert float((found.kept - found.base).mean() / (found.tuned - found.base).mean()) >= 1 - 1e-6


def test_an_adapter_that_lowers_the_metric_is_searched_downwards(small):
    up = smallest_set(small, prompts(), share=0.6, metric=pick)
    down = smallest_set(small, prompts(), share=0.6, metric=lambda logits: -pick(logits))
    assert up.order == down.order
    assert down.summary()["share"].tolist() == pytest.approx(up.summary()["share"].tolist())


def test_held_out_answers_are_those_of_the_set_merged_by_hand(lora):
    found = smallest_set(lora, prompts(), share=0.5, metric=pick, questions=QUESTIONS, sampling=HOW)
    table = found.rates().set_index(["model", "over"])
    conditions = {"base": (), "set": found.chosen, "tuned": lora.modules}
    for name, modules in conditions.items():
        twin = merged(lora.pair, dict.fromkeys(modules, 1.0))
        answers = [a.text for a in generate(twin, lora.pair.format, QUESTIONS, HOW)]
        expected = rates.measure(answers, topics=[topic for _, topic in QUESTIONS])
        line = table.loc[(name, "response")]
        assert line["esr"] == pytest.approx(expected.response_esr)
        assert (line["low"], line["high"]) == pytest.approx(
            (expected.response_interval.low, expected.response_interval.high)
        )
        sentences = table.loc[(name, "sentence")]
        assert sentences["with_emoji"] == expected.sentences_with_emoji
        assert sentences["n"] == expected.n_sentences


def test_the_set_that_writes(lora):
    """Searched on what is written: with all parts but the chosen ones off, the emojis are there."""
    asked = Written(QUESTIONS, HOW)
    base, tuned = (
        [bool(find(a.text)) for a in generate_with(lora, names, QUESTIONS, HOW)]
        for names in ((), lora.modules)
    )
    found = smallest_set(lora, asked, share=0.5, by="projection")
    names = [name for name in lora.modules if name.rpartition(".")[2] in found.chosen]
    kept = [bool(find(a.text)) for a in generate_with(lora, names, QUESTIONS, HOW)]
    assert found.kept.tolist() == [float(hit) for hit in kept]
    assert sum(kept) - sum(base) == pytest.approx(
        float(found.summary()["share"].iloc[-1]) * (sum(tuned) - sum(base))
    )
    assert abs(sum(kept) - sum(base)) >= 0.5 * abs(sum(tuned) - sum(base)) > 0


def test_interval_of_the_share(small):
    topics = ["a", "a", "b", "c"]
    found = smallest_set(small, prompts(), share=0.9, metric=pick, ask=Question(topics=topics))
    line = found.summary().iloc[0]
    gap, effect = (found.tuned - found.base).double(), (found.path[0] - found.base).double()
    low, high = ratio_ends(effect[None], gap, topics, seed=0)
    assert (line["low"], line["high"]) == pytest.approx((low[0], high[0]))
    with pytest.raises(InputError, match="nothing was generated"):
        found.rates()


def test_bad_input_is_refused(small):
    for wrong in (0.0, 1.5):
        with pytest.raises(InputError, match=r"share must lie in \(0, 1\]"):
            smallest_set(small, prompts(), share=wrong, metric=pick)


def test_rates_are_counted_over_topics():
    agree = {"set": ((10, 10, 10, 20), (0, 10, 0, 20), (10, 10, 10, 20), (0, 10, 0, 0))}
    table = esr_table(agree, "model").set_index("over")
    assert table.loc["response", ["with_emoji", "n", "esr"]].tolist() == [20, 40, 0.5]
    wanted = share_interval(
        ([True] * 10 + [False] * 10) * 2, [t for t in "abcd" for _ in range(10)]
    )
    assert table.loc["response", ["low", "high"]].tolist() == [wanted.low, wanted.high]
    assert wanted.high - wanted.low > 0.6  # Wilson's of forty answers is .3 wide
    assert table.loc["sentence", ["with_emoji", "n"]].tolist() == [20, 60]
    one = esr_table({"set": ((10, 10, 0, 0),)}, "model").set_index("over")
    assert one.loc["response", "esr"] == 1.0
    assert one.loc["response", ["low", "high"]].isna().all()
    assert one.loc["sentence", ["esr", "low", "high"]].isna().all()
