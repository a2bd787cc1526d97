"""Exact recomputation of what a patch can change, and of nothing else.

A patch at layer L and position p changes nothing before layer L and nothing left of position p. So
the run that is patched into is done once, and per patch only layers >= L and positions >= p are
computed again, against the cached keys and values of the positions left of p. In the last layer,
queries, output and MLP are computed for the metric's row alone. Where one row of the residual
stream enters a layer changed (`from_row`), the other rows' queries are taken from the cache and a
single row of keys and values is new.

Patches with the same first changed position form a dense segment `[jobs rows]`; segments are laid
end to end, so that every linear map is one matrix product per layer and chunk, and attention runs
per segment. The result of a patch is the residual stream at its metric column after the last layer;
reading it out is `readout`'s business.

Cost: for a patch at (L, p) in n layers and a metric at column m, (n - L - 1) (m - p + 1) row-layers
and a little for the last layer. Memory: that of a chunk's rows, beside one copy of the cached
activations of the run that is patched into. Heads are split by `view`: a named `rearrange` takes 18
microseconds where `view` takes 5, which small models would feel in every layer of every chunk.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.readout.capture import Kept, run_and_keep
from interp.readout.decoder import Decoder, Layer, attend, rotate
from interp.readout.run import Run

BASE_SITES = ("resid_pre", "resid_post", "q", "k", "v")


@dataclass(frozen=True)
class Segment:
    """Jobs with one first changed column: `rows = stop - start` rows each, from `offset` on.

    `whole` says that the jobs are one for each row of the batch, in order.
    """

    prompt: Int[Tensor, " jobs"]
    start: int
    stop: int
    offset: int
    whole: bool = False

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def size(self) -> int:
        return len(self.prompt) * self.rows

    def of(self, flat: Tensor) -> Tensor:
        """This segment's part of a flat `[all_rows ...]` tensor, as `[jobs rows ...]`."""
        part = flat[self.offset : self.offset + self.size]
        return part.view(len(self.prompt), self.rows, *flat.shape[1:])

    def cached(self, tensor: Tensor) -> Tensor:
        """The cached activations `[batch pos ...]` of this segment's rows, `[jobs rows ...]`.

        To be read only: for a segment of the `whole` batch in order it is a view.
        """
        return self.columns(tensor, self.start, self.stop)

    def columns(self, tensor: Tensor, start: int, stop: int) -> Tensor:
        """As `cached`, for any columns."""
        return tensor[:, start:stop] if self.whole else tensor[self.prompt, start:stop]


