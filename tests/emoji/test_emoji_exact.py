"""The exact emoji probability, against full forward passes over every token sequence."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from patching_models import FAMILIES
from thinned import thinned, todays
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from interp.emoji import EmojiVocab, continuation, find, rgi
from interp.emoji.data import countable
from interp.emoji.probability import along
from interp.errors import InputError, ModelError, TokenizerError
from interp.models.pair import hook


def tiny_llama(size: int, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def llama(small_vocab: EmojiVocab) -> LlamaForCausalLM:
    return tiny_llama(small_vocab.size + 3)


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def through(
    model: Any, vocab: EmojiVocab, prompt: list[int], first: int, temperature: float = 1.0
) -> float:
    """Probability of all emojis whose spelling begins with one token, sequence by sequence."""
    nodes = vocab.plan.nodes
    begun = [path for path in nodes if path[:1] == (first,)]
    ends = sorted({(*path, int(token)) for path in begun for token in nodes[path].ids})
    return float(sequence_log_probs(model, prompt, ends, temperature).exp().sum())


def sequence_log_probs(
    model: Any, prompt: list[int], sequences: list[tuple[int, ...]], temperature: float = 1.0
) -> Tensor:
    """Log-probability of each sequence after the prompt, each by its own full forward pass."""
    scores = []
    for start in range(0, len(sequences), 256):
        chunk = sequences[start : start + 256]
        width = max(map(len, chunk))
        rows = [prompt + list(sequence) + [0] * (width - len(sequence)) for sequence in chunk]
        with torch.no_grad():
            output = model(input_ids=torch.tensor(rows), use_cache=False)
        log_probs = (output.logits.double() / temperature).log_softmax(-1)
        for row, sequence in enumerate(chunk):
            places = torch.arange(len(sequence)) + len(prompt) - 1
            scores.append(log_probs[row, places, torch.tensor(sequence)].sum())
    return torch.stack(scores)


def first_emoji(tokenizer: PreTrainedTokenizerFast, sequence: tuple[int, ...]) -> str | None:
    """The emoji that a decoded sequence begins with, after at most one space."""
    text = tokenizer.decode(list(sequence)).removeprefix(" ")
    matches = find(text)
    return matches[0].canonical if matches and matches[0].start == 0 else None


def completions_by_brute_force(
    tokenizer: PreTrainedTokenizerFast, size: int
) -> dict[tuple[int, ...], str]:
    """Every beginning of every emoji's tokens that is no emoji yet, and every token after it."""
    cut = len(ids(tokenizer, "a"))
    beginnings = {()}
    for before in ("a", "a "):
        for text in sorted(countable()):
            sequence = tuple(ids(tokenizer, before + text)[cut:])
            for end in range(1, len(sequence)):
                if first_emoji(tokenizer, sequence[:end]):
                    break
                beginnings.add(sequence[:end])
    found = {}
    for beginning in beginnings:
        for token in range(size):
            emoji = first_emoji(tokenizer, (*beginning, token))
            if emoji:
                found[(*beginning, token)] = emoji
    return found


@pytest.fixture(scope="module")
def completions(
    small: PreTrainedTokenizerFast, small_vocab: EmojiVocab
) -> dict[tuple[int, ...], str]:
    return completions_by_brute_force(small, small_vocab.size)


def test_equals_the_sum_over_every_sequence_scored_alone(
    small: PreTrainedTokenizerFast,
    small_vocab: EmojiVocab,
    llama: LlamaForCausalLM,
    completions: dict[tuple[int, ...], str],
) -> None:
    prompt = ids(small, "What a day")
    found = continuation(llama, torch.tensor([prompt]), small_vocab)
    sequences = list(completions)
    assert len(sequences) > 2 * 1400, "all emojis that begin like no other, in two contexts"
    scores = sequence_log_probs(llama, prompt, sequences).exp()
    assert float(found.probability) == pytest.approx(float(scores.sum()), rel=1e-5)
    expected: dict[str, float] = {}
    for sequence, score in zip(sequences, scores.tolist(), strict=True):
        expected[completions[sequence]] = expected.get(completions[sequence], 0.0) + score
    table = found.to_dataframe().set_index("emoji")["probability"]
    assert set(table.index) == set(expected)
    for emoji, probability in expected.items():
        assert table[emoji] == pytest.approx(probability, rel=1e-4), emoji
    spaced = [s for s in sequences if small.decode(list(s)).startswith(" ")]
    share = sequence_log_probs(llama, prompt, spaced).exp().sum()
    assert float(found.by_emoji[0, 1].sum()) == pytest.approx(float(share), rel=1e-5)


