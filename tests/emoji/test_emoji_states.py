"""A vocabulary does not depend on how its tokenizer was last called, or saved."""

import pytest
from thinned import SEED, todays
from transformers import AutoTokenizer

from interp.emoji.encode import CONTEXTS, encode_after, token_bytes

EMOJIS = ["😊", "👩‍👩‍👧", "☀️", "🇩🇪", "5️⃣"]
STATES = {
    "left": lambda inner, end: inner.enable_padding(direction="left", **end),
    "right": lambda inner, end: inner.enable_padding(direction="right", length=9, **end),
    "cut": lambda inner, _: inner.enable_truncation(2),
    "cut left": lambda inner, _: inner.enable_truncation(2, direction="left"),
    "split": lambda inner, _: setattr(inner, "encode_special_tokens", True),
}


TODAY = list(STATES)[SEED % len(STATES)]


def spelled(tokenizer):
    return [list(encode_after(tokenizer, EMOJIS, context)) for context in CONTEXTS]


@pytest.mark.parametrize("name", todays())
def test_leftover_padding_and_truncation_change_nothing(shared, tmp_path, name):
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / name)
    real.add_tokens(["😊"], special_tokens=True)
    inner, wanted, pieces = real.backend_tokenizer, spelled(real), token_bytes(real)
    assert len(wanted[0]) == len(EMOJIS)
    for state, enter in STATES.items():
        enter(inner, {"pad_id": real.eos_token_id, "pad_token": real.eos_token})
        left = inner.padding, inner.truncation
        assert spelled(real) == wanted, state
        assert (inner.padding, inner.truncation) == left, "what was set stays set"
        if state == TODAY:
            real.save_pretrained(tmp_path)
            again = AutoTokenizer.from_pretrained(tmp_path)
            assert spelled(again) == wanted, f"{state}, saved"
            assert token_bytes(again) == pieces
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = False
