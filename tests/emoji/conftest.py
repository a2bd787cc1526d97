"""Tokenizers, loaded once: the six real ones, and a small one trained here."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from interp.emoji import EmojiVocab


@pytest.fixture(scope="session")
def real(shared: Path) -> Callable[[str], Any]:
    """Loads a real tokenizer by name, once."""
    return cache(lambda name: AutoTokenizer.from_pretrained(shared / "tokenizers" / name))


@pytest.fixture(scope="session")
def real_vocab(real: Callable[[str], Any]) -> Callable[[str], EmojiVocab]:
    """Builds a real tokenizer's `EmojiVocab` by name, once."""
    return cache(lambda name: EmojiVocab.from_tokenizer(real(name)))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """Byte-level BPE of some 400 tokens that has met a few emojis, some of them often."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [
        "What a day 😊 we had",
        "so good 😂😂",
        "love it ❤️ and you",
        "sun 🌞 sand 👩‍👩‍👧",
        "ok 👍🏽",
    ] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=1,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    folder = tmp_path_factory.mktemp("small")  # a bridge wants a tokenizer that lies on disk
    fast.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def small_vocab(small: PreTrainedTokenizerFast) -> EmojiVocab:
    return EmojiVocab.from_tokenizer(small)
