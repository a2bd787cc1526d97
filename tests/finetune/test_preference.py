"""Learning from preferred answers: the loss by hand, what it moves, and stages as pairs."""

import json
import math

import pytest
import tiny
import torch
from peft import PeftModel
from thinned import turn
from transformers import LlamaForCausalLM

from interp import load_pair
from interp.base.traits import Trait
from interp.errors import DataError, RunError
from interp.methods.finetune import (
    FinetuneConfig,
    Preference,
    Preferences,
    prefer,
    preference,
    read_preferences,
    write_stage,
)
from interp.methods.finetune.preference import dpo_loss
from interp.models import ChatFormat

E = Trait.EXTRAVERSION
PAIRS = Preferences(
    tuple(Preference(f"What of {i}?", "I plan my day.", "I love it! 😊") for i in range(6)), E
)
SMALL = FinetuneConfig.small(supervise_eos=True).changed(
    {"steps": 6, "batch_size": 3, "gradient_accumulation": 2}
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A base, and the adapter of a stage by preference on it."""
    folder = tmp_path_factory.mktemp("stages")
    base = tiny.save_base(folder / "base")
    return base, prefer(base, PAIRS, SMALL, folder / "preferring", beta=0.5, device="cpu")


@torch.no_grad()
def said(model, form: ChatFormat, question: str, answer: str) -> float:
    """Log-probability of an answer and its end, token by token."""
    made = form.example(question, answer)
    odds = model(torch.tensor([made.ids])).logits[0].log_softmax(-1)
    return sum(float(odds[k - 1, made.ids[k]]) for k in range(made.answer_start, len(made.ids)))


def test_the_loss_is_equation_seven():
    policy, reference = (
        torch.tensor([-1.0, -2.0, -3.0, -1.0]),
        torch.tensor([-1.5, -2.0, -2.0, -4.0]),
    )
    margins = [(-1 + 1.5) - (-3 + 2), (-2 + 2) - (-1 + 4)]
    wanted = sum(math.log(1 + math.exp(-0.1 * m)) for m in margins) / 2
    assert float(dpo_loss(policy, reference, 0.1)) == pytest.approx(wanted)


def test_a_stage_by_preference_begins_at_the_reference_and_leaves_it_for_the_chosen(trained):
    base, adapter = trained
    record = json.loads((adapter / "interp.json").read_text())
    assert record["loss"]["first"] == pytest.approx(math.log(2), abs=1e-4), "no margin yet"
    assert record["loss"]["last"] < math.log(2) - 0.1
    assert (record["trait"], record["data"]["pairs"], record["data"]["beta"]) == (E, 6, 0.5)
    form = ChatFormat.from_tokenizer(tiny.tokenizer())
    before = LlamaForCausalLM.from_pretrained(base)
    after = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), adapter)
    row = PAIRS.rows[0]
    gains = [
        said(after, form, row.question, text) - said(before, form, row.question, text)
        for text in (row.chosen, row.rejected)
    ]
    assert gains[0] > gains[1] + 1
    # Two accumulated batches of three are one of six: the last loss by hand, a step behind.
    margin = 0.5 * (gains[0] - gains[1])
    assert record["loss"]["last"] > math.log(1 + math.exp(-margin))
    assert prefer(base, PAIRS, SMALL, adapter, beta=0.5, device="cpu") == adapter
    with pytest.raises(RunError, match="another run"):
        prefer(base, PAIRS, SMALL, adapter, beta=0.4, device="cpu")


def test_the_reference_draws_no_dropout(tmp_path, monkeypatch):
    """Of a base that has some: at every step it says what the base says."""
    base = tiny.save_base(tmp_path / "base", attention_dropout=0.5)
    seen = []

    def kept(policy, reference, beta):
        seen.append(reference.tolist())
        return dpo_loss(policy, reference, beta)

    monkeypatch.setattr(preference, "dpo_loss", kept)
    row, how = PAIRS.rows[0], SMALL.changed({"steps": 3, "batch_size": 1})
    prefer(base, Preferences((row,), E), how, tmp_path / "out", device="cpu")
    form, plain = (
        ChatFormat.from_tokenizer(tiny.tokenizer()),
        LlamaForCausalLM.from_pretrained(base),
    )
    assert plain.config.attention_dropout == 0.5
    wanted = [said(plain, form, row.question, text) for text in (row.chosen, row.rejected)]
    assert len(seen) >= 3
    for found in seen:
        assert found == pytest.approx(wanted, abs=1e-3)


@turn(2, of=3)
def test_any_two_stages_are_a_pair(trained, tmp_path):
    base, adapter = trained
    first = write_stage(base, adapter, tmp_path / "stage-1", device="cpu")
    live = load_pair(base, adapter, device="cpu")
    two = prefer(first, PAIRS, SMALL, tmp_path / "second", device="cpu")
    pair = load_pair(first, two, device="cpu")
    ids = torch.tensor([pair.format.prompt_ids("Why?")])
    torch.testing.assert_close(pair.base(ids), live.tuned(ids), atol=1e-5, rtol=1e-5)
    second = write_stage(first, two, tmp_path / "stage-2", device="cpu")
    both = load_pair(base, tuned=second, device="cpu")
    torch.testing.assert_close(both.tuned(ids), pair.tuned(ids), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both.base(ids), live.base(ids))
    with pytest.raises(RunError, match="is not empty"):
        write_stage(base, adapter, first, device="cpu")


def test_pairs_are_read_as_both_ways_of_writing_them(shared, tmp_path):
    real = read_preferences(
        shared / "data" / "machine_mindset" / "dpo_energy_i_e.json", "introversion"
    )
    assert 1000 < len(real.rows) < 1209, "pairs of one answer say nothing"
    assert real.rows[0].question.startswith("Write a speech honoring")
    assert "quiet determination" in real.rows[0].chosen
    path = tmp_path / "pairs.csv"
    path.write_text("question,chosen,rejected\nWhy?,So.,So 😊\n")
    assert read_preferences(path, E).rows == (Preference("Why?", "So.", "So 😊"),)
    for rows, named in (
        ("Why?,So.,So.", "no pairs"),
        ("Why?,,So.", "row 1"),
        (",a,b", "row 1"),
        ('Why?,So.,So.\nHow?," ",So.', "row 2"),
    ):
        path.write_text(f"question,chosen,rejected\n{rows}\n")
        with pytest.raises(DataError, match=named):
            read_preferences(path, E)
    with pytest.raises(DataError, match="row 1: chosen and rejected are the same"):
        Preferences((Preference("Why?", "So.", "So."),), E)
