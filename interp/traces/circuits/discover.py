"""Edge and node scores by attribution patching with integrated gradients (EAP-IG).

The score of an edge from `u` to `v` estimates what the metric loses when the edge alone carries the
corrupted run's activation:

    (clean_u - corrupted_u) . 1/m sum_{k=1..m} d metric / d input_v at z' + k/m (z - z')

with `z` the clean and `z'` the corrupted input embeddings (Hanna, Pezzelle and Belinkov 2024,
eq. 3; they write corrupted minus clean and a loss, so the signs agree). Positive edges hold the
metric up. `ig_steps=1` takes the gradient at the clean run: plain edge attribution patching (Syed,
Rager and Conmy 2023). (The authors' package counts k from 0 to m - 1.) The score of a node is its
output's difference times the gradient there, which is the sum of its edges' scores.

In a model contrast the embeddings are the same on both sides. The gradient is then taken in the
clean (tuned) model while every layer reads the point between both runs' residual streams: the same
mixtures of tuned and base activations under tuned weights that `faithfulness` puts in. Interpolated
weights would instead ask about models that no intervention makes.

**Rules.** What takes the gradient's place is a rule's (`interp.readout.rules`): under `relp` and
`gim` the same products with other coefficients, under `gradient-drop` the mean size of the scores
with each of the other layers' contributions held fixed in turn (a destination's own layer left
out). Such scores add up to nothing.

Cost: two forward passes of the bridge, `ig_steps` forward and backward passes, and one product of
all differences with all gradients; for `gradient-drop` that once for every layer. Memory: see
`needed`; `Question.chunk` bounds it by chunks of prompts, and writes heads out layer by layer where
all at once does not fit. The scores take four bytes for each edge and prompt (Llama-2-7B: 1.6
million edges, 6.6 MB per prompt).
"""

from dataclasses import replace
from functools import partial
from math import isfinite

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from interp.base import memory
from interp.base.errors import InputError
from interp.readout.metric import label, unit_of
from interp.readout.question import Metric, Question, asked
from interp.readout.rules import GRADIENT, Rule, rule_of
from interp.readout.run import Run
from interp.traces.circuits.checked_runs import CheckedRuns, Taken, check_gap
from interp.traces.circuits.node_differences import Differences
from interp.traces.circuits.path_gradients import Reads, step
from interp.traces.circuits.scores import CircuitScores

DEFAULT_BYTES = 2**30
_DOUBLED = 3  # times that steps are doubled at most
_HELPED = 0.8  # of what was missing is left, at most, where more steps help: a half, as a rule
_SAID = 0.1  # share of the gap that scores may miss without a word
_AT_ONCE = 8  # steps whose normed rows are kept until the next product


