"""One pair's adapter as a set of switches: what there is to switch, and whether it switches right.

`AdapterSpace.of(pair)` reads the deltas and runs two checks over a few prompts: with all modules on
the base must give the tuned model's logits, with all off its own, bit for bit. The first is exact
up to rounding (and, in half precision, up to the rounding of the merged weights); its error is kept
as the noise floor of everything that is measured afterwards. Cost: four forward passes over eight
short prompts, and the deltas in float32.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from interp.base.devices import input_device
from interp.base.errors import AdapterError, InputError
from interp.base.memory import in_batches
from interp.models import ModelPair, TokenBatch
from interp.models.pair import QUESTIONS
from interp.readout.metric import Metric, resolve
from interp.traces.adapters.deltas import Delta, read_deltas
from interp.traces.adapters.gates import switched

By = Literal["module", "layer", "projection"]


@dataclass(frozen=True)
class Unit:
    """What one gate of an experiment switches: a module, a layer, a kind of matrix, a component.

    Attributes:
        label: its name in tables.
        layer, projection: where it is one layer, or one kind of matrix.
        components: the rank components that it holds, as columns of the space's gates.
    """

    label: str
    layer: int | None
    projection: str | None
    components: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class AdapterSpace:
    """An adapter's deltas on the pair's one base copy.

    Attributes:
        pair: the models.
        deltas: what the adapter adds, in the model's order.
        error: largest absolute difference of a logit, all modules on against the tuned model.
        effect: largest absolute difference of a logit, tuned against base.
    """

    pair: ModelPair
    deltas: tuple[Delta, ...]
    error: float
    effect: float

    @classmethod
    def of(
        cls,
        pair: "ModelPair | AdapterSpace",
        *,
        prompts: Sequence[str] = QUESTIONS,
        max_error: float = 0.05,
    ) -> "AdapterSpace":
        """Read and check a pair's adapter; a space is passed through.

        Args:
            pair: a loaded pair.
            prompts: questions that the check is made on.
            max_error: largest tolerated squared error of the logits, as a share of the squared
                effect of the adapter.

        Raises:
            AdapterError: if the adapter changes something that cannot be switched, or all modules
                on are not the tuned model.
        """
        if isinstance(pair, AdapterSpace):
            return pair
        space = cls(pair, read_deltas(pair), 0.0, 0.0)
        return space._checked(pair.prompts(prompts), max_error)

    @torch.no_grad()
    def _checked(self, batch: TokenBatch, max_error: float) -> "AdapterSpace":
        batch = batch.to(self.device)

        def some(rows: list[int]) -> tuple[Tensor, ...]:
            part, shape = batch[rows], (len(rows), len(self.deltas))
            base = self._logits(self.pair.base, part)
            tuned = self._logits(self.pair.tuned, part)
            with self.switched(torch.ones(shape)):
                on = self._logits(self.pair.base, part)
            with self.switched(torch.zeros(shape)):
                return base, tuned, on, self._logits(self.pair.base, part)

        batches = in_batches(
            len(batch), len(batch), some, what="checking the adapter", device=self.device,
            unit="prompt",
        )  # fmt: skip
        parts = [made for _, made in batches]
        base, tuned, on, off = (torch.cat(part) for part in zip(*parts, strict=True))
        error, effect = (on - tuned).double(), (tuned - base).double()
        share = float(error.square().sum() / effect.square().sum().clamp_min(1e-30))
        rounding = 1e3 * torch.finfo(torch.float32).eps * float(tuned.abs().max())
        if not torch.equal(off, base):
            raise AdapterError(f"{self.pair.tuned_source}: the base changes with all modules off")
        if share > max_error and float(error.abs().max()) > rounding:
            raise AdapterError(
                f"{self.pair.tuned_source}: all modules on are not the tuned model (off by "
                f"{share:.1%} of the adapter's squared effect on the logits, at most "
                f"{max_error:.0%} is accepted); try dtype float32, or raise max_error"
            )
        worst, largest = float(error.abs().max()), float(effect.abs().max())
        return replace(self, error=worst, effect=largest)

    def _logits(self, model: object, batch: TokenBatch) -> Float[Tensor, "pos vocab"]:
        logits = model(batch.tokens, attention_mask=batch.attention_mask)  # type: ignore[operator]
        return logits[batch.attention_mask].float()

    @property
    def device(self) -> torch.device:
        """Where the base is."""
        device: torch.device = input_device(self.pair.base)
        return device

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the adapted modules, in the model's order."""
        return tuple(delta.name for delta in self.deltas)

    @property
    def n_components(self) -> int:
        """How many gates the deltas take in all."""
        return sum(delta.rank for delta in self.deltas)

    @cached_property
    def metric(self) -> Metric:
        """Emoji log-odds of the pair's tokenizer; read once, because that takes seconds."""
        return resolve(None, self.pair.base)

    @contextmanager
    def switched(self, gates: Shaped[Tensor, "rows module"]) -> Iterator[None]:
        """The pair's base with each module's delta times its gate, row by row of the batch.

        Args:
            gates: one gate per row of the batch (or a single row for all) and adapted module, in
                the order of `modules`: 0 off, 1 on, any other number is alpha.

        Raises:
            InputError: if the gates do not fit.
        """
        if gates.ndim != 2 or gates.shape[1] != len(self.deltas):
            raise InputError(
                f"gates must be [rows, {len(self.deltas)}], one per adapted module, got "
                f"{list(gates.shape)}"
            )
        spread = torch.tensor([delta.rank for delta in self.deltas], device=self.device)
        wide = gates.to(self.device, torch.float32).repeat_interleave(spread, 1)
        with switched(self.pair.base.original_model, self.deltas, wide):
            yield

    def gates_of(self, modules: Sequence[str] | Mapping[str, float]) -> Float[Tensor, "1 module"]:
        """Gates that turn the named modules on (or to the given numbers) and all others off.

        Raises:
            InputError: if the adapter has no module of that name.
        """
        if isinstance(modules, str):
            raise InputError(f"give a list of modules, not the single name {modules!r}")
        chosen = modules if isinstance(modules, Mapping) else dict.fromkeys(modules, 1.0)
        gates = torch.zeros(1, len(self.deltas))
        for name, value in chosen.items():
            gates[0, self.index(name)] = float(value)
        return gates

    def index(self, name: str) -> int:
        """Place of a module.

        Raises:
            InputError: if the adapter has no module of that name.
        """
        if name not in self.modules:
            shown, rest = self.modules[:40], len(self.modules) - 40
            more = f" and {rest} more" if rest > 0 else ""
            raise InputError(
                f"the adapter {self.pair.tuned_name} does not change {name!r}; it changes "
                f"{', '.join(shown)}{more}"
            )
        return self.modules.index(name)

    def units(self, by: str = "module", modules: Sequence[str] | None = None) -> tuple[Unit, ...]:
        """The adapter cut into units.

        Args:
            by: `"module"`, `"layer"` (modules outside the blocks are units of their own) or
                `"projection"`.
            modules: cut these only; all if left out.

        Raises:
            InputError: for another `by`, or a module that the adapter lacks.
        """
        if by not in ("module", "layer", "projection"):
            raise InputError(f"unknown by={by!r}; use 'module', 'layer' or 'projection'")
        chosen = set(range(len(self.deltas)))
        if modules is not None:
            chosen = {self.index(name) for name in modules}
        groups: dict[str, tuple[list[int], list[Delta]]] = {}
        column = 0
        for place, delta in enumerate(self.deltas):
            columns = range(column, column + delta.rank)
            column += delta.rank
            if place not in chosen:
                continue
            label = _label(delta, by)
            held, members = groups.setdefault(label, ([], []))
            held.extend(columns)
            members.append(delta)
        return tuple(
            Unit(
                label,
                members[0].layer if by != "projection" else None,
                members[0].projection if by != "layer" or members[0].layer is None else None,
                tuple(held),
            )
            for label, (held, members) in groups.items()
        )

    def membership(self, units: Sequence[Unit]) -> Float[Tensor, "unit component"]:
        """1 where a unit holds a component, else 0."""
        table = torch.zeros(len(units), self.n_components, device=self.device)
        for row, unit in enumerate(units):
            table[row, list(unit.components)] = 1.0
        return table


def _label(delta: Delta, by: str) -> str:
    if by == "projection":
        return delta.projection
    if by == "layer" and delta.layer is not None:
        return f"layers.{delta.layer}"
    return delta.name
