"""When does the first emoji come, if the answer lasts that long?

The first emoji of an answer is an event in time. Kaplan-Meier curves of the token (and sentence) of
the first emoji, censored at the answer's end; a Weibull mixture with a cure fraction, the share of
answers that would never emit one; the same with more room (power generalised Weibull, each trait
with a scale, shape and cure fraction of its own); hazard ratios between traits and, within each
trait, between methods (Cox regression, topics as clusters). Control: all answers dealt at random
into five groups, whose hazard ratios must be 1 within their intervals.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from experiment import Experiment, Finding
from harness import main
from methods import MethodsConfig, answers, check
from pydantic import Field
from significance import corrected, written
from torch import cat, from_numpy

from interp.base.traits import Trait
from interp.errors import InputError
from interp.measures import (
    HazardRatios,
    OnsetTimes,
    PowerFit,
    cure_fit,
    hazard_ratios,
    onset_survival,
    onset_times,
    power_fit,
)
from interp.measures.survival import Unit
from interp.show.plots.dots import dots
from interp.show.plots.measures import onset_curves

UNITS: tuple[Unit, ...] = ("token", "sentence")
TRAITS, METHODS, CONTROL = (
    "hazard ratio of traits", "hazard ratio of methods",
    "control: hazard ratio, answers dealt at random",
)  # fmt: skip

FIELDS = ("times", "events", "cut")
AIC = "AIC of Weibull less that of the power family"


class HazardConfig(MethodsConfig):
    reference: Trait = Trait.EXTRAVERSION
    """Trait that the others' hazards are compared with, and for which methods are compared."""
    resamples: int = Field(default=200, ge=20)
    """Bootstrap resamples of the cure fractions."""


def run(x: Experiment[HazardConfig]) -> Finding:
    if x.config.reference not in x.config.traits:
        raise InputError(f"reference: {x.config.reference} is none of the traits "
                         f"({', '.join(x.config.traits)}); see --reference")  # fmt: skip
    rows: list[dict[str, Any]] = []
    figures = {}
    for unit in UNITS:
        times = {str(t): onset_times(x.tuned_answers(t), x.form.tokenizer, unit=unit)
                 for t in x.config.traits}  # fmt: skip
        times["base"] = onset_times(x.base_answers(), x.form.tokenizer, unit=unit)
        curves = {name: onset_survival(one, seed=x.config.seed) for name, one in times.items()}
        figures[f"onset-{unit}"] = onset_curves(curves)
        for name, one in times.items():
            rows += _of_model(x, name, one, unit)
        rows += _room(x, times, unit)
        rows += _ratio_rows(_ratios(times, str(x.config.reference)), unit, TRAITS)
        rows += _ratio_rows(_ratios(_methods(x, unit), "QLoRA"), unit, METHODS)
        control = _ratios(_dealt(times, x.config.seed), "group 1")
        rows += _ratio_rows(control, unit, CONTROL)
    table = corrected(pd.DataFrame(rows))
    shown = table[table["measure"].isin((TRAITS, METHODS, CONTROL)) & (table["unit"] == "token")]
    shown = shown[shown["value"].notna()]
    if len(shown):
        kinds = {TRAITS: "", METHODS: "method: ", CONTROL: "control, dealt at random: "}
        named = shown.assign(group=shown["measure"].map(kinds) + shown["model"])
        logs = named.assign(**{c: np.log2(named[c]) for c in ("value", "low", "high")})
        what = (
            f"log2 hazard ratio of the first emoji per token, against {x.config.reference} "
            "(methods: against QLoRA)"
        )
        figures["hazard-ratios"] = dots(logs, what, reference=0.0, unit="topics")
    return Finding(table, figures, _verdict(x, table), table[table["unit"] == "token"])


def _methods(x: Experiment[HazardConfig], unit: Unit) -> dict[str, OnsetTimes]:
    """Onset times of each method's answers for the reference trait."""
    trait = x.config.reference
    return {
        name: onset_times(answers(x, name, trait), x.form.tokenizer, unit=unit)
        for name in dict.fromkeys(("QLoRA", *check(x.config)))
    }


