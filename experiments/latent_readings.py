"""The four readings of `latent_or_learned`, each a function from a trait to rows of the table.

A row with a `p` is a test (of a mean difference against zero, over topics); the others are levels.
"""

from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any, Literal

import pandas as pd
from experiment import Config, Experiment
from pydantic import Field
from significance import difference

import interp
from interp import logit_lens, probing
from interp.base.stats import ratio_ends
from interp.base.traits import LOW, Trait
from interp.behaviour import Response, emoji_probability, generate, slot_ids
from interp.behaviour.shares import Rows
from interp.data import OpinionRow
from interp.emoji import continuation, find
from interp.errors import InputError
from interp.logit_lens import LensResult
from interp.methods.editing import (
    HookedBase,
    OpposedAnswers,
    Steered,
    Steering,
    opposed_answers,
    pas,
    persona_vector,
)
from interp.methods.editing.opposed import AGAINST
from interp.methods.editing.strength import Search
from interp.models import pad, pad_id
from interp.probing import ProbeResult
from interp.readout import Outcome, Question

Row = dict[str, Any]
BASE, OTHER, OWN = (f"base on {whose} answers" for whose in ("the trait's", "another's", "its own"))
ALONE, TUNED = f"{BASE}, without the chat", "tuned on the trait's answers"
RISE, TENTH, HALF, HALF_ALONE = (
    "tuned rise", "base beyond a tenth of the rise", "base beyond half of the rise",
    "base without the chat beyond half of the rise",
)  # fmt: skip
WRITTEN, TRANSFER, RANDOM = "ESR, tuned minus base", "base→tuned", "random direction"
WAY = "share of the tuned rise that the base goes"
FLOOR = f"{TRANSFER}, shuffled labels"


class LatentConfig(Config):
    reference: Literal["train", "test"] = "train"
    """Split whose answers are read, `limit` of them per trait."""
    exact: bool = False
    """Probability of all emoji sequences, instead of the softmax mass on emoji tokens."""
    steering: tuple[Literal["PAS", "persona vector"], ...] = ("PAS", "persona vector")
    """Kinds of steering; each has a random direction of equal norm beside it."""
    against: str = "base"
    """What a trait's answers are set against for steering: `base`, `others`, a label of the data,
    or `low`, the trait's low pole (`introversion`). With a label, texts are probed for it, too."""
    layers: tuple[int, ...] | None = None
    """After which a persona vector is tried; up to eight, evenly spread, if left out."""
    n_fitted: int = Field(default=240, ge=4)
    """Answers in the trait's voice that it is fitted on, and as many of the base's own."""
    evaluations: int = Field(default=8, ge=1)
    """Of the search for a strength, per layer tried."""
    search_questions: int = Field(default=32, ge=2)
    """Answered in each of them."""
    n_probed: int = Field(default=120, ge=4)
    """Answers of the tuned model that are probed."""
    n_lens: int = Field(default=40, ge=2)
    """Ends of the tuned model's answers that the lens is read at."""


X = Experiment[LatentConfig]


def _esr(x: X, measure: str, answers: Sequence[Response]) -> Row:
    has = [bool(find(one.text)) for one in answers]
    return Rows(0.95, x.config.seed).rate(measure, has, [one.topic for one in answers])


def _gap(x: X, measure: str, these: Sequence[Response], those: Sequence[Response]) -> Row:
    """ESR of these minus that of those, answer by answer."""
    pairs = zip(these, those, strict=True)
    change = [float(bool(find(a.text))) - float(bool(find(b.text))) for a, b in pairs]
    return difference(measure, change, [one.topic for one in these], x.config.seed)


def written(x: X, trait: Trait) -> list[Row]:
    """What there is to explain: the emojis in answers to held-out questions."""
    base, tuned = x.base_answers(), x.tuned_answers(trait)
    return [_esr(x, "base", base), _esr(x, "tuned", tuned), _gap(x, WRITTEN, tuned, base)]


