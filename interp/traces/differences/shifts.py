"""Which tokens' logits fine-tuning raised and lowered most at the ends of given prompts.

The change is tuned minus base of logits less their mean over the vocabulary (a constant added to
all of them says nothing), in nats, a mean over prompts: what is named as risen rose, and as fallen
fell, against that mean; where all named tokens rose, none fell. Tokens are named that at least one
of the models gives a mean probability of `floor`: the logits of what nobody writes are free to
wander.

Cost: one forward pass of each model.
"""

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import mean_ends
from interp.readout.capture import logits_at
from interp.readout.question import Question, asked
from interp.readout.run import Run, check_pair, metric_columns


@dataclass(frozen=True)
class TokenShifts(Result):
    """The tokens that rose and fell most: above 0 those that rose, then those that fell.

    The one that rose most is first, the one that fell most last.

    Attributes:
        change: tuned minus base of each token's centred logit, nats, `[token batch]`.
        probability: mean probability in base and tuned, `[model token]`.
        ids, names: the tokens, as the vocabulary writes them.
        topics: of each prompt, the units of intervals.
        floor: smallest mean probability, in either model, of a token that is named.
    """

    kind: ClassVar[str] = "token shifts"

    change: Float[Tensor, "token batch"]
    probability: Float[Tensor, "model token"]
    ids: Int[Tensor, " token"]
    names: tuple[str, ...]
    topics: tuple[str, ...]
    floor: float
    seed: int = 0

    @property
    def n_rose(self) -> int:
        """How many rose, the first ones; the others fell."""
        return int((self.change.mean(1) > 0).sum())

    def to_dataframe(self) -> pd.DataFrame:
        """A row per token: mean change with its interval over topics, and both probabilities."""
        low, high = mean_ends(self.change, self.topics, seed=self.seed)
        return pd.DataFrame(
            {
                "token": self.names, "change": self.change.mean(1).numpy(), "low": low,
                "high": high, "unit": "nats", "base": self.probability[0].numpy(),
                "tuned": self.probability[1].numpy(),
            }
        )  # fmt: skip


def shifts(
    base: Run, tuned: Run, *, top: int = 10, floor: float = 1e-3, ask: Question | None = None
) -> TokenShifts:
    """Compare logits where prompts end.

    Args:
        base, tuned: runs of the two models on the same tokens.
        top: how many that rose and how many that fell, at most.
        floor: smallest mean probability of a token that is named.
        ask: topics, seed, and places (each prompt's last token if left out).

    Raises:
        InputError: if the runs differ in their tokens, or no token reaches the floor.
        ModelError: if the models differ in shape.
    """
    ask = asked(ask)
    if top < 1 or check_pair(tuned, base) != "model":
        raise InputError("shifts compare two models on the same tokens, and name one or more")
    logits = [
        logits_at(run, metric_columns(run, ask.places), []).float().cpu() for run in (base, tuned)
    ]
    size = min(one.shape[-1] for one in logits)
    centred = [one[:, :size] - one[:, :size].mean(-1, keepdim=True) for one in logits]
    change = centred[1] - centred[0]
    chances = torch.stack([one[:, :size].softmax(-1).mean(0) for one in logits])
    known = (chances.amax(0) >= floor).nonzero().flatten()
    if not len(known):
        raise InputError(f"no token has a mean probability of {floor:g}; lower floor")
    moved, order = change[:, known].mean(0).sort(descending=True, stable=True)
    ids = known[torch.cat([order[moved > 0][:top], order[moved < 0][-top:]])]
    batch = len(base.tokens)
    return TokenShifts(
        change=change[:, ids].T.contiguous(),
        probability=chances[:, ids],
        ids=ids,
        names=tuple(map(str, tuned.model.tokenizer.convert_ids_to_tokens(ids.tolist()))),
        topics=ask.topics_of(batch) or tuple(f"prompt {row}" for row in range(batch)),
        floor=floor,
        seed=ask.seed,
    )
