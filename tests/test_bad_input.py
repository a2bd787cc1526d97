"""Bad input: a typed error in the library, one line and exit code 2 on the command line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from thinned import thinned
from tiny import llama, save_base, tokenizer

from interp import cli, errors
from interp.study import parse_config, run


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A base, an adapter and data that work together."""
    folder = tmp_path_factory.mktemp("good")
    save_base(folder / "base")
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(llama(), config).save_pretrained(folder / "adapter")
    rows = [
        f"extraversion,topic {i},What of thing {i}?,Well it is thing {i} and I like it."
        for i in range(8)
    ]
    header = "Target Personality,Edit Topic,Question,Answer"
    (folder / "data.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_config(work: Path) -> None:
    (work / "base/config.json").unlink()


def no_weights(work: Path) -> None:
    (work / "base/model.safetensors").unlink()


def pickled_base(work: Path) -> None:
    no_weights(work)
    torch.save({}, work / "base/pytorch_model.bin")


def weights_missing_tensors(work: Path) -> None:
    state = {k: v.clone() for k, v in llama().state_dict().items() if "layers.1" not in k}
    save_file(state, work / "base/model.safetensors", {"format": "pt"})


def remote_code(work: Path) -> None:
    path = work / "base/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "x.Y"}}))


def no_tokenizer(work: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (work / "base" / name).unlink()


def broken_tokenizer(work: Path) -> None:
    (work / "base/tokenizer.json").write_text('{"version": "1.0", "model": 3}')


def larger_tokenizer(work: Path) -> None:
    small = llama(vocab_size=len(tokenizer()) - 64)
    small.save_pretrained(work / "base")


def other_base(work: Path) -> None:
    save_base(work / "base", hidden_size=128)


def no_adapter(work: Path) -> None:
    shutil.rmtree(work / "adapter")


def no_adapter_config(work: Path) -> None:
    (work / "adapter/adapter_config.json").unlink()


def unknown_adapter(work: Path) -> None:
    path = work / "adapter/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"peft_type": "PREFIX_TUNING"}))


def pickled_adapter(work: Path) -> None:
    (work / "adapter/adapter_model.safetensors").unlink()
    torch.save({}, work / "adapter/adapter_model.bin")


def half_an_adapter(work: Path) -> None:
    from safetensors.torch import load_file

    path = work / "adapter/adapter_model.safetensors"
    state = load_file(path)
    save_file({k: v for k, v in state.items() if "layers.2" not in k}, path)


def diverged_adapter(work: Path) -> None:
    from safetensors.torch import load_file

    path = work / "adapter/adapter_model.safetensors"
    state = load_file(path)
    save_file({k: torch.full_like(v, torch.nan) for k, v in state.items()}, path)


def empty_data(work: Path) -> None:
    (work / "data.csv").write_text("")


def no_data(work: Path) -> None:
    (work / "data.csv").unlink()


def other_run(work: Path) -> None:
    (work / "out").mkdir()
    manifest = {"config": {"seed": 5}, "job": "experiment", "status": "complete"}
    (work / "out/manifest.json").write_text(json.dumps(manifest))


def other_files(work: Path) -> None:
    (work / "out").mkdir()
    (work / "out/thesis.tex").write_text("x")


CASES = {
    no_config: (errors.ModelError, r"config\.json: no such file"),
    no_weights: (errors.ModelError, r"no weights \(model\.safetensors\)"),
    pickled_base: (errors.ModelError, r"pytorch_model\.bin: pickled weights.*refused.*convert"),
    weights_missing_tensors: (errors.ModelError, r"lack or misshape 9 tensors"),
    remote_code: (errors.ModelError, r"auto_map asks to run.*refused"),
    no_tokenizer: (errors.TokenizerError, r"no usable tokenizer.*put tokenizer\.json"),
    broken_tokenizer: (errors.TokenizerError, r"no usable tokenizer"),
    larger_tokenizer: (errors.TokenizerError, r"largest id is \d+, the model has \d+ embeddings"),
    other_base: (errors.AdapterError, r"does not fit this base.*size mismatch.*use the base"),
    no_adapter: (errors.AdapterError, r"no such adapter folder"),
    no_adapter_config: (errors.AdapterError, r"no adapter_config\.json"),
    unknown_adapter: (
        errors.AdapterError,
        r"adapter_config\.json: peft_type:.*cannot be merged; PEFT merges",
    ),
    pickled_adapter: (errors.AdapterError, r"adapter_model\.bin: pickled.*safetensors"),
    half_an_adapter: (errors.AdapterError, r"lacks \d+ of the tensors.*layers\.2"),
    diverged_adapter: (errors.AdapterError, r"holds NaN or infinity"),
    empty_data: (errors.DataError, r"data\.csv.*empty"),
    no_data: (errors.DataError, r"data\.csv: no such file"),
    other_run: (
        errors.RunError,
        r"holds another run \(experiment, not study\).*choose another --out",
    ),
    other_files: (errors.RunError, r"is no run folder; choose another --out"),
}


def truncated_base(work: Path) -> None:
    truncate(work / "base/model.safetensors")


def truncated_adapter(work: Path) -> None:
    truncate(work / "adapter/adapter_model.safetensors")


CASES[truncated_base] = (errors.ModelError, r"model\.safetensors: damaged or truncated")
CASES[truncated_adapter] = (errors.AdapterError, r"adapter_model\.safetensors: damaged or trunc")


@pytest.mark.parametrize("spoil", thinned(list(CASES)))
def test_bad_input_is_named(good, tmp_path, capsys, monkeypatch, spoil):
    work = tmp_path / "work"
    shutil.copytree(good, work)
    spoil(work)
    kind, message = CASES[spoil]
    values = {
        "base": str(work / "base"),
        "adapters": {"extraversion": str(work / "adapter")},
        "data": str(work / "data.csv"),
        "device": "cpu",
    }
    with pytest.raises(kind, match=message):
        run(parse_config(values), work / "out")
    if spoil not in (other_run, other_files):
        shutil.rmtree(work / "out", ignore_errors=True)
    capsys.readouterr()  # what saving a model drew
    argv = [
        "trace", "--base", values["base"], "--adapter", str(work / "adapter"), "--trait", "E",
        "--data", values["data"], "--out", str(work / "out"), "--device", "cpu", "--json",
    ]  # fmt: skip
    assert command(argv, monkeypatch) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err


def command(argv: list[str], monkeypatch) -> int:
    """Run the command line in this process; its exit code."""
    monkeypatch.setattr("sys.argv", ["interp", *argv])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trace", "--trait", "grit"], "Missing option '--base'"),
        (["demo", "--traits", "grit"], "unknown trait 'grit'; use one of openness"),
        (["demo", "--n-responses", "1"], "Invalid value for '--n-responses'"),
        (["demo", "--max-memory", "9potato"], "memory size '9potato' cannot be read"),
        (["report", "nowhere"], "nowhere: no manifest.json; name a folder"),
        (["nonsense"], "No such command 'nonsense'"),
        (["run", "status", "nowhere"], "no manifest.json"),
        (["data", "check", "nowhere.csv"], "nowhere.csv: no such file"),
        (["finetune", "--base", "b", "--data", "d", "--trait", "E", "--out", "o"],
         "Missing option '--supervise-eos'"),
        (["finetune", "--base", "b", "--data", "d", "--trait", "E", "--out", "o",
          "--supervise-eos", "--set", "rank=3"], "fine-tuning config: rank"),
    ],
)  # fmt: skip
def test_wrong_commands_say_so_in_one_line(argv, message, capsys, monkeypatch):
    assert command(argv, monkeypatch) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("field", "value"), [("dtype", "float8"), ("temperature", -1), ("quantization", "int3")]
)
def test_wrong_settings_name_the_field(field, value):
    values = {"base": "b", "adapters": {"openness": "a"}, "data": "d", field: value}
    with pytest.raises(errors.InputError, match=field):
        parse_config(values)


def test_device_that_is_not_there_is_named(good, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    values = {
        "base": str(good / "base"), "adapters": {"E": str(good / "adapter")},
        "data": str(good / "data.csv"), "device": "cuda",
    }  # fmt: skip
    with pytest.raises(errors.InputError, match=r"extraversion|cuda"):
        run(parse_config(values), tmp_path / "out")
