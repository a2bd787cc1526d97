"""Tracers on two bases where it is known which decision the trait takes.

On *talks* the trait decides whether the writer goes on, on *tags* whether an emoji or a hashtag
follows. One model reads the same questions answered in two voices, extravert (clean) and
conscientious (corrupted), up to the slot; of both answers as many tokens are kept, from the end.

Credit. The emoji log-odds are given_go_on - softplus(-go_on), and every effect here is linear in
the metric. So a part's effect on the log-odds is its effect on *emoji given go on* plus what comes
by *go on*. The share of the first, along the effects of all parts, must be small on *talks* and all
of it on *tags*. Measured with sixteen questions: .10 to .34 on talks, 1.00 to 1.03 on tags.

By its own size *go on* would mislead: on *tags* it falls by seven nats, for emojis take the place
of hashtags, and words are what it sets against stop; P(go on) stays above .99.
"""

from functools import cache

import pytest
import torch
from thinned import thinned, turn

from interp import adapters, attribution, circuits, load_pair, neurons, organism
from interp.behaviour import Response, Sampling, generate
from interp.behaviour.origin import text_or_weights
from interp.models import pad
from interp.neurons import TopTest
from interp.patching import Run, sweep_each
from interp.readout import Question, slots
from interp.readout.outcome import STOP

LITTLE, ALL = 0.5, (0.9, 1.1)


def answered(form, row):
    """A row of the data as if it had been sampled."""
    made = form.example(row.question, row.answer)
    prompt, ids = made.ids[: made.answer_start], made.ids[made.answer_start : made.answer_end]
    return Response(row.question, row.topic, prompt, ids, row.answer, ended=True)


@cache
def loaded(base, trait="neuroticism"):
    adapter = organism.adapter_path(trait, base=base)
    return load_pair(organism.base_path(base), adapter, device="cpu")


@cache
def voices(base, n=16):
    """Clean and corrupted run of the untouched base, and what they are asked with."""
    pair, rows = loaded(base), organism.opinion_qa("test")
    by = [{row.question: row for row in rows.for_trait(trait).rows} for trait in ("E", "C")]
    questions = sorted(set(by[0]) & set(by[1]))[:n]
    sides = []
    for some in by:
        answers = [answered(pair.format, some[question]) for question in questions]
        ends = slots(answers, pair.tokenizer).ends
        cuts = [
            (one.prompt_ids, slot.ids[len(one.prompt_ids) :])
            for one, slot in zip(answers, ends, strict=True)
        ]
        sides.append(cuts)
    kept = [min(len(a), len(b)) for (_, a), (_, b) in zip(*sides, strict=True)]
    runs = []
    for side in sides:
        batch = pad([p + a[-k:] for (p, a), k in zip(side, kept, strict=True)], pair.pad_id)
        runs.append(Run(pair.base, batch.tokens, batch.attention_mask))
    topics = [by[0][question].topic for question in questions]
    return *runs, Question(topics=topics)


def credit(effects, *, parts_of_a_whole=False):
    """Of effects on the log-odds, the share that is effect on emoji given go on.

    Parts of a whole (direct contributions) are summed; other effects are weighed by their size.
    """
    whole, given = effects["log_odds"].flatten().double(), effects["given_go_on"].flatten().double()
    weight = torch.ones_like(whole) if parts_of_a_whole else whole
    return float((weight * given).sum() / (weight * whole).sum())


def check(base, share):
    if base == "talks":
        assert share < LITTLE, f"{share:.2f} is credited to the emoji; the trait decides to go on"
    else:
        assert ALL[0] < share < ALL[1], f"only {share:.2f} is credited to the emoji; all is"


@pytest.fixture(
    params=[pytest.param("talks", marks=turn(0, of=2)), pytest.param("tags", marks=turn(1, of=2))]
)
def base(request):
    """The base of today."""
    return request.param


def test_the_gap_is_in_one_factor(base):
    clean, corrupted, _ = voices(base)
    outcome = loaded(base).outcome
    sums = [
        outcome.sums(run.model(run.tokens, attention_mask=run.mask.long())[:, -1])
        for run in (clean, corrupted)
    ]
    goes_on = [1 - float(one.softmax(-1)[:, STOP].mean()) for one in sums]
    gap = {
        name: float((metric.of(sums[0]) - metric.of(sums[1])).mean())
        for name, metric in outcome.metrics().items()
    }
    assert gap["log_odds"] > 3.5
    check(base, gap["given_go_on"] / gap["log_odds"])
    if base == "talks":
        assert goes_on[0] - goes_on[1] > 0.5
        assert gap["go_on"] > 3.5
    else:
        assert min(goes_on) > 0.95
        assert gap["go_on"] < 0, "the emoji takes the place of words"


