"""The explorer: its numbers are the naive sweep's, and its clicks do what they say, in a kernel."""

import json

import pytest
import torch
from thinned import turn

from interp.base.errors import InputError
from interp.patching import Run
from interp.readout import Question
from interp.show.explore import Part, Session, explore
from interp.show.explore.markup import answers_html, tables_html
from interp.traces.patching import naive

PART = Part(1, 2)


@pytest.fixture(scope="module")
def session(pair):
    return Session(pair, max_new_tokens=30)


@pytest.fixture(scope="module")
def reading(session):
    return session.read("Do you like tea?")


def test_a_reading_is_what_the_two_models_say(session, reading) -> None:
    for row, model in enumerate((session.pair.base, session.pair.tuned)):
        logits = model.original_model(torch.tensor([reading.ids])).logits[0].float()
        words, stop, emoji = session.outcome.probability(logits).unbind(-1)
        torch.testing.assert_close(reading.chances[row, 0], 1 - stop, atol=1e-4, rtol=1e-4)
        given = emoji / (words + emoji)
        torch.testing.assert_close(reading.chances[row, 1], given, atol=1e-4, rtol=1e-3)
        lens = reading.lens[row, -1]
        torch.testing.assert_close(lens, reading.log_odds[row], atol=1e-3, rtol=1e-3)
    assert reading.answer.strip()
    assert session.pair.tokenizer.decode(reading.ids[reading.start :]) == reading.answer


def test_the_same_question_gets_the_same_answer_and_a_given_one_is_kept(session, reading) -> None:
    assert session.read("Do you like tea?").ids == reading.ids
    assert session.read("Do you like tea?", "I do.").answer == "I do."


def test_a_heads_patch_is_the_naive_sweeps(session, reading) -> None:
    """Noising at all positions, read at the last one."""
    tokens = torch.tensor([reading.ids])
    tuned, base = Run(session.pair.tuned, tokens), Run(session.pair.base, tokens)
    ask = Question(metric=session.outcome.log_odds, min_gap=0.0)
    sweep = naive.sweep(tuned, base, "z", by="head", direction="noising", ask=ask)
    got = session.change(reading, PART).log_odds[-1]
    assert float(got) == pytest.approx(float(sweep.values[1, 2, 0]), abs=1e-4)
    assert float(got) != pytest.approx(float(reading.log_odds[1, -1]), abs=1e-4)


def test_an_mlps_patch_is_the_bases_own_activation(session, reading) -> None:
    tokens, name = torch.tensor([reading.ids]), "blocks.0.hook_mlp_out"
    _, cache = session.pair.base.run_with_cache(tokens)
    logits = session.pair.tuned.run_with_hooks(
        tokens, fwd_hooks=[(name, lambda *_, **__: cache[name])]
    )
    expected = session.outcome.log_odds(logits[0])
    torch.testing.assert_close(
        session.change(reading, Part(0)).log_odds, expected.detach(), atol=1e-4, rtol=1e-4
    )


def test_what_is_written_does_not_depend_on_what_is_known_of_it(session, reading) -> None:
    """Up to where it leaves the answer that stands, its logits are those of the one pass."""
    asked = list(reading.ids[: reading.start])
    for part in (PART, Part(0)):
        slowly = session._pieces(asked + session._written(asked, part, "patch"))
        assert session.change(reading, part).answer == "".join(slowly[len(asked) :])


def test_ablated_is_not_patched_and_nothing_stays_behind(session, reading) -> None:
    patched = session.change(reading, Part(0), "patch")
    ablated = session.change(reading, Part(0), "ablate")
    assert not torch.allclose(patched.log_odds, ablated.log_odds)
    assert session.read("Do you like tea?").ids == reading.ids, "no hook is left"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s, _: s.read(" "), "question is empty"),
        (lambda s, r: s.change(r, Part(99)), "block 99, MLP does not exist"),
        (lambda s, r: s.change(r, Part(0, 99)), "block 0, head 99 does not exist"),
        (lambda s, _: Session(s.pair, max_new_tokens=0), "at least 1"),
    ],
)
def test_what_cannot_be_done_is_said(session, reading, call, said) -> None:
    with pytest.raises(InputError, match=said):
        call(session, reading)


def test_tables_hold_every_token_and_escape_what_was_written(session, reading) -> None:
    change = session.change(reading, PART)
    table = tables_html(reading, change)
    n, layers = len(reading.ids) - reading.start + 1, len(reading.labels)
    assert table.count("<tr>") == 2 + 6 + 2 * layers
    assert table.count("<td") == (6 + 2 * layers) * n
    assert table.count('scope="col"') == 2 * n
    assert "block 1, head 2 patched from the base" in table
    odd = session.read("Do you like tea?", "<b>me</b> & you")
    for made in (tables_html(odd), answers_html(odd)):
        assert "<b>me" not in made.replace("<b>tuned", "")
    assert "&lt;b&gt;me" in answers_html(odd)


def test_the_widget_answers_to_its_buttons(session) -> None:
    pytest.importorskip("ipywidgets", reason="needs ipywidgets: pip install -e '.[notebooks]'")
    answers = session.pair.generate("Do you like dogs?", max_new_tokens=20)
    made = explore(session.pair, answers, max_new_tokens=20)
    made.click(PART)
    assert "ask a question first" in made.said.value
    made.chosen.value = 0
    assert made.reading.answer.strip() == answers[0].text.strip()
    assert "P(emoji given go on), tuned" in made.tables.value
    before = made.tables.value
    made.parts[PART].click()
    assert made.change.part == PART
    assert made.tables.value != before
    assert made.parts[PART].button_style == "warning"
    made.how.value = "ablate"
    made.parts[Part(0)].click()
    assert "block 0, MLP ablated" in made.said.value
    made.prompt.value = ""
    made.ask.click()
    assert "question is empty" in made.said.value
    assert len(made.parts) == session.layers * (session.heads + 1)


@turn(0, of=4)
def test_it_works_in_a_kernel() -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient")
    pytest.importorskip("ipywidgets", reason="needs ipywidgets: pip install -e '.[notebooks]'")
    cells = [
        "import interp; from interp import organism\n"
        "from interp.show.explore import Part, explore\n"
        "pair = interp.load_pair(organism.base_path(), organism.adapter_path('extraversion'))\n"
        "made = explore(pair, max_new_tokens=8); made",
        "import json\nmade.prompt.value = 'Do you like tea?'; made.ask.click()\n"
        "first = made.tables.value; made.parts[Part(0)].click()\n"
        "print(json.dumps([made.change.answer, first != made.tables.value]))",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=300).execute()
    shown, said = (cell.outputs for cell in book.cells)
    view = "application/vnd.jupyter.widget-view+json"
    assert any(view in output.get("data", {}) for output in shown)
    answer, changed = json.loads(said[0].text)
    assert isinstance(answer, str)
    assert changed
