"""Nothing prints: what a notebook shows is what was asked for."""

import pytest
from thinned import turn

import interp
import interp.circuits
from interp import logit_lens, organism, patching
from interp.behaviour import Sampling, generate
from interp.patching import Cells, Run
from interp.show.views import progress

KERNEL = """
import sys
sys.modules['ipywidgets'] = None
from interp.show.views import progress
with progress() as bar:
    for i in range(4):
        bar("one", i, 3)
    bar("two", 1, 2)
    from IPython import get_ipython
    assert get_ipython() is not None
"""


def test_the_library_says_nothing(capfd, vocab) -> None:
    pair = interp.load_pair(organism.base_path(), organism.adapter_path("openness"))
    generate(pair.tuned, pair.format, [("Do you like tea?", "tea")], Sampling(seed=0))
    batch = pair.prompts(["Do you like tea?", "What do you think about dogs?"])
    logit_lens.compare(pair.base, pair.tuned, batch.tokens, batch.attention_mask)
    tuned, base = (Run(m, batch.tokens, batch.attention_mask) for m in (pair.tuned, pair.base))
    patching.sweep(tuned, base, "resid_pre", metric=vocab.log_odds, cells=Cells(positions=[-1]))
    interp.circuits.discover(tuned, base, metric=vocab.log_odds)
    assert capfd.readouterr() == ("", "")


def test_the_bar_counts_and_is_gone(capsys) -> None:
    with progress() as bar:
        bar("reading", 1, 2)
        bar("reading", 2, 2)
    said = capsys.readouterr().err
    assert "reading" in said
    assert not said.split("\r")[-1].strip(), "the last line is blank"


@turn(2, of=4)
def test_in_a_kernel_without_widgets_nothing_is_left() -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs interp[notebooks]")
    nbclient = pytest.importorskip("nbclient", reason="needs interp[notebooks]")
    pytest.importorskip("ipykernel", reason="needs interp[notebooks]")
    cell = nbformat.v4.new_code_cell(KERNEL)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data"], outputs
    assert outputs[0].data == {"text/plain": ""}, "the bar was there and is empty"
