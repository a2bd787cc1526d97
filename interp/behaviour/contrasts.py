"""Two runs ready to patch between, from what a user has: prompts, answers, or two texts.

*Model* contrast: the tuned model (clean) and the base (corrupted) read the same tokens, so that a
patch asks which activations carry what fine-tuning changed. *Prompt* contrast: one model reads two
texts of equal token length, so that a patch asks which activations carry what the texts differ in;
of answers that is a *voice* contrast: the same questions, answered in two voices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from interp.base.errors import InputError
from interp.behaviour.generate import Response
from interp.behaviour.voices import voice_contrast
from interp.models.given import Given, as_batch
from interp.models.pair import ModelPair
from interp.models.tokens import TokenBatch
from interp.readout import SlotPrompts, Slots, slots
from interp.readout.run import Run, check_pair


@dataclass(frozen=True, repr=False)
class Contrast:
    """Two runs; unpacks into them: `sweep(*contrast, "z")`.

    Attributes:
        clean, corrupted: the runs, row by row of the same length and padding.
        topics: the topic of each row where answers said it, else a name per row.
        kind: `model`, `prompt` or `model and prompt`: what the two differ in.
    """

    clean: Run
    corrupted: Run
    topics: tuple[str, ...]
    kind: str

    def __iter__(self) -> Iterator[Run]:
        return iter((self.clean, self.corrupted))

    def __repr__(self) -> str:
        batch, pos = self.clean.tokens.shape
        return f"Contrast of {self.kind}: {batch} prompts of up to {pos} tokens"


def contrast(
    pair: ModelPair,
    clean: Given | Sequence[Response] | Slots | SlotPrompts,
    corrupted: Given | Sequence[Response] | None = None,
    *,
    who: Literal["tuned", "base"] = "tuned",
    limit: int | None = None,
) -> Contrast:
    """Two runs of a pair.

    Args:
        pair: the two models.
        clean: prompts, as text or ids, or answers, or slots of answers. Answers are read up to the
            slot at their end.
        corrupted: none for tuned against base on `clean`. Else what one model reads against
            `clean`: as many prompts of the same token lengths, or answers to the same questions,
            paired up to the slots at their ends (see `interp.behaviour.voice_contrast`).
        who: the model that reads both, where `corrupted` is given.
        limit: keep at most so many rows, the first ones (of voices drawn from the topics in turn);
            all if left out.

    Raises:
        InputError: for what is neither text, ids nor answers, or prompts that do not match.
    """
    if who not in ("tuned", "base"):
        raise InputError(f"who reads is 'tuned' or 'base', got {who!r}")
    if corrupted is None:
        batch, topics = _read(pair, clean)
        return _made((pair.tuned, pair.base), (batch, batch), topics, limit)
    model = getattr(pair, who)
    some, others = _answers(clean), _answers(corrupted)
    if some is None or others is None:
        (one, topics), (other, _) = _read(pair, clean), _read(pair, corrupted)
        return _made((model, model), (one, other), topics, limit)
    mine, theirs = (slots(answers, pair.tokenizer).ends for answers in (some, others))
    paired = voice_contrast(mine, theirs, pair.pad_id, limit, outcome=pair.outcome)
    return _made((model, model), (paired.clean, paired.corrupted), paired.topics, limit)


def _made(
    models: tuple[Any, Any],
    batches: tuple[TokenBatch, TokenBatch],
    topics: tuple[str, ...],
    limit: int | None,
) -> Contrast:
    one, other = (
        Run(model, batch[slice(limit)]) for model, batch in zip(models, batches, strict=True)
    )
    return Contrast(one, other, topics[:limit], check_pair(one, other))


def _answers(given: Any) -> list[Response] | None:
    """Answers, if that is what was given."""
    given = [given] if isinstance(given, Response) else given
    if isinstance(given, Sequence) and given and all(isinstance(a, Response) for a in given):
        return list(given)
    return None


def _read(pair: ModelPair, given: Any) -> tuple[TokenBatch, tuple[str, ...]]:
    answers = _answers(given)
    if answers is not None:
        given = slots(answers, pair.tokenizer).ends
    if isinstance(given, Slots):
        given = given.prompts(pair.pad_id, pair.outcome)
    if isinstance(given, SlotPrompts):
        return given.batch, given.topics
    batch = as_batch(given, pair)
    return batch, tuple(f"prompt {row}" for row in range(len(batch)))