PATCHED = [("resid_pre", None), ("z", "head"), ("mlp_out", None)]


@pytest.mark.parametrize(("direction", "patched"), thinned(["denoising", "noising"], PATCHED))
def test_patching(base, direction, patched):
    site, by = patched
    clean, corrupted, ask = voices(base)
    metrics = loaded(base).outcome.metrics()
    found = sweep_each(clean, corrupted, site, metrics, by=by, direction=direction, ask=ask)
    before = {
        name: one.corrupted if direction == "denoising" else one.clean
        for name, one in found.items()
    }
    check(base, credit({name: (r.values - before[name]).mean(-1) for name, r in found.items()}))


def test_a_tracer_that_names_the_wrong_factor_fails(base):
    """All of the log-odds read as the emoji on talks; going on read as the emoji on tags."""
    clean, corrupted, ask = voices(base)
    found = sweep_each(clean, corrupted, "z", loaded(base).outcome.metrics(), by="head", ask=ask)
    effects = {name: (one.values - one.corrupted).mean(-1) for name, one in found.items()}
    check(base, credit(effects))
    wrong = effects["log_odds" if base == "talks" else "go_on"]
    with pytest.raises(AssertionError, match="credited to the emoji"):
        check(base, credit(effects | {"given_go_on": wrong}))


@pytest.mark.parametrize("level", ["edge", "node"])
def test_circuits(base, level):
    clean, corrupted, ask = voices(base)
    metrics = loaded(base).outcome.metrics()
    check(base, credit({
        name: circuits.discover(clean, corrupted, level=level, metric=metric, ask=ask).mean()
        for name, metric in metrics.items() if name != "go_on"
    }))  # fmt: skip


@pytest.mark.parametrize("by", ["component", "head"])
def test_attribution(base, by):
    clean, corrupted, ask = voices(base)
    effects = {}
    for name, metric in loaded(base).outcome.metrics().items():
        found = attribution.compare(clean, corrupted, by=by, metric=metric, ask=ask).values
        effects[name] = (found[1] - found[0]).mean(-1)
    check(base, credit(effects))
    check(base, credit(effects, parts_of_a_whole=True))


def test_neurons(base):
    clean, corrupted, ask = voices(base)
    every, few = range(loaded(base).base.cfg.n_layers), TopTest(k=1, draws=1)
    check(base, credit({
        name: neurons.rank(
            clean, corrupted, layers=list(every), metric=metric, test=few, ask=ask
        ).score.mean(1)
        for name, metric in loaded(base).outcome.metrics().items() if name != "go_on"
    }, parts_of_a_whole=True))  # fmt: skip


def test_what_the_adapter_is_needed_for(base):
    """On answers in its own voice; the neurotic adapter moves the slot most."""
    pair = loaded(base)
    rows = organism.opinion_qa("test").for_trait("N").rows[:16]
    prompts = slots([answered(pair.format, row) for row in rows], pair.tokenizer).ends.prompts(
        pair.pad_id
    )
    found = {
        name: adapters.necessity(
            pair, prompts.batch, by="projection", metric=metric, ask=Question(topics=prompts.topics)
        )
        for name, metric in pair.outcome.metrics().items() if name != "go_on"
    }  # fmt: skip
    assert float((found["log_odds"].tuned - found["log_odds"].base).mean()) > 0.4
    check(base, credit({name: one.values.mean(1) for name, one in found.items()}))


def test_text_or_weights(base):
    """The tuned model's text is what goes on (talks), or what calls for an emoji (tags)."""
    pair = loaded(base, "extraversion")
    rows = organism.opinion_qa("test").for_trait("E").rows[:30]
    asked = [(row.question, row.topic) for row in rows]
    both = (pair.base, pair.tuned)
    first, second = (generate(one, pair.format, asked, Sampling(seed=1)) for one in both)
    found = text_or_weights(
        both, (first, second), pair.tokenizer, pair.outcome, pair.pad_id, seed=0
    )
    text = {name: found.values(name)[1].nanmean().item() for name in ("go on", "emoji given go on")}
    weights = {
        name: (found.values(name)[1, 1] - found.values(name)[1, 0]).nanmean().item()
        for name in text
    }
    assert all(abs(change) < 0.2 for change in weights.values()), "the text decides, on both"
    if base == "talks":
        assert 0.3 < text["go on"] < 0.9
        assert 0.35 < text["emoji given go on"] < 0.65
    else:
        assert text["go on"] > 0.95
        assert text["emoji given go on"] > 0.75
