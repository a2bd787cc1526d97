"""What the project declares and what it uses are the same: packages, versions, commands."""

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import interp

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Packages that no Python of ours imports, with the file and the words that use them.
NAMED = {
    "ray": ("interp/study/runs/cluster.py", 'import_module("ray")'),
    "jupyterlab": ("README.md", "jupyter lab"),
    "ipykernel": ("notebooks/execute.py", "kernel"),
    "ipywidgets": ("interp/__init__.py", "ipywidgets"),
    "mkdocs-material": ("mkdocs.yml", "name: material"),
    "mkdocs-jupyter": ("mkdocs.yml", "- mkdocs-jupyter:"),
    "mkdocstrings": ("mkdocs.yml", "- mkdocstrings:"),
    "pytest-xdist": ("Makefile", "--dist loadfile"),
    "ruff": ("Makefile", "ruff check"),
    "mypy": ("Makefile", "/mypy"),
    "pandas-stubs": ("pyproject.toml", "[tool.mypy]"),
    "beartype": ("tests/conftest.py", '"beartype.beartype"'),
    "playwright": ("tests/browser/conftest.py", '"playwright.sync_api"'),
    "axe-playwright-python": ("tests/browser/test_page.py", '"axe_playwright_python'),
}
PLACES = {  # where packages are imported; those of other extras by interp
    "core": ("interp", "experiments"),
    "notebooks": ("interp", "notebooks"),
    "docs": ("docs",),
    "dev": ("tests", "notebooks"),
}
BROUGHT = {  # imported beside the declared package that brings it
    "accelerate": "peft",
    "anyio": "openai",
    "griffelib": "mkdocstrings",
    "huggingface-hub": "transformers",
    "ipython": "ipykernel",
    "nbformat": "nbclient",
    "packaging": "pytest",
    "shellingham": "typer",
}


def declared(kind: str) -> set[str]:
    """The packages of the core or of an extra."""
    listed = PROJECT["dependencies"] if kind == "core" else EXTRAS[kind]
    found = {canonicalize_name(Requirement(one).name) for one in listed}
    return found - {"interp"}


def imported(*folders: str) -> dict[str, str]:
    """Every package that is imported below the folders, with one file; none of our own."""
    by_module, ours = distributions(), {path.stem for path in ROOT.glob("[!.]*/**/*.py")}
    found = {}
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for module in modules(ast.parse(path.read_text(encoding="utf-8"))) - {"interp"}:
            if module not in ours or module in by_module:
                for distribution in by_module.get(module, [module]):
                    found[canonicalize_name(distribution)] = str(path.relative_to(ROOT))
    return found


@cache
def distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def modules(tree: ast.Module) -> set[str]:
    """The top-level modules that a file imports, wherever it does; no relative ones."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names)


@pytest.mark.parametrize("kind", ["core", *EXTRAS])
def test_every_declared_package_is_used_where_it_should_be(kind):
    unused = declared(kind) - imported(*PLACES.get(kind, ("interp",))).keys()
    for package in unused:
        assert package in NAMED, f"{package} is declared ({kind}), but nothing imports it"
        file, words = NAMED[package]
        assert words in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", ["interp", "experiments", "notebooks", "docs", "tests"])
def test_nothing_is_imported_that_is_not_declared(folder):
    known = declared("core").union(*map(declared, EXTRAS))
    if folder in ("interp", "experiments"):  # what users have; extras are optional there
        known = declared("core").union(*map(declared, EXTRAS.keys() - {"docs", "dev"}))
    for package, file in imported(folder).items():
        assert BROUGHT.get(package, package) in known, f"{file} imports {package}"


def test_the_version_is_the_same_wherever_it_stands():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)
    assert PROJECT["version"] == interp.__version__ == citation["version"] == released[0]
    assert "## [Unreleased]" in changes


def test_make_help_names_every_command():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())
    shown = set(re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE))
    assert targets - shown == {"quick"}  # half of check
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`make ([a-z]+)`", contributing)) <= targets


def test_commit_hooks_are_the_environments_own_tools():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (local,) = hooks["repos"]
    assert local["repo"] == "local"
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for hook in local["hooks"]:
        tool = re.fullmatch(r"\.venv/bin/(\w+)(?: .*)?", hook["entry"])[1]
        assert f"\n{tool}==" in pinned


def test_type_checkers_see_the_annotations():
    assert (Path(interp.__file__).parent / "py.typed").read_bytes() == b""
