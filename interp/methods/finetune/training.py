"""LoRA and QLoRA fine-tuning of a base model on one trait's answers.

Hu et al. 2021 (LoRA), Dettmers et al. 2023 (QLoRA: LoRA on NF4 weights), as in arXiv 2409.10245.
The loop is `transformers.Trainer`, the adapter `peft`; the loss is the mean over the labelled
tokens of an optimiser step (see `examples`). The base's own weights are frozen and keep the dtype
they were loaded in; LoRA is trained in float32.

Cost: a model of a million parameters takes 60 steps of 16 in some seconds on two cores; a 7B model
with the defaults needs a GPU. On one CPU the same inputs and seed give the same bytes; on a GPU up
to the nondeterminism of its kernels. A run that is killed leaves nothing behind and starts again.
"""

import logging
import math
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.integrations import is_tensorboard_available, is_wandb_available
from transformers.pytorch_utils import Conv1D

from interp.base.errors import InputError, ModelError, RunError
from interp.base.files import write_json
from interp.base.progress import Progress
from interp.methods.finetune.config import FinetuneConfig
from interp.methods.finetune.examples import Counts, Labelled, collate, encode
from interp.methods.finetune.output import PROVENANCE, check_out, whole_folder, write_adapter
from interp.methods.finetune.provenance import (
    base_name,
    describe,
    differences,
    loss_summary,
    of_data,
    versions,
)
from interp.models import ChatFormat, LoadedBase, load_base, pad_id
from interp.models.loading import resolve_device
from interp.text.data import OpinionQA, check_trainable

_log = logging.getLogger(__name__)
ReportTo = Literal["none", "wandb", "tensorboard"]
_REPORTS = {"wandb": is_wandb_available, "tensorboard": is_tensorboard_available}
_OPTIMIZERS = {"adamw": "adamw_torch", "paged_adamw_8bit": "paged_adamw_8bit"}


def train(
    base: str | Path,
    data: OpinionQA,
    config: FinetuneConfig,
    out: str | Path,
    *,
    device: torch.device | str | None = None,
    overwrite: bool = False,
    report_to: ReportTo = "none",
    progress: Progress | None = None,
) -> Path:
    """Train an adapter for `base` on the answers in `data`, and write it to `out`.

    The folder gets `adapter_config.json` and `adapter_model.safetensors`, as PEFT reads them, and
    `interp.json`, the provenance. If `out` already holds the adapter of this very run (same config,
    data, base and tokenizer), it is left as it is and returned.

    Args:
        base: a model folder or hub id; loaded as `config` says, and not changed.
        data: checked rows of one trait.
        config: all settings; `supervise_eos` among them.
        out: the adapter's folder; absent, empty, or one that an earlier `train` wrote.
        device: CUDA if there is one, else the CPU.
        overwrite: replace the adapter of another run at `out`.
        report_to: where transformers sends each step's loss, gradient norm and learning rate as
            they are made: `wandb` (its environment variables say which project), or `tensorboard`
            (files in `out` with `-log` behind its name). Neither is installed with this package.
        progress: called with (label, steps done, steps in all).

    Returns:
        The adapter's folder.

    Raises:
        DataError: rows of several traits, emojis in answers, or nothing left after truncation.
        ModelError, TokenizerError: as `load_base`; or the base has none of the target modules.
        RunError: if `out` holds something else.
        InputError: if the loss is no longer a number, the optimiser needs another device, or
            `report_to` is not installed.
    """
    check_trainable(data)

    def rows(chat: ChatFormat) -> tuple[list[Labelled], dict[str, Any]]:
        made, counts = encode(
            data, chat, supervise_eos=config.supervise_eos, max_length=config.max_length
        )
        _say(data, counts, config.max_length)
        return made, of_data(data, counts)

    task = Task(str(data.traits[0]), rows, collate)
    return fit(
        base, task, config, out, device=device, overwrite=overwrite, report_to=report_to,
        progress=progress,
    )  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What an adapter is trained for.

    Attributes:
        trait: the label that is recorded.
        rows: the examples in a format, and what is recorded of them.
        collate: examples and a padding id to a batch, a dataclass of tensors.
        trainer: whose loss it is; by default the cross-entropy of the labelled tokens.
    """

    trait: str
    rows: Callable[[ChatFormat], tuple[list[Any], dict[str, Any]]]
    collate: Callable[[list[Any], int], Any]
    trainer: Callable[..., Trainer] = Trainer


def fit(
    base: str | Path,
    task: Task,
    config: FinetuneConfig,
    out: str | Path,
    *,
    device: torch.device | str | None = None,
    overwrite: bool = False,
    report_to: ReportTo = "none",
    progress: Progress | None = None,
) -> Path:
    """Train an adapter for a task and write it, as `train` does."""
    out = Path(out)
    if report_to != "none" and not _REPORTS[report_to]():
        raise InputError(f"report_to {report_to}: not installed; pip install {report_to}")
    there = check_out(out)
    where = _device(device, config)
    nf4: Literal["nf4"] | None = "nf4" if config.quantization == "nf4" else None
    loaded = load_base(base, device=where, dtype=_dtype(config, where), quantization=nf4)
    chat = ChatFormat.from_tokenizer(
        loaded.tokenizer, config.prompt_format, double_bos=config.double_bos
    )
    rows, data = task.rows(chat)
    record = describe(loaded, task.trait, data, chat, config)
    if there is not None and not overwrite:
        if different := differences(there, record):
            raise RunError(
                f"{out}: holds the adapter of another run (other {', '.join(different[:4])}); "
                "choose another output folder, or ask to overwrite it"
            )
        _log.info("%s: already holds this adapter; not trained again", out)
        return out
    with _own_random_state(config.seed):
        model = _with_lora(loaded, config)
        arguments = partial(_arguments, config, model.dtype, where, report_to, out)
        losses = _run(model, rows, pad_id(loaded.tokenizer), arguments, task, progress)
    record |= {"loss": loss_summary(losses), "versions": versions()}
    with whole_folder(out) as folder:
        write_adapter(folder, model, base_name(loaded.source), config.store_dtype)
        write_json(folder / PROVENANCE, record)
    return out


def _device(device: torch.device | str | None, config: FinetuneConfig) -> torch.device:
    where = resolve_device(device)
    if where.type != "cuda" and config.optimizer == "paged_adamw_8bit":
        raise InputError("optimizer paged_adamw_8bit needs a CUDA device; use adamw")
    if where.type == "cuda" and where.index not in (None, 0):
        raise ModelError(
            f"device {where}: training runs on the first CUDA device; "
            f"set CUDA_VISIBLE_DEVICES={where.index} and use cuda"
        )
    return where


def _dtype(config: FinetuneConfig, device: torch.device) -> torch.dtype:
    """The dtype asked for; else by device: bfloat16, float16 on CUDA without it, float32."""
    if config.compute_dtype != "auto":
        wanted: torch.dtype = getattr(torch, config.compute_dtype)
        return wanted
    if device.type != "cuda":
        return torch.float32
    modern = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if modern else torch.float16


def _say(data: OpinionQA, counts: Counts, max_length: int) -> None:
    """Tell of rows that training does not see as they are."""
    if counts.truncated or counts.dropped:
        _log.warning(
            "%s: of %d rows, %d were cut to max_length=%d tokens (%d tokens lost) and %d left out "
            "because nothing of their answer remained",
            data.source,
            len(data),
            counts.truncated,
            max_length,
            counts.truncated_tokens,
            counts.dropped,
        )


@contextmanager
def _own_random_state(seed: int) -> Iterator[None]:
    """Seed the global generators, which PEFT and Trainer draw from, and put their states back."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            set_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Silence what transformers says about names that PEFT and this file use until version 6."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*checkpointing.* is deprecated", FutureWarning)
        yield


