"""Running the lens: one forward pass per batch, one readout per reading point and position."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.tools.analysis.logit_lens import logit_readout

from interp.base import memory
from interp.base.devices import input_device
from interp.base.errors import InputError, ModelError, TokenizerError
from interp.base.progress import Progress
from interp.models.given_prompts import Given, as_batch, check_hooked
from interp.readout.outcome import FACTORS, OUTCOME, Outcome
from interp.readout.question import Question, asked
from interp.traces.logit_lens.results import LOGIT_LENS, MEASURED, LensReading, LensResult

Positions = Sequence[int] | str | None

_LOGITS = 2**23  # numbers that are held at a time, and some copies of them
# How far the last reading may be from the model's own logits, as a share of their spread: a right
# readout is off by 1e-6 in float32 and by up to 1e-2 in bfloat16, a wrong one by about 1.
_IDENTITY_TOLERANCE = 0.1


def read(
    model: TransformerBridge,
    tokens: Given,
    attention_mask: Int[Tensor, "batch pos"] | Bool[Tensor, "batch pos"] | None = None,
    *,
    outcome: Outcome | None = None,
    positions: Positions = None,
    include_mid: bool = False,
    ask: Question | None = None,
) -> LensReading:
    """Read one model at every reading point.

    Args:
        model: a bridge in evaluation mode; it is not changed.
        tokens: text, texts or ids, see `interp.models.given_prompts`; ids padded on either side.
        attention_mask: nonzero on real tokens, `[batch, pos]`; None when nothing is padding.
        outcome: what is read, with both its factors; emojis of the model's tokenizer if left out.
        positions: columns to read (negative from the end), `"onset"` for each row's last attended
            token only, None for all. An outcome that is read at two positions needs `"onset"` and
            prompts that end with the lone space (`Slots.prompts`); the place is then the slot, one
            column before the end.
        include_mid: also read between attention and MLP of each block.
        ask: topics, prompts per forward pass (16 if left out) and progress, see `Question`; what
            is read is the outcome, at `positions`.

    Raises:
        InputError: if tokens and mask do not match, a row is all padding, or a column is out of
            range or no real token is left.
        ModelError: if the model's logits are not final norm and unembedding of its last residual,
            or an activation is not finite.
        TokenizerError: if the outcome holds ids that the model does not have.
    """
    check_hooked(model, "the logit lens")
    through = Through(points(int(model.cfg.n_layers), include_mid))
    return read_through(model, tokens, attention_mask, outcome, positions, through, asked(ask))


@dataclass(frozen=True)
class Through:
    """What residuals are read through.

    Attributes:
        points: label of each reading point -> hook name, in the order of the computation.
        matrices: what each point but the last is multiplied by first; nothing in the logit lens.
        lens: what the reading is called.
    """

    points: dict[str, str]
    matrices: Float[Tensor, "point d_model d_model"] | None = None
    lens: str = LOGIT_LENS

    def move(self, place: int, vectors: Float[Tensor, "n reads d_model"]) -> Tensor:
        """A point's states in the basis that they are read in."""
        if self.matrices is None or place >= len(self.matrices):
            return vectors
        return (vectors.float() @ self.matrices[place].to(vectors.device).T).to(vectors.dtype)


def read_through(
    model: TransformerBridge,
    tokens: Given,
    attention_mask: Tensor | None,
    outcome: Outcome | None,
    positions: Positions,
    through: Through,
    ask: Question,
) -> LensReading:
    """`read`, through what is given."""
    if ask.metric is not None or ask.places is not None:
        raise InputError("the lens has its own metric and positions: give outcome= and positions=")
    check_hooked(model, "the logit lens")
    batch = as_batch(tokens, model, attention_mask)
    tokens, mask = batch.tokens, _checked_mask(batch.attention_mask)
    outcome = Outcome.emoji(model.tokenizer) if outcome is None else outcome
    _check_model(model, outcome)
    columns, onset = _places(mask, positions)
    if outcome.space is not None:
        _check_spaced(tokens, columns, outcome, positions)
        columns = columns - 1
    valid = mask.gather(1, columns)
    if not bool(valid.any()):
        raise InputError("none of the positions to read is a real token; choose other columns")
    matched = _matched(model, outcome)

    def some(rows: list[int]) -> tuple[_Values, float]:
        return _read_batch(
            model,
            tokens[rows],
            mask[rows],
            columns[rows],
            valid[rows],
            through,
            (outcome, matched),
        )

    parts: list[_Values] = []
    errors: list[float] = []
    for _, (values, error) in memory.in_batches(
        len(tokens), ask.batch_size or 16, some, what="logit lens", progress=ask.progress,
        unit="prompt", device=input_device(model),
    ):  # fmt: skip
        parts.append(values)
        errors.append(error)
    found = {name: torch.cat([getattr(part, name) for part in parts], 1) for name in _MEASURED}
    log_odds = found["log_odds"]
    one = int(valid.int().sum(1).argmax())
    alone = some([one])[0].log_odds if len(tokens) > 1 else log_odds  # else it was read alone
    attended = tokens.masked_fill(~mask.to(tokens.device), -1)
    return LensReading(
        **found,
        valid=valid,
        columns=columns,
        onset=onset,
        labels=tuple(through.points),
        readout_error=max(errors),
        noise_floor=memory.rounding(log_odds[:, [one]], alone, float(log_odds.abs().max())),
        topics=ask.topics_of(len(tokens), attended),
        outcome=outcome.name,
        lens=through.lens,
    )