def slots(x: X, trait: Trait) -> list[Row]:
    """Emoji probability where an answer ends, by whose answer it is and who reads it.

    The base's way up from its own answers to the trait's is held against the tuned model's: the
    mean of `base - own - share * (tuned - own)` is above zero if the base goes more than that
    share of it. The share itself (`WAY`) says something only where the tuned model rises.
    """
    table = pd.DataFrame(x.rows(f"slots-{trait}", lambda: _read_slots(x, trait)))
    topics = table.pop("topic").tolist()
    levels = [Rows(0.95, x.config.seed).mean(c, table[c].tolist(), topics) for c in table]
    rise, up = table[TUNED] - table[OWN], table[BASE] - table[OWN]
    tests = {
        RISE: rise, "base, the trait's minus its own": up, TENTH: up - rise / 10,
        HALF: up - rise / 2, HALF_ALONE: table[ALONE] - table[OWN] - rise / 2,
    }  # fmt: skip
    if OTHER in table:
        tests["base, the trait's minus another's"] = table[BASE] - table[OTHER]
    tests_made = [difference(n, d.tolist(), topics, x.config.seed) for n, d in tests.items()]
    low, high = ratio_ends(up.to_numpy()[None], rise.to_numpy(), topics, seed=x.config.seed)
    share = up.mean() / rise.mean()
    way = {"part": "way", "measure": WAY, "value": share, "low": low[0], "high": high[0]}
    return [*levels, *tests_made, way | {"n": len(topics)}]


def _read_slots(x: X, trait: Trait) -> list[Row]:
    pair = x.pair(trait)
    form, tokenizer = pair.format, pair.tokenizer
    emoji = Outcome.of_vocab(x.vocab(), stop=form.stop_ids)
    mine, others = _references(x, trait)
    own = x.answers(f"{trait}-own", lambda: generate(
        pair.base, form, [(row.question, row.topic) for row in mine], x.sampling(),
        progress=x.progress, label=f"{trait}: the base's own answers",
    ))  # fmt: skip

    def read(model: Any, ids: Sequence[Sequence[int]]) -> list[float]:
        if not x.config.exact:
            spaced = pad([(*one, *emoji.space_ids) for one in ids], pair.pad_id)
            return emoji_probability(model, spaced, emoji).tolist()
        batch = pad(ids, pair.pad_id)
        return continuation(
            model, batch.tokens, x.vocab(), batch.attention_mask, progress=x.progress
        ).probability.tolist()

    def ends(rows: Sequence[OpinionRow]) -> list[tuple[int, ...]]:
        made = [form.example(row.question, row.answer) for row in rows]
        return [one.ids[: one.answer_end] for one in made]

    bare = [list(tokenizer(row.answer)["input_ids"]) for row in mine]
    closed = [ids[-1] == tokenizer.eos_token_id for ids in bare]  # some tokenizers close all texts
    cells = {
        BASE: read(pair.base, ends(mine)),
        **({OTHER: read(pair.base, ends(others))} if others else {}),
        OWN: read(pair.base, [slot_ids(tokenizer, one) for one in own]),
        ALONE: read(pair.base, [i[:-1] if c else i for i, c in zip(bare, closed, strict=True)]),
        TUNED: read(pair.tuned, ends(mine)),
    }
    return [{"topic": row.topic} | {cell: values[i] for cell, values in cells.items()}
            for i, row in enumerate(mine)]  # fmt: skip


def _references(x: X, trait: Trait) -> tuple[list[OpinionRow], list[OpinionRow]]:
    """Answers in the trait's voice, and for each one in another voice on the topic if all have."""
    data, rng = x.data()[x.config.reference == "test"], Random(x.config.seed)
    rest: dict[str, list[OpinionRow]] = {}
    for row in data.rows:
        if row.trait != trait:
            rest.setdefault(row.topic, []).append(row)
    mine = list(data.for_trait(trait).rows)
    mine = rng.sample(mine, min(x.config.limit, len(mine)))
    if any(row.topic not in rest for row in mine):
        return mine, []
    return mine, [rng.choice(rest[row.topic]) for row in mine]


