"""One task from tokens to result: collect the activations, fit, judge."""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Bool, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InputError
from interp.probing.features import Features, at_positions, pooled
from interp.probing.fit import ProbeConfig, fit
from interp.probing.result import ProbeResult
from interp.probing.tasks import Task
from interp.progress import Progress


def trace(
    task: Task,
    tokens: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"] | Bool[Tensor, "batch pos"] | None = None,
    *,
    base: TransformerBridge,
    tuned: TransformerBridge | None = None,
    where: Bool[Tensor, "batch pos"] | None = None,
    pool: str = "mean",
    site: str = "resid_post",
    layers: Sequence[int] | None = None,
    batch_size: int = 16,
    config: ProbeConfig | None = None,
    progress: Progress | None = None,
) -> ProbeResult:
    """Probe base and tuned for one task on the same tokens.

    Args:
        task: of `onset_task` or `trait_task`, made for these tokens.
        tokens: ids, `[batch, pos]`.
        attention_mask: nonzero on real tokens.
        base: its activations train the transferred probe.
        tuned: None to probe one model only.
        where: positions to pool over (tasks of whole texts only).
        pool: `mean` or `last` (tasks of whole texts only).
        site: a key of `interp.probing.features.SITES`.
        layers: blocks, -1 for the embedding; None for all.
        batch_size: rows per forward pass.
        config: how to fit.
        progress: called with (label, done, total).

    Raises:
        InputError: if the task was made for other tokens; see also `at_positions` and `pooled`.
        DataError, ModelError: see `fit`.
    """
    if len(task.text) == 0 or int(task.text.max()) >= len(tokens):
        raise InputError("the task's texts are not among the tokens; make it from the same batch")

    def collect(model: TransformerBridge) -> Features:
        if task.pos is None:
            rows = task.text
            return pooled(
                model, tokens[rows], None if attention_mask is None else attention_mask[rows],
                how=pool, where=None if where is None else where[rows],
                site=site, layers=layers, batch_size=batch_size, progress=progress,
            )  # fmt: skip
        return at_positions(
            model, tokens, attention_mask, text=task.text, pos=task.pos,
            site=site, layers=layers, batch_size=batch_size, progress=progress,
        )  # fmt: skip

    result = fit(
        collect(base), task.labels, task.groups, tuned=None if tuned is None else collect(tuned),
        types=task.types, control_split=task.control_split, name=task.name, classes=task.classes,
        config=config, progress=progress,
    )  # fmt: skip
    texts = {"n_texts": len(set(task.text.tolist()))}
    return replace(result, counts=result.counts | task.counts | texts)
