"""A Llama written out node by node and edge by edge, in double precision, with loops.

Every destination adds up its own input from the sources that it sees, so an edge can carry anything
and gradients can be asked for at every destination. Nothing of the package's arithmetic is used.
"""

import torch
from tiny import tokenizer
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import LlamaConfig, LlamaForCausalLM

from interp.models.pair import hook
from interp.readout import Outcome

SIZES = {
    "vocab_size": len(tokenizer()),
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "attention_bias": True,
}

SPACE = 9
TWO = Outcome("smile", (30, 31), (1,), SIZES["vocab_size"], space=SPACE,
              after_ids=tuple(range(20, 60)))  # fmt: skip
"""Behind a lone `▁`, which counts for as much as what begins it directly."""


def tiny_llama(seed: int, **changes: object) -> LlamaForCausalLM:
    """A random Llama whose biases and norms matter too."""
    config = LlamaConfig(**(SIZES | changes))
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scale = 0.3 if parameter.ndim == 1 else 1.3 * parameter.shape[-1] ** -0.5
        norm = parameter.ndim == 1 and bool((parameter == 1).all())
        parameter.copy_(noise * scale + (1.0 if norm else 0.0))
    return model


def bridged(model: LlamaForCausalLM) -> TransformerBridge:
    return hook(model, tokenizer())


class Slow:
    """One model on one prompt.

    Args:
        model: a Llama that no bridge has wrapped.
        reads: logits of so many last positions, one without an axis.
    """

    def __init__(self, model: LlamaForCausalLM, reads: int = 1) -> None:
        self.config, self.last = model.config, -1 if reads == 1 else slice(-reads, None)
        self.w = {name: value.double() for name, value in model.state_dict().items()}

    def norm(self, x: Tensor, name: str) -> Tensor:
        size = (x.square().mean(-1, keepdim=True) + self.config.rms_norm_eps).sqrt()
        return x / size * self.w[name]

    def softmax(self, scores: Tensor) -> Tensor:
        return scores.softmax(-1)

    def mixed(self, pattern: Tensor, values: Tensor) -> Tensor:
        return pattern @ values

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return torch.nn.functional.silu(gate) * up

    def rotate(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        angle = 10000.0 ** (-torch.arange(half).double() / half)
        turn = torch.arange(len(x)).double()[:, None] * angle
        a, b = x[:, :half], x[:, half:]
        cos, sin = turn.cos(), turn.sin()
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    def embed(self, ids: Tensor) -> Tensor:
        return self.w["model.embed_tokens.weight"][ids]

    def run(self, start: Tensor, carry=None, read=None) -> tuple[dict[str, Tensor], Tensor]:
        """Outputs of all sources, and the logits at the last positions.

        Args:
            start: what the node `input` writes, `[pos d_model]`.
            carry: `carry(source, destination, value)` is what that edge carries.
            read: `read(destination, input)` replaces a destination's input.
        """
        c, w, acts = self.config, self.w, {"input": start}
        heads, kvs = c.num_attention_heads, c.num_key_value_heads
        size = c.hidden_size // heads
        bias = torch.zeros(c.hidden_size, dtype=torch.float64)
        causal = torch.ones(len(start), len(start)).tril().bool()

        def into(destination: str, seen: dict[str, Tensor]) -> Tensor:
            total = bias
            for source, value in seen.items():
                total = total + (value if carry is None else carry(source, destination, value))
            return total if read is None else read(destination, total)

        for layer in range(c.num_hidden_layers):
            at = f"model.layers.{layer}."
            seen = dict(acts)

            def project(kind: str, head: int, name: str, seen=seen, at=at) -> Tensor:
                x = self.norm(into(name, seen), at + "input_layernorm.weight")
                rows = slice(head * size, (head + 1) * size)
                full = at + f"self_attn.{kind}_proj."
                return x @ w[full + "weight"][rows].T + w[full + "bias"][rows]

            k = [self.rotate(project("k", j, f"a{layer}.kv{j}<k>")) for j in range(kvs)]
            v = [project("v", j, f"a{layer}.kv{j}<v>") for j in range(kvs)]
            for head in range(heads):
                q = self.rotate(project("q", head, f"a{layer}.h{head}<q>"))
                j = head // (heads // kvs)
                scores = (q @ k[j].T / size**0.5).masked_fill(~causal, -torch.inf)
                columns = slice(head * size, (head + 1) * size)
                out = w[at + "self_attn.o_proj.weight"][:, columns]
                acts[f"a{layer}.h{head}"] = self.mixed(self.softmax(scores), v[j]) @ out.T
            bias = bias + w[at + "self_attn.o_proj.bias"]
            x = self.norm(into(f"m{layer}", dict(acts)), at + "post_attention_layernorm.weight")
            gate, up = x @ w[at + "mlp.gate_proj.weight"].T, x @ w[at + "mlp.up_proj.weight"].T
            acts[f"m{layer}"] = self.gated(gate, up) @ w[at + "mlp.down_proj.weight"].T
        final = self.norm(into("logits", dict(acts)), "model.norm.weight")
        return acts, final[self.last] @ w["lm_head.weight"].T

    def circuit(self, start: Tensor, corrupted: dict[str, Tensor], inside: set[str]) -> Tensor:
        """Logits when every edge outside the set carries the corrupted activation."""

        def carry(source: str, destination: str, value: Tensor) -> Tensor:
            return value if f"{source}->{destination}" in inside else corrupted[source]

        return self.run(start, carry)[1]


class SlowRelP(Slow):
    """The same numbers; gradients by RelP's rules, each by what is held constant."""

    def norm(self, x: Tensor, name: str) -> Tensor:
        size = (x.square().mean(-1, keepdim=True) + self.config.rms_norm_eps).sqrt()
        return x / size.detach() * self.w[name]

    def softmax(self, scores: Tensor) -> Tensor:
        return scores.softmax(-1).detach() + 0 * scores.masked_fill(scores.isinf(), 0)

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        open_ = gate * torch.sigmoid(gate).detach()  # silu(g) / g
        return (open_ * up + (open_ * up).detach()) / 2


class SlowGIM(SlowRelP):
    """The same numbers; gradients by GIM's, with the Jacobian of the softmax written out."""

    def softmax(self, scores: Tensor) -> Tensor:
        soft = (scores / 2).softmax(-1).detach()
        jacobian = torch.diag_embed(soft) - soft[..., :, None] * soft[..., None, :]
        half = scores.masked_fill(scores.isinf(), 0) / 2
        moved = (jacobian @ (half - half.detach())[..., None])[..., 0]  # nothing, but for its slope
        return scores.softmax(-1).detach() + moved

    def mixed(self, pattern: Tensor, values: Tensor) -> Tensor:
        made = pattern @ values
        return (made + made.detach()) / 2

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        made = torch.nn.functional.silu(gate) * up
        return (made + made.detach()) / 2
