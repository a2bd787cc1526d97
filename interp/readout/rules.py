"""Backward rules: what a gradient becomes where a first-order guess is known to fail.

Under a rule every value stays bit for bit what it is; only what flows back through it changes. A
gradient so made is no derivative of the model. Times a difference of activations it is a guess at
the effect of exchanging them, as the plain gradient is (attribution patching), with other faults.

- `gradient`: the derivative itself.
- `gradient-drop`: the derivative, once for every layer with that layer's own contribution to the
  residual stream held fixed; the sizes of the guesses are averaged (GradDrop of AtP*; Kramár et al.
  2024, arXiv 2403.00745, eq. 11). Against effects that cancel: what a later layer takes back is
  missing from one of the guesses. Sizes have no sign.
- `relp`: layer-wise relevance propagation as coefficients (RelP; Rezaei Jafari et al. 2025, arXiv
  2508.21258). A norm's scale is a constant (LN-rule), an activation is the line through the origin
  that holds its value (identity rule), of a product each factor gets half (half rule), attention
  patterns are constants (AH-rule), linear maps pass on what they do (0-rule). So without biases
  relevances, activations times coefficients, add up to what they began from. Nothing flows into
  queries and keys. (The authors' table has the AH-rule, their demonstrations leave it out; without
  it: `replace(RULES["relp"], attention="plain")`.)
- `gim`: gradient interaction modifications (Edin et al. 2025, arXiv 2505.17630, and its code). A
  norm's scale is a constant; of every product of two activations, scores and heads' outputs among
  them, each factor gets half; the softmax passes on what it would at twice the temperature, the
  Jacobian at `scores / 2`. Against self-repair by softmax: where one key takes nearly all, or
  several share it, the plain Jacobian is nearly nothing.

Soft-caps (Gemma 2) and the metric keep their derivatives under every rule.

`applied` changes a bridge's backward pass, `ruled` is the same for the arithmetic of a `Decoder`.
Cost: some elementwise operations; for `gradient-drop` one backward pass for each layer.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.base.errors import InputError, ModelError
from interp.readout.capture import hook_name
from interp.readout.decoder import Decoder, Layer, Map
from interp.readout.norms import Norm

TEMPERATURE = 2.0
"""Of the softmax in GIM's backward pass, where the forward pass has 1."""
_ATTENTION = ("plain", "constant", "softened")
_NEAR = 1e-4  # where an activation's slope at zero is read
Change = Callable[[Tensor, Tensor], Tensor]  # of a module's input and output
_NORMS = ("ln1", "ln2", "ln1_post", "ln2_post", "attn.q_norm", "attn.k_norm")


@dataclass(frozen=True)
class Rule:
    """How a gradient passes.

    Attributes:
        norms: whether their scale is a constant.
        activations: whether they are the line through the origin that holds their value.
        gates: whether of gate times up each gets half.
        attention: `plain`, `constant` patterns, or `softened`.
        drops: whether layers are held fixed in turn.
        corrected: whether a screen recomputes attention patterns for queries and keys, and takes
            what the rule has for patterns there (AtP*'s correction).
    """

    name: str
    norms: bool = False
    activations: bool = False
    gates: bool = False
    attention: str = "plain"
    drops: bool = False
    corrected: bool = True

    @property
    def label(self) -> str:
        """Its name, and what differs from the rule of that name."""
        known = RULES.get(self.name, GRADIENT)
        other = [
            f"{each.name} {getattr(self, each.name)}"
            for each in fields(self)
            if each.name not in ("name", "corrected")
            and getattr(self, each.name) != getattr(known, each.name)
        ]
        return ", ".join((self.name, *other))

    @property
    def signed(self) -> bool:
        """Whether guesses are effects, not sizes of them."""
        return not self.drops


GRADIENT = Rule("gradient")
RULES = {
    rule.name: rule
    for rule in (
        GRADIENT,
        Rule("gradient-drop", drops=True),
        Rule("relp", norms=True, activations=True, gates=True, attention="constant"),
        Rule("gim", norms=True, gates=True, attention="softened"),
    )
}