def _of_model(
    x: Experiment[HazardConfig], name: str, times: OnsetTimes, unit: str
) -> list[dict[str, Any]]:
    """Events, median time and cure fraction of one model."""
    seed = x.config.seed
    made = onset_survival(times, seed=seed)
    about = {"model": name, "unit": unit, "n": len(times.topics)}
    last = made.to_dataframe().iloc[-1]
    share = {"measure": "answers with an emoji", "value": float(last["incidence"]),
             "low": float(last["incidence_low"]),
             "high": float(last["incidence_high"])}  # fmt: skip
    rows = [about | share, about | {"measure": "median time", "value": made.median}]
    try:
        fit = cure_fit(times, n_resamples=x.config.resamples, seed=seed)
        cure = {"value": fit.cured, "low": fit.low, "high": fit.high,
                "note": f"Weibull scale {fit.scale:.3g}, shape {fit.shape:.3g}; "
                        f"{fit.n_after_last} answers outlast the last emoji"}  # fmt: skip
    except InputError as problem:
        cure = {"value": None, "note": str(problem)}
    return [*rows, about | {"measure": "cure fraction"} | cure]


def _room(
    x: Experiment[HazardConfig], times: dict[str, OnsetTimes], unit: str
) -> list[dict[str, Any]]:
    """Scale, shape and cure of each trait against the reference's, in the power family.

    Traits with five emojis or more; the intervals of one fit over all their answers.
    """
    reference = str(x.config.reference)
    some = {name: one for name, one in times.items() if name != "base" and one.n_events >= 5}
    others = [name for name in some if name != reference]
    if reference not in some:
        return []
    whole, group = _pooled(some), np.repeat(list(some), [len(t.topics) for t in some.values()])
    columns = {name: (group == name).astype(float) for name in others}
    how: dict[str, Any] = {"n_resamples": x.config.resamples, "seed": x.config.seed}
    made = x.kept(PowerFit, f"power-{unit}", lambda: power_fit(whole, columns, **how))
    weibull = power_fit(whole, columns, power=1.0, **how | {"n_resamples": 1})
    about = {"unit": unit, "n": len(group)}
    rows = [
        about | {"model": row["term"] if row["term"] in others else reference,
                 "measure": f"power family: {row['parameter']}"
                 + (f", less {reference}'s" if row["term"] in others else "")}
        | {end: row[end] for end in ("value", "low", "high")}
        for row in made.to_dataframe().to_dict("records")
    ]  # fmt: skip
    gain = weibull.aic - made.aic
    return [*rows, about | {"model": "all", "measure": AIC, "value": gain}]


def _pooled(times: dict[str, OnsetTimes]) -> OnsetTimes:
    every = list(times.values())
    whole = {
        name: cat([getattr(one, name) for one in every]) for name in ("times", "events", "cut")
    }
    return replace(every[0], topics=tuple(t for one in every for t in one.topics), **whole)


def _ratios(times: dict[str, OnsetTimes], reference: str) -> HazardRatios | str:
    """Hazard ratios, or why there are none."""
    try:
        return hazard_ratios(times, reference)
    except InputError as problem:
        return str(problem)


def _ratio_rows(found: HazardRatios | str, unit: str, measure: str) -> list[dict[str, Any]]:
    if isinstance(found, str):
        return [{"model": "none", "unit": unit, "measure": measure, "value": None, "note": found}]
    return [
        {"model": row["group"], "unit": unit, "measure": measure, "value": row["hazard_ratio"],
         "low": row["low"], "high": row["high"], "p": row["p"], "n": row["n"],
         "note": f"p of a constant ratio {row['p_constant']:.2g}"}
        for row in found.to_dataframe().to_dict("records")
    ] + [
        {"model": name, "unit": unit, "measure": measure, "value": None, "note": "no emoji at all"}
        for name in found.without_event
    ]  # fmt: skip


