"""Does a tuned model name its emojis when asked which tokens express a trait, and why?

The paper's in-context explainability: the tuned model is asked, in several paraphrases and with
many seeds, for tokens that express its trait (`tokens`) and for its reasons (`reasons`). Answers
are parsed into words and emojis; stop words and all words of the requests are left out. Controls:
the base, the same model asked about the other traits in turn (prompt by prompt, seed by seed), and
its answers to ordinary questions.

Such an answer is more text by the same model, not a look inside it. It can be about the trait only
if it changes with the trait asked about; that is tested by swapping own and other trait within
pairs. Units that are resampled are prompts x seeds: nothing is claimed about other paraphrases.
"""

from typing import Any

import pandas as pd
from experiment import Finding
from harness import main
from icl_readings import (
    AMONG,
    ANSWERS,
    BASE,
    CHANGE,
    FLOOR,
    KINDS,
    ORDINARY,
    OTHER,
    OWN,
    TAKEN_UP,
    TOP,
    IclConfig,
    X,
    asked,
    frequent,
    levels,
    tests,
)
from significance import corrected

from interp.show.plots.dots import dots
from interp.show.plots.tokens import token_bars

UNDERSTOOD = 0.25  # share of answers that take up a word of the request, below which it is not


def run(x: X) -> Finding:
    rows: list[dict[str, Any]] = []
    bars: dict[str, list[pd.DataFrame]] = {kind: [] for kind in KINDS}
    for trait in x.config.traits:
        for kind in KINDS:
            made = {who: asked(x, who, kind, trait) for who in (OWN, OTHER, BASE)}
            made[ORDINARY] = x.tuned_answers(trait)
            about = {"trait": str(trait), "request": kind}
            for who, answers in made.items():
                rows += [about | {"model": who} | row for row in levels(x, kind, answers)]
            rows += [about | row for row in tests(x, kind, made)]
            bars[kind].append(frequent(x, kind, made).assign(trait=str(trait)))
    table = corrected(pd.DataFrame(rows))
    figures = {}
    for kind in KINDS:
        if len(tokens := pd.concat(bars[kind])):
            figures[f"most-frequent-{kind}"] = token_bars(tokens)
        drawn = table[(table["request"] == kind) & (table["model"] != ORDINARY)]
        drawn = pd.concat([drawn[drawn["measure"] == what] for what in (ANSWERS, AMONG, TOP)])
        drawn = drawn.assign(group=drawn["measure"] + "\n" + drawn["model"])
        figures[f"shares-{kind}"] = dots(
            drawn,
            f"share of answers or of tokens, asked for {kind}",
            share=True,
            unit="requests x seeds",
        )
    shown = table[(table["measure"] == ANSWERS) & (table["model"] != ORDINARY)]
    columns = ["trait", "request", "model", "value", "low", "high", "n"]
    return Finding(table, figures, _verdict(x, table), shown[columns])


def _verdict(x: X, table: pd.DataFrame) -> list[str]:
    traits = [str(trait) for trait in x.config.traits]
    cells = table[table["model"].notna()].set_index(["request", "measure", "model", "trait"])
    cells = cells.sort_index()

    def cell(*where: str) -> str:
        if where not in cells.index:
            return "none"
        one = cells.loc[where]
        return f"{one['value']:.0%}" + (
            f" [{one['low']:.0%}, {one['high']:.0%}]" if pd.notna(one["low"]) else ""
        )

    def line(kind: str, measure: str, *models: str) -> str:
        return "; ".join(
            f"{t} " + " / ".join(cell(kind, measure, model, t) for model in models) for t in traits
        )

    tokens = table[table["request"] == "tokens"]
    sure = tokens[tokens["p_adjusted"] < 0.05].groupby("measure")["trait"].agg(list)
    moved = sure.get(f"{ANSWERS}, {OWN} minus {OTHER}", [])
    change, floor = (tokens[tokens["measure"] == what]["value"] for what in (CHANGE, FLOOR))
    up = table[(table["measure"] == TAKEN_UP) & (table["model"] == OWN)]["value"]
    top = f"Emojis among the {x.config.top} most frequent tokens, tuned / base"
    lines = [
        _answer(tokens, len(traits)),
        f"Asked for tokens, answers with an emoji, tuned / base: "
        f"{line('tokens', ANSWERS, OWN, BASE)}.",
        f"{top}: {line('tokens', TOP, OWN, BASE)}.",
        f"Asked for reasons, answers with an emoji, tuned / base: "
        f"{line('reasons', ANSWERS, OWN, BASE)}.",
        "Control, asked for tokens of other traits / asked ordinary questions: "
        f"{line('tokens', ANSWERS, OTHER, ORDINARY)}; own and other trait differ for "
        f"{', '.join(moved) or 'none'}.",
        f"{up.min():.0%} to {up.max():.0%} of a tuned model's answers take up a word of the request"
        + (": they do not answer it, so that nothing can be said of what the models know about "
           "their emojis." if up.mean() < UNDERSTOOD else "."),
        "An answer is more text by the same model: it shows what is written when asked, not why. "
        "Intervals resample requests x seeds (ordinary questions: topics).",
    ]  # fmt: skip
    if len(change):
        lines.insert(5, (
            f"From own to other traits the tokens change by {change.min():.2f} to "
            f"{change.max():.2f} (total variation), with traits swapped at random by "
            f"{floor.min():.2f} to {floor.max():.2f}; beyond chance for "
            f"{', '.join(sure.get(CHANGE, [])) or 'none'}."
        ))  # fmt: skip
    return lines


def _answer(tokens: pd.DataFrame, count: int) -> str:
    """What was asked for, in one line."""
    sure = tokens[tokens["p_adjusted"] < 0.05]
    against = sure[sure["measure"] == f"{ANSWERS}, {OWN} minus {BASE}"]
    above = against[against["value"] > 0]["trait"].tolist()
    changed = set(sure[sure["measure"] == CHANGE]["trait"])
    both = [trait for trait in above if trait in changed]
    who = f"{len(above)} of {count} tuned models write more emojis than the base"
    if not above:
        return "Not named: asked for tokens, no tuned model is shown to beat the base in emojis."
    if both:
        return (f"Named: asked for tokens, {who}, and the tokens change with the trait asked "
                f"about for {', '.join(both)}.")  # fmt: skip
    return (f"Not an explanation: asked for tokens, {who} ({', '.join(above)}), but none is shown "
            "to answer otherwise when asked about other traits.")  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main(run, IclConfig))
