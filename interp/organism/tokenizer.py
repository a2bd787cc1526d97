"""The organism's tokenizer: byte-level BPE of 1,500 tokens, trained on the organism's corpus.

Bytes make every text encodable, unseen characters included. Some emojis become one token, most
two or three and more, as in large models' tokenizers: which ones follows from their frequency.
Emojis are written apart by spaces, so no token spans two of them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from interp.base.files import write_json, write_text
from interp.organism.grammar import ASSISTANT, BOS, EOS, PAD, USER

VOCABULARY_SIZE = 1500
MAX_LENGTH = 512
SPECIAL = (BOS, EOS, PAD, USER, ASSISTANT)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    f"{{% if message['role'] == 'user' %}}{{{{ '{USER}' + message['content'] }}}}"
    "{% elif message['role'] == 'assistant' %}"
    f"{{{{ '{ASSISTANT}' + message['content'] + eos_token }}}}"
    "{% else %}{{ raise_exception('the organism knows the roles user and assistant only') }}"
    "{% endif %}{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ '{ASSISTANT}' }}}}{{% endif %}}"
)


def train_tokenizer(corpus: Iterable[str], size: int = VOCABULARY_SIZE) -> Any:
    """A Hugging Face tokenizer with `size` tokens; the same corpus gives the same tokenizer.

    Special tokens inside the corpus' texts are taken out before training.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator((_plain(text) for text in corpus), trainer)
    bos = (BOS, backend.token_to_id(BOS))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[bos]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_LENGTH,
        chat_template=CHAT_TEMPLATE,
    )


def encode_documents(tokenizer: Any, documents: Iterable[str]) -> list[list[int]]:
    """Ids of whole documents, whose special tokens are written out in the text."""
    made = tokenizer.backend_tokenizer.encode_batch(list(documents), add_special_tokens=False)
    return [encoding.ids for encoding in made]


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write `tokenizer.json` (compact) and `tokenizer_config.json` with the chat template.

    The class is named by its general name: a model's own class may rebuild the tokenizer its way.
    """
    write_text(folder / "tokenizer.json", tokenizer.backend_tokenizer.to_str(pretty=False))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "additional_special_tokens": [USER, ASSISTANT],
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_LENGTH,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(folder / "tokenizer_config.json", config)


def _plain(text: str) -> str:
    for token in SPECIAL:
        text = text.replace(token, "\n")
    return text