def compare(
    base: TransformerBridge,
    tuned: TransformerBridge,
    tokens: Given,
    attention_mask: Int[Tensor, "batch pos"] | Bool[Tensor, "batch pos"] | None = None,
    *,
    outcome: Outcome | None = None,
    positions: Positions = None,
    include_mid: bool = False,
    ask: Question | None = None,
) -> LensResult:
    """Read base and tuned on the same tokens; arguments and errors are those of `read`.

    Raises:
        ModelError: also if the two models have different numbers of layers.
    """
    check_hooked(base, "the logit lens")
    through = Through(points(int(base.cfg.n_layers), include_mid))
    return compare_through((base, tuned), tokens, attention_mask, outcome, positions, through, ask)


def compare_through(
    models: tuple[TransformerBridge, TransformerBridge],
    tokens: Given,
    attention_mask: Tensor | None,
    outcome: Outcome | None,
    positions: Positions,
    through: Through,
    ask: Question | None,
) -> LensResult:
    """`compare`, through what is given."""
    base, tuned = models
    check_hooked(tuned, "the logit lens")
    if base.cfg.n_layers != tuned.cfg.n_layers:
        raise ModelError(
            f"base has {base.cfg.n_layers} layers and tuned {tuned.cfg.n_layers}; "
            "compare a model with its own fine-tuned version"
        )
    outcome = Outcome.emoji(base.tokenizer) if outcome is None else outcome
    ask, readings = asked(ask), []
    for name, model in (("base", base), ("tuned", tuned)):
        said = None if ask.progress is None else _named(ask.progress, name)
        how = replace(ask, progress=said)
        readings.append(
            read_through(model, tokens, attention_mask, outcome, positions, through, how)
        )
    first = readings[0]
    return LensResult(
        **{
            name: torch.stack([getattr(reading, name) for reading in readings])
            for name in _MEASURED
        },
        valid=first.valid,
        columns=first.columns,
        onset=first.onset,
        labels=first.labels,
        readout_error=tuple(reading.readout_error for reading in readings),
        noise_floor=max(reading.noise_floor or 0.0 for reading in readings),
        topics=first.topics,
        outcome=first.outcome,
        lens=first.lens,
    )


# Each measured tensor, and what it holds where nothing is read.
_MEASURED = {name: -1 if name in ("rank", "best_id") else 0.0 for name in MEASURED}


@dataclass(frozen=True)
class _Values:
    """The measured tensors of one batch, or of one flat set of places."""

    log_odds: Float[Tensor, "..."]
    go_on: Float[Tensor, "..."]
    given_go_on: Float[Tensor, "..."]
    reference: Float[Tensor, "..."]
    probability: Float[Tensor, "..."]
    rank: Int[Tensor, "..."]
    best_id: Int[Tensor, "..."]


