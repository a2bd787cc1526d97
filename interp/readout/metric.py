"""What a patch is measured by: any function of the logits at the metric positions.

A metric maps logits `[batch vocab]` (one row per prompt, in the prompts' order) to `[batch]`. The
default is the emoji log-odds of the model's own tokenizer, in nats. A metric may carry `name` and
`unit` attributes for tables and figures. Those of an `Outcome` say which factor they are, and where
a lone `▁` can stand before it, that they read two columns (`reads`): prompts then end with the `▁`,
which is the metric position, and logits are `[batch 2 vocab]`, at the slot left of it and at it.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.base.errors import InputError
from interp.readout.decoder import Decoder
from interp.readout.outcome import OUTCOME, STOP, WORDS, Outcome, OutcomeMetric
from interp.readout.question import Metric
from interp.readout.run import Run
from interp.text.emoji import EmojiVocab


def resolve(metric: Metric | None, model: Any) -> Metric:
    """The metric to use: the one given, or the emoji log-odds of the model's tokenizer.

    `EmojiVocab.log_odds` itself is taken for the outcome's, which knows of the slot before a `▁`.

    Args:
        metric: what was given.
        model: a bridge.

    Raises:
        InputError: if there is no metric and the model carries no tokenizer.
    """
    if getattr(metric, "__func__", None) is EmojiVocab.log_odds:
        vocab: EmojiVocab = metric.__self__  # type: ignore[union-attr]
        metric = Outcome.of_vocab(vocab, stop=()).metric()
    if metric is None:
        if getattr(model, "tokenizer", None) is None:
            raise InputError("the model carries no tokenizer, so emojis are unknown; give a metric")
        metric = Outcome.emoji(model.tokenizer, stop=()).metric()
    return metric


def reads(metric: Metric) -> int:
    """Columns of logits that a metric needs per prompt."""
    return int(getattr(metric, "reads", 1))


def read_columns(
    metric: Metric, run: Run, at: Int[Tensor, " batch"]
) -> Int[Tensor, "batch *reads"]:
    """The columns whose logits a metric needs: `at`, or also the slot left of it, `[batch 2]`.

    Raises:
        InputError: if two are needed, and a prompt's token at `at` is not the lone `▁`.
    """
    outcome = shared_outcome(metric)
    if outcome is None or outcome.space is None:
        return at
    found = run.tokens.gather(1, at.to(run.tokens.device)[:, None])[:, 0]
    wrong = ((found != outcome.space) | (at.to(found.device) <= run.first)).nonzero().flatten()
    if len(wrong):
        raise InputError(
            f"metric {label(metric)!r} is read at two positions, the slot and after a lone ▁, but "
            f"prompt {int(wrong[0])} has no ▁ (id {outcome.space}) after its slot at the metric "
            "position; end prompts with the outcome's `space_ids`, as `Slots.prompts` does"
        )
    return torch.stack((at - 1, at), 1)


@dataclass(frozen=True)
class Several:
    """Metrics that are read from one pass: logits `[batch vocab]` to `[metric batch]`.

    Raises:
        InputError: if some are read at two positions, and they are not of one outcome.
    """

    metrics: tuple[Metric, ...]

    def __post_init__(self) -> None:
        if self.reads > 1 and shared_outcome(self) is None:
            two = next(metric for metric in self.metrics if reads(metric) > 1)
            raise InputError(
                f"metric {label(two)!r} is read at two positions and goes with metrics of the same "
                "outcome only; ask for the others by themselves"
            )

    @property
    def reads(self) -> int:
        """Columns of logits that they need per prompt."""
        return max(map(reads, self.metrics))

    def __call__(
        self, logits: Float[Tensor, "batch *reads vocab"]
    ) -> Float[Tensor, "metric batch"]:
        return torch.stack([measure(metric, logits) for metric in self.metrics])


def shared_outcome(metric: Metric) -> Outcome | None:
    """The outcome whose factor a metric is, or all of several are; None if they are others."""
    members = metric.metrics if isinstance(metric, Several) else (metric,)
    found = {one.outcome if isinstance(one, OutcomeMetric) else None for one in members}
    return found.pop() if len(found) == 1 else None


def measure(
    metric: Metric, logits: Float[Tensor, "batch *reads vocab"]
) -> Float[Tensor, "*metric batch"]:
    """Apply a metric, or `Several`, and check what it returns.

    Raises:
        InputError: if it returns no floating-point tensor of shape `[batch]`, or not finite values.
    """
    if isinstance(metric, Several):
        return metric(logits)
    if not callable(metric):
        raise InputError(
            f"metric is a function of logits [batch, vocab], such as pair.vocab.log_odds, got "
            f"{metric!r:.80}"
        )
    try:
        value = metric(logits)
    except IndexError as problem:
        raise InputError(
            f"metric {label(metric)!r} fails ({problem}); a metric gets the logits at the metric "
            f"positions only, [batch, vocab] = {list(logits.shape)}: write logits[:, token] where "
            "elsewhere you write logits[:, -1, token]"
        ) from None
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


def unit_of(metric: Metric, given: str | None = None) -> str:
    """A metric's unit: as it is asked for, else its own."""
    return given or str(getattr(metric, "unit", "metric units"))


