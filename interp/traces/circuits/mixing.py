"""Running circuits: every edge outside carries the corrupted run's activation, in one forward pass.

A destination reads the corrupted residual stream plus, for each of its edges in the circuit, what
the edge's source now writes beyond what it wrote in the corrupted run. These differences are kept
for every source that has an edge, so that the inputs of all destinations of a layer are one matrix
product of the circuit's table with the differences. Heads and MLPs without an edge are not run, and
in the last layer only the metric columns are. Several circuits and prompts go in one batch.

Memory per prompt and circuit: one `[pos d_model]` of single precision per source with an edge (or,
where that does not fit, `d_head` numbers per head, written out again for every layer that reads
it), and three per destination of one layer.
"""

from dataclasses import dataclass, field

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.readout.decoder import Layer, attend
from interp.traces.circuits.checked_runs import CheckedRuns, Frame, Taken
from interp.traces.circuits.weights import constant_of, weight_of
from interp.traces.patching.engine import turned

_MIX = "batch read source, batch source pos d -> batch read pos d"


@dataclass
class Stored:
    """Differences of the sources so far, `[batch source pos d_model]`, in pieces.

    A piece is written out, or heads still in their own space with their output matrices.
    """

    compact: bool
    pieces: list[tuple[Tensor, Tensor | None]] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)
    whole: Tensor | None = None
    filled: int = 0

    def add(self, frame: Frame, value: Tensor, write: Tensor | None, *, last: bool) -> None:
        """Add sources: `[batch pos d_model]` of an MLP, or heads `[batch pos head d]`."""
        made = self._made(value, write)
        if not last:  # of every column, those that the metric reads
            columns = frame.row(rearrange(made, "batch source pos d -> batch pos source d"))
            self.ends.append(rearrange(columns, "batch reads source d -> batch source reads d"))
        else:
            self.ends.append(made)
        if last:
            return
        if self.whole is not None:
            self.whole[:, self.filled : self.filled + made.shape[1]] = made
            self.filled += made.shape[1]
        else:
            self.pieces.append((value, write) if self.compact else (made, None))

    @staticmethod
    def _made(value: Tensor, write: Tensor | None) -> Float[Tensor, "batch source pos d_model"]:
        if write is None:
            return value if value.ndim == 4 else value[:, None]
        return einsum(value, write, "batch pos head e, head e d -> batch head pos d")

    def mix(self, table: Float[Tensor, "batch read source"]) -> Float[Tensor, "batch read pos d"]:
        """What reads get beyond the corrupted stream."""
        if self.whole is not None:
            part = self.whole[:, : table.shape[2]]
            return einsum(table, part, _MIX)
        total, start = None, 0
        for value, write in self.pieces:
            if start == table.shape[2]:
                break  # a parallel block's MLP does not see its layer's heads
            made = self._made(value, write)
            weights = table[:, :, start : start + made.shape[1]]
            start += made.shape[1]
            part = einsum(weights, made, _MIX)
            total = part if total is None else total.add_(part)
        assert total is not None  # the input is always stored
        return total

    def mix_ends(
        self, table: Float[Tensor, "batch read source"]
    ) -> Float[Tensor, "batch read reads d"]:
        """The same for the metric columns alone."""
        ends = torch.cat(self.ends, 1)[:, : table.shape[2]]
        return einsum(table, ends, _MIX)