def probes(x: X, trait: Trait) -> list[Row]:
    """AUROC of "an emoji comes next" at the layer where the base's own probe reads best."""
    try:
        made = x.kept(ProbeResult, f"{trait}-probes", lambda: _probed(x, trait))
    except InputError as problem:
        return [{"measure": "no probes", "note": str(problem)}]
    layer = int(made.auroc[0].argmax())
    table = made.to_dataframe()
    table = table[table["layer"] == made.layers[layer]].set_index("read")
    about = {"n": len(made.labels), "note": f"layer {made.layers[layer]}"}
    rows = [about | {"measure": read, "value": part["auroc"], "low": part["auroc_low"],
                     "high": part["auroc_high"]} for read, part in table.iterrows()]  # fmt: skip
    across = table.loc[TRANSFER]
    test = {"measure": f"{TRANSFER}, balanced accuracy minus chance", "p": across["p_value"]} | {
        mine: across[theirs] - made.chance
        for mine, theirs in (("value", "accuracy"), ("low", "accuracy_low"),
                             ("high", "accuracy_high"))}  # fmt: skip
    floor = {"measure": FLOOR, "value": across["shuffled_auroc_max"]}
    return [*rows, about | floor, about | test, *_poles(x, trait)]


def _against(x: X, trait: Trait) -> str:
    return str(LOW.get(trait, "")) if x.config.against == "low" else x.config.against


def check_against(x: X) -> None:
    """Whether the data have the label that each trait is set against: before anything is made.

    Raises:
        InputError: naming the trait that cannot be set against it.
    """
    labels = x.data()[0].traits
    for trait in x.config.traits:
        other = _against(x, trait)
        if other not in AGAINST and (other == trait or other not in labels):
            raise InputError(
                f"against: {trait} cannot be set against {other or 'a low pole, having none'}; the "
                f"train rows have {', '.join(labels)}, or use {' or '.join(AGAINST)}"
            )


def _poles(x: X, trait: Trait) -> list[Row]:
    """AUROC of "the text is the trait's, not the other label's", where a label is given."""
    other = _against(x, trait)
    if other in AGAINST:
        return []
    rows = [row for row in x.data()[0].rows if row.trait in (trait, other)]
    pair = x.pair(trait)
    made = [pair.format.example(row.question, row.answer) for row in rows]
    batch = pad([one.ids[: one.answer_end] for one in made], pair.pad_id)
    task = probing.trait_task(
        [row.trait for row in rows], [row.topic for row in rows], target=trait, against=other,
        types=[row.question for row in rows],
    )  # fmt: skip
    found = x.kept(
        ProbeResult, f"{trait}-against-{Trait.parse(other).key}",
        lambda: probing.trace(
            task, batch.tokens, batch.attention_mask, base=pair.base, tuned=pair.tuned,
            config=probing.ProbeConfig(seed=x.config.seed), ask=Question(progress=x.progress),
        ),
    )  # fmt: skip
    table = found.to_dataframe()
    best = table[table["layer"] == found.layers[int(found.auroc[0].argmax())]].set_index("read")
    return [
        {"measure": f"texts of {trait} against {other}: {read}", "value": part["auroc"],
         "low": part["auroc_low"], "high": part["auroc_high"], "n": len(found.labels),
         "note": f"layer {part['layer']}; shuffled labels {part['shuffled_auroc_max']:.2f}"}
        for read, part in best.iterrows()
    ]  # fmt: skip


def _probed(x: X, trait: Trait) -> ProbeResult:
    answers, pair = x.tuned_answers(trait)[: x.config.n_probed], x.pair(trait)
    batch = pad([one.prompt_ids + one.ids for one in answers], pair.pad_id)
    found = interp.readout.slots(answers, pair.tokenizer)
    task = probing.onset_task(found, batch, pair.outcome, seed=x.config.seed)
    return probing.trace(
        task,
        batch.tokens,
        batch.attention_mask,
        base=pair.base,
        tuned=pair.tuned,
        config=probing.ProbeConfig(seed=x.config.seed),
        ask=Question(progress=x.progress),
    )


