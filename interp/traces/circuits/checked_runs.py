"""The two runs of a contrast, taken chunk by chunk as nodes' outputs.

Masks, rotary angles and activations come from the models' own hooks (`interp.readout.capture`), so
that padding and sliding windows are right by construction. Columns right of the last metric column
are dropped: they cannot reach it.

Memory: of a chunk's prompts, `2 n_layers (2 d_model + n_heads d_head) pos` numbers per prompt.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from interp.base.errors import InputError, ModelError
from interp.readout.capture import Kept, run_and_keep
from interp.readout.decoder import Decoder
from interp.readout.metric import measure, read_columns, reads, resolve
from interp.readout.question import Metric, Question
from interp.readout.rules import GRADIENT, Rule, ruled
from interp.readout.run import Run, check_pair, metric_columns
from interp.traces.circuits.graph import Graph
from interp.traces.circuits.weights import constant_of, fingerprint, weight_of
from interp.traces.patching.chunks import metric_of_rows

SITES = ("resid_pre", "resid_post", "z", "mlp_out")


@dataclass(frozen=True)
class Frame:
    """What both runs of some prompts share.

    Attributes:
        at: metric column of each prompt.
        first: first column of each prompt in which the two runs can differ.
        masks: per layer, which key each query may see, `[batch pos pos]`.
        cos, sin: rotary angles per layer, `[batch pos rotary]`, None without rotary positions.
        reads: columns that the metric reads, up to and with `at`.
    """

    at: Int[Tensor, " batch"]
    first: Int[Tensor, " batch"]
    masks: list[Tensor]
    cos: list[Tensor] | None
    sin: list[Tensor] | None
    reads: int = 1

    def rotary(self, layer: int, *, at: bool = False) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines of all columns, or of the metric columns of each prompt."""
        if self.cos is None or self.sin is None:
            return None
        cos, sin = self.cos[layer], self.sin[layer]
        return (self.row(cos), self.row(sin)) if at else (cos, sin)

    def mask(self, layer: int, *, at: bool = False) -> Tensor:
        return self.row(self.masks[layer]) if at else self.masks[layer]

    def row(self, x: Tensor) -> Tensor:
        """Each prompt's metric columns of `x` `[batch pos ...]`, as `[batch reads ...]`."""
        device = self.at.device
        columns = self.at[:, None] - torch.arange(self.reads - 1, -1, -1, device=device)
        return x[torch.arange(len(self.at), device=device)[:, None], columns]

    def read(
        self, x: Float[Tensor, "batch reads d_model"]
    ) -> Float[Tensor, "batch *reads d_model"]:
        """As the logits and the metric take the metric columns: one has no axis."""
        return x[:, 0] if self.reads == 1 else x

    def only(self, some: Int[Tensor, " chunk"]) -> "Frame":
        """The frame of other prompts: some of them, or some of them again."""

        def pick(parts: list[Tensor] | None) -> list[Tensor] | None:
            made = {id(part): part for part in parts or ()}  # layers may share a tensor
            made = {key: part[some] for key, part in made.items()}
            return None if parts is None else [made[id(part)] for part in parts]

        masks = pick(self.masks) or []
        return replace(
            self, at=self.at[some], first=self.first[some], masks=masks, cos=pick(self.cos),
            sin=pick(self.sin),
        )  # fmt: skip


@dataclass(frozen=True)
class Side:
    """Node outputs of one run of some prompts.

    Attributes:
        stream: the residual stream before each layer and after the last, `[batch pos d_model]`;
            `stream[0]` is what the node `input` writes.
        z, mlp: per layer, the heads' outputs `[batch pos head d_head]` and the MLP's.
        logits: of the metric columns.
    """

    stream: list[Tensor]
    z: list[Tensor]
    mlp: list[Tensor]
    logits: Float[Tensor, "batch *reads vocab"]

    @classmethod
    def of(cls, kept: Kept, width: int) -> "Side":
        cut = {name: [a[:, :width] for a in kept.acts[name]] for name in SITES}
        stream = [*cut["resid_pre"], cut["resid_post"][-1]]
        return cls(stream, cut["z"], cut["mlp_out"], kept.logits)

    def middle(self, layer: int) -> Float[Tensor, "batch pos d_model"]:
        """The stream between attention and MLP."""
        return self.stream[layer + 1] - self.mlp[layer]

    def only(self, some: Int[Tensor, " chunk"]) -> "Side":
        stream, z, mlp = ([a[some] for a in acts] for acts in (self.stream, self.z, self.mlp))
        return Side(stream, z, mlp, self.logits[some])


