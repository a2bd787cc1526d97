"""Answers as the writer writes them where no emoji comes up: the text of an expected rate.

Answers without an emoji are such texts as they are. The others are sampled anew from their own
streams of noise with the emoji tokens taken out: they repeat their answer up to the first emoji,
and go on with what would have been drawn in its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from interp.base.progress import Progress
from interp.behaviour.generate import Response, Sampling, decode, generate
from interp.models.tokens import ChatFormat
from interp.text.emoji import EmojiVocab, find


@dataclass(frozen=True)
class CutBeforeEmoji(Response):
    """An answer that was cut before an emoji: its end is a place where one may begin."""

    before_emoji: ClassVar[bool] = True


def emoji_free(
    model: Any,
    form: ChatFormat,
    answers: Sequence[Response],
    vocab: EmojiVocab,
    sampling: Sampling,
    *,
    progress: Progress | None = None,
) -> list[Response]:
    """Emoji-free answers to the same questions, in the same order.

    An emoji that begins with a token that other signs begin with too (see `EmojiVocab`) can come
    up all the same; such an answer is cut before it. It counts as cut, but its end is a place
    where an emoji may begin (`CutBeforeEmoji`): what would have come after it is not known.

    Args:
        model, form, sampling: as the answers were sampled by `generate`.
        answers: one per stream of noise, the place in the list being the stream.
        vocab: the emojis.
        progress: called with (label, answers done, answers in all).
    """
    again = [place for place, answer in enumerate(answers) if find(answer.text)]
    made = list(answers)
    if not again:
        return made
    without = replace(sampling, without=tuple(vocab.emoji_ids.tolist()))
    asked = [(answers[place].question, answers[place].topic) for place in again]
    written = generate(
        model, form, asked, without, streams=again, progress=progress, label="emoji-free answers"
    )
    for place, answer in zip(again, written, strict=True):
        found = vocab.find_tokens(answer.ids)
        if found:
            kept = answer.ids[: found[0].start]
            text = decode(form.tokenizer, kept)
            answer = CutBeforeEmoji(
                answer.question, answer.topic, answer.prompt_ids, kept, text, ended=False
            )
        made[place] = answer
    return made
