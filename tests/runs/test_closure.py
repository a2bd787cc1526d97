"""The code in a step's key: what its functions reach, no comment, and nothing beside."""

import shutil
from functools import partial
from pathlib import Path

import pytest
from thinned import thinned

import interp
from interp import study
from interp.study import steps
from interp.study.runs.closure import Sources, closure

PACKAGE = Path(interp.__file__).parent
ROOTS = {
    "lens": ("interp/traces/logit_lens/reading.py", "compare"),
    "pair": ("interp/models/pair.py", "load_pair"),
    "answers": ("interp/behaviour/generate.py", "generate"),
    "questionnaire": ("interp/measures/questionnaire.py", "administer"),
}


@pytest.fixture
def tree(tmp_path):
    """The package's sources, to be edited: `tree(path, old, new)` gives the roots that changed."""
    copy = tmp_path / "interp"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))

    def digests() -> dict[str, str]:
        sources = Sources(copy)
        return {
            name: sources.digest(((tmp_path / file, root),)) for name, (file, root) in ROOTS.items()
        }

    def edit(path: str, old: str, new: str) -> set[str]:
        before, text = digests(), (copy / path).read_text()
        assert old in text
        (copy / path).write_text(text.replace(old, new, 1))
        return {name for name, digest in digests().items() if digest != before[name]}

    return edit


@pytest.mark.parametrize(
    "path", thinned(["base/html.py", "cli/doctor.py", "measures/questionnaire.py"])
)
def test_a_comment_and_a_docstring_change_nothing(tree, path):
    assert tree(path, "\n\n\n", "\n\n\n# A comment.\n") == set()
    assert tree(path, '"""', '"""Otherwise said: ') == set()


def test_a_change_of_code_changes_what_reaches_it_and_nothing_else(tree):
    changed = tree("behaviour/generate.py", "def generate(\n", "def generate(\n    more,\n")
    assert changed == {"answers", "pair"}, "a pair can be asked for answers; a lens cannot"
    assert tree("models/merge.py", "live = attach", "more = live = attach") == {"pair"}
    assert tree("cli/doctor.py", "import ", "more = 1\nimport ") == set()


def test_files_that_a_definition_reads_count(tree, tmp_path):
    assets = tmp_path / "interp" / "measures" / "assets"
    asset = min(path.relative_to(tmp_path / "interp") for path in assets.iterdir())
    text = (tmp_path / "interp" / asset).read_text()
    assert "questionnaire" in tree(str(asset), text[:20], text[:20] + " ")


def package(root: Path, **files: str) -> Sources:
    for name, text in files.items():
        path = root / "interp" / (name.replace("__", "/", 1) + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for folder in (path.parent, root / "interp"):
            (folder / "__init__.py").touch()
    return Sources(root / "interp")


def reached(sources: Sources, name: str) -> set[str]:
    root = sources.at("interp.a.main", name)
    found = sources.reached((root,))
    return {f"{module.name.removeprefix('interp.')}:{one}" for module, one in found if one}


def test_names_are_followed_to_where_they_are_defined(tmp_path):
    (tmp_path / "interp" / "room").mkdir(parents=True)
    sources = package(
        tmp_path,
        a__main=(
            "from interp import room\nfrom interp.room import one as uno\nimport interp.b.far\n"
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    from interp.b.types import T\n"
            "LIMIT = 3\n"
            "def direct(): return uno()\n"
            "def through(): return room.two.deep\n"
            "def inside():\n    from interp.b.lazy import late\n    return late\n"
            "def dotted(): return interp.b.far.away()\n"
            "def bare(): return getattr(room, 'one')\n"
            "def typed(t: 'T'): return LIMIT\n"
            "class Child(uno.Base): pass\n"
        ),
        room__one="from interp.b.lazy import late\ndef one(): pass\ndef beside(): return late\n",
        room__two="HELP = 1\ndef two(): return HELP\n",
        b__far="def away(): pass\ndef other(): pass\n",
        b__lazy="def late(): pass\n",
        b__types="class T: pass\n",
    )
    (tmp_path / "interp" / "room" / "__init__.py").write_text(
        "from interp.room.one import one\nfrom interp.room.two import two\n"
    )
    assert reached(sources, "direct") == {"a.main:direct", "room.one:one"}
    assert reached(sources, "through") == {"a.main:through", "room.two:two", "room.two:HELP"}
    assert reached(sources, "inside") == {"a.main:inside", "b.lazy:late"}
    assert reached(sources, "dotted") == {"a.main:dotted", "b.far:away"}
    assert {"room.one:one", "room.two:two"} <= reached(sources, "bare")
    assert reached(sources, "typed") == {"a.main:typed", "a.main:LIMIT"}
    assert reached(sources, "Child") == {"a.main:Child", "room.one:one"}


def test_statements_at_the_top_count_with_anything_of_their_module(tmp_path):
    text = "from interp.a.rows import ROWS\ndef main(): return ROWS\n"
    rows = "ROWS = {}\ndef make(): return 1\nROWS['x'] = make\n"
    sources = package(tmp_path, a__main=text, a__rows=rows)
    assert reached(sources, "main") == {"a.main:main", "a.rows:ROWS", "a.rows:make"}
    before = sources.digest((sources.at("interp.a.main", "main"),))
    again = package(tmp_path, a__rows=rows.replace("return 1", "return 2"))
    assert again.digest((again.at("interp.a.main", "main"),)) != before


def test_scripts_that_lie_together_are_followed_too(tmp_path):
    sources = package(tmp_path, b__far="def away(): return 1\n")
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "helper.py").write_text("from interp.b.far import away\ndef help(): return away()\n")
    script = folder / "script.py"
    script.write_text("from helper import help\ndef main(): return help()\n")
    names = {f"{m.name}:{n}" for m, n in sources.reached(((script, "main"),)) if n}
    assert names == {"script:main", "helper:help", "interp.b.far:away"}


def test_functions_are_taken_as_they_come():
    from interp import logit_lens
    from interp.behaviour import generate

    plain = closure([logit_lens.compare])
    assert closure([partial(logit_lens.compare, outcome=None)]) == plain
    assert closure([logit_lens.LensResult.to_dataframe]) == closure([logit_lens.LensResult])
    assert closure([logit_lens.compare, generate]) != plain


def test_what_wires_the_steps_is_in_no_key(config, tmp_path):
    """Neither the study's modules nor the runner; else every edit there makes all of it stale."""
    from interp.study.runs import RunFolder
    from interp.study.runs.closure import _root, _sources

    asked = config.model_dump(mode="json")
    made = steps.steps(asked, RunFolder.create(tmp_path / "run", asked))
    for step in made:
        modules = {one.name for one, _ in _sources().reached(tuple(map(_root, step.code)))}
        wiring = {study.steps.__name__, study.run.__module__, "interp.study.study"}
        assert step.code, step.name
        assert not modules & wiring, step.name
        assert not {
            name for name in modules if name.startswith(("interp.study.runs", "interp.cli"))
        }


def test_short_names_of_rooms_are_followed_from_scripts():
    """Every experiment: `interp.emoji` is `interp.text.emoji`, whoever asks."""
    sources, scripts = Sources(PACKAGE), PACKAGE.parent / "experiments"
    for script in scripts.glob("*.py"):
        found = sources.reached(((script.resolve(), "run"),))
        assert script.stem in {module.name for module, _ in found}
    rate = sources.reached((((scripts / "emoji_rate.py").resolve(), "run"),))
    assert {"interp.text.emoji.find", "interp.models.pair"} <= {module.name for module, _ in rate}