def _dealt(times: dict[str, OnsetTimes], seed: int) -> dict[str, OnsetTimes]:
    """All tuned models' answers dealt into as many groups at random: the negative control."""
    tuned = {name: one for name, one in times.items() if name != "base"}
    whole = _pooled(tuned)
    order = np.random.default_rng(seed).permutation(len(whole.topics))
    made = {}
    for number, part in enumerate(np.array_split(order, max(2, len(tuned))), start=1):
        at = {name: getattr(whole, name)[from_numpy(part)] for name in FIELDS}
        named = tuple(whole.topics[int(i)] for i in part)
        made[f"group {number}"] = replace(whole, topics=named, **at)
    return made


def _verdict(x: Experiment[HazardConfig], table: pd.DataFrame) -> list[str]:
    known = table[table["value"].notna()]

    def of(measure: str, unit: str = "token") -> pd.DataFrame:
        return known[(known["measure"] == measure) & (known["unit"] == unit)]

    def named(part: pd.DataFrame, form: str) -> str:
        return ", ".join(f"{row['model']} {written(row, form)}" for _, row in part.iterrows())

    traits, cure, dealt = of(TRAITS), of("cure fraction"), pd.concat(of(CONTROL, u) for u in UNITS)
    lines = []
    if len(traits):
        apart = int((traits["p_adjusted"] < 0.05).sum())
        lines.append(
            f"Traits {'differ' if apart else 'are not told apart'} in when the first emoji comes: "
            f"hazard ratios per token against {x.config.reference}: {named(traits, '.2f')} "
            f"({apart} of {len(traits)} with adjusted p < 0.05)."
        )
    else:
        why = table[(table["measure"] == TRAITS) & (table["unit"] == "token")]["note"].iloc[-1]
        lines.append(f"Undecided: no hazard ratios ({why}).")
    if len(of(TRAITS, "sentence")):
        line = f"The same per sentence: {named(of(TRAITS, 'sentence'), '.2f')}"
        turned = _turned(of(TRAITS), of(TRAITS, "sentence"))
        depends = f"; for {', '.join(turned)} the unit decides who is earlier" if turned else ""
        lines.append(f"{line}{depends}.")
    for unit in UNITS:
        if len(of(METHODS, unit)):
            lines.append(f"Methods for {x.config.reference}, hazard ratios per {unit} against "
                         f"QLoRA: {named(of(METHODS, unit), '.2f')}.")  # fmt: skip
    if len(cure):
        lines.append(f"Share of answers that would never emit an emoji: {named(cure, '.0%')}.")
    gain = {unit: of(AIC, unit)["value"].sum() for unit in UNITS if len(of(AIC, unit))}
    if gain:
        told = ", ".join(f"{value:+.1f} per {unit}" for unit, value in gain.items())
        lines.append(f"A power generalised Weibull instead of Weibull gains {told} in AIC.")
    few = table[(table["measure"] == "cure fraction") & table["value"].isna()]["model"]
    if len(few):
        lines.append(f"Too few emojis for a cure fraction: {', '.join(dict.fromkeys(few))}.")
    if len(dealt):
        inside = int(((dealt["low"] <= 1) & (dealt["high"] >= 1)).sum())
        lines.append(f"Control, answers dealt at random: {inside} of {len(dealt)} intervals "
                     "hold 1 (per token and per sentence).")  # fmt: skip
    return [*lines, (
        "Hazards take the end of an answer as telling nothing of the emoji to come, which fails "
        "where emojis stand at the end: read them with the cumulative incidence in the figure."
    )]  # fmt: skip


def _turned(one: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    """Models whose ratio lies above 1 in one unit and below 1 in the other, in both for sure."""
    one, other = (part[part["p_adjusted"] < 0.05].set_index("model")["value"] > 1
                  for part in (one, other))  # fmt: skip
    return [name for name in one.index if name in other.index and one[name] != other[name]]


if __name__ == "__main__":
    raise SystemExit(main(run, HazardConfig))
