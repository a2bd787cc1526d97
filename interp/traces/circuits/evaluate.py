"""Intervening with circuits: `faithfulness`, `curve`, `smallest`, `cross`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.base import memory
from interp.base.errors import InputError, ModelError
from interp.readout.metric import Readout, label, unit_of
from interp.readout.question import Metric, Question, asked
from interp.readout.run import Run
from interp.traces.circuits.checked_runs import CheckedRuns, Taken, check_gap
from interp.traces.circuits.circuit import Circuit, cut, ranking
from interp.traces.circuits.discover import DEFAULT_BYTES
from interp.traces.circuits.faithfulness import SHARES, Faithfulness
from interp.traces.circuits.mixing import row_bytes, run_circuits
from interp.traces.circuits.path_gradients import PathPoint, check, forward
from interp.traces.circuits.scores import CircuitScores


def faithfulness(
    circuits: Circuit | Sequence[Circuit],
    clean: Run,
    corrupted: Run,
    *,
    complement: bool = False,
    any_model: bool = False,
    metric: Metric | None = None,
    ask: Question | None = None,
) -> Faithfulness:
    """Run circuits with every edge outside them corrupted.

    Args:
        circuits: of `clean.model`.
        clean, corrupted, metric, ask: as for `discover`.
        complement: also run what each circuit leaves out, for `Faithfulness.completeness`.
        any_model: accept circuits that were found in another model of the same shape.

    Raises:
        InputError: prompts that do not pair, no circuit, or nothing to explain: no prompt with a
            gap, or gaps that cancel.
        ModelError: a circuit of another model, or a model that circuits do not cover.
    """
    many = [circuits] if isinstance(circuits, Circuit) else list(circuits)
    if not many:
        raise InputError("no circuit to run; give at least one")
    ask = asked(ask, metric)
    contrast = CheckedRuns.of(clean, corrupted, ask)
    for circuit in many:
        _belongs(circuit, contrast, any_model)
    members = [circuit.members for circuit in many]
    if complement:
        members += [circuit.complement for circuit in many]
    values, up, down = _run(contrast, torch.stack(members), ask)
    largest = max(range(len(members)), key=lambda i: int(members[i].sum()))
    floor = _floor(contrast, members[largest], values[largest], ask.chunk)
    name = unit_of(contrast.metric, ask.unit)
    notes = check_gap(up - down, ask.min_gap, name)
    use = (up - down).abs() > ask.min_gap
    if abs(float((up - down)[use].mean())) <= ask.min_gap:
        raise InputError(
            "clean minus corrupted is positive on some prompts and negative on others and cancels "
            "in the mean, so faithfulness is undefined; split the prompts by the sign of the gap"
        )
    return Faithfulness(
        values=values[: len(many)], complement=values[len(many) :], clean=up, corrupted=down,
        names=tuple(circuit.name for circuit in many),
        n_edges=tuple(circuit.n_edges for circuit in many),
        n_nodes=tuple(max(0, len(circuit.nodes) - 1) for circuit in many), shares=(),
        total=contrast.graph.n_edges, contrast=contrast.kind, metric=label(contrast.metric),
        unit=name, min_gap=ask.min_gap, notes=notes,
        noise_floor=floor, topics=ask.topics_of(len(contrast), *contrast.rows),
    )  # fmt: skip


def curve(
    scores: CircuitScores,
    clean: Run,
    corrupted: Run,
    *,
    shares: Sequence[float] = SHARES,
    search: str = "greedy",
    absolute: bool = True,
    complement: bool = True,
    ask: Question | None = None,
) -> Faithfulness:
    """Faithfulness over circuit sizes; see `Faithfulness.areas`.

    Args:
        scores: of `clean.model`.
        shares: of all edges (nodes), ascending.
        search, absolute: as for `select`. The other arguments are those of `faithfulness`.

    Raises:
        InputError, ModelError: as `faithfulness`; or shares that do not ascend within (0, 1].
    """
    if list(shares) != sorted(set(shares)) or not shares or not 0 < shares[0] <= shares[-1] <= 1:
        raise InputError(f"shares must ascend within (0, 1], got {tuple(shares)}")
    order = ranking(scores, search=search, absolute=absolute)
    # As MIB counts: the whole part of share times edges.
    sizes = [int(share * len(order) + 1e-9) for share in shares]
    circuits = [
        cut(scores, order, size, search=search, name=f"{share:g}")
        for share, size in zip(shares, sizes, strict=True)
    ]
    bare = sum(circuit.n_edges == 0 for circuit in circuits)  # the smallest: no path is complete
    if bare == len(circuits):
        raise InputError(f"no circuit of up to {shares[-1]:g} of the edges has one; ask for more")
    found = faithfulness(circuits[bare:], clean, corrupted, complement=complement, ask=ask)
    each = tuple(float(share) for share in shares)
    return replace(found, shares=each[bare:], empty=each[:bare])


def smallest(
    scores: CircuitScores,
    clean: Run,
    corrupted: Run,
    *,
    targets: Sequence[float] = (0.8, 0.9, 0.95),
    search: str = "greedy",
    absolute: bool = True,
    ask: Question | None = None,
) -> tuple[tuple[Circuit, ...], Faithfulness]:
    """The smallest circuits of a ranking that reach given faithfulnesses, and what they reach.

    Found by bisection between the first size of the curve that reaches the target and the size
    before it, all targets at once. Faithfulness need not rise with size, so a smaller circuit of
    the same ranking may exist; every circuit returned does reach its target. About 10 + log2(edges)
    circuits are run for each target.

    Args:
        targets: faithfulnesses. The other arguments are those of `curve`.

    Raises:
        InputError, ModelError: as `curve`.
    """
    if not targets or not all(0 < target <= 1 for target in targets):
        raise InputError(f"targets are faithfulnesses in (0, 1], got {tuple(targets)}")
    order = ranking(scores, search=search, absolute=absolute)

    def run(sizes: Sequence[int], complement: bool = False) -> tuple[list[Circuit], Faithfulness]:
        circuits = [cut(scores, order, size, search=search, name=str(size)) for size in sizes]
        return circuits, faithfulness(
            circuits, clean, corrupted, complement=complement, ask=ask,
        )  # fmt: skip

    sizes = sorted({max(1, int(share * len(order))) for share in SHARES})
    reached = run(sizes)[1].faithfulness().tolist()
    reached[-1] = 1.0  # the whole graph, but for rounding
    ends = []
    for target in targets:
        first = next(i for i, value in enumerate(reached) if value >= target - 1e-6)
        ends.append([sizes[first - 1] if first else 0, sizes[first]])
    while any(high - low > 1 for low, high in ends):
        open_ends = [end for end in ends if end[1] - end[0] > 1]
        middles = [(low + high) // 2 for low, high in open_ends]
        found = run(middles)[1].faithfulness().tolist()
        wanted = [t for t, end in zip(targets, ends, strict=True) if end[1] - end[0] > 1]
        for end, middle, value, target in zip(open_ends, middles, found, wanted, strict=True):
            end[int(value >= target)] = middle
    circuits, found_all = run([high for _, high in ends], complement=True)
    return tuple(circuits), found_all


def cross(
    circuits: Mapping[str, Circuit],
    runs: Mapping[str, tuple[Run, Run]],
    *,
    ask: Question | None = None,
) -> dict[str, Faithfulness]:
    """Every circuit on every trait's runs: does one trait's circuit carry another's metric?

    Args:
        circuits: by trait.
        runs: clean and corrupted by trait; models of one shape.

    Returns:
        For each trait of `runs`, the faithfulness of all circuits on it, in their order.

    Raises:
        InputError, ModelError: as `faithfulness`; a circuit may be of another model.
    """
    named = list(circuits.values())
    found = {}
    for trait, (clean, corrupted) in runs.items():
        one = faithfulness(
            named, clean, corrupted, any_model=True, ask=ask,
        )  # fmt: skip
        found[trait] = replace(one, names=tuple(circuits))
    return found


def _belongs(circuit: Circuit, contrast: CheckedRuns, any_model: bool) -> None:
    if circuit.graph == contrast.graph and (any_model or circuit.model == contrast.model_hash):
        return
    if any_model:
        raise ModelError(
            f"circuit {circuit.name or '(unnamed)'} has {circuit.graph}, this model "
            f"{contrast.graph}; a circuit needs models of one shape"
        )
    circuit.check(contrast.clean.model)


def _run(
    contrast: CheckedRuns,
    members: Bool[Tensor, "circuit edge"],
    ask: Question,
) -> tuple[Float[Tensor, "circuit batch"], Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The metric under each set of edges, clean and corrupted."""
    tables = torch.stack([contrast.graph.matrix(one) for one in members])
    at_once, budget, least = _sizes(contrast, int(tables.any(0).any(0).sum()), ask.chunk)
    device = contrast.at.device
    ask.tell("circuits", 0, len(contrast))

    def some(rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        taken = contrast.take(torch.tensor(rows, device=device))
        if 0 in rows:
            _check(contrast, taken)
        up, down = contrast.measured(taken.clean.logits, taken.rows), contrast.empty(taken)
        finals = budget.halving(lambda: run_circuits(contrast, taken, tables, budget.size), least)
        return finals, up, down

    with torch.no_grad():
        batches = memory.in_batches(
            len(contrast), at_once, some, what="circuits", device=device,
            progress=ask.progress, unit="prompt",
        )  # fmt: skip
        finals, up, down = zip(*(part for _, part in batches), strict=True)
        vocab = int(contrast.clean.model.cfg.d_vocab)
        read = Readout(contrast.decoder, contrast.metric, vocab, max(vocab, budget.size // 16))
        values = read(torch.cat(finals, 1))
    return values.cpu(), torch.cat(up).cpu(), torch.cat(down).cpu()


def _floor(
    contrast: CheckedRuns,
    members: Bool[Tensor, " edge"],
    values: Float[Tensor, " batch"],
    chunk: int | None,
) -> float:
    """How far the longest prompt's metric under one circuit moves when it is run alone."""
    row = [int((contrast.at - contrast.first).argmax())]
    again, _, _ = _run(contrast.only(row), members[None], Question(chunk=chunk))
    return memory.rounding(values[row], again[0], float(values.abs().max()))


def _sizes(
    contrast: CheckedRuns, sources: int, chunk: int | None
) -> tuple[int, memory.Budget, int]:
    """Prompts at once, bytes for the circuits of one, and the fewest of those."""
    cfg, width = contrast.clean.model.cfg, int(contrast.at.max()) + 1
    layer, d = contrast.decoder.layers[0], int(cfg.d_model)
    one = row_bytes(contrast, sources, width, compact=False)
    least = row_bytes(contrast, sources, width, compact=True)
    runs = 2 * 4 * width * contrast.graph.n_layers * (3 * d + layer.n_heads * layer.d_head)
    if chunk is not None and chunk < runs + least:
        raise InputError(
            f"chunk is {chunk} bytes, but one of these prompts takes {runs + least}; "
            "raise it or use shorter prompts"
        )
    size = DEFAULT_BYTES if chunk is None else chunk
    each = max(1, size // (runs + one))
    left = max(size - runs * min(each, len(contrast)), least)
    return each, memory.Budget(left, "circuits"), least


def _check(contrast: CheckedRuns, taken: Taken) -> None:
    """Compare the plain arithmetic with the model's own on the shortest and the longest prompt."""
    length = taken.frame.at - taken.frame.first
    some = torch.stack((length.argmin(), length.argmax())).unique()
    part = taken.only(some)
    check(
        forward(contrast.decoder, part.frame, PathPoint(contrast, part, 1.0)),
        part,
        contrast.decoder,
    )
