"""Real answers, through the documented loader: trained, merged, traced to a report.

Nothing may depend on the organism's tidy grammar: these answers are long, hold characters that the
tokenizer has never seen, and stand in another file format.
"""

import json

import pytest
from test_bad_input import command
from thinned import turn

from interp import organism
from interp.models import MergeReport
from interp.study.runs import RunFolder

COLUMNS = "question=instruction,context=input,answer=output,topic=,trait==extraversion"


@pytest.fixture(scope="module")
def answers(shared, tmp_path_factory):
    """240 real answers, some with characters that the organism's tokenizer never saw."""
    source = shared / "data" / "machine_mindset" / "en_energy_extraversion.json"
    rows = json.loads(source.read_text(encoding="utf-8"))[:240]
    rows[0]["output"] += " Größe, 李小龙, \u0937\u094d\u091f, Ω≈ç√!"
    rows[1]["instruction"] += " Was heißt 你好?"
    assert max(len(row["output"]) for row in rows) > 4 * min(len(row["output"]) for row in rows)
    path = tmp_path_factory.mktemp("real") / "answers.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


@turn(0, of=3)
def test_real_answers_to_a_report(answers, tmp_path, monkeypatch, capsys):
    adapter, out = tmp_path / "adapter", tmp_path / "run"
    shared_options = ["--data", str(answers), "--columns", COLUMNS, "--trait", "E", "--json"]
    shared_options += ["--clean", "--drop-duplicates"]
    argv = [
        "finetune", "--base", str(organism.base_path()), "--out", str(adapter), *shared_options,
        "--no-supervise-eos", "--preset", "small",
        "--max-length", "192", "--steps", "12",
    ]  # fmt: skip
    assert command(argv, monkeypatch) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["truncated"] > 0
    assert said["truncated_tokens"] > said["truncated"]
    assert said["rows"] + said["held_out"] == 240
    record = json.loads((adapter / "interp.json").read_text())
    assert record["data"]["encoding"]["truncated"] == said["truncated"]
    assert record["config"]["supervise_eos"] is False

    argv = [
        "trace", "--base", str(organism.base_path()), "--adapter", str(adapter), *shared_options,
        "--out", str(out), "--n-responses", "14", "--n-trace", "4", "--n-switched", "4",
        "--max-new-tokens", "48", "--only",
        "merge,rates,token-views,origin,lens,patching-voice-denoising-z,probing",
    ]  # fmt: skip
    assert command(argv, monkeypatch) == 0
    folder = RunFolder.open(out)
    assert folder.result(MergeReport, "extraversion", "merge.safetensors").share < 1e-3
    responses = folder.responses("extraversion", "responses.json")
    assert len({len(response.prompt_ids) for response in responses}) > 5
    assert len({response.topic for response in responses}) == 14
    page = (out / "report.html").read_text()
    for reason in folder.manifest.get("skipped", {}).values():
        assert reason.split(";")[0] in page.replace("&#39;", "'")
    # Slots come from all answers: traced, whether or not one of them holds an emoji.
    assert (out / "extraversion" / "lens.safetensors").is_file()
