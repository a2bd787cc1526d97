"""Pushes: the effect by hooks of one's own, refusals, and latent told apart from absent."""

import pytest
import torch
from made_results import run_folder
from patching_models import bridge, pick, prompts
from thinned import turn

import interp
from interp import organism, report
from interp.base.traits import Trait
from interp.errors import InputError
from interp.patching import Run
from interp.probing import Pushed, push
from interp.readout import Question

TOPICS = ["a", "a", "b", "c", "d", "d"]


def sides(seed: int = 1) -> tuple[Run, Run]:
    model = bridge("llama", seed)
    return tuple(Run(model, *prompts([6, 5, 6, 4, 6, 6], seed=way)) for way in (0, 1))


def test_a_push_is_what_a_hook_of_ones_own_does():
    clean, corrupted = sides()
    found = push(clean, corrupted, draws=3, ask=Question(metric=pick, topics=TOPICS, batch_size=4))
    assert found.values.shape == (int(clean.model.cfg.n_layers), 4, 6)
    kept = ~found.judges
    for layer in found.layers:
        name = f"blocks.{layer}.hook_resid_post"
        ends = []
        for run in (clean, corrupted):
            _, cache = clean.model.run_with_cache(run.tokens, attention_mask=run.mask.long())
            ends.append(cache[name][:, -1])
        gap = ends[0][kept].mean(0) - ends[1][kept].mean(0)

        def take(value, hook, by=gap):  # noqa: ARG001
            value = value.clone()
            value[:, -1] -= by
            return value

        with torch.no_grad():
            logits = clean.model.run_with_hooks(
                clean.tokens, attention_mask=clean.mask.long(), fwd_hooks=[(name, take)]
            )
        torch.testing.assert_close(found.values[layer, 0], pick(logits[:, -1]), atol=1e-4, rtol=0)
    with torch.no_grad():
        plain = clean.model(clean.tokens, attention_mask=clean.mask.long())[:, -1]
    torch.testing.assert_close(found.before, pick(plain), atol=1e-4, rtol=0)
    moved = (found.values[found.best, 0] - found.before)[found.judges].double().mean()
    assert found.along()[0] == pytest.approx(float(moved), abs=1e-6)
    assert len({t for t, judge in zip(TOPICS, found.judges, strict=True) if judge}) == 2


def test_what_cannot_be_pushed_is_refused():
    clean, corrupted = sides()
    with pytest.raises(InputError, match="needs one model"):
        push(clean, sides(2)[1], ask=Question(metric=pick))
    with pytest.raises(InputError, match="one topic cannot"):
        push(clean, corrupted, ask=Question(metric=pick, topics=["a"] * 6))
    with pytest.raises(InputError, match="a push alone proves nothing"):
        push(clean, corrupted, draws=0, ask=Question(metric=pick))
    for blocks in ([-1], [0, 99], []):
        with pytest.raises(InputError, match="none of this model's"):
            push(clean, corrupted, layers=blocks, ask=Question(metric=pick))
    assert push(clean, corrupted, layers=[0, 0], ask=Question(metric=pick)).layers == (0,)


@pytest.fixture(scope="module")
def pushed() -> dict[str, Pushed]:
    """The push in the untouched base, on what tuned model and base answer to 24 questions."""
    made = {}
    rows = organism.opinion_qa("test").rows
    asked = list({row.topic: (row.question, row.topic) for row in rows}.values())[:24]
    for base in ("latent", "absent"):
        adapter = organism.adapter_path("extraversion", base=base)
        pair = interp.load_pair(organism.base_path(base), adapter)
        both = interp.contrast(pair, *(pair.generate(asked, who) for who in ("tuned", "base")))
        clean, corrupted = (
            Run(pair.base, run.tokens, run.attention_mask) for run in (both.clean, both.corrupted)
        )
        ask = Question(metric=pair.outcome.metric(), topics=both.topics)
        made[base] = push(clean, corrupted, ask=ask)
    return made


@turn(1, of=3)
def test_latent_and_absent_read_alike_and_are_pushed_unlike(pushed):
    for one in pushed.values():
        assert float(one.auroc[one.best]) > 0.8, "what is read tells nothing"
    latent, absent = pushed["latent"], pushed["absent"]
    assert latent.beyond_random()[2] < -1
    before, after = latent.probabilities()
    assert before > 0.5 > after
    assert max(absent.probabilities()) < 1e-3


@turn(1, of=3)
def test_the_page_says_which_base_brought_the_emoji(pushed, tmp_path):
    for base, said in (("latent", "The untouched base already turns"), ("absent", "No: what")):
        folder = run_folder(tmp_path / base, [Trait.EXTRAVERSION], only="rates|probing-emoji")
        pushed[base].save(folder.file("extraversion", "probing-push.safetensors"))
        html = report.write(folder).read_text(encoding="utf-8")
        assert said in html
        assert ("<b>The untouched base already" in html) == (base == "latent")
