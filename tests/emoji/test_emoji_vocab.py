"""Log-odds, log-probabilities, purity, certainty: a small trained tokenizer by brute force."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from thinned import turn
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from interp.emoji import EmojiVocab, find, rgi
from interp.emoji.data import assigned_characters, emoji_characters
from interp.errors import InputError, TokenizerError


def characters_by_first_tokens(
    tokenizer: PreTrainedTokenizerFast,
) -> dict[tuple[int, ...], list[str]]:
    """Every prefix of every character's tokens in both contexts."""
    table: dict[tuple[int, ...], list[str]] = {}
    characters = assigned_characters()
    for before in ("a", "a "):
        texts = [before + c for c in characters]
        rows = [row.ids for row in tokenizer.backend_tokenizer.encode_batch_fast(texts)]
        cut = len(tokenizer("a", add_special_tokens=False)["input_ids"])
        for character, row in zip(characters, rows, strict=True):
            for end in range(cut + 1, len(row) + 1):
                table.setdefault(tuple(row[cut:end]), []).append(character)
    return table


@turn(0, of=3)
def test_purity_and_certainty_against_every_character(
    small: PreTrainedTokenizerFast, small_vocab: EmojiVocab
) -> None:
    table = characters_by_first_tokens(small)
    for place, token in enumerate(small_vocab.onset_ids.tolist()):
        begun = table.get((token,), [])
        ours = sum(c in emoji_characters() for c in begun)
        common = sum(c not in emoji_characters() and c <= "\uffff" for c in begun)
        purity = ours / len(begun) if len(begun) > ours else 1.0
        assert float(small_vocab.purity[place]) == pytest.approx(purity, rel=1e-5)
        expected = ours / (ours + common) if common else 1.0
        assert float(small_vocab.common_purity[place]) == pytest.approx(expected, rel=1e-5)
    certainty = small_vocab.certainty().set_index(["emoji", "context"])
    by_prefix: dict[tuple[int, ...], set[str]] = {}
    for row in small_vocab.trie.spellings:
        for end in range(1, len(row.ids) + 1):
            by_prefix.setdefault(row.ids[:end], set()).add(row.emoji)
    for row in small_vocab.trie.spellings[::5]:
        after = [
            end
            for end in range(1, len(row.ids) + 1)
            if find(small.decode(row.ids[:end]).lstrip()[:2])[:1]
            or (
                not set(table.get(row.ids[:end], ())) - emoji_characters()
                and row.emoji[0] not in "0123456789#*©®™"
            )
        ]
        found = certainty.loc[(row.emoji, row.context)]
        if row.emoji[0] not in "0123456789#*©®™":
            assert found["emoji_after"] == after[0]
        alone = [end for end in range(1, len(row.ids) + 1) if len(by_prefix[row.ids[:end]]) == 1]
        if not alone:
            assert found.isna()["itself_after"]
        else:
            assert found["itself_after"] == max(alone[0], found["emoji_after"])


def test_log_odds_are_the_odds_of_the_softmax(small_vocab: EmojiVocab) -> None:
    logits = torch.randn(2, 3, small_vocab.size + 7, generator=torch.Generator().manual_seed(0))
    emoji = logits.double().softmax(-1)[..., small_vocab.emoji_ids].sum(-1)
    expected = (emoji / (1 - emoji)).log()
    found = small_vocab.log_odds(logits)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(small_vocab.log_odds(logits[0, 0]), found[0, 0])
    half = small_vocab.log_odds(logits.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, small_vocab.log_odds(logits.bfloat16().float()))


