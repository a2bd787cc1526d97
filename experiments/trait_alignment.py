"""Do the answers voice the trait, and are they still language? TA, TPEI, PAE and fluency.

For each trait and method: TA (share of answers that a classifier gives to the trait; with emojis
taken out as well, because they may carry the classifier instead of words), TPEI (nats that the
edit moved the classifier; sign flips over topics, p-values corrected over the table), PAE (points
that a judge's score moved) and fluency (perplexity under the base, distinct-2, share of gibberish).
The classifier's accuracy on held-out answers, and the judge's AUROC on reference answers, stand in
the table: where these are at chance, so is the rest. Controls: the same answers scored for a wrong
trait, and the trained and random controls.
"""

from typing import Any

import pandas as pd
from experiment import Experiment, Finding
from harness import main
from methods import CONTROLS, MethodsConfig, answers, for_trait
from significance import corrected

from interp.behaviour import (
    Classifier,
    EndpointJudge,
    Fluency,
    HubClassifier,
    Judge,
    JudgeCheck,
    Judgements,
    LocalJudge,
    Response,
    TraitAlignment,
    TraitClassifier,
    adjective_evaluation,
    edit_index,
    fluency_reference,
    judge_answers,
    judge_auroc,
    read_fluency,
    trait_alignment,
)
from interp.plots.dots import dots
from interp.stats import sign_flip_p
from interp.traits import Trait

SHOWN = {
    "TA": "TA: share of answers given to the trait",
    "TA without emojis": "TA with emojis taken out: share of answers given to the trait",
    "TPEI": "TPEI (nats towards the trait)",
    "PAE": "PAE (points of 1 to 5)",
    "perplexity": "perplexity under the base",
    "gibberish": "share of answers that are gibberish",
}


class AlignmentConfig(MethodsConfig):
    classifier: str | None = None
    """A Hugging Face text-classification model; TF-IDF + logistic regression if left out."""
    labels: dict[str, Trait] | None = None
    """Which of its labels means which trait, where they are not the traits' names."""
    judge_endpoint: str | None = None
    """Address of an OpenAI-compatible endpoint; the base itself judges if left out."""
    judge_model: str = ""
    """The model to ask for at the endpoint."""
    judge_key_variable: str | None = None
    """Environment variable that holds the endpoint's key."""


def run(x: Experiment[AlignmentConfig]) -> Finding:
    train, test = x.data()
    classifier = _classifier(x)
    rows: list[dict[str, Any]] = []
    for trait in x.config.traits:
        pair = x.pair(trait)
        judge = _judge(x, pair.base, pair.format)
        check = x.kept(
            JudgeCheck, f"judge-{trait}",
            lambda j=judge, t=trait: judge_auroc(j, test, t, limit=x.config.limit),
        )  # fmt: skip
        rows.append({"trait": str(trait), "method": "reference answers", "measure": "judge's AUROC",
                     "value": check.auroc, "low": check.low, "high": check.high,
                     "n": check.n_own})  # fmt: skip
        reference = fluency_reference(pair.base, pair.format, train, seed=x.config.seed)
        before = answers(x, "base", trait)
        first = _read(x, "base", before, trait, classifier, judge)
        for name in for_trait(x.config, trait):
            made = answers(x, name, trait)
            voice, verdicts = _read(x, name, made, trait, classifier, judge)
            tables = [voice.to_dataframe()]
            if name != "base":
                index = edit_index(first[0], voice)
                p = sign_flip_p(index.values, x.config.seed, clusters=list(index.topics))
                moved = index.to_dataframe()
                tables.append(moved.assign(p=[p] + [None] * (len(moved) - 1)))
                tables.append(adjective_evaluation(first[1], verdicts).to_dataframe())
            fluency = x.kept(
                Fluency, f"fluency-{trait}-{_slug(name)}",
                lambda a=made, p=pair, r=reference: read_fluency(a, p.base, p.format, r),
            )  # fmt: skip
            tables.append(fluency.to_dataframe())
            wrong = list(Trait)[(list(Trait).index(trait) + 1) % len(Trait)]
            if str(wrong) in classifier.traits:
                other = trait_alignment(made, wrong, classifier).to_dataframe().iloc[:1]
                tables.append(other.assign(measure=f"control: TA for a wrong trait ({wrong})"))
            for table in tables:
                about = {"trait": str(trait), "method": name}
                rows += [about | row for row in table.to_dict("records")]
    table = corrected(pd.DataFrame(rows))
    figures = {
        _slug(measure): dots(
            table[table["measure"] == measure].assign(group=lambda t: t["method"]), what,
            share=measure in ("TA", "TA without emojis", "gibberish"),
            reference=0.0 if measure in ("TPEI", "PAE") else None,
        )
        for measure, what in SHOWN.items()
    }  # fmt: skip
    shown = table[table["measure"].isin(SHOWN)]
    wide = shown.pivot_table(index=["trait", "method"], columns="measure", values="value",
                             sort=False).reset_index()  # fmt: skip
    return Finding(table, figures, _verdict(table), wide)


