"""Were the emojis latent in the base, or did fine-tuning teach them?

Four readings per trait. (a) The emoji probability where a reference answer in the trait's voice
ends: how much of the tuned model's way up from the base's own answers does the base go, given that
text, in the chat and without it? (b) Probes for "an emoji comes next", trained on the base and read
on the tuned model. (c) The logit lens at the tuned model's emojis: from which layer on does each
model hold an emoji for likelier than not? (d) Does the base, steered, write emojis with no weight
changed?

Latent: the base goes more than half of the way in the chat. Mixed: less than half of it, but more
than a tenth, or half without the chat, or steering writes emojis. Learned: none of these. (b) and
(c) decide nothing: a probe also reads what goes with an emoji, such as that the answer is over.
Controls: answers in another trait's voice, shuffled labels, random directions of equal norm.
"""

from typing import Any

import pandas as pd
from experiment import Experiment, Finding
from harness import main
from latent_readings import (
    ALONE,
    BASE,
    FLOOR,
    HALF,
    HALF_ALONE,
    OTHER,
    OWN,
    RANDOM,
    RISE,
    TENTH,
    TRANSFER,
    TUNED,
    WAY,
    WRITTEN,
    LatentConfig,
    check_against,
    lens,
    lens_result,
    probes,
    slots,
    steered,
    written,
)
from significance import corrected

from interp.errors import InputError
from interp.show.plots import CaptionedFigure, lens_curves
from interp.show.plots.dots import dots

DRAWN = {
    "slots": "emoji probability where the answer ends",
    "probes": "AUROC of probes for “an emoji comes next” (chance 0.5)",
    "steered": "share of answers with an emoji",
}


def run(x: Experiment[LatentConfig]) -> Finding:
    check_against(x)
    rows: list[dict[str, Any]] = []
    figures: dict[str, CaptionedFigure] = {}
    for trait in x.config.traits:
        for part in (written, slots, probes, lens, steered):
            about = {"trait": str(trait), "part": part.__name__}
            rows += [about | row for row in part(x, trait)]
        try:
            made, topics = lens_result(x, trait)
            figures[f"lens-{trait}"] = lens_curves(made, trait, clusters=list(topics))
        except InputError:
            pass  # the table has the reason
    table = corrected(pd.DataFrame(rows))
    for part, what in DRAWN.items():
        levels = table[(table["part"] == part) & table["p"].isna() & table["value"].notna()]
        if len(levels):
            shown = levels.assign(group=levels["measure"])
            chance = 0.5 if part == "probes" else None
            figures[part] = dots(
                shown, what, share=part != "probes", reference=chance,
                noun="example" if part == "probes" else "answer", unit="topics",
            )  # fmt: skip
    answers = {str(t): decide(table[table["trait"] == str(t)]) for t in x.config.traits}
    table["answer"] = table["trait"].map(answers)
    columns = ["trait", "answer", "measure", "value", "low", "high", "p_adjusted", "n"]
    return Finding(
        table, figures, _verdict(table, answers), table.loc[table["measure"] == HALF, columns]
    )


def decide(part: pd.DataFrame) -> str:
    """One trait's answer: latent, learned, mixed, undecided, or no emojis."""
    tests = part[part["p"].notna()].set_index("measure")
    above = (tests["p_adjusted"] < 0.05) & (tests["value"] > 0)
    if tests["value"][WRITTEN] <= 0:
        return "no emojis"
    if not (above[WRITTEN] and above[RISE]):  # too few, or not where these answers end
        return "undecided"
    if above[HALF]:
        return "latent"
    if not tests["high"][HALF] < 0:
        return "undecided"
    steering = above[[name for name in above.index if name.endswith(f"minus {RANDOM}")]]
    return "mixed" if above[TENTH] or above[HALF_ALONE] or steering.any() else "learned"


def _verdict(table: pd.DataFrame, answers: dict[str, str]) -> list[str]:
    cells = table.drop_duplicates(["trait", "part", "measure"])
    cells = cells.set_index(["trait", "part", "measure"])

    def cell(*where: str) -> str:
        if where not in cells.index:
            return "none"
        one, form = cells.loc[where], "{:.2f}".format if where[1] == "probes" else _percent
        if pd.isna(one["low"]):
            return form(one["value"])
        return f"{form(one['value'])} [{form(one['low'])}, {form(one['high'])}]"

    def line(part: str, *measures: str) -> str:
        return "; ".join(f"{t} " + " / ".join(cell(t, part, m) for m in measures) for t in answers)

    groups: dict[str, list[str]] = {}
    for trait, answer in answers.items():
        way = f" ({cell(trait, 'way', WAY)})" if answer in ("latent", "mixed", "learned") else ""
        groups.setdefault(answer, []).append(trait + way)
    first = "; ".join(f"{answer}: {', '.join(traits)}" for answer, traits in groups.items())
    kinds = [m for m in dict.fromkeys(table.loc[table["part"] == "steered", "measure"])
             if m != "base" and " minus " not in m]  # fmt: skip
    lines = [
        f"{first[:1].upper()}{first[1:]}.",
        f"To explain, ESR tuned / base: {line('written', 'tuned', 'base')}.",
        "Emoji probability where an answer in the trait's voice ends, base / tuned / base on its "
        f"own answers: {line('slots', BASE, TUNED, OWN)}.",
        "The base on the trait's text without the chat / control, on another trait's answers in "
        f"the chat: {line('slots', ALONE, OTHER)}.",
    ]
    if (table["measure"] == TRANSFER).any():
        lines.append(
            "Probes, AUROC trained on the base and read on the tuned model / trained on the tuned "
            f"/ control, shuffled labels: {line('probes', TRANSFER, 'tuned', FLOOR)}."
        )
    if (table["part"] == "lens").any():
        lines.append(f"Lens, an emoji is likelier than not from this block on, base / tuned: "
                     f"{_onset_layers(table, answers)}.")  # fmt: skip
    if kinds:
        lines.append(f"Steering alone, ESR {' / '.join(kinds)}: {line('steered', *kinds)}.")
    return [*lines, (
        "In brackets behind a trait: how much of the tuned model's way up the base goes, given the "
        "text. Latent: over half (adjusted p < 0.05); mixed: less, but over a tenth, or half "
        "without the chat, or steered; learned: none of these."
    )]  # fmt: skip


def _percent(share: float) -> str:
    return f"{share:.1%}" if 0.0005 <= share < 0.01 else f"{share:.0%}"


def _onset_layers(table: pd.DataFrame, answers: dict[str, str]) -> str:
    part = table[table["part"] == "lens"].set_index(["trait", "measure"])["note"]
    return "; ".join(
        f"{trait} " + " / ".join(
            str(part.get((trait, f"from this reading on, {who}"), "no lens"))
            for who in ("base", "tuned")
        )
        for trait in answers
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main(run, LatentConfig))
