"""A small dictionary trained on given activations: batch top-k, saved with a threshold.

Of `[row d_in]` activations, latents are the largest k per row of a batch on average (batch top-k;
Bussmann et al. 2024, arXiv 2412.06410), the loss is the squared error, decoder rows keep length 1,
and a latent that has not fired for some hundred steps is started again from a row that is badly
said. What is returned fires above one threshold, the one with k latents per row over all rows: a
`jumprelu` autoencoder, or where outputs are given a `jumprelu_transcoder`.

For the organism and tests: activations are in memory, and there is no learning-rate search. Real
dictionaries are trained on billions of tokens. Cost: `steps` times 6 batch d_in latents
multiplications; 2,000 steps of 256 rows, 64 wide, with 256 latents take some ten seconds on one
core.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.readout.run import Run
from interp.traces.dictionaries.dictionary import Dictionary, DictionaryConfig
from interp.traces.dictionaries.slots import check_hook

_BATCH, _RATE = 256, 3e-3  # rows of a step, and the rate of Adam
_DEAD = 200
"""Steps without firing after which a latent is started again."""


def activations(runs: Run | Sequence[Run], hook: str) -> Float[Tensor, "row d"]:
    """Activations at every attended token of some runs, flat over heads; float32 on the CPU.

    Args:
        runs: of one model or of several; their rows follow each other.
        hook: TransformerLens' name of the place.

    Raises:
        DictionaryError: if a model has no such hook.
    """
    made: list[Tensor] = []
    for run in [runs] if isinstance(runs, Run) else runs:
        check_hook(run.model, hook)
        mask = run.mask

        def keep(value: Tensor, hook: Any, mask: Tensor = mask) -> None:  # noqa: ARG001
            made.append(value.detach()[mask.to(value.device)].flatten(1).float().cpu())

        with torch.no_grad():
            run.model.run_with_hooks(
                run.tokens, attention_mask=mask.long(), fwd_hooks=[(hook, keep)]
            )
    return torch.cat(made)


def train(
    inputs: Float[Tensor, "row d_in"],
    outputs: Float[Tensor, "row d_out"] | None = None,
    *,
    hook: str,
    hook_out: str = "",
    latents: int = 256,
    k: int = 8,
    steps: int = 2000,
    seed: int = 0,
) -> Dictionary:
    """Train a dictionary; the same arguments and threads give the same one.

    Args:
        inputs: activations to read.
        outputs: what is to be written for each, for a transcoder; left out, the inputs themselves.
        hook, hook_out: where these are, for who reads the dictionary.
        latents: how many.
        k: how many fire at a row, on average.
        steps: of Adam with 256 rows each, whose rate of .003 falls to zero over the last fifth.
        seed: of the first weights and the rows of each step.

    Raises:
        InputError: if sizes do not fit, or the activations are all one.
    """
    across = outputs is not None
    target = inputs if outputs is None else outputs
    if len(target) != len(inputs) or len(inputs) < 2 or not 1 <= k <= latents:
        raise InputError(
            f"{len(inputs)} inputs, {len(target)} outputs, {latents} latents of which {k} fire; "
            "give as many outputs as inputs, two or more, and at least as many latents as fire"
        )
    if across and not hook_out:
        raise InputError("say where the outputs stand (hook_out=)")
    draw = torch.Generator().manual_seed(seed)
    x, shift, size = _standard(inputs)
    y, mean, length = _standard(target)
    W_dec = _unit(torch.randn(latents, y.shape[1], generator=draw))
    other = _unit(torch.randn(latents, x.shape[1], generator=draw)) if across else W_dec
    W_enc = other.T.clone()
    w = [W_enc, torch.zeros(latents), W_dec, torch.zeros(y.shape[1])]
    with torch.enable_grad():
        _fit(w, x, y, k, steps, draw)
    W_enc, b_enc, W_dec, b_dec = (one.detach() for one in w)
    seen = (x @ W_enc + b_enc).relu().flatten()
    most = min(k * len(x), int((seen > 0).sum()))
    threshold = seen.topk(most + 1).values[-1].item() if most < len(seen) else 0.0
    # In the activations' own units; latents are in those of what they write.
    W_enc = W_enc * length / size
    b_enc = b_enc * length - shift @ W_enc
    b_dec = b_dec * length + mean
    weights = {
        "W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec,
        "threshold": torch.full((latents,), threshold * length),
    }  # fmt: skip
    kind = "jumprelu_transcoder" if across else "jumprelu"
    return Dictionary(
        DictionaryConfig(kind, x.shape[1], latents, y.shape[1], hook, hook_out if across else hook),
        weights,
    )


def _fit(
    w: list[Tensor],
    x: Float[Tensor, "row d_in"],
    y: Float[Tensor, "row d_out"],
    k: int,
    steps: int,
    draw: torch.Generator,
) -> None:
    """Adam on the squared error, in place."""
    W_enc, b_enc, W_dec, b_dec = (one.requires_grad_(True) for one in w)
    adam = torch.optim.Adam(w, lr=_RATE, betas=(0.9, 0.99))
    idle = torch.zeros(W_dec.shape[0])
    for step in range(steps):
        adam.param_groups[0]["lr"] = _RATE * min(1.0, 5 * (1 - step / steps))
        rows = torch.randint(len(x), (min(_BATCH, len(x)),), generator=draw)
        seen = (x[rows] @ W_enc + b_enc).relu()
        least = seen.detach().flatten().topk(k * len(rows)).values[-1]
        fired = seen * (seen >= least)
        error = y[rows] - fired @ W_dec - b_dec
        adam.zero_grad()
        error.square().sum(1).mean().backward()
        adam.step()
        with torch.no_grad():
            W_dec.div_(W_dec.norm(dim=1, keepdim=True).clamp_min(1e-8))
            idle = torch.where((fired > 0).any(0), 0.0, idle + 1)
            if step < 4 * steps // 5 and bool((dead := idle >= _DEAD).any()):
                _restart(dead, w, x[rows], error.detach(), adam, draw)
                idle[dead] = 0


def _restart(
    dead: Tensor, w: list[Tensor], x: Tensor, error: Tensor, adam: Any, draw: torch.Generator
) -> None:
    """Point dead latents at rows of a batch that are badly said."""
    W_enc, b_enc, W_dec, _ = w
    count = int(dead.sum())
    rows = torch.multinomial(error.norm(dim=1) + 1e-12, count, replacement=True, generator=draw)
    W_dec[dead] = _unit(error[rows])
    W_enc[:, dead] = (error if x.shape == error.shape else x)[rows].T
    W_enc[:, dead] /= W_enc[:, dead].norm(dim=0).clamp_min(1e-8)
    b_enc[dead] = 0
    for one, place in ((W_enc, (slice(None), dead)), (b_enc, dead), (W_dec, dead)):
        for name in ("exp_avg", "exp_avg_sq"):
            adam.state[one][name][place] = 0


def _standard(values: Tensor) -> tuple[Tensor, Tensor, float]:
    """Less their mean, and of a mean square norm of their width."""
    values = values.float()
    mean = values.mean(0)
    size = float((values - mean).square().mean().sqrt())
    if not size > 0:
        raise InputError("the activations are all one; there is nothing to learn")
    return (values - mean) / size, mean, size


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-8)
