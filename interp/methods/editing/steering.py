"""Activation steering: vectors added to a model's activations while it runs.

A `Steering` holds one vector per layer and adds `strength` times it at one of two sites:

- `resid_post`: to what the layer's MLP writes, so to the residual stream after the layer;
- `z`: to the heads' outputs before the output projection, which is the same as a bias of that
  projection (how PAS does it).

The vectors are added by forward hooks on the base's own modules, inside a context manager only: no
weight changes, generation with the key/value cache runs through them, and when the context closes
the model is bit for bit what it was. At strength 0 it is so inside as well. Sweeps by the exact
patching engine go through steering of all positions: the hooks sit on the linear maps that it calls
(models with a norm after the MLP or in half precision aside: there it may refuse, and
`interp.patching.naive` works).

Sign: a positive strength adds the vector. Cost: one addition per layer.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge

from interp.base.errors import InputError, ModelError
from interp.base.results import Result

SITES = ("resid_post", "z")
WHERE = ("all", "answer")


@dataclass(frozen=True)
class Steering(Result):
    """Vectors to add, and how they were found.

    Attributes:
        vectors: what strength 1 adds, `[layer, width]`; width is `d_model` for `resid_post`, all
            heads' outputs side by side for `z` (zero where a head is left alone).
        layers: the layer of each vector.
        site: where they are added.
        strength: the multiple of the vectors that is added.
        where: `all` positions, or the `answer`'s: the last position of the prompt, whose logits
            give the first token, and every token written.
        method: `PAS`, `persona vector`, or either with `random direction`.
        trait: that it shall express.
        base_sha256: of the base that it was fitted on.
        topics: topics of the answers that it was fitted on.
        head_width: width of one head for `z`; 0 for `resid_post`.
        heads: for PAS `(layer, head, validation accuracy, spread)` of each head steered.
        search: `(layer, strength, loss)` of every evaluation of the search: `layer` is -1 where all
            layers are steered at once, `loss` is in nats per token.
        against: what the trait's answers were set against.
        seed: of the fit; of the draw for a random direction.
    """

    kind: ClassVar[str] = "steering"

    vectors: Float[Tensor, "layer width"]
    layers: tuple[int, ...]
    site: str
    strength: float
    where: str
    method: str
    trait: str
    base_sha256: str
    topics: tuple[str, ...]
    head_width: int
    heads: tuple[tuple[int, int, float, float], ...]
    search: tuple[tuple[int, float, float], ...]
    against: str
    seed: int

    def __post_init__(self) -> None:
        if self.site not in SITES or self.where not in WHERE:
            raise InputError(
                f"steering at {self.site!r}, {self.where!r}: use site resid_post or z, and "
                "positions all or answer"
            )
        if len(self.layers) != len(self.vectors) or not bool(torch.isfinite(self.vectors).all()):
            raise InputError("steering needs one finite vector per layer")

    def at(self, strength: float) -> "Steering":
        """The same vectors at another strength."""
        return replace(self, strength=float(strength))

    @property
    def norms(self) -> Float[Tensor, "layer block"]:
        """Norm of each vector that strength 1 adds, per head for `z`."""
        return self._blocks().double().norm(dim=-1)

    def random(self, seed: int) -> "Steering":
        """The negative control: random directions, uniform on the sphere, of the same norms."""
        blocks = self._blocks().double()
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(blocks.shape, generator=generator, dtype=torch.float64)
        scaled = drawn / drawn.norm(dim=-1, keepdim=True) * blocks.norm(dim=-1, keepdim=True)
        vectors = rearrange(scaled, "layer block width -> layer (block width)").to(self.vectors)
        return replace(self, vectors=vectors, method=f"{self.method}, random direction", seed=seed)

    def _blocks(self) -> Float[Tensor, "layer block width"]:
        width = self.head_width or self.vectors.shape[1]
        return rearrange(self.vectors, "layer (block width) -> layer block width", width=width)

    @contextmanager
    def active(
        self, model: TransformerBridge, answer: Bool[Tensor, "batch pos"] | None = None
    ) -> Iterator[TransformerBridge]:
        """Steer a model for as long as the context is open.

        Args:
            model: a hooked model of the base's shape.
            answer: for `where="answer"`, the answer's positions of the batches that will be run,
                `[batch, pos]`; the position before the first of them is steered too. Left out,
                only generation is right: the last position of each pass.

        Raises:
            ModelError: if the model has no such layer, or another width.
            InputError: if a batch does not fit `answer`.
        """
        mask = None if answer is None else answer | _before(answer)
        with ExitStack() as stack:
            for layer, vector in zip(self.layers, self.vectors, strict=True):
                module, as_input = _place(model, layer, self.site)
                shift = (self.strength * vector).to(next(module.parameters()))
                _check_width(module, as_input, len(shift), layer)
                where = _everywhere if self.where == "all" else _at(mask)
                if as_input:
                    hook = _input_hook(shift, where)
                    stack.callback(module.register_forward_pre_hook(hook).remove)
                else:
                    stack.callback(module.register_forward_hook(_output_hook(shift, where)).remove)
            yield model

    def to_dataframe(self) -> pd.DataFrame:
        """One row per vector (per steered head for PAS), with what strength adds."""
        spread = {(layer, head): (right, std) for layer, head, right, std in self.heads}
        rows = []
        for index, layer in enumerate(self.layers):
            for block, norm in enumerate(self.norms[index].tolist()):
                if norm > 0:
                    right, std = spread.get((layer, block), (None, None))
                    head = block if self.head_width else None
                    rows.append((layer, head, norm, self.strength * norm, right, std))
        columns = ["layer", "head", "norm", "added", "accuracy", "spread"]
        return pd.DataFrame(rows, columns=columns)


Add = Callable[[Tensor, Tensor], Tensor]


def _everywhere(activation: Tensor, shift: Tensor) -> Tensor:
    return activation + shift


def _at(mask: Tensor | None) -> Add:
    """Add at the mask's positions; without a mask at the last one."""

    def add(activation: Tensor, shift: Tensor) -> Tensor:
        if activation.ndim != 3:
            raise InputError(
                "steering of answer positions cannot follow the exact patching engine; steer all "
                "positions, or patch with interp.patching.naive"
            )
        if mask is None:
            chosen = torch.zeros(activation.shape[:2], dtype=torch.bool, device=activation.device)
            chosen[:, -1] = True
        else:
            chosen = mask.to(activation.device)
        if chosen.shape != activation.shape[:2]:
            raise InputError(
                f"the answer's positions are {list(chosen.shape)}, the batch is "
                f"{list(activation.shape[:2])}; give one value per token of the batch that is run"
            )
        return torch.where(chosen[..., None], activation + shift, activation)

    return add