def discover(
    clean: Run,
    corrupted: Run,
    *,
    ig_steps: int = 5,
    level: str = "edge",
    rule: str | Rule = GRADIENT.name,
    within: float | None = None,
    metric: Metric | None = None,
    ask: Question | None = None,
) -> CircuitScores:
    """Score every edge (or node) of the graph of `clean.model`, prompt by prompt.

    Args:
        clean, corrupted: two prompts of equal length, or two models on the same tokens.
        ig_steps: points of the path at which gradients are taken.
        level: `edge`, or `node` (cheaper: no product of all nodes with all destinations).
        rule: what takes the gradient's place: `gradient` (it does), `gradient-drop` (sizes, without
            a sign), `relp` (nothing into queries and keys) or `gim`, or one made of these. The
            papers take one step.
        within: steps are doubled (three times at most, while that helps) until the scores add up
            to the gap but for this share of it (`CircuitScores.completeness`); left out, they stay.
            Scores that miss more than a tenth of the gap have a note that says so.
        metric: short for `ask=Question(metric=...)`; each prompt's value from its own logits.
        ask: metric, metric positions, topics, smallest gap and memory, see `Question`. A chunk
            takes 1 GiB if left out, or what one prompt needs.

    Raises:
        InputError: prompts that do not pair, no step, an unknown rule, `within` for scores that add
            up to nothing, or nothing to explain on any prompt.
        ModelError: a model that circuits or the rule do not cover.
    """
    if ig_steps < 1:
        raise InputError(f"ig_steps must be at least 1, got {ig_steps}")
    if level not in ("edge", "node"):
        raise InputError(f"unknown level {level!r}; use 'edge' or 'node'")
    ask, by_rule = asked(ask, metric), rule_of(rule, int(clean.model.cfg.n_layers))
    if within is not None and by_rule.label != GRADIENT.label:
        raise InputError(
            f"scores by the rule {by_rule.label!r} add up to nothing; leave within out"
        )
    contrast = CheckedRuns.of(clean, corrupted, ask).ruled(by_rule)
    made = _made(contrast, _points(ig_steps), level, ask)
    for _ in range(_DOUBLED):
        if within is None or _missing(made) <= within:
            break
        before, made = made, _doubled(made, contrast, ask)
        if _missing(made) > _HELPED * _missing(before):
            break
    missing = _missing(made)
    if missing <= (_SAID if within is None else within):
        return made
    said = (
        f"scores of {made.ig_steps} steps add up to {made.completeness():.2f} of the gap where all "
        "would be 1: gradients change fast along the path; raise ig_steps, or trust the runs of "
        "circuits and not the scores"
    )
    return replace(made, notes=(*made.notes, said))


def _points(steps: int, back: float = 0.0) -> tuple[float, ...]:
    """Where on the path gradients are taken, 1 being clean; or so much of a step before."""
    return tuple((k - back) / steps for k in range(1, steps + 1))


def _doubled(made: CircuitScores, contrast: CheckedRuns, ask: Question) -> CircuitScores:
    """Scores of twice as many steps: the mean with those at the points between."""
    between = _made(contrast, _points(made.ig_steps, 0.5), made.level, ask)
    return replace(
        made, values=(made.values + between.values) / 2, ig_steps=2 * made.ig_steps,
        noise_floor=max(made.noise_floor or 0.0, between.noise_floor or 0.0),
    )  # fmt: skip


def _missing(made: CircuitScores) -> float:
    """Share of the gap that scores do not add up to; 0 where there is no such sum."""
    if made.rule != GRADIENT.name or (made.level == "node" and not made.rooted):
        return 0.0
    complete = made.completeness()
    return abs(1 - complete) if isfinite(complete) else 0.0  # gaps that cancel have no share


def _made(
    contrast: CheckedRuns, points: tuple[float, ...], level: str, ask: Question
) -> CircuitScores:
    values, up, down, floor = _scored(contrast, points, level, ask)
    name = unit_of(contrast.metric, ask.unit)
    graph = contrast.graph
    return CircuitScores(
        values=values, clean=up, corrupted=down, level=level,
        n_layers=graph.n_layers, n_heads=graph.n_heads, n_kv_heads=graph.n_kv_heads,
        parallel=graph.parallel, contrast=contrast.kind, rooted=contrast.rooted,
        ig_steps=len(points), metric=label(contrast.metric), unit=name, min_gap=ask.min_gap,
        model=contrast.model_hash, notes=check_gap(up - down, ask.min_gap, name),
        noise_floor=floor, topics=ask.topics_of(len(contrast), *contrast.rows),
        rule=contrast.rule.label, signed=contrast.rule.signed,
    )  # fmt: skip