def rule_of(rule: str | Rule, n_layers: int) -> Rule:
    """A rule by its name, or as it is given.

    Raises:
        InputError: for an unknown name or kind of attention, or a model in which no layer can be
            dropped.
    """
    if isinstance(rule, str):
        if rule not in RULES:
            raise InputError(f"unknown rule {rule!r}; use one of {', '.join(RULES)}")
        rule = RULES[rule]
    if rule.attention not in _ATTENTION:
        raise InputError(
            f"attention of a rule is one of {', '.join(_ATTENTION)}, got {rule.attention!r}"
        )
    if rule.drops and n_layers < 2:
        raise InputError(
            f"rule {rule.name!r} averages over the other layers, and this model has {n_layers} in "
            "all; use another rule"
        )
    return rule


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        like: Tensor,  # noqa: ARG004 (takes the gradient)
        share: Callable[[], float],
    ) -> Tensor:
        ctx.share = share
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        return None, grads[0] * ctx.share(), None


def through(
    value: Float[Tensor, "*shape"],
    like: Float[Tensor, "*shape"],
    share: float | Callable[[], float] = 1.0,
) -> Float[Tensor, "*shape"]:
    """The numbers of `value`, with a share of the gradient of `like`.

    Args:
        share: a number, or what gives one when the gradient passes.
    """
    ask: Callable[[], float] = share if callable(share) else lambda: share
    made: Tensor = _Through.apply(value.detach(), like, ask)
    return made


def _half(product: Tensor) -> Tensor:
    return through(product, product, 0.5)


def _frozen(norm: Norm, x: Tensor, y: Tensor) -> Tensor:
    return through(y, norm.frozen(x).to(y.dtype))


