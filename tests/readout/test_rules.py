"""Backward rules: values never change, and gradients are what each paper writes out."""

from dataclasses import replace

import pytest
import torch
from patching_models import FAMILIES, bridge, pick, prompts
from slow_circuits import tiny_llama
from thinned import thinned
from tiny import tokenizer
from torch import nn

from interp.errors import InputError, ModelError
from interp.models.pair import hook
from interp.readout.capture import hook_name
from interp.readout.decoder import Decoder
from interp.readout.rules import RULES, _straight, applied, rule_of, through


def passed(model, tokens, rule, sites, dropped=None, metric=pick):
    """Logits, activations and gradients of all layers at some sites under a rule."""
    taken = {site: [] for site in sites}

    def keep(site):
        return lambda value, **_: taken[site].append(value) or value

    hooks = [(hook_name(model, site, i), keep(site)) for site in sites
             for i in range(model.cfg.n_layers)]  # fmt: skip
    weight = model.embed.original_component.weight.requires_grad_(True)
    with applied(model, RULES[rule], dropped):
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)
    flat = [value for site in sites for value in taken[site]]
    grads = torch.autograd.grad(metric(logits[:, -1]).sum(), flat, allow_unused=True)
    weight.requires_grad_(False)
    grads = iter(grads)
    return logits.detach(), {
        site: [(value.detach(), next(grads)) for value in taken[site]] for site in sites
    }


@pytest.mark.parametrize(("family", "rule"), thinned(list(FAMILIES), list(RULES), keep=4))
def test_no_value_changes_under_any_rule_and_the_model_is_left_as_it_was(family, rule):
    model, tokens = bridge(family, 1), prompts([6, 6])[0]
    plain = model(tokens)
    before = sum(len(part._forward_hooks) for part in model.modules())
    logits, found = passed(model, tokens, rule, ("z", "mlp_post", "mlp_out"))
    assert torch.equal(logits, plain), "not bit for bit"
    wanted = passed(model, tokens, "gradient", ("mlp_out",))[1]["mlp_out"][0][1]
    if rule not in ("gradient", "gradient-drop"):
        assert not torch.allclose(found["mlp_out"][0][1], wanted, rtol=1e-2), "nothing was changed"
    assert sum(len(part._forward_hooks) for part in model.modules()) == before


