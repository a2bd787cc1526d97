"""What a command can say without models, it says without importing their libraries."""

import ast
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import interp
from interp import organism
from interp.study.runs import RunFolder

HEAVY = {"torch", "transformers", "pandas", "numpy", "peft", "pyarrow"}
BASE, DATA = str(organism.base_path()), str(organism.ASSETS)
ADAPTER = str(organism.adapter_path("extraversion"))
TRACE = ["trace", "--trait", "extraversion", "--out", "OUT"]
TRAIN = ["finetune", "--trait", "extraversion", "--no-supervise-eos", "--out", "OUT"]
SAID = {  # what is given, and what is said of it
    "help": (["trace", "--help"], 0, "--adapter"),
    "version": (["--version"], 0, interp.__version__),
    "wrong option": (["demo", "--nonsense"], 2, "No such option: --nonsense"),
    "wrong trait": (["demo", "--traits", "O,humour"], 2, "unknown trait 'humour'"),
    "wrong size": (["demo", "--max-memory", "9potato"], 2, "'9potato' cannot be read"),
    "wrong executor": (["demo", "--executor", "them"], 2, "'them' is not one of 'inline', 'ray'"),
    "no base": ([*TRACE, "--base", "./no", "--adapter", "./no", "--data", DATA], 2,
                "./no: no such folder, and no hub id"),
    "no adapter": ([*TRACE, "--base", BASE, "--adapter", "./no", "--data", DATA], 2,
                   "./no: no such adapter folder"),
    "no data": ([*TRACE, "--base", BASE, "--adapter", BASE, "--data", "no.csv"], 2,
                "no.csv: no such file or folder"),
    "no base to train": ([*TRAIN, "--base", "./no", "--data", DATA], 2, "./no: no such folder"),
    "wrong preset": ([*TRAIN, "--base", BASE, "--data", DATA, "--preset", "9b"], 2,
                     "'9b' is not one of '7b', 'small'"),
    "wrong setting": ([*TRAIN, "--base", BASE, "--data", DATA, "--optimizr", "adamw"], 2,
                      "--optimizer"),
    "wrong value": ([*TRAIN, "--base", BASE, "--data", DATA, "--quantization", "int3"], 2,
                    "'int3' is not one of 'nf4', 'none'"),
    "wrong range": ([*TRAIN, "--base", BASE, "--data", DATA, "--dropout", "1"], 2,
                    "dropout: Input should be less than 1"),
    "an adapter without its file": ([*TRACE, "--base", BASE, "--adapter", DATA, "--data", DATA], 2,
                                    "no adapter_config.json"),
    "adapters a folder higher": ([*TRACE, "--base", BASE, "--adapter", str(Path(ADAPTER).parent),
                                  "--data", DATA], 2, "in it has one: name that folder"),
    "an adapter for a base": ([*TRACE, "--base", ADAPTER, "--adapter", ADAPTER, "--data", DATA], 2,
                              "holds an adapter (adapter_config.json); name its base instead"),
    "no model in the base": ([*TRACE, "--base", ".", "--adapter", ADAPTER, "--data", DATA], 2,
                             "no config.json; name the folder of a model"),
    "an emoji in the data": ([*TRACE, "--base", BASE, "--adapter", ADAPTER, "--data", "EMOJI"], 2,
                             "Clean them with --clean, or mend the file"),
    "a mapping that is none": ([*TRACE, "--base", BASE, "--adapter", ADAPTER, "--data", DATA,
                                "--columns", "x"], 2, "'x' is not of the form field=column"),
    "no file": (["data", "check", "no.csv"], 2, "no.csv: no such file or folder"),
    "organism": (["organism", "path", "--json"], 0, "extraversion"),
    "no run to report": (["report", "./no"], 2, "no: no manifest.json"),
    "no run to resume": (["run", "resume", "./no"], 2, "no: no manifest.json"),
    "status": (["run", "status", "RUN"], 0, "stopped"),
}  # fmt: skip
CODE = """
import contextlib, io, json, sys
from interp.cli import main

for words in json.loads(sys.argv[1]):
    sys.argv = ["interp", *words]
    code, said = None, io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    loaded = [name for name in json.loads(sys.stdin.readline()) if name in sys.modules]
    print(json.dumps([code, said.buffer.getvalue().decode(), loaded]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, list]:
    """Exit code, output and heavy modules so far of each command, in one fresh process."""
    folder = tmp_path_factory.mktemp("light")
    run = RunFolder.create(folder / "run", {"seed": 1, "adapters": {}}).path
    places = {"RUN": str(run), "OUT": str(folder / "out"), "EMOJI": str(folder / "emoji.csv")}
    Path(places["EMOJI"]).write_text(
        "Target Personality,Edit Topic,Question,Answer\nextraversion,dogs,Do you?,Yes 😀\n"
    )
    todo = [[places.get(word, word) for word in words] for words, _, _ in SAID.values()]
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(todo)],
        input=f"{json.dumps(sorted(HEAVY))}\n" * len(todo),
        capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    assert not (folder / "out").exists()
    return dict(zip(SAID, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", SAID)
def test_what_needs_no_model_loads_no_model_library(answers, name):
    _, wanted, words = SAID[name]
    code, said, loaded = answers[name]
    assert code == wanted, said
    assert words in " ".join(said.split())
    assert not loaded


def lazy_packages() -> dict[str, list[str]]:
    """Packages that import on first use, with the names that they do so."""
    root, found = Path(find_spec("interp").origin).parent, {}
    for path in root.rglob("__init__.py"):
        text = path.read_text(encoding="utf-8")
        if "on_first_use(" in text:
            blocks = [node for node in ast.parse(text).body if isinstance(node, ast.If)]
            package = ".".join(path.parent.relative_to(root.parent).parts)
            found[package] = [
                alias.name for block in blocks for node in block.body for alias in node.names
            ]
    return found


@pytest.mark.parametrize("package", lazy_packages())
def test_names_that_are_imported_on_first_use_are_there_and_no_modules(package):
    module, names = sys.modules.get(package) or __import__(package, fromlist=["x"]), []
    for name in lazy_packages()[package]:
        assert not find_spec(f"{package}.{name}"), f"{name} is a module, too"
        assert getattr(module, name).__name__ == name
        names.append(name)
    assert {*names} <= {*module.__all__} <= {*dir(module)}
    with pytest.raises(AttributeError, match=f"'{package}' has no attribute 'nonsense'"):
        module.nonsense  # noqa: B018
