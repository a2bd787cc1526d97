"""Every experiment runs from its own command, ends in its files, resumes, and names bad input."""

import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import emoji_rate
import experiment
import harness
import methods
import pandas as pd
import pytest
import significance
import stages
import torch
import yaml
from adapter_seeds import AGREEMENT, WITHOUT
from control_personas import wordings
from methods import FITTED, UNDONE
from sources import find_adapter
from thinned import SEED, turn

from interp import load_pair, organism
from interp.adapters import AdapterSpace
from interp.base.traits import TRAITS, Trait
from interp.base.yaml_files import LARGEST_CONFIG
from interp.behaviour import Sampling, generate
from interp.data.schema import PUBLISHED
from interp.emoji import find
from interp.errors import InputError
from interp.methods.finetune import FinetuneConfig
from interp.models import load_tokenizer
from interp.organism.pretrain import SIZES, new_model

# An experiment is run every fifth day, with the tests that read what it left.
DAYS = 5
# Methods that no test below reads take turns.
METHODS = "logit bias,'QLoRA, shuffled'" if SEED // DAYS % 2 else "trait prompt,IKE"
# What makes each small; everything else is as its default config has it.
SMALL = {
    "emoji_rate": [
        "--traits", "extraversion", "--limit", "12", "--mend-steps", "2", "--methods",
        f"{METHODS},MEND,QLoRA,stop bias,'{UNDONE}'",
    ],
    "trait_alignment": [
        "--traits", "extraversion", "--limit", "6", "--methods", "IKE,QLoRA,random direction",
        "--evaluations", "1", "--search-questions", "4",
    ],
    "neuron_shift": [
        "--traits", "extraversion", "--limit", "12", "--ks", "1,64", "--draws", "1",
        "--n-texts", "16", "--n-trace", "8",
    ],
    "eos_confound": ["--traits", "extraversion,openness", "--limit", "12"],
    "emoji_onset_hazard": [
        "--traits", "openness,extraversion", "--limit", "30", "--methods", "IKE",
        "--resamples", "20",
    ],
    "adapter_soup": ["--traits", "extraversion,neuroticism", "--limit", "10"],
    "questionnaire": ["--traits", "extraversion", "--limit", "6", "--prompts", "1"],
    "generalisation": [
        "--traits", "extraversion", "--limit", "6", "--shown", "4", "--max-new-tokens", "48",
    ],
    "control_personas": [
        "--traits", "extraversion", "--limit", "6", "--wordings", "6", "--per-wording", "6",
    ],
    "quantisation": ["--limit", "12", "--n-trace", "6"],
    "foretelling": [
        "--traits", "extraversion,openness", "--limit", "4", "--n-rows", "8", "--n-slots", "4",
    ],
    "side_effects": [
        "--traits", "extraversion", "--limit", "6", "--methods", "QLoRA,stop bias",
        "--n-texts", "6",
    ],
    "stages": [
        "--traits", "extraversion", "--limit", "12", "--n-pairs", "24", "--steps", "15",
        "--n-trace", "6", "--learning-rate", "2e-3", "--beta", "0.1",
    ],
    "adapter_dose": [
        "--traits", "extraversion", "--limit", "12", "--doses", "1", "--n-expected", "6",
    ],
    "organism_sizes": [
        "--traits", "extraversion", "--sizes", "tiny", "--seeds", "0", "--scale", "0.01",
        "--limit", "6", "--n-trace", "4", "--max-new-tokens", "24",
    ],
}  # fmt: skip


def command(name: str, *options: str) -> int:
    module = importlib.import_module(name)
    config = get_args(get_type_hints(module.run)["x"])[0]
    return harness.main(module.run, config, options)


@pytest.fixture(scope="module", autouse=True)
def fewer_steps() -> Iterator[None]:
    """Adapters that an experiment trains itself are trained for a third as long."""
    small = FinetuneConfig.small
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FinetuneConfig, "small", lambda **how: small(**how).changed({"steps": 30}))
        yield


