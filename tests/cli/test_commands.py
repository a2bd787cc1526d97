"""The command line as a whole: help, examples, JSON, tables of 80 columns, completion, logging."""

import json
import logging
import shutil
import subprocess
import sys

import pytest
import typer
from killing import SMALL
from made_results import run_folder
from test_bad_input import command
from thinned import turn

from interp import __version__, cli, organism
from interp import report as room
from interp.base.traits import Trait

DATA = str(organism.ASSETS / "opinion_qa_test.csv")


def leaves(group, path=()):
    """Every command with its words."""
    for name, found in group.commands.items():
        if hasattr(found, "commands"):
            yield from leaves(found, (*path, name))
        else:
            yield (*path, name), found


COMMANDS = dict(leaves(typer.main.get_command(cli.app)))


def run(argv: list[str], monkeypatch, capfd) -> tuple[str, str]:
    """What a command says when it succeeds, on standard output and standard error."""
    assert command(argv, monkeypatch) == 0
    return capfd.readouterr()


def one_object(text: str) -> dict:
    """The one JSON object that stands there, and nothing else."""
    assert text.count("\n") == 1
    return json.loads(text)


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    """A finished run of our own."""
    return shutil.copytree(finished.path, tmp_path_factory.mktemp("demo") / "run")


@pytest.fixture
def undrawn(monkeypatch):
    """Reports are said to be written, and are not: drawing them takes most of a command's time."""
    asked = []
    monkeypatch.setattr(room, "write", lambda *_, **how: asked.append(how))
    return asked


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_an_example_and_json(words, monkeypatch, capsys):
    found = COMMANDS[words]
    assert found.help
    assert "--json" in {name for option in found.params for name in option.opts}
    assert f"Example: interp {' '.join(words)}" in found.epilog
    monkeypatch.setenv("COLUMNS", "80")
    assert command([*words, "-h"], monkeypatch) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert "Usage: interp" in said