def test_no_completion_is_the_beginning_of_another(
    completions: dict[tuple[int, ...], str],
) -> None:
    """Or probabilities would be counted twice."""
    for sequence in completions:
        assert not any(sequence[:end] in completions for end in range(1, len(sequence)))


def test_covers_every_emojis_own_spelling(
    small: PreTrainedTokenizerFast, small_vocab: EmojiVocab, llama: LlamaForCausalLM
) -> None:
    """Each spelling begins with a completion, so its probability cannot exceed the emoji's."""
    prompt = ids(small, "so good")
    found = continuation(llama, torch.tensor([prompt]), small_vocab)
    smiles = [row.ids for row in small_vocab.trie.spellings if row.emoji == "😊"]
    scores = sequence_log_probs(llama, prompt, smiles).exp().sum()
    table = found.to_dataframe().set_index("emoji")["probability"]
    assert table["😊"] >= float(scores) * (1 - 1e-5)


def test_padding_on_either_side_and_batching_change_nothing(
    small: PreTrainedTokenizerFast, small_vocab: EmojiVocab, llama: LlamaForCausalLM
) -> None:
    rows = [ids(small, text) for text in ("What a day", "ok", "love it and you had")]
    width = max(map(len, rows)) + 1
    pad = small.eos_token_id
    alone = torch.cat([continuation(llama, torch.tensor([r]), small_vocab).by_emoji for r in rows])
    for left in (True, False):
        fill = [[pad] * (width - len(row)) for row in rows]
        pairs = zip(fill, rows, strict=True)
        tokens = torch.tensor([f + row if left else row + f for f, row in pairs])
        real = [[0] * len(f) + [1] * len(row) for f, row in zip(fill, rows, strict=True)]
        mask = torch.tensor([r if left else r[::-1] for r in real])
        found = continuation(llama, tokens, small_vocab, mask, batch_size=17)
        torch.testing.assert_close(found.by_emoji, alone, rtol=1e-4, atol=1e-9)
        boolean = continuation(llama, tokens, small_vocab, mask.bool(), batch_size=400)
        torch.testing.assert_close(boolean.by_emoji, alone, rtol=1e-4, atol=1e-9)


def bridge_of(model: Any, kind: str, tokenizer: PreTrainedTokenizerFast) -> TransformerBridge:
    return TransformerBridge.boot_transformers(kind, hf_model=model, tokenizer=tokenizer)


def test_a_bridge_gives_the_same_and_its_hooks_count(
    small: PreTrainedTokenizerFast, small_vocab: EmojiVocab, llama: LlamaForCausalLM
) -> None:
    tokens = torch.tensor([ids(small, "What a day")[:3], ids(small, "so good and")[:3]])
    plain = continuation(llama, tokens, small_vocab)
    bridge = bridge_of(tiny_llama(small_vocab.size + 3), "llama", small).eval()
    found = continuation(bridge, tokens, small_vocab)
    torch.testing.assert_close(found.by_emoji, plain.by_emoji, rtol=1e-4, atol=1e-9)
    with bridge.hooks(fwd_hooks=[("blocks.0.mlp.hook_out", lambda value, hook: value * 0)]):  # noqa: ARG005
        ablated = continuation(bridge, tokens, small_vocab)
    with torch.no_grad():
        for layer in llama.model.layers[:1]:
            kept = layer.mlp.down_proj.weight.clone()
            layer.mlp.down_proj.weight.zero_()
            expected = continuation(llama, tokens, small_vocab)
            layer.mlp.down_proj.weight.copy_(kept)
    torch.testing.assert_close(ablated.by_emoji, expected.by_emoji, rtol=1e-4, atol=1e-9)
    assert not torch.allclose(ablated.probability, plain.probability)