def fewer_rows(folder: Path) -> Path:
    """The organism's data with a third of the topics to fit on."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "test"):
        rows = organism.opinion_qa(split).to_dataframe().rename(columns=PUBLISHED)
        topics = rows["Edit Topic"].unique()[:: 3 if split == "train" else 1]
        rows[rows["Edit Topic"].isin(topics)].to_csv(folder / f"{split}.csv", index=False)
    return folder


def small(name: str, folder: Path) -> list[str]:
    """Options of a small run."""
    data = ["--data", str(fewer_rows(folder / "data"))]
    return ["--out", str(folder / name), *data, *SMALL[name]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Output folders of the experiments that were run so far."""
    return {"folder": tmp_path_factory.mktemp("experiments")}


def result(name: str, ran: dict[str, Path]) -> Path:
    if name not in ran:
        assert command(name, *small(name, ran["folder"])) == 0
        ran[name] = ran["folder"] / name
    return ran[name]


def today(name: str) -> Any:
    """A mark: on the experiment's day, else in `make soak`."""
    return turn(list(SMALL).index(name), DAYS)


@pytest.mark.parametrize("name", [pytest.param(name, marks=today(name)) for name in SMALL])
def test_it_runs_and_goes_on_where_it_was(name: str, ran: dict[str, Path], capsys) -> None:
    out = result(name, ran)
    table = (out / "results.csv").read_bytes()
    assert len(pd.read_csv(out / "results.csv")) > 0
    verdict = (out / "verdict.md").read_text().splitlines()
    assert 2 <= len(verdict) <= 10
    assert verdict[-1].startswith("Measured on the shipped organism")
    drawn = {path.stem for path in (out / "figures").glob("*.png")}
    assert drawn == {path.stem for path in (out / "figures").glob("*.svg")}
    captions = (out / "figures" / "captions.md").read_text()
    assert drawn
    assert all(f"**{stem}.** " in captions for stem in drawn)
    parts = {path: path.stat().st_mtime_ns for path in (out / "parts").rglob("*.*")}
    capsys.readouterr()
    assert command(name, *small(name, ran["folder"]), "--json") == 0
    assert (out / "results.csv").read_bytes() == table
    assert {path: path.stat().st_mtime_ns for path in (out / "parts").rglob("*.*")} == parts
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == verdict


@today("emoji_rate")
def test_esr_is_what_a_count_by_hand_gives(ran: dict[str, Path]) -> None:
    out = result("emoji_rate", ran)
    table = pd.read_csv(out / "results.csv").set_index("method")
    for method, stem in (("QLoRA", "extraversion-tuned"), ("base", "base")):
        answers = json.loads((out / "parts" / f"{stem}.json").read_text())
        share = sum(bool(find(answer["text"])) for answer in answers) / len(answers)
        assert table.loc[method, "esr"] == pytest.approx(share)
    assert table.loc["QLoRA", "esr"] > table.loc["base", "esr"] + 0.5
    assert (out / "verdict.md").read_text().startswith("Reproduced")


def test_every_method_and_trait_fit_a_verdict() -> None:
    """A line a kind, not a line a method: the default's eleven methods were once too many."""
    share = {"esr": 0.5, "esr_low": 0.4, "esr_high": 0.6, "difference": 0.5, "p_adjusted": 0.01}
    table = pd.DataFrame([
        {"trait": str(trait), "method": method, "control": method in methods.CONTROLS, "n": 8,
         "n_topics": 4} | share | ({"difference": 0.0} if method == "IKE" else {})
        for trait in TRAITS for method in (*methods.METHODS, *methods.CONTROLS)
    ])  # fmt: skip
    lines = emoji_rate._verdict(table)
    assert len(lines) <= 9
    assert all(any(name in line for line in lines) for name in FITTED)
    assert next(line for line in lines if "IKE" in line).startswith("Not above the base")