@dataclass
class BaseRun:
    """The run that is patched into, done once.

    Attributes:
        run: model, tokens and mask.
        last: metric column of each row.
        kept: cached activations as their hooks gave them.
        keys, queries: per layer after norm and rotation, `[batch pos head d_head]`.
    """

    run: Run
    last: Int[Tensor, " batch"]
    kept: Kept
    decoder: Decoder
    keys: list[Tensor]
    queries: list[Tensor]
    cos: list[Tensor] | None
    sin: list[Tensor] | None

    @classmethod
    def of(
        cls, run: Run, columns: Int[Tensor, "batch *reads"], more: tuple[str, ...] = ()
    ) -> "tuple[BaseRun, ...]":
        """Run the model once and keep what every patch needs, and the sites in `more`.

        Returns:
            One for each column whose logits are read; all share what was kept.
        """
        decoder = Decoder.of(run.model)
        rotary = run.model.get_hook_point("blocks.0.attn.hook_cos") is not None
        names = dict.fromkeys(BASE_SITES + (("cos", "sin") if rotary else ()) + more)
        kept = run_and_keep(run, names, columns, masks=True)
        batch = run.tokens.shape[0]
        cos = [c.expand(batch, -1, -1) for c in kept.acts["cos"]] if rotary else None
        sin = [s.expand(batch, -1, -1) for s in kept.acts["sin"]] if rotary else None
        each = columns.view(len(columns), -1).unbind(1)
        base = cls(run, each[0], kept, decoder, [], [], cos, sin)
        for i, layer in enumerate(decoder.layers):
            turn = (cos[i], sin[i]) if cos is not None and sin is not None else None
            base.keys.append(turned(layer.k_norm, kept.acts["k"][i], turn))
            base.queries.append(turned(layer.q_norm, kept.acts["q"][i], turn))
        logits = kept.logits.view(len(columns), len(each), -1).unbind(1)
        return tuple(
            replace(base, last=last, kept=replace(kept, logits=one))
            for last, one in zip(each, logits, strict=True)
        )

    @property
    def final(self) -> Float[Tensor, "batch d_model"]:
        """The unpatched residual stream at the metric columns, after the last layer."""
        each = torch.arange(len(self.last), device=self.last.device)
        return self.kept.acts["resid_post"][-1][each, self.last]

    def job_bytes(self, start: int, stop: int) -> int:
        """Bytes that one patch of columns `start` to `stop` takes at the peak of a layer."""
        layer, sample = self.decoder.layers[0], self.kept.acts["resid_pre"][0]
        d_mlp = int(getattr(self.run.model.cfg, "d_mlp", 0) or 4 * sample.shape[-1])
        heads, kv = layer.n_heads * layer.d_head, layer.n_kv_heads * layer.d_head
        rows = stop - start
        row = (8 * sample.shape[-1] + 3 * d_mlp + 3 * heads + 2 * kv) * sample.element_size()
        keys = 4 * kv * sample.element_size() + 12 * layer.n_heads * rows
        return rows * row + stop * keys

    def rotary(self, layer: int, segment: Segment) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines of a segment's rows, `[jobs rows rotary]` each."""
        if self.cos is None or self.sin is None:
            return None
        return segment.cached(self.cos[layer]), segment.cached(self.sin[layer])


