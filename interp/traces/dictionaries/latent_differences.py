"""Which latents differ between base and tuned at the slots of the same prompts.

A latent's difference is tuned minus base, in its own units; latents are ranked by it times the
length of the decoder row, which is what it changes in the stream. Ranked on half of the topics,
they are judged on the others. The tokens are those that the final norm and the unembedding read
from the decoder row alone (where it is of the stream: what heads write, before they are put
together, is not, even if it is as wide).

It is the base's dictionary, mostly: what fine-tuning adds that it has no latent for goes to the
error, and `explained` says how much of the activations it says at all. A latent that differs need
not matter: `interp.dictionaries.patch` puts it in. Cost: one pass of each model.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import fdr_bh, halves, mean_ends, sign_flip_ps
from interp.readout.outcome import Outcome
from interp.readout.question import Question, asked
from interp.readout.run import Run, check_pair
from interp.readout.written import written_ids
from interp.text.emoji.encode import token_bytes
from interp.traces.dictionaries.dictionary import Dictionary
from interp.traces.dictionaries.slots import both_at_slots, judging_topics

MODELS = ("base", "tuned")
_INSIDE = ("hook_z", "hook_q", "hook_k", "hook_v", "attn.o.hook_in")


@dataclass(frozen=True)
class LatentDifference(Result):
    """Latents of both models at the same slots.

    Attributes:
        base, tuned: of every latent that fires anywhere, `[latent batch]`, in its own units; those
            that differ most on the choosing topics come first.
        ids: their numbers in the dictionary.
        length: of their decoder rows.
        names: of the first ones, the tokens that their decoder rows write, likeliest first; empty
            where these are not as wide as the stream.
        judging: the prompts of the topics that had no part in the order.
        explained: share of the activations' squared distance from what no latent says that the
            latents explain, `[model]`.
        count: latents that fire at each slot, `[model batch]`.
        hook, dictionary: where, and by which.
        topics: of each prompt, the units of intervals.
    """

    kind: ClassVar[str] = "latent difference"

    base: Float[Tensor, "latent batch"]
    tuned: Float[Tensor, "latent batch"]
    ids: Int[Tensor, " latent"]
    length: Float[Tensor, " latent"]
    names: tuple[tuple[str, ...], ...]
    judging: Bool[Tensor, " batch"]
    explained: Float[Tensor, " model"]
    count: Float[Tensor, "model batch"]
    hook: str
    dictionary: str
    topics: tuple[str, ...]
    seed: int = 0

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each of the latents that are named, over the prompts of the judging topics.

        Columns: `latent`, mean in `base` and `tuned`, `difference` with `low` and `high`, `p`
        (sign flips of topics), `p_adjusted` (false discovery rate over the rows), `fires_base` and
        `fires_tuned` (shares of prompts), `length`, `tokens`, `n`.
        """
        some, judge = slice(len(self.names)), self.judging
        base, tuned = self.base[some][:, judge], self.tuned[some][:, judge]
        topics = judging_topics(self.topics, judge)
        low, high = mean_ends(tuned - base, topics, seed=self.seed)
        p = sign_flip_ps(tuned - base, self.seed, topics=topics)
        return pd.DataFrame(
            {
                "latent": self.ids[some].numpy(), "base": base.mean(1).numpy(),
                "tuned": tuned.mean(1).numpy(), "difference": (tuned - base).mean(1).numpy(),
                "low": low, "high": high, "p": p, "p_adjusted": fdr_bh(p),
                "fires_base": (base > 0).float().mean(1).numpy(),
                "fires_tuned": (tuned > 0).float().mean(1).numpy(),
                "length": self.length[some].numpy(),
                "tokens": [" ".join(" ".join(row).split()) for row in self.names],
                "n": int(judge.sum()),
            }
        )  # fmt: skip