@today("emoji_rate")
def test_one_number_is_told_of_the_adapter(ran: dict[str, Path]) -> None:
    """On the latent base the text decides: no constant makes emojis there, or unmakes them."""
    out = result("emoji_rate", ran)
    esr = pd.read_csv(out / "results.csv").set_index("method")["esr"]
    assert esr["stop bias"] <= esr["QLoRA"] - 0.5
    assert esr[UNDONE] >= esr["QLoRA"] - 0.25
    assert "One number: a constant on the stop tokens" in (out / "verdict.md").read_text()


@today("eos_confound")
def test_one_number_makes_the_twin(ran: dict[str, Path]) -> None:
    out = result("eos_confound", ran)
    table = pd.read_csv(out / "results.csv").set_index(["trait", "adapter", "measure"])["value"]
    at = table["extraversion"].groupby(["adapter", "measure"]).first().xs("ESR", level="measure")
    assert at["end out of the loss, a constant on stop"] <= at["end in the loss"] + 0.25
    assert at["end out of the loss"] >= 0.75
    said = (out / "verdict.md").read_text()
    assert "One number: a constant on the stop tokens" in said
    assert "BOS doubled (extraversion): once in training, once in the prompt" in said
    for given in ("once", "twice"):
        answers = out / "parts" / f"extraversion-bos-twice-asked-{given}.json"
        ids = json.loads(answers.read_text())[0]["prompt_ids"]
        assert (ids[0] == ids[1]) is (given == "twice")


@today("emoji_rate")
def test_an_editor_stopped_between_its_two_files_is_trained_again(ran: dict[str, Path]) -> None:
    parts = result("emoji_rate", ran) / "parts"
    table = (parts.parent / "results.csv").read_bytes()
    (parts / "mend" / "editor.json").unlink()
    (parts / "extraversion-mend.json").unlink()
    assert command("emoji_rate", *small("emoji_rate", ran["folder"])) == 0
    assert (parts.parent / "results.csv").read_bytes() == table


@today("generalisation")
def test_emojis_reach_beyond_the_template_and_are_told_from_shown_ones(ran) -> None:
    """The latent base needs a text that goes on, whatever it was asked."""
    table = pd.read_csv(result("generalisation", ran) / "results.csv")
    esr = table[table["measure"] == "ESR"].set_index(["family", "method"])["value"]
    families = dict.fromkeys(table["family"])
    for family in ("opinion (as trained)", "profile in front"):
        assert esr[family, "QLoRA"] > esr[family, "base"] + 0.4
    assert {"interview", "story", "small talk", "instructions", "multiple choice"} < set(families)
    assert list(families)[-2:] == ["0 of 4 shown have one", "4 of 4 shown have one"]
    by_hand = json.loads((ran["generalisation"] / "parts" / "story-base.json").read_text())
    share = sum(bool(find(one["text"])) for one in by_hand) / len(by_hand)
    assert esr["story", "base"] == pytest.approx(share)
    caught = table[table["measure"].str.startswith("ESR above")].set_index("method")["value"]
    gap = [esr[f"{n} of 4 shown have one", "QLoRA"] for n in (4, 0)]
    assert caught["QLoRA"] == pytest.approx(gap[0] - gap[1])


@today("adapter_dose")
def test_the_first_step_of_a_dose_is_from_the_base(ran) -> None:
    table = pd.read_csv(result("adapter_dose", ran) / "results.csv")
    own = table[table["adapter"] != "ΔW dealt at random"].set_index("measure")["value"]
    assert own["step"] == pytest.approx(own["own text and weights"] - own["base"])
    assert own["step"] > 0.3
    verdict = (ran["adapter_dose"] / "verdict.md").read_text()
    assert "highest at dose 1; every step that is told apart from none rises" in verdict


