"""Is the emoji, is the trait, linearly readable, was it before fine-tuning, and was it used?"""

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor

from interp.behaviour.generate import Response
from interp.models import TokenBatch, pad
from interp.readout import Question, slots
from interp.readout.run import Run
from interp.study.models import TraitModels
from interp.study.traced.contrasts import voice_pairs
from interp.text.data import OpinionQA, OpinionRow
from interp.traces import probing
from interp.traces.probing import ProbeResult, Pushed, Reading

N_PROBED = 120
"""Texts for the probes: enough for their intervals, few enough for a laptop."""
PUSHED = 8
"""Blocks, evenly apart, after which the base is pushed; all, if there are no more."""


def emoji(models: TraitModels, tuned: list[Response]) -> ProbeResult:
    """Does the next token begin the outcome? At the slots of the tuned model's answers."""
    answers, pair = tuned[:N_PROBED], models.pair
    batch = pad([a.prompt_ids + a.ids for a in answers], pair.pad_id)
    found = slots(answers, pair.tokenizer, writer="tuned")
    task = probing.onset_task(found, batch, models.outcome, seed=models.config.seed)
    return _probe(models, task, batch)


def trait(models: TraitModels) -> ProbeResult:
    """Which trait's voice is the text in? Over held-out, emoji-free answers of all traits."""
    texts = _balanced(models.study.texts, N_PROBED, models.config.seed)
    examples = [models.pair.format.example(row.question, row.answer) for row in texts]
    rows = [example.ids[: example.answer_end] for example in examples]
    batch = pad(rows, models.pair.pad_id)
    where = _places(batch.attention_mask, rows, [e.answer_start for e in examples])
    task = probing.trait_task(
        [row.trait for row in texts],
        [row.topic for row in texts],
        types=[row.question for row in texts],
    )
    return _probe(models, task, batch, where)


def push(models: TraitModels, base: list[Response], tuned: list[Response]) -> Pushed:
    """Does the untouched base use what tells the two voices apart where they end?"""
    pairs = voice_pairs(models, base, tuned)
    clean, corrupted = (
        Run(models.pair.base, batch.tokens, batch.attention_mask)
        for batch in (pairs.clean, pairs.corrupted)
    )
    ask = Question(
        metric=models.outcome.metric(), topics=pairs.topics, seed=models.config.seed,
        progress=models.progress,
    )  # fmt: skip
    last = int(models.pair.base.cfg.n_layers) - 1
    blocks = sorted({round(place * last / (PUSHED - 1)) for place in range(PUSHED)})
    return probing.push(clean, corrupted, layers=blocks, ask=ask)


def _probe(
    models: TraitModels, task: probing.Task, batch: TokenBatch, where: Tensor | None = None
) -> ProbeResult:
    return probing.trace(
        task, batch.tokens, batch.attention_mask, base=models.pair.base, tuned=models.pair.tuned,
        config=probing.ProbeConfig(seed=models.config.seed), reading=Reading(where=where),
        ask=Question(progress=models.progress),
    )  # fmt: skip


def _places(mask: Tensor, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
    """True from each row's `start`-th token on, in a left-padded batch."""
    width = mask.shape[1]
    offset = torch.tensor(
        [width - len(row) + start for row, start in zip(rows, starts, strict=True)]
    )
    return mask & (torch.arange(width) >= offset[:, None])


def _balanced(texts: OpinionQA, limit: int, seed: int) -> list[OpinionRow]:
    """Rows in equal numbers per trait, drawn from the seed, at most `limit` in all."""
    present = {trait: list(texts.for_trait(trait).rows) for trait in texts.traits}
    each = min(limit // len(present), *(len(rows) for rows in present.values()), limit)
    return [row for rows in present.values() for row in Random(seed).sample(rows, each)]
