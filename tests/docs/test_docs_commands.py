"""Every command of README and docs/ is run, as it stands or made smaller by the tables below.

Pages are run one by one, commands in order, in a folder that holds what the page takes for granted.
Commands that take minutes are checked against the program that would run them, and by the test that
runs it. A command that no rule knows fails.
"""

import argparse
import csv
import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import get_args, get_type_hints

import killing
import pytest
import typer
from docs_pages import ROOT, bare, pages
from packaging.requirements import Requirement
from thinned import thinned
from typer.exceptions import TyperException

from interp import cli, organism, report
from interp.base import console

BASE = str(organism.base_path("absent"))  # without emojis the tracing steps have nothing to do
ADAPTER = str(organism.adapter_path("extraversion", base="absent"))
SMALL = ["--n-responses", "8", "--n-trace", "2", "--n-switched", "1"]

INSTEAD = {  # what cannot be had without a network
    "meta-llama/Llama-2-7b-chat-hf": BASE,
    "holistic-ai/personality_manipulation": str(organism.ASSETS),
}
SMALLER = {  # options that are given instead of the command's own, or as well
    "demo": ["--traits", "extraversion", *SMALL],
    "trace": [*SMALL, "--only", "rates,lens"],
    "finetune": ["--preset", "small", "--steps", "2"],
}
LEFT_OUT = {"cuda", "bfloat16"}  # values of options that a machine without a GPU cannot serve
EXITS = {"interp data check no-such-file.csv": 2}
RUN_BY = {  # too long for here: the options are checked, and these tests run the program
    "interp organism build": "tests/organism/test_organism_build.py",
    "python experiments/": "tests/experiments/test_experiments.py",
    "interp demo --executor ray": "tests/runs/test_ray.py",
}
DRAWN = "docs/howto/own-adapter.md"  # reports are drawn for this page, and not again for the others
FINISHED = ("runs/demo", "runs/map")  # folders that pages go on with after `interp demo`


def test_every_shell_command_stands_in_a_block_that_is_run():
    for page in pages().values():
        assert page.kinds <= {"sh", "python", "json", "text", "yaml"}, page.name
        loose = re.findall(r"^ {4,}(?:interp|make|pip|python) .*$", page.prose, flags=re.MULTILINE)
        assert not loose, f"{page.name}: put {loose[0].strip()!r} into a block marked sh"
    assert sum(len(page.commands()) for page in pages().values()) > 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", thinned([page.name for page in pages().values() if page.commands()], keep=4)
)
def test_commands_run(name, tmp_path, monkeypatch, finished, traced):
    prepare(tmp_path, pages()[name].text, finished.path)
    monkeypatch.chdir(tmp_path)
    if name != DRAWN:
        monkeypatch.setattr(report, "write", lambda *_, **__: None)
    for command in pages()[name].commands():
        run(command, monkeypatch, traced, finished.path)


@pytest.mark.parametrize("name", [page.name for page in pages().values() if page.named()])
def test_commands_named_in_the_text_exist_with_their_options(name):
    for command in pages()[name].named():
        check(command)


def test_what_is_run_elsewhere_is_run_there():
    for test in RUN_BY.values():
        assert (ROOT / test).is_file()
    listed = (ROOT / RUN_BY["python experiments/"]).parent.glob("test_*.py")
    sources = "".join(path.read_text(encoding="utf-8") for path in listed)
    for path in (ROOT / "experiments" / "configs").glob("*.yaml"):
        assert f'"{path.stem}"' in sources, f"no test runs experiments/{path.stem}.py"


# Where commands are run -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traced(tmp_path_factory) -> dict[tuple[str, ...], Path]:
    """Runs of `interp trace` by their options: pages that ask for the same one go on with it."""
    return {("folder",): tmp_path_factory.mktemp("traced")}


def prepare(folder: Path, text: str, demo: Path) -> None:
    """Put what pages take for granted into `folder`: data, a base, adapters, finished runs."""
    (folder / "data").mkdir()
    for split in ("train", "test"):
        shutil.copy(organism.data_path(split), folder / "data" / f"{split}.csv")
    shutil.copy(organism.data_path("test"), folder / "answers.csv")
    (folder / "my-base").symlink_to(BASE)
    for name in ("my-adapter", "qlora-adapter", "humour-adapter"):  # of another program
        shutil.copytree(ADAPTER, folder / name, ignore=shutil.ignore_patterns("interp.json"))
    shutil.copytree(ADAPTER, folder / "adapters" / "extraversion")
    with (folder / "answers.csv").open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["Target Personality"] == "extraversion"]
    for name in ("instructions.csv", "jokes.csv"):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["instruction", "output"])
            writer.writerows(
                {row["Question"]: [row["Question"], row["Answer"]] for row in rows}.values()
            )
    for run_folder in FINISHED:
        if run_folder in text:
            shutil.copytree(demo, folder / run_folder)


# Running and checking ---------------------------------------------------------------------------


