"""Run folders: whose they are, what they keep, and what a second run does with them."""

import pytest

from interp.behaviour import Response
from interp.errors import RunError
from interp.models import MergeReport
from interp.runs import RunFolder
from interp.traits import Trait

CONFIG = {"seed": 1, "adapters": {"openness": "a", "neuroticism": "b"}}
ANSWER = Response("Why?", "t", (1, 2), (3,), "Because 😊 <b>", True)


def test_folder_keeps_what_it_was_asked(tmp_path):
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    folder.note(steps={"a": 1.0})
    folder.note(steps={"b": 2.0}, n_questions=3)
    folder.finish(1.23)
    again = RunFolder.open(tmp_path / "run").manifest
    assert again["steps"] == {"a": 1.0, "b": 2.0}
    assert again["status"] == "complete"
    assert again["config"] == CONFIG
    assert again["seed"] == 1
    assert again["versions"]["torch"].startswith("2.")
    assert folder.traits == (Trait.OPENNESS, Trait.NEUROTICISM)


def test_same_config_goes_on_and_another_is_refused(tmp_path):
    RunFolder.create(tmp_path / "run", CONFIG).note(steps={"a": 1.0})
    assert RunFolder.create(tmp_path / "run", CONFIG).manifest["steps"] == {"a": 1.0}
    with pytest.raises(RunError, match=r"holds another run \(different seed\)"):
        RunFolder.create(tmp_path / "run", {**CONFIG, "seed": 2})


def test_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="is no run folder"):
        RunFolder.create(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match=r"no manifest\.json"):
        RunFolder.open(tmp_path)


def test_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunError, match="is no run folder"):
        RunFolder.create(tmp_path / "run", CONFIG)


def test_responses_come_back_as_they_were(tmp_path):
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    assert folder.responses("base", "responses.json") is None
    folder.save_responses([ANSWER], "base", "responses.json")
    assert folder.responses("base", "responses.json") == [ANSWER]
    folder.file("base", "responses.json").write_text('[{"question": "Why?"}]')
    with pytest.raises(RunError, match="not the answers of a run"):
        folder.responses("base", "responses.json")


def test_missing_result_is_none(tmp_path):
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    assert folder.result(MergeReport, "openness", "merge.safetensors") is None
