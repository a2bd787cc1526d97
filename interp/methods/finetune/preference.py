"""Direct preference optimisation: a later stage that learns from pairs of answers.

Rafailov et al. 2023 (arXiv 2305.18290), equation 7: the mean over pairs of
`-log sigmoid(beta ((log p(chosen) - log p_ref(chosen)) - (log p(rejected) - log p_ref(rejected))))`
where `p` is the model in training, `p_ref` the one that it began as, and the log-probability of an
answer is the sum over its labelled tokens. The reference is the same model with its adapter
switched off. As in Machine Mindset (Cui et al. 2023, arXiv 2312.12999) the stage follows one of
imitation; each stage can be a model of its own (`interp.methods.finetune.stages`).

The end of the turn is labelled if, and only if, `supervise_eos` says so. Cost: four forward passes
and one backward per step where imitation has one and one.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from transformers import Trainer

from interp.base.errors import DataError
from interp.base.files import sha256_text
from interp.base.progress import Progress
from interp.base.traits import Trait
from interp.methods.finetune.config import FinetuneConfig
from interp.methods.finetune.examples import IGNORED, Batch, Labelled, collate, label
from interp.methods.finetune.provenance import without_folders
from interp.methods.finetune.training import Task, fit
from interp.models import ChatFormat
from interp.text.data.records import read_file

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preference:
    """Of two answers to a question, the one that is preferred."""

    question: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Preferences:
    """Pairs that one adapter is trained on, and the label that it gets.

    Raises:
        DataError: if there is no pair, a text is empty, or a pair's answers are the same.
    """

    rows: tuple[Preference, ...]
    trait: Trait
    source: str = "made here"

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError(f"{self.source}: no pairs of answers to learn a preference from")
        for number, row in enumerate(self.rows, 1):
            if not all(text.strip() for text in (row.question, row.chosen, row.rejected)):
                raise DataError(f"{self.source}: row {number}: a question or an answer is empty")
            if row.chosen == row.rejected:
                raise DataError(f"{self.source}: row {number}: chosen and rejected are the same")


def read_preferences(path: Path | str, trait: Trait | str) -> Preferences:
    """Pairs from a table with `question` (or `prompt`, `instruction`), `chosen` and `rejected`.

    Machine Mindset's files, whose `output` is a list of the chosen and the rejected answer, are
    read as well; an `input` that is not blank stands behind the question. Pairs of one answer are
    left out, and counted in a warning.

    Raises:
        DataError: if the file cannot be read, or a row lacks a text.
    """
    rows = []
    for number, row in enumerate(read_file(Path(path)).records, 1):
        asked = next((row[n] for n in ("question", "prompt", "instruction") if row.get(n)), "")
        both = row.get("output") if "chosen" not in row else [row["chosen"], row.get("rejected")]
        texts = [asked, *both] if isinstance(both, list) and len(both) == 2 else []
        if len(texts) != 3 or not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"{path}: row {number}: needs a question and two answers: columns question, chosen "
                "and rejected, or instruction and an output of two texts"
            )
        if not all(text.strip() for text in texts):
            raise DataError(f"{path}: row {number}: a question or an answer is empty")
        question = " ".join(filter(None, (texts[0].strip(), str(row.get("input") or "").strip())))
        rows.append(Preference(question, texts[1].strip(), texts[2].strip()))
    told = [row for row in rows if row.chosen != row.rejected]
    if len(told) < len(rows):
        _log.warning("%s: %d of %d pairs left out, whose answers are the same", path,
                     len(rows) - len(told), len(rows))  # fmt: skip
    rows = told
    return Preferences(tuple(rows), Trait.parse(trait), str(path))


def prefer(
    base: str | Path,
    data: Preferences,
    config: FinetuneConfig,
    out: str | Path,
    *,
    beta: float = 0.1,
    device: torch.device | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Train an adapter for `base` that prefers the chosen answers, and write it to `out`.

    Args:
        base: the stage before: a model folder or hub id.
        data: the pairs.
        config: as of `train`; a batch is of pairs.
        out: the adapter's folder.
        beta: how dear it is to leave the reference.
        device, overwrite, progress: as of `train`.

    Raises:
        DataError: if `beta` is not above 0, or `max_length` leaves nothing of an answer.
        ModelError, TokenizerError, RunError, InputError: as of `train`.
    """
    if not beta > 0:
        raise DataError(f"beta must be above 0, got {beta}")

    def rows(chat: ChatFormat) -> tuple[list[tuple[Labelled, Labelled]], dict[str, Any]]:
        made = [
            tuple(
                label(chat.example(row.question, text), supervise_eos=config.supervise_eos,
                      max_length=config.max_length)
                for text in (row.chosen, row.rejected)
            )
            for row in data.rows
        ]  # fmt: skip
        kept: list[Any] = [pair for pair in made if None not in pair]
        if not kept:
            raise DataError(f"{data.source}: max_length={config.max_length} cuts off every answer")
        facts = {
            "source": without_folders(data.source),
            "rows_sha256": sha256_text(repr(data.rows)),
            "pairs": len(kept), "dropped": len(made) - len(kept), "beta": beta,
        }  # fmt: skip
        return kept, facts

    task = Task(str(data.trait), rows, _collate, partial(_Preferring, beta))
    return fit(base, task, config, out, device=device, overwrite=overwrite, progress=progress)


def dpo_loss(
    policy: Float[Tensor, " two_pairs"], reference: Float[Tensor, " two_pairs"], beta: float
) -> Float[Tensor, ""]:
    """Equation 7, from answers' log-probabilities: all chosen, then all rejected."""
    chosen, rejected = (policy - reference).chunk(2)
    return -F.logsigmoid(beta * (chosen - rejected)).mean()


def answer_log_probs(model: Any, batch: Mapping[str, Tensor]) -> Float[Tensor, " row"]:
    """Sum of the log-probabilities of each row's labelled tokens."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    wanted = batch["labels"][:, 1:]
    known = wanted != IGNORED
    found = logits[:, :-1].float().log_softmax(-1)
    chosen = found.gather(-1, wanted.where(known, 0)[..., None])[..., 0]
    return (chosen * known).sum(-1)


def _collate(pairs: Sequence[tuple[Labelled, Labelled]], pad_id: int) -> Batch:
    """All chosen answers, then all rejected ones."""
    return collate([row for side in zip(*pairs, strict=True) for row in side], pad_id)


class _Preferring(Trainer):
    """Trainer with the loss of DPO."""

    def __init__(self, beta: float, **how: Any) -> None:
        super().__init__(**how)
        self.beta = beta
        self.model_accepts_loss_kwargs = False  # so that it takes the mean over accumulated steps

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """The loss of one batch, as `Trainer` asks for it."""
        network = self.accelerator.unwrap_model(model).eval()  # the reference draws no dropout
        with torch.no_grad(), network.disable_adapter():
            reference = answer_log_probs(model, inputs)
        network.train()
        loss = dpo_loss(answer_log_probs(model, inputs), reference, self.beta)
        return (loss, {}) if return_outputs else loss
