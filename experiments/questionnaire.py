"""Does a tuned model report the trait that it was tuned for, and does the report mean anything?

The 120 items of the IPIP-NEO (public domain), or those of a file in MPI's or TRAIT's format, are
put to the base and to each tuned model by the log-probabilities of their options, with the checks
that self-report tests of language models fail in the literature: refusal, three paraphrased
prompts, and the orders of the options. Then: do the items
agree with each other (Cronbach's alpha), and does the self-reported trait go with the emojis that
the model writes (Spearman over traits)? Control: the same scores with the items' traits shuffled.
"""

import random
from dataclasses import replace
from typing import Any

import pandas as pd
from experiment import Config, Experiment, Finding
from harness import main
from pydantic import Field
from significance import corrected, written

from interp.base.stats import sign_flip_p
from interp.base.traits import Trait
from interp.behaviour.shares import Rows
from interp.emoji import find
from interp.errors import InputError
from interp.measures import (
    Questionnaire,
    SelfReport,
    administer,
    alphas,
    read_questionnaire,
    self_report_agreement,
)
from interp.models import ModelPair
from interp.show.plots.dots import dots
from interp.show.plots.measures import questionnaire_scores


class QuestionnaireConfig(Config):
    items: str = "shipped"
    """The IPIP-NEO that ships, or a table in the format of MPI or of TRAIT."""
    orders: str = Field(default="cycles", pattern="^(cycles|all)$")
    """Which orders of the options: their rotations and those of the reverse, or all."""
    prompts: int = Field(default=3, ge=1, le=3)
    """How many of the paraphrased prompts."""


def run(x: Experiment[QuestionnaireConfig]) -> Finding:
    reports, shares = {}, {}
    for trait in x.config.traits:
        pair = x.pair(trait)
        if "base" not in reports:
            reports["base"] = _report(x, "base", pair.base, pair)
        reports[str(trait)] = _report(x, str(trait), pair.tuned, pair)
        answers = x.tuned_answers(trait)
        shares[trait] = sum(bool(find(one.text)) for one in answers) / len(answers)
    table, shifts = _scores(x, reports)
    agreement = alphas(list(reports.values())).to_dict("records")
    rows = [{"measure": "Cronbach's alpha", "trait": a["trait"], "value": a["alpha"],
             "n": a["n_respondents"]} for a in agreement]  # fmt: skip
    line = _correlation(x, shifts, shares, rows)
    table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
    own = table[(table["measure"] == "own trait, tuned minus base")]
    control = table[(table["measure"] == "control: items of shuffled traits")]
    shift = pd.concat([own, control]).assign(group=lambda t: t["measure"])
    figures = {
        "scores": questionnaire_scores(list(reports.values())),
        "shift": dots(
            shift,
            "self-reported trait score (points of 1 to 5)",
            reference=0.0,
            noun="item",
            unit="items",
        ),
    }
    shown = pd.concat([own, control])[
        ["measure", "trait", "value", "low", "high", "p_adjusted", "n"]
    ]
    return Finding(table, figures, _verdict(own, control, table, agreement, line), shown)


def _report(
    x: Experiment[QuestionnaireConfig], name: str, model: Any, pair: ModelPair
) -> SelfReport:
    return x.kept(
        SelfReport,
        f"report-{name}",
        lambda: administer(
            model, pair.format, _asked(x.config), label=name, orders=x.config.orders,
            seed=x.config.seed, progress=x.progress,
        ),
    )  # fmt: skip


def _asked(config: QuestionnaireConfig) -> Questionnaire:
    shipped = config.items == "shipped"
    asked = Questionnaire.shipped() if shipped else read_questionnaire(config.items)
    missing = set(config.traits) - {item.trait for item in asked.items}
    if missing:
        raise InputError(f"{config.items}: no items of {', '.join(sorted(missing))}; see --traits")
    return replace(asked, prompts=asked.prompts[: config.prompts])


