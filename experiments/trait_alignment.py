"""Do the answers voice the trait, and are they still language? TA, TPEI, PAE and fluency.

For each trait and method: TA (share of answers that a classifier gives to the trait; with emojis
taken out as well, because they may carry the classifier instead of words), TPEI (nats that the
edit moved the classifier; sign flips over topics, p-values corrected over the table), PAE (points
that a jury's score moved: it reads all methods' answers shuffled and unnamed) and fluency
(perplexity under the base, distinct-2, share of gibberish). The classifier's accuracy on held-out
answers, each judge's AUROC on reference answers and the jury's agreement stand in the table; a
judge at chance is left out. Controls: the same answers scored for a wrong trait, and the trained
and random controls.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd
from experiment import Experiment, Finding
from harness import main
from methods import CONTROLS, MethodsConfig, answers, for_trait
from significance import corrected, some, written

from interp.base.stats import sign_flip_p
from interp.base.traits import TRAITS, Trait
from interp.behaviour import Response
from interp.behaviour.shares import Rows
from interp.errors import InputError
from interp.measures import (
    Classifier,
    ClassifierJudge,
    EndpointJudge,
    Fluency,
    HubClassifier,
    Judge,
    Jury,
    LocalJudge,
    TraitAlignment,
    TraitClassifier,
    adjective_evaluation,
    edit_index,
    fluency_reference,
    hear,
    read_fluency,
    trait_alignment,
)
from interp.show.plots.dots import dots

SHOWN = {
    "TA": "TA: share of answers given to the trait",
    "TA without emojis": "TA with emojis taken out: share of answers given to the trait",
    "TPEI": "TPEI (nats towards the trait)",
    "PAE": "PAE (points of 1 to 5)",
    "perplexity": "perplexity under the base",
    "gibberish": "share of answers that are gibberish",
}
WRONG = "control: TA for a wrong trait"
AUROC = "judge's AUROC: "


class AlignmentConfig(MethodsConfig):
    classifier: str | None = None
    """A Hugging Face text-classification model; TF-IDF + logistic regression if left out."""
    labels: dict[str, Trait] | None = None
    """Which of its labels means which trait, where they are not the traits' names."""
    judge_endpoint: str | None = None
    """Address of an OpenAI-compatible endpoint; the base itself judges if left out."""
    judge_models: tuple[str, ...] = ()
    """The models to ask for at the endpoint; beside them the classifier sits in the jury."""
    judge_key_variable: str | None = None
    """Environment variable that holds the endpoint's key."""


def run(x: Experiment[AlignmentConfig]) -> Finding:
    train, _ = x.data()
    classifier = _classifier(x)
    rows: list[dict[str, Any]] = []
    whole: dict[str, list[tuple[TraitAlignment, Fluency]]] = {}
    for trait in x.config.traits:
        pair = x.pair(trait)
        reference = fluency_reference(pair.base, pair.format, train, seed=x.config.seed)
        jury = _jury(x, trait, classifier)
        about = {"trait": str(trait), "method": "reference answers"}
        if isinstance(jury, Jury):
            rows += [about | row for row in jury.to_dataframe().to_dict("records")]
        else:
            rows.append(about | {"measure": "no jury", "note": jury})
        first = _voice(x, "base", answers(x, "base", trait), trait, classifier)
        for name in for_trait(x.config, trait):
            made = answers(x, name, trait)
            voice = _voice(x, name, made, trait, classifier)
            tables = [voice.to_dataframe()]
            if name != "base":
                index = edit_index(first, voice)
                p = sign_flip_p(index.values, x.config.seed, topics=list(index.topics))
                moved = index.to_dataframe()
                tables.append(moved.assign(p=[p] + [None] * (len(moved) - 1)))
                if isinstance(jury, Jury):
                    pae = adjective_evaluation(jury.of("base"), jury.of(name))
                    tables.append(pae.to_dataframe())
            fluency = x.kept(
                Fluency, f"fluency-{trait}-{_slug(name)}",
                lambda a=made, p=pair, r=reference: read_fluency(a, p.base, p.format, r),
            )  # fmt: skip
            tables.append(fluency.to_dataframe())
            whole.setdefault(name, []).append((voice, fluency))
            if wrong := _wrong(trait, classifier):
                other = trait_alignment(made, wrong, classifier).to_dataframe().iloc[:1]
                tables.append(other.assign(measure=f"{WRONG} ({wrong})"))
            for table in tables:
                about = {"trait": str(trait), "method": name}
                rows += [about | row for row in table.to_dict("records")]
    table = corrected(pd.DataFrame(rows))
    figures = {
        _slug(measure): dots(
            table[table["measure"] == measure].assign(group=lambda t: t["method"]), what,
            share=measure in ("TA", "TA without emojis", "gibberish"),
            reference=0.0 if measure in ("TPEI", "PAE") else None,
            noun="token" if measure == "perplexity" else "answer", unit="topics",
        )
        for measure, what in SHOWN.items() if some(table, measure)
    }  # fmt: skip
    shown = table[table["measure"].isin(SHOWN)]
    wide = shown.pivot_table(index=["trait", "method"], columns="measure", values="value",
                             sort=False).reset_index()  # fmt: skip
    return Finding(table, figures, _verdict(x, table, whole), wide)


def _wrong(trait: Trait, classifier: Classifier) -> Trait | None:
    """The label after the trait, of the Big Five or else of the classifier's, if it knows it."""
    known = TRAITS if trait in TRAITS else tuple(map(Trait, classifier.traits))
    wrong = known[(known.index(trait) + 1) % len(known)]
    return wrong if wrong != trait and wrong in classifier.traits else None


