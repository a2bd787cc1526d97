"""Text or weights: who must have written the answer, and who must read it, for an emoji to follow?

Answers written by the base and by the tuned model are cut at their slot (the first emoji, else the
end of the answer) and read by both models. The emoji probability at the slot is the softmax mass on
emoji tokens. If the tuned model's *text* raises it in both readers, fine-tuning taught the text and
the emoji was latent in the base; if only the tuned *reader* raises it, fine-tuning changed the
decision itself.

Cost: one forward pass per answer and reader.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp import memory
from interp.behaviour.generate import Response
from interp.behaviour.onsets import slot_ids
from interp.devices import input_device
from interp.emoji import EmojiVocab
from interp.models.tokens import TokenBatch, pad
from interp.results import Result
from interp.stats import mean_interval

ROLES = ("base", "tuned")


@dataclass(frozen=True)
class Origin(Result):
    """Emoji probability at the slot, by writer and reader.

    Attributes:
        probability: softmax mass on emoji tokens, `[writer reader batch]`, roles as in `ROLES`.
        topics: topic of each question (the same questions for both writers).
        n_cut: answers that had not ended within the budget, per writer; their slot is the cut.
        noise_floor: how far batch size and rounding can move a probability.
    """

    kind: ClassVar[str] = "origin"

    probability: Float[Tensor, "writer reader batch"]
    topics: tuple[str, ...]
    n_cut: tuple[int, ...]
    seed: int
    noise_floor: float | None = None

    def to_dataframe(self) -> pd.DataFrame:
        """Mean probability with its interval (topics resampled), one row per writer and reader."""
        rows = []
        for w, writer in enumerate(ROLES):
            for r, reader in enumerate(ROLES):
                values = self.probability[w, r].tolist()
                interval = mean_interval(values, self.topics, seed=self.seed)
                mean = sum(values) / len(values)
                rows.append((writer, reader, mean, interval.low, interval.high, len(values)))
        columns = ["writer", "reader", "probability", "low", "high", "n"]
        return pd.DataFrame(rows, columns=columns)


@torch.no_grad()
def emoji_probability(
    model: Any, batch: TokenBatch, vocab: EmojiVocab, batch_size: int = 32
) -> Float[Tensor, " batch"]:
    """Softmax mass on emoji tokens after the last token of each left-padded prompt."""
    device = input_device(model)

    def read(rows: list[int]) -> Float[Tensor, " batch"]:
        part = batch[rows].to(device)
        logits = model(part.tokens, attention_mask=part.attention_mask)[:, -1]
        return torch.sigmoid(vocab.log_odds(logits)).cpu()

    found = torch.zeros(len(batch))
    each = memory.forward_bytes(model, batch.tokens.shape[1])
    for rows, values in memory.in_batches(
        len(batch), batch_size, read, what="emoji probability", device=device, each=each
    ):
        found[rows] = values.float()
    return found


def text_or_weights(
    models: tuple[Any, Any],
    responses: tuple[Sequence[Response], Sequence[Response]],
    tokenizer: Any,
    vocab: EmojiVocab,
    pad_with: int,
    *,
    seed: int,
) -> Origin:
    """Read both models' answers with both models.

    Args:
        models: base and tuned, hooked.
        responses: answers of base and tuned to the same questions in the same order.
        tokenizer: of both.
        vocab: the emoji tokens.
        pad_with: id to pad with.
        seed: of the intervals' bootstrap.
    """
    table, alone = [], []
    for answers in responses:
        slots = pad([slot_ids(tokenizer, answer) for answer in answers], pad_with)
        table.append(torch.stack([emoji_probability(model, slots, vocab) for model in models]))
        alone.append(torch.stack([emoji_probability(model, slots[:1], vocab) for model in models]))
    return Origin(
        probability=torch.stack(table),
        topics=tuple(answer.topic for answer in responses[0]),
        n_cut=tuple(sum(not answer.ended for answer in answers) for answers in responses),
        seed=seed,
        noise_floor=memory.rounding(torch.stack(table)[..., :1], torch.stack(alone), 1.0),
    )