class Readout:
    """Metric values from residual streams after the last layer.

    For the metrics of one outcome the unembedding's rows are reordered once, as words, stop,
    outcome, so that all factors are made of the same three logsumexps over contiguous memory (one
    more copy of the unembedding for as long as the sweep lasts); of an outcome that is read at two
    columns the sums are taken from whole logits. Any other metric sees logits `[batch vocab]` of
    whole batches, one patch at a time.

    Args:
        decoder: the decoder that is patched.
        metric: the metric.
        vocab: how many logits there are per row.
        floats: about how many logits may be held at once.
    """

    def __init__(
        self, decoder: Decoder, metric: Metric, vocab: int, floats: int = 8_000_000
    ) -> None:
        self.decoder, self.metric = decoder, metric
        self.vocab, self.floats = vocab * reads(metric), floats
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.sizes: list[int] = []
        self.outcome, unembed = shared_outcome(metric), decoder.unembed
        if self.outcome is not None and self.outcome.reads == 1 and type(unembed) is nn.Linear:
            order, self.sizes = _grouped(self.outcome, len(unembed.weight))
            order = order.to(unembed.weight.device)
            self.weight = unembed.weight.detach()[order]
            # The bridge gives every unembedding a bias, of zeros if the model has none.
            if unembed.bias is not None and bool(unembed.bias.any()):
                self.bias = unembed.bias.detach()[order]

    def __call__(
        self, x: Float[Tensor, "unit batch *reads d_model"]
    ) -> Float[Tensor, "*metric unit batch"]:
        """Metric of every patched prompt."""
        if not self.rowwise:
            step = max(1, self.floats // (x.shape[1] * self.vocab))
            parts = [
                torch.stack([measure(self.metric, one) for one in self.decoder.logits(part)], -2)
                for part in x.split(step)
            ]
            return torch.cat(parts, -2)
        return self.rows(x.flatten(0, 1)).unflatten(-1, x.shape[:2])

    @property
    def rowwise(self) -> bool:
        """Whether rows may be read by themselves, in any order."""
        return self.outcome is not None

    def rows(self, x: Float[Tensor, "rows *reads d_model"]) -> Float[Tensor, "*metric rows"]:
        """The metric of rows, whichever prompts they belong to; only if `rowwise`."""
        parts = x.split(max(1, self.floats // self.vocab))
        sums, metric = torch.cat([self._sums(part) for part in parts]), self.metric
        if isinstance(metric, Several):
            return torch.stack([one.of(sums) for one in metric.metrics])  # type: ignore[attr-defined]
        return metric.of(sums)  # type: ignore[attr-defined]

    def _sums(self, x: Float[Tensor, "rows *reads d_model"]) -> Float[Tensor, "rows three"]:
        if self.weight is None:
            assert self.outcome is not None  # see rowwise
            return self.outcome.sums(self.decoder.logits(x))
        logits = F.linear(self.decoder.final_norm(x), self.weight, self.bias)
        blocks = self.decoder.cap(logits).float().split(self.sizes, 1)
        return torch.stack([block.logsumexp(1) for block in blocks], 1)


def _grouped(outcome: Outcome, width: int) -> tuple[Int[Tensor, " vocab"], list[int]]:
    """The order of ids as words, stop, outcome, and the size of each group."""
    group = torch.full((width,), WORDS)
    group[list(outcome.stop_ids)] = STOP
    group[list(outcome.ids)] = OUTCOME
    return group.argsort(stable=True), group.bincount(minlength=3).tolist()
