"""What PEFT merges is merged, and equals the live adapter; what it cannot is refused by name."""

import json
import sys
from itertools import product
from pathlib import Path

import peft
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from thinned import thinned
from tiny import llama, save_base
from trained import off, save_family, save_trained

from interp import load_pair
from interp.base.tensor_files import check_safetensors
from interp.errors import AdapterError, MergeError
from interp.models import read_adapter

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's advice, while adapters are made and read

MAPS = ["q_proj", "v_proj", "o_proj", "down_proj"]
FUSED = {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}
EXPERTS = ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]


def lora(**changes):
    return LoraConfig(**({"r": 4, "target_modules": MAPS, "task_type": "CAUSAL_LM"} | changes))


KINDS = {
    "lora-bias": ("llama", lora(lora_bias=True)),
    "biases-all": ("gpt2", lora(**FUSED, bias="all")),
    "biases-lora-only": ("gpt2", lora(**FUSED, bias="lora_only")),
    "conv1d-dora": ("gpt2", lora(**FUSED, use_dora=True)),
    "pissa": ("llama", lora(init_lora_weights="pissa")),
    "olora": ("llama", lora(init_lora_weights="olora")),
    "embedding-and-head": ("llama", lora(target_modules=["embed_tokens", "lm_head"])),
    "tied-adapters": ("llama", lora(target_modules=["embed_tokens"], ensure_weight_tying=True)),
    "tied-copies": ("llama", lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True)),
    "saved-head": ("llama", lora(modules_to_save=["lm_head"])),
    "saved-norms": ("llama", lora(modules_to_save=["input_layernorm", "norm"])),
    "token-rows": ("llama", lora(trainable_token_indices=[5, 7])),
    "experts": ("mixtral", lora(target_modules=["q_proj"], target_parameters=EXPERTS)),
    "attention-of-experts": ("mixtral", lora(target_modules=["q_proj", "v_proj"])),
    "layers": ("llama", lora(layers_to_transform=[1], layers_pattern="layers")),
    "excluded": ("llama", lora(exclude_modules=["o_proj"])),
    "patterns": (
        "llama",
        lora(rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 32}, use_rslora=True),
    ),
    "ia3": ("llama", peft.IA3Config(target_modules=MAPS, feedforward_modules=["down_proj"])),
    "vera": ("llama", peft.VeraConfig(r=8, target_modules=["q_proj", "o_proj"])),
    "vera-unsaved": (
        "llama",
        lambda: peft.VeraConfig(target_modules=["q_proj"], save_projection=False),
    ),
    "oft": ("llama", peft.OFTConfig(oft_block_size=4, r=0, target_modules=MAPS)),
    "boft": ("llama", peft.BOFTConfig(boft_block_size=4, target_modules=["q_proj"])),
    "adalora": (
        "llama",
        peft.AdaLoraConfig(target_modules=MAPS, total_step=10, tinit=1, tfinal=2, init_r=4),
    ),
    "hra": ("llama", peft.HRAConfig(r=4, target_modules=["q_proj"])),
    "parameters-alone": (
        "llama",
        lora(target_modules=[], target_parameters=["mlp.down_proj.weight"]),
    ),
    "ia3-no-feedforward": ("llama", peft.IA3Config(target_modules=MAPS, feedforward_modules=[])),
    "frod": ("llama", peft.FrodConfig(target_modules=["q_proj"])),
    "norms": ("llama", peft.LNTuningConfig(target_modules=["input_layernorm"])),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    made = {family: save_family(root / family, family) for family in ("gpt2", "mixtral")}
    return made | {"llama": save_base(root / "llama")}


@pytest.mark.parametrize("name", thinned(list(KINDS)))
def test_merged_equals_live(bases, tmp_path, name):
    family, config = KINDS[name]
    folder = save_trained(bases[family], tmp_path / "a", config() if callable(config) else config)
    pair = load_pair(bases[family], folder, device="cpu")
    error, effect = off(pair, bases[family], folder)
    assert error < 1e-3 < 1e-2 < effect
    assert pair.merge_report.share < 1e-4
    assert pair.merge_report.effect_mean_kl > 1e-6