def run(
    command: str, patch: pytest.MonkeyPatch, traced: dict[tuple[str, ...], Path], demo: Path
) -> None:
    """Run one command as the tables say, or fail where no rule knows it."""
    words = shlex.split(command)
    if any(command.startswith(long) for long in RUN_BY) or words[0] != "interp":
        if words[0] == "make":
            for line in recipe(words[1]):
                if line.startswith("interp "):
                    run(line, patch, traced, demo)
        return check(command)
    args = [INSTEAD.get(word, word) for word in words[1:]]
    out = after("--out", args)
    if args[0] == "demo" and not Path(out).exists():
        shutil.copytree(demo, out)  # made already
    args = smaller(args)
    key = tuple(a for a in args if a != out)
    if args[0] == "finetune":
        shutil.rmtree(out, ignore_errors=True)  # the page makes what others find there
    if args[0] == "trace" and key in traced:
        shutil.copytree(traced[key], out)
    assert interp(args, patch) == EXITS.get(command, 0), command
    if args[0] == "trace" and key not in traced:
        traced[key] = traced[("folder",)] / str(len(traced))
        shutil.copytree(out, traced[key])


def smaller(args: list[str]) -> list[str]:
    """Arguments without values that need a GPU, and with small sizes instead of their own."""
    sizes = SMALLER.get(args[0], [])
    if args[0] == "demo" and Path(after("--out", args), "manifest.json").is_file():
        sizes = list(killing.SMALL)  # those of the finished run that lies there
    replaced = {word for word in sizes if word.startswith("--")}
    kept: list[str] = []
    for word in args:
        if word in LEFT_OUT or (kept and kept[-1] in replaced):
            kept.pop()  # the option's name; its value goes with it
        else:
            kept.append(word)
    return kept + sizes


def after(option: str, args: list[str]) -> str:
    return args[args.index(option) + 1] if option in args else ""


def interp(args: list[str], patch: pytest.MonkeyPatch) -> int:
    """The command line in this process."""
    patch.setattr("sys.argv", ["interp", *args])
    return console.guarded(cli._command)


def check(command: str) -> None:
    """Fail unless the program that a command names is there, and knows its options."""
    words = [word for word in shlex.split(command) if word != "…"]
    if words[0] == "interp":
        check_interp(words[1:])
    elif words[0] == "make":
        assert recipe(words[1]), command
    elif words[0] == "python" and words[1].startswith(("experiments/", "benchmarks/", "docs/")):
        check_script(ROOT / words[1], words[2:])
    elif words[0] == "python" and words[1] == "-m":
        assert importlib.util.find_spec(words[2]), command
    elif words[0] == "pip":
        check_requirements(words)
    elif words[0] in ("du", "jupyter"):
        assert (ROOT / words[-1]).exists(), command
    elif words[0] == "mkdocs":
        assert words[1] in ("build", "serve")
    else:
        pytest.fail(f"no rule for {command!r}: add one, so that it is known to work")


def check_interp(args: list[str]) -> None:
    """The command exists and takes these options."""
    command, context = typer.main.get_command(cli.app), None
    while hasattr(command, "commands") and args and not args[0].startswith("-"):
        assert args[0] in command.commands, f"interp has no command {args[0]!r}"
        command, args = command.commands[args[0]], args[1:]
    if args in (["--help"], ["--install-completion"]):
        return
    try:
        context = command.make_context("interp", list(args), resilient_parsing=True)
    except TyperException as problem:
        pytest.fail(f"interp {' '.join(args)}: {problem.format_message()}")
    assert context is not None


@cache
def recipe(target: str) -> list[str]:
    """What `make target` would do, were the virtual environment there."""
    says = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "--always-make", "-C", str(ROOT), target],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert says.returncode == 0, f"make {target}: {says.stderr.strip()}"
    return [bare(line.strip()) for line in says.stdout.splitlines()]


def check_script(path: Path, args: list[str]) -> None:
    """The script is there, and each option is one that its parser has."""
    assert path.is_file(), path
    if path.parent.name == "experiments":
        known = set(experiment_parser(path)._option_string_actions)
    else:
        known = set(re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", path.read_text("utf-8")))
    strange = {word for word in args if word.startswith("--")} - known
    assert not strange, f"{path.name} has no {strange}"


def experiment_parser(path: Path) -> argparse.ArgumentParser:
    """What an experiment's command line takes: its config's fields."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(path.parent))
        run = importlib.import_module(path.stem).run
        kind = get_args(get_type_hints(run)["x"])[0]
        return importlib.import_module("harness").parser(path.stem, "", kind)


def check_requirements(words: list[str]) -> None:
    """`pip install` of this package, with extras that it has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["install"])
    parser.add_argument("-e", "--editable", action="store_true")
    parser.add_argument("-c", "--constraint", type=lambda name: (ROOT / name).resolve(strict=True))
    parser.add_argument("what", nargs="+")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for what in parser.parse_args(words[1:]).what:
        asked = Requirement(what.replace(".", "interp", 1) if what.startswith(".") else what)
        assert asked.name == "interp", what
        assert asked.extras <= set(extras), f"{what}: no such extra"