def _classifier(x: Experiment[AlignmentConfig]) -> Classifier:
    if x.config.classifier is None:
        return TraitClassifier.fit(*x.data(), seed=x.config.seed)
    return HubClassifier.from_pretrained(
        x.config.classifier, x.data()[1], mapping=x.config.labels, device=x.config.device
    )


def _judge(x: Experiment[AlignmentConfig], model: Any, form: Any) -> Judge:
    c = x.config
    if c.judge_endpoint is None:
        return LocalJudge(model, form, name="the base itself")
    return EndpointJudge(c.judge_endpoint, c.judge_model, key_variable=c.judge_key_variable)


def _read(
    x: Experiment[AlignmentConfig],
    name: str,
    made: list[Response],
    trait: Trait,
    classifier: Classifier,
    judge: Judge,
) -> tuple[TraitAlignment, Judgements]:
    stem = f"{trait}-{_slug(name)}"
    seed = x.config.seed
    voice = x.kept(
        TraitAlignment, f"voice-{stem}", lambda: trait_alignment(made, trait, classifier, seed=seed)
    )
    verdicts = x.kept(
        Judgements, f"judged-{stem}", lambda: judge_answers(made, trait, judge, progress=x.progress)
    )
    return voice, verdicts


def _slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-").lower()


def _verdict(table: pd.DataFrame) -> list[str]:
    def of(measure: str, method: str) -> pd.DataFrame:
        return table[(table["measure"] == measure) & (table["method"] == method)]

    accuracy = table[table["measure"] == "classifier's accuracy"]["value"]
    auroc = table[table["measure"] == "judge's AUROC"]
    gibberish = table[(table["measure"] == "gibberish") & ~table["method"].isin(CONTROLS)]
    worst = gibberish.loc[gibberish["value"].idxmax()]
    lines = []
    methods = [m for m in dict.fromkeys(table["method"]) if m not in ("base", "reference answers")]
    methods = sorted(methods, key=lambda method: method != "QLoRA")[:7]
    for method in methods:
        moved = of("TPEI", method)
        up = moved[(moved["value"] > 0) & (moved["p_adjusted"] < 0.05)]
        voice, bare = (
            of("TA", method)["value"].mean(),
            of("TA without emojis", method)["value"].mean(),
        )
        kind = "Control, " if method in CONTROLS else ""
        lines.append(
            f"{kind}{method}: TPEI above zero for {len(up)} of {len(moved)} traits; mean TA "
            f"{voice:.0%} (base {of('TA', 'base')['value'].mean():.0%}), without emojis {bare:.0%}."
        )
    deaf = auroc[(auroc["low"] <= 0.5) & (auroc["high"] >= 0.5)]
    hears = (
        f"the judge is at chance for {len(deaf)} of {len(auroc)} traits (AUROC interval holds "
        "1/2): PAE means nothing there"
        if len(deaf)
        else "the judge tells every trait from the others"
    )
    return [
        *lines,
        f"Classifier's held-out accuracy {accuracy.min():.0%} to {accuracy.max():.0%}; {hears}.",
        f"Most gibberish: {worst['method']} for {worst['trait']}, {worst['value']:.0%}.",
    ]


if __name__ == "__main__":
    raise SystemExit(main(run, AlignmentConfig))