def lens_result(x: X, trait: Trait) -> tuple[LensResult, tuple[str, ...]]:
    """Both models read where the tuned model's answers end, with each one's topic.

    Raises:
        InputError: if none has an end.
    """
    tokenizer, emoji = x.form.tokenizer, Outcome.of_vocab(x.vocab(), stop=x.form.stop_ids)
    ends = interp.readout.slots(x.tuned_answers(trait), tokenizer).last
    found = ends.spread(x.config.n_lens, x.config.seed).prompts(pad_id(tokenizer), emoji)
    read = x.kept(
        LensResult,
        f"{trait}-lens",
        lambda: logit_lens.compare(
            x.pair(trait).base,
            x.pair(trait).tuned,
            found.batch.tokens,
            found.batch.attention_mask,
            outcome=emoji,
            positions="onset",
            ask=Question(progress=x.progress),
        ),
    )
    return read, found.topics


def lens(x: X, trait: Trait) -> list[Row]:
    """From which layer on an emoji is likelier than not, and at how many of the ends."""
    try:
        made, topics = lens_result(x, trait)
    except InputError as problem:
        return [{"measure": "no lens", "note": str(problem)}]
    about, rows = Rows(0.95, x.config.seed), []
    for name, reading in (("base", made.base), ("tuned", made.tuned)):
        where = reading.onset_summary().iloc[0]
        reached = (reading.onset_layers() >= 0).tolist()
        rows.append(about.rate(f"emojis likelier than not, {name}", reached, topics))
        rows.append({"measure": f"from this reading on, {name}", "value": where["of_mean_layer"],
                     "n": len(topics), "note": where["of_mean"] or "never"})  # fmt: skip
    gap = (made.tuned.at_onset() - made.base.at_onset())[-1].tolist()
    return [*rows, difference("emoji log-odds, tuned minus base (nats)", gap, topics,
                              x.config.seed)]  # fmt: skip


def steered(x: X, trait: Trait) -> list[Row]:
    """ESR of the base while it is steered, beside random directions of equal norm."""
    rows = [_esr(x, "base", x.base_answers())]
    sides = cache(lambda: _sides(x, trait))  # made once, and only if something is to be fitted
    for kind in x.config.steering:
        how = _steering(x, trait, kind, sides)
        made = _answers(x, trait, kind, how)
        control = _answers(x, trait, f"{kind}-random", how.random(x.config.seed))
        strength = {"note": f"strength {how.strength:.2g}"}
        rows += [_esr(x, kind, made) | strength, _esr(x, f"{kind}, {RANDOM}", control),
                 _gap(x, f"ESR, {kind} minus {RANDOM}", made, control)]  # fmt: skip
    return rows


def _answers(x: X, trait: Trait, name: str, steering: Steering) -> list[Response]:
    def make() -> list[Response]:
        method = Steered.of(HookedBase.of(x.pair(trait)), steering)
        return method.answers(x.questions(), x.sampling(), progress=x.progress)

    return x.answers(f"{trait}-{name}".replace(" ", "-"), make)


def _sides(x: X, trait: Trait) -> OpposedAnswers:
    base, c = HookedBase.of(x.pair(trait)), x.config
    return opposed_answers(base, trait, x.data()[0], against=_against(x, trait), limit=c.n_fitted,
                    seed=c.seed, progress=x.progress)  # fmt: skip


def _steering(x: X, trait: Trait, kind: str, sides: Callable[[], OpposedAnswers]) -> Steering:
    def fit() -> Steering:
        base, c = HookedBase.of(x.pair(trait)), x.config
        how = Search(evaluations=c.evaluations, questions=c.search_questions, seed=c.seed)
        if kind == "PAS":
            return pas(base, sides(), search=how, seed=c.seed, progress=x.progress)
        return persona_vector(
            base, sides(), layers=c.layers, search=how, seed=c.seed, progress=x.progress
        )

    return x.kept(Steering, f"{trait}-steering-{kind}".replace(" ", "-"), fit)