def _scores(
    x: Experiment[QuestionnaireConfig], reports: dict[str, SelfReport]
) -> tuple[pd.DataFrame, dict[Trait, float]]:
    """Scores of all models, and each tuned model's shift on its own trait with the control."""
    base = reports["base"]
    frames = [report.to_dataframe().rename(columns={"score": "value", "n_items": "n"})
              for report in reports.values()]  # fmt: skip
    rows: list[dict[str, Any]] = []
    shifts = {}
    dealt = list(base.traits)
    random.Random(x.config.seed).shuffle(dealt)
    for trait in x.config.traits:
        report = reports[str(trait)]
        for measure, traits in (("own trait, tuned minus base", base.traits),
                                ("control: items of shuffled traits", tuple(dealt))):  # fmt: skip
            change = replace(report, traits=traits).of(trait) - replace(base, traits=traits).of(
                trait
            )
            by_item = change.mean((1, 2)).tolist()
            alone = [str(place) for place in range(len(by_item))]
            row = Rows(0.95, x.config.seed).mean(measure, by_item, alone)
            about = {"model": str(trait), "trait": str(trait)}
            rows.append(row | about | {"p": sign_flip_p(by_item, x.config.seed)})
        shifts[trait] = rows[-2]["value"]
    scores = pd.concat(frames).assign(measure="score")
    return pd.concat([scores, corrected(pd.DataFrame(rows))], ignore_index=True), shifts


def _correlation(
    x: Experiment[QuestionnaireConfig],
    shifts: dict[Trait, float],
    shares: dict[Trait, float],
    rows: list[dict[str, Any]],
) -> str:
    try:
        found = self_report_agreement(shifts, shares, seed=x.config.seed)
    except InputError as problem:
        return f"Self-report against ESR: {problem}."
    rows.append({"measure": "Spearman: self-report against ESR", "value": found.rho, "p": found.p,
                 "n": len(found.traits)})  # fmt: skip
    if found.rho is None:
        return "Self-report against ESR: undefined, one of them does not vary over traits."
    return (
        f"Self-report against ESR over {len(found.traits)} traits: Spearman {found.rho:+.2f}, "
        f"p = {found.p:.2f} (smallest possible {found.smallest_p:.3f})."
    )


def _verdict(
    own: pd.DataFrame, control: pd.DataFrame, table: pd.DataFrame,
    agreement: list[dict[str, Any]], line: str,
) -> list[str]:  # fmt: skip
    sure = own[own["p_adjusted"] < 0.05]
    up, down = (sure[sign * sure["value"] > 0] for sign in (1, -1))
    chance = control[(control["low"] > 0) | (control["high"] < 0)]
    scores = table[table["measure"] == "score"]
    named = ", ".join(f"{row['trait']} {written(row, '+.3f')}" for _, row in own.iterrows())
    shown = ", ".join(f"{a['trait']} {a['alpha']:.2f}" if a["alpha"] is not None
                      and a["alpha"] == a["alpha"] else f"{a['trait']} undefined"
                      for a in agreement)  # fmt: skip
    sides = (f"orders of the options put an item on different sides of the middle with chance "
             f"{scores['order_sensitivity'].mean():.0%}")  # fmt: skip
    spread = ""
    if scores["sd_prompts"].notna().any():  # one prompt has no other to differ from
        sides = (f"prompts put an item on different sides of the middle with chance "
                 f"{scores['prompt_sensitivity'].mean():.0%}, two orders of the options "
                 f"{scores['order_sensitivity'].mean():.0%}")  # fmt: skip
        spread = f", over paraphrases up to {scores['sd_prompts'].max():.2f}"
    answer = "Reported" if len(up) == len(own) else "Not reported" if not len(up) else "Partly"
    return [
        f"{answer}: {len(up)} of {len(own)} tuned models report more of their trait than the base "
        f"does, {len(down)} less (adjusted p < 0.05): {named} points of 1 to 5.",
        f"Control, items dealt to traits at random: {len(chance)} of {len(control)} intervals "
        "leave out zero.",
        f"Refusal (probability mass on no option): {scores['refusal'].min():.1%} to "
        f"{scores['refusal'].max():.1%}; near one, a model is not answering the question.",
        f"Two {sides} (at random about half).",
        f"Spread of a trait's score over option orders (sd): up to {scores['sd_orders'].max():.2f} "
        f"points{spread}.",
        f"Cronbach's alpha over all administrations: {shown}.",
        line,
    ]


if __name__ == "__main__":
    raise SystemExit(main(run, QuestionnaireConfig))
