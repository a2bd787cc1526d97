"""Rows that are made where they are asked for: from the command line to sentences on the page."""

import re

import pytest
from test_bad_input import command
from thinned import turn

from interp import dictionaries, organism
from interp.dictionaries import save_dictionary, train
from interp.models import load_hooked
from interp.models.tokens import ChatFormat, pad
from interp.patching import Run
from interp.report.wording import minus
from interp.study import catalogue
from interp.study.runs import RunFolder

pytestmark = turn(1, of=2)
FAMILIES = ("words", "differences", "dictionaries", "decoding", "components", "jacobian-lens")
SMALL = ("--n-responses", "8", "--n-trace", "4", "--n-switched", "4", "--max-new-tokens", "48")


def dictionary(folder):
    """A small one, of the base's stream on its own data."""
    model = load_hooked(organism.base_path())
    form = ChatFormat.from_tokenizer(model.tokenizer)
    rows = organism.opinion_qa("test").rows[:60]
    batch = pad([form.example(row.question, row.answer).ids for row in rows], 0)
    hook = "blocks.2.hook_resid_post"
    found = dictionaries.activations(Run(model, batch), hook)
    return save_dictionary(train(found, hook=hook, latents=128, steps=300), folder)


@pytest.fixture(scope="module")
def run(once) -> RunFolder:
    def make(folder) -> None:
        argv = ["demo", "--traits", "extraversion", *SMALL, "--only", ",".join(FAMILIES)]
        argv += ["--dictionary", str(dictionary(folder / "trained"))]
        with pytest.MonkeyPatch.context() as patch:
            assert command([*argv, "--out", str(folder / "run")], patch) == 0

    made = RunFolder.open(once("asked", make) / "run")
    assert not made.manifest["skipped"]
    return made


def test_every_row_that_is_asked_for_is_made_and_shown(run):
    rows = {row.name for row in catalogue.chosen(FAMILIES)}
    steps = {name.partition("/")[2] for name in run.manifest["steps"]} - {"responses-dense"}
    assert steps == rows - {"responses-base"}, "the base's answers are of no label"
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "cannot be drawn" not in page
    for row in catalogue.chosen(FAMILIES):
        if not row.default:
            assert f'id="{row.section}"' in page


def test_the_page_says_what_the_results_say(run):
    page = (run.path / "report.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    found = {
        row.name: run.result(row.kind, "extraversion", f"{row.name}.safetensors")
        for row in catalogue.chosen(FAMILIES)
        if not row.default
    }
    sizes = found["words"].set_sizes().dropna()
    assert f"words {sizes['kept'].median():.0f} keep 80 %" in page
    assert "outlined: the words kept" in page
    fallen = found["token-shifts"].names[-1].replace("<", "&lt;").replace(">", "&gt;")
    assert f"one that fell most is that of “{fallen}”" in page
    for (writer, decider), said in (
        (("tuned", "tuned"), "writes and decides, the share of answers with an emoji is"),
        (("tuned", "base"), "where it writes and the base decides"),
    ):
        rate, _ = found["writer-decider"].rate(writer, decider)
        assert f"{said} {rate:.2f} [" in page
    result = found["latent-patches"]
    table = result.to_dataframe().query("direction == 'denoising' and factor == 'go_on'")
    best, every = result.ids[result.best(factor="go_on")], table.iloc[len(result.ids)]["effect"]
    assert abs(every) > 0.01
    said = re.escape(minus(f"{every:+.2f}"))
    assert re.search(rf"going on: latent {best} .*all latents {said} \[", page)
    best = found["adapter-directions"].to_dataframe().query("exact").iloc[0]
    assert f"{best['module']} (rank {int(best['rank'])})" in page
