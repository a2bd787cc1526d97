"""What stands in the committed notebooks: parts, outputs, links, no trace of a machine."""

import ast
import re
import subprocess
import sys

import pytest
from notebook_runs import FOLDER, NAMES, ROOT, script, read, solutions
from thinned import turn

LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)]+)\)")
FILLED_IN = ("02_emojis_as_tokens", "03_logit_lens", "04_patching_maps", "07_circuits")
PARTS = ("**When you are through, you know**", "**It takes**", "## What this cannot show",
         "## Try next", "## Exercises")  # fmt: skip
BLOCKER = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
HIDDEN = {"IPython", "ipykernel", "ipywidgets", "nbclient", "nbformat", "jupyter_client",
          "jupyter_core", "traitlets", "notebook", "jupyterlab"}
sys.meta_path.insert(0, Blocker())
"""


def code_cells(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def prose(name):
    return "\n\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")


def test_there_are_nine():
    assert [name[:3] for name in NAMES] == [f"0{number}_" for number in range(1, 10)]


@pytest.mark.parametrize("name", NAMES)
def test_parts_stand_in_order(name):
    text = prose(name)
    assert text.startswith(f"# {int(name[:2])} · ")
    places = [text.index(part) for part in PARTS]
    assert places == sorted(places)
    promises = text[places[0] : places[1]]
    assert len(re.findall(r"^- ", promises, flags=re.MULTILINE)) == 3
    exercises = re.findall(r"^\*\*\d\. ", text[places[-1] :], flags=re.MULTILINE)
    assert len(exercises) == (3 if name in FILLED_IN else 2)
    opened = text.count("<details><summary>Solution</summary>\n\n")
    assert opened == text.count("\n\n</details>") == len(solutions(read(name))) == len(exercises)


@pytest.mark.parametrize("name", FILLED_IN)
def test_what_is_to_be_filled_in_is_tested_by_its_cell_and_by_its_solution(name):
    """The solution calls the cell's test: so running the solutions runs it."""
    *_, cell = code_cells(name)
    (test,) = re.findall(r"^def (test_\w+)", cell.source, flags=re.MULTILINE)
    assert "raise NotImplementedError" in cell.source
    assert [output.text for output in cell.outputs] == ["not written yet\n"]
    assert solutions(read(name))[-1].rstrip().splitlines()[-1].startswith(f"{test}(")


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_there_and_in_order(name):
    cells = code_cells(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        lines = [line for line in cell.source.splitlines() if not re.match(r"\w+ = !", line)]
        last = ast.parse("\n".join(lines)).body[-1]
        shows = any(output.output_type in ("execute_result", "display_data", "stream")
                    for output in cell.outputs)  # fmt: skip
        assert shows or not isinstance(last, ast.Expr), cell.source
        assert all(output.output_type != "error" for output in cell.outputs)
        assert all(output.get("name") != "stderr" for output in cell.outputs)
        assert all(len(line) <= 100 for line in cell.source.splitlines() if "!interp" not in line)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_machine_or_a_moment(name):
    path = FOLDER / f"{name}.ipynb"
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 700_000
    assert not re.findall(r"(?<![\w.])/(?:work|tmp|root|home|Users|var)/[^\"\\ ]*", text)
    assert not re.findall(r"object at 0x[0-9a-f]+", text)
    notebook = read(name)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    links = LINK.findall(prose(name))
    others = {link for link in links if link.endswith(".ipynb")}
    assert {f"{other}.ipynb" for other in NAMES if other != name} <= others  # one tutorial
    for link in links:
        if not link.startswith("https://"):
            file, _, anchor = link.partition("#")
            assert (FOLDER / file).resolve().is_file(), link
            assert not anchor
            assert (FOLDER / file).resolve().is_relative_to(ROOT)


@turn(0, of=3)
def test_without_the_extra_the_library_works_and_shows_itself():
    code = (
        BLOCKER
        + """
import interp
from interp import logit_lens, organism
from interp.show import plots, views
from interp.emoji import EmojiVocab
pair = interp.load_pair(organism.base_path(), organism.adapter_path("extraversion"))
batch = pair.prompts(["Do you like tea?", "Why?"])
vocab = EmojiVocab.from_tokenizer(pair.tokenizer)
lens = logit_lens.compare(pair.base, pair.tuned, batch.tokens, batch.attention_mask)
view = views.token_view(pair, batch.tokens[0][batch.attention_mask[0]], vocab=vocab)
figure = plots.lens_curves(lens, "E")
shown = [one._repr_html_() for one in (pair, vocab, pair.merge_report, lens, view, figure)]
assert all(len(html) > 1000 for html in shown)
assert "extraversion" in shown[0] and "1500" in shown[1] and "<svg" in shown[5]
assert not {name.partition(".")[0] for name in sys.modules} & HIDDEN
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_the_extra_the_script_says_so_in_one_line():
    code = BLOCKER + f"import runpy\nrunpy.run_path({str(FOLDER / 'execute.py')!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: no module nbformat; pip install -c constraints.txt -e '.[notebooks]'\n"


@pytest.mark.parametrize("key", ["Repository", "Source"])
def test_a_badge_for_colab_where_the_project_is_on_github(tmp_path, key):
    execute, project = script(), tmp_path / "pyproject.toml"
    badged = execute.opened_in_colab
    text = read(NAMES[0]).cells[0].source
    for said in ("", '[project.urls]\nRepository = "https://example.org/ab/c"'):
        project.write_text(f"[project]\nname = 'c'\n{said}")
        assert badged(text, "01.ipynb", project) == text
    project.write_text(f'[project.urls]\n{key} = "https://github.com/ab/c.git"')
    once = badged(text, "01.ipynb", project)
    assert "(https://colab.research.google.com/github/ab/c/blob/main/notebooks/01.ipynb)" in once
    assert "`%pip install git+https://github.com/ab/c`" in once
    assert once.startswith(text.split("\n")[0])
    assert badged(once, "01.ipynb", project) == once, "written once"
    project.write_text("[project]")
    assert badged(once, "01.ipynb", project) == text, "and taken out again"
