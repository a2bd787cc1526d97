"""Prompts as a caller has them, made a batch of ids: text, texts, ids, batches.

A string is one prompt, everywhere. It is a question, and becomes the prompt that its model's chat
template makes of it (`ChatFormat.prompt_ids`); a tokenizer without a template takes it as it
stands. Ids are taken as they are: one row `[pos]` or rows `[batch, pos]`, as a tensor or as lists
(of unequal lengths, too, which are padded on the left), as a `TokenBatch`, or as the mapping that a
Hugging Face tokenizer returns.
"""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from interp.base.errors import InputError, ModelError
from interp.models.tokens import ChatFormat, TokenBatch, pad, pad_id

Given = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | Tensor | TokenBatch
"""What can be made a batch; see this module's docstring."""

_WANTED = (
    "prompts are text, a list of texts, ids [pos] or [batch, pos] (a tensor or lists), or a "
    "TokenBatch"
)


def as_batch(given: Given, source: Any, attention_mask: Tensor | None = None) -> TokenBatch:
    """Prompts in any of the forms above, as ids and a mask.

    Args:
        given: the prompts.
        source: what text is read with: a `ChatFormat`, a tokenizer, or a model or a pair that
            carries one.
        attention_mask: of ids `[batch, pos]`, true (or 1) on tokens; none for text, which brings
            its own.

    Raises:
        InputError: for anything else, a mask that does not fit, or text where `source` carries no
            tokenizer.
    """
    if isinstance(given, Mapping) and "input_ids" in given:
        of_tokenizer: Mapping[str, Any] = given
        given = of_tokenizer["input_ids"]
        attention_mask = of_tokenizer.get("attention_mask", attention_mask)
    if isinstance(given, str):
        given = [given]
    if isinstance(given, TokenBatch):
        return _of_ids(given.tokens, given.attention_mask)
    if isinstance(given, Tensor):
        return _of_ids(given, attention_mask)
    if hasattr(given, "tolist"):  # an array, or a column of a table
        given = given.tolist()
    if not isinstance(given, Sequence) or not given:
        raise InputError(f"{_WANTED}; got {_named(given)}")
    if all(isinstance(one, str) for one in given):
        if attention_mask is not None:
            raise InputError("text brings its own attention mask; leave attention_mask out")
        return pad(*_read(list(map(str, given)), source))
    return _of_lists(list(given), source, attention_mask)


def check_hooked(model: Any, what: str) -> None:
    """Refuse a model without hooks where `what` needs them.

    Raises:
        ModelError: if the model is not hooked.
    """
    if not hasattr(model, "cfg") or not hasattr(model, "hooks"):
        raise ModelError(
            f"{what} needs a hooked model, got a {type(model).__name__}; wrap it once with "
            "interp.models.hook(model, tokenizer), which changes none of its numbers"
        )


def check_called(_: Any, arguments: tuple[Any, ...]) -> None:
    """Refuse, before a hooked model's forward pass, what torch would name by its own insides.

    Raises:
        InputError: if the model is called on anything but text, texts or a tensor.
    """
    given = arguments[0] if arguments else ""
    texts = isinstance(given, list) and given and all(isinstance(one, str) for one in given)
    if isinstance(given, str | Tensor) or texts:
        return
    mend = "make it batch = pair.prompts(...), and write"
    if hasattr(given, "tokens") and hasattr(given, "attention_mask"):  # a batch, a run
        mend = "write"
    raise InputError(
        "a model is called on text, a list of texts, or a tensor of ids, got "
        f"{_named(given)}; {mend} model(batch.tokens, attention_mask=batch.attention_mask)"
    )


def _of_ids(ids: Tensor, mask: Any) -> TokenBatch:
    if ids.ndim == 1:
        ids = ids[None]
    if ids.ndim != 2 or 0 in ids.shape or ids.is_floating_point() or ids.dtype == torch.bool:
        shape = f"{ids.dtype} {list(ids.shape)}"
        raise InputError(f"tokens must be ids of shape [batch, pos], got {shape}; {_WANTED}")
    if mask is None:
        return TokenBatch(ids, torch.ones_like(ids, dtype=torch.bool))
    mask = torch.as_tensor(mask).reshape(-1, *torch.as_tensor(mask).shape[-1:])
    if mask.shape != ids.shape:
        raise InputError(
            f"attention_mask {list(mask.shape)} does not fit tokens {list(ids.shape)}; "
            "give one value per token"
        )
    return TokenBatch(ids, mask.bool().to(ids.device))


def _of_lists(rows: list[Any], source: Any, mask: Tensor | None) -> TokenBatch:
    """Ids as lists; rows of unequal lengths are padded on the left."""
    if all(_is_id(one) for one in rows):
        rows = [rows]
    rows = [row.tolist() if isinstance(row, Tensor) else row for row in rows]
    if not all(isinstance(row, Sequence) and row and all(map(_is_id, row)) for row in rows):
        raise InputError(f"{_WANTED}; got a list of {_named(rows[0])}")
    if len(set(map(len, rows))) == 1:
        return _of_ids(torch.tensor(rows), mask)
    if mask is not None:
        raise InputError("rows of unequal lengths bring their own mask; leave attention_mask out")
    tokenizer = _tokenizer(source)
    return pad(rows, 0 if tokenizer is None else pad_id(tokenizer))  # under a mask


def _read(texts: list[str], source: Any) -> tuple[list[list[int]], int]:
    """The ids of each text, and the id to pad with."""
    form = source if isinstance(source, ChatFormat) else getattr(source, "format", None)
    if isinstance(form, ChatFormat):
        return [form.prompt_ids(text) for text in texts], pad_id(form.tokenizer)
    tokenizer = _tokenizer(source)
    if tokenizer is None:
        raise InputError(
            "text needs a tokenizer, and the model carries none; give ids, or a model made by "
            "interp.load_pair, load_hooked or hook(model, tokenizer)"
        )
    if tokenizer.chat_template:
        form = ChatFormat.from_tokenizer(tokenizer)
        return [form.prompt_ids(text) for text in texts], pad_id(tokenizer)
    return [tokenizer(text)["input_ids"] for text in texts], pad_id(tokenizer)


def _tokenizer(source: Any) -> Any:
    """The tokenizer that a source is or carries; None if it has none."""
    if isinstance(source, ChatFormat):
        return source.tokenizer
    return source if hasattr(source, "chat_template") else getattr(source, "tokenizer", None)


def _is_id(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _named(value: Any) -> str:
    """What a thing that cannot be taken is, in a few words."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"an empty {type(value).__name__}" if not value else f"a {type(value).__name__}"
    return f"{value!r:.60}"