def test_log_odds_have_the_right_gradient(small_vocab: EmojiVocab) -> None:
    """d/dx (lse_E - lse_O) is the softmax within the emojis, minus that within the others."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, small_vocab.size, generator=generator, requires_grad=True)
    small_vocab.log_odds(logits).sum().backward()
    is_emoji = torch.zeros(small_vocab.size, dtype=torch.bool)
    is_emoji[small_vocab.emoji_ids] = True
    infinity = torch.tensor(float("inf"))
    within = torch.where(is_emoji, logits, -infinity).softmax(-1)
    others = torch.where(is_emoji, -infinity, logits).softmax(-1)
    torch.testing.assert_close(logits.grad, (within - others).detach())


def test_log_odds_stay_finite_for_huge_logits(small_vocab: EmojiVocab) -> None:
    logits = torch.zeros(small_vocab.size)
    logits[small_vocab.whole_ids[0]] = 1e4
    assert small_vocab.log_odds(logits).isfinite()


def test_log_probs_sum_the_ids_of_each_emoji(
    small: PreTrainedTokenizerFast, small_vocab: EmojiVocab
) -> None:
    logits = torch.randn(5, small_vocab.size, generator=torch.Generator().manual_seed(2))
    found = small_vocab.log_probs(logits)
    assert found.shape == (5, len(small_vocab.single_token_emojis))
    probability = logits.double().softmax(-1)
    written = Counter()
    for place, emoji in enumerate(small_vocab.single_token_emojis):
        ids = [
            token
            for token in range(small_vocab.size)
            if find(text := small.decode([token]).lstrip())[:1]
            and find(text)[0].start == 0
            and find(text)[0].canonical == emoji
        ]
        written[len(ids)] += 1
        expected = probability[:, ids].sum(-1).log()
        torch.testing.assert_close(found[:, place].double(), expected, atol=1e-5, rtol=1e-5)
    assert max(written) > 1, "some emoji should have two ids, or summing is not tested"
    assert "😊" in small_vocab.single_token_emojis


def test_logits_of_another_model_are_refused(small_vocab: EmojiVocab) -> None:
    for method in (small_vocab.log_odds, small_vocab.log_probs, small_vocab.check):
        with pytest.raises(TokenizerError, match=f"{small_vocab.size - 1} columns"):
            method(torch.zeros(2, small_vocab.size - 1))


def test_threshold_chooses_the_ids(small_vocab: EmojiVocab) -> None:
    strict, lax = small_vocab.with_threshold(1.0), small_vocab.with_threshold(1e-6)
    ids = [set(v.emoji_ids.tolist()) for v in (strict, small_vocab, lax)]
    assert ids[0] <= ids[1] < ids[2]
    assert set(small_vocab.whole_ids.tolist()) <= ids[0]
    assert lax.coverage()["glued"] > small_vocab.coverage()["glued"]
    assert small_vocab.digest != lax.digest
    for wrong in (0.0, 1.5):
        with pytest.raises(InputError, match="threshold"):
            small_vocab.with_threshold(wrong)


@turn(1, of=3)
def test_the_same_tokenizer_gives_the_same_vocabulary(
    small: PreTrainedTokenizerFast, small_vocab: EmojiVocab, read_vocabulary: Callable[..., Any]
) -> None:
    again = read_vocabulary(small)
    assert again.digest == small_vocab.digest
    assert again.onset_ids.equal(small_vocab.onset_ids)
    assert again.purity.equal(small_vocab.purity)
    assert repr(again) == repr(small_vocab)
    assert len(repr(again)) < 120


@turn(2, of=3)
def test_an_added_emoji_is_one_token(small: PreTrainedTokenizerFast) -> None:
    text = small.backend_tokenizer.to_str()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text))
    tokenizer.add_tokens(["🦩"])
    vocab = EmojiVocab.from_tokenizer(tokenizer)
    token = tokenizer.convert_tokens_to_ids("🦩")
    assert vocab.size == len(tokenizer)
    assert token in vocab.whole_ids.tolist()
    assert {row.ids for row in vocab.trie.spellings if row.emoji == "🦩"} >= {(token,)}


def test_onset_positions_of_a_batch(
    small: PreTrainedTokenizerFast, small_vocab: EmojiVocab
) -> None:
    first = small("What 😊 a 🦩", add_special_tokens=False)["input_ids"]
    second = small("😊 plain", add_special_tokens=False)["input_ids"]
    width = max(len(first), len(second)) + 1
    pad = small.eos_token_id
    rows = [[pad] * (width - len(first)) + first, [pad] * (width - len(second)) + second]
    found = 0
    for ids in rows:
        onsets = {match.start - 1 for match in small_vocab.find_tokens(ids) if match.start}
        found += len(onsets)
        for place in range(width - 1):
            before, after = small.decode(ids[: place + 1]), small.decode(ids[: place + 2])
            # The next token begins an emoji if it brings the text's next emoji or its first bytes.
            begins = small.decode(ids[place + 1 :]).lstrip()[:1] in ("😊", "🦩")
            assert (place in onsets) == (begins and before != after), (place, before, after)
        assert width - 1 not in onsets
    assert found == 3
    with pytest.raises(TokenizerError, match="id 100000"):
        small_vocab.find_tokens([100_000])


def test_a_tokenizer_without_emojis_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "word": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    with pytest.raises(TokenizerError, match="cannot write any emoji"):
        EmojiVocab.from_tokenizer(tokenizer)


def test_a_tokenizer_that_knows_three_emojis_says_which_are_out_of_reach() -> None:
    words = Tokenizer(
        models.WordLevel({"[UNK]": 0, "a": 1, "😊": 2, "👍": 3, "❤️": 4}, unk_token="[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("a", "isolated")]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    vocab = EmojiVocab.from_tokenizer(tokenizer)
    assert vocab.whole_ids.tolist() == vocab.onset_ids.tolist() == [2, 3, 4]
    assert {row.emoji for row in vocab.trie.spellings} == {"😊", "👍", "❤️"}
    missing = {emoji for emoji, context in vocab.trie.unreachable if context == "glued"}
    assert missing >= set(rgi()) - {"😊", "👍", "❤️"}
