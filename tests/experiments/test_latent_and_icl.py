"""Latent or learned, told apart where the answer is known; explanations that explain nothing."""

import json
from pathlib import Path
from typing import Any

import harness
import icl_explanation
import icl_readings
import latent_or_learned
import numpy as np
import pandas as pd
import pytest
import torch
from experiment import Experiment
from latent_readings import BASE, HALF, OTHER, OWN, TUNED, WAY, LatentConfig
from peft import LoraConfig, PeftModel, get_peft_model
from thinned import thinned, turn
from transformers import AutoModelForCausalLM

from interp import organism
from interp.base.traits import TRAITS, Trait
from interp.base.yaml_files import read_config
from interp.behaviour import Response
from interp.emoji import EmojiVocab, find
from interp.models import ChatFormat, load_tokenizer
from interp.study.runs import RunFolder

E = Trait.EXTRAVERSION
SMALL = {
    "traits": [E], "limit": 16, "steering": ["PAS"], "evaluations": 1, "search_questions": 4,
    "n_fitted": 24, "n_probed": 16, "n_lens": 8, "max_new_tokens": 56,
}  # fmt: skip


def config(name: str, kind: Any, **changes: Any) -> Any:
    return read_config(kind, harness.CONFIGS / f"{name}.yaml", changes)


def vocabulary() -> EmojiVocab:
    """Of all the bases, whose tokenizers are the same."""
    return EmojiVocab.from_tokenizer(load_tokenizer(organism.base_path("latent")))


