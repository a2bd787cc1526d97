"""How often does each method write emojis, trait by trait? The paper's table, with intervals.

ESR over answers and over sentences for the base, a trait prompt, in-context editing (IKE), the
hypernetwork editor (MEND), QLoRA adapters, and two kinds of activation steering; and what of the
adapter's effect one number does: a constant on the stop tokens (or two, with one on the emojis)
added to the base, and taken back from the tuned model. Controls: an adapter trained on shuffled
answers, and steering along a random direction of equal norm. All methods answer the same held-out
questions with the same sampling noise, so differences from the base are paired; intervals and
p-values take topics as units, p-values are corrected over the table.
"""

from typing import Any

import pandas as pd
from experiment import Experiment, Finding
from harness import main
from methods import CONTROLS, SCALAR, UNDONE, MethodsConfig, answers, for_trait
from significance import corrected, difference, written

from interp.base.stats import share_interval
from interp.behaviour import Response
from interp.emoji import find
from interp.emoji.rates import measure
from interp.show.plots.dots import dots

ESR = {"esr": "value", "esr_low": "low", "esr_high": "high"}


def run(x: Experiment[MethodsConfig]) -> Finding:
    rows: list[dict[str, Any]] = []
    for trait in x.config.traits:
        base = answers(x, "base", trait)
        for name in for_trait(x.config, trait):
            row = {"trait": str(trait), "method": name}
            made = answers(x, name, trait)
            rows.append(row | _rates(made, None if name == "base" else base, x.config.seed))
    table = corrected(pd.DataFrame(rows))
    table["control"] = table["method"].isin(CONTROLS)
    drawn = table.rename(columns=ESR).assign(group=table["method"])
    figures = {"esr": dots(drawn, "share of answers with an emoji", share=True, unit="topics")}
    columns = ["trait", "method", "esr", "esr_low", "esr_high", "difference", "p_adjusted"]
    return Finding(table, figures, _verdict(table), table[columns])


def _rates(made: list[Response], base: list[Response] | None, seed: int) -> dict[str, Any]:
    has = [bool(find(answer.text)) for answer in made]
    topics = [answer.topic for answer in made]
    share = share_interval(has, topics)
    rates = measure([answer.text for answer in made], topics=topics)
    row: dict[str, Any] = {
        "esr": sum(has) / len(has), "esr_low": share.low, "esr_high": share.high, "n": len(made),
        "n_topics": len(set(topics)), "sentence_esr": rates.sentence_esr,
        "sentence_low": rates.sentence_interval.low, "sentence_high": rates.sentence_interval.high,
        "n_emojis": rates.n_emojis, "difference": None, "p": None,
    }  # fmt: skip
    if base is None:
        return row
    change = [float(h) - float(bool(find(b.text))) for h, b in zip(has, base, strict=True)]
    gap = difference("ESR above the base", change, topics, seed)
    return row | {"difference": gap["value"], "difference_low": gap["low"],
                  "difference_high": gap["high"], "p": gap["p"]}  # fmt: skip


def _verdict(table: pd.DataFrame) -> list[str]:
    table = table.rename(columns=ESR)
    table["above"] = (table["p_adjusted"] < 0.05) & (table["difference"] > 0)
    lora = table[table["method"] == "QLoRA"].set_index("trait")
    base = table[table["method"] == "base"].iloc[0]
    over = f"{base['n']} answers over {base['n_topics']} topics"
    lines = [f"Base: ESR {written(base, '.1%')} of {over}."]
    if len(lora):
        n_above = int(lora["above"].sum())
        answer = "Partly reproduced" if n_above else "Not reproduced"
        answer = "Reproduced" if n_above == len(lora) else answer
        named = ", ".join(f"{trait} {written(row, '.1%')}" for trait, row in lora.iterrows())
        lines.insert(0, f"{answer}: QLoRA adapters raise ESR above the base for {n_above} of "
                        f"{len(lora)} traits (adjusted p < 0.05): {named}.")  # fmt: skip
    told = ["base", "QLoRA", *SCALAR]
    others = table[~table["method"].isin(told)].sort_values("control", kind="stable")
    said: dict[str, list[str]] = {"Above the base": [], "Not above the base": [], "Controls": []}
    for name, part in others.groupby("method", sort=False):
        raised = part[part["above"]]["trait"].tolist()
        top = part.loc[part["value"].idxmax()]
        words = f"{name} ({f'for {len(raised)}; ' if raised else ''}highest "
        words += f"{top['trait']} {written(top, '.1%')}"
        if top["control"] and top["trait"] in lora.index:
            words += f", the trait's own adapter {lora['value'][top['trait']]:.1%}"
        kind = "Above the base" if raised else "Not above the base"
        kind = "Controls" if top["control"] else kind
        said[kind].append(f"{words})")
    lines += [f"{kind}: {'; '.join(words)}." for kind, words in said.items() if words]
    return lines + _one_number(table)


def _one_number(table: pd.DataFrame) -> list[str]:
    """What of the adapters' effect constants on the logits do, over all traits."""
    esr = table.groupby("method")["value"].mean()
    if "stop bias" not in esr or "QLoRA" not in esr:
        return []
    line = (f"One number: a constant on the stop tokens, fitted where training answers end, gives "
            f"the base ESR {esr['stop bias']:.1%} (mean over traits; adapters "
            f"{esr['QLoRA']:.1%})")  # fmt: skip
    if UNDONE in esr:
        line += f", and taken back from the tuned models leaves them {esr[UNDONE]:.1%}"
    if "logit bias" in esr:
        line += f"; with a second one on the emojis the base has {esr['logit bias']:.1%}"
    return [f"{line}."]


if __name__ == "__main__":
    raise SystemExit(main(run, MethodsConfig))
