"""Gated deltas against the same subset merged by hand, for every kind of adapter."""

import pytest
import torch
from adapters_made import KINDS, logits_of, make_pair, merged, pick, prompts
from patching_models import model as made
from thinned import thinned
from tiny import tokenizer
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, Phi3Config

from interp.adapters import AdapterSpace, generate_with
from interp.behaviour import Sampling, generate
from interp.errors import AdapterError, InputError, ModelError
from interp.models import ModelPair, pad
from interp.readout import Outcome, Question
from interp.traces.adapters.gated_runs import GatedRuns

# PEFT advises on tied weights when the tests *make* such adapters; switching them is our subject.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*save_embedding_layers.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
]
SWITCHED = [kind for kind in KINDS if kind != "norm"]
FUSED = ("c_attn", "fused", "phi3")


def fused_base(folder, family):
    """A random GPT-2, GPT-NeoX or Phi-3: query, key and value are one matrix, gate and up, too."""
    size = len(tokenizer())
    configs = {
        "c_attn": GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=64),
        "fused": GPTNeoXConfig(
            vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=48, max_position_embeddings=64,
        ),
        "phi3": Phi3Config(
            vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, intermediate_size=48, max_position_embeddings=64,
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
        ),
    }  # fmt: skip
    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(configs[family])
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data = 0.2 * torch.randn_like(parameter)
    torch.set_rng_state(state)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", thinned(list(SWITCHED)))
def test_every_row_is_its_own_subset_merged_by_hand(adapter_base, tmp_path, kind):
    base = fused_base(tmp_path / "base", kind) if kind in FUSED else adapter_base
    pair = make_pair(base, tmp_path / kind, kind)
    space = AdapterSpace.of(pair)
    names = space.modules
    random = torch.Generator().manual_seed(3)
    gates = torch.randint(0, 2, (4, len(names)), generator=random).float()
    gates[0], gates[3] = 1.0, torch.linspace(-0.5, 1.5, len(names))
    batch = prompts()
    with space.switched(gates), torch.no_grad():
        ours = pair.base(batch.tokens, attention_mask=batch.attention_mask)[:, -1]
    for row in range(4):
        twin = merged(pair, dict(zip(names, gates[row].tolist(), strict=True)))
        expected = logits_of(twin, batch[row : row + 1])[0]
        torch.testing.assert_close(ours[row], expected, atol=2e-4, rtol=1e-4)
    plain = logits_of(merged(pair, {}), batch)
    assert (ours - plain).abs().max() > 0.01, "the adapter must change something"


def test_deltas_are_named_ordered_and_low_rank(lora):
    assert lora.modules[:2] == ("layers.0.self_attn.q_proj", "layers.0.self_attn.k_proj")
    assert lora.modules[-1] == "layers.1.mlp.down_proj"
    assert {delta.layer for delta in lora.deltas} == {0, 1}
    assert all(delta.rank == 3 and delta.weight is None for delta in lora.deltas)
    assert lora.error < 1e-4 < lora.effect


def test_model_is_bit_for_bit_what_it_was(lora):
    network, batch = lora.pair.base.original_model, prompts()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    first = lora.pair.base(batch.tokens, attention_mask=batch.attention_mask)
    with lora.switched(torch.ones(1, 14)):
        changed = lora.pair.base(batch.tokens, attention_mask=batch.attention_mask)
    with pytest.raises(IndexError), lora.switched(torch.ones(1, 14)):
        lora.pair.base(batch.tokens + 10_000, attention_mask=batch.attention_mask)
    assert not torch.equal(changed, first)
    assert torch.equal(lora.pair.base(batch.tokens, attention_mask=batch.attention_mask), first)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_nested_contexts_add_up(lora):
    batch, one = prompts(), torch.zeros(1, 14)
    other = one.clone()
    one[0, [1, 6]], other[0, [3, 6]] = 1.0, 0.5
    with lora.switched(one), lora.switched(other):
        nested = lora.pair.base(batch.tokens, attention_mask=batch.attention_mask)
    with lora.switched(one + other):
        joint = lora.pair.base(batch.tokens, attention_mask=batch.attention_mask)
    torch.testing.assert_close(nested, joint, atol=1e-4, rtol=1e-4)


def test_gradient_by_gates_is_that_of_finite_differences(small):
    batch = prompts((7, 5))
    gates = torch.full((2, 4), 0.4, requires_grad=True)

    def value(gates):
        with small.switched(gates):
            logits = small.pair.base(batch.tokens, attention_mask=batch.attention_mask)
        return pick(logits[:, -1])

    (grad,) = torch.autograd.grad(value(gates).sum(), gates)
    for module in range(4):
        step = torch.zeros(2, 4)
        step[:, module] = 0.02
        with torch.no_grad():
            slope = (value(gates + step) - value(gates - step)) / 0.04
        torch.testing.assert_close(grad[:, module], slope, atol=2e-3, rtol=2e-2)