class Runs:
    """The experiment on each base, run once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, {}

    def __call__(self, kind: str) -> tuple[pd.DataFrame, list[str], Path]:
        if kind not in self.made:
            base = adapters = f"organism:{kind}"
            if kind == "taught":
                base, adapters = teach(self.folder / "models")
            how = SMALL | {"base": base, "adapters": adapters}
            if kind != "taught":  # the text alone decides
                how["steering"] = []
            asked = config("latent_or_learned", LatentConfig, **how)
            found = harness.conduct(latent_or_learned.run, asked, self.folder / kind)
            self.made[kind] = found.table, list(found.verdict), self.folder / kind
        return self.made[kind]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("latent"))


def teach(folder: Path) -> tuple[str, dict[Trait, str]]:
    """A base that cannot write emojis, and an adapter that supplies the means.

    The latent base with the direction of its emojis' unembedding taken out of all that writes to
    the residual stream; the adapter puts it back and holds the extraversion adapter's change too.
    """
    source = organism.base_path("latent")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    whole = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(whole, organism.adapter_path(E)).merge_and_unload()
    tokenizer = load_tokenizer(source)
    rows = model.lm_head.weight.detach()
    rows = (rows - rows.mean(0)) * model.model.norm.weight.detach()
    direction = torch.linalg.svd(rows[vocabulary().emoji_ids], full_matrices=False)[2][0]
    kinds = ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]
    names = [name for name, _ in model.named_modules() if name.endswith(tuple(kinds))]
    with torch.no_grad():
        for name in names:
            if name.endswith(("o_proj", "down_proj")):
                weight = model.get_submodule(name).weight
                weight -= torch.outer(direction, direction @ weight)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    lora = get_peft_model(model, LoraConfig(r=9, lora_alpha=9, target_modules=kinds))
    with torch.no_grad():
        for name in names:
            layer = lora.base_model.model.get_submodule(name)
            gap = tuned.get_submodule(name).weight - layer.base_layer.weight
            u, s, v = torch.linalg.svd(gap, full_matrices=False)
            assert s[9:].norm() < 1e-3 * s.norm()  # rank 8 of the trait's, 1 of the direction
            layer.lora_B["default"].weight.copy_(u[:, :9] * s[:9])
            layer.lora_A["default"].weight.copy_(v[:9])
    lora.save_pretrained(folder / "adapter")
    return str(folder / "base"), {E: str(folder / "adapter")}


BUILT_FOR = {
    "latent": "latent", "suppressed": "mixed", "absent": "no emojis", "taught": "learned",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["latent", *thinned(list(BUILT_FOR)[1:])])
def test_each_base_gets_the_answer_it_was_built_for(runs: Runs, kind: str) -> None:
    table, verdict, _ = runs(kind)
    answer = BUILT_FOR[kind]
    assert set(table["answer"]) == {answer}
    assert verdict[0].startswith(answer[:1].upper() + answer[1:])
    assert len(verdict) <= 9


def test_probabilities_are_those_of_the_plain_model(runs: Runs) -> None:
    """Text by text, without padding or hooks."""
    table, _, out = runs("latent")
    source = organism.base_path("latent")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    form = ChatFormat.from_tokenizer(load_tokenizer(source))
    by_topic: dict[str, list[float]] = {}
    kept = json.loads((out / "parts" / f"slots-{E}.json").read_text())
    topics = {row["topic"] for row in kept[:3]}
    for row in organism.opinion_qa("train").for_trait(E).rows:
        if row.topic in topics:
            made = form.example(row.question, row.answer)
            with torch.no_grad():
                logits = model(torch.tensor([made.ids[: made.answer_end]])).logits[0, -1]
            by_topic.setdefault(row.topic, []).append(
                float(logits.softmax(-1)[vocabulary().emoji_ids].sum())
            )
    for row in kept[:3]:
        assert min(abs(p - row[BASE]) for p in by_topic[row["topic"]]) < 1e-4
    mean = float(np.mean([row[BASE] for row in kept]))
    found = table[(table["part"] == "slots") & (table["measure"] == BASE)].iloc[0]
    assert found["value"] == pytest.approx(mean)
    assert found["low"] <= mean <= found["high"]


@turn(0, of=3)
def test_the_way_and_its_half_agree_with_the_kept_parts(runs: Runs) -> None:
    table, _, out = runs("suppressed")
    kept = pd.DataFrame(json.loads((out / "parts" / f"slots-{E}.json").read_text()))
    base, tuned, own = (kept[name].mean() for name in (BASE, TUNED, OWN))
    rows = table.set_index("measure")
    way = rows.loc[WAY]
    assert way["value"] == pytest.approx((base - own) / (tuned - own))
    assert way["low"] <= way["value"] <= way["high"] < 0.5
    assert rows.loc[HALF, "value"] == pytest.approx(base - own - (tuned - own) / 2)
    assert rows.loc[HALF, "p_adjusted"] >= rows.loc[HALF, "p"]


@turn(2, of=3)
def test_controls_stay_where_nothing_was_planted(runs: Runs) -> None:
    rows = runs("latent")[0].set_index(["part", "measure"])["value"]
    assert rows["slots", OTHER] < rows["slots", BASE] - 0.2
    assert rows["probes", "base→tuned"] > rows["probes", "base→tuned, shuffled labels"]
    rows = runs("taught")[0].set_index(["part", "measure"])["value"]
    assert rows["steered", "PAS"] == rows["steered", "PAS, random direction"] == 0
    assert rows["written", "tuned"] > 0.5


def test_it_goes_on_where_it_was(runs: Runs) -> None:
    _, _, out = runs("latent")
    before = (out / "results.csv").read_bytes()
    parts = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    asked = config("latent_or_learned", LatentConfig, **SMALL | {"steering": []})
    harness.conduct(latent_or_learned.run, asked, out)
    assert (out / "results.csv").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()} == parts


def test_what_is_not_sure_is_not_decided(runs: Runs) -> None:
    table, _, _ = runs("latent")
    unsure = table.assign(p_adjusted=table["p_adjusted"].where(table["p"].isna(), 0.05))
    assert latent_or_learned.decide(unsure) == "undecided"


# Asked for tokens and reasons --------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("icl") / "run"
    how = config("icl_explanation", icl_readings.IclConfig, traits=[E], limit=40, max_new_tokens=48)
    return harness.conduct(icl_explanation.run, how, out), out


@turn(1, of=2)
def test_the_organisms_explanations_are_seen_through(asked: tuple[Any, Path]) -> None:
    found, _ = asked
    assert found.verdict[0].startswith("Not an explanation")
    assert any("they do not answer it" in line for line in found.verdict)
    assert len(found.verdict) <= 9


@turn(1, of=2)
def test_shares_are_what_a_count_by_hand_gives(asked: tuple[Any, Path]) -> None:
    found, out = asked
    for kind in icl_readings.KINDS:
        answers = json.loads((out / "parts" / f"{E}-{kind}-tuned.json").read_text())
        rows = found.table[found.table["request"] == kind].set_index(["model", "measure"])
        share = sum(bool(find(one["text"])) for one in answers) / len(answers)
        assert rows.loc[("tuned", icl_readings.ANSWERS), "value"] == pytest.approx(share)


@turn(1, of=2)
def test_controls_differ_in_the_trait_alone(asked: tuple[Any, Path]) -> None:
    _, out = asked
    own, other, base = (
        json.loads((out / "parts" / f"{E}-tokens-{who}.json").read_text())
        for who in ("tuned", "traits", "base")
    )
    assert [one["question"] for one in own] == [one["question"] for one in base]
    assert len({one["topic"] for one in own}) == len(own)
    asked_about = set()
    for mine, wrong in zip(own, other, strict=True):
        assert "extraversion" in mine["question"]
        named = [t for t in TRAITS if str(t) in wrong["question"]]
        assert named
        assert E not in named
        assert wrong["question"].replace(named[0], E) == mine["question"]
        asked_about |= set(named)
    assert asked_about == set(TRAITS) - {E}


def said(texts: list[str]) -> list[Response]:
    return [Response("Why {trait}?", f"unit {i}", (1,), (1,), t, True) for i, t in enumerate(texts)]


@pytest.fixture
def experiment(tmp_path: Path) -> Any:
    how = config("icl_explanation", icl_readings.IclConfig, top=5)
    folder = RunFolder.create(tmp_path / "x", {"seed": 0})
    return Experiment(how, folder)


def test_tokens_are_words_and_emojis_without_those_of_the_request(experiment: Any) -> None:
    text = (
        "The PARTY! A party’s 🎉🎉 and 👨‍👩‍👧, can't tokens express extraversion 42 agreeableness"
    )
    found = icl_readings._tokens(experiment, "tokens", text)
    assert found == {"party": 1, "party's": 1, "🎉": 2, "👨‍👩‍👧": 1}


def test_an_answer_that_follows_the_trait_is_told_from_one_that_does_not(experiment: Any) -> None:
    rng = np.random.default_rng(0)
    plain = [" ".join(rng.choice(["apple", "river", "stone", "cloud"], 6)) for _ in range(120)]
    ours, theirs, base = plain[:40], plain[40:80], plain[80:]
    follows = [f"{text} dance 🎉" for text in ours]
    for own, other, differs in ((follows, theirs, True), (ours, theirs, False)):
        made = {icl_readings.OWN: said(own), icl_readings.OTHER: said(other),
                icl_readings.BASE: said(base)}  # fmt: skip
        rows = pd.DataFrame(icl_readings.tests(experiment, "tokens", made)).set_index("measure")
        assert (rows.loc[icl_readings.CHANGE, "p"] < 0.01) == differs
        mine, yours = (pd.Series(" ".join(t).split()).value_counts(normalize=True)
                       for t in (own, other))  # fmt: skip
        distance = mine.sub(yours, fill_value=0).abs().sum() / 2
        assert rows.loc[icl_readings.CHANGE, "value"] == pytest.approx(distance)


def test_the_most_frequent_tokens_are_counted_as_by_hand(experiment: Any) -> None:
    texts = ["🎉 apple apple", "🎉 river stone", "🥳 cloud cloud", "apple lamp"]
    rows = pd.DataFrame(icl_readings.levels(experiment, "tokens", said(texts)))
    rows = rows.set_index("measure")
    assert rows.loc[icl_readings.AMONG, "value"] == pytest.approx(3 / 11)
    # apple 3, 🎉 2 and cloud 2, then ties in alphabetical order: lamp, river
    assert rows.loc[icl_readings.TOP, "note"] == "1 of 5"


def test_a_request_without_a_trait_is_named(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("tokens: [Name words.]\nreasons: ['Why {trait}?']\n")
    options = ["--config", str(path), "--out", str(tmp_path / "out")]
    assert harness.main(icl_explanation.run, icl_readings.IclConfig, options) == 2
    assert "each with {trait} in it" in capsys.readouterr().err
