"""With which tokens a string begins, after a letter and after a space.

A string that some spelling writes as one token is counted by such tokens alone. A string that takes
several is counted by the first of its spelling after a space, and named in `partial`: other words
may begin with that token too. Where a lone `▁` stands before the string (Llama-2 and Mistral write
it before what is not in their vocabulary), what follows the `▁` is counted after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from interp.base.errors import InputError, TokenizerError
from interp.text.emoji.encode import CONTEXTS, encode_after, token_bytes


@dataclass(frozen=True)
class Beginnings:
    """The tokens that some strings begin with; the fields are those of `Outcome`."""

    ids: tuple[int, ...]
    after_ids: tuple[int, ...]
    space: int | None
    partial: tuple[str, ...]
    size: int


def beginnings(tokenizer: Any, strings: Sequence[str]) -> Beginnings:
    """Spell every string in both contexts.

    Raises:
        InputError: if there is no string, or one is empty or begins or ends with white space.
        TokenizerError: if the tokenizer cannot write one of them.
    """
    if isinstance(strings, str) or not len(strings):
        raise InputError("give a list of at least one string as outcome")
    for string in strings:
        if not string or string != string.strip():
            raise InputError(
                f"outcome {string!r} is empty or has white space around it; give the bare string"
            )
    pieces = token_bytes(tokenizer)
    spelled = {
        context: list(encode_after(tokenizer, list(strings), context)) for context in CONTEXTS
    }
    direct: set[int] = set()
    after: set[int] = set()
    spaces: set[int] = set()
    partial = []
    for place, string in enumerate(strings):
        rows = [spelled[context][place] for context in CONTEXTS]
        rows = [ids for ids in rows if _written(pieces, ids) == string.encode()]
        if not rows:
            raise TokenizerError(
                f"the tokenizer cannot write {string!r}: it encodes to nothing, or to unknown "
                "tokens; choose another string"
            )
        # Begun by a lone space or not, and the ids without it.
        split = [(ids[0], ids[1:]) if pieces[ids[0]] == b" " else (None, ids) for ids in rows]
        whole = [one for one in split if len(one[1]) == 1]
        if not whole:
            partial.append(string)
        for space, ids in whole or split[-1:]:
            (direct if space is None else after).add(ids[0])
            spaces |= set() if space is None else {space}
    return Beginnings(
        tuple(sorted(direct)), tuple(sorted(after)), min(spaces, default=None), tuple(partial),
        len(pieces),
    )  # fmt: skip


def _written(pieces: Sequence[bytes], ids: Sequence[int]) -> bytes:
    text = b"".join(pieces[token] for token in ids)
    return text.removeprefix(b" ")
