"""What else does a method change, beside the emojis? Other text, and questions with an answer.

For each trait and method, beside its ESR: the KL divergence from the base, token by token, on the
base's own answers (nats; the end of the turn included); how much worse it reads the data's held-out
answers of other traits (nats per token); and the accuracy on questions with given options, by the
options' log-probability per token. All are paired with the base by text, intervals and p-values
over topics, p-values corrected over the table. Control: a random direction of the persona vector's
norm, and guessing for the accuracy. A base that is at chance has no accuracy to lose; that is said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from experiment import Experiment, Finding, From
from harness import main
from jaxtyping import Float
from methods import MethodsConfig, answers, build, check
from pydantic import Field
from significance import corrected, difference, some, written
from torch import Tensor, no_grad, tensor, zeros_like
from torch import bool as boolean

from interp.base.devices import input_device
from interp.base.traits import Trait
from interp.behaviour.shares import Rows
from interp.emoji import find
from interp.errors import DataError, InputError
from interp.methods.editing import Method, TraitPrompt
from interp.show.plots.dots import dots
from interp.text.data.records import read_file

SHIPPED = Path(__file__).with_name("multiple_choice.csv")
BY_QUESTION = ("IKE", "MEND")  # another prompt, or another model, for each question
KL, READS, ACCURACY = "KL from the base", "surprisal above the base's", "accuracy"
Texts = list[tuple[str, str, str]]  # question, answer, topic


class SideEffectsConfig(MethodsConfig):
    methods: tuple[str, ...] = ("trait prompt", "QLoRA", "persona vector", "random direction")
    """Methods and controls to compare; the base is always one of them."""
    questions: str = "shipped"
    """Questions with options: a table with `question`, `options` (`a|b|c`), `answer`, `topic`."""
    n_texts: int = Field(default=40, ge=2)
    """Texts that are read."""


def run(x: Experiment[SideEffectsConfig]) -> Finding:
    refused = [name for name in check(x.config) if name in BY_QUESTION]
    if refused:
        raise InputError(
            f"methods: {refused[0]} has another prompt or model for each question and reads no "
            f"given text; use methods other than {' and '.join(BY_QUESTION)}"
        )
    asked = choices(x.config.questions)
    rows: list[dict[str, Any]] = []
    for trait in x.config.traits:
        for name in check(x.config):
            made = answers(x, name, trait)
            has = [bool(find(answer.text)) for answer in made]
            table = Rows(0.95, x.config.seed)
            measured = [table.rate("ESR", has, [answer.topic for answer in made])]
            measured += _measured(x, name, trait, asked)
            rows += [{"trait": str(trait), "method": name} | row for row in measured]
    table = corrected(pd.DataFrame(rows))
    figures = {
        stem: dots(
            table[table["measure"] == measure].assign(group=lambda t: t["method"]), what,
            share=share, reference=None if share else 0.0, noun=noun, unit="topics",
        )
        for stem, measure, what, share, noun in (
            ("esr", "ESR", "share of answers with an emoji", True, "answer"),
            ("kl", KL, "KL from the base (nats per token)", False, "text"),
            ("surprisal", READS, "surprisal above the base's (nats per token)", False, "text"),
            ("accuracy", ACCURACY, "share of questions answered right", True, "question"),
        )
        if some(table, measure)
    }  # fmt: skip
    wide = table.pivot_table(
        index=["trait", "method"], columns="measure", values="value", sort=False
    ).reset_index()
    return Finding(table, figures, _verdict(table, asked), wide)


def choices(source: str) -> list[tuple[str, tuple[str, ...], int, str]]:
    """Questions: text, options, place of the right one, topic.

    Raises:
        DataError: naming the row that lacks something.
    """
    path = SHIPPED if source == "shipped" else Path(source)
    found = []
    for number, row in enumerate(read_file(path).records, 1):
        question = str(row.get("question") or "").strip()
        options = tuple(one.strip() for one in str(row.get("options") or "").split("|"))
        answer = str(row.get("answer") or "").strip()
        if not question or len(set(options)) < 2 or answer not in options or "" in options:
            raise DataError(
                f"{path}: row {number}: needs a question, two or more options (a|b|c), and an "
                "answer that is one of them"
            )
        found.append((question, options, options.index(answer), str(row.get("topic") or question)))
    if len({topic for *_, topic in found}) < 2:
        raise DataError(f"{path}: has fewer than two topics; intervals resample topics")
    return found


def _measured(
    x: Experiment[SideEffectsConfig],
    name: str,
    trait: Trait,
    asked: list[tuple[str, tuple[str, ...], int, str]],
) -> list[dict[str, Any]]:
    """KL, surprisal and accuracy of one method, made once; the base's for each trait alike."""

    def make() -> list[dict[str, Any]]:
        method, base = build(x, name, trait), build(x, "base", trait)
        own = [(a.question, a.text, a.topic) for a in x.base_answers() if a.text.strip()]
        read: list[dict[str, Any]] = []
        if name != "base":
            read += _away(KL, method, base, own[: x.config.n_texts])
            read += _away(READS, method, base, _others(x, trait))
        for question, options, right, topic in asked:
            scores = [_score(method, question, option) for option in options]
            hit = float(scores.index(max(scores)) == right)
            read.append({"measure": ACCURACY, "value": hit, "topic": topic})
        return read

    slug = name.replace(", ", "-").replace(" ", "-").lower()
    needs = ("base.json",) if name != "base" else ()
    found = pd.DataFrame(x.rows(f"{trait}-{slug}-read", make, From((trait,), parts=needs)))
    rows = []
    for measure, part in found.groupby("measure", sort=False):
        values, topics = part["value"].tolist(), part["topic"].tolist()
        if measure == READS:
            rows.append(difference(str(measure), values, topics, x.config.seed))
        elif measure == KL:
            rows.append(Rows(0.95, x.config.seed).mean(KL, values, topics))
        else:
            hits = [bool(value) for value in values]
            rows.append(Rows(0.95, x.config.seed).rate(ACCURACY, hits, topics))
    return rows


