"""The main job on the shipped organism: it finds what is known to be there, and resumes."""

import json
import shutil

import pandas as pd
import pytest
import torch
from test_bad_input import command
from thinned import turn

from interp import organism, report
from interp.behaviour import Origin
from interp.emoji import EmojiRates
from interp.logit_lens import LensResult
from interp.models import MergeReport
from interp.patching import PatchingByMetric
from interp.probing import ProbeResult
from interp.readout.outcome import joined
from interp.study import catalogue
from interp.study.runs import RunFolder
from interp.study.steps import steps
from interp.study.traced.origin import n_expected

TRAIT = "extraversion"
SMALL = ["--n-responses", "40", "--n-trace", "8", "--n-switched", "16", "--seed", "3"]


@pytest.fixture(scope="module")
def run(finished) -> RunFolder:
    """Two traits' study, from the command line to the report."""
    return RunFolder.open(finished.path)


def test_nothing_is_skipped_and_the_manifest_says_what_was_done(run):
    manifest = run.manifest
    assert manifest["status"] == "complete"
    assert not manifest.get("skipped")
    assert manifest["hashes"]["base"]["sha256"]["model.safetensors"]
    assert set(manifest["steps"]) == set(catalogue.step_names(manifest))
    assert {record["state"] for record in manifest["steps"].values()} == {"done"}
    assert all(record["peak_mib"] > 100 for record in manifest["steps"].values())


def test_tuned_model_writes_emojis_and_the_base_does_not(run):
    tuned = run.result(EmojiRates, TRAIT, "rates-tuned.safetensors")
    base = run.result(EmojiRates, TRAIT, "rates-base.safetensors")
    assert base.response_interval.high < 0.25 < 0.5 < tuned.response_interval.low
    report = run.result(MergeReport, TRAIT, "merge.safetensors")
    assert report.mean_kl < 1e-6 < 0.05 < report.effect_mean_kl


def test_the_organisms_emojis_come_from_the_text(run):
    """Known of the latent base: it too expects an emoji after text in the trait's voice."""
    found = run.result(Origin, TRAIT, "origin.safetensors")
    table = found.to_dataframe()
    expected = table[table["quantity"] == "expected rate"].set_index(["writer", "reader"])
    for model in ("base", "tuned"):
        rates = run.result(EmojiRates, TRAIT, f"rates-{model}.safetensors").response_interval
        own = expected.loc[(model, model)]
        assert own["n"] == n_expected(run.manifest["config"]["n_responses"])
        assert rates.low - 0.05 < own["probability"] < rates.high + 0.05
    assert expected.loc[("tuned", "base"), "probability"] > 0.5, "whatever was sampled"
    table = table[table["quantity"] == "emoji"]
    mean = table.set_index(["writer", "reader"])["probability"]
    assert mean["tuned", "base"] > 0.5
    assert mean["base", "base"] < 0.1
    assert mean["base", "tuned"] < 0.3


def test_lens_ends_above_where_it_begins(run):
    lens = run.result(LensResult, TRAIT, "lens.safetensors")
    curve = lens.tuned.at_onset("log_odds").mean(1)
    assert curve[-1] > 0 > curve[0]


def test_patching_everything_at_the_onset_restores_everything(run):
    """At the last layer's output only the onset position can matter, and it carries it all."""
    every = run.result(PatchingByMetric, TRAIT, "patching-voice-denoising-resid_pre.safetensors")
    result = every.of("log_odds")
    mean = result.mean_recovery()
    assert result.contrast == "voice"
    assert mean[-1].nan_to_num().argmax() == mean.shape[1] - 1
    assert mean[-1, -1] > 0.5
    assert mean[-1, :-1].nan_to_num().abs().max() < 0.5
    both = {
        direction: run.result(
            PatchingByMetric, TRAIT, f"patching-model-{direction}-resid_pre.safetensors"
        )
        for direction in ("denoising", "noising")
    }
    assert all(result.contrast == "model" for result in both.values())
    assert (both["denoising"].clean == both["noising"].clean).all()


def test_the_log_odds_of_a_sweep_are_what_its_factors_make(run):
    """Under every patch: one pass read all three."""
    found = run.result(PatchingByMetric, TRAIT, "patching-model-denoising-z.safetensors")
    whole, go_on, given = (found.of(name).values for name in ("log_odds", "go_on", "given_go_on"))
    torch.testing.assert_close(joined(go_on, given), whole, atol=1e-4, rtol=0)
    assert found.of("go_on").metric == "go on"


