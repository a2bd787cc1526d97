"""One side of a contrast: a model and the tokens it reads, with the checks that need no forward."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from interp.base.errors import InputError, ModelError
from interp.models.given_prompts import as_batch, check_hooked


@dataclass(frozen=True)
class Run:
    """A model with the token ids it reads.

    Attributes:
        model: a `TransformerBridge`.
        tokens: token ids, `[batch pos]`; given as text, a list of texts, ids or a `TokenBatch` (see
            `interp.models.given_prompts`).
        attention_mask: true (or 1) on tokens, false (or 0) on padding, `[batch pos]`; every token
            counts when it is left out. Rows may be padded left or right, not in the middle.
        differs_in: what another run of the same model has otherwise: the whole `prompt`, the
            `voice` of an answer to the same question, or some `words`. It names their contrast.

    Raises:
        InputError: for what is neither text nor ids, ids outside the vocabulary, or a mask that
            does not fit, is empty in a row, or has a hole.
        ModelError: for a model without hooks.
    """

    model: Any
    tokens: Any
    attention_mask: Shaped[Tensor, "..."] | None = None
    differs_in: str = "prompt"

    def __post_init__(self) -> None:
        check_hooked(self.model, "a run")
        batch = as_batch(self.tokens, self.model, self.attention_mask)
        object.__setattr__(self, "tokens", batch.tokens)
        object.__setattr__(self, "attention_mask", batch.attention_mask)
        tokens = batch.tokens
        self._check_mask()
        size = int(getattr(self.model.cfg, "d_vocab", 0))
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or (size and high >= size):
            raise InputError(
                f"token ids run from {low} to {high}, the vocabulary from 0 to {size - 1}"
            )

    def __repr__(self) -> str:
        batch, pos = self.tokens.shape
        return f"Run({type(self.model).__name__}, {batch} prompts of {pos} columns)"

    def _check_mask(self) -> None:
        mask = self.mask
        empty = (~mask.any(1)).nonzero().flatten().tolist()
        if empty:
            raise InputError(f"prompt {empty[0]} has no attended token; drop it or mend its mask")
        filled = self.last - self.first + 1
        holes = (filled != mask.sum(1)).nonzero().flatten().tolist()
        if holes:
            raise InputError(
                f"the attention mask of prompt {holes[0]} has a hole; pad on one side only"
            )

    @property
    def mask(self) -> Bool[Tensor, "batch pos"]:
        """The attention mask, never None."""
        assert self.attention_mask is not None  # set in __post_init__
        return self.attention_mask

    @property
    def first(self) -> Int[Tensor, " batch"]:
        """Column of each row's first attended token."""
        return self.mask.int().argmax(1)

    @property
    def last(self) -> Int[Tensor, " batch"]:
        """Column of each row's last attended token."""
        return self.mask.shape[1] - 1 - self.mask.flip(1).int().argmax(1)


def check_pair(clean: Run, corrupted: Run) -> str:
    """Check that two runs can be patched into each other; return the contrast's name.

    Returns:
        `"model"` (two models, same tokens), what texts of one model differ in (`"prompt"`,
        `"voice"`, `"words"`), or `"model and prompt"`.

    Raises:
        InputError: if one is no `Run`, the prompts differ in number, length or padding, or the runs
            are the same.
        ModelError: if the two models differ in shape.
    """
    for run in (clean, corrupted):
        if not isinstance(run, Run):
            raise InputError(
                f"patching is between two runs, such as interp.contrast(pair, prompts) or "
                f"Run(model, prompts), got {type(run).__name__}"
            )
    if clean.tokens.shape != corrupted.tokens.shape:
        raise InputError(
            f"clean tokens {list(clean.tokens.shape)} and corrupted tokens "
            f"{list(corrupted.tokens.shape)} differ in shape; pair prompts of equal token length"
        )
    if not torch.equal(clean.mask, corrupted.mask):
        row = int((clean.mask != corrupted.mask).any(1).nonzero()[0])
        raise InputError(
            f"prompt {row}: clean has {int(clean.mask[row].sum())} tokens, corrupted "
            f"{int(corrupted.mask[row].sum())} (or their padding lies elsewhere); pair prompts of "
            "equal token length and pad both on the same side"
        )
    same_tokens = torch.equal(
        clean.tokens[clean.mask], corrupted.tokens[corrupted.mask].to(clean.tokens.device)
    )
    if clean.model is corrupted.model:
        if same_tokens:
            raise InputError(
                "clean and corrupted are the same model on the same tokens; nothing to patch"
            )
        return clean.differs_in
    for name in ("n_layers", "d_model", "n_heads", "d_head", "d_vocab"):
        one, other = getattr(clean.model.cfg, name), getattr(corrupted.model.cfg, name)
        if one != other:
            raise ModelError(
                f"the two models differ in {name} ({one} and {other}); patch between models of "
                "one shape"
            )
    return "model" if same_tokens else "model and prompt"


def metric_columns(
    run: Run, positions: int | Shaped[Tensor, "..."] | None
) -> Int[Tensor, " batch"]:
    """The column of each row whose logits the metric reads.

    Args:
        run: the run.
        positions: None for each row's last attended token; one column for all rows (negative
            counts from the end); or one column per row, `[batch]`.

    Raises:
        InputError: if a column lies outside its prompt or on padding.
    """
    batch, width = run.tokens.shape
    if positions is None:
        return run.last
    columns = torch.as_tensor(positions, device=run.tokens.device).long()
    if columns.ndim == 0:
        columns = columns.expand(batch)
    if columns.shape != (batch,):
        raise InputError(
            f"metric_positions must be one column or one per prompt ({batch}), got shape "
            f"{list(columns.shape)}"
        )
    columns = torch.where(columns < 0, columns + width, columns)
    inside = (columns >= run.first) & (columns <= run.last)
    if not bool(inside.all()):
        row = int((~inside).nonzero()[0])
        raise InputError(
            f"metric position {int(columns[row])} lies outside prompt {row} (tokens in columns "
            f"{int(run.first[row])} to {int(run.last[row])})"
        )
    return columns
