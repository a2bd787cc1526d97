"""What a trace is asked: by which metric, where, over which topics, with what means.

Every trace takes one `Question`. Those that are asked by their metric alone most of the time take
`metric=` as a shorthand for `Question(metric=...)`; the rest of the question goes beside it in
`ask=`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Shaped
from torch import Tensor

from interp.base.errors import InputError
from interp.base.files import sha256_text
from interp.base.progress import Progress
from interp.base.stats import copies

Metric = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Question:
    """How a trace is asked, checked when made.

    Attributes:
        metric: maps logits at the metric positions, `[batch vocab]`, to `[batch]`; the emoji
            log-odds if left out.
        unit: the metric's unit, for tables and figures; left out, the metric's own.
        places: the column whose logits the metric reads: None for each prompt's last token, one
            number for all (negative ones count from the end), or one per prompt.
        topics: one label per prompt; whole topics are resampled and flipped in every interval and
            p-value. Left out, each prompt is a topic. Copies of a prompt are one topic, always.
        min_gap: prompts with |clean - corrupted| at or below this (in the metric's unit) have no
            recovery and are left out of means.
        seed: of everything that is drawn.
        batch_size: rows per forward pass, for the traces that read whole rows; left out, the
            trace's own.
        chunk: bytes that one chunk of work may take, beside the models and what is cached; left
            out, the trace's own.
        progress: called with (label, done, total).

    Raises:
        InputError: for columns that are no whole numbers, no topic, a gap that is negative or not
            finite, or a size below 1.
    """

    metric: Metric | None = None
    unit: str | None = None
    places: int | Shaped[Tensor, "..."] | None = None
    topics: Sequence[str] | None = None
    min_gap: float = 1e-3
    seed: int = 0
    batch_size: int | None = None
    chunk: int | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if isinstance(self.places, Tensor) and self.places.is_floating_point():
            raise InputError(f"places must be whole numbers of columns, got {self.places.dtype}")
        if self.topics is not None:
            if isinstance(self.topics, str) or not len(self.topics):
                raise InputError("topics must be a list of labels, one per prompt")
            object.__setattr__(self, "topics", tuple(map(str, self.topics)))
        if not (math.isfinite(self.min_gap) and self.min_gap >= 0):
            raise InputError(f"min_gap must be a finite number from 0 on, got {self.min_gap}")
        for name, size in (("batch_size", self.batch_size), ("chunk", self.chunk)):
            if size is not None and size < 1:
                raise InputError(f"{name} must be at least 1, got {size}")

    def tell(self, label: str, done: int, total: int) -> None:
        """Report progress, if anybody listens."""
        if self.progress is not None:
            self.progress(label, done, total)

    def topics_of(self, prompts: int, *rows: Tensor) -> tuple[str, ...] | None:
        """The topic of each prompt, None where each is one.

        Args:
            prompts: how many there are.
            rows: what the prompts are made of, `[prompt ...]` each (the tokens of both runs). Those
                that are equal in all of it are copies, one observation: they share the first one's
                topic.

        Raises:
            InputError: if there is not one for each.
        """
        if self.topics is not None and len(self.topics) != prompts:
            raise InputError(
                f"{prompts} prompts but {len(self.topics)} topics; give one per prompt"
            )
        parts = [row.reshape(prompts, -1).tolist() for row in rows]
        whole = [str(part) for part in zip(*parts, strict=True)] if parts else []
        first = copies(whole)
        if not whole or len(set(first)) == prompts:
            return self.topics if self.topics is None else tuple(self.topics)
        labels = self.topics or [f"prompt {sha256_text(one)[:16]}" for one in whole]
        return tuple(labels[i] for i in first)


def asked(ask: Question | None, metric: Metric | None = None) -> Question:
    """The question, with the metric of the shorthand.

    Raises:
        InputError: if both name a metric.
    """
    if ask is None:
        return Question(metric=metric)
    if metric is None:
        return ask
    if ask.metric is not None:
        raise InputError("the metric is given twice; give metric=, or Question(metric=...)")
    return replace(ask, metric=metric)
