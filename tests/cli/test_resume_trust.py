"""A run folder from a stranger cannot say whose code may run."""

import json

import pytest

from interp import cli, organism


def resume(folder, patch, capfd, *options):
    patch.setattr("sys.argv", ["interp", "run", "resume", str(folder), *options])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capfd.readouterr().err
    assert stop.value.code == 2, said
    assert said.count("\n") == 1
    return said


def write(folder, **config):
    """A run that was begun elsewhere, of a base that is not here."""
    adapters = {"extraversion": str(organism.adapter_path("extraversion"))}
    asked = {"base": "gone/gone/gone", "adapters": adapters, "data": str(organism.ASSETS)} | config
    manifest = {"status": "stopped", "job": "study", "command": "interp trace", "config": asked}
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest | {"steps": {}}))
    return folder


def test_trust_in_code_is_not_taken_from_the_manifest(tmp_path, monkeypatch, capfd):
    base = tmp_path / "base"
    base.mkdir()
    ran = tmp_path / "ran"
    (base / "modeling.py").write_text(f"open({str(ran)!r}, 'w').close()")
    code = {"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    (base / "config.json").write_text(json.dumps(code))
    run = write(tmp_path / "run", base=str(base), trust_remote_code=str(base))
    said = resume(run, monkeypatch, capfd)
    assert f"asks to run the code that {base} brings; refused" in said
    assert f"interp run resume {run} --trust-remote-code {base}" in said
    assert not ran.exists()


def test_another_name_than_the_manifests_is_refused(tmp_path, monkeypatch, capfd):
    trusting = write(tmp_path / "one", trust_remote_code="org/model")
    said = resume(trusting, monkeypatch, capfd, "--trust-remote-code", "org/other")
    assert "was not begun with the code of org/other; its manifest names org/model" in said
    plain = write(tmp_path / "two")
    said = resume(plain, monkeypatch, capfd, "--trust-remote-code", "org/model")
    assert "was not begun with the code of org/model; its manifest names None" in said


def test_who_names_it_again_goes_on(tmp_path, monkeypatch, capfd):
    run = write(tmp_path / "run", trust_remote_code="gone/gone/gone")
    said = resume(run, monkeypatch, capfd, "--trust-remote-code", "gone/gone/gone")
    assert "no such folder" in said  # the base, which is looked for after the trust is settled
