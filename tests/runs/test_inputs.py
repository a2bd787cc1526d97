"""What steps are made from, and where they are written: files that change, pipes, links."""

import json
import os
import shutil
from pathlib import Path

import pytest

from interp import organism, report
from interp.base.files import open_plain, sha256, write_text
from interp.base.traits import Trait
from interp.errors import AdapterError, InputError, ModelError, RunError, TokenizerError
from interp.study import StudyConfig, steps
from interp.study.runs import RunFolder, execute
from interp.study.runs.step import Step


@pytest.fixture
def asked(tmp_path) -> StudyConfig:
    """A study of one adapter, on copies that a test may change."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(organism.base_path(), base)
    shutil.copytree(organism.adapter_path("extraversion"), adapter)
    return StudyConfig(
        base=str(base), adapters={Trait.EXTRAVERSION: str(adapter)}, data=str(organism.ASSETS),
        n_responses=8, n_trace=4, n_switched=0,
    )  # fmt: skip


def keys(asked: StudyConfig, tmp_path: Path) -> dict[str, str]:
    """The keys of all steps, as if what they need had stayed the same."""
    config = asked.model_dump(mode="json")
    made = steps.steps(config, RunFolder.create(tmp_path / "run", config, change=True))
    return {step.name: step.key(dict.fromkeys(step.needs, "same")) for step in made}


def changed(asked: StudyConfig, tmp_path: Path, edit: str, text: str) -> set[str]:
    before = keys(asked, tmp_path)
    (tmp_path / edit).parent.mkdir(exist_ok=True)
    (tmp_path / edit).write_text(text)
    return {name for name, key in keys(asked, tmp_path).items() if key != before[name]}


READ_ONLY = {"extraversion/rates-base", "extraversion/rates-tuned"}  # count what was written


@pytest.mark.parametrize("name", ["merges.txt", "vocab.txt", "tokenizer.model"])
def test_every_file_of_the_model_that_may_be_read_is_in_the_keys(asked, tmp_path, name):
    assert (
        changed(asked, tmp_path, f"base/{name}", "x y") == keys(asked, tmp_path).keys() - READ_ONLY
    )


def test_notes_and_pictures_are_in_no_key(asked, tmp_path):
    assert not changed(asked, tmp_path, "base/README.md", "A model.")


def test_another_adapter_leaves_the_bases_answers(asked, tmp_path):
    stale = changed(asked, tmp_path, "adapter/vocab.json", "{}")
    assert stale == keys(asked, tmp_path).keys() - READ_ONLY - {"base/responses-dense"}


def test_a_template_that_prints_the_date_makes_other_keys_on_another_day(
    asked, tmp_path, monkeypatch
):
    from interp.models import ChatFormat

    before = keys(asked, tmp_path)
    assert keys(asked, tmp_path) == before
    real = ChatFormat.prompt_ids
    monkeypatch.setattr(ChatFormat, "prompt_ids", lambda self, text: [*real(self, text), 7])
    assert {n for n, k in keys(asked, tmp_path).items() if k == before[n]} == READ_ONLY


@pytest.mark.parametrize("folder", ["base", "adapter"])
@pytest.mark.parametrize("name", ["README.json", "merges.txt", "notes"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_under_any_name_is_refused_and_not_waited_for(asked, tmp_path, folder, name, kind):
    place = tmp_path / folder / name
    place.unlink(missing_ok=True)
    os.mkfifo(place) if kind == "pipe" else place.symlink_to("/dev/zero")
    with pytest.raises(
        (ModelError, AdapterError, TokenizerError), match=rf"{name}: is no file|{name}.*link"
    ):
        keys(asked, tmp_path)


def test_only_plain_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for odd in (tmp_path / "pipe", tmp_path / "link", tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=r"is no file|no such file"):
            open_plain(odd)
        with pytest.raises(RunError):
            sha256(odd, RunError)


@pytest.mark.parametrize("linked", ["a", "a/b"])
def test_no_step_writes_through_a_link(tmp_path, linked):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "c.txt").write_text("mine")
    (mine / "manifest.json").write_text("{}")
    folder = RunFolder.create(tmp_path / "run", {})
    place = folder.file(*linked.split("/"))
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(mine)
    file = f"{linked}/c.txt"
    written = Step("c", file, lambda path: write_text(path, "step") and None)
    careless = Step("d", file, lambda path: path.write_text("step") and None)
    for step in (written, careless):
        with folder.lock(), pytest.raises(RunError, match=rf"{linked}: is a link, and nothing"):
            execute([step], folder)
    assert (mine / "c.txt").read_text() == "mine"
    with pytest.raises(RunError, match="leads out of"):
        write_text(folder.path / ".." / "out.txt", "x")


def test_a_run_folder_that_is_itself_a_link_is_the_users_business(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    folder = RunFolder.create(tmp_path / "run", {})
    with folder.lock():
        assert execute([Step("c", "a/c", lambda path: write_text(path, "1") and None)], folder) == 1
    assert (tmp_path / "disk" / "a" / "c").read_text() == "1"


@pytest.mark.parametrize("name", ["tables", "figures"])
def test_a_report_overwrites_nobodys_file_through_a_link(reference, tmp_path, name):
    out, mine = tmp_path / "run", tmp_path / "mine"
    shutil.copytree(reference, out)
    shutil.copytree(out / name, mine)
    for path in mine.iterdir():
        path.write_text("mine")
    shutil.rmtree(out / name)
    (out / name).symlink_to(mine)
    with pytest.raises(RunError, match=rf"{name}: is a link"):
        report.write(out)
    assert {path.read_text() for path in mine.iterdir()} == {"mine"}


def test_a_lock_that_is_a_link_empties_nobodys_file(tmp_path):
    folder, mine = RunFolder.create(tmp_path / "run", {}), tmp_path / "mine"
    mine.write_text(json.dumps({}))
    folder.file("run.lock").symlink_to(mine)
    with pytest.raises(RunError, match=r"run\.lock: is a link"), folder.lock():
        pass
    assert mine.read_text() == "{}"
