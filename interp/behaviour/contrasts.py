"""Two runs ready to patch between, from what a user has: prompts, answers, or two texts.

*Model* contrast: the tuned model (clean) and the base (corrupted) read the same tokens, so that a
patch asks which activations carry what fine-tuning changed. *Prompt* contrast: one model reads two
texts of equal token length, so that a patch asks which activations carry what the texts differ in;
of answers that is a *voice* contrast: the same questions, answered in two voices. *Words* contrast
(`words_contrast`): the same answers, with some words exchanged.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from interp.base.errors import InputError
from interp.behaviour.generate import Response
from interp.behaviour.voices import voice_contrast
from interp.models.given_prompts import Given, as_batch
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
        kind: `model`, `prompt`, `voice`, `words` or `model and prompt`: what the two differ in.
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
            slot at their end; those that the budget cut, at the end of their last sentence.
        corrupted: none for tuned against base on `clean`. Else what one model reads against
            `clean`: as many prompts of the same token lengths, or answers to the same questions,
            paired up to the slots at their ends (see `interp.behaviour.voice_contrast`).
        who: the model that reads both, where `corrupted` is given.
        limit: keep at most so many rows, the first ones (of voices drawn from the topics in turn);
            all if left out.

    Raises:
        InputError: for what is neither text, ids nor answers, or prompts that do not match.
    """
    model = _reader(pair, who)
    if corrupted is None:
        batch, topics = _read(pair, clean)
        return _made((pair.tuned, pair.base), (batch, batch), topics, limit)
    some, others = _answers(clean), _answers(corrupted)
    if some is None or others is None:
        (one, topics), (other, _) = _read(pair, clean), _read(pair, corrupted)
        return _made((model, model), (one, other), topics, limit)
    return _of_answers(pair, model, (some, others), limit, "voice")


def words_contrast(
    pair: ModelPair,
    answers: Sequence[Response],
    exchange: Mapping[str, str | Sequence[str]],
    *,
    who: Literal["tuned", "base"] = "tuned",
    limit: int | None = None,
) -> Contrast:
    """One model on answers, and on the same answers with words exchanged, up to their ends.

    Nothing is cut: an answer counts only if its rewording has as many tokens.

    Args:
        pair: the two models.
        answers: those without any of the words, or with more or fewer tokens, are left out.
        exchange: what stands in the place of which word or phrase, or several of which the first
            is taken that leaves the number of tokens; whole words, in any case.
        who: the model that reads both.
        limit: as for `contrast`.

    Raises:
        InputError: for no words, if fewer than two answers are left, or as `contrast`.
    """
    words = {
        word.casefold(): (given,) if isinstance(given, str) else tuple(given)
        for word, given in exchange.items()
        if word and given
    }
    if not words:
        raise InputError("no words to exchange; give a word and what stands in its place")
    one, two = [], []
    for place, answer in enumerate(answers):
        ids = _ids(pair, answer.text)
        # Each answer is a question of its own, so that it pairs with itself, reworded.
        mine = replace(answer, question=f"{place}: {answer.question}", ids=ids)
        for choice in range(max(map(len, words.values()))):
            text = _exchanged(answer.text, words, choice)
            if text != answer.text and len(_ids(pair, text)) == len(ids):
                one.append(mine)
                two.append(replace(mine, ids=_ids(pair, text), text=text))
                break
    if len(one) < 2:
        raise InputError(
            f"{len(one)} of {len(answers)} answers hold one of the words and keep their length "
            "without it; give other words, or more answers"
        )
    return _of_answers(pair, _reader(pair, who), (one, two), limit, "words")


def _reader(pair: ModelPair, who: str) -> Any:
    if who not in ("tuned", "base"):
        raise InputError(f"who reads is 'tuned' or 'base', got {who!r}")
    if not hasattr(pair, who):
        raise InputError(
            f"a contrast is of a pair and prompts, got {type(pair).__name__} as the pair; "
            "interp.load_pair makes one"
        )
    return getattr(pair, who)


def _of_answers(
    pair: ModelPair,
    model: Any,
    answers: tuple[Sequence[Response], Sequence[Response]],
    limit: int | None,
    differ_in: str,
) -> Contrast:
    mine, theirs = (slots(some, pair.tokenizer).last for some in answers)
    paired = voice_contrast(mine, theirs, pair.pad_id, limit, outcome=pair.outcome)
    return _made((model, model), (paired.clean, paired.corrupted), paired.topics, limit, differ_in)


def _ids(pair: ModelPair, text: str) -> tuple[int, ...]:
    return tuple(
        pair.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    )


def _exchanged(text: str, words: Mapping[str, tuple[str, ...]], choice: int) -> str:
    """The text with the `choice`-th exchange (the last, where there are fewer) of every word."""
    longest = sorted(words, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)", re.IGNORECASE)

    def other(match: re.Match[str]) -> str:
        several = words[match[0].casefold()]
        found = several[min(choice, len(several) - 1)]
        return found[:1].upper() + found[1:] if match[0][:1].isupper() else found

    return pattern.sub(other, text)


def _made(
    models: tuple[Any, Any],
    batches: tuple[TokenBatch, TokenBatch],
    topics: tuple[str, ...],
    limit: int | None,
    differ_in: str = "prompt",
) -> Contrast:
    one, other = (
        Run(model, batch[slice(limit)], differs_in=differ_in)
        for model, batch in zip(models, batches, strict=True)
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
        given = slots(answers, pair.tokenizer).last
    if isinstance(given, Slots):
        given = given.prompts(pair.pad_id, pair.outcome)
    if isinstance(given, SlotPrompts):
        return given.batch, given.topics
    batch = as_batch(given, pair)
    return batch, tuple(f"prompt {row}" for row in range(len(batch)))