def _before(answer: Tensor) -> Tensor:
    """The position before each true one."""
    before = torch.zeros_like(answer)
    before[:, :-1] = answer[:, 1:]
    return before


def _place(model: TransformerBridge, layer: int, site: str) -> tuple[nn.Module, bool]:
    """The module whose output (or, if true, input) is steered."""
    blocks = model.blocks
    if not 0 <= layer < len(blocks):
        raise ModelError(f"the model has {len(blocks)} layers, the steering asks for {layer}")
    block = blocks[layer]
    try:
        if site == "z":
            return block.attn.o.original_component, True
        after = getattr(block, "ln2_post", None)
        module: Any = after if after is not None else block.mlp.out
        return module.original_component, False
    except AttributeError:
        kind = getattr(model.original_model.config, "model_type", "this model")
        raise ModelError(f"site {site}: {kind} has no such projection in layer {layer}") from None


def _check_width(module: nn.Module, as_input: bool, width: int, layer: int) -> None:
    weight = next(module.parameters())
    if width not in weight.shape:
        side = "inputs" if as_input else "outputs"
        raise ModelError(
            f"layer {layer}: the steering is {width} wide, the model's weight there has the shape "
            f"{list(weight.shape)} ({side}); it was fitted on a model of another size"
        )


def _input_hook(shift: Tensor, add: Add) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:  # noqa: ARG001
        return (add(args[0], shift.to(args[0])), *args[1:])

    return hook


def _output_hook(shift: Tensor, add: Add) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:  # noqa: ARG001
        return add(output, shift.to(output))

    return hook