def lrp(model, ids, target):
    """Relevances of a one-layer Llama without biases, propagated by hand; nothing of autograd.

    Returns the relevance of each embedding entry, `[pos d_model]`, of the logit of `target`, by the
    0-rule (linear), LN-rule, identity rule, half rule and AH-rule.
    """
    w = {name: value.double() for name, value in model.state_dict().items()}
    c = model.config
    size, group = c.hidden_size // c.num_attention_heads, c.num_attention_heads // 2
    at = "model.layers.0."
    x = w["model.embed_tokens.weight"][ids]
    n = len(ids)

    def normed(x, name):
        return x / (x.square().mean(-1, keepdim=True) + c.rms_norm_eps).sqrt() * w[name]

    def turned(x):
        half = size // 2
        angle = torch.arange(n).double()[:, None] * 10000.0 ** (-torch.arange(half).double() / half)
        a, b = x[:, :half], x[:, half:]
        return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1)

    def linear(relevance, inputs, weight):
        """The 0-rule: each input's share of each output, `x_i w_ji / z_j`."""
        parts = inputs[..., None, :] * weight
        return (parts / parts.sum(-1, keepdim=True) * relevance[..., None]).sum(-2)

    h = normed(x, at + "input_layernorm.weight")
    q, k, v = (h @ w[f"{at}self_attn.{kind}_proj.weight"].T for kind in "qkv")
    causal = torch.ones(n, n).tril().bool()
    patterns, z = [], torch.zeros(n, c.hidden_size).double()
    for head in range(c.num_attention_heads):
        mine, kv = (slice(i * size, (i + 1) * size) for i in (head, head // group))
        scores = turned(q[:, mine]) @ turned(k[:, kv]).T / size**0.5
        patterns.append(scores.masked_fill(~causal, -torch.inf).softmax(-1))
        z[:, mine] = patterns[-1] @ v[:, kv]
    attn = z @ w[at + "self_attn.o_proj.weight"].T
    middle = x + attn
    h2 = normed(middle, at + "post_attention_layernorm.weight")
    gate, up = (h2 @ w[f"{at}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
    hidden = nn.functional.silu(gate) * up
    mlp = hidden @ w[at + "mlp.down_proj.weight"].T
    final = middle + mlp

    last = normed(final, "model.norm.weight")[-1]
    relevance = torch.zeros(n, c.hidden_size).double()
    relevance[-1] = last * w["lm_head.weight"][target]  # of the logit, by the 0-rule; the LN-rule
    whole = relevance.sum()  # hands it on entry by entry, as the norm multiplies entry by entry
    to_mlp, to_middle = relevance * mlp / final, relevance * middle / final
    to_hidden = torch.zeros_like(hidden)
    to_hidden[-1] = linear(to_mlp[-1], hidden[-1], w[at + "mlp.down_proj.weight"])
    to_h2 = torch.zeros_like(h2)
    for name in ("gate", "up"):  # half each; through the activation as it is
        to_h2[-1] += linear(to_hidden[-1] / 2, h2[-1], w[f"{at}mlp.{name}_proj.weight"])
    to_middle = to_middle + to_h2
    to_attn, to_x = to_middle * attn / middle, to_middle * x / middle
    to_z = torch.zeros_like(z)
    to_z[-1] = linear(to_attn[-1], z[-1], w[at + "self_attn.o_proj.weight"])
    to_v = torch.zeros_like(v)
    for head in range(c.num_attention_heads):
        mine, kv = (slice(i * size, (i + 1) * size) for i in (head, head // group))
        shares = patterns[head][-1, :, None] * v[:, kv] / z[-1, mine]
        to_v[:, kv] += shares * to_z[-1, mine]
    return to_x + linear(to_v, h, w[at + "self_attn.v_proj.weight"]), whole


def test_relp_is_relevance_propagated_by_hand():
    one = tiny_llama(4, num_hidden_layers=1, attention_bias=False)
    ids, target = prompts([6])[0], 17
    wanted, whole = lrp(one, ids[0], target)
    model = hook(one, tokenizer())
    found = passed(model, ids, "relp", ("resid_pre",), metric=lambda x: x[:, target])
    value, grad = found[1]["resid_pre"][0]
    torch.testing.assert_close((value * grad)[0].double(), wanted, atol=2e-5, rtol=1e-3)
    assert wanted.abs().max() > 0.05
    assert float(whole) == pytest.approx(float(found[0][0, -1, target]), abs=1e-4)


def test_relevance_is_conserved_without_biases():
    """Of a deep model: what enters every layer adds up to the logit; gradients do not."""
    model = hook(tiny_llama(3, num_hidden_layers=3, attention_bias=False), tokenizer())
    tokens = prompts([7])[0]
    sums = {}
    for rule in ("relp", "gradient"):
        logits, found = passed(model, tokens, rule, ("resid_pre",), metric=lambda x: x[:, 9])
        sums[rule] = [float((value * grad).sum()) for value, grad in found["resid_pre"]]
    assert sums["relp"] == pytest.approx([float(logits[0, -1, 9])] * 3, abs=1e-4)
    assert max(abs(one - float(logits[0, -1, 9])) for one in sums["gradient"]) > 0.1


def test_a_rule_says_what_it_is_made_of():
    assert [rule.label for rule in RULES.values()] == list(RULES)
    one = replace(RULES["relp"], attention="plain", gates=False, corrected=False)
    assert one.label == "relp, gates False, attention plain"
    assert rule_of(one, 2) is one


def test_an_activation_is_a_line_through_its_value_also_at_zero():
    x = torch.tensor([-2.0, -1e-30, 0.0, 1e-3, 3.0], requires_grad=True)
    for act in (nn.SiLU(), nn.GELU()):
        y = _straight(act, x, act(x))
        slope = torch.autograd.grad(y.sum(), x)[0]
        wanted = torch.where(x.abs() < 1e-6, 0.5, act(x) / x)
        torch.testing.assert_close(slope, wanted.detach(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("family", thinned(["llama", "gpt2", "gemma2", "qwen3"], keep=2))
def test_gim_is_its_definition_written_out(family):
    """At the last block: gradients by the four modifications, from the block's own activations."""
    model, tokens = bridge(family, 1), prompts([6])[0]
    sites = ("scores", "pattern", "z", "mlp_post", "q")
    found = passed(model, tokens, "gim", sites)[1]
    layer = model.cfg.n_layers - 1
    decoder = Decoder.of(model).layers[layer]
    (scores, to_scores), (_, to_pattern) = found["scores"][layer], found["pattern"][layer]
    _, to_z = found["z"][layer]
    v = passed(model, tokens, "gradient", ("v",))[1]["v"][layer][0]
    values = v.repeat_interleave(decoder.n_heads // decoder.n_kv_heads, 2)
    # z = pattern v: each factor gets half.
    wanted = torch.einsum("bqhd,bkhd->bhqk", to_z / 2, values)
    allowed = scores > torch.finfo(scores.dtype).min / 2
    torch.testing.assert_close(to_pattern[allowed], wanted[allowed], atol=1e-5, rtol=1e-3)
    # The softmax's Jacobian at temperature 2.
    soft = (scores / 2).softmax(-1)
    jacobian = torch.diag_embed(soft) - soft[..., :, None] * soft[..., None, :]
    wanted = torch.einsum("bhqk,bhqkj->bhqj", to_pattern, jacobian)
    # `to_scores` is read behind the product of queries and keys, whose halves come in front.
    torch.testing.assert_close(to_scores[allowed], wanted[allowed], atol=1e-6, rtol=1e-3)
    assert to_scores.abs().max() > 1e-4


def test_a_norm_keeps_its_scale():
    """RMSNorm and LayerNorm against the derivative of x / sigma with sigma a number."""
    for family in ("llama", "gpt2", "gemma"):
        model, tokens = bridge(family, 1), prompts([5])[0]
        found = passed(model, tokens, "gim", ("resid_post",))[1]
        x, grad = found["resid_post"][-1]
        norm = model.ln_final.original_component
        rows = x[:, -1].clone().requires_grad_(True)
        centred = rows - rows.mean(-1, keepdim=True) if family == "gpt2" else rows
        eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
        sigma = (centred.square().mean(-1, keepdim=True) + eps).sqrt().detach()
        weight = 1 + norm.weight if family == "gemma" else norm.weight
        out = centred / sigma * weight + (norm.bias if family == "gpt2" else 0)
        wanted = torch.autograd.grad(pick(model.unembed(out)).sum(), rows)[0]
        torch.testing.assert_close(grad[:, -1], wanted, atol=1e-6, rtol=1e-4)


def test_a_share_is_asked_for_when_the_gradient_passes():
    x, share = torch.ones(3, requires_grad=True), [1.0]
    y = through(x * 2, x * 5, lambda: share[0])
    assert y.tolist() == [2, 2, 2]
    found = []
    for share[0] in (1.0, 0.0, 0.5):
        found.append(torch.autograd.grad(y.sum(), x, retain_graph=True)[0][0].item())
    assert found == [5, 0, 2.5]


def test_what_a_rule_cannot_change_is_named(monkeypatch):
    with pytest.raises(InputError, match=r"unknown rule 'lrp'; use one of gradient, gradient-drop"):
        rule_of("lrp", 4)
    with pytest.raises(InputError, match="one of plain, constant, softened, got 'frozen'"):
        rule_of(replace(RULES["relp"], attention="frozen"), 4)
    with pytest.raises(InputError, match="averages over the other layers, and this model has 1"):
        rule_of("gradient-drop", 1)
    model, tokens = bridge("llama", 1), prompts([4])[0]
    mlp = model.blocks[1].mlp.original_component
    act = mlp.act_fn
    del mlp.act_fn
    object.__setattr__(mlp, "act_fn", nn.functional.silu)
    with pytest.raises(ModelError, match=r"'relp' cannot be applied to LlamaMLP: its activation"):
        passed(model, tokens, "relp", ("z",))
    object.__delattr__(mlp, "act_fn")
    mlp.act_fn = act
    monkeypatch.setattr(model.blocks[1].mlp.original_component, "forward", lambda x: x)
    with pytest.raises(ModelError, match="'relp' cannot be applied to llama: its forward pass goes "
                                         "around block 1's activation"):  # fmt: skip
        passed(model, tokens, "relp", ("z",))
    assert not any(part._forward_hooks for part in model.modules())


def test_an_unknown_norm_is_named():
    model, tokens = bridge("llama", 1), prompts([4])[0]
    type(model.ln_final.original_component)
    model.ln_final.original_component.__class__ = type("Odd", (nn.Identity,), {})
    with pytest.raises(ModelError, match="derivative of the norm Odd is not known"):
        passed(model, tokens, "gim", ("z",))
