"""KL divergence of the tuned model's next token from the base's, place by place over given texts.

KL(tuned || base) = sum p_tuned (log p_tuned - log p_base), nats, float32; 0 where both say the
same. It says where fine-tuning changed what would be written, whatever that is. It counts what is
likely: an emoji that rises from 1e-6 to 1e-3 hardly moves it.

Cost: one forward pass of each model; logits of one batch at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base import memory
from interp.base.devices import input_device
from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import mean_ends
from interp.models.tokens import TokenBatch
from interp.readout.question import Question, asked
from interp.text.emoji.encode import token_bytes


@dataclass(frozen=True)
class TokenKL(Result):
    """The divergence after each token of some texts.

    Attributes:
        kl: nats, after each token, text by text.
        text: the text of each token.
        tokens: the tokens themselves.
        groups: of each text, what kind it is: `neutral`, `trait`.
        topics: of each text, the units of intervals.
    """

    kind: ClassVar[str] = "token divergence"

    kl: Float[Tensor, " token"]
    text: Int[Tensor, " token"]
    tokens: tuple[str, ...]
    groups: tuple[str, ...]
    topics: tuple[str, ...]
    seed: int = 0

    def to_dataframe(self) -> pd.DataFrame:
        """A row per group: mean over tokens with its interval over topics, and the largest.

        Columns: `group`, `mean`, `low`, `high`, `largest`, `after` (its token), `n` tokens.
        """
        rows = []
        for group in dict.fromkeys(self.groups):
            places = [p for p, text in enumerate(self.text.tolist()) if self.groups[text] == group]
            if not places:
                continue
            some = self.kl[places]
            low, high = mean_ends(
                some[None], [self.topics[self.text[place]] for place in places], seed=self.seed
            )
            most = int(some.argmax())
            rows.append((group, float(some.mean()), float(low[0]), float(high[0]),
                         float(some[most]), self.tokens[places[most]], len(places)))  # fmt: skip
        columns = ["group", "mean", "low", "high", "largest", "after", "n"]
        return pd.DataFrame(rows, columns=columns)

    def by_token(self) -> pd.DataFrame:
        """Mean divergence after each token over all texts, largest first; `token`, `mean`, `n`."""
        table = pd.DataFrame({"token": self.tokens, "mean": self.kl.numpy(), "n": 1})
        table = table.groupby("token", sort=False).agg({"mean": "mean", "n": "sum"}).reset_index()
        return table.sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def kl(
    base: Any,
    tuned: Any,
    batch: TokenBatch,
    *,
    groups: Sequence[str],
    where: Bool[Tensor, "batch pos"] | None = None,
    ask: Question | None = None,
) -> TokenKL:
    """Read texts with both models.

    Args:
        base, tuned: hooked models.
        batch: the texts.
        groups: what kind of text each is.
        where: the places to read; all tokens if left out.
        ask: topics, seed, rows per pass (16 if left out) and progress.

    Raises:
        InputError: if groups do not match, or there is no place to read.
    """
    ask = asked(ask)
    where = batch.attention_mask if where is None else where & batch.attention_mask
    if len(groups) != len(batch) or not bool(where.any()):
        raise InputError(f"{len(batch)} texts, {len(groups)} groups, {int(where.sum())} places")

    def read(rows: list[int]) -> Float[Tensor, " token"]:
        part, here = batch[rows], where[rows]
        with torch.no_grad():
            logs = []
            for model in (base, tuned):
                some = part.to(input_device(model))
                logits = model(some.tokens, attention_mask=some.attention_mask.long())
                logs.append(logits[here.to(logits.device)].float().log_softmax(-1).cpu())
        return (logs[1].exp() * (logs[1] - logs[0])).sum(-1)

    parts = memory.in_batches(
        len(batch), ask.batch_size or 16, read, what="KL by token",
        device=input_device(tuned), progress=ask.progress, unit="text",
    )  # fmt: skip
    pieces = token_bytes(tuned.tokenizer)
    made, text, tokens = [], [], []
    for rows, values in parts:
        made.append(values)
        for row in rows:
            ids = batch.tokens[row][where[row]].tolist()
            text += [row] * len(ids)
            tokens += [pieces[i].decode(errors="replace") or f"id {i}" for i in ids]
    topics = ask.topics_of(len(batch)) or tuple(f"text {row}" for row in range(len(batch)))
    return TokenKL(
        torch.cat(made), torch.tensor(text), tuple(tokens), tuple(groups), topics, ask.seed
    )
