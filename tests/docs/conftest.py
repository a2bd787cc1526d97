"""What the tests of the pages share."""

from collections.abc import Iterator

import pytest

from interp.emoji import EmojiVocab


@pytest.fixture(scope="session", autouse=True)
def _emojis_read_once() -> Iterator[None]:
    """Reading the emojis of a tokenizer takes seconds, and all pages use the organism's."""
    read, kept = EmojiVocab.from_tokenizer, {}

    def once(tokenizer: object) -> EmojiVocab:
        content = tokenizer.backend_tokenizer.to_str()
        if content not in kept:
            kept[content] = read(tokenizer)
        return kept[content]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmojiVocab, "from_tokenizer", staticmethod(once))
        yield