def test_trait_is_readable_before_fine_tuning(run):
    result = run.result(ProbeResult, TRAIT, "probing-trait.safetensors")
    table = result.to_dataframe().set_index("read")
    assert table.loc["base", "accuracy_low"].max() > result.chance
    assert table.loc["base", "accuracy"].max() > table.loc["base", "control_accuracy"].max()


def test_report_and_tables_are_whole(run):
    page = (run.path / "report.html").read_text()
    assert page.rstrip().endswith("</html>")
    assert "Extraversion" in page
    esr = pd.read_csv(run.path / "tables" / "esr.csv")
    assert set(esr["model"]) >= {"base", "tuned"}
    for kind in ("png", "svg"):
        assert len(list((run.path / "figures").glob(f"*.{kind}"))) >= 10
    assert not list(run.path.rglob(".*")), "no temporary file is left"


def test_a_lost_step_is_redone_to_the_same_bytes(finished, tmp_path, monkeypatch, capsys):
    run = RunFolder.open(shutil.copytree(finished.path, tmp_path / "run"))
    lost = [
        run.file(TRAIT, "lens.safetensors"),
        run.file(TRAIT, "patching-model-denoising-z.safetensors"),
    ]
    before = [path.read_bytes() for path in lost]
    kept = run.file(TRAIT, "merge.safetensors").stat().st_mtime_ns
    for path in lost:
        path.unlink()
    monkeypatch.setattr(report, "write", lambda *_, **__: None)  # drawing takes most of the time
    assert command(["run", "resume", str(run.path), "--json"], monkeypatch) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["traits"][0]["trait"] == TRAIT
    assert [path.read_bytes() for path in lost] == before
    assert run.file(TRAIT, "merge.safetensors").stat().st_mtime_ns == kept


def keys(folder: RunFolder, **changes) -> dict[str, str]:
    """What every step of a study is recognised by, with the same contents of what it needs."""
    values = {
        "base": str(organism.base_path()),
        "adapters": {TRAIT: str(organism.adapter_path(TRAIT))},
        "data": str(organism.ASSETS),
    }
    made = steps(values | changes, folder)
    return {step.name: step.key(dict.fromkeys(step.needs, "the same")) for step in made}


PATCHING = {row.name for row in catalogue.PATCHING}
CIRCUITS = {row.name for rows in catalogue.CIRCUITS.values() for row in rows.all if row.default}
TRACED = {"lens", "probing-push", "adapter-exact", *PATCHING, *CIRCUITS}
MODELS = {
    "merge",
    "responses",
    "origin",
    "token-view",
    "token-view-2",
    "token-view-3",
    "adapter-necessity",
    "probing-emoji",
    "probing-trait",
}
BASE = {"base/responses-dense"}


@pytest.mark.parametrize(
    ("changes", "redone"),
    [
        ({"n_trace": 7}, TRACED),
        ({"n_positions": 7}, {"lens"} | PATCHING),
        ({"n_switched": 7}, {"adapter-necessity"}),
        ({"temperature": 0.1}, {"responses", "adapter-necessity", "origin"} | BASE),
        ({"n_responses": 300}, {"responses"} | BASE),
        ({"quantization": "nf4"}, {*MODELS, *TRACED, "rates-base", "base/responses-nf4"}),
        (
            {"adapters": {TRAIT: str(organism.adapter_path(TRAIT, supervise_eos=True))}},
            {*MODELS, *TRACED},
        ),
        ({"base": str(organism.base_path("absent"))}, {*MODELS, *TRACED, *BASE}),
        ({"dtype": "bfloat16"}, {*MODELS, *TRACED, *BASE}),
    ],
)
def test_a_changed_setting_redoes_just_what_depends_on_it(tmp_path, changes, redone):
    folder = RunFolder.create(tmp_path / "run", {})
    before, after = keys(folder), keys(folder, **changes)
    differ = {name for name in after if before.get(name) != after[name]}
    assert {name.removeprefix(f"{TRAIT}/") for name in differ} == redone


OF_ANY_OUTCOME = {
    "merge", "responses-base", "responses", "probing-trait", "token-kl", "ablated-writing",
}  # fmt: skip