def turned(
    norm: Callable[[Tensor], Tensor] | None, x: Tensor, rotary: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Queries or keys `[... head d_head]` after their norm and rotation, as attention uses them."""
    x = x if norm is None else norm(x)
    return x if rotary is None else rotate(x, *rotary)


class Engine:
    """Recomputes the metric row of a base run under patches.

    Args:
        base: the run that is patched into.
        size: at most about this many bytes are taken by a chunk; may be changed between calls.
    """

    def __init__(self, base: BaseRun, size: int) -> None:
        self.base = base
        self.size = size
        self.layers = base.decoder.layers

    def from_row(
        self,
        layer: int,
        prompt: Int[Tensor, " jobs"],
        pos: Int[Tensor, " jobs"],
        x: Float[Tensor, "jobs d_model"],
    ) -> Float[Tensor, "jobs d_model"]:
        """Metric row after the last layer when one row enters `layer` changed.

        Args:
            layer: `len(layers)` means: after the last layer.
            prompt: which row of the batch each job patches.
            pos: the changed column; must not lie right of the metric column.
            x: the changed row.
        """
        if layer == len(self.layers):
            # Nothing comes after: only a patch of the metric column itself is seen.
            return torch.where((pos == self.base.last[prompt])[:, None], x, self.base.final[prompt])
        out = torch.empty_like(x)
        for jobs, segments in self.chunks(prompt, pos):
            out[jobs] = self.onwards(layer + 1, segments, self._enter(layer, segments, x[jobs]))
        return out

    def chunks(
        self,
        prompt: Int[Tensor, " jobs"],
        start: Int[Tensor, " jobs"],
        stop: Int[Tensor, " jobs"] | None = None,
    ) -> Iterator[tuple[Int[Tensor, " chunk"], list[Segment]]]:
        """Group jobs by first changed column and cut them into chunks of at most `size` bytes.

        Args:
            prompt: row of the batch of each job.
            start: first changed column of each job.
            stop: column after the last to compute; left out, that of the metric.

        Yields:
            The jobs of a chunk in the order of its segments' rows, and the segments.
        """
        stop = self.base.last[prompt] + 1 if stop is None else stop
        everyone = torch.arange(len(self.base.last), device=start.device)
        # Jobs with one first column need the same cached keys and the same rows, so that they make
        # a dense segment; stable, so that equal calls cut equal chunks.
        order = torch.argsort(start, stable=True)
        jobs: list[Tensor] = []
        segments: list[Segment] = []
        filled = taken = 0
        for column in start[order].unique_consecutive().tolist():
            same = order[start[order] == column]
            while len(same):
                # All jobs of a segment run to the furthest column: rows beyond a job's own metric
                # column are computed and never read.
                end = int(stop[same].max())
                each = self.base.job_bytes(column, end)
                # A chunk takes one job at least, however large: else there would be no end.
                room = max(0 if filled else 1, (self.size - taken) // each)
                if room == 0:
                    yield torch.cat(jobs), segments
                    jobs, segments, filled, taken = [], [], 0, 0
                    continue
                take, same = same[:room], same[room:]
                # One job per prompt, in order: its cached rows are then views, not copies.
                whole = len(take) == len(everyone) and bool((prompt[take] == everyone).all())
                segment = Segment(prompt[take], column, end, filled, whole)
                jobs.append(take)
                segments.append(segment)
                filled += segment.size
                taken += each * len(take)
        if jobs:
            yield torch.cat(jobs), segments

    def onwards(
        self, layer: int, segments: list[Segment], x: Float[Tensor, "rows d_model"]
    ) -> Float[Tensor, "jobs d_model"]:
        """Run the remaining layers, from `layer` on, over all rows of the segments."""
        if layer == len(self.layers):
            return x  # `_enter` was the last layer and has kept the metric rows only
        for i in range(layer, len(self.layers)):
            x = self.step(i, segments, x, last=i == len(self.layers) - 1)
        return x

    def step(
        self, i: int, segments: list[Segment], x: Float[Tensor, "rows d_model"], *, last: bool
    ) -> Float[Tensor, "out d_model"]:
        """One layer over all rows; in the `last` one, the result is that of the metric rows."""
        layer, base = self.layers[i], self.base
        # Flat over all segments, `[rows ...]`: each projection is one matrix product.
        h = layer.norm1(x)
        k = layer.k(h).view(len(x), layer.n_kv_heads, layer.d_head)
        v = layer.v(h).view(len(x), layer.n_kv_heads, layer.d_head)
        # Keys and values are wanted of every row; after the last layer only the metric row of each
        # job is read, so that from here on there is one row per job.
        if last:
            h, x = self.metric_rows(segments, h), self.metric_rows(segments, x)
        q = layer.q(h).view(len(h), layer.n_heads, layer.d_head)
        z = torch.empty_like(q)
        done = 0  # rows of `q` and `z` that earlier segments took
        # Attention runs by segment, for each has its own number of rows and of keys.
        for s in segments:
            # Keys [jobs kv_head keys d_head]: the cached ones left of the segment, then its own.
            turn = base.rotary(i, s)
            keys = self.joined(base.keys[i], turned(layer.k_norm, s.of(k), turn), s)
            values = self.joined(base.kept.acts["v"][i], s.of(v), s)
            # Mask [jobs rows keys]: the queries' rows, and keys up to the segment's last column.
            mask = s.cached(base.kept.masks[i])[:, :, : s.stop]
            jobs = len(s.prompt)
            if last:
                # Angles and mask of the metric row alone; it stands `at` rows into the segment.
                at = base.last[s.prompt] - s.start
                each = torch.arange(jobs, device=x.device)
                turn = None if turn is None else (turn[0][each, at, None], turn[1][each, at, None])
                mask = mask[each, at, None]
            # This segment's queries, [jobs rows head d_head] (one row in the last layer).
            count = jobs if last else s.size
            rows = q[done : done + count].view(jobs, -1, layer.n_heads, layer.d_head)
            rows = turned(layer.q_norm, rows, turn)
            z[done : done + count].view(rows.shape).copy_(
                attend(layer, rows, keys, values, mask)[0]
            )
            done += count
        return self.close(layer, x, z)

    def close(
        self, layer: Layer, x: Float[Tensor, "rows d_model"], z: Float[Tensor, "rows head d_head"]
    ) -> Float[Tensor, "rows d_model"]:
        """The rest of a layer: output projection, MLP and both residual additions."""
        middle = layer.attn_out(z.flatten(1)).add_(x)
        return layer.mlp(x if layer.parallel else middle).add_(middle)

    def metric_rows(
        self, segments: list[Segment], x: Float[Tensor, "rows *dims"]
    ) -> Float[Tensor, "jobs *dims"]:
        """Each job's row at its metric column."""
        rows = []
        for s in segments:
            # A segment lies job after job: where each job begins, and from there to its column.
            first = s.offset + s.rows * torch.arange(len(s.prompt), device=x.device)
            rows.append(first + self.base.last[s.prompt] - s.start)
        return x[torch.cat(rows)]

    def joined(self, cached: Tensor, new: Tensor, s: Segment) -> Tensor:
        """Cached keys (or values) left of the segment, then its own, `[jobs head keys d_head]`."""
        out = new.new_empty(len(s.prompt), cached.shape[2], s.stop, cached.shape[3])
        out[:, :, : s.start] = s.columns(cached, 0, s.start).transpose(1, 2)
        out[:, :, s.start :] = new.transpose(1, 2)
        return out

    def _enter(
        self, i: int, segments: list[Segment], x: Float[Tensor, "jobs d_model"]
    ) -> Float[Tensor, "rows d_model"]:
        """Layer `i` when of each segment's rows only the first comes in changed, as `x`."""
        layer, base, last = self.layers[i], self.base, i == len(self.layers) - 1
        # Only the changed row has a new query, key and value: [jobs 1 head d_head].
        h = layer.norm1(x)
        heads = (len(x), 1, -1, layer.d_head)
        q, k, v = layer.q(h).view(heads), layer.k(h).view(heads), layer.v(h).view(heads)
        # What comes out: a row per job in the last layer, else every row from the changed one on.
        total = len(x) if last else sum(s.size for s in segments)
        z = x.new_empty(total, layer.n_heads, layer.d_head)
        resid = x.new_empty(total, x.shape[1])
        done, job = 0, 0  # rows of `z`, and jobs, that earlier segments took
        for s in segments:
            own = slice(job, job + len(s.prompt))
            job = own.stop
            turn = base.rotary(i, s)
            first = None if turn is None else (turn[0][:, :1], turn[1][:, :1])
            # Queries [jobs rows head d_head]: the cached ones, but for the changed first row.
            rows = s.cached(base.queries[i]).clone()
            rows[:, :1] = turned(layer.q_norm, q[own], first)
            # Keys and values [jobs keys kv_head d_head] from the first column on; indexing by the
            # prompts copies, so that the changed column can be put in place.
            keys = base.keys[i][s.prompt, : s.stop]
            keys[:, s.start : s.start + 1] = turned(layer.k_norm, k[own], first)
            values = base.kept.acts["v"][i][s.prompt, : s.stop]
            values[:, s.start : s.start + 1] = v[own]
            # What goes around attention: the unpatched stream, its first row again changed.
            stay = s.cached(base.kept.acts["resid_pre"][i])
            mask = s.cached(base.kept.masks[i])[:, :, : s.stop]
            if last:
                each = torch.arange(len(s.prompt), device=x.device)
                at = base.last[s.prompt] - s.start
                rows, mask = rows[each, at, None], mask[each, at, None]
                # The metric row is the changed one only where the patch is in its column.
                changed = (at == 0)[:, None]
                stay = torch.where(changed, x[own], stay[each, at])[:, None]
            into = slice(done, done + stay.shape[0] * stay.shape[1])
            done = into.stop
            resid[into].view(stay.shape).copy_(stay)
            if not last:
                resid[into].view(stay.shape)[:, 0] = x[own]
            keys, values = keys.transpose(1, 2), values.transpose(1, 2)
            z[into].view(rows.shape).copy_(attend(layer, rows, keys, values, mask)[0])
        return self.close(layer, resid, z)
