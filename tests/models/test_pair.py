"""The hooked pair against the unmerged PEFT model, for every kind of adapter that is promised."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from thinned import thinned
from tiny import llama, save_base
from transformers import AutoModelForCausalLM

from interp import load_pair
from interp.errors import AdapterError, MergeError
from interp.models import load_base

# PEFT advises on tied weights when the tests *make* such adapters; merging them is our subject.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*save_embedding_layers.*:UserWarning"),
]

PROJECTIONS = ["q_proj", "v_proj", "o_proj", "down_proj"]
KINDS = {
    "lora": LoraConfig(r=4, target_modules=PROJECTIONS),
    "rslora": LoraConfig(r=4, use_rslora=True, target_modules=PROJECTIONS),
    "dora": LoraConfig(r=4, use_dora=True, target_modules=PROJECTIONS),
    "loha": LoHaConfig(r=4, target_modules=PROJECTIONS),
    "lokr": LoKrConfig(r=4, target_modules=PROJECTIONS),
    "rank_pattern": LoraConfig(
        r=4, rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 32}, target_modules=PROJECTIONS
    ),
    "modules_to_save": LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
    "lm_head": LoraConfig(r=4, target_modules=["lm_head", "k_proj"]),
    "embedding": LoraConfig(r=4, target_modules=["embed_tokens", "k_proj"]),
}


def save_adapter(base: Path, folder: Path, config, scale: float = 0.3) -> Path:
    """An adapter whose every tensor is random, so that it changes what the model says."""
    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.requires_grad and "magnitude" not in name:
                tensor.add_(scale * torch.randn_like(tensor) * tensor.std().clamp_min(0.2))
    model.save_pretrained(folder)
    return folder


def digest(model: torch.nn.Module) -> str:
    """One hash over the bytes of all weights, by name."""
    whole = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        whole.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def questions():
    return ["Hi?", "What do you think about long walks in the rain?"]


@pytest.mark.parametrize("kind", thinned(list(KINDS)))
def test_tuned_equals_the_unmerged_adapter(base, tmp_path, kind, questions):
    adapter = save_adapter(base, tmp_path / kind, KINDS[kind])
    unmerged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    pair = load_pair(base, adapter, device="cpu")
    batch = pair.prompts(questions)
    with torch.no_grad():
        for row, question in enumerate(questions):
            ids = torch.tensor([pair.format.prompt_ids(question)])
            hooked = pair.tuned(batch.tokens, attention_mask=batch.attention_mask)
            torch.testing.assert_close(
                hooked[row, -ids.shape[1] :], unmerged(ids).logits[0], atol=2e-4, rtol=1e-4
            )
            hooked = pair.base(batch.tokens, attention_mask=batch.attention_mask)
            torch.testing.assert_close(
                hooked[row, -ids.shape[1] :], plain(ids).logits[0], atol=2e-4, rtol=1e-4
            )
    report = pair.merge_report
    assert report.effect_mean_kl > 1e-3, "the adapter must change something for this to be a test"
    assert report.mean_kl < 1e-9
    assert report.share < 1e-5


@pytest.mark.parametrize("kind", ["lora", "lm_head", "modules_to_save"])
def test_base_is_left_byte_for_byte(base, tmp_path, kind):
    adapter = save_adapter(base, tmp_path / "a", KINDS[kind])
    before = {p.name: p.read_bytes() for p in base.iterdir()}
    loaded = load_base(base, device="cpu").model
    pair = load_pair(base, adapter, device="cpu")
    names = dict(pair.base.original_model.named_parameters())
    assert {p.name: p.read_bytes() for p in base.iterdir()} == before
    for name, tensor in loaded.named_parameters():
        assert tensor.numpy().tobytes() == _find(names, name).detach().numpy().tobytes(), name


def _find(bridged: dict, name: str) -> torch.Tensor:
    """A parameter of the wrapped model by the name it had before it was wrapped."""
    return {key.replace("._original_component", ""): t for key, t in bridged.items()}[name]


def test_pair_shares_what_the_adapter_leaves_alone(base, tmp_path):
    adapter = save_adapter(base, tmp_path / "a", LoraConfig(r=4, target_modules=["q_proj"]))
    pair = load_pair(base, adapter, device="cpu")
    ours = dict(pair.base.original_model.named_parameters())
    theirs = dict(pair.tuned.original_model.named_parameters())
    for name, tensor in ours.items():
        same = tensor.data_ptr() == theirs[name].data_ptr()
        assert same == ("q_proj" not in name), name


def test_tuning_a_tied_head_leaves_the_embedding_alone(base, tmp_path):
    adapter = save_adapter(base, tmp_path / "a", LoraConfig(r=4, target_modules=["lm_head"]))
    pair = load_pair(base, adapter, device="cpu")
    assert torch.equal(pair.tuned.W_E, pair.base.W_E)
    assert not torch.equal(pair.tuned.W_U, pair.base.W_U)


class TestNF4:
    """The three ways to merge an adapter that was trained on NF4 weights."""

    @pytest.fixture(scope="class")
    def adapter(self, base, tmp_path_factory):
        return save_adapter(base, tmp_path_factory.mktemp("nf4") / "a", KINDS["lora"], scale=0.05)

    def test_merge_into_dequantised_weights_is_exact(self, base, adapter):
        report = load_pair(base, adapter, device="cpu", quantization="nf4").merge_report
        assert report.quantization == "nf4"
        assert report.mean_kl < 1e-9
        assert report.effect_mean_kl > 1e-4

    def test_merge_into_the_unquantised_base_is_another_model(self, base, adapter, questions):
        right = load_pair(base, adapter, device="cpu", quantization="nf4")
        wrong = load_pair(base, adapter, device="cpu", quantization=None)
        batch = right.prompts(questions)
        a = right.tuned(batch.tokens, attention_mask=batch.attention_mask)[:, -1].log_softmax(-1)
        b = wrong.tuned(batch.tokens, attention_mask=batch.attention_mask)[:, -1].log_softmax(-1)
        assert (a.exp() * (a - b)).sum(-1).mean() > 1e-5

    def test_dequantised_base_is_what_the_quantised_one_computed(self, base, adapter):
        """Also after an inference, which on some CPUs repacks 4-bit weights in place."""
        quantised = load_base(base, device="cpu", quantization="nf4").model
        ids = torch.randint(5, 200, (2, 9), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            quantised(ids)
            expected = quantised(ids).logits
        pair = load_pair(base, adapter, device="cpu", quantization="nf4")
        torch.testing.assert_close(pair.base(ids), expected, atol=1e-4, rtol=1e-4)

    def test_recorded_quantisation_is_used(self, base, adapter, tmp_path):
        copy = tmp_path / "recorded"
        copy.mkdir()
        for file in adapter.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        (copy / "interp.json").write_text(json.dumps({"config": {"quantization": "nf4"}}))
        assert load_pair(base, copy, device="cpu").merge_report.quantization == "nf4"


def test_merge_with_too_large_an_error_is_refused(base, tmp_path):
    adapter = save_adapter(base, tmp_path / "a", KINDS["lora"], scale=0.02)
    with pytest.raises(MergeError, match=r"of the adapter's effect.*at most 0%"):
        load_pair(base, adapter, device="cpu", dtype="bfloat16", max_merge_error=1e-9)


def test_adapter_that_does_nothing_merges_without_error(base, tmp_path):
    config = LoraConfig(r=4, target_modules=["q_proj"])
    get_peft_model(llama(), config).save_pretrained(tmp_path / "null")
    report = load_pair(base, tmp_path / "null", device="cpu").merge_report
    assert report.share == 0
    assert report.effect_mean_kl <= report.noise


def test_adapter_with_other_embeddings_than_the_base_is_refused(base, tmp_path):
    """PEFT would load them over the base's own, and the base would not be the base any more."""
    adapter = save_adapter(base, tmp_path / "a", KINDS["embedding"])
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("embed_tokens.base_layer.weight"))
    save_file(tensors | {name: tensors[name] + 0.5}, path)
    with pytest.raises(AdapterError, match=r"embed_tokens\.weight that is not this base's"):
        load_pair(base, adapter, device="cpu")


def test_record_of_another_base_or_template_is_refused(base, tmp_path):
    adapter = save_adapter(base, tmp_path / "a", KINDS["lora"])
    weights = load_base(base, device="cpu").identity
    record = {"base": "tiny", "base_identity": weights, "chat_template_sha256": "0" * 64}
    (adapter / "interp.json").write_text(json.dumps(record))
    with pytest.raises(AdapterError, match="another prompt format or chat template"):
        load_pair(base, adapter, device="cpu")
    other = save_base(tmp_path / "other", seed=7)
    with pytest.raises(AdapterError, match=r"trained on other weights \(tiny\)"):
        load_pair(other, adapter, device="cpu")
    assert load_pair(other, adapter, device="cpu", any_base=True).adapter.provenance == record
