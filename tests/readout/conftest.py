"""A tokenizer that cannot write everything."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def small_words() -> PreTrainedTokenizerFast:
    """Whole words only, all others unknown."""
    words = {"<unk>": 0, "a": 1, "rain": 2, "sun": 3}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