def _classifier(x: Experiment[AlignmentConfig]) -> Classifier:
    if x.config.classifier is None:
        return TraitClassifier.fit(*x.data(), seed=x.config.seed)
    return HubClassifier.from_pretrained(
        x.config.classifier, x.data()[1], mapping=x.config.labels, device=x.config.device
    )


def _jury(x: Experiment[AlignmentConfig], trait: Trait, classifier: Classifier) -> Jury | str:
    """What the jury said of all methods' answers, or why there is none."""
    c, pair = x.config, x.pair(trait)
    judges: list[Judge] = [ClassifierJudge(classifier)]
    if c.judge_endpoint is None:
        judges.append(LocalJudge(pair.base, pair.format, name="the base itself"))
    for model in c.judge_models if c.judge_endpoint else ():
        judges.append(EndpointJudge(c.judge_endpoint, model, key_variable=c.judge_key_variable))
    made = {name: answers(x, name, trait) for name in dict.fromkeys(("base", *for_trait(c, trait)))}
    try:
        return x.kept(
            Jury, f"jury-{trait}",
            lambda: hear(made, trait, judges, x.data()[1], limit=c.limit, seed=c.seed,
                         progress=x.progress),
        )  # fmt: skip
    except InputError as problem:
        return str(problem)


def _voice(
    x: Experiment[AlignmentConfig],
    name: str,
    made: list[Response],
    trait: Trait,
    classifier: Classifier,
) -> TraitAlignment:
    return x.kept(
        TraitAlignment, f"voice-{trait}-{_slug(name)}",
        lambda: trait_alignment(made, trait, classifier, seed=x.config.seed),
    )  # fmt: skip


def _slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-").lower()


def _verdict(
    x: Experiment[AlignmentConfig],
    table: pd.DataFrame,
    whole: dict[str, list[tuple[TraitAlignment, Fluency]]],
) -> list[str]:
    """TPEI by trait; TA and gibberish of all traits' answers together."""
    moved = table[(table["measure"] == "TPEI") & (table["p_adjusted"] < 0.05)]

    def share(method: str, of: Callable[[TraitAlignment, Fluency], list[bool]]) -> str:
        held = [(hit, topic) for read in whole[method]
                for hit, topic in zip(of(*read), read[0].topics, strict=True)]  # fmt: skip
        hits, topics = [hit for hit, _ in held], [topic for _, topic in held]
        return written(Rows(0.95, x.config.seed).rate("", hits, topics))

    def line(method: str) -> str:
        values = moved[moved["method"] == method]["value"]
        up, down, all_traits = (values > 0).sum(), (values < 0).sum(), len(whole[method])
        text = (f"{method}: TPEI above zero for {up}, below for {down} of {all_traits} traits; TA "
                f"{share(method, lambda v, _: v.hits)}, without emojis "
                f"{share(method, lambda v, _: v.bare_hits)}; gibberish "
                f"{share(method, lambda _, f: f.gibberish)}.")  # fmt: skip
        if method in CONTROLS:
            return f"Control, {text}"
        if method != "QLoRA":
            return text
        answer = "Voiced" if up == all_traits else "Partly voiced" if up else "Not voiced"
        base = table[(table["measure"] == "TA") & (table["method"] == "base")]["value"]
        return f"{answer}. {text[:-1]} (base: TA {base.min():.0%} to {base.max():.0%} by trait)."

    methods = [method for method in whole if method != "base"]
    kept = sorted(methods, key=lambda m: (m != "QLoRA", m not in CONTROLS))[:7]
    kept.sort(key=lambda m: (m != "QLoRA", m in CONTROLS, methods.index(m)))
    accuracy = table[table["measure"] == "classifier's accuracy"]["value"]
    wrong = table[table["measure"].str.startswith(WRONG) & (table["method"] != "base")]
    lines = [line(method) for method in kept]
    if len(wrong):
        top, lora = wrong.loc[wrong["value"].idxmax()], wrong[wrong["method"] == "QLoRA"]
        most = f"at most {written(top)} ({top['method']} for {top['trait']})"
        if len(lora):
            most = f"{written(lora.loc[lora['value'].idxmax()])} at most for QLoRA, {most} for any"
        lines.append(f"Control, the same answers scored for a wrong trait: TA {most}.")
    lines.append(
        f"Classifier's held-out accuracy {accuracy.min():.0%} to {accuracy.max():.0%}. "
        + _of_jury(table)
    )
    return lines


def _of_jury(table: pd.DataFrame) -> str:
    """Who judged, who was left out, and how far they agree."""
    heard = table[table["measure"].str.startswith("judge's AUROC")]
    alpha = table[table["measure"] == "Krippendorff's alpha"].dropna(subset="value")
    out = heard[heard["note"] != ""]
    left = [f"{judge.removeprefix(AUROC)} for {', '.join(part['trait'])}"
            for judge, part in out.groupby("measure", sort=False)]  # fmt: skip
    without = table[table["measure"] == "no jury"]["trait"].tolist()
    said = f"PAE's judges left out, not above chance: {'; '.join(left) or 'none'}"
    if without:
        said += f"; no judge, so no PAE: {', '.join(without)}"
    agree = ", ".join(f"{row['trait']} {row['value']:.2f}" for _, row in alpha.iterrows())
    return f"{said}. Krippendorff's alpha of the others: {agree or 'nowhere two judges'}."


if __name__ == "__main__":
    raise SystemExit(main(run, AlignmentConfig))
