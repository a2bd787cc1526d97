"""A dictionary: an activation as a sparse sum of directions, each with its latent.

    latents      f = act(norm(x) W_enc + b_enc)       of the activation at one place, never negative
    activation   y = scale(x) (f W_dec + b_dec) + error

Of a sparse autoencoder y is x itself; a transcoder reads x at one place (an MLP's input) and writes
what stands at another (the MLP's output). What differs is `act`:

    standard   ReLU                                      (Bricken et al. 2023)
    gated      ReLU where a second reading is positive   (Rajamanoharan et al. 2024, 2404.16014)
    jumprelu   the value itself above a threshold        (Rajamanoharan et al. 2024, 2407.14435)
    topk       ReLU of the k largest                     (Gao et al. 2024, 2406.04093)

The conventions are those of sae-lens 6.54, whose folders are read (`interp.traces.dictionaries.
folder`) and against which this is held (`benchmarks/dictionaries.py`). Everything is float32, on
the CPU; sae-lens computes in the folder's dtype.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import DictionaryError

ARCHITECTURES = {
    "standard": ("b_enc",),
    "gated": ("b_gate", "b_mag", "r_mag"),
    "jumprelu": ("b_enc", "threshold"),
    "topk": ("b_enc",),
    "transcoder": ("b_enc",),
    "skip_transcoder": ("b_enc", "W_skip"),
    "jumprelu_transcoder": ("b_enc", "threshold"),
    "jumprelu_skip_transcoder": ("b_enc", "threshold", "W_skip"),
}
"""What is read, in sae-lens' words, and the tensors of each beside `W_enc`, `W_dec` and `b_dec`."""


@dataclass(frozen=True)
class DictionaryConfig:
    """What a dictionary says of itself.

    Attributes:
        architecture: one of `ARCHITECTURES`.
        d_in, d_sae, d_out: width of what is read, number of latents, width of what is written.
        hook, hook_out: TransformerLens' names of where it reads and where what it writes stands;
            the same of an autoencoder.
        k: of `topk`.
        rescale: whether latents of `topk` are chosen and counted in lengths of decoder rows.
        centred: whether `b_dec` is taken off before reading.
        normalize: `none`, `constant_norm_rescale` (to a norm of sqrt(d_in)) or `layer_norm`.
        model: the name of the model that it was trained on, if that is said.
    """

    architecture: str
    d_in: int
    d_sae: int
    d_out: int
    hook: str
    hook_out: str
    k: int = 0
    rescale: bool = False
    centred: bool = False
    normalize: str = "none"
    model: str = ""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, by sae-lens' names."""
        known = {"W_skip": (self.d_out, self.d_in)}
        rest = {name: known.get(name, (self.d_sae,)) for name in ARCHITECTURES[self.architecture]}
        return {
            "W_enc": (self.d_in, self.d_sae), "W_dec": (self.d_sae, self.d_out),
            "b_dec": (self.d_out,), **rest,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A dictionary in memory.

    Attributes:
        config: what it is.
        weights: float32, by sae-lens' names, of the shapes `config.shapes`.
        name: of the folder, or the hub id.
        sha256: of the file of weights; empty where it comes from none.

    Raises:
        DictionaryError: if the weights have other names or shapes.
    """

    config: DictionaryConfig
    weights: Mapping[str, Tensor] = field(repr=False)
    name: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        found = {name: tuple(one.shape) for name, one in self.weights.items()}
        if found != self.config.shapes:
            raise DictionaryError(
                f"{self.name or 'dictionary'}: weights {found} are not those of a "
                f"{self.config.architecture} dictionary of these sizes, {self.config.shapes}"
            )

    @cached_property
    def directions(self) -> Float[Tensor, "latent d_out"]:
        """What one unit of each latent writes, where the activation is not normalised."""
        rows = self.weights["W_dec"]
        return rows / rows.norm(dim=-1, keepdim=True) if self.config.rescale else rows

    def encode(self, x: Float[Tensor, "*lead d_in"]) -> Float[Tensor, "*lead latent"]:
        """Latents of activations at `config.hook`.

        Raises:
            DictionaryError: if they have another width.
        """
        w, kind = self.weights, self.config.architecture
        read = self._normalised(x)
        if self.config.centred:
            read = read - w["b_dec"]
        if kind == "gated":
            seen = read @ w["W_enc"]
            return ((seen + w["b_gate"]) > 0) * (seen * w["r_mag"].exp() + w["b_mag"]).relu()
        seen = read @ w["W_enc"] + w["b_enc"]
        if "threshold" in w:
            return seen.relu() * (seen > w["threshold"])
        if kind != "topk":
            return seen.relu()
        if self.config.rescale:
            seen = seen * w["W_dec"].norm(dim=-1)
        most = seen.topk(self.config.k, dim=-1)
        return torch.zeros_like(seen).scatter(-1, most.indices, most.values.relu())

    def decode(
        self, latents: Float[Tensor, "*lead latent"], x: Float[Tensor, "*lead d_in"]
    ) -> Float[Tensor, "*lead d_out"]:
        """What these latents stand for, in the scale of the activation `x` that they are of.

        A transcoder's skip connection (`W_skip x`) is part of it.
        """
        made = latents @ self.directions + self.weights["b_dec"]
        skipped = x.float() @ self.weights["W_skip"].T if "W_skip" in self.weights else 0.0
        return self.scale(x) * made + self._shift(x) + skipped

    def error(
        self, x: Float[Tensor, "*lead d_in"], y: Float[Tensor, "*lead d_out"] | None = None
    ) -> Float[Tensor, "*lead d_out"]:
        """What the dictionary does not say of `y`, the activation at `config.hook_out`.

        Args:
            x: the activation at `config.hook`.
            y: left out where both are one.
        """
        return (x if y is None else y).float() - self.decode(self.encode(x), x)

    def scale(self, x: Float[Tensor, "*lead d_in"]) -> Float[Tensor, "*lead one"]:
        """What is written, is written times this: 1 where nothing is normalised on the way out."""
        x, kind = x.float(), self.config.normalize
        if kind == "none" or self.is_transcoder:
            return torch.ones_like(x[..., :1])
        if kind == "layer_norm":
            return x.std(-1, keepdim=True)
        return x.norm(dim=-1, keepdim=True) / self.config.d_in**0.5

    @property
    def is_transcoder(self) -> bool:
        """Whether it writes at another place than it reads."""
        return "transcoder" in self.config.architecture

    def at(self, hook: str = "", hook_out: str = "") -> "Dictionary":
        """The same dictionary, said to be of another place."""
        one = hook or self.config.hook
        other = hook_out or (self.config.hook_out if self.is_transcoder else one)
        return replace(self, config=replace(self.config, hook=one, hook_out=other))

    def _normalised(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.config.d_in:
            raise DictionaryError(
                f"{self.name or 'dictionary'}: reads activations of width {self.config.d_in} "
                f"({self.config.hook}), got {x.shape[-1]}; it was made for another model or place"
            )
        x, kind = x.float(), self.config.normalize
        if kind == "layer_norm":
            return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)
        if kind == "constant_norm_rescale":
            return x * (self.config.d_in**0.5 / x.norm(dim=-1, keepdim=True))
        return x

    def _shift(self, x: Tensor) -> Any:
        if self.config.normalize == "layer_norm" and not self.is_transcoder:
            return x.float().mean(-1, keepdim=True)
        return 0.0