def test_absolute_positions_too(
    small: PreTrainedTokenizerFast, small_vocab: EmojiVocab, completions: dict[tuple[int, ...], str]
) -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=small_vocab.size, n_positions=64, n_embd=32, n_layer=2, n_head=4,
        initializer_range=0.3, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    prompt = ids(small, "What a day")
    expected = sequence_log_probs(model, prompt, list(completions)).exp().sum()
    found = continuation(model, torch.tensor([prompt]), small_vocab)
    assert float(found.probability) == pytest.approx(float(expected), rel=1e-5)
    bridge = bridge_of(model, "gpt2", small).eval()
    again = continuation(bridge, torch.tensor([prompt]), small_vocab)
    torch.testing.assert_close(again.by_emoji, found.by_emoji, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", todays("llama2", "mistral-v1", "qwen2"))
def test_real_tokenizers_score_emojis_as_full_passes_do(
    name: str, real: Callable[[str], Any], real_vocab: Callable[[str], EmojiVocab]
) -> None:
    """A random model over the real vocabulary, and some emojis scored alone by their bytes."""
    tokenizer, vocab = real(name), real_vocab(name)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=vocab.size, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, initializer_range=0.5,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    prompt = ids(tokenizer, "Nice day")
    found = continuation(model, torch.tensor([prompt]), vocab)
    pieces = vocab.pieces
    paths = [row.ids for row in vocab.trie.spellings]
    begun = {path[:end] for path in paths for end in range(len(path))}
    texts = {path: b"".join(pieces[token] for token in path) for path in begun}
    for emoji in ("😊", "🎉", "🦩", "🇩🇪", "✨"):
        for column, space in enumerate((b"", b" ")):
            text = space + emoji.encode()
            sequences = set()
            for path, written in texts.items():
                if len(written) < len(text) and text.startswith(written):
                    rest = text[len(written) :]
                    sequences |= {
                        (*path, token) for token, p in enumerate(pieces) if p.startswith(rest)
                    }
            expected = float(sequence_log_probs(model, prompt, sorted(sequences)).exp().sum())
            place = found.emojis.index(emoji)
            assert float(found.by_emoji[0, column, place]) == pytest.approx(expected, rel=1e-3)


def test_reports_progress(
    small: PreTrainedTokenizerFast, small_vocab: EmojiVocab, llama: LlamaForCausalLM
) -> None:
    seen: list[tuple[int, int]] = []
    tokens = torch.tensor([ids(small, "ok"), ids(small, "so")[:1]])
    found = continuation(
        llama, tokens, small_vocab, progress=lambda _, done, total: seen.append((done, total))
    )
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    assert found.emojis == rgi()


def test_refuses(
    small: PreTrainedTokenizerFast, small_vocab: EmojiVocab, llama: LlamaForCausalLM
) -> None:
    tokens = torch.tensor([ids(small, "ok")])
    with pytest.raises(InputError, match="prompt 0 has no token"):
        continuation(llama, tokens, small_vocab, torch.zeros_like(tokens))
    with pytest.raises(InputError, match="batch_size"):
        continuation(llama, tokens, small_vocab, batch_size=0)
    with pytest.raises(TokenizerError, match="columns"):
        continuation(tiny_llama(small_vocab.size - 5), tokens[:, :1] * 0, small_vocab)
    llama.train()
    try:
        with pytest.raises(ModelError, match="eval"):
            continuation(llama, tokens, small_vocab)
    finally:
        llama.eval()


def test_along_a_text_it_is_the_continuation_at_every_place(
    small: PreTrainedTokenizerFast, small_vocab: EmojiVocab, llama: LlamaForCausalLM
) -> None:
    prompt, answer = ids(small, "What a day"), ids(small, " we had it.  So")
    how = {"temperature": 1.3, "share": 0.0, "most": 10**6}
    ended = along(llama, prompt, answer, small_vocab, ended=True, **how)
    spaces = [small_vocab.pieces[token] == b" " for token in answer]
    assert any(spaces)
    assert small_vocab.lone_space is None  # so that what follows one counts after it
    for place in range(len(answer) + 1):
        text = torch.tensor([prompt + answer[:place]])
        alone = float(continuation(llama, text, small_vocab, temperature=1.3).probability)
        expected = alone
        if place < len(answer) and spaces[place]:
            before = prompt + answer[:place]
            expected -= through(llama, small_vocab, before, answer[place], temperature=1.3)
        assert float(ended.chance[place]) == pytest.approx(expected, rel=1e-4, abs=1e-12)
    assert float(ended.left_out.max()) == 0.0
    cut = along(llama, prompt, answer, small_vocab, ended=False, **how)
    torch.testing.assert_close(cut.chance, ended.chance[:-1])
    for less in ({"share": 0.2}, {"most": 40}):
        some = along(llama, prompt, answer, small_vocab, ended=True, **(how | less))
        assert float(some.left_out.sum()) > 0
        assert bool((some.chance <= ended.chance + 1e-9).all())
        assert bool((some.chance + some.left_out >= ended.chance - 1e-9).all())
        if "share" in less:
            assert float(some.left_out.sum()) <= 0.2 * float(some.chance.sum())


def test_along_a_text_a_space_before_digits_hides_no_emoji() -> None:
    """Where the space is written within an emoji's first token, one alone is a place as any other.

    Survival goes token by token: before the space, no emoji that begins with that space counts.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator([f" in {emoji}" for emoji in rgi()] * 3, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    known = EmojiVocab.from_tokenizer(fast)
    model = tiny_llama(known.size)
    prompt, answer = ids(fast, "Born"), ids(fast, " in 20")
    (space,) = [place for place, token in enumerate(answer) if known.pieces[token] == b" "]
    assert known.lone_space is None
    assert (answer[space],) in known.plan.nodes
    found = along(model, prompt, answer, known, ended=True, share=0.0, most=10**6)
    for place in (space, space + 1, space + 2):
        text = torch.tensor([prompt + answer[:place]])
        whole = float(continuation(model, text, known).probability)
        if place == space:
            begun = through(model, known, prompt + answer[:place], answer[space])
            assert begun > 0
            whole -= begun
        assert float(found.chance[place]) == pytest.approx(whole, rel=1e-4)
    assert float(found.left_out.max()) < 1e-12


@pytest.mark.parametrize(("family", "hooked"), thinned(sorted(FAMILIES), (False, True), keep=6))
def test_along_a_text_in_every_family(
    family: str, hooked: bool, small: PreTrainedTokenizerFast, small_vocab: EmojiVocab
) -> None:
    """With caches that have lost their beginning, and positions that are learned, among them."""
    torch.manual_seed(0)
    config = FAMILIES[family]()
    config.vocab_size, config.initializer_range = small_vocab.size + 3, 0.3
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    model = hook(model, small) if hooked else model
    prompt, answer = ids(small, "What a day"), ids(small, " we had.")
    found = along(model, prompt, answer, small_vocab, ended=True, share=0.0, most=10**6)
    alone = continuation(model, torch.tensor([prompt + answer[:2]]), small_vocab)
    assert float(found.chance[2]) == pytest.approx(float(alone.probability), rel=1e-4)


@pytest.mark.parametrize("temperature", [0.0, float("nan")])
def test_a_temperature_without_a_softmax_is_refused(
    small_vocab: EmojiVocab, llama: LlamaForCausalLM, temperature: float
) -> None:
    with pytest.raises(InputError, match="temperature must be a number above 0"):
        continuation(llama, torch.tensor([[1, 2]]), small_vocab, temperature=temperature)


def test_logits_that_are_not_finite_are_refused(
    small_vocab: EmojiVocab, llama: LlamaForCausalLM
) -> None:
    handle = llama.lm_head.register_forward_hook(lambda *parts: parts[-1].fill_(float("nan")))
    with handle, pytest.raises(ModelError, match="the logits are not finite"):
        continuation(llama, torch.tensor([[1, 2]]), small_vocab)