@dataclass(frozen=True)
class Taken:
    """Some prompts of both runs; `rows` are their numbers in the contrast."""

    rows: Int[Tensor, " chunk"]
    frame: Frame
    clean: Side
    corrupted: Side

    def only(self, some: Int[Tensor, " chunk"]) -> "Taken":
        """Fewer of them."""
        clean, corrupted = self.clean.only(some), self.corrupted.only(some)
        return Taken(self.rows[some], self.frame.only(some), clean, corrupted)


@dataclass(frozen=True, eq=False)
class CheckedRuns:
    """A checked pair of runs.

    Attributes:
        kind: `prompt`, `model` or `model and prompt`.
        at, first: as in `Frame`, for all prompts.
        rule: what gradients pass by, as they do in `decoder`.
    """

    clean: Run
    corrupted: Run
    kind: str
    graph: Graph
    decoder: Decoder
    other: Decoder
    metric: Metric
    at: Int[Tensor, " batch"]
    first: Int[Tensor, " batch"]
    rule: Rule = GRADIENT

    @classmethod
    def of(
        cls,
        clean: Run,
        corrupted: Run,
        ask: Question,
    ) -> "CheckedRuns":
        """Check two runs.

        Raises:
            InputError: prompts that do not pair, or metric positions outside them.
            ModelError: models of different shape, or of a kind that circuits do not cover.
        """
        kind, graph = check_pair(clean, corrupted), Graph.of(clean.model)
        if Graph.of(corrupted.model) != graph:
            raise ModelError(
                f"the two models have different graphs ({graph} and {Graph.of(corrupted.model)}); "
                "a circuit needs models of one shape"
            )
        decoder = Decoder.of(clean.model)
        same = clean.model is corrupted.model
        other = decoder if same else Decoder.of(corrupted.model)
        first = clean.first
        if same:  # up to the first token that differs, one model does the same twice
            differs = clean.tokens != corrupted.tokens.to(clean.tokens.device)
            first = torch.maximum((differs & clean.mask).int().argmax(1), first)
        at = metric_columns(clean, ask.places)
        ask.topics_of(len(at))  # one each, or an error before the work
        metric = resolve(ask.metric, clean.model)
        for run in (clean, corrupted):
            read_columns(metric, run, at)  # of two, both must be there
        return cls(clean, corrupted, kind, graph, decoder, other, metric, at, first)

    @property
    def rooted(self) -> bool:
        """Whether all differences come from the input (see `Graph.prune`)."""
        return self.clean.model is self.corrupted.model

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """What makes two prompts copies of each other."""
        return self.clean.tokens, self.corrupted.tokens, self.at

    def __len__(self) -> int:
        return len(self.at)

    def only(self, rows: list[int]) -> "CheckedRuns":
        """The contrast of some of the prompts."""
        clean, corrupted = (
            Run(run.model, run.tokens[rows], run.mask[rows]) for run in (self.clean, self.corrupted)
        )
        metric = metric_of_rows(self.metric, rows, len(self))
        return replace(
            self, clean=clean, corrupted=corrupted, metric=metric, at=self.at[rows],
            first=self.first[rows],
        )  # fmt: skip

    def ruled(self, rule: Rule, dropped: int | None = None) -> "CheckedRuns":
        """The same contrast, with gradients by a rule, and one layer held still if it drops any.

        Raises:
            ModelError: for a norm whose derivative is not known.
        """
        return replace(self, decoder=ruled(self.clean.model, rule, dropped), rule=rule)

    @cached_property
    def model_hash(self) -> str:
        return fingerprint(self.clean.model)

    def take(self, rows: Int[Tensor, " chunk"]) -> Taken:
        """Run both models on some prompts."""
        rotary = self.clean.model.get_hook_point("blocks.0.attn.hook_cos") is not None
        names = SITES + (("cos", "sin") if rotary else ())
        at, width = self.at[rows], int(self.at[rows].max()) + 1
        sides = []
        for run, wanted in ((self.clean, names), (self.corrupted, SITES)):
            part = Run(run.model, run.tokens[rows], run.mask[rows])
            columns = read_columns(self.metric, part, at)
            sides.append(run_and_keep(part, wanted, columns, masks=run is self.clean))
        clean, corrupted = sides
        angles: list[list[Tensor] | None] = [None, None]
        if rotary:
            angles = [
                [a.expand(len(rows), -1, -1)[:, :width] for a in clean.acts[name]]
                for name in ("cos", "sin")
            ]
        made: dict[int, Tensor] = {id(mask): mask[:, :width, :width] for mask in clean.masks}
        masks = [made[id(mask)] for mask in clean.masks]
        count = reads(self.metric)
        frame = Frame(at, self.first[rows], masks, angles[0], angles[1], count)
        return Taken(rows, frame, Side.of(clean, width), Side.of(corrupted, width))

    def measured(
        self, logits: Float[Tensor, "chunk *reads vocab"], rows: Int[Tensor, " chunk"]
    ) -> Float[Tensor, " chunk"]:
        """The metric of some prompts."""
        metric = metric_of_rows(self.metric, rows.tolist(), len(self))
        value = metric(logits)
        return value if value.requires_grad else measure(metric, logits)

    def writes(self, layer: int) -> list[Tensor]:
        """Each head's output matrix `[head d_head d_model]`: one, or clean's and corrupted's."""
        found: list[Tensor] = []
        for decoder in (self.decoder,) if self.rooted else (self.decoder, self.other):
            one = decoder.layers[layer]
            flat = weight_of(one.o, one.n_heads * one.d_head, self._row).float()
            found.append(rearrange(flat, "d (head e) -> head e d", e=one.d_head))
        return found[:1] if len(found) == 2 and torch.equal(*found) else found

    @property
    def _row(self) -> Float[Tensor, " d_model"]:
        weight = self.clean.model.embed.original_component.weight
        return torch.ones_like(weight[0, : int(self.clean.model.cfg.d_model)])

    @cached_property
    def shifts(self) -> list[Tensor]:
        """What clean's attention output biases add to the stream beyond corrupted's, by layer.

        Entry `i` holds the sum over layers below `i`. All zeros where the biases are the same.
        """
        total = torch.zeros_like(self._row)
        sums = [total]
        for one, two in zip(self.decoder.layers, self.other.layers, strict=True):
            if not self.rooted:
                none = total.new_zeros(one.n_heads * one.d_head)
                total = total + constant_of(one.o, none) - constant_of(two.o, none)
            sums.append(total)
        return sums

    def empty(self, taken: Taken) -> Float[Tensor, " chunk"]:
        """The metric when every edge is corrupted: clean's readout of the corrupted stream."""
        with torch.no_grad():
            final = taken.frame.row(taken.corrupted.stream[-1]) + self.shifts[-1]
            final = taken.frame.read(final)
            return self.measured(self.decoder.logits(final), taken.rows)


def check_gap(gap: Float[Tensor, " batch"], min_gap: float, unit: str) -> tuple[str, ...]:
    """Name the prompts whose two ends (nearly) agree.

    Raises:
        InputError: if that is all of them.
    """
    small = (gap.abs() <= min_gap).nonzero().flatten().tolist()
    if len(small) == len(gap):
        raise InputError(
            f"clean and corrupted differ by at most {float(gap.abs().max()):.3g} {unit} on every "
            f"prompt (min_gap {min_gap:.3g}), so there is nothing to explain; use prompts or "
            "models further apart"
        )
    if not small:
        return ()
    which = ", ".join(map(str, small[:20])) + (", ..." if len(small) > 20 else "")
    return (
        f"{len(small)} of {len(gap)} prompts left out, whose clean and corrupted metric differ by "
        f"{min_gap:g} {unit} or less: {which}",
    )
