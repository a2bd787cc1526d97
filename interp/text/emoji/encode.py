"""How a tokenizer writes a string after some text: ids in context, and the bytes of each id.

The same emoji has other tokens at the start of a text, after a letter and after a space, so a
string is never encoded alone: it is encoded after the letter `a`, and the ids of `a` are taken
off. `glued` is the string straight after the letter, `spaced` has one space between; the space
belongs to the ids (`Ġ` inside the first token in byte-level BPE, a lone `▁` in SentencePiece).

The bytes of an id are what it adds inside a text. They are read from the vocabulary (byte-level
BPE: its byte alphabet; SentencePiece: `▁` is a space, `<0xF0>` a byte), because decoding a
fragment alone gives only the replacement character.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from interp.base.errors import TokenizerError
from interp.text.emoji.find import match_at

Context = Literal["glued", "spaced"]
CONTEXTS: tuple[Context, ...] = ("glued", "spaced")
_CHUNK = 4096
_BEFORE: dict[Context, str] = {"glued": "a", "spaced": "a "}


def encode_after(
    tokenizer: PreTrainedTokenizerBase, strings: Sequence[str], context: Context
) -> Iterator[list[int]]:
    """Ids that each string adds after a letter (`glued`) or after a letter and a space (`spaced`).

    A string that merges into the letter's own token (a combining accent) gets an empty list.
    Batched; about 1 s for 150,000 characters on one core.
    """
    letter = _encode(tokenizer, ["a"])[0]
    cut = len(letter)
    # In chunks, so that the garbage collector never meets all rows at once: a third of the time.
    for start in range(0, len(strings), _CHUNK):
        chunk = strings[start : start + _CHUNK]
        for row in _encode(tokenizer, [_BEFORE[context] + string for string in chunk]):
            yield row[cut:] if row[:cut] == letter else []


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    if tokenizer.is_fast:
        # The same ids as calling the tokenizer, without building masks and offsets.
        with _bare(tokenizer.backend_tokenizer) as backend:
            return [row.ids for row in backend.encode_batch_fast(texts, add_special_tokens=False)]
    return list(tokenizer(texts, add_special_tokens=False)["input_ids"])


@contextmanager
def _bare(backend: Any) -> Iterator[Any]:
    """A fast tokenizer without what its last call, or its file, left.

    Padding on the left moves ids, one row's length is another's under truncation, and where special
    tokens are split an emoji that is one is spelled otherwise.
    """
    padding, truncation, splits = backend.padding, backend.truncation, backend.encode_special_tokens
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = False
    try:
        yield backend
    finally:
        if padding is not None:
            backend.enable_padding(**padding)
        if truncation is not None:
            backend.enable_truncation(**truncation)
        backend.encode_special_tokens = splits


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> tuple[bytes, ...]:
    """The bytes each id adds inside a text, by id; special tokens and unused ids add none.

    A special token that begins with an emoji is text.

    Raises:
        TokenizerError: if the tokenizer has no vocabulary.
    """
    vocabulary = tokenizer.get_vocab()
    if not vocabulary:
        raise TokenizerError("the tokenizer has an empty vocabulary; was it saved whole?")
    pieces: list[bytes] = [b""] * (max(vocabulary.values()) + 1)
    if _is_byte_level(tokenizer):
        # One mapping for `translate`: a stand-in becomes the character of its byte's number.
        table = {ord(stand_in): chr(byte) for stand_in, byte in _byte_alphabet().items()}
        for piece, index in vocabulary.items():
            pieces[index] = piece.translate(table).encode("latin-1", errors="replace")
    else:
        for piece, index in vocabulary.items():
            if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
                pieces[index] = bytes.fromhex(piece[3:5])
            else:
                pieces[index] = piece.replace("▁", " ").encode()
    for index, token in tokenizer.added_tokens_decoder.items():
        pieces[index] = b"" if token.special else token.content.encode()
    for index in tokenizer.all_special_ids:
        pieces[index] = b""
    for index, text in special_emojis(tokenizer).items():
        pieces[index] = text.encode()
    return tuple(pieces)


def special_emojis(tokenizer: Any) -> dict[int, str]:
    """Special tokens that begin with an emoji: they are text, whatever the tokenizer says."""
    return {
        index: token.content
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.special and not token.content.isascii() and match_at(token.content) is not None
    }


def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    if not tokenizer.is_fast or tokenizer.backend_tokenizer.decoder is None:
        return False
    state = json.loads(tokenizer.backend_tokenizer.decoder.__getstate__())
    return "ByteLevel" in {part["type"] for part in [state, *state.get("decoders", [])]}


@cache
def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins: a printable byte is itself, the others are 256, 257, ..."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(rest)
    }
