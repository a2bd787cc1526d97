"""The dose curve: what is left of the emojis after ablating the top k neurons, k = 1, 2, 4, ...

A ranking claims that few neurons drive the emojis. If so, ablating them brings the share of answers
with an emoji down, and ablating as many matched random neurons does not. Answers are generated
under the ablation, every question with the same dice at every dose, so that `k = 0` is the model as
it is and doses are paired. The emoji log-odds at given prompts are read under the same ablations.

Ablations share batches (rows with different sets), so a curve costs as much as generating
`1 + len(using) * (1 + draws) * len(ks)` answers per question in large batches.

Sign: smaller is more ablated away.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.memory import rounding
from interp.base.progress import Progress
from interp.behaviour.generate import Sampling, generate
from interp.models.tokens import ChatFormat
from interp.readout.metric import label, resolve, unit_of
from interp.readout.question import Metric, Question, asked
from interp.readout.run import Run
from interp.text.emoji import find
from interp.traces.neurons.ablated_metric import metric_under
from interp.traces.neurons.ablation import Ablation, ablated, mean_activations
from interp.traces.neurons.dose_result import DoseCurve
from interp.traces.neurons.rank import control_sets
from interp.traces.neurons.rank_result import NeuronRanking
from interp.traces.patching.chunks import metric_of_rows

KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SAMPLING = Sampling()
Key = tuple[int, int, int]


@dataclass(frozen=True)
class Doses:
    """What is ablated.

    Attributes:
        ks: how many neurons; those beyond the ranked ones are left out.
        using: `mean`, `zero`, or both.
        draws: sets of controls per `k`.
    """

    ks: Sequence[int] = KS
    using: Sequence[str] = ("mean", "zero")
    draws: int = 3


ALL_DOSES = Doses()


def dose(
    run: Run,
    ranking: NeuronRanking,
    form: ChatFormat,
    questions: Sequence[tuple[str, str]] = (),
    *,
    doses: Doses = ALL_DOSES,
    sampling: Sampling = SAMPLING,
    metric: Metric | None = None,
    ask: Question | None = None,
) -> DoseCurve:
    """Ablate the top `k` of a ranking, for every `k`, beside matched random neurons.

    Args:
        run: the model to ablate in (the tuned one), and the prompts at whose last token the
            log-odds are read; means are over all their attended tokens.
        ranking: whose neurons.
        form: how questions become ids.
        questions: pairs of question and topic to answer; without any, only log-odds are read.
        doses: how many neurons, taken away how, beside how many controls.
        sampling: how answers are drawn; the question says how many at a time.
        metric: short for `ask=Question(metric=...)`.
        ask: metric, topics of the prompts, seed of the controls, and answers or prompts per batch
            (128 if left out), see `Question`.

    Raises:
        InputError: for a `k` below 1 or none left, an unknown `using`, topics that do not match, or
            a ranking of neurons that the model does not have.
        ModelError: if prompt and answer do not fit the model's context.
    """
    ask, using, draws = asked(ask, metric), doses.using, doses.draws
    ks = sorted({k for k in doses.ks if k <= len(ranking.order)})
    if not ks or ks[0] < 1:
        raise InputError(
            f"ks must lie in 1..{len(ranking.order)} (the ranked neurons); got {doses.ks}"
        )
    if not using:
        raise InputError("name at least one way of ablating (mean, zero)")
    topics, rows, progress = ask.topics_of(len(run.tokens)), ask.batch_size or 128, ask.progress
    metric = resolve(ask.metric, run.model)
    plan, sizes = _plan(ranking, ks, tuple(using), draws, ask.seed)
    means = mean_activations(run, ranking.layers) if "mean" in using else None
    keys, ablations = list(plan), [Ablation(), *plan.values()]
    odds = metric_under(run, ablations, metric, means=means, rows=rows, progress=progress)
    one = Run(run.model, run.tokens[:1], run.mask[:1])
    alone = metric_under(one, ablations[:1], metric_of_rows(metric, [0], len(run.tokens)))
    wrote = _wrote(run.model, form, questions, ablations, means, sampling, rows, progress)
    shape = (len(using), 1 + draws, len(ks))
    return DoseCurve(
        wrote=_table(wrote[1:], keys, shape), wrote_before=wrote[0],
        log_odds=_table(odds[1:], keys, shape), log_odds_before=odds[0],
        control_size=sizes, ks=tuple(ks), usings=tuple(using),
        neurons=tuple(ranking.top(ks[-1])), topics=tuple(topic for _, topic in questions),
        prompt_topics=tuple(topics or [f"prompt {row}" for row in range(len(run.tokens))]),
        metric=label(metric), unit=unit_of(metric), seed=ask.seed,
        noise_floor=rounding(odds[:1, :1], alone, float(odds.abs().max())),
    )  # fmt: skip


def _plan(
    ranking: NeuronRanking, ks: Sequence[int], using: tuple[str, ...], draws: int, seed: int
) -> tuple[dict[Key, Ablation], Float[Tensor, "draw k"]]:
    """The ablation of every (using, set, k), and how well the controls' sizes match."""
    plan: dict[Key, Ablation] = {}
    sizes = torch.full((draws, len(ks)), torch.nan)
    for i, k in enumerate(ks):
        sets = [ranking.top(k)]
        controls = control_sets(ranking, k, draws, seed + i)
        if controls is not None:
            sets += [[ranking.neuron(index) for index in draw] for draw in controls.tolist()]
            own = ranking.size[ranking.order[:k]].mean()
            sizes[:, i] = ranking.size[controls].mean(1) / own
        for u, way in enumerate(using):
            for s, some in enumerate(sets):
                plan[u, s, i] = Ablation(tuple(some), way)
    return plan, sizes


def _wrote(
    model: Any,
    form: ChatFormat,
    questions: Sequence[tuple[str, str]],
    ablations: Sequence[Ablation],
    means: dict[int, Tensor] | None,
    sampling: Sampling,
    rows: int,
    progress: Progress | None,
) -> Float[Tensor, "ablation question"]:
    """Whether each answer under each ablation holds an emoji."""
    n = len(questions)
    if not n:
        return torch.zeros(len(ablations), 0)
    answers = generate(
        model, form, list(questions) * len(ablations), replace(sampling, batch_size=rows),
        streams=list(range(n)) * len(ablations),
        under=lambda some: ablated(model, [ablations[row // n] for row in some], means),
        progress=progress, label="answers under ablation",
    )  # fmt: skip
    hits = [float(bool(find(answer.text))) for answer in answers]
    return rearrange(torch.tensor(hits), "(dose answer) -> dose answer", answer=n)


def _table(
    values: Float[Tensor, "ablation item"], keys: list[Key], shape: tuple[int, int, int]
) -> Float[Tensor, "using set k item"]:
    table = torch.full((*shape, values.shape[1]), torch.nan)
    for key, row in zip(keys, values, strict=True):
        table[key] = row
    return table
