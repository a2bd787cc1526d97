"""Bases whose files say odd things: read where they are clear, refused by file and field else."""

import json
import shutil

import pytest
import torch
from tiny import save_base
from transformers import AutoModelForCausalLM

from interp.errors import InputError, ModelError, TokenizerError
from interp.models import load_hooked, load_tokenizer


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def copied(base, tmp_path):
    return shutil.copytree(base, tmp_path / "base")


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
REFUSED = [
    ("generation_config.json", "eos_token_id", "2", "eos_token_id: '2' is no token's id"),
    ("generation_config.json", "eos_token_id", [[1]], "is no token's id, nor a list"),
    ("generation_config.json", "eos_token_id", 1.5, "is no token's id, nor a list"),
    ("config.json", "dtype", "magic", "dtype: 'magic' is no type of torch's numbers"),
    ("config.json", "is_encoder_decoder", True, "only decoder-only models"),
    ("config.json", "quantization_config", NF4, "the weights are not stored quantised"),
]


@pytest.mark.parametrize(("file", "field", "value", "said"), REFUSED)
def test_a_field_is_refused_by_its_file(copied, file, field, value, said):
    change(copied / file, **{field: value})
    with pytest.raises(ModelError, match=f"{file}: .*{said}"):
        load_hooked(copied, device="cpu")


def test_weights_of_another_shape_are_named(copied):
    change(copied / "config.json", num_key_value_heads=1)
    with pytest.raises(ModelError, match=r"lack or misshape 6 tensors \(.*[kv]_proj.weight"):
        load_hooked(copied, device="cpu")


@torch.no_grad()
def test_what_a_base_likes_to_return_changes_nothing(base, copied):
    wishes = {"output_attentions": True, "output_hidden_states": True, "return_dict": False}
    change(copied / "config.json", **wishes, num_hidden_layers=3)
    ids = torch.tensor([[5, 9, 30]])
    wanted = AutoModelForCausalLM.from_pretrained(base)(ids).logits
    torch.testing.assert_close(load_hooked(copied, device="cpu")(ids), wanted, atol=1e-4, rtol=1e-4)


def test_a_template_in_another_encoding_is_named(copied):
    (copied / "chat_template.jinja").write_bytes("{{ messages }}".encode("utf-16"))
    with pytest.raises(TokenizerError, match=r"chat_template.jinja: no UTF-8 .*; save it so"):
        load_tokenizer(copied)


def test_a_pointer_in_place_of_a_file_is_named(copied):
    for name in ("model.safetensors", "config.json"):
        (copied / name).write_text("version https://git-lfs.github.com/spec/v1\noid x\nsize 9\n")
        with pytest.raises(InputError, match=rf"{name}: is a pointer of Git LFS.*git lfs pull"):
            load_hooked(copied, device="cpu")