def test_another_outcome_redoes_every_trace_that_reads_it(tmp_path):
    """Those asked for by name, too: all but answers, texts, whole distributions and emojis."""
    folder = RunFolder.create(tmp_path / "run", {})
    rows = {row.name: row for row in catalogue.ROWS if row.when != "dictionary"}
    before, after = (
        keys(folder, only=tuple(rows), outcome=outcome) for outcome in ("emoji", "strings:I")
    )
    same = {name for name in after if before[name] == after[name]}
    names = {rows[name].step_name(TRAIT, "dense") for name in OF_ANY_OUTCOME}
    assert same == names
    assert len(before) == len(rows)


def test_other_columns_of_the_same_file_redo_what_reads_its_texts(tmp_path):
    """The file's hash is the same, and so are the questions: only the answers are others."""
    rows = organism.opinion_qa("test").rows
    table = pd.DataFrame(
        [(r.trait, r.topic, r.question, r.answer, f"{r.answer} Yes.") for r in rows],
        columns=["trait", "topic", "question", "one", "two"],
    )
    table.to_csv(tmp_path / "answers.csv", index=False)
    folder = RunFolder.create(tmp_path / "run", {})
    before, after = (
        keys(folder, data=str(tmp_path / "answers.csv"),
             columns=f"question=question,answer={name},topic=topic,trait=trait")
        for name in ("one", "two")
    )  # fmt: skip
    assert {name for name in after if before[name] != after[name]} == {f"{TRAIT}/probing-trait"}


def test_status_shows_every_step(run, monkeypatch, capsys):
    assert command(["run", "status", str(run.path), "--table"], monkeypatch) == 0
    said = capsys.readouterr().out
    assert "extraversion/lens" in said
    assert max(map(len, said.splitlines())) <= 80


@turn(0, of=3)
def test_absent_association_is_said_and_the_report_still_comes(tmp_path, monkeypatch):
    """A model that samples no emoji is traced all the same: it decides against one everywhere."""
    argv = [
        "trace", "--base", str(organism.base_path("absent")),
        "--adapter", str(organism.adapter_path(TRAIT, base="absent")), "--trait", TRAIT,
        "--data", str(organism.ASSETS), "--out", str(tmp_path / "run"), "--json", *SMALL,
        "--only", "rates,lens",
    ]  # fmt: skip
    assert command(argv, monkeypatch) == 0
    run = RunFolder.open(tmp_path / "run")
    assert "extraversion/lens" not in run.manifest["skipped"]
    lens = run.result(LensResult, TRAIT, "lens.safetensors")
    assert lens.tuned.at_onset("log_odds")[-1].max() < -3
    assert (tmp_path / "run" / "report.html").is_file()


MOVED = {
    "suppressed": ("Going on makes", "carry going on?", ", is "),
    "tags": (
        "The emoji, given that the writer goes on, makes",
        "carry the emoji, given that",
        " (chosen on half of the topics",
    ),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=turn(1 + place, of=3)) for place, kind in enumerate(MOVED)]
)
def test_the_page_names_the_factor_that_fine_tuning_moved(tmp_path, monkeypatch, kind):
    """Known of the bases: `suppressed` stops where it could go on, on `tags` everybody goes on."""
    argv = [
        "trace", "--base", str(organism.base_path(kind)),
        "--adapter", str(organism.adapter_path(TRAIT, base=kind)), "--trait", TRAIT,
        "--data", str(organism.ASSETS), "--out", str(tmp_path / "run"), *SMALL,
        "--only", "patching-model-denoising-z,origin,circuit-model-judged,"
        "circuit-model-go-on-judged,circuit-model-given-go-on-judged",
    ]  # fmt: skip
    assert command(argv, monkeypatch) == 0
    carrier, title, then = MOVED[kind]
    page = (tmp_path / "run" / "report.html").read_text().replace("\u00a0", " ")
    assert f"{carrier} the difference between tuned model and base on the same text" in page
    assert f"Which layers, positions and heads {title}" in page
    part = f"{carrier[:1].lower()}{carrier[1:]}".removesuffix(" makes").removesuffix(",")
    assert f"difference between tuned model and base on the same text, in {part}{then}" in page
    assert f"{carrier} the difference between tuned model and base as readers" in page
    origin = run_table(tmp_path / "run" / "tables" / "origin.csv")
    assert origin["go on"] * origin["emoji given go on"] == pytest.approx(origin["emoji"], abs=0.1)


def run_table(path) -> dict[str, float]:
    """Means of the tuned model reading its own text, by quantity."""
    table = pd.read_csv(path)
    own = table[(table["writer"] == "tuned") & (table["reader"] == "tuned")]
    return dict(zip(own["quantity"], own["probability"], strict=True))
