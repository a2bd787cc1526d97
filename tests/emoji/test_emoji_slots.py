"""Outcomes of the six real tokenizers."""

import pytest
from tiny import TOKENIZERS

from interp.readout import Outcome


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_space_before_an_emoji_is_read_where_the_tokenizer_writes_it(real, real_vocab, name):
    made = Outcome.of_vocab(real_vocab(name), stop=[0])
    assert made.reads == (2 if name in ("llama2", "mistral-v1") else 1)
    if made.space is not None:
        assert real(name).convert_ids_to_tokens(made.space) == "▁"