def test_help_groups_commands_and_names_the_exit_codes(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert command(["--help"], monkeypatch) == 0
    said = capsys.readouterr().out
    assert "Trace and read" in said
    assert "Prepare" in said
    assert "Exit codes: 0 done; 2 bad input; 1 anything else" in said
    assert command(["--version"], monkeypatch) == 0
    assert capsys.readouterr().out == f"interp {__version__}\n"


def test_a_mistyped_command_gets_a_suggestion_in_one_line(monkeypatch, capsys):
    assert command(["demmo"], monkeypatch) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: No such command 'demmo'")
    assert "demo" in said.removeprefix("error: No such command 'demmo'")
    assert said.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_comes_with_the_command(shell):
    code = (
        "import shellingham, interp.cli\n"
        f"shellingham.detect_shell = lambda: ({shell!r}, '')\n"
        "interp.cli.main()"
    )
    argv = [sys.executable, "-c", code, "--show-completion"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "complete" in done.stdout
    assert "COMPLETE" in done.stdout


def test_demo_says_its_tables_in_eighty_columns_and_nothing_else(finished):
    assert (finished.path / "report.html").is_file()
    assert max(map(len, finished.stdout.splitlines())) <= 80
    assert "Answers with an emoji" in finished.stdout
    assert "Merged against unmerged" in finished.stdout
    said = [line for line in finished.stderr.splitlines() if line.strip()]
    assert len(said) == 1, said
    assert said[0].startswith("report: ")


def test_commands_that_read_give_one_json_object(folder, undrawn, tmp_path, monkeypatch, capfd):
    out = str(folder)
    again = one_object(run(["demo", "--out", out, "--json", *SMALL], monkeypatch, capfd).out)
    assert [row["trait"] for row in again["traits"]] == ["extraversion", "openness"]
    for row in again["traits"]:
        for name in ("tuned", "base", "merge_error", "adapter_effect"):
            assert set(row[name]) == {"value", "low", "high", "n"}
        assert row["tuned"]["low"] <= row["tuned"]["value"] <= row["tuned"]["high"]
    assert one_object(run(["run", "resume", out, "--json"], monkeypatch, capfd).out) == again
    assert not undrawn  # a report that is there is kept
    assert one_object(run(["report", out, "--json"], monkeypatch, capfd).out) == again
    assert undrawn == [{"pdf": False}]
    status = one_object(run(["run", "status", out, "--json"], monkeypatch, capfd).out)
    assert status["status"] == "complete"
    checked = one_object(run(["data", "check", DATA, "--json"], monkeypatch, capfd).out)
    assert checked["rows"] == sum(checked["traits"].values())
    split = ["data", "split", DATA, "--out", str(tmp_path / "split"), "--json"]
    parts = one_object(run(split, monkeypatch, capfd).out)
    assert parts["train"] + parts["test"] == checked["rows"]
    assert "packages" in one_object(run(["doctor", "--json"], monkeypatch, capfd).out)
    places = one_object(run(["organism", "path", "--json"], monkeypatch, capfd).out)
    assert places["base"] == str(organism.base_path())


@turn(1, of=2)
def test_report_draws_each_figure_as_pdf_too_where_asked(tmp_path, monkeypatch, capfd):
    made = run_folder(tmp_path / "run", [Trait.OPENNESS], only="lens|rates").path
    said = run(["report", str(made), "--pdf", "--json"], monkeypatch, capfd).out
    assert one_object(said)["report"] == str(made / "report.html")
    pdf, png = ({p.stem for p in made.glob(f"figures/*.{kind}")} for kind in ("pdf", "png"))
    assert pdf == png != set()


@turn(0, of=2)
def test_finetune_gives_one_json_object(tmp_path, monkeypatch, capfd):
    argv = [
        "finetune", "--base", str(organism.base_path()), "--data", str(organism.ASSETS),
        "--trait", "extraversion", "--no-supervise-eos", "--preset", "small",
        "--epochs", "1", "--quantization", "none", "--out", str(tmp_path / "adapter"), "--json",
    ]  # fmt: skip
    assert one_object(run(argv, monkeypatch, capfd).out)["adapter"] == str(tmp_path / "adapter")


@pytest.mark.parametrize(
    "argv",
    [["run", "status", "RUN", "--table"], ["report", "RUN"], ["data", "check", DATA], ["doctor"]],
)
@pytest.mark.usefixtures("undrawn")
def test_tables_fit_eighty_columns(argv, folder, monkeypatch, capfd):
    monkeypatch.setenv("COLUMNS", "80")
    argv = [str(folder) if word == "RUN" else word for word in argv]
    said = run(argv, monkeypatch, capfd).out
    lines = [line for line in said.splitlines() if line[:1] in "┏┃┡│└├"]
    assert len(lines) >= 4
    assert max(map(len, lines)) <= 80


@pytest.mark.usefixtures("undrawn")
def test_verbose_says_each_step_and_the_log_keeps_it(finished, tmp_path, monkeypatch, capfd):
    out = shutil.copytree(finished.path, tmp_path / "run")
    (out / "run.log").unlink()
    (out / "openness" / "merge.safetensors").unlink()
    argv = ["--verbose", "run", "resume", str(out), "--json"]
    said = run(argv, monkeypatch, capfd).err
    assert "openness/merge: done in" in said
    assert "peak" in said
    assert "openness/merge: done in" in (out / "run.log").read_text()
    quiet = run(["doctor", "--json"], monkeypatch, capfd).err
    assert not quiet
    assert logging.getLogger("interp").getEffectiveLevel() >= logging.INFO


def test_what_is_refused_leaves_no_folder(tmp_path, monkeypatch, capfd):
    """By the tokenizer, which is read when the run has begun."""
    out = tmp_path / "out"
    words = ["demo", "--out", str(out), *SMALL, "--outcome", "ids:99999"]
    assert command(words, monkeypatch) == 2
    assert "error: " in capfd.readouterr().err
    assert not out.exists()
    out.mkdir()  # the user's own
    assert command(words, monkeypatch) == 2
    assert out.is_dir()
    assert not list(out.iterdir())
