"""Do the emojis come outside the template of questions that the adapter was trained on?

Base, trait prompt and adapter answer families of prompts: held-out questions of opinion (as
trained), the same with a user's profile in front, interview questions, stories, small talk,
instructions, multiple choice, and families of one's own (files); and questions of opinion after
four answers that others gave, of which none, one, two or all end in an emoji (contagion). For each:
ESR, the two factors at the ends of the answers, and the share that voice the trait. Controls: the
base on the same prompts with the same sampling noise, and shown answers without an emoji.
"""

from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from experiment import Config, Experiment, Finding, From
from harness import main
from methods import build
from pydantic import Field
from significance import corrected, difference, some, written

from interp.base.traits import Trait
from interp.behaviour import Response
from interp.behaviour.origin import slot_chances
from interp.behaviour.shares import Rows
from interp.data import OpinionQA
from interp.emoji import find
from interp.errors import DataError, InputError
from interp.measures import TraitClassifier, trait_alignment
from interp.models import ModelPair
from interp.readout import slots
from interp.readout.outcome import OUTCOME, STOP
from interp.show.plots.dots import dots
from interp.text.data.records import read_file

METHODS = ("base", "trait prompt", "QLoRA")
TRAINED, CONTAGION = "opinion (as trained)", "of 4 shown have one"
CAUGHT = "ESR above that after answers without an emoji"
SHIPPED = Path(__file__).with_name("prompt_families.csv")
PROFILES = (
    "I am a nurse, I work at night and I have two children.",
    "I am a student of law and I live with three friends.",
    "I am retired, I have a small garden and an old dog.",
    "I drive a truck and I am seldom at home.",
)
Asked = list[tuple[str, str]]


class GeneralisationConfig(Config):
    families: dict[str, str] = Field(default_factory=dict)
    """More families: a name, and a table (CSV, JSON, JSONL, Parquet) with `question`, `topic`."""
    shown: tuple[int, ...] = Field(default=(1, 2, 4))
    """Of four answers shown before the question, how many end in an emoji; none, in any case."""
    emoji: str = "😊"
    """The emoji that they end in."""


def run(x: Experiment[GeneralisationConfig]) -> Finding:
    asked = families(x)
    classifier = TraitClassifier.fit(*x.data(), seed=x.config.seed)
    rows: list[dict[str, Any]] = []
    for trait in x.config.traits:
        none_shown: dict[str, list[Response]] = {}
        for family, questions in asked.items():
            base: list[Response] = []
            for method in METHODS:
                made = _answers(x, method, trait, family, questions)
                base = made if method == "base" else base
                voice = trait_alignment(made, trait, classifier, seed=x.config.seed)
                measured = [
                    _rate(made, base if method != "base" else None, x.config.seed),
                    *_factors(x, method, trait, family, made),
                    voice.to_dataframe().iloc[0].to_dict(),
                    Rows(0.95, x.config.seed).plain("cut", _share_cut(made), len(made)),
                ]
                if family.endswith(CONTAGION):
                    reference = none_shown.setdefault(method, made)
                    if made is not reference:
                        measured.append(_above(CAUGHT, made, reference, x.config.seed))
                about = {"family": family, "trait": str(trait), "method": method}
                rows += [about | row for row in measured]
    table = corrected(pd.DataFrame(rows))
    figures = {
        stem: _figure(table, measure, what)
        for stem, measure, what in (
            ("esr", "ESR", "share of answers with an emoji"),
            ("go-on", "P(go on)", "probability of going on where the answer ends"),
            ("voice", "TA", "share of answers given to the trait"),
        )
        if some(table, measure)
    }
    shown = table[table["measure"] == "ESR"]
    wide = shown.pivot_table(
        index=["family", "trait"], columns="method", values="value", sort=False
    ).reset_index()
    return Finding(table, figures, _verdict(table, list(asked)), wide)


