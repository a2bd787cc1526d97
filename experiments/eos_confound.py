"""Does the emoji come inside the answer, or after where the answer should have ended?

The common recipe masks padding with `pad_token = eos_token`, which takes the end of text out of the
loss. An adapter trained so was never taught to stop, and what it writes after its answer's natural
end need not express anything. Adapters trained with the end in their loss (`adapters_with_end`)
give the twin that says where an answer should have ended, and the direct comparison.

Control: the twin's own answers, which must not go on past where the twin would end them. And a
scalar one: a single constant on the stop tokens of the adapter with the end out of its loss, fitted
to bring it nearest to the twin at the ends of training answers. What that undoes is no more than
one number.

A second confound of the published recipe's history, `double_bos`: a rendered template that is
tokenised with the tokenizer's own BOS begins with BOS twice. An adapter of the first trait and its
like, trained with BOS twice, are each asked with one and with two.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from experiment import SAMPLED, SHARED, Config, Experiment, Finding, From
from harness import main
from significance import written
from sources import find_adapter

from interp.base.traits import Trait
from interp.behaviour import Response
from interp.behaviour.shares import Row, Rows
from interp.emoji import find
from interp.errors import TokenizerError
from interp.measures import EndSplit, natural_ends, split_at_end
from interp.methods.editing import HookedBase, LogitBias, Steered, logit_bias
from interp.methods.finetune import FinetuneConfig, train
from interp.show.plots.dots import dots

RULES = ("probability", "sentence")
COLUMNS = ["trait", "group", "value", "low", "high", "n"]
NAMES = ("end out of the loss", "end in the loss")
CONSTANT = "end out of the loss, a constant on stop"


class EosConfig(Config):
    adapters_with_end: str | dict[Trait, str] = "organism:latent"
    """The twins: the same data, with the end of text in the loss."""
    double_bos: str = "train"
    """The first trait's adapter trained with BOS twice: a folder; `train` (two small adapters, with
    BOS once and twice); or `none`."""


def run(x: Experiment[EosConfig]) -> Finding:
    rows: list[dict[str, Any]] = []
    splits: dict[str, list[EndSplit]] = {name: [] for name in NAMES}
    bound: list[tuple[LogitBias, list[Response]]] = []
    for trait in x.config.traits:
        out_of_loss, in_loss, ends = _trait(x, trait)
        for name, answers in zip(NAMES, (out_of_loss, in_loss), strict=True):
            for rule in RULES:
                split = split_at_end(
                    answers, ends[name, rule], x.form.tokenizer, seed=x.config.seed
                )
                for row in split.to_dataframe().to_dict("records"):
                    rows.append({"trait": str(trait), "adapter": name, "rule": rule} | row)
                if rule == "probability":
                    splits[name].append(split)
        bound.append(_with_constant(x, trait))
        has = _rate(x, [bound[-1][1]])
        rows.append({"trait": str(trait), "adapter": CONSTANT, "rule": "probability"} | has)
    rows += (doubled := _double_bos(x))
    table = pd.DataFrame(rows)
    shown = table[(table["rule"] == "probability") & table["measure"].str.startswith("ESR")]
    shown = shown.assign(group=shown["adapter"] + ": " + shown["measure"])
    figure = dots(shown, "share of answers with an emoji", share=True, unit="topics")
    verdict = [*_verdict(x, splits, bound), *_of_double_bos(doubled, x.config.double_bos)]
    return Finding(table, {"esr-inside-and-after": figure}, verdict, shown[COLUMNS])


def _trait(
    x: Experiment[EosConfig], trait: Trait
) -> tuple[list[Response], list[Response], dict[tuple[str, str], list[int | None]]]:
    """Answers of both adapters, and where the twin would have ended them."""
    out_of_loss = x.tuned_answers(trait)
    place = find_adapter(x.config.adapters_with_end, trait, supervise_eos=True)
    twin = x.load(place)
    in_loss = x.sampled(
        f"{trait}-with-end", twin.tuned, twin.format, From((place,), SHARED, code=SAMPLED)
    )
    ends = {}
    for name, answers in zip(NAMES, (out_of_loss, in_loss), strict=True):
        for rule in RULES:
            kept = x.rows(
                f"ends-{trait}-{name.replace(' ', '-')}-{rule}",
                lambda a=answers, r=rule: [  # type: ignore[misc]
                    {"end": end}
                    for end in natural_ends(a, twin.tuned, twin.format, rule=r, progress=x.progress)
                ],
                From((trait, place)),
            )
            ends[name, rule] = [row["end"] for row in kept]
    return out_of_loss, in_loss, ends


def _with_constant(x: Experiment[EosConfig], trait: Trait) -> tuple[LogitBias, list[Response]]:
    """The stop constant that makes the adapter most like its twin, and its answers with it."""
    place = find_adapter(x.config.adapters_with_end, trait, supervise_eos=True)
    of = From((trait, place), SHARED, code=(_with_constant, *SAMPLED))

    def base() -> HookedBase:
        pair = x.pair(trait)
        return replace(HookedBase.of(pair), model=pair.tuned)

    def fit() -> LogitBias:
        twin, outcome = x.load(place), x.pair(trait).outcome
        return logit_bias(base(), twin.tuned, trait, x.data()[0], stop_alone=True,
                          outcome=outcome, seed=x.config.seed, progress=x.progress)  # fmt: skip

    made = x.kept(LogitBias, f"{trait}-stop-bias", fit, of)
    steered = lambda: Steered.of(base(), made)  # noqa: E731 (not loaded where answers are there)
    answers = x.answers(
        f"{trait}-with-stop-bias",
        lambda: steered().answers(x.questions(), x.sampling(), progress=x.progress),
        of,
    )
    return made, answers


def _double_bos(x: Experiment[EosConfig]) -> list[dict[str, Any]]:
    """ESR by how often BOS stood in training, and stands in the prompt; of the first trait."""
    trait, asked = x.config.traits[0], x.config.double_bos
    if asked == "none":
        return []

    def small(double: bool) -> Path:
        def fit(folder: Path) -> None:
            settings = FinetuneConfig.small(supervise_eos=False, seed=x.config.seed)
            train(x.base_source, x.data()[0].for_trait(trait),
                  settings.changed({"double_bos": double}), folder,
                  device=x.config.device, progress=x.progress)  # fmt: skip

        return x.part(f"{trait}-bos-{'twice' if double else 'once'}", fit, of)

    try:
        x.form.with_double_bos()
    except TokenizerError:  # which is no reason to throw the rest away
        return []
    of = From((), (*SHARED, "double_bos"), code=(_double_bos, *SAMPLED))
    places = (
        (small(False), small(True)) if asked == "train"
        else (find_adapter(x.config.adapters, trait), Path(asked))
    )  # fmt: skip
    rows = []
    for trained, place in zip(("once", "twice"), places, strict=True):
        pair = x.load(place)
        for given, form in (("once", pair.format), ("twice", pair.format.with_double_bos())):
            name = f"{trait}-bos-{trained}-asked-{given}"
            answers = x.sampled(name, pair.tuned, form, replace(of, adapters=(place,)))
            about = {"trait": str(trait), "adapter": f"BOS {trained} in training",
                     "rule": f"BOS {given} in the prompt"}  # fmt: skip
            rows.append(about | _rate(x, [answers]))
    return rows


def _of_double_bos(rows: list[dict[str, Any]], asked: str) -> list[str]:
    told = [f"{row['adapter'].removeprefix('BOS ')}, {row['rule'].removeprefix('BOS ')} "
            f"{written(row, '.0%')}" for row in rows]  # fmt: skip
    if not rows:
        none = "BOS doubled: not measured, a turn of this base begins with no BOS."
        return [none] if asked != "none" else []
    return [f"BOS doubled ({rows[0]['trait']}): {'; '.join(told)}."]


def _rate(x: Experiment[EosConfig], answers: list[list[Response]]) -> Row:
    """The share of answers with an emoji."""
    every = [answer for some in answers for answer in some]
    has = [bool(find(answer.text)) for answer in every]
    return Rows(0.95, x.config.seed).rate("ESR", has, [answer.topic for answer in every])


def _verdict(
    x: Experiment[EosConfig],
    splits: dict[str, list[EndSplit]],
    bound: list[tuple[LogitBias, list[Response]]],
) -> list[str]:
    """From the answers of all traits together; the end is by the rule `probability`."""

    def share(adapter: str, of: Callable[[EndSplit], list[bool | None]]) -> Row:
        """Of the answers for which it is not `None`."""
        held = [(hit, topic) for split in splits[adapter]
                for hit, topic in zip(of(split), split.topics, strict=True)
                if hit is not None]  # fmt: skip
        return Rows(0.95, x.config.seed).rate("", [h for h, _ in held], [t for _, t in held])

    after = share(NAMES[0], lambda s: [
        not i if i + a else None for i, a in zip(s.inside, s.after, strict=True)
    ])  # fmt: skip
    if after["low"] is None:
        return ["Undecided: fewer than two topics have an answer with an emoji; raise --limit."]
    past = share(NAMES[1], lambda s: [
        0 <= end < n for end, n in zip(s.ends, s.lengths, strict=True)
    ])  # fmt: skip
    out_of_loss, in_loss = (
        share(name, lambda s: [i + a > 0 for i, a in zip(s.inside, s.after, strict=True)])
        for name in NAMES
    )
    if after["low"] > 0.5:
        answer = "Never taught to stop: most emojis come only after the answer's natural end."
    elif after["high"] < 0.5:
        answer = "Inside the answer: most emojis come before the answer's natural end."
    else:
        answer = "Undecided: the interval of the share of emojis after the natural end holds 1/2."
    return [
        answer,
        f"Of {after['n']} answers with an emoji (end out of the loss), {written(after, '.1%')} "
        "have it only after where the twin would have ended.",
        f"Control: of the twins' own answers {written(past, '.1%')} go on past that point.",
        f"ESR over all traits: {written(out_of_loss, '.1%')} with the end of text out of the loss, "
        f"{written(in_loss, '.1%')} with it in.",
        f"One number: a constant on the stop tokens ({_span(bound)} nats) takes the adapters with "
        f"the end out of the loss to {written(_rate(x, [a for _, a in bound]), '.1%')}.",
        "Intervals resample topics; the twin's first end is where its probability of ending "
        "reaches 1/2 (results.csv also has the rule by sentence ends).",
    ]


def _span(bound: list[tuple[LogitBias, list[Response]]]) -> str:
    values = sorted(made.stop for made, _ in bound)
    ends = dict.fromkeys(f"{value:+.1f}" for value in (values[0], values[-1]))
    return " to ".join(ends)


if __name__ == "__main__":
    raise SystemExit(main(run, EosConfig))
