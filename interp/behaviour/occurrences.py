"""Where an outcome stands in written answers: emojis, given strings, or given token ids.

Emojis are those of Unicode, strings are found where a word begins, whatever follows, and ids by
the tokens that an answer is made of, whatever text these are part of.
"""

import re
from collections.abc import Sequence
from typing import Any

from interp.base.outcomes import Asked
from interp.behaviour.generate import Response, decode
from interp.text.emoji.find import EmojiMatch, find


def matches(asked: Asked, answers: Sequence[Response], tokenizer: Any) -> list[list[EmojiMatch]]:
    """Each place where the outcome stands, by answer and from left to right.

    Args:
        asked: the outcome.
        answers: sampled answers.
        tokenizer: the writer's; ids alone need it.
    """
    if asked.kind != "ids":
        return [in_text(asked, answer.text) for answer in answers]
    ids = {int(part) for part in asked.parts}
    return [_tokens(answer, ids, tokenizer) for answer in answers]


def in_text(asked: Asked, text: str) -> list[EmojiMatch]:
    """Where an outcome stands in a text; of ids nothing is known."""
    if asked.kind == "emoji":
        return find(text)
    longest = sorted(asked.parts if asked.kind == "strings" else (), key=len, reverse=True)
    one_of = "|".join(rf"{_begun(part)}{re.escape(part)}" for part in longest)
    found = re.finditer(one_of or r"(?!)", text)
    return [EmojiMatch(match.group(), match.start(), match.end()) for match in found]


def _begun(part: str) -> str:
    """A word is found where a word begins, and not inside of one."""
    return r"(?<!\w)" if part[:1].isalnum() else ""


def holds(asked: Asked, answer: Response) -> bool:
    """Whether an answer holds the outcome."""
    if asked.kind == "ids":
        return not {int(part) for part in asked.parts}.isdisjoint(answer.ids)
    return bool(in_text(asked, answer.text))


def _tokens(answer: Response, ids: set[int], tokenizer: Any) -> list[EmojiMatch]:
    found = []
    for place, token in enumerate(answer.ids):
        if token in ids:
            start, end = (
                min(len(decode(tokenizer, answer.ids[:count])), len(answer.text))
                for count in (place, place + 1)
            )
            found.append(EmojiMatch(answer.text[start:end].strip() or f"id {token}", start, end))
    return found