class Mixer:
    """Runs circuits on the prompts of a chunk.

    Args:
        tables: membership by destination and source, one table per circuit.
        compact: keep heads in their own space (slower, smaller).
    """

    def __init__(
        self,
        contrast: CheckedRuns,
        taken: Taken,
        tables: Bool[Tensor, "circuit destination source"],
        *,
        compact: bool,
    ) -> None:
        self.contrast, self.graph = contrast, contrast.graph
        count, batch = len(tables), len(taken.rows)
        device = taken.frame.at.device
        self.rows = torch.arange(batch, device=device).repeat(count)
        self.taken, self.frame = taken, taken.frame.only(self.rows)
        tables = tables.to(device)
        used = tables.any(0).any(0)
        used[0] = True
        self.used: list[int] = used.nonzero().flatten().tolist()
        self.table = tables[:, :, used].float().repeat_interleave(batch, 0)
        self.stored = Stored(compact)
        if not compact:
            first = (
                contrast.graph.mlp(contrast.graph.n_layers - 2) if self.graph.n_layers > 1 else 0
            )
            kept = sum(source <= first for source in self.used)
            shape = taken.corrupted.stream[0].shape[1:]
            self.stored.whole = torch.empty(len(self.rows), kept, *shape, device=device)

    def finals(self) -> Float[Tensor, "batch *reads d_model"]:
        """The residual stream that the logits read, at each prompt's metric columns."""
        contrast, n = self.contrast, self.graph.n_layers
        clean, corrupted = self.taken.clean.stream[0], self.taken.corrupted.stream[0]
        moved = (clean.float() - corrupted.float())[self.rows]
        self.stored.add(self.frame, moved, None, last=False)
        for i, layer in enumerate(contrast.decoder.layers):
            last = i == n - 1
            heads = [u - self.graph.head(i, 0) for u in self.used
                     if self.graph.head(i, 0) <= u < self.graph.mlp(i)]  # fmt: skip
            if heads:
                self._attention(i, layer, heads, last)
            if self.graph.mlp(i) in self.used:
                self._mlp(i, layer, last)
        final = self._stream(self.taken.corrupted.stream[n], n, at=True)
        moved = self.stored.mix_ends(self._table([self.graph.reads(n)])).to(final)[:, 0]
        return self.frame.read(final + moved)

    def _table(self, reads: list[int]) -> Float[Tensor, "batch read source"]:
        """The edges into some destinations, from the sources that were stored by then."""
        seen = sum(source < self.graph.seen[reads[0]] for source in self.used)
        return self.table[:, reads, :seen].contiguous()

    def _stream(self, stream: Tensor, layer: int, *, at: bool) -> Tensor:
        """The corrupted stream under the clean model's attention biases."""
        x = self.taken.frame.row(stream) if at else stream
        return (x + self.contrast.shifts[layer])[self.rows]

    def _attention(self, i: int, layer: Layer, heads: list[int], last: bool) -> None:
        """Run some heads, each on its own query, key and value inputs."""
        graph, start = self.graph, self.graph.reads(i)
        shared = sorted({head // graph.group for head in heads})
        keys = [start + graph.n_heads + head for head in shared]
        values = [read + graph.n_kv_heads for read in keys]
        queries = [start + head for head in heads]
        stream = self.taken.corrupted.stream[i]
        if last:
            q_in = self._stream(stream, i, at=True)[:, None]
            q_in = q_in + self.stored.mix_ends(self._table(queries)).to(q_in)
            kv_in = self._inputs(stream, i, keys + values)
        else:
            both = self._inputs(stream, i, queries + keys + values)
            q_in, kv_in = both[:, : len(heads)], both[:, len(heads) :]
        hq = layer.norm1(q_in)
        hkv = layer.norm1(kv_in)
        q = self._project(layer.q, hq, layer.d_head, heads)
        k = self._project(layer.k, hkv[:, : len(shared)], layer.d_head, shared)
        v = self._project(layer.v, hkv[:, len(shared) :], layer.d_head, shared)
        k = turned(layer.k_norm, k, self.frame.rotary(i))
        k = rearrange(k, "batch pos head d_head -> batch head pos d_head")
        q = turned(layer.q_norm, q, self.frame.rotary(i, at=last))
        v = rearrange(v, "batch pos head d_head -> batch head pos d_head")
        if len(heads) < graph.n_heads:  # then groups are uneven: give each head keys of its own
            own = [shared.index(head // graph.group) for head in heads]
            k, v = k[:, own], v[:, own]
        z, _ = attend(layer, q, k, v, self.frame.mask(i, at=last))
        self._store_heads(i, z, heads, last)

    def _inputs(
        self, stream: Tensor, layer: int, reads: list[int]
    ) -> Float[Tensor, "batch read pos d_model"]:
        """The streams that some destinations read."""
        x = self._stream(stream, layer, at=False)[:, None]
        return self.stored.mix(self._table(reads)).to(x.dtype).add_(x)

    def _project(
        self, project: object, x: Tensor, d_head: int, heads: list[int]
    ) -> Float[Tensor, "batch pos head d_head"]:
        """Queries, keys or values of some heads, each from its own row of inputs."""
        assert callable(project)
        like = x[0, 0, 0]
        weight = weight_of(project, x.shape[-1], like)
        weight = rearrange(weight, "(head e) d -> head e d", e=d_head)[heads]
        bias = constant_of(project, torch.zeros_like(like))
        bias = rearrange(bias, "(head e) -> head e", e=d_head)[heads]
        return einsum(x, weight, "batch head pos d, head e d -> batch pos head e") + bias

    def _store_heads(self, i: int, z: Tensor, heads: list[int], last: bool) -> None:
        writes = [write[heads] for write in self.contrast.writes(i)]
        before = self.taken.corrupted.z[i][:, :, heads].float()
        before = self.taken.frame.row(before) if last else before
        if len(writes) == 1:
            moved, write = z.float() - before[self.rows], writes[0]
        else:  # the corrupted model writes with other matrices: two halves of one
            moved = torch.cat((z.float(), -before[self.rows]), -1)
            write = torch.cat(writes, 1)
        self.stored.add(self.frame, moved, write, last=last)

    def _mlp(self, i: int, layer: Layer, last: bool) -> None:
        read, taken = [self.graph.reads(i + 1) - 1], self.taken
        side = taken.corrupted
        middle = side.stream[i] if layer.parallel else side.middle(i)
        below = i if layer.parallel else i + 1
        before = side.mlp[i].float()
        if last:
            x = self._stream(middle, below, at=True)
            x = x + self.stored.mix_ends(self._table(read)).to(x)[:, 0]
            before = taken.frame.row(before)
        else:
            x = self._inputs(middle, below, read)[:, 0]
        self.stored.add(self.frame, layer.mlp(x).float() - before[self.rows], None, last=last)


def row_bytes(contrast: CheckedRuns, sources: int, width: int, *, compact: bool) -> int:
    """Bytes that one circuit takes on one prompt."""
    cfg, graph, layer = contrast.clean.model.cfg, contrast.graph, contrast.decoder.layers[0]
    d, d_mlp = int(cfg.d_model), int(getattr(cfg, "d_mlp", 0) or 4 * int(cfg.d_model))
    heads = layer.n_heads * layer.d_head
    stored = graph.n_layers * (d + 2 * heads) + d if compact else sources * d
    reads = 4 * graph.per_layer * d + (graph.n_heads + 1) * d
    return 4 * width * (stored + reads + 3 * d_mlp + 6 * heads + 3 * graph.n_heads * width)


def run_circuits(
    contrast: CheckedRuns,
    taken: Taken,
    tables: Bool[Tensor, "circuit destination source"],
    size: int,
) -> Float[Tensor, "circuit chunk *reads d_model"]:
    """Final residual streams of circuits on a chunk's prompts, within `size` bytes."""
    width, found = taken.corrupted.stream[0].shape[1], []
    order = tables.any(1).sum(1).argsort()
    for some in _batches(contrast, tables, order, len(taken.rows), width, size):
        sources = int(tables[some].any(0).any(0).sum())
        kept = row_bytes(contrast, sources, width, compact=False)
        compact = kept * len(taken.rows) * len(some) > size
        step = len(taken.rows)
        if compact:
            each = row_bytes(contrast, sources, width, compact=True)
            step = max(1, min(step, size // each // len(some)))
        parts = []
        for rows in torch.arange(len(taken.rows), device=taken.rows.device).split(step):
            part = taken if step == len(taken.rows) else taken.only(rows)
            finals = Mixer(contrast, part, tables[some], compact=compact).finals()
            parts.append(
                rearrange(finals, "(circuit batch) ... -> circuit batch ...", circuit=len(some))
            )
        found.append(torch.cat(parts, 1))
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return torch.cat(found)[back]


def _batches(
    contrast: CheckedRuns,
    tables: Bool[Tensor, "circuit destination source"],
    order: Int[Tensor, " circuit"],
    prompts: int,
    width: int,
    size: int,
) -> list[list[int]]:
    """Circuits in batches that fit, smaller circuits together."""
    batches: list[list[int]] = []
    for circuit in order.tolist():
        together = [*batches[-1], circuit] if batches else [circuit]
        sources = int(tables[together].any(0).any(0).sum())
        taken = row_bytes(contrast, sources, width, compact=False) * prompts * len(together)
        if batches and taken <= size:
            batches[-1] = together
        else:
            batches.append([circuit])
    return batches