def _read_batch(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"],
    columns: Int[Tensor, "batch place"],
    valid: Bool[Tensor, "batch place"],
    through: Through,
    what: tuple[Outcome, Outcome | None],
) -> tuple[_Values, float]:
    """Values `[layer, batch, place]` of one batch, and how far the last is from the logits."""
    device = input_device(model)
    residuals: dict[str, Tensor] = {}
    hook_names = list(through.points.values())
    row, place = valid.nonzero(as_tuple=True)
    column = columns[row, place]
    ahead = torch.arange(what[0].reads)

    def keep(name: str, residual: Tensor, hook: Any) -> None:  # noqa: ARG001
        where = residual.device
        residuals[name] = residual[row[:, None].to(where), (column[:, None] + ahead).to(where)]

    fwd_hooks = [(name, partial(keep, name)) for name in hook_names]
    with torch.no_grad(), model.hooks(fwd_hooks=fwd_hooks):
        logits = model(tokens.to(device), attention_mask=mask.long().to(device))
    stack = [residuals[name] for name in hook_names]
    # The last place read of each row is enough to tell a wrong readout from a right one.
    last = torch.cat([row[1:] != row[:-1], torch.tensor([True])]).nonzero().squeeze(1)
    theirs = logits[row[last].to(logits.device), column[last].to(logits.device)]
    error = _identity_error(model, stack[-1][last.to(stack[-1].device), 0], theirs)
    del logits
    flat = [
        _measure(model, through.move(point, vectors), *what) for point, vectors in enumerate(stack)
    ]
    shape = (len(stack), *valid.shape)
    found = {}
    for name, empty in _MEASURED.items():
        values = torch.stack([getattr(part, name) for part in flat])
        found[name] = torch.full(shape, empty, dtype=values.dtype)
        found[name][:, row, place] = values
    broken = (~torch.isfinite(found["log_odds"])).flatten(1).any(1)
    if bool(broken.any()):
        where = hook_names[int(broken.nonzero()[0])]
        raise ModelError(
            f"the residual stream at {where} overflows or is not a number; load the model in "
            "bfloat16 or float32"
        )
    return _Values(**found), error