class TestGeneration:
    """Answers under gates are the answers of the model merged by hand."""

    questions = (("Hi?", "a"), ("What do you think about long walks?", "b"), ("Why?", "c"))
    how = Sampling(max_new_tokens=12, temperature=0.8, seed=5)

    @pytest.mark.parametrize("chosen", [[], [1, 6, 13], list(range(14))])
    def test_answers(self, lora, chosen):
        names = [lora.modules[i] for i in chosen]
        ours = generate_with(lora, names, self.questions, self.how)
        twin = merged(lora.pair, dict.fromkeys(names, 1.0))
        theirs = generate(twin, lora.pair.format, self.questions, self.how)
        assert [one.ids for one in ours] == [other.ids for other in theirs]

    def test_alpha(self, lora):
        gates = {lora.modules[0]: 0.5, lora.modules[9]: -1.0}
        ours = generate_with(lora.pair, gates, self.questions, self.how)
        theirs = generate(merged(lora.pair, gates), lora.pair.format, self.questions, self.how)
        assert [one.ids for one in ours] == [other.ids for other in theirs]


class TestRefused:
    def test_gates_that_do_not_fit(self, lora):
        with (
            pytest.raises(InputError, match=r"gates must be \[rows, 14\]"),
            lora.switched(torch.ones(2, 3)),
        ):
            pass
        with (
            pytest.raises(InputError, match="not finite"),
            lora.switched(torch.full((1, 14), torch.nan)),
        ):
            pass

    def test_another_number_of_rows(self, lora):
        batch = prompts()
        with (
            pytest.raises(ModelError, match="4 rows where 3 rows of gates"),
            lora.switched(torch.rand(3, 14)),
        ):
            lora.pair.base(batch.tokens, attention_mask=batch.attention_mask)

    def test_unknown_module_names_those_there_are(self, small):
        with pytest.raises(InputError, match=r"does not change 'layers\.9\.q'; it changes layers"):
            generate_with(small, ["layers.9.q"], [("Hi?", "a")])
        with pytest.raises(InputError, match="give a list of modules"):
            small.gates_of("layers.0.mlp.down_proj")

    def test_a_tuned_norm(self, adapter_base, tmp_path):
        pair = make_pair(adapter_base, tmp_path / "norm", "norm")
        with pytest.raises(AdapterError, match=r"layernorm, a LlamaRMSNorm; only linear maps"):
            AdapterSpace.of(pair)

    def test_another_tuned_model(self, lora, adapter_base, tmp_path):
        from dataclasses import replace

        other = make_pair(adapter_base, tmp_path / "other", "lora", seed=9)
        with pytest.raises(AdapterError, match="all modules on are not the tuned model"):
            AdapterSpace.of(replace(lora.pair, tuned=other.tuned))


def test_an_outcome_behind_a_space_is_read_at_both_columns(lora):
    two = Outcome("smile", (300, 301), (1,), len(tokenizer()), space=9, after_ids=(301, 302))
    bare = prompts((7, 5))
    spaced = [[*bare.tokens[i][bare.attention_mask[i]].tolist(), 9] for i in range(2)]
    batch = pad(spaced, tokenizer().pad_token_id)
    runs = GatedRuns(lora, batch, Question(metric=two.metric()))
    model = merged(lora.pair, dict.fromkeys(lora.modules, 1.0))
    with torch.no_grad():
        rows = [model(torch.tensor([ids])).logits[0, -2:] for ids in spaced]
    whole = torch.ones(1, lora.n_components)
    wanted = two.log_odds(torch.stack(rows)).double()
    torch.testing.assert_close(runs.values(whole)[0], wanted, atol=1e-3, rtol=1e-3)
    units = lora.units("module")[:2]
    grad = runs.gradient(units, whole[0])
    step = 0.02 * lora.membership(units)
    slope = (runs.values(whole + step) - runs.values(whole - step)) / 0.04
    torch.testing.assert_close(grad, slope, atol=2e-3, rtol=5e-2)
    with pytest.raises(InputError, match="has no ▁"):
        GatedRuns(lora, bare, Question(metric=two.metric()))


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "phi3", "gemma2"])
def test_of_a_whole_fine_tune_each_matrix_is_switched_once(family):
    """The bridge holds the parts of a fused map beside it: they are no matrices of their own."""
    base, tuned = made(family), made(family)
    generator, changed = torch.Generator().manual_seed(3), []
    for name, module in tuned.named_modules():
        weight = getattr(module, "weight", None)
        if ".1." in name and weight is not None and weight.ndim == 2:
            weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
            changed.append(name.removeprefix(f"{tuned.base_model_prefix}."))
    pair = ModelPair.of(base, tuned, tokenizer(), prompt_format="plain")
    space = AdapterSpace.of(pair)
    assert sorted(space.modules) == sorted(changed)
    assert space.error < 1e-3 * space.effect