def _with_lora(base: LoadedBase, config: FinetuneConfig) -> PeftModel:
    """The base with fresh LoRA layers; theirs are the only weights that train."""
    targets = config.target_modules
    lora = LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in base.model.modules()),
    )
    try:
        with _without_deprecations():
            return get_peft_model(base.model, lora)
    except ValueError as problem:
        raise ModelError(
            f"{base.source}: target_modules={targets}: {str(problem).splitlines()[0][:200]}"
        ) from None


def _run(
    model: PeftModel,
    rows: list[Any],
    padding: int,
    arguments: Callable[[str], TrainingArguments],
    task: Task,
    progress: Progress | None,
) -> list[float]:
    """Train in place; the loss of every step."""
    with tempfile.TemporaryDirectory() as unused, _without_deprecations():
        watch = _Watch(progress)
        trainer = task.trainer(
            model=model,
            args=arguments(unused),
            train_dataset=rows,
            data_collator=lambda batch: vars(task.collate(batch, padding)),
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return watch.losses


def _arguments(
    config: FinetuneConfig,
    dtype: torch.dtype,
    device: torch.device,
    report_to: ReportTo,
    out: Path,
    unused: str,
) -> TrainingArguments:
    """Trainer's settings: ours, and quiet, without checkpoints, workers or several GPUs."""
    checkpointing = {"use_reentrant": False} if config.gradient_checkpointing else None
    arguments = TrainingArguments(
        output_dir=f"{out}-log" if report_to == "tensorboard" else unused,
        run_name=out.name,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=_OPTIMIZERS[config.optimizer],
        num_train_epochs=config.epochs or 1,
        max_steps=config.steps or -1,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs=checkpointing,
        fp16=dtype is torch.float16,  # scales the loss, without which float16 gradients vanish
        seed=config.seed,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        save_strategy="no",
        report_to=report_to,
        disable_tqdm=True,
        logging_steps=1,
        logging_nan_inf_filter=False,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # else Trainer spreads the batch over every GPU it sees
    return arguments


class _Watch(TrainerCallback):
    """Collects the loss of every step, reports progress, and stops when the loss is no number."""

    def __init__(self, progress: Progress | None) -> None:
        self.losses: list[float] = []
        self.progress = progress

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        if logs is None or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise InputError(
                f"training diverged: the loss at step {state.global_step} is {logs['loss']}; "
                "lower learning_rate, or use compute_dtype float32"
            )
        self.losses.append(float(logs["loss"]))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if self.progress is not None:
            self.progress("fine-tuning", state.global_step, state.max_steps)