def compare(
    base: Run,
    tuned: Run,
    dictionary: Dictionary,
    *,
    outcome: Outcome,
    top: int = 16,
    tokens: int = 6,
    ask: Question | None = None,
) -> LatentDifference:
    """Read latents where prompts end.

    Args:
        base, tuned: runs of both models on the same tokens.
        dictionary: of a place that both have.
        outcome: whose slots these are: where it is read at two positions, prompts end with the
            lone space, and latents are read left of it.
        top: latents to name and judge.
        tokens: to name of each.
        ask: topics, seed and places (each prompt's last token if left out).

    Raises:
        InputError: if the runs differ in their tokens, there are fewer than two topics, or no
            latent fires.
        DictionaryError: if the models lack the place, or are of another width there.
        ModelError: if the models differ in shape.
    """
    ask = asked(ask)
    if check_pair(tuned, base) != "model" or min(top, tokens) < 1:
        raise InputError("give two models on the same tokens, and name one or more")
    topics, first, second = split_topics(base, ask)
    _, found = both_at_slots((base, tuned), dictionary, outcome, ask)
    fires = torch.stack([one.latents > 0 for one in found]).any(1).any(0)
    ids = fires.nonzero().flatten()
    if not len(ids):
        raise InputError(f"no latent fires at any slot ({dictionary.name or dictionary.config})")
    one, other = (found[i].latents[:, ids].T for i in (0, 1))
    length = dictionary.directions[ids].norm(dim=-1)
    moved = ((other - one)[:, first].mean(1) * length).abs()
    order = moved.argsort(descending=True, stable=True)
    return LatentDifference(
        base=one[order].contiguous(),
        tuned=other[order].contiguous(),
        ids=ids[order],
        length=length[order],
        names=written_tokens(base.model, dictionary, ids[order[:top]], tokens),
        judging=second,
        explained=torch.stack([_explained(dictionary, run.read, run.written) for run in found]),
        count=torch.stack([(run.latents > 0).float().sum(1) for run in found]),
        hook=dictionary.config.hook,
        dictionary=dictionary.name,
        topics=topics,
        seed=ask.seed,
    )


def split_topics(
    run: Run, ask: Question
) -> tuple[tuple[str, ...], Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """Topics, and which prompts choose and which judge.

    Raises:
        InputError: if there are fewer than two topics.
    """
    batch = len(run.tokens)
    topics = ask.topics_of(batch, run.tokens) or tuple(f"prompt {row}" for row in range(batch))
    first, second = (torch.from_numpy(half) for half in halves(topics, batch, ask.seed))
    if not bool(first.any()):
        raise InputError("one topic cannot choose latents and judge them; give two or more")
    return topics, first, second


def written_tokens(
    model: Any, dictionary: Dictionary, ids: Int[Tensor, " some"], count: int
) -> tuple[tuple[str, ...], ...]:
    """The tokens that some decoder rows write, through the final norm and the unembedding.

    None where the rows do not stand in the residual stream.
    """
    directions, place = dictionary.directions[ids], dictionary.config.hook_out
    # Heads' outputs, queries, keys and values may be as wide as the stream, and are not of it.
    if directions.shape[1] != int(model.cfg.d_model) or place.endswith(_INSIDE):
        return ((),) * len(ids)
    read = written_ids(model, directions, count)
    pieces, size = token_bytes(model.tokenizer), len(model.tokenizer)

    def said(token: int) -> str:
        text = pieces[token].decode(errors="replace") if token < len(pieces) else ""
        known = token < size and model.tokenizer.convert_ids_to_tokens(token)
        return text or str(known or f"id {token}")

    return tuple(tuple(map(said, row)) for row in read.tolist())


def _explained(
    dictionary: Dictionary, x: Float[Tensor, "batch d_in"], y: Float[Tensor, "batch d_out"]
) -> Float[Tensor, ""]:
    """1 minus squared errors over those of the same dictionary when no latent fires."""
    none = torch.zeros(len(x), dictionary.config.d_sae)
    distance = (y - dictionary.decode(none, x)).square().sum().clamp_min(1e-12)
    return 1 - dictionary.error(x, y).square().sum() / distance
