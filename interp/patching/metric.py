"""What a patch is measured by: any function of the logits at the metric positions.

A metric maps logits `[batch vocab]` (one row per prompt, in the prompts' order) to `[batch]`. The
default is the emoji log-odds of the model's own tokenizer, in nats. A metric may carry `name` and
`unit` attributes for tables and figures.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.emoji import EmojiVocab
from interp.errors import InputError
from interp.patching.decoder import Decoder

Metric = Callable[[Tensor], Tensor]


class EmojiLogOdds:
    """Emoji log-odds, in nats (see `EmojiVocab.log_odds`)."""

    name = "emoji log-odds"
    unit = "nats"

    def __init__(self, vocab: EmojiVocab) -> None:
        self.vocab = vocab

    def __call__(self, logits: Float[Tensor, "*lead vocab"]) -> Float[Tensor, "*lead"]:
        return self.vocab.log_odds(logits)

    @property
    def ids(self) -> Int[Tensor, " ids"]:
        """The token ids above the line."""
        return self.vocab.emoji_ids


def resolve(metric: Metric | None, model: Any) -> Metric:
    """The metric to use: the one given, or the emoji log-odds of the model's tokenizer.

    `EmojiVocab.log_odds` itself is recognised, for the sake of its faster readout.

    Raises:
        InputError: if there is no metric and the model carries no tokenizer.
    """
    if getattr(metric, "__func__", None) is EmojiVocab.log_odds:
        return EmojiLogOdds(metric.__self__)  # type: ignore[union-attr]
    if metric is not None:
        return metric
    if getattr(model, "tokenizer", None) is None:
        raise InputError("the model carries no tokenizer, so emojis are unknown; give a metric")
    return EmojiLogOdds(EmojiVocab.from_tokenizer(model.tokenizer))


def measure(metric: Metric, logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
    """Apply a metric and check what it returns.

    Raises:
        InputError: if it returns no floating-point tensor of shape `[batch]`, or not finite values.
    """
    value = metric(logits)
    if not isinstance(value, Tensor) or value.shape != logits.shape[:1]:
        shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"metric {label(metric)!r} must map logits [batch, vocab] = {list(logits.shape)} to "
            f"one value per prompt [{logits.shape[0]}], got {shape}"
        )
    value = value.detach().float()
    if not bool(torch.isfinite(value).all()):
        row = int((~torch.isfinite(value)).nonzero()[0])
        raise InputError(f"metric {label(metric)!r} is not finite for prompt {row}")
    return value


def label(metric: Metric) -> str:
    """A metric's name for tables and figures."""
    name = getattr(metric, "name", None) or getattr(metric, "__name__", type(metric).__name__)
    return str(name)


class Readout:
    """Metric values from residual streams after the last layer.

    For the emoji log-odds the unembedding's rows are reordered once, emojis last, so that the
    metric is two logsumexps over contiguous memory (one more copy of the unembedding for as long as
    the sweep lasts). Any other metric sees logits `[batch vocab]` of whole batches, one patch at a
    time.

    Args:
        decoder: the decoder that is patched.
        metric: the metric.
        vocab: how many logits there are per row.
        floats: about how many logits may be held at once.
    """

    def __init__(
        self, decoder: Decoder, metric: Metric, vocab: int, floats: int = 8_000_000
    ) -> None:
        self.decoder, self.metric, self.vocab, self.floats = decoder, metric, vocab, floats
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.split = 0
        unembed = decoder.unembed
        if isinstance(metric, EmojiLogOdds) and type(unembed) is nn.Linear:
            ids = metric.ids.to(unembed.weight.device)
            others = torch.ones(len(unembed.weight), dtype=torch.bool, device=ids.device)
            others[ids] = False
            order = torch.cat((others.nonzero().flatten(), ids))
            self.weight, self.split = unembed.weight.detach()[order], len(order) - len(ids)
            # The bridge gives every unembedding a bias, of zeros if the model has none.
            if unembed.bias is not None and bool(unembed.bias.any()):
                self.bias = unembed.bias.detach()[order]

    def __call__(self, x: Float[Tensor, "unit batch d_model"]) -> Float[Tensor, "unit batch"]:
        """Metric of every patched prompt."""
        if self.weight is None:
            step = max(1, self.floats // (x.shape[1] * self.vocab))
            parts = [
                torch.stack([measure(self.metric, one) for one in self.decoder.logits(part)])
                for part in x.split(step)
            ]
            return torch.cat(parts)
        return self.rows(x.flatten(0, 1)).view(x.shape[:2])

    @property
    def rowwise(self) -> bool:
        """Whether rows may be read by themselves, in any order."""
        return self.weight is not None

    def rows(self, x: Float[Tensor, "rows d_model"]) -> Float[Tensor, " rows"]:
        """The metric of rows, whichever prompts they belong to; only if `rowwise`."""
        parts = x.split(max(1, self.floats // self.vocab))
        return torch.cat([self._log_odds(part) for part in parts])

    def _log_odds(self, x: Float[Tensor, "rows d_model"]) -> Float[Tensor, " rows"]:
        assert self.weight is not None  # see rowwise
        logits = F.linear(self.decoder.final_norm(x), self.weight, self.bias)
        logits = self.decoder.cap(logits).float()
        emoji, rest = logits[:, self.split :], logits[:, : self.split]
        return emoji.logsumexp(1) - rest.logsumexp(1)