def _others(x: Experiment[SideEffectsConfig], trait: Trait) -> Texts:
    """Held-out answers of other traits; all answers, where the data have one trait only."""
    rows = x.data()[1].rows
    rows = tuple(row for row in rows if row.trait != trait) or rows
    drawn = Random(x.config.seed).sample(rows, min(x.config.n_texts, len(rows)))
    return [(row.question, row.answer, row.topic) for row in drawn]


def _away(measure: str, method: Method, base: Method, texts: Texts) -> list[dict[str, Any]]:
    """How far a method is from the base on each text, nats per token."""
    found = []
    for question, answer, topic in texts:
        ids, mine = _log_probs(method, question, answer)
        _, its = _log_probs(base, question, answer)
        if measure == KL:
            value = (its.exp() * (its - mine)).sum(-1).mean()
        else:
            value = (its - mine).gather(1, ids[:, None]).mean()
        found.append({"measure": measure, "value": float(value), "topic": topic})
    return found


def _score(method: Method, question: str, option: str) -> float:
    ids, log_probs = _log_probs(method, question, option)
    return float(log_probs.gather(1, ids[:, None]).mean())


@no_grad()
def _log_probs(
    method: Method, question: str, answer: str
) -> tuple[Tensor, Float[Tensor, "token vocab"]]:
    """The ids of an answer and what ends it, and the log-probabilities at each of them."""
    form = method.base.format
    if isinstance(method, TraitPrompt):
        form = replace(form, instruction=method.instruction)
    example = form.example(question, answer)
    ids = tensor([example.ids])
    own = zeros_like(ids, dtype=boolean)
    own[:, example.answer_start :] = True
    with method.hooked(answer=own) as (model, _):
        logits = model(ids.to(input_device(model)))[0].float().cpu()
    start = example.answer_start
    return ids[0, start:], logits[start - 1 : -1].log_softmax(-1)


def _verdict(
    table: pd.DataFrame, asked: Sequence[tuple[str, tuple[str, ...], int, str]]
) -> list[str]:
    return [*_costs(table), _accuracies(table, asked)]


def _costs(table: pd.DataFrame) -> Iterator[str]:
    """One line per method: the emojis, and what they cost."""
    for name in [one for one in dict.fromkeys(table["method"]) if one != "base"]:
        part = table[table["method"] == name].set_index("trait")
        mean = part.groupby("measure")["value"].mean()
        reads = part[part["measure"] == READS]
        worse = reads[(reads["p_adjusted"] < 0.05) & (reads["value"] > 0)]
        away = "KL from the base unknown, whose answers are empty"
        if KL in mean:
            most = part[part["measure"] == KL].sort_values("value").iloc[-1]
            away = (f"KL from the base {mean[KL]:.2f} nats per token (mean over traits; most "
                    f"{most.name} {written(most, '.2f')})")  # fmt: skip
        yield (
            f"{name}: ESR {mean['ESR']:.0%}, {away}; reads other traits' answers "
            f"worse for {len(worse)} of {len(reads)} traits, by {mean[READS]:+.2f} nats per token."
        )


def _accuracies(table: pd.DataFrame, asked: Sequence[tuple[str, tuple[str, ...], int, str]]) -> str:
    right = table[table["measure"] == ACCURACY]
    base = right[right["method"] == "base"].iloc[0]
    chance = sum(1 / len(options) for _, options, *_ in asked) / len(asked)
    line = f"Accuracy on {len(asked)} questions with options: base {written(base)}, "
    if base["low"] <= chance:
        return f"{line}which is no better than guessing ({chance:.0%}): nothing there to lose."
    means = right[right["method"] != "base"].groupby("method", sort=False)["value"].mean()
    return line + ", ".join(f"{name} {value:.0%}" for name, value in means.items()) + "."


if __name__ == "__main__":
    raise SystemExit(main(run, SideEffectsConfig))