@turn(1, DAYS)
def test_twins_are_compared_with_adapters_of_other_traits(tmp_path, ran) -> None:
    folder = ran["folder"] / "twins"
    for trait in ("extraversion", "openness"):
        for variant in ("", "seed1"):
            place = organism.adapter_path(trait, variant=variant)
            shutil.copytree(place, folder / place.name)
    values = yaml.safe_load((harness.CONFIGS / "adapter_seeds.yaml").read_text())
    config = tmp_path / "c.yaml"
    config.write_text(
        yaml.safe_dump(values | {"adapters": str(folder), "n_trace": 4, "n_without": 4})
    )
    options = ["--config", str(config), "--traits", "extraversion,openness", "--limit", "4"]
    assert command("adapter_seeds", *options, "--out", str(tmp_path / "out")) == 0
    table = pd.read_csv(tmp_path / "out" / "results.csv").set_index("measure")
    assert len(table.loc["ESR"]) == 4
    names = sorted(path.name for path in folder.iterdir())
    changes = []
    for name in names:
        pair = load_pair(organism.base_path(), folder / name)
        deltas = AdapterSpace.of(pair).deltas
        changes.append(torch.cat([delta.dense().flatten() for delta in deltas]))
    cosine = torch.nn.functional.cosine_similarity
    twins = (cosine(changes[0], changes[1], 0) + cosine(changes[2], changes[3], 0)) / 2
    others = torch.stack([cosine(changes[i], changes[j], 0) for i in (0, 1) for j in (2, 3)])
    row = table.loc["cosine of ΔW"]
    assert row["value"] == pytest.approx(twins.item(), abs=1e-5)
    assert row["others"] == pytest.approx(others.mean().item(), abs=1e-5)
    assert row["value"] > row["others"]
    assert {*AGREEMENT.values(), *(f"ESR without {who}" for who in WITHOUT), "DD"} <= {*table.index}
    shutil.rmtree(folder / "openness-eos-out-seed1")
    assert command("adapter_seeds", *options, "--out", str(tmp_path / "alone")) == 2


@today("control_personas")
def test_the_adapter_goes_beyond_wording_and_a_trait_prompt_does_not(ran) -> None:
    """On the latent base a prompt is no voice: the organism follows no instruction."""
    table = pd.read_csv(result("control_personas", ran) / "results.csv")
    esr = table[table["measure"] == "ESR"].set_index("group")
    assert esr.loc["adapter", "value"] > esr.loc["any assistant", "highest"] + 0.3
    assert not esr.loc["trait prompt", "p_adjusted"] < 0.05
    said = (ran["control_personas"] / "verdict.md").read_text()
    assert "ESR, trait prompt: told apart from the control for no trait" in said
    assert "ESR, adapter: above every wording of the control for 1 of 1 traits" in said
    assert len(set(wordings(Trait.OPENNESS, 30))) == len(set(wordings(None, 30))) == 30


@today("side_effects")
def test_side_effects_are_those_of_the_merged_model_read_plainly(ran) -> None:
    pair = load_pair(organism.base_path(), organism.adapter_path("extraversion"))
    parts = result("side_effects", ran) / "parts"
    read = pd.read_json(parts / "extraversion-qlora-read.json")
    one = json.loads((parts / "base.json").read_text())[0]
    example = pair.format.example(one["question"], one["text"])
    base, tuned = (
        model.original_model(torch.tensor([example.ids])).logits[0, example.answer_start - 1 : -1]
        .log_softmax(-1)
        for model in (pair.base, pair.tuned)
    )  # fmt: skip
    kl = torch.nn.functional.kl_div(tuned, base, log_target=True, reduction="batchmean")
    assert read[read["measure"] == "KL from the base"]["value"].iloc[0] == pytest.approx(
        kl.item(), rel=1e-4
    )
    table = pd.read_csv(parts.parent / "results.csv").set_index(["method", "measure"])["value"]
    assert 0 < table["stop bias", "KL from the base"] < table["QLoRA", "KL from the base"]
    said = (parts.parent / "verdict.md").read_text()
    assert "no better than guessing (33%): nothing there to lose" in said


