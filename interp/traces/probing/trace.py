"""One task from tokens to result: collect the activations, fit, judge."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.base.errors import InputError
from interp.models.given_prompts import Given, as_batch
from interp.readout.question import Question
from interp.traces.probing.features import Features, at_positions, pooled
from interp.traces.probing.fit import About, ProbeConfig, check_classes, fit
from interp.traces.probing.result import ProbeResult
from interp.traces.probing.tasks import Task


@dataclass(frozen=True, eq=False)
class Reading:
    """Which activations a probe sees.

    Attributes:
        site: a key of `interp.probing.features.SITES`.
        layers: blocks, -1 for the embedding; None for all.
        where: positions to pool over, `[batch pos]` (tasks of whole texts only).
        pool: `mean` or `last` (tasks of whole texts only).
    """

    site: str = "resid_post"
    layers: Sequence[int] | None = None
    where: Bool[Tensor, "batch pos"] | None = None
    pool: str = "mean"


RESIDUAL = Reading()


def trace(
    task: Task,
    tokens: Given,
    attention_mask: Int[Tensor, "batch pos"] | Bool[Tensor, "batch pos"] | None = None,
    *,
    base: TransformerBridge,
    tuned: TransformerBridge | None = None,
    reading: Reading = RESIDUAL,
    config: ProbeConfig | None = None,
    ask: Question | None = None,
) -> ProbeResult:
    """Probe base and tuned for one task on the same tokens.

    Args:
        task: of `onset_task` or `trait_task`, made for these tokens.
        tokens: text, texts or ids, see `interp.models.given_prompts`.
        attention_mask: nonzero on real tokens.
        base: its activations train the transferred probe.
        tuned: None to probe one model only.
        reading: which activations; the residual stream after every block if left out.
        config: how to fit.
        ask: rows per forward pass (16 if left out) and progress, see `Question`.

    Raises:
        InputError: if the task was made for other tokens; see also `at_positions` and `pooled`.
        DataError, ModelError: see `fit`.
    """
    batch = as_batch(tokens, base, attention_mask)
    tokens, attention_mask = batch.tokens, batch.attention_mask
    if len(task.text) == 0 or int(task.text.max()) >= len(tokens):
        raise InputError("the task's texts are not among the tokens; make it from the same batch")
    check_classes(task.labels.numpy())  # before reading, which takes long

    def collect(model: TransformerBridge) -> Features:
        if task.pos is None:
            rows = task.text
            return pooled(
                model, tokens[rows], attention_mask[rows],
                how=reading.pool,
                where=None if reading.where is None else reading.where[rows],
                site=reading.site, layers=reading.layers, ask=ask,
            )  # fmt: skip
        return at_positions(
            model, tokens, attention_mask, text=task.text, pos=task.pos,
            site=reading.site, layers=reading.layers, ask=ask,
        )  # fmt: skip

    # Copies of a text never stand on both sides of a fold.
    texts = tokens.masked_fill(~attention_mask.bool(), -1)[task.text]
    groups = Question(topics=task.groups).topics_of(len(texts), texts) or task.groups
    result = fit(
        collect(base), task.labels, groups, tuned=None if tuned is None else collect(tuned),
        about=About(task.name, task.classes, task.types, task.control_split),
        config=config, progress=None if ask is None else ask.progress,
    )  # fmt: skip
    counts = result.counts | task.counts | {"n_texts": len(set(task.text.tolist()))}
    return replace(result, counts=counts)
