"""What lies beside an adapter: its tokenizer, its chat template, embeddings of another length.

Trainers save the tokenizer with the adapter, and many change it: a template of their own, a
padding token, a vocabulary resized to fit, or cut to the tokens that there are. What the adapter
was trained with takes the base's place, and it is said; a vocabulary in which a token has another
id is refused.
"""

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.base.errors import AdapterError, TokenizerError
from interp.base.files import read_bytes, read_json
from interp.models.adapters import Adapter, embedding_copies
from interp.models.folders import LARGEST_TEMPLATE, check_inside
from interp.models.loading import LoadedBase, check_vocabulary, load_tokenizer

_log = logging.getLogger(__name__)


def adapter_tokenizer(loaded: LoadedBase, adapter: Adapter) -> Any:
    """The tokenizer to use with an adapter: its own, or the base's with the adapter's template.

    Raises:
        TokenizerError: if the adapter's is broken, or has another vocabulary than the base's.
    """
    if (adapter.path / "tokenizer.json").is_file():
        return beside(loaded, load_tokenizer(adapter.path))
    template = _template(adapter.path)
    if template is None or template == loaded.tokenizer.chat_template:
        return loaded.tokenizer
    mine = copy.deepcopy(loaded.tokenizer)
    mine.chat_template, mine.name_or_path = template, str(adapter.path)
    return beside(loaded, mine)


def beside(loaded: LoadedBase, other: Any) -> Any:
    """`other`, the tuned model's tokenizer, checked against the base's.

    Raises:
        TokenizerError: if a token has another id in it, or an id that the model has no row for.
    """
    base, mine = loaded.tokenizer.get_vocab(), other.get_vocab()
    where = other.name_or_path
    for token, number in base.items():
        if mine.get(token) != number:
            raise TokenizerError(
                f"{where}: its vocabulary is not that of {loaded.source}: {token!r:.40} is "
                f"{mine.get(token, 'not in it')} here, {number} there; use the base it was trained "
                "on, or take the tokenizer's files out of the folder"
            )
    check_vocabulary(other, loaded.model, where)
    if other.chat_template is None:
        other.chat_template = loaded.tokenizer.chat_template
    elif other.chat_template != loaded.tokenizer.chat_template:
        _log.warning("%s: its own chat template is used, not that of %s", where, loaded.source)
    return other


def _template(folder: Path) -> Any:
    """A chat template in an adapter's folder without a tokenizer."""
    alone = folder / "chat_template.jinja"
    if alone.is_file():
        content = read_bytes(
            check_inside(alone, TokenizerError), TokenizerError, limit=LARGEST_TEMPLATE
        )
        return content.decode("utf-8", "replace")
    settings = folder / "tokenizer_config.json"
    if not settings.is_file():
        return None
    known = read_json(check_inside(settings, TokenizerError), TokenizerError)
    return known.get("chat_template") if isinstance(known, dict) else None


@torch.no_grad()
def resize(model: Any, adapter: Adapter, tensors: Mapping[str, Tensor]) -> None:
    """Give the base the number of embeddings that it had when the adapter was trained, if another.

    New rows are those that the adapter brings along, unless it trained them: then the mean.

    Raises:
        AdapterError: if the embeddings that the adapter brings differ in length.
    """
    copies = embedding_copies(model, tensors)
    rows = {len(tensors[key]) for key in copies.values()}
    had = len(model.get_input_embeddings().weight)
    if rows <= {had}:
        return
    if len(rows) > 1:
        raise AdapterError(f"{adapter.path}: its embeddings have {sorted(rows)} rows; which is it?")
    (wanted,) = rows
    model.resize_token_embeddings(wanted, mean_resizing=False)
    _log.warning(
        "%s: was trained with a vocabulary of %d rows; the base's %d are %s",
        adapter.path, wanted, had, "filled up" if wanted > had else "cut",
    )  # fmt: skip
    for end in (model.get_input_embeddings(), model.get_output_embeddings()):
        if end is not None and wanted > had:
            end.weight.data[had:] = end.weight.data[:had].mean(0)
    for target, key in copies.items():
        if not target.removesuffix(".weight").endswith(adapter.saved):
            mine = model.get_parameter(target)
            mine.data[had:] = tensors[key][had:].to(mine)
    model.requires_grad_(False)
