"""Where one answer's first emoji begins, and its prompt up to the slot at its end.

The onset position is the one whose next token begins an emoji. Where a tokenizer writes a lone
space token before the emoji, that token comes before the onset. Of many answers
`interp.readout.slot` takes the places, whether an emoji followed or not.
"""

from collections.abc import Sequence
from typing import Any

from interp.behaviour.generate import Response, decode
from interp.readout.outcome import Outcome
from interp.readout.slot import slot_length
from interp.text.emoji import find


def onset_index(tokenizer: Any, ids: Sequence[int]) -> int | None:
    """Index in `ids` of the token that begins the first emoji; `None` if there is no emoji.

    A token that holds both text and the beginning of an emoji counts as the beginning.
    """
    text = decode(tokenizer, ids)
    found = find(text)
    if not found:
        return None
    before = text[: found[0].start]
    for length in range(len(ids), -1, -1):  # from the end, where answers carry their emojis
        if before.startswith(decode(tokenizer, ids[:length])):
            return length
    return None


def slot_ids(tokenizer: Any, response: Response, outcome: Outcome | None = None) -> tuple[int, ...]:
    """Prompt and answer up to the end of the answer's text, before trailing emojis.

    With an outcome that is read at two positions, the lone space it is read after follows.
    """
    kept = response.ids[: slot_length(tokenizer, response.ids)]
    return response.prompt_ids + kept + (() if outcome is None else outcome.space_ids)