def _measure(
    model: TransformerBridge,
    vectors: Float[Tensor, "n reads d_model"],
    outcome: Outcome,
    matched: Outcome | None,
) -> _Values:
    ids, row = _sought(outcome)
    best_of = torch.tensor(ids)
    parts: list[tuple[Tensor, ...]] = []
    for chunk in vectors.split(max(1, _LOGITS // outcome.size // vectors.shape[1])):
        logits = _readout(model, rearrange(chunk, "n reads d -> (n reads) d"))
        logits = rearrange(logits, "(n reads) vocab -> n reads vocab", n=len(chunk))
        sums = outcome.sums(logits[:, 0] if outcome.reads == 1 else logits)
        factors = [factor(sums) for factor in FACTORS.values()]
        if not outcome.stop_ids:  # without a stop token there are no factors
            factors[1:] = [torch.full_like(factors[0], torch.nan)] * 2
        best, which = logits[:, row, best_of.to(logits.device)].max(-1)
        rank = (logits[:, row] > best.unsqueeze(-1)).sum(-1)
        reference = torch.full_like(factors[0], torch.nan)
        if matched is not None:
            reference = matched.log_odds(logits[:, row])
        chance = sums.softmax(-1)[:, OUTCOME]
        parts.append((*factors, reference, chance, rank, best_of[which.cpu()]))
    return _Values(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))


def _sought(outcome: Outcome) -> tuple[tuple[int, ...], int]:
    """The ids that are looked for, and in which row: of two after the `▁`, if none comes before."""
    return (outcome.ids, 0) if outcome.ids else (outcome.after_ids, 1)


def _matched(model: TransformerBridge, outcome: Outcome) -> Outcome | None:
    """As many words, each the nearest that is left in the length of its unembedding row."""
    weight = getattr(model.unembed.original_component, "weight", None)
    if weight is None or weight.ndim != 2 or weight.device.type == "meta":
        return None
    ids, _ = _sought(outcome)
    length = weight[: outcome.size].detach().float().norm(dim=1).cpu()
    left = torch.ones(len(length), dtype=torch.bool)
    left[[*outcome.ids, *outcome.after_ids, *outcome.stop_ids, *outcome.space_ids]] = False
    if int(left.sum()) <= len(ids):
        return None
    found = []
    for token in ids:
        away = (length - length[token]).abs().masked_fill(~left, torch.inf)
        found.append(int(away.argmin()))
        left[found[-1]] = False
    return Outcome("words", tuple(found), (), outcome.size)


def _readout(model: TransformerBridge, vectors: Float[Tensor, "n d_model"]) -> Tensor:
    try:
        there = model.unembed.original_component.weight.device
        here = input_device(model) if there.type == "meta" else there
        return logit_readout(model, vectors.to(here), chunk_size=len(vectors)).values
    except (ValueError, NotImplementedError, TypeError) as problem:
        raise ModelError(f"the logit lens cannot read this model: {problem}") from None


def _identity_error(
    model: TransformerBridge, final: Float[Tensor, "n d_model"], logits: Float[Tensor, "n vocab"]
) -> float:
    """Largest difference of the last reading's logits from the model's own, both centred.

    Raises:
        ModelError: if it is too large for a readout that follows the model's own path.
    """
    ours = _readout(model, final).float()
    theirs = logits.to(ours.device).float()
    if ours.shape != theirs.shape:
        raise ModelError(
            f"the model gives {theirs.shape[-1]} logits per position but its unembedding "
            f"{ours.shape[-1]}; the logit lens cannot read it"
        )
    ours, theirs = ours - ours.mean(-1, keepdim=True), theirs - theirs.mean(-1, keepdim=True)
    error, spread = float((ours - theirs).abs().max()), float(theirs.abs().max())
    if not error <= _IDENTITY_TOLERANCE * spread:
        raise ModelError(
            f"the last reading differs from the model's own logits by {error:.3g} where these "
            f"spread over {spread:.3g}; the model does more than norm and unembedding, or its "
            "weights are damaged"
        )
    return error


def points(n_layers: int, include_mid: bool = False) -> dict[str, str]:
    """Label of each reading point -> hook name, in the order of the computation."""
    found = {"embedding": "blocks.0.hook_resid_pre"}
    for layer in range(n_layers):
        if include_mid:
            found[f"{layer}.mid"] = f"blocks.{layer}.hook_resid_mid"
        label = "final" if layer == n_layers - 1 else str(layer)
        found[label] = f"blocks.{layer}.hook_resid_post"
    return found


def _places(
    mask: Bool[Tensor, "batch pos"], positions: Positions
) -> tuple[Int[Tensor, "batch place"], Int[Tensor, " batch"]]:
    """The columns to read per row, and which of them is the row's last attended one."""
    batch, width = mask.shape
    last = (mask.long() * torch.arange(width)).amax(1)
    if positions == "onset":
        return last.unsqueeze(1), torch.zeros(batch, dtype=torch.long)
    if isinstance(positions, str):
        raise InputError(f"positions {positions!r} is neither 'onset' nor a list of columns")
    wanted = range(width) if positions is None else [int(p) for p in positions]
    wrong = [p for p in wanted if not -width <= p < width]
    if wrong or not len(wanted):
        raise InputError(
            f"positions {wrong} are not among the {width} columns; count from 0, or from -1 back"
            if wrong
            else "positions is empty; leave it out to read every column"
        )
    columns = torch.tensor([p % width for p in wanted]).expand(batch, -1)
    hits = columns == last.unsqueeze(1)
    onset = torch.where(hits.any(1), hits.long().argmax(1), -1)
    return columns.contiguous(), onset


def _checked_mask(mask: Bool[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos"]:
    mask = mask.cpu()
    if not bool(mask.any(1).all()):
        row = int((~mask.any(1)).nonzero()[0])
        raise InputError(f"prompt {row} is all padding; leave it out, or mend its attention mask")
    return mask


def _check_model(model: TransformerBridge, outcome: Outcome) -> None:
    size = int(model.cfg.d_vocab)
    if outcome.size > size:
        raise TokenizerError(
            f"the tokenizer has {outcome.size} ids but the model only {size}; "
            "take the outcome of the tokenizer that belongs to this model"
        )


def _check_spaced(
    tokens: Int[Tensor, "batch pos"],
    columns: Int[Tensor, "batch place"],
    outcome: Outcome,
    positions: Positions,
) -> None:
    """Refuse prompts and places at which an outcome of two positions cannot be read."""
    assert outcome.space is not None  # of two positions, see `Outcome`
    at_space = tokens.cpu().gather(1, columns).eq(outcome.space)
    if positions != "onset" or not bool(at_space.all()):
        raise InputError(
            f"outcome {outcome.name!r} is read at two positions, the slot and after a lone ▁: give "
            "positions='onset' and prompts that end with the ▁ (Slots.prompts), or the outcome's "
            "`direct`"
        )


def _named(progress: Progress, name: str) -> Progress:
    def said(label: str, done: int, total: int) -> None:
        progress(f"{label}, {name}", done, total)

    return said
