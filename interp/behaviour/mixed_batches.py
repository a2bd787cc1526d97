"""Answers of several adapters over one base, in one batch.

PEFT can run each row of a batch through an adapter of its own (`adapter_names=`), so several
adapters need one copy of the base's weights and one pass per token. Each adapter's prompt draws
the noise that it would draw in a batch of its own, so the answers are those of one adapter at a
time (up to rounding of the logits). Only live LoRA layers can do this: not DoRA, not LoHa or LoKr,
not modules that were trained whole; for those, and for a trace, merge one adapter at a time.

What it saves is memory and loading: no merged copies. Sampling itself takes as long as one adapter
at a time (docs/measures.md has the numbers): PEFT runs the adapters' low-rank parts of each layer
one after the other, each on its rows.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, PeftModelForCausalLM, set_peft_model_state_dict

from interp.base.errors import AdapterError, InputError
from interp.base.progress import Progress
from interp.behaviour.generate import Response, Sampling, generate
from interp.models.adapters import Adapter, attach, open_adapter, quiet
from interp.models.tokens import ChatFormat

DEFAULT = Sampling()
BASE = "__base__"
"""Name under which the base answers without any adapter (PEFT's own)."""


@contextmanager
def live_adapters(model: Any, adapters: Mapping[str, Path | str]) -> Iterator[PeftModel]:
    """`model` with several live LoRA adapters; when it closes, the model is what it was.

    Args:
        model: a Hugging Face causal model without adapters (`load_base(...).model`).
        adapters: folder of each adapter by name.

    Raises:
        InputError: if no adapter is named.
        AdapterError: if one does not load, does not fit, or cannot share a batch.
    """
    if not adapters or BASE in adapters:
        raise InputError(f"name the adapters to load; {BASE} is the base's own name")
    opened = {name: open_adapter(folder) for name, folder in adapters.items()}
    for name, (adapter, tensors) in opened.items():
        _check_mixable(name, adapter)
        attach(model, adapter, tensors).unload()  # the checks of one adapter at a time
    first, *others = opened
    with quiet():
        live = PeftModelForCausalLM(model, copy.deepcopy(opened[first][0].peft), first)
    try:
        with quiet():
            for name in others:
                live.add_adapter(name, copy.deepcopy(opened[name][0].peft))
            for name, (_, tensors) in opened.items():
                set_peft_model_state_dict(live, tensors, name)
        yield live.eval().requires_grad_(False)
    finally:
        live.unload()


def generate_many(
    live: PeftModel,
    form: ChatFormat,
    questions: Mapping[str, Sequence[tuple[str, str]]],
    sampling: Sampling = DEFAULT,
    *,
    progress: Progress | None = None,
    label: str = "answers",
) -> dict[str, list[Response]]:
    """Sample answers of several adapters, rows of all of them mixed in each batch.

    Args:
        live: from `live_adapters`.
        form: how questions become ids.
        questions: for each adapter (or `BASE`) its pairs of question and topic.
        sampling: see `Sampling`; the batch size counts rows of all adapters together.
        progress: called with `(label, done, total)`.
        label: what the progress is called.

    Returns:
        for each name its answers, in the order of its questions.

    Raises:
        InputError: if a name is no loaded adapter, or there is no question.
        ModelError: if prompt and answer do not fit the model's context.
    """
    unknown = set(questions) - set(live.peft_config) - {BASE}
    if unknown:
        raise InputError(
            f"no adapter {', '.join(sorted(unknown))} is loaded, only {', '.join(live.peft_config)}"
        )
    rows = [
        (name, stream, pair)
        for name, pairs in questions.items()
        for stream, pair in enumerate(pairs)
    ]
    rows.sort(key=lambda row: row[1])  # batches hold all adapters in equal shares
    mixed = _Mixed(live, [name for name, _, _ in rows])
    made = generate(
        mixed,
        form,
        [pair for _, _, pair in rows],
        sampling,
        streams=[stream for _, stream, _ in rows],
        under=mixed.rows,
        progress=progress,
        label=label,
    )
    answers: dict[str, list[Response]] = {name: [] for name in questions}
    for (name, _, _), response in zip(rows, made, strict=True):
        answers[name].append(response)
    return answers


class _Mixed:
    """A model whose rows go through the adapters named."""

    def __init__(self, live: PeftModel, names: Sequence[str]) -> None:
        self.live, self.names = live, list(names)
        self.config, self.device = live.config, live.device
        self.now: list[str] = []

    @property
    def generation_config(self) -> Any:
        """The base model's."""
        return self.live.get_base_model().generation_config

    @generation_config.setter
    def generation_config(self, config: Any) -> None:
        self.live.get_base_model().generation_config = config

    @contextmanager
    def rows(self, rows: list[int]) -> Iterator[None]:
        """The batch to come consists of these rows."""
        self.now = [self.names[row] for row in rows]
        try:
            yield
        finally:
            self.now = []

    def generate(self, input_ids: torch.Tensor, **how: Any) -> torch.Tensor:
        made: torch.Tensor = self.live.generate(input_ids=input_ids, adapter_names=self.now, **how)
        return made


def _check_mixable(name: str, adapter: Adapter) -> None:
    """Raise where PEFT cannot put rows of several adapters into one batch."""
    config = adapter.config
    wrong = [
        text
        for text, there in (
            (f"is {adapter.kind}, not LORA", adapter.kind != "LORA"),
            ("is DoRA", config.get("use_dora")),
            ("has modules_to_save", config.get("modules_to_save")),
            ("has trained biases", config.get("bias", "none") != "none"),
        )
        if there
    ]
    if wrong:
        raise AdapterError(
            f"{adapter.path}: adapter {name} {wrong[0]} and cannot share a batch with others; "
            "merge it and generate with it alone"
        )