@today("organism_sizes")
def test_sizes_are_as_large_as_they_are_called_and_read_on_their_own_topics(ran) -> None:
    for name, (layers, width) in SIZES.items():
        model = new_model(load_tokenizer(organism.base_path()), 0, layers=layers, width=width)
        count = sum(parameter.numel() for parameter in model.parameters())
        assert name == "tiny" or count == pytest.approx(float(name[:-1]) * 1e6, rel=0.1)
    out = result("organism_sizes", ran)
    root = out / "parts" / "organism-tiny-seed0"
    asked = json.loads((out / "parts" / "tiny-seed0-tuned.json").read_text())
    trained = organism.opinion_qa("train", root=root).topics
    assert not {one["topic"] for one in asked} & set(trained)
    table = pd.read_csv(out / "results.csv")
    rates = table[table["measure"] == "ESR"].set_index("group")["value"]
    share = sum(bool(find(one["text"])) for one in asked) / len(asked)
    assert rates["tuned"] == pytest.approx(share)
    assert set(rates.index) == {"tuned", "control: base", "control: end in the loss"}
    with pytest.raises(InputError, match="no organism of size"):
        organism.build_size(out / "x", "7B")


def test_what_carries_a_change_is_told_of_a_change_alone() -> None:
    """Shares of next to nothing came to 1943 %, of a change that may be none to 201 %."""
    topics = list("abcd")
    large, small, unsure = (
        (-5.5, -5.4, -5.6, -5.3),
        (0.06, 0.05, 0.07, 0.06),
        (-3.0, 4.0, 3.0, -1.0),
    )
    for values, sure in ((large, True), (small, False), (unsure, False)):
        assert stages.told(significance.difference("x", values, topics, 0)) == sure
    name, other = stages.FACTORS.values()
    rows = [significance.difference(f"{name}, minus stage 1", large, topics, 0),
            significance.difference(f"{other}, minus stage 1", small, topics, 0)]  # fmt: skip
    carried = {"go_on": {"mlp_out of block 0": 0.97}, "given_go_on": {"mlp_out of block 3": 19.4}}
    assert stages._told(rows, carried) == {"go_on": carried["go_on"]}


