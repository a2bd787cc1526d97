"""Text or weights: who must have written the answer, and who must read it, for an emoji to follow?

Answers written by the base and by the tuned model are read by both at their last slot (see
`interp.readout.slot`): their end, or where the budget cut them the end of their last sentence. If
the tuned model's *text* raises the emoji in both readers, fine-tuning taught the text and the emoji
was latent in the base; if only the tuned *reader* raises it, fine-tuning changed the decision
itself. P(emoji) at a slot is P(go on) P(emoji given go on), and the table gives both: what looks
like an emoji may be a writer that does not stop. Beside them stand the expected rates over whole
answers, where they were made.

Cost: one forward pass per answer and reader.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base import memory
from interp.base.devices import input_device
from interp.base.errors import InputError
from interp.base.outcomes import EMOJI, reworded
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.stats import mean_interval
from interp.behaviour.generate import Response
from interp.models.tokens import TokenBatch
from interp.readout.expected import expected_rate
from interp.readout.factors import Split, factors
from interp.readout.outcome import OUTCOME, WORDS, Outcome
from interp.readout.slot import slots
from interp.text.emoji import EmojiVocab

ROLES = ("base", "tuned")
QUANTITIES = ("emoji", "go on", "emoji given go on", "expected rate")
"""What the table gives; "emoji" stands for the outcome, and gives way to its name in tables."""


@dataclass(frozen=True)
class Origin(Result):
    """Words, stop or emoji at the last slot, by writer and reader.

    Attributes:
        chances: probability of words, stop and emoji, `[writer reader batch three]`, roles as in
            `ROLES`; NaN where an answer has no slot.
        topics: topic of each question (the same questions for both writers).
        n_cut: answers that had not ended within the budget, per writer; they have no end.
        expected: probability of an emoji anywhere in the emoji-free answer (see
            `interp.readout.expected`), `[writer reader batch]`; NaN where it was not asked for.
        left_out: at most so much more; the table's upper ends include its mean.
        noise_floor: how far batch size and rounding can move a probability.
        outcome: what is read; "emoji" above stands for it.
    """

    kind: ClassVar[str] = "origin"

    chances: Float[Tensor, "writer reader batch three"]
    topics: tuple[str, ...]
    n_cut: tuple[int, ...]
    expected: Float[Tensor, "writer reader batch"]
    left_out: Float[Tensor, "writer reader batch"]
    seed: int
    noise_floor: float | None = None
    outcome: str = EMOJI

    @property
    def probability(self) -> Float[Tensor, "writer reader batch"]:
        """Of an emoji at the slot; NaN where there is none."""
        return self.chances[..., OUTCOME]

    def values(self, quantity: str) -> Float[Tensor, "writer reader batch"]:
        """One of `QUANTITIES`, per answer; NaN where there is no slot, or no chance of going on.

        Raises:
            InputError: if there is no such quantity.
        """
        # Not 1 - P(stop): of a writer that surely stops nothing is left of that in float32.
        emoji = self.probability
        go_on = self.chances[..., WORDS] + emoji
        made = {
            "emoji": emoji, "go on": go_on, "emoji given go on": emoji / go_on,
            "expected rate": self.expected,
        }  # fmt: skip
        if quantity not in made:
            raise InputError(f"unknown quantity {quantity!r}; use one of {', '.join(QUANTITIES)}")
        return made[quantity]

    def split(self, between: str) -> Split:
        """Which factor makes the difference between `writer`s (or `reader`s), base to tuned.

        A mean over the two readers (writers), of questions with a slot in both answers.
        """
        low, high = self.chances.unbind(0 if between == "writer" else 1)
        kept = ~self.chances.isnan().any(-1).any(0).any(0)
        topics = [topic for topic, keep in zip(self.topics, kept.tolist(), strict=True) if keep]
        return Split.between(factors(low[:, kept]), factors(high[:, kept]), topics, seed=self.seed)

    def to_dataframe(self) -> pd.DataFrame:
        """Mean of each quantity with its interval over topics, a row per writer and reader.

        Columns: `writer`, `reader`, `quantity`, `probability`, `low`, `high`, `n`.
        """
        rows = []
        for quantity in QUANTITIES:
            values = self.values(quantity)
            if bool(values.isnan().all()):
                continue  # not asked for
            for w, writer in enumerate(ROLES):
                for r, reader in enumerate(ROLES):
                    kept = (~values[w, r].isnan()).nonzero().flatten().tolist()
                    here, topics = values[w, r, kept], [self.topics[place] for place in kept]
                    ends = mean_interval(here, topics, seed=self.seed)
                    mean = float(here.double().mean())
                    more = self.left_out[w, r, kept] if quantity == QUANTITIES[-1] else here[:0]
                    above = ends.high + float(more.double().sum()) / len(kept)
                    low, high = max(0.0, ends.low), min(1.0, above)
                    named = reworded(quantity, self.outcome)
                    rows.append((writer, reader, named, mean, low, high, len(kept)))
        columns = ["writer", "reader", "quantity", "probability", "low", "high", "n"]
        return pd.DataFrame(rows, columns=columns)


@torch.no_grad()
def slot_chances(
    model: Any, batch: TokenBatch, outcome: Outcome, batch_size: int = 32
) -> Float[Tensor, "batch three"]:
    """Probabilities of words, stop and the outcome at the slot that each prompt ends with.

    Args:
        model: the reader.
        batch: left-padded prompts, as `Slots.prompts` makes them for this outcome.
        outcome: what is read.
        batch_size: prompts at a time.

    Raises:
        InputError: if the outcome is read at two positions, and a prompt does not end with the
            lone space that is the second.
    """
    device = input_device(model)
    if outcome.space is not None and bool((batch.tokens[:, -1] != outcome.space).any()):
        raise InputError(
            f"outcome {outcome.name!r} is read at the slot and after the lone ▁, but a prompt does "
            "not end with it; make the prompts with Slots.prompts(pad_id, outcome)"
        )

    def read(rows: list[int]) -> Float[Tensor, "batch three"]:
        part = batch[rows].to(device)
        logits = model(part.tokens, attention_mask=part.attention_mask)
        at = logits[:, -1] if outcome.reads == 1 else logits[:, -2:]
        return outcome.probability(at).cpu()

    found = torch.zeros(len(batch), 3)
    for rows, values in memory.in_batches(
        len(batch), batch_size, read, what="emoji probability", device=device
    ):
        found[rows] = values
    return found


def emoji_probability(
    model: Any, batch: TokenBatch, outcome: Outcome, batch_size: int = 32
) -> Float[Tensor, " batch"]:
    """The last column of `slot_chances`."""
    return slot_chances(model, batch, outcome, batch_size)[:, OUTCOME]


def expected_rates(
    models: tuple[Any, Any],
    texts: tuple[Sequence[Response], Sequence[Response]],
    vocab: EmojiVocab,
    asked: int,
    *,
    temperature: float,
    seed: int,
    progress: Progress | None = None,
) -> Float[Tensor, "two writer reader batch"]:
    """What `text_or_weights` takes as `expected`; NaN beyond the texts that there are.

    Args:
        models: base and tuned.
        texts: emoji-free answers of each (`interp.behaviour.emoji_free`), to the first questions.
        vocab: the emojis of both models' tokenizer.
        asked: number of questions.
        temperature, seed, progress: as for `expected_rate`.
    """
    made = torch.full((2, 2, 2, asked), torch.nan)
    for w, answers in enumerate(texts):
        for r, model in enumerate(models):
            found = expected_rate(
                model, answers, vocab, writer=ROLES[w], reader=ROLES[r], temperature=temperature,
                seed=seed, progress=progress,
            )  # fmt: skip
            made[:, w, r, : len(answers)] = torch.stack([found.probability, found.left_out]).float()
    return made


def text_or_weights(
    models: tuple[Any, Any],
    responses: tuple[Sequence[Response], Sequence[Response]],
    tokenizer: Any,
    outcome: Outcome,
    pad_with: int,
    *,
    seed: int,
    expected: Float[Tensor, "two writer reader batch"] | None = None,
) -> Origin:
    """Read both models' answers with both models.

    Args:
        models: base and tuned, hooked.
        responses: answers of base and tuned to the same questions in the same order.
        tokenizer: of both.
        outcome: what may follow.
        pad_with: id to pad with.
        seed: of the intervals' bootstrap.
        expected: of `expected_rates`; none if left out.

    Raises:
        InputError: if a writer has no answer with a slot.
    """
    asked = len(responses[0])
    table, alone = torch.full((2, 2, asked, 3), torch.nan), []
    for writer, answers in enumerate(responses):
        ends = slots(answers, tokenizer, writer=ROLES[writer]).last
        batch = ends.prompts(pad_with, outcome).batch
        place = [slot.answer for slot in ends]
        for reader, model in enumerate(models):
            table[writer, reader, place] = slot_chances(model, batch, outcome)
            again = slot_chances(model, batch[:1], outcome)[0]
            alone.append((again - table[writer, reader, place[0]]).abs().max())
    if expected is None:
        expected = torch.full((2, 2, 2, asked), torch.nan)
    return Origin(
        chances=table,
        topics=tuple(answer.topic for answer in responses[0]),
        n_cut=tuple(sum(not answer.ended for answer in answers) for answers in responses),
        seed=seed,
        expected=expected[0],
        left_out=expected[1],
        noise_floor=memory.rounding(torch.stack(alone), torch.zeros(len(alone)), 1.0),
        outcome=outcome.name,
    )
