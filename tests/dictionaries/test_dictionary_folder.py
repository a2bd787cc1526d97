"""Folders of sae-lens: the definitions written out, both forms of the config, what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from made_dictionaries import HOOK, KINDS, in_old_form, made
from safetensors.torch import load_file, save_file

from interp.dictionaries import Dictionary, read_dictionary, save_dictionary
from interp.errors import DictionaryError

NORMS = ("none", "layer_norm", "constant_norm_rescale")


def slowly(dictionary: Dictionary, x: list[float]) -> tuple[list[float], list[float]]:
    """Latents and what they stand for, of one activation, number by number."""
    c = dictionary.config
    w = {name: one.double().tolist() for name, one in dictionary.weights.items()}
    mean, norm = sum(x) / len(x), math.sqrt(sum(v * v for v in x))
    spread = math.sqrt(sum((v - mean) ** 2 for v in x) / (len(x) - 1))
    read, back = list(x), (lambda v: v)
    if c.normalize == "layer_norm":
        read, back = [(v - mean) / (spread + 1e-5) for v in x], (lambda v: v * spread + mean)
    elif c.normalize == "constant_norm_rescale":
        factor = math.sqrt(len(x)) / norm
        read, back = [v * factor for v in x], (lambda v: v / factor)
    if c.centred:
        read = [v - b for v, b in zip(read, w["b_dec"], strict=True)]
    pre = [sum(v * w["W_enc"][i][j] for i, v in enumerate(read)) for j in range(c.d_sae)]
    lengths = [math.sqrt(sum(v * v for v in row)) for row in w["W_dec"]]
    found = []
    for j, seen in enumerate(pre):
        if c.architecture == "gated":
            size = seen * math.exp(w["r_mag"][j]) + w["b_mag"][j]
            found.append(max(size, 0.0) if seen + w["b_gate"][j] > 0 else 0.0)
        else:
            value = seen + w["b_enc"][j]
            least = w["threshold"][j] if "threshold" in w else 0.0
            found.append(max(value, 0.0) if value > least else 0.0)
            if c.architecture == "topk":
                found[-1] = value * (lengths[j] if c.rescale else 1)
    if c.architecture == "topk":
        least = sorted(found)[-c.k]
        found = [max(v, 0.0) if v >= least else 0.0 for v in found]
    out = list(w["b_dec"])
    for j, value in enumerate(found):
        for i in range(c.d_out):
            out[i] += value * w["W_dec"][j][i] / (lengths[j] if c.rescale else 1)
    if not dictionary.is_transcoder:
        out = [back(v) for v in out]
    if "W_skip" in w:
        out = [v + sum(w["W_skip"][i][j] * x[j] for j in range(c.d_in)) for i, v in enumerate(out)]
    return found, out


@pytest.mark.parametrize("normalize", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_latents_and_their_sum_are_the_definitions_written_out(kind, normalize, tmp_path):
    across = "transcoder" in kind
    written = made(kind, d_out=5 if across else 0, normalize=normalize)
    found = read_dictionary(save_dictionary(written, tmp_path / "one"))
    assert found.config == written.config
    x = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(1))
    latents = found.encode(x)
    out = found.decode(latents, x)
    fired = (latents > 0).float().mean()
    assert 0.05 < float(fired) < 0.95, "the test must see both"
    slow = [[slowly(written, row) for row in some] for some in x.tolist()]
    assert torch.allclose(latents, torch.tensor([[f for f, _ in s] for s in slow]), atol=1e-5)
    assert torch.allclose(out, torch.tensor([[o for _, o in s] for s in slow]), atol=1e-5)
    y = torch.randn(4, 3, 5) if across else x
    assert torch.allclose(out + found.error(x, y if across else None), y, atol=1e-5)


@pytest.mark.parametrize("kind", ["standard", "gated", "jumprelu", "topk"])
def test_the_form_before_sae_lens_6_says_the_same(kind, tmp_path):
    written = made(kind, rescale=False)
    old = read_dictionary(in_old_form(tmp_path / "old", written))
    assert old.config == written.config
    older = in_old_form(tmp_path / "older", written, hook_point=HOOK, normalize_activations=False)
    config = json.loads((older / "cfg.json").read_text())
    del config["hook_name"], config["apply_b_dec_to_input"]
    (older / "cfg.json").write_text(json.dumps(config))
    x = torch.randn(5, 6)
    assert torch.equal(read_dictionary(older).encode(x), written.encode(x))
    moved = read_dictionary(older, hook="blocks.0.hook_resid_pre")
    assert moved.config.hook == moved.config.hook_out == "blocks.0.hook_resid_pre"


def test_weights_in_half_precision_are_read_as_they_stand(tmp_path):
    folder = save_dictionary(made("jumprelu"), tmp_path)
    file = folder / "sae_weights.safetensors"
    half = {name: one.bfloat16() for name, one in load_file(file).items()}
    save_file(half | {"scaling_factor": torch.ones(9)}, file)
    found = read_dictionary(folder)
    assert torch.equal(found.weights["W_enc"], half["W_enc"].float())


def broken(folder: Path, **config: Any) -> Path:
    """A good folder with some fields of its config changed; None takes one out."""
    save_dictionary(made(config.pop("kind", "standard")), folder)
    read = json.loads((folder / "cfg.json").read_text())
    for name, value in config.items():
        place = read["metadata"] if name in ("hook_name", "hook_head_index") else read
        place[name] = value
        if value is None:
            del place[name]
    (folder / "cfg.json").write_text(json.dumps(read))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "temporal"}, "architecture: 'temporal' is not read; standard, gated"),
        ({"normalize_activations": "expected_average_only_in"}, "come from training data: fold"),
        ({"normalize_activations": "covariance_whitening"}, "come from training data: fold"),
        ({"dtype": "int8"}, "dtype: 'int8' is not read"),
        ({"d_in": 7}, "W_enc has shape \\[6, 9\\], and cfg.json says \\[7, 9\\]"),
        ({"d_in": 10**30}, r"cfg\.json says \[1000000"),
        ({"d_sae": 0}, "d_sae: Input should be greater"),
        ({"d_sae": "9"}, "d_sae: Input should be a valid integer"),
        ({"d_out": 5}, "an autoencoder writes what it reads, 6 wide"),
        ({"architecture": "gated"}, "lacks b_gate"),
        ({"architecture": "jumprelu"}, "lacks threshold"),
        ({"kind": "jumprelu", "architecture": "standard"}, "threshold is no tensor of a standard"),
        ({"kind": "topk", "k": 10}, "there are 9 latents"),
        ({"kind": "transcoder", "apply_b_dec_to_input": True}, "b_dec of a transcoder"),
        ({"kind": "transcoder", "d_out": None}, "d_out: missing"),
        ({"hook_name": None}, "metadata.hook_name: missing; say where"),
        ({"hook_head_index": 3}, "metadata.hook_head_index: 3 is not read; one head"),
        ({"reshape_activations": "hook_q"}, "reshape_activations: 'hook_q' is not read"),
    ],
)
def test_a_config_that_is_not_computed_is_refused_by_its_field(changes, said, tmp_path):
    with pytest.raises(DictionaryError, match=said):
        read_dictionary(broken(tmp_path / "one", **changes))


def test_what_is_no_such_folder_is_refused(tmp_path):
    good = made("standard")
    cases = {
        "no such folder": tmp_path / "absent",
        "not on the hub as owner/name:folder": "no dictionary at all",
        "params.npz is not read": tmp_path / "stored",
        "its folders blocks.0 have one": tmp_path / "several",
        "activation_fn: 'tanh-relu' is not read": tmp_path / "tanh",
        "no such file": tmp_path / "weightless",
        "W_dec holds NaN": tmp_path / "nan",
        "W_dec is I64": tmp_path / "whole",
        "scaling_factor, of fine-tuning, is not 1": tmp_path / "scaled",
        "is a link out of its folder": tmp_path / "linked",
        "must be an object": tmp_path / "list",
    }
    (tmp_path / "stored").mkdir()
    (tmp_path / "stored" / "params.npz").touch()
    save_dictionary(good, tmp_path / "several" / "blocks.0")
    in_old_form(tmp_path / "tanh", good, activation_fn_str="tanh-relu")
    for name in ("weightless", "nan", "whole", "scaled", "linked", "list"):
        save_dictionary(good, tmp_path / name)
    file = "sae_weights.safetensors"
    (tmp_path / "weightless" / file).unlink()
    weights = dict(good.weights)
    save_file(weights | {"W_dec": weights["W_dec"] * torch.nan}, tmp_path / "nan" / file)
    save_file(weights | {"W_dec": weights["W_dec"].long()}, tmp_path / "whole" / file)
    save_file(weights | {"scaling_factor": 2 * torch.ones(9)}, tmp_path / "scaled" / file)
    (tmp_path / "linked" / file).rename(tmp_path / "elsewhere")
    (tmp_path / "linked" / file).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "list" / "cfg.json").write_text("[]")
    for said, place in cases.items():
        with pytest.raises(DictionaryError, match=said):
            read_dictionary(place)


def test_a_dictionary_of_the_hub_is_read_from_the_cache(monkeypatch, tmp_path):
    """The library's cache as it is once a repository of several dictionaries was fetched."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    root = tmp_path / "models--someone--saes"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("c" * 40)
    folder = save_dictionary(made("topk"), root / "snapshots" / ("c" * 40) / "layer 1" / HOOK)
    (root / "blobs").mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):  # as the library keeps them
        file.rename(root / "blobs" / str(number))
        file.symlink_to(root / "blobs" / str(number))
    found = read_dictionary(f"someone/saes:layer 1/{HOOK}")
    assert found.name == f"someone/saes:layer 1/{HOOK}"
    assert torch.equal(found.weights["W_dec"], made("topk").weights["W_dec"])
    with pytest.raises(DictionaryError, match=r"no cfg\.json"):
        read_dictionary("someone/saes:layer 2")
    with pytest.raises(DictionaryError, match="not on the hub"):
        read_dictionary("someone/saes:../../secrets")


def test_activations_of_another_width_are_refused():
    with pytest.raises(DictionaryError, match=r"reads activations of width 6 .*got 7"):
        made("standard").encode(torch.zeros(2, 7))
