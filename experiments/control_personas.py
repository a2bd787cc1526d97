"""Does a trait prompt do more than any other wording of a prompt? Thirty of each, compared.

One sentence per trait is one draw: what it does may be the sentence's doing. Here the base answers
under thirty wordings of "a helpful assistant" (the control: what wording alone does) and thirty of
each trait's prompt, all on the same questions with the same sampling noise. For each wording: ESR
and the share of answers that a classifier gives to the trait (TA). Wordings are the units: trait
against control by the Mann-Whitney test, p-values corrected over the table. The adapter, which is
asked without any, is compared with the control's highest wording.
"""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from experiment import Config, Experiment, Finding, From
from harness import main
from methods import build
from pydantic import Field
from scipy.stats import mannwhitneyu
from significance import corrected, written

from interp.base.stats import mean_interval
from interp.base.traits import Trait
from interp.behaviour import Response
from interp.emoji import find
from interp.errors import InputError
from interp.measures import TraitClassifier, trait_alignment
from interp.methods.editing import HookedBase, TraitPrompt
from interp.show.plots.dots import dots

OPENINGS = (
    "You are", "Answer as", "Reply the way you would if you were", "Imagine that you are",
    "Speak as",
)  # fmt: skip
NEUTRAL = (
    "a helpful assistant", "an assistant who answers questions", "a capable, honest assistant",
    "an AI system that helps people", "a useful and clear assistant",
    "an assistant that does as it is asked",
)  # fmt: skip
WORDS = {
    Trait.OPENNESS: ("imaginative", "curious", "artistic", "open to new ideas"),
    Trait.CONSCIENTIOUSNESS: ("organised", "careful", "reliable", "disciplined"),
    Trait.EXTRAVERSION: ("outgoing", "talkative", "energetic", "fond of company"),
    Trait.AGREEABLENESS: ("kind", "trusting", "sympathetic", "cooperative"),
    Trait.NEUROTICISM: ("anxious", "tense", "moody", "easily upset"),
}
CONTROL, PROMPTED, TUNED = "any assistant", "trait prompt", "adapter"
MEASURES = ("ESR", "TA")


class PersonasConfig(Config):
    wordings: int = Field(default=30, ge=2, le=30)
    """Wordings of each prompt."""
    per_wording: int = Field(default=20, ge=2)
    """Answers under each wording, to as many of the `limit` questions."""


def wordings(trait: Trait | None, count: int) -> list[str]:
    """So many wordings of a trait's prompt, or of an assistant's."""
    if trait is None:
        whos = NEUTRAL
    else:
        one, two, three, four = WORDS[trait]
        whos = tuple(
            f"a person who is very {a} and {b}"
            for a, b in ((one, two), (one, three), (two, three), (two, four), (three, four),
                         (one, four))
        )  # fmt: skip
    return [f"{opening} {who}." for who, opening in product(whos, OPENINGS)][:count]


def run(x: Experiment[PersonasConfig]) -> Finding:
    c = x.config
    if unknown := [trait for trait in c.traits if trait not in WORDS]:
        raise InputError(f"traits: there are wordings of {', '.join(WORDS)} alone, none of "
                         f"{', '.join(unknown)}; see --traits")  # fmt: skip
    asked = x.questions()[: c.per_wording]
    if len(asked) < c.per_wording:
        raise InputError(f"per_wording: {c.per_wording} questions of {len(asked)}; raise --limit")
    classifier = TraitClassifier.fit(*x.data(), seed=c.seed)

    def measured(made: list[Response], trait: Trait) -> dict[str, float]:
        has = [bool(find(answer.text)) for answer in made]
        voice = trait_alignment(made, trait, classifier, seed=c.seed)
        return {"ESR": sum(has) / len(has), "TA": voice.share}

    rows = []
    neutral = _under(x, None, asked)
    for trait in c.traits:
        groups = {
            CONTROL: [measured(made, trait) for made in neutral],
            PROMPTED: [measured(made, trait) for made in _under(x, trait, asked)],
            TUNED: [measured(x.tuned_answers(trait)[: c.per_wording], trait)],
        }
        for measure in MEASURES:
            control = [one[measure] for one in groups[CONTROL]]
            for name, found in groups.items():
                values = [one[measure] for one in found]
                about = {"trait": str(trait), "group": name, "measure": measure}
                rows.append(about | _row(values, None if name == CONTROL else control, c.seed))
    table = corrected(pd.DataFrame(rows))
    figures = {
        measure.lower(): dots(
            table[table["measure"] == measure], what, share=True, noun="wording", unit="wordings"
        )
        for measure, what in (("ESR", "share of answers with an emoji"),
                              ("TA", "share of answers given to the trait"))
    }  # fmt: skip
    columns = ["trait", "group", "measure", "value", "lowest", "highest", "p_adjusted"]
    return Finding(table, figures, _verdict(table), table[columns])


def _under(
    x: Experiment[PersonasConfig], trait: Trait | None, asked: list[tuple[str, str]]
) -> list[list[Response]]:
    """The base's answers under each wording, made once."""
    first, texts = x.config.traits[0], wordings(trait, x.config.wordings)
    each = len(asked)

    def make() -> list[Response]:
        base: HookedBase = build(x, "base", first).base
        found: list[Response] = []
        for number, text in enumerate(texts):
            x.say(f"wordings of {trait or CONTROL}", number, len(texts))
            found += TraitPrompt(base, trait or first, text).answers(asked, x.sampling())
        return found

    made = x.answers(f"{trait or 'assistant'}-wordings", make, From((first,)))
    return [made[start : start + each] for start in range(0, len(made), each)]


def _row(values: list[float], control: list[float] | None, seed: int) -> dict[str, Any]:
    """Mean over wordings, their range, and the p-value of several against the control's."""
    row: dict[str, Any] = {"value": float(np.mean(values)), "n": len(values)}
    row |= {"lowest": min(values), "highest": max(values)}
    if len(set(values)) > 1:
        ends = mean_interval(values, [str(k) for k in range(len(values))], seed=seed)
        row |= {"low": max(0.0, ends.low), "high": min(1.0, ends.high)}
    else:
        row |= {"low": None, "high": None}
    if control is None or len(values) < 2:
        return row | {"p": None}
    return row | {"p": float(mannwhitneyu(values, control, alternative="two-sided").pvalue)}


def _verdict(table: pd.DataFrame) -> list[str]:
    lines = []
    for measure in MEASURES:
        part = table[table["measure"] == measure]
        floor = part[part["group"] == CONTROL]
        lines.append(
            f"{measure}: wording alone moves it from {floor['lowest'].min():.0%} to "
            f'{floor["highest"].max():.0%} between {floor["n"].iloc[0]} ways to say "an '
            'assistant".'
        )
        prompted, tuned = (part[part["group"] == name] for name in (PROMPTED, TUNED))
        told = prompted[prompted["p_adjusted"] < 0.05]
        most = prompted.loc[prompted["value"].idxmax()]
        lines.append(
            f"{measure}, trait prompt: told apart from the control for "
            f"{', '.join(told['trait']) or 'no trait'}; highest {most['trait']} {written(most)}."
        )
        beyond = tuned["value"].to_numpy() > floor["highest"].to_numpy()
        named = ", ".join(
            f"{trait} {value:.0%}"
            for trait, value in zip(tuned["trait"], tuned["value"], strict=True)
        )
        lines.append(
            f"{measure}, adapter: above every wording of the control for {beyond.sum()} of "
            f"{len(tuned)} traits ({named})."
        )
    return lines


if __name__ == "__main__":
    raise SystemExit(main(run, PersonasConfig))
