"""How alike questions are: cosine similarity of their embeddings.

By default TF-IDF over words (scikit-learn), fitted on the questions to choose from: no model, no
download, the same everywhere. Zheng et al. 2023 use a sentence encoder; `SentenceEncoder` reads any
Hugging Face encoder from a folder and averages its last layer over the tokens.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from transformers import AutoModel

from interp.base.errors import DataError, ModelError, said
from interp.models.folders import check_folder
from interp.models.loading import load_tokenizer, resolve_device

Array = NDArray[np.float64]
Encoder = Callable[[Sequence[str]], Array]


class Nearest:
    """Ranks known texts by their similarity to a new one.

    Args:
        texts: the texts to choose from.
        encoder: maps texts to rows of numbers `[text, feature]`; TF-IDF if left out.

    Raises:
        DataError: if there are no texts, or none holds a word.
    """

    def __init__(self, texts: Sequence[str], encoder: Encoder | None = None) -> None:
        if not texts:
            raise DataError("there are no questions to choose demonstrations from")
        self.encoder = encoder or _tfidf(texts)
        self.rows = normalize(self.encoder(texts))

    def similarities(self, text: str) -> Array:
        """Cosine similarity of `text` to each known text, `[text]`; 0 where either is all zero."""
        found: Array = self.rows @ normalize(self.encoder([text]))[0]
        return found

    def order(self, text: str) -> list[int]:
        """Indices of the known texts, most similar first; ties in the order given."""
        return np.argsort(-self.similarities(text), kind="stable").tolist()


def _tfidf(texts: Sequence[str]) -> Encoder:
    vectorizer = TfidfVectorizer()
    try:
        vectorizer.fit(texts)
    except ValueError:
        raise DataError("the questions to choose demonstrations from hold no words") from None
    return lambda some: vectorizer.transform(some).toarray()


class SentenceEncoder:
    """Mean of an encoder's last layer over the tokens of a text (Reimers & Gurevych 2019).

    Args:
        folder: a Hugging Face folder with safetensors weights and a fast tokenizer.
        device: CUDA if there is one, else the CPU.
        batch_size: texts at a time.

    Raises:
        ModelError, TokenizerError: if the folder holds none.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        device: torch.device | str | None = None,
        batch_size: int = 64,
    ) -> None:
        folder = check_folder(folder)
        self.device = resolve_device(device)
        self.tokenizer = load_tokenizer(folder)
        try:
            self.model: Any = AutoModel.from_pretrained(
                str(folder), use_safetensors=True, trust_remote_code=False
            )
        except Exception as problem:  # a config's wrong values raise every kind
            raise ModelError(
                f"{folder}: cannot be loaded as an encoder ({said(problem)})"
            ) from None
        self.model.eval().requires_grad_(False).to(self.device)
        self.batch_size = batch_size

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Array:
        """Embeddings `[text, feature]`."""
        parts = []
        for start in range(0, len(texts), self.batch_size):
            made = self.tokenizer(
                list(texts[start : start + self.batch_size]),
                padding=True,
                truncation=True,
                split_special_tokens=True,  # a text that spells one is text
                return_tensors="pt",
            ).to(self.device)
            hidden = self.model(**made).last_hidden_state.double()
            share = made["attention_mask"][..., None].double()
            parts.append(((hidden * share).sum(1) / share.sum(1)).cpu())
        return torch.cat(parts).numpy()