def needed(contrast: CheckedRuns, steps: int) -> int:
    """Bytes that one prompt takes: both runs, one pass with gradients, and what steps leave."""
    cfg, width = contrast.clean.model.cfg, int(contrast.at.max()) + 1
    d, graph, one = int(cfg.d_model), contrast.graph, contrast.decoder.layers[0]
    d_mlp = int(getattr(cfg, "d_mlp", 0) or 4 * d)
    heads = one.n_heads * one.d_head
    size = contrast.clean.model.embed.original_component.weight.element_size()
    runs = 2 * (3 * d + heads)
    graph_of_pass = 14 * d + 4 * heads + 5 * d_mlp + 4 * graph.n_heads * width
    left = steps * (d + graph.per_layer) + 3 * heads + d
    layer = graph.n_layers * width * (size * (runs + graph_of_pass) + 4 * left)
    product = 3 * 4 * graph.per_layer * width * d
    return layer + product + 8 * size * int(cfg.d_vocab)


def _scored(
    contrast: CheckedRuns,
    points: tuple[float, ...],
    level: str,
    ask: Question,
) -> tuple[Float[Tensor, "batch item"], Float[Tensor, " batch"], Float[Tensor, " batch"], float]:
    """Scores, both ends of the metric, and how far batch size and rounding move a score."""
    device = contrast.at.device
    size = DEFAULT_BYTES if ask.chunk is None else ask.chunk
    each = needed(contrast, min(len(points), _AT_ONCE))
    if ask.chunk is not None and ask.chunk < each:
        raise InputError(
            f"chunk is {ask.chunk} bytes, but one of these prompts takes {each}; raise it or "
            "use shorter prompts"
        )

    ask.tell("circuit scores", 0, len(contrast))

    def some(rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            taken = contrast.take(torch.tensor(rows, device=device))
        ends = contrast.measured(taken.clean.logits, taken.rows), contrast.empty(taken)
        made = _by_rule(contrast, taken, points, level, size // 4)
        if not bool(torch.isfinite(made).all()):
            raise InputError(f"the gradient of metric {label(contrast.metric)!r} is not finite")
        return made.cpu(), ends[0].cpu(), ends[1].cpu()

    batches = memory.in_batches(
        len(contrast), max(1, size * 3 // 4 // each), some,  # a quarter is for written-out heads
        what="circuit scores", device=device, progress=ask.progress, unit="prompt",
    )  # fmt: skip
    parts = [part for _, part in batches]
    values, up, down = (torch.cat(part) for part in zip(*parts, strict=True))
    one = int((contrast.at - contrast.first).argmax())
    again = some([one])[0]
    return values, up, down, memory.rounding(values[[one]], again, float(values.abs().max()))


def _by_rule(
    contrast: CheckedRuns, taken: Taken, points: tuple[float, ...], level: str, size: int
) -> Float[Tensor, "chunk item"]:
    """Scores, or the mean of their sizes with each layer but an item's own held still."""
    score, graph = (_edges if level == "edge" else _nodes), contrast.graph
    if not contrast.rule.drops:
        return score(contrast, taken, points, size)
    if level == "edge":
        place, each = graph.edge_destination, graph.per_layer
    else:
        place, each = torch.arange(len(graph.sources)) - 1, graph.n_heads + 1
    own = place.div(each, rounding_mode="floor")
    total = torch.zeros(())
    for layer in range(graph.n_layers):
        sizes = score(contrast.ruled(contrast.rule, layer), taken, points, size).abs()
        sizes[:, own == layer] = 0.0
        total = total.to(sizes.device) + sizes
    others = graph.n_layers - ((own >= 0) & (own < graph.n_layers)).to(total)
    return total / others


def _edges(
    contrast: CheckedRuns, taken: Taken, points: tuple[float, ...], size: int
) -> Float[Tensor, "chunk edge"]:
    """Every edge's score for the prompts of a chunk."""
    layers, graph, kind = contrast.graph.n_layers, contrast.graph, torch.float32
    differences = Differences(contrast, taken)
    like = taken.clean.stream[0]
    shape = (len(taken.rows), len(graph.sources), len(graph.destinations))
    table = torch.zeros(shape, dtype=kind, device=like.device)
    reads: list[Reads] = []
    final = torch.zeros((), device=like.device)
    for k, alpha in enumerate(points, 1):
        made, grads = step(contrast, taken, alpha, ("q", "k", "v", "mlp_in"))
        if not reads:
            reads = [Reads(contrast, layer, like) for layer in range(layers)]
            final = torch.zeros_like(grads["final"][0], dtype=kind)
        for i, read in enumerate(reads):
            heads = (made.q[i], made.k[i], made.v[i])
            found = [grads[name][i] for name in ("q", "k", "v", "mlp_in")]
            read.add(taken.frame, made.x[i], heads, found)
        final += grads["final"][0]
        del made, grads
        if k % _AT_ONCE == 0 or k == len(points):
            for prompt in range(len(table)):
                _multiply(table[prompt], differences, reads, final[prompt], prompt, size)
            reads = []
    return graph.flat(table / len(points))


def _multiply(
    table: Float[Tensor, "source destination"],
    differences: Differences,
    reads: list[Reads],
    final: Float[Tensor, "reads d_model"],
    prompt: int,
    size: int,
) -> None:
    """Add one prompt's differences times gradients to its table."""
    graph, frame = differences.graph, differences.taken.frame
    rows = slice(int(frame.first[prompt]), int(frame.at[prompt]) + 1)
    flat = partial(rearrange, pattern="node pos d -> node (pos d)")
    written = differences.written(prompt, rows, size)
    last = graph.n_layers - 1
    for layer, read in enumerate(reads):
        parts = [read.expand(j, prompt, rows) for j in range(4)]
        start = graph.reads(layer)
        if layer < last:
            gradients = flat(torch.cat(parts))
            into = slice(start, start + graph.per_layer)
            for where, piece in written.below(layer):
                table[where, into] += flat(piece) @ gradients.T
            continue
        ends = flat(torch.cat((parts[0], parts[3], final[None])))
        keys = flat(torch.cat(parts[1:3]))
        count, kv = graph.n_heads, graph.n_kv_heads
        middle = slice(start + count, start + count + 2 * kv)
        columns = [
            *range(start, start + count),
            start + count + 2 * kv,
            len(graph.destinations) - 1,
        ]
        for where, piece in written.below(layer):
            table[where, columns] += flat(piece[:, -frame.reads :]) @ ends.T
            table[where, middle] += flat(piece) @ keys.T


def _nodes(
    contrast: CheckedRuns,
    taken: Taken,
    points: tuple[float, ...],
    size: int,  # noqa: ARG001 (nothing is written out)
) -> Float[Tensor, "chunk source"]:
    """Every node's score for the prompts of a chunk."""
    graph, frame = contrast.graph, taken.frame
    differences = Differences(contrast, taken)
    last = graph.n_layers - 1
    sums: dict[str, list[Tensor]] = {}
    for alpha in points:
        _, grads = step(contrast, taken, alpha, ("x", "attn", "mlp"))
        for name, found in grads.items():
            old = sums.get(name)
            sums[name] = [g.float() if old is None else g.float() + o
                          for g, o in zip(found, old or found, strict=True)]  # fmt: skip
    total = torch.zeros(len(taken.rows), len(graph.sources), device=frame.at.device)
    for prompt in range(len(total)):
        end = int(frame.at[prompt])
        rows = slice(int(frame.first[prompt]), end + 1)
        total[prompt, 0] = (differences.input(prompt, rows) * sums["x"][0][prompt, rows]).sum()
        for layer in range(graph.n_layers):
            ends = slice(end + 1 - frame.reads, end + 1), slice(None)
            here, there = ends if layer == last else (rows, rows)
            attn, mlp = sums["attn"][layer][prompt, there], sums["mlp"][layer][prompt, there]
            heads = slice(graph.head(layer, 0), graph.mlp(layer))
            total[prompt, heads] = differences.heads_along(layer, prompt, here, attn)
            total[prompt, graph.mlp(layer)] = (differences.mlp(layer, prompt, here) * mlp).sum()
    return total / len(points)