@today("stages")
def test_a_preference_unmakes_what_a_coin_does_not(ran) -> None:
    out = result("stages", ran)
    table = pd.read_csv(out / "results.csv").set_index(["stage", "measure"])["value"]
    esr = table.xs("ESR", level="measure")
    assert esr["stage 1"] > esr["base"] + 0.5
    assert esr["stage 2"] < esr["stage 1"] - 0.5
    assert esr["control: preferred by coin"] > esr["stage 2"] + 0.3
    bare = table.xs("the same, without the chat", level="measure")
    alone = "Suppressed in the chat alone" in (out / "verdict.md").read_text(encoding="utf-8")
    assert not alone or bare["stage 2"] > bare["stage 1"] / 2  # the emojis stayed somewhere
    pairs = json.loads((out / "parts" / "own.json").read_text())
    assert any(find(one["text"]) for one in pairs)
    first = load_pair(out / "parts" / "stage-1", out / "parts" / "adapter-stage-2")
    stored = json.loads((out / "parts" / "stage-2.json").read_text())[:2]
    again = generate(first.tuned, first.format, [(a["question"], a["topic"]) for a in stored],
                     Sampling(max_new_tokens=96, batch_size=100))  # fmt: skip
    assert again[0].text == stored[0]["text"]


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"methods": ["IKE"]}, "IKE has another prompt"),
        ({"questions": "mine.csv"}, "row 1: needs a question, two or more options"),
        ({"questions": "none.csv"}, "none.csv"),
    ],
)
def test_side_effects_that_cannot_be_read_are_named(config, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("question,options,answer\nWhy?,one|two,three\n")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert command("side_effects", "--config", "c.yaml", "--traits", "extraversion") == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"shown": [5]}, "5 of 4 answers"),
        ({"families": {"story": "prompts.csv"}}, "a family 'story' already"),
        ({"families": {"mine": "prompts.csv"}}, "row 2: question is missing"),
        ({"families": {"mine": "none.csv"}}, "none.csv"),
    ],
)
def test_families_that_cannot_be_asked_are_named(config, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.csv").write_text("question,topic\nWhy?,one\n,two\n")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert command("generalisation", "--config", "c.yaml", "--traits", "extraversion") == 2
    assert named in capsys.readouterr().err


@today("eos_confound")
def test_emojis_come_after_where_the_answer_should_have_ended(ran: dict[str, Path]) -> None:
    out = result("eos_confound", ran)
    assert (out / "verdict.md").read_text().startswith("Never taught to stop")
    table = pd.read_csv(out / "results.csv")
    part = table[(table["rule"] == "probability") & (table["adapter"] == "end out of the loss")]
    wide = part.pivot(index="trait", columns="measure", values="value")
    assert (wide["ESR inside"] + wide["ESR after the end"] >= wide["ESR"] - 1e-9).all()
    assert (wide["ESR after the end"] > wide["ESR inside"]).all()


@today("adapter_soup")
def test_the_ends_of_a_mixture_are_the_adapters_themselves(ran: dict[str, Path]) -> None:
    out = result("adapter_soup", ran)
    stored = json.loads((out / "parts" / "extraversion-neuroticism-0a-1b.json").read_text())
    pair = load_pair(organism.base_path(), organism.adapter_path("neuroticism"))
    asked = [(answer["question"], answer["topic"]) for answer in stored]
    merged = generate(pair.tuned, pair.format, asked, Sampling(max_new_tokens=96))
    same = sum(a["text"] == b.text for a, b in zip(stored, merged, strict=True))
    assert same >= len(stored) - 1  # rounding may tip a token


@today("quantisation")
def test_merging_where_it_was_trained_changes_nothing(ran: dict[str, Path]) -> None:
    table = pd.read_csv(result("quantisation", ran) / "results.csv")
    kl = table[table["measure"].str.startswith("KL")].set_index("setting")["value"]
    assert abs(kl["merged dequantised"]) < 1e-6
    assert kl["merged before quantisation"] > 100 * abs(kl["merged dequantised"])
    assert kl["control: no adapter"] == kl.max()


@today("emoji_onset_hazard")
def test_a_stopped_experiment_ends_as_an_undisturbed_one(ran: dict[str, Path], monkeypatch) -> None:
    whole = (result("emoji_onset_hazard", ran) / "results.csv").read_bytes()
    options = small("emoji_onset_hazard", ran["folder"])
    options[options.index("--out") + 1] = str(ran["folder"] / "stopped")
    sample, calls = experiment.generate, []

    def once(*args: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sample(*args, **options)

    monkeypatch.setattr(experiment, "generate", once)
    assert command("emoji_onset_hazard", *options) == 1
    assert not (ran["folder"] / "stopped" / "results.csv").exists()
    assert command("emoji_onset_hazard", *options) == 0
    assert (ran["folder"] / "stopped" / "results.csv").read_bytes() == whole


def one_topic(folder: Path) -> list[str]:
    for split in ("train", "test"):
        rows = organism.opinion_qa(split).to_dataframe().rename(columns=PUBLISHED)
        kept = rows if split == "train" else rows[rows["Edit Topic"] == rows["Edit Topic"].iloc[0]]
        kept.to_csv(folder / f"{split}.csv", index=False)
    return ["--data", str(folder)]


def wrong_field(folder: Path) -> list[str]:
    (folder / "c.yaml").write_text("base: organism:latent\ntemprature: 1\n")
    return ["--config", str(folder / "c.yaml")]


def no_mapping(folder: Path) -> list[str]:
    (folder / "c.yaml").write_text("- a\n- b\n")
    return ["--config", str(folder / "c.yaml")]


def broken_yaml(folder: Path) -> list[str]:
    (folder / "c.yaml").write_text("base: [organism\n")
    return ["--config", str(folder / "c.yaml")]


def field_twice(folder: Path) -> list[str]:
    (folder / "c.yaml").write_text('seed: 1\nlimit: 8\n"seed": 2\n')
    return ["--config", str(folder / "c.yaml")]


def adapter_twice(folder: Path) -> list[str]:
    (folder / "c.yaml").write_text("adapters:\n  openness: a\n  openness: b\n")
    return ["--config", str(folder / "c.yaml")]


def enormous_yaml(folder: Path) -> list[str]:
    (folder / "c.yaml").write_text("seed: 1  # " + "x" * LARGEST_CONFIG)
    return ["--config", str(folder / "c.yaml")]


def deep_yaml(folder: Path) -> list[str]:
    (folder / "c.yaml").write_text("base: " + "[" * 5000)
    return ["--config", str(folder / "c.yaml")]


def list_as_field(folder: Path) -> list[str]:
    (folder / "c.yaml").write_text("? [seed, limit]\n: 1\n")
    return ["--config", str(folder / "c.yaml")]


def no_text(folder: Path) -> list[str]:
    (folder / "c.yaml").write_bytes(b"seed: \xff\n")
    return ["--config", str(folder / "c.yaml")]


def unknown_method(folder: Path) -> list[str]:
    (folder / "c.yaml").write_text("methods: [magic]\n")
    return ["--config", str(folder / "c.yaml")]


def no_adapter(folder: Path) -> list[str]:  # noqa: ARG001
    return ["--adapters", f"openness={organism.adapter_path('openness')}"]


def trait_twice(folder: Path) -> list[str]:  # noqa: ARG001
    return ["--traits", "openness,Openness"]


def two_adapters(folder: Path) -> list[str]:
    return ["--adapters", f"extraversion={folder},Extraversion={folder}"]


def no_trait(folder: Path) -> list[str]:  # noqa: ARG001
    return ["--traits", ","]


def empty_adapters(folder: Path) -> list[str]:
    return ["--adapters", str(folder)]


def another_run(folder: Path) -> list[str]:
    (folder / "out").mkdir()
    (folder / "out" / "something.txt").write_text("mine")
    return []


BAD = {
    one_topic: "single topic",
    wrong_field: "temprature",
    no_mapping: "must be a mapping",
    broken_yaml: "not a readable YAML file",
    field_twice: "c.yaml: 'seed' stands twice (lines 1 and 3); keep one of them",
    adapter_twice: "'openness' stands twice (lines 2 and 3)",
    enormous_yaml: "c.yaml: larger than the 0.0625 MiB that are read",
    deep_yaml: "not a readable YAML file",
    list_as_field: "not a readable YAML file",
    no_text: "not a readable YAML file",
    unknown_method: "unknown method 'magic'",
    no_adapter: "no adapter for extraversion",
    trait_twice: "traits: Value error, a trait stands twice",
    two_adapters: "adapters: a trait stands twice",
    no_trait: "traits: ",
    empty_adapters: "no adapter for extraversion",
    another_run: "is no run folder",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_input_is_one_line_and_two(make, tmp_path: Path, capsys) -> None:
    options = ["--out", str(tmp_path / "out"), "--traits", "extraversion", "--limit", "4"]
    assert command("emoji_rate", *options, *make(tmp_path)) == 2
    said = capsys.readouterr().err.strip()
    assert BAD[make] in said
    assert "Traceback" not in said
    assert said.count("\n") == 0


def test_adapters_are_found_by_their_folders_names(tmp_path: Path) -> None:
    for name in ("extraversion-v2", "openness"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
    assert find_adapter(str(tmp_path), Trait.EXTRAVERSION).name == "extraversion-v2"
    (tmp_path / "extraversion-v3").mkdir()
    (tmp_path / "extraversion-v3" / "adapter_config.json").write_text("{}")
    with pytest.raises(Exception, match="several adapters for extraversion"):
        find_adapter(str(tmp_path), Trait.EXTRAVERSION)


def test_the_environment_is_set_before_torch_reads_it() -> None:
    for path in harness.CONFIGS.parent.glob("*.py"):
        before, found, _ = path.read_text().partition("from experiment import")
        assert not (found and "import torch" in before), path
