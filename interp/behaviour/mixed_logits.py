"""Several models at every token of an answer: one writes, the others have a say in its logits.

While the context is open, each forward pass of the writer runs the others on the same tokens, with
caches of their own, and puts combined logits in the place of the writer's last ones. So `generate`
samples from the combination as it does from one model, token by token and with the same noise; open
the context around each batch (its `under=`). It costs a pass of every model per token.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.readout.outcome import Outcome

Combine = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""Logits `[batch vocab]` of the writer and of each other model, to those that are sampled from."""

_PASSED = (
    "input_ids", "attention_mask", "position_ids", "cache_position", "use_cache", "logits_to_keep",
)  # fmt: skip


@contextmanager
def together(writer: Any, others: Sequence[Any], combine: Combine) -> Iterator[None]:
    """Combine the writer's logits with those of other models, until it closes.

    Args:
        writer, others: hooked models or Hugging Face causal models, of one tokenizer.
        combine: what is made of their logits.

    Raises:
        InputError: if the writer is among the others, or their vocabularies differ in size.
    """
    network, *rest = (getattr(model, "original_model", model) for model in (writer, *others))
    if any(other is network for other in rest):
        raise InputError("the writer is itself one of the other models; give another")
    caches: list[Any] = [None] * len(rest)

    def mix(module: Any, args: Any, given: dict[str, Any], output: Any) -> Any:  # noqa: ARG001
        same = {name: given[name] for name in _PASSED if given.get(name) is not None}
        found = []
        for place, other in enumerate(rest):
            made = other(**same, past_key_values=caches[place])
            caches[place] = made.past_key_values
            found.append(made.logits[:, -1].float().to(output.logits.device))
        own = output.logits[:, -1].float()
        if any(one.shape != own.shape for one in found):
            raise InputError("the vocabularies differ in size; give models of one tokenizer")
        # In single precision: rounded to a model's bfloat16 a combination draws other tokens.
        output.logits = output.logits.float()
        output.logits[:, -1] = combine(own, found)
        return output

    handle = network.register_forward_hook(mix, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def decided(outcome: Outcome, temperature: float) -> Combine:
    """The writer chooses words; one other model whether to stop, go on, or begin the outcome.

    p(token) is the decider's for stop tokens and those that begin the outcome, and for any other
    token P(words) of the decider times the writer's p(token | words), both at the temperature of
    the sampling. Within a sentence the decider goes on in words, so that it decides at slots. Of a
    tokenizer that writes a lone `▁` before the outcome, that `▁` is a word.
    """
    scale = temperature or 1.0
    ids = sorted({*outcome.ids, *outcome.after_ids, *outcome.with_stop.stop_ids})

    def combine(
        own: Float[Tensor, "batch vocab"], others: Sequence[Tensor]
    ) -> Float[Tensor, "batch vocab"]:
        (other,) = others
        taken = torch.zeros(own.shape[-1], dtype=torch.bool, device=own.device)
        taken[ids] = True
        writes, decides = ((one / scale).log_softmax(-1) for one in (own, other))
        words = [
            one.masked_fill(taken, -torch.inf).logsumexp(-1, keepdim=True)
            for one in (writes, decides)
        ]
        return scale * torch.where(taken, decides, writes - words[0] + words[1])

    return combine


def amplified(alpha: float) -> Combine:
    """The writer's logits plus alpha times what they differ by from the one other model's."""
    return lambda own, others: own + alpha * (own - others[0])


def pushed(alpha: float) -> Combine:
    """The writer's logits plus alpha times those of the second other model less the first's."""
    return lambda own, others: own + alpha * (others[1] - others[0])
