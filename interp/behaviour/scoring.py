"""Log-probabilities of given continuations: what judges, questionnaires and fluency read.

Rows are padded with explicit positions and masks, so that a row's numbers do not depend on what
else is in its batch (up to rounding), and only the last positions' logits are made. What all rows
of a batch begin with (the options of a questionnaire, an answer before its adjectives) is run once
and its keys and values are shared. Cost: one forward pass per distinct context, less what is
shared; `batch_size * longest continuation * vocab` floats at a time.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.base import memory
from interp.base.devices import input_device
from interp.base.errors import InputError, ModelError
from interp.base.progress import Progress
from interp.models.tokens import pad

Ids = Sequence[int]
_WORTH_SHARING = 8


@torch.no_grad()
def tail_logits(
    model: Any,
    rows: Sequence[Ids],
    keep: Sequence[int],
    pad_with: int,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
    label: str = "reading",
) -> Iterator[tuple[int, Float[Tensor, "kept vocab"]]]:
    """Logits at the last `keep[i]` positions of each row, float32, on the CPU.

    Args:
        model: a hooked model or a Hugging Face causal model.
        rows: ids, one row each.
        keep: how many positions of each row.
        pad_with: id to pad with.
        batch_size: rows at a time; they are sorted by length first.
        progress: called with `(label, done, total)`.
        label: what the progress is called.

    Yields:
        index of the row and its logits, in no particular order.

    Raises:
        ModelError: if a row is longer than the model's context.
    """
    network = getattr(model, "original_model", model)
    check_context(network, max(map(len, rows), default=0))
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))

    def read(places: list[int]) -> Float[Tensor, "batch kept vocab"]:
        part = [order[place] for place in places]
        return _read(network, [rows[i] for i in part], [keep[i] for i in part], pad_with)

    batches = memory.in_batches(
        len(order), batch_size, read, what=label, device=input_device(network), progress=progress,
    )  # fmt: skip
    for places, logits in batches:
        for place, index in enumerate(order[i] for i in places):
            yield index, logits[place, logits.shape[1] - keep[index] :]


def _read(
    network: Any, rows: Sequence[Ids], keep: Sequence[int], pad_with: int
) -> Float[Tensor, "batch kept vocab"]:
    """Logits at the last `max(keep)` positions of one batch, float32, on the CPU."""
    takes = inspect.signature(network.forward).parameters
    shared = _shared(rows, keep) if "past_key_values" in takes and "position_ids" in takes else 0
    extra: dict[str, Any] = {"use_cache": False}
    if shared >= _WORTH_SHARING and len(rows) > 1:
        head = torch.tensor([list(rows[0][:shared])], device=input_device(network))
        past = network(input_ids=head, use_cache=True).past_key_values
        past.batch_repeat_interleave(len(rows))
        extra = {"past_key_values": past, "use_cache": True}
    else:
        shared = 0
    batch = pad([row[shared:] for row in rows], pad_with).to(input_device(network))
    before = torch.ones(len(rows), shared, dtype=torch.bool, device=input_device(network))
    mask = torch.cat([before, batch.attention_mask], 1).long()
    if "position_ids" in takes:
        extra["position_ids"] = (mask.cumsum(-1) - 1).clamp_min(0)[:, shared:]
    if "logits_to_keep" in takes:
        extra["logits_to_keep"] = max(keep)
    made = network(input_ids=batch.tokens, attention_mask=mask, **extra)
    logits: Tensor = made.logits[:, -max(keep) :].float().cpu()
    return logits


def _shared(rows: Sequence[Ids], keep: Sequence[int]) -> int:
    """How many ids all rows begin with, before any position whose logits are wanted."""
    most = min(len(row) - count for row, count in zip(rows, keep, strict=True))
    first, last = min(rows, key=tuple), max(rows, key=tuple)
    same = (k for k in range(most) if first[k] != last[k])
    return next(same, most)


def token_log_probs(
    model: Any,
    prompts: Sequence[Ids],
    answers: Sequence[Ids],
    pad_with: int,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
    label: str = "reading",
) -> list[Float[Tensor, " token"]]:
    """Log-probability of each token of `answers[i]` after `prompts[i]`, in nats.

    An empty answer gives an empty row.

    Raises:
        InputError: if a prompt is empty, or the numbers of prompts and answers differ.
        ModelError: if a row is longer than the model's context.
    """
    if len(prompts) != len(answers) or any(len(prompt) == 0 for prompt in prompts):
        raise InputError("each answer needs one prompt of at least one token")
    made: list[Tensor] = [torch.zeros(0)] * len(answers)
    asked = [index for index, answer in enumerate(answers) if len(answer)]
    # The last token of an answer is predicted by the position before it, and predicts nothing.
    rows = [[*prompts[index], *answers[index][:-1]] for index in asked]
    keep = [len(answers[index]) for index in asked]
    read = tail_logits(
        model, rows, keep, pad_with, batch_size=batch_size, progress=progress, label=label
    )
    for place, logits in read:
        index = asked[place]
        ids = torch.tensor(list(answers[index]))
        made[index] = logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0]
    return made


@dataclass(frozen=True)
class Choice:
    """One prompt with the continuations to compare after it."""

    prompt: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]


def choice_log_probs(
    model: Any,
    choices: Sequence[Choice],
    pad_with: int,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
    label: str = "choices",
) -> list[Float[Tensor, " option"]]:
    """Summed log-probability of each option after its prompt, in nats.

    Raises:
        InputError: if a prompt or an option is empty.
        ModelError: if a row is longer than the model's context.
    """
    if any(not c.prompt or not c.options or not all(c.options) for c in choices):
        raise InputError("each choice needs a prompt and options of at least one token")
    made: list[Tensor] = [torch.zeros(0)] * len(choices)
    short = [i for i, c in enumerate(choices) if all(len(option) == 1 for option in c.options)]
    long = sorted(set(range(len(choices))) - set(short))
    rows = [choices[i].prompt for i in short]
    read = tail_logits(
        model, rows, [1] * len(rows), pad_with,
        batch_size=batch_size, progress=progress, label=label,
    )  # fmt: skip
    for place, logits in read:
        ids = torch.tensor([option[0] for option in choices[short[place]].options])
        made[short[place]] = logits[0].log_softmax(-1)[ids]
    for done, index in enumerate(long, start=1):  # the options of one prompt share all of it
        options = choices[index].options
        prompts = [choices[index].prompt] * len(options)
        parts = token_log_probs(model, prompts, options, pad_with, batch_size=batch_size)
        made[index] = torch.stack([part.sum() for part in parts])
        if progress:
            progress(label, done, len(long))
    return made


def check_context(network: Any, wanted: int) -> None:
    """Raise a `ModelError` where `wanted` tokens do not fit the model's context."""
    limit = getattr(network.config, "max_position_embeddings", None)
    if limit is not None and wanted > limit:
        raise ModelError(
            f"a prompt with its answer needs {wanted} tokens, the model's context holds {limit}; "
            "shorten it, or use a model with a longer context"
        )