def _straight(act: Map, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        at_zero = act(x.new_full((1,), _NEAR)) / _NEAR
        slope = torch.where(x == 0, at_zero, y / x)
    return through(y, x * slope)


def _attended(rule: Rule, pattern: Tensor, scores: Tensor) -> Tensor:
    if rule.attention == "constant":
        return through(pattern, pattern, 0.0)
    soft = torch.softmax(scores / TEMPERATURE, -1, dtype=torch.float32) * TEMPERATURE
    return through(pattern, soft.to(pattern.dtype))


@dataclass
class _Placed:
    """Hooks on a bridge's modules, counted as they fire."""

    handles: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    fired: Counter[str] = field(default_factory=Counter)

    def put(self, module: Any, name: str, change: Change) -> None:
        """Let `change(input, output)` be a module's output."""

        def hook(_: Any, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            self.fired[name] += 1
            return change(inputs[0], output)

        self.handles.append(module.register_forward_hook(hook))
        self.names.append(name)


@contextmanager
def applied(bridge: Any, rule: Rule, dropped: set[int] | None = None) -> Iterator[None]:
    """Let gradients pass a bridge by a rule, for the forward passes that are made meanwhile.

    Args:
        bridge: one that `Decoder` covers.
        dropped: the layers that hold still, read whenever a gradient passes; for `gradient-drop`.

    Raises:
        ModelError: for a norm or an activation that the rule cannot change, or one that the
            forward pass went around.
    """
    placed = _Placed()
    try:
        for i, block in enumerate(bridge.blocks):
            if rule.norms:
                _put_norms(placed, block, f"block {i}'s ")
            if rule.activations:
                act = _activation(block.mlp.original_component, rule)
                placed.put(act, f"block {i}'s activation", _line(act))
            if rule.gates and getattr(block.mlp, "gate", None) is not None:
                point = bridge.get_hook_point(hook_name(bridge, "mlp_post", i))
                placed.put(point, f"block {i}'s gate", lambda _, y: _half(y))
            if rule.attention != "plain":
                _put_attention(placed, bridge, rule, i)
            if rule.drops:
                for site in ("attn_out", "mlp_out"):
                    point = bridge.get_hook_point(hook_name(bridge, site, i))
                    change = _standing(i, set() if dropped is None else dropped)
                    placed.put(point, f"block {i}'s {site}", change)
        if rule.norms:
            _put_norm(placed, bridge.ln_final, "the final norm")
        yield
    finally:
        for handle in placed.handles:
            handle.remove()
    around = [name for name in placed.names if not placed.fired[name]]
    if around:
        kind = getattr(bridge.original_model.config, "model_type", "this model")
        raise ModelError(
            f"rule {rule.name!r} cannot be applied to {kind}: its forward pass goes around "
            f"{around[0]}; use rule 'gradient'"
        )


def _line(act: nn.Module) -> Change:
    return lambda x, y: _straight(act.forward, x, y)  # its hooks stay out


def _standing(layer: int, dropped: set[int]) -> Change:
    return lambda _, y: through(y, y, lambda: 0.0 if layer in dropped else 1.0)


def _activation(mlp: Any, rule: Rule) -> nn.Module:
    found = (getattr(mlp, name, None) for name in ("act_fn", "activation_fn", "act"))
    act = next((one for one in found if one is not None), None)
    if not isinstance(act, nn.Module):
        raise ModelError(
            f"rule {rule.name!r} cannot be applied to {type(mlp).__name__}: its activation is no "
            "module of its own; use rule 'gradient'"
        )
    return act


def _put_norms(placed: _Placed, block: Any, whose: str) -> None:
    for name in _NORMS:
        part = block
        for step in name.split("."):
            part = getattr(part, step, None)
        if part is not None:
            _put_norm(placed, part, whose + name)


def _put_norm(placed: _Placed, part: Any, name: str) -> None:
    """Between a norm's own hooks: what stands behind it (`mlp_out` of Gemma 2) reads its output."""
    norm, kept = Norm.of(part.original_component), list[Tensor]()

    def enter(_: Tensor, x: Tensor) -> Tensor:
        kept[:] = [x]
        return x

    placed.put(part.hook_in, name, enter)
    placed.put(part.hook_out, name, lambda _, y: _frozen(norm, kept.pop(), y))


def _put_attention(placed: _Placed, bridge: Any, rule: Rule, i: int) -> None:
    """Scores, patterns and heads' outputs of one block."""
    points = {
        site: bridge.get_hook_point(hook_name(bridge, site, i))
        for site in ("scores", "pattern", "z")
    }
    kept: list[Tensor] = []
    softened = rule.attention == "softened"

    def scores(_: Tensor, y: Tensor) -> Tensor:
        kept[:] = [_half(y)] if softened else [y]
        return kept[0]

    def pattern(_: Tensor, y: Tensor) -> Tensor:
        return _attended(rule, y, kept.pop())

    placed.put(points["scores"], f"block {i}'s scores", scores)
    placed.put(points["pattern"], f"block {i}'s pattern", pattern)
    if softened:
        placed.put(points["z"], f"block {i}'s heads", lambda _, y: _half(y))


@dataclass(frozen=True, kw_only=True)
class _Ruled(Layer):
    """A layer whose arithmetic is a rule's on the way back."""

    rule: Rule
    dropped: bool

    def hidden(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_mlp"]:
        h = self.norm2(x)
        if self.gate is None:
            return self.act(self.up(h))
        product = self.act(self.gate(h)) * self.up(h)
        return _half(product) if self.rule.gates else product

    def softmax(self, scores: Float[Tensor, "*rows keys"]) -> Float[Tensor, "*rows keys"]:
        if self.rule.attention == "softened":
            scores = _half(scores)
        pattern = super().softmax(scores)
        return pattern if self.rule.attention == "plain" else _attended(self.rule, pattern, scores)

    def attn_out(self, z: Float[Tensor, "*rows z"]) -> Float[Tensor, "*rows d_model"]:
        z = _half(z) if self.rule.attention == "softened" else z
        return self._added(super().attn_out(z))

    def mlp_out(self, hidden: Float[Tensor, "*rows d_mlp"]) -> Float[Tensor, "*rows d_model"]:
        return self._added(super().mlp_out(hidden))

    def _added(self, out: Tensor) -> Tensor:
        return through(out, out, 0.0) if self.dropped else out


def ruled(bridge: Any, rule: Rule, dropped: int | None = None) -> Decoder:
    """A bridge's decoder, of the same values, whose gradients pass by a rule.

    Args:
        dropped: the layer that holds still, if any.

    Raises:
        ModelError: as `Decoder.of`, or for a norm whose derivative is not known.
    """
    decoder = Decoder.of(bridge)
    if rule.label == GRADIENT.label:
        return decoder

    def norm(part: Any, plain: Any) -> Any:
        if part is None or plain is None or not rule.norms:
            return plain
        one = Norm.of(part.original_component)
        return lambda x: _frozen(one, x, plain(x))

    layers = []
    for i, (block, layer) in enumerate(zip(bridge.blocks, decoder.layers, strict=True)):
        own = {each.name: getattr(layer, each.name) for each in fields(Layer)}
        own |= {
            "norm1": norm(getattr(block, "ln1", None), layer.norm1),
            "norm2": norm(getattr(block, "ln2", None), layer.norm2),
            "q_norm": norm(getattr(block.attn, "q_norm", None), layer.q_norm),
            "k_norm": norm(getattr(block.attn, "k_norm", None), layer.k_norm),
        }
        if rule.activations:
            own["act"] = lambda x, act=layer.act: _straight(act, x, act(x))
        layers.append(_Ruled(**own, rule=rule, dropped=i == dropped))
    return replace(
        decoder, layers=tuple(layers), final_norm=norm(bridge.ln_final, decoder.final_norm)
    )
