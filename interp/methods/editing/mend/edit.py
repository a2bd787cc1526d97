"""Editing with a trained editor: an edited model of its own, or edits row by row in a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers.pytorch_utils import Conv1D

from interp.base.errors import InputError, ModelError
from interp.methods.editing.hooked_base import HookedBase
from interp.methods.editing.mend.folder import Editor
from interp.methods.editing.mend.rank_one import Factors, capture
from interp.methods.editing.mend.training_edits import batch
from interp.methods.editing.method import check_base
from interp.methods.editing.plain_copy import plain_copy, plain_modules
from interp.models import ChatFormat, TokenBatch, hook, pad
from interp.text.data.schema import OpinionRow


@dataclass(frozen=True, eq=False)
class EditedPair:
    """A base and an edited model, which share every weight that the edit left alone.

    Traces take it where they take a `ModelPair`'s models and prompts.

    Attributes:
        base, tuned: hooked models; evaluation mode, no gradients.
        format: how questions become ids.
        rows: what was edited in.
        relative_norms: Frobenius norm of each weight's edit over the weight's own.
    """

    base: TransformerBridge
    tuned: TransformerBridge
    format: ChatFormat
    pad_id: int
    rows: tuple[OpinionRow, ...]
    relative_norms: dict[str, float]

    @property
    def tokenizer(self) -> Any:
        return self.format.tokenizer

    def prompts(self, questions: Sequence[str]) -> TokenBatch:
        """Questions as a left-padded batch of prompts."""
        return pad([self.format.prompt_ids(question) for question in questions], self.pad_id)


def updates(base: HookedBase, editor: Editor, rows: Sequence[OpinionRow]) -> dict[str, Factors]:
    """The edit that each row asks for, made by itself on the base, as factors by weight.

    Raises:
        InputError: if there are no rows.
        AdapterError: if the editor was trained on another base.
        DataError: if a prompt does not fit.
    """
    if not rows:
        raise InputError("nothing to edit with; give a row or more")
    check_base(editor.base_sha256, base, "the MEND editor")
    asked = batch(base, rows, editor.config.max_length)
    gradients, _ = capture(base.model.original_model, editor.weights, asked)
    with torch.no_grad():
        made = editor.network(gradients)
    for name, one in made.items():
        if not bool(torch.isfinite(one.left).all() and torch.isfinite(one.right).all()):
            raise ModelError(f"{name}: the edit is not finite; train the editor again")
    return made


@torch.no_grad()
def edit(base: HookedBase, editor: Editor, rows: Sequence[OpinionRow]) -> EditedPair:
    """Edit answers into a model of its own: W + the sum of the rows' edits.

    All rows are edited in at once, as published. The edited weights are new tensors in the base's
    dtype, all others are shared.

    Args:
        base: the base; it is not changed.
        editor: trained on it.
        rows: answers to edit in, usually one.

    Raises:
        InputError, AdapterError, DataError, ModelError: as `updates`.
    """
    made = updates(base, editor, rows)
    twin = plain_copy(base.model, editor.weights)
    modules = plain_modules(twin)
    norms = {}
    for name, factors in made.items():
        change, weight = factors.matrix(), modules[name].weight
        if isinstance(modules[name], Conv1D):
            change = change.T
        assert isinstance(weight, torch.Tensor)
        norms[name] = float(change.norm() / weight.float().norm())
        weight.copy_((weight.float() + change).to(weight.dtype))
    tuned = hook(twin, base.tokenizer)
    return EditedPair(base.model, tuned, base.format, base.pad_id, tuple(rows), norms)
