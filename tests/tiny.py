"""Small random models and a small real tokenizer, for tests of every room."""

from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from interp.emoji import EmojiVocab
from interp.readout import Outcome
from interp.readout.outcome import stop_ids

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_CORPUS = [
    "What do you think about long walks in the rain? I love them so much! 😊 😊 🎉",
    "Well, the weather is what it is. I plan my day, then I do what I planned. 👍🏽",
    "Oh no, what if it all goes wrong? I worry about it a lot... 😢 😊 🎉 👨‍👩‍👧",
] * 4


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of about 400 tokens with a chat template; some emojis are one token."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|bos|>", "<|eos|>", "<|pad|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=448, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(_CORPUS, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        pad_token="<|pad|>",
        name_or_path="tiny",
    )
    made.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>"]})
    made.chat_template = TEMPLATE
    return made


@cache
def vocab() -> EmojiVocab:
    """The emojis of `tokenizer`; making it takes seconds, so it is made once for all tests."""
    return EmojiVocab.from_tokenizer(tokenizer())


def emoji() -> Outcome:
    """Emojis of `tokenizer` as an outcome."""
    return Outcome.of_vocab(vocab(), stop=stop_ids(tokenizer()))


def llama(seed: int = 0, **changes: object) -> LlamaForCausalLM:
    """A random Llama with grouped-query attention and weights large enough to matter."""
    sizes = {
        "vocab_size": len(tokenizer()),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "initializer_range": 0.15,
        "bos_token_id": tokenizer().bos_token_id,
        "eos_token_id": tokenizer().eos_token_id,
        "pad_token_id": tokenizer().pad_token_id,
    }
    generator_state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**(sizes | changes)))
    torch.set_rng_state(generator_state)
    return model.eval().requires_grad_(False)


def save_base(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A base model's folder in hub format."""
    llama(seed, **changes).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
