"""A tokenizer that cannot write everything; the tiny models of other rooms are used here too."""

import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

for room in ("patching", "circuits"):
    sys.path.append(str(Path(__file__).resolve().parents[1] / room))


@pytest.fixture(scope="session")
def small_words() -> PreTrainedTokenizerFast:
    """Whole words only, all others unknown."""
    words = {"<unk>": 0, "a": 1, "rain": 2, "sun": 3}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