def test_experts_one_by_one_as_older_versions_saved_them(bases, tmp_path):
    """PEFT converts such keys to the stacked experts of today."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer, expert, (name, d_out, d_in) in product(
        range(2), range(4), (("w1", 64, 64), ("w2", 64, 64), ("w3", 64, 64))
    ):
        key = f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{expert}.{name}"
        for part, shape in (("lora_A", (4, d_in)), ("lora_B", (d_out, 4))):
            tensors[f"{key}.{part}.weight"] = 0.2 * torch.randn(shape, generator=generator)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8}
    config |= {"target_modules": ["w1", "w2", "w3"], "peft_version": "0.15.0"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    pair = load_pair(bases["mixtral"], tmp_path, device="cpu")
    error, effect = off(pair, bases["mixtral"], tmp_path)
    assert error < 1e-3 < 1e-2 < effect


# Fields -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(bases, tmp_path_factory):
    folder = save_trained(bases["llama"], tmp_path_factory.mktemp("plain") / "a", lora())
    weights = (folder / "adapter_model.safetensors").read_bytes()
    return json.loads((folder / "adapter_config.json").read_text()), weights


def changed(plain, folder, **fields):
    config, weights = plain
    (folder / "adapter_config.json").write_text(json.dumps(config | fields))
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


OFF = (None, False, [], {}, "", "none", "None", "null")
FIELDS = (
    "use_dora", "use_rslora", "lora_bias", "fan_in_fan_out", "bias", "modules_to_save",
    "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "exclude_modules",
    "trainable_token_indices", "layer_replication", "megatron_config", "runtime_config",
    "alora_invocation_tokens", "target_parameters", "use_qalora", "loftq_config", "eva_config",
    "corda_config", "auto_mapping", "auto_map", "task_type", "arrow_config", "peft_version",
)  # fmt: skip


def test_fields_that_are_off_in_any_spelling_change_nothing(plain, tmp_path):
    wanted = read_adapter(changed(plain, tmp_path)).peft.to_dict()
    for field in FIELDS:
        for value in OFF:
            found = read_adapter(changed(plain, tmp_path, **{field: value})).peft.to_dict()
            ours = {name: one for name, one in found.items() if name != "task_type"}
            assert ours == {n: one for n, one in wanted.items() if n != "task_type"}, (field, value)


LABELS = {
    "auto_mapping": {"base_model_class": "X", "parent_library": "y", "unsloth_fixed": True},
    "base_model_name_or_path": "/nowhere",
    "revision": "main",
    "peft_version": "0.99",
    "eva_config": {"rho": 2.0},
    "runtime_config": {"ephemeral_gpu_offload": True},
}


def test_labels_and_fields_that_peft_does_not_know_are_left_out_and_said(
    bases, plain, tmp_path, caplog
):
    assert not read_adapter(changed(plain, tmp_path, **LABELS)).ignored
    unknown = {"of_tomorrow": True, "also": {"a": 1}, "off": None}
    folder = changed(plain, tmp_path, **LABELS, **unknown)
    pair = load_pair(bases["llama"], folder, device="cpu")
    assert pair.adapter.ignored == ("of_tomorrow", "also")
    assert "does not know of_tomorrow, also" in caplog.text
    assert pair.merge_report.share < 1e-4


REFUSED = {
    "peft_type": ("PREFIX_TUNING", "peft_type: 'PREFIX_TUNING' cannot be merged"),
    "task_type": ("SEQ_CLS", "no causal model's"),
    "auto_map": ({"AutoModel": "code.Model"}, "asks to run the adapter's own code"),
    "layer_replication": ([[0, 2], [1, 3]], "builds a model with more layers"),
    "megatron_config": ({"a": 1}, "Megatron"),
    "r": (2**31, "at most 4096"),
    "lora_alpha": ("16", "lora_alpha: '16' is no finite number"),
    "use_rslora": ("yes", "neither true nor false"),
    "target_modules": ("(q_proj", "is no pattern"),
    "rank_pattern": ({"q_proj": 10**9}, "rank_pattern: q_proj: r: 1000000000 is no rank"),
    "alpha_pattern": ({"v_proj": None}, "alpha_pattern: v_proj: lora_alpha: None is no finite"),
    "alora_invocation_tokens": ([5, 6], r"alora_invocation_tokens: \[5, 6\] switch the adapter on"),
    "init_lora_weights": ("loftq", "init_lora_weights: 'loftq' has PEFT quantise the base anew"),
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_cannot_be_merged_is_refused_by_its_field(plain, tmp_path, field):
    value, said = REFUSED[field]
    with pytest.raises(AdapterError, match=said):
        read_adapter(changed(plain, tmp_path, **{field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target_modules", [1, 2]), ("modules_to_save", "lm_head"), ("target_parameters", 5),
        ("rank_pattern", ["q_proj"]), ("layers_to_transform", "1"), ("bias", "both"),
        ("trainable_token_indices", {"embed_tokens": "1"}),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_named_by_its_field(bases, plain, tmp_path, field, value):
    with pytest.raises(AdapterError) as refused:
        load_pair(bases["llama"], changed(plain, tmp_path, **{field: value}), device="cpu")
    assert f"adapter_config.json: {field}: {value!r} is not of the type" in str(refused.value)


def test_a_random_part_of_the_base_is_drawn_twice_and_the_difference_said(bases, tmp_path):
    """PEFT draws it anew at each loading: what it merges is another model than what it ran."""
    folder = save_trained(bases["llama"], tmp_path, lora(init_lora_weights="pissa_niter_1"))
    with pytest.raises(MergeError, match=r"'pissa_niter_1' takes another random part.*plain LoRA"):
        load_pair(bases["llama"], folder, device="cpu")
    one, other = (
        load_pair(bases["llama"], folder, device="cpu", max_merge_error=1e9) for _ in range(2)
    )
    assert one.merge_report == other.merge_report, "the same at each loading"


def test_a_token_that_is_counted_from_the_end_is_refused_in_torchs_words(bases, tmp_path):
    folder = save_trained(bases["llama"], tmp_path, lora(trainable_token_indices=[3, -1]))
    with pytest.raises(AdapterError, match=r"cannot run it on plain text .IndexError"):
        load_pair(bases["llama"], folder, device="cpu")


def test_the_folder_inside_is_named(plain, tmp_path):
    (tmp_path / "checkpoint-5").mkdir()
    changed(plain, tmp_path / "checkpoint-5")
    with pytest.raises(AdapterError, match="checkpoint-5 in it has one: name that folder"):
        read_adapter(tmp_path)
    held = (tmp_path / "checkpoint-5" / "adapter_model.safetensors").rename
    held(tmp_path / "checkpoint-5" / "model.safetensors")
    with pytest.raises(AdapterError, match=r"no adapter_model.safetensors; rename model"):
        read_adapter(tmp_path / "checkpoint-5")


def test_a_pointer_in_place_of_the_weights_is_named(plain, tmp_path):
    folder = changed(plain, tmp_path)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (folder / "adapter_model.safetensors").write_bytes(pointer)
    with pytest.raises(AdapterError, match="git lfs pull"):
        read_adapter(folder)
    with pytest.raises(AdapterError, match="git lfs pull"):
        check_safetensors(folder / "adapter_model.safetensors", AdapterError)


def test_what_peft_cannot_merge_is_refused_in_its_words(bases, tmp_path):
    folder = save_trained(bases["llama"], tmp_path, peft.PolyConfig(r=4, target_modules=["q_proj"]))
    with pytest.raises((MergeError, AdapterError), match=str(tmp_path)):
        load_pair(bases["llama"], folder, device="cpu")


def test_weights_that_are_not_those_of_the_config_are_refused(bases, plain, tmp_path):
    with pytest.raises(AdapterError, match=r"does not fit this base \(size mismatch.*together"):
        load_pair(bases["llama"], changed(plain, tmp_path, r=8), device="cpu")
    with pytest.raises(AdapterError, match="tensors have no place in this base"):
        load_pair(bases["llama"], changed(plain, tmp_path, target_modules=["q_proj"]), device="cpu")
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    named = {f"module.{name}": tensor for name, tensor in tensors.items()}
    folder = changed(plain, tmp_path)
    save_file(named, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"24 of .* not there by that name .*\(module\.base"):
        load_pair(bases["llama"], folder, device="cpu")
    with pytest.raises(AdapterError, match="lacks 6 of the tensors"):
        load_pair(
            bases["llama"], changed(plain, tmp_path, target_modules=[*MAPS, "k_proj"]), device="cpu"
        )


OPENED: list[str] | None = None


def note(event, arguments):
    if OPENED is not None and event == "open":
        OPENED.append(str(arguments[0]))


sys.addaudithook(note)


def test_each_file_is_opened_once(bases, plain, tmp_path, monkeypatch):
    folder = changed(plain, tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "OPENED", [])
    load_pair(bases["llama"], folder, device="cpu")
    names = [Path(one).name for one in OPENED if Path(one).parent == folder]
    assert sorted(names) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_packages_own_adapters_are_plain_lora(tmp_path):
    get_peft_model(llama(), lora()).save_pretrained(tmp_path)
    adapter = read_adapter(tmp_path)
    assert (adapter.kind, adapter.rank, adapter.title) == ("LORA", 4, "LORA of rank 4")
