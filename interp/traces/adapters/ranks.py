"""The adapter's rank directions as neurons: where each fires, and what it writes.

A matrix's change is U S V' (see `directions`): each rank reads the module's input along V's column
and writes along U's. Its scalar at a token, S times that reading in the tuned model, is how much it
adds there, in the units of the module's output; its sign is set so that the largest is positive.
Where the module writes to the residual stream, U goes through the norm that follows the module (if
one does), the final norm and the unembedding, which names the tokens that it raises. What the emoji
loses without it is `directions`' to say (by exact ablation at slots), and `generate_with`'s while
answers are written.

A rank of an adapter of rank 1 is the adapter's own; of a larger one singular directions stand for
them, because any invertible mixture of the trained ranks is the same adapter. Cost: one forward
pass of the tuned model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.base.devices import input_device
from interp.base.errors import InputError
from interp.base.results import Result
from interp.models import ModelPair
from interp.models.tokens import TokenBatch
from interp.readout.written import written_ids
from interp.text.emoji.encode import token_bytes
from interp.traces.adapters.deltas import Delta, ports
from interp.traces.adapters.directions import into_stream, svd
from interp.traces.adapters.gates import path_of
from interp.traces.adapters.space import AdapterSpace


@dataclass(frozen=True)
class RankReadings(Result):
    """What each rank adds at each token of some texts.

    Attributes:
        modules, ranks: of each component, its module and its place there, largest first.
        scalars: what it adds at each token, `[component token]`.
        text: the text of each token.
        tokens: the tokens.
        writes: the tokens that its output raises most; none where its module does not write to the
            residual stream.
    """

    kind: ClassVar[str] = "adapter ranks"

    modules: tuple[str, ...]
    ranks: tuple[int, ...]
    scalars: Float[Tensor, "component token"]
    text: Int[Tensor, " token"]
    tokens: tuple[str, ...]
    writes: tuple[tuple[str, ...], ...]

    def to_dataframe(self) -> pd.DataFrame:
        """A row per component: its largest scalar, where, the mean size, and what it writes."""
        rows = []
        for place, scalars in enumerate(self.scalars):
            most = int(scalars.argmax())
            rows.append((self.modules[place], self.ranks[place], float(scalars[most]),
                         float(scalars.abs().mean()), self.tokens[most], int(self.text[most]),
                         " ".join(self.writes[place])))  # fmt: skip
        columns = ["module", "rank", "largest", "mean_size", "after", "text", "writes"]
        return pd.DataFrame(rows, columns=columns)

    def top(self, component: int, count: int = 10) -> pd.DataFrame:
        """The tokens at which a component adds most: `text`, `token`, `before` it, `scalar`."""
        rows = []
        for place in self.scalars[component].topk(min(count, len(self.tokens))).indices.tolist():
            text = int(self.text[place])
            first = int((self.text == text).nonzero()[0])
            before = "".join(self.tokens[max(first, place - 8) : place])
            rows.append((text, self.tokens[place], before, float(self.scalars[component, place])))
        return pd.DataFrame(rows, columns=["text", "token", "before", "scalar"])


def ranks(
    pair: ModelPair | AdapterSpace, batch: TokenBatch, *, rank: int = 4, top: int = 8
) -> RankReadings:
    """Read every rank component at every token.

    Args:
        pair: a loaded pair.
        batch: the texts.
        rank: at most so many components of each module, the largest first.
        top: tokens to name of what a component writes.

    Raises:
        AdapterError: if the adapter cannot be taken apart.
        InputError: if it changes embeddings only, or a number is below 1.
    """
    if rank < 1 or top < 1:
        raise InputError(f"rank and top must be at least 1, got {rank} and {top}")
    space = AdapterSpace.of(pair)
    deltas = [delta for delta in space.deltas if not delta.embedding]
    if not deltas:
        raise InputError("the adapter changes embeddings only; there are no ranks to read")
    model, mask = space.pair.tuned, batch.attention_mask
    given = batch.to(input_device(model))
    with _inputs(model, deltas) as kept, torch.no_grad():
        model(given.tokens, attention_mask=given.attention_mask.long())
    made, names, places, writes = [], [], [], []
    for delta in deltas:
        u, s, v = (part.float().cpu() for part in svd(delta))
        x = kept[delta.name].float().cpu()[mask]
        scalars = (x @ v[:rank].T) * s[:rank]
        for k, found in enumerate(scalars.T):
            most = found[found.abs().argmax()]
            sign = -1.0 if float(most) < 0 else 1.0
            made.append(sign * found)
            names.append(delta.name)
            places.append(k)
            writes.append(_written(space, delta, sign * u[:, k], top))
    pieces, ids = token_bytes(model.tokenizer), batch.tokens[mask].tolist()
    return RankReadings(
        modules=tuple(names),
        ranks=tuple(places),
        scalars=torch.stack(made),
        text=mask.nonzero()[:, 0],
        tokens=tuple(pieces[i].decode(errors="replace") or f"id {i}" for i in ids),
        writes=tuple(writes),
    )


def _written(space: AdapterSpace, delta: Delta, output: Tensor, top: int) -> tuple[str, ...]:
    base, written = space.pair.base, into_stream(space, delta, output)
    if written is None:
        return ()
    ids = written_ids(base, written[None], top)[0]
    return tuple(map(str, base.tokenizer.convert_ids_to_tokens(ids.tolist())))


@contextmanager
def _inputs(model: Any, deltas: Sequence[Delta]) -> Iterator[dict[str, Tensor]]:
    """The input of each module, kept while a forward pass runs."""
    network, handles = model.original_model, []
    kept: dict[str, Tensor] = {}
    for delta in deltas:

        def keep(module: Any, args: Any, name: str = delta.name) -> None:  # noqa: ARG001
            kept[name] = args[0].detach()

        module, _ = next(iter(ports(network, path_of(network, delta.name))))
        handles.append(module.register_forward_pre_hook(keep))
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