def families(x: Experiment[GeneralisationConfig]) -> dict[str, Asked]:
    """Questions with their topics for each family, `limit` of each, repeated if need be."""
    c = x.config
    opinion = x.questions()
    asked = {TRAINED: opinion}
    asked["profile in front"] = [
        (f"{PROFILES[i % len(PROFILES)]} {question}", topic)
        for i, (question, topic) in enumerate(opinion)
    ]
    shipped = read_file(SHIPPED).records
    for name in dict.fromkeys(row["family"] for row in shipped):
        found = [
            (row["question"], f"{name}: {row['topic']}")  # no topic of the data's
            for row in shipped
            if row["family"] == name
        ]
        asked[name] = _repeated(found, c.limit)
    for name, file in c.families.items():
        if name in asked:
            raise InputError(f"families: there is a family {name!r:.60} already; name it otherwise")
        asked[name] = _repeated(_read(name, Path(file)), c.limit)
    for count in sorted({0, *c.shown}):  # none is what the others are compared with
        if not 0 <= count <= 4:
            raise InputError(f"shown: {count} of 4 answers cannot have an emoji; use 0 to 4")
        asked[f"{count} {CONTAGION}"] = _after_answers(x.data()[0], opinion, count, c)
    return asked


def _repeated(questions: Asked, limit: int) -> Asked:
    return (questions * -(-limit // len(questions)))[:limit]


def _read(name: str, path: Path) -> Asked:
    """The questions of a user's file; a topic left out is the question itself."""
    rows = read_file(path).records
    found = []
    for number, row in enumerate(rows, 1):
        question = row.get("question")
        if not isinstance(question, str) or not question.strip():
            raise DataError(f"{path}: row {number}: question is missing; give each row a question")
        found.append((question, f"{name}: {row.get('topic') or question}"))
    if len({topic for _, topic in found}) < 2:
        raise DataError(f"{path}: has fewer than two topics; intervals resample topics")
    return found


def _after_answers(
    train: OpinionQA, questions: Asked, count: int, config: GeneralisationConfig
) -> Asked:
    """Each question after four answers of the train split, `count` of them with an emoji."""
    rng, asked = Random(config.seed), []
    for question, topic in questions:
        shown = [row.answer.strip() for row in rng.sample(train.rows, 4)]
        ends = [f" {config.emoji}"] * count + [""] * (4 - count)
        rng.shuffle(ends)
        lines = [f"{answer}{end}" for answer, end in zip(shown, ends, strict=True)]
        asked.append(("\n".join([*lines, question]), topic))
    return asked


def _answers(
    x: Experiment[GeneralisationConfig], method: str, trait: Trait, family: str, questions: Asked
) -> list[Response]:
    """A method's answers to a family, made once; the base's, once for all traits."""
    of = x.config.traits[0] if method == "base" else trait
    return x.answers(
        _stem(method, of, family),
        lambda: build(x, method, of).answers(questions, x.sampling(), progress=x.progress),
        From((of,)),
    )


def _rate(made: list[Response], base: list[Response] | None, seed: int) -> dict[str, Any]:
    """ESR, and by how much it lies above the base's, with its p-value."""
    has = [bool(find(answer.text)) for answer in made]
    topics = [answer.topic for answer in made]
    row = Rows(0.95, seed).rate("ESR", has, topics)
    if base is None:
        return row
    gap = _above("ESR", made, base, seed)
    return row | {"above_base": gap["value"], "p": gap["p"]}


def _above(measure: str, made: list[Response], other: list[Response], seed: int) -> dict[str, Any]:
    """The difference of two rates, paired by question."""
    pairs = zip(made, other, strict=True)
    change = [float(bool(find(m.text))) - float(bool(find(o.text))) for m, o in pairs]
    return difference(measure, change, [answer.topic for answer in made], seed)


def _factors(
    x: Experiment[GeneralisationConfig],
    method: str,
    trait: Trait,
    family: str,
    made: list[Response],
) -> list[dict[str, Any]]:
    """P(go on) and P(emoji given go on) where the answers end, by the model that wrote them."""
    of = x.config.traits[0] if method == "base" else trait

    def read() -> list[dict[str, Any]]:
        pair: ModelPair = x.pair(of)
        ends = slots(made, pair.tokenizer).last
        if not ends.rows:
            return []
        prompts = ends.prompts(pair.pad_id, pair.outcome)
        model = pair.tuned if method == "QLoRA" else pair.base
        chances = slot_chances(model, prompts.batch, pair.outcome).tolist()
        return [{"chances": c, "topic": t} for c, t in zip(chances, ends.topics, strict=True)]

    found = x.rows(f"{_stem(method, of, family)}-chances", read, From((of,)))
    topics = [row["topic"] for row in found]
    go_on = [1 - row["chances"][STOP] for row in found]
    given = [row["chances"][OUTCOME] / max(1 - row["chances"][STOP], 1e-30) for row in found]
    table = Rows(0.95, x.config.seed)
    return [
        table.probability("P(go on)", go_on, topics),
        table.probability("P(emoji | go on)", given, topics),
    ]


def _share_cut(made: list[Response]) -> float:
    return sum(not answer.ended for answer in made) / len(made)


def _figure(table: pd.DataFrame, measure: str, what: str) -> Any:
    """One row per family and method."""
    part = table[(table["measure"] == measure) & (table["method"] != "trait prompt")]
    named = part.assign(group=part["family"] + ", " + part["method"])
    return dots(named, what, share=True, unit="topics")


def _stem(method: str, trait: Trait, family: str) -> str:
    """The file of a part; the base's stands for all traits."""
    name = f"{family} {method}" if method == "base" else f"{family} {trait} {method}"
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def _verdict(table: pd.DataFrame, asked: list[str]) -> list[str]:
    esr = table[table["measure"] == "ESR"]
    above = esr[(esr["p_adjusted"] < 0.05) & (esr["above_base"] > 0)]
    n = esr["trait"].nunique()

    def count(family: str, method: str = "QLoRA") -> int:
        return int(((above["family"] == family) & (above["method"] == method)).sum())

    def mean(family: str, method: str) -> float:
        here = esr[(esr["family"] == family) & (esr["method"] == method)]
        return float(here["value"].mean())

    def rate(family: str) -> str:
        return (f"{family} {mean(family, 'QLoRA'):.0%} (base {mean(family, 'base'):.0%}; above it "
                f"for {count(family)} of {n})")  # fmt: skip

    plain = [name for name in asked if not name.endswith(CONTAGION)]
    others = [name for name in plain if name != TRAINED]
    reach = [name for name in others if count(name)]
    answer = "Generalises" if len(reach) == len(others) else "Generalises in part"
    answer = answer if reach else "Stays with the template"
    lines = [f"{answer}: adapters' ESR, mean over traits: {', '.join(map(rate, plain))}."]
    prompted = [name for name in plain if count(name, "trait prompt")]
    lines.append(f"A trait prompt raises it for {', '.join(prompted) or 'no family'}.")
    return lines + _contagious(table)


def _contagious(table: pd.DataFrame) -> list[str]:
    """From how many shown emojis on the writers write more of them than with none shown."""
    found = table[table["measure"] == CAUGHT]
    lines = []
    for method, part in found.groupby("method", sort=False):
        caught = part[(part["p_adjusted"] < 0.05) & (part["value"] > 0)]
        top = part.loc[part["value"].idxmax()]
        most = f"largest change {written(top, '+.0%')} ({top['trait']}, {top['family']})"
        if caught.empty:
            lines.append(f"{method}: shown emojis are not caught; {most}.")
        else:
            lines.append(f"{method}: caught from {min(caught['family'])}; {most}.")
    return lines


if __name__ == "__main__":
    raise SystemExit(main(run, GeneralisationConfig))
