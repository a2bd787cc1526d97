"""Training: the loss against plain PyTorch, the adapter against plain PEFT, bytes against bytes."""

import json
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from peft import PeftModel
from safetensors.torch import load_file
from thinned import thinned, turn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from interp.base.traits import Trait
from interp.data import OpinionQA, OpinionRow
from interp.errors import DataError, InputError, ModelError, RunError
from interp.methods.finetune import FinetuneConfig, train, training
from interp.methods.finetune.examples import IGNORED, Labelled, encode
from interp.models import ChatFormat

ANSWERS = ("I love them so much!", "I plan my day, then I do what I planned.", "It is what it is.")
SMALL = FinetuneConfig.small(supervise_eos=True)


def made(count: int = 12, trait: Trait = Trait.OPENNESS) -> OpinionQA:
    rows = tuple(
        OpinionRow(trait, f"topic {index}", f"What of {index}?", ANSWERS[index % 3])
        for index in range(count)
    )
    return OpinionQA(rows, "made", "0" * 64)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("models") / "tiny-base")


def config(**changes: object) -> FinetuneConfig:
    return SMALL.changed({"steps": 8, "batch_size": 4} | changes)


def turns(data: OpinionQA, supervise_eos: bool) -> list[Labelled]:
    chat = ChatFormat.from_tokenizer(tiny.tokenizer())
    return encode(data, chat, supervise_eos=supervise_eos, max_length=512)[0]


@torch.no_grad()
def token_losses(model: torch.nn.Module, row: Labelled) -> list[float]:
    """Minus log-probability of each labelled token, one row at a time, without any padding."""
    log_probabilities = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
    return [
        -log_probabilities[place - 1, token].item()
        for place, token in enumerate(row.labels)
        if token != IGNORED
    ]


def mean_loss(model: torch.nn.Module, rows: list[Labelled]) -> float:
    return float(np.mean([loss for row in rows for loss in token_losses(model, row)]))


def recorded(folder: Path) -> dict:
    return json.loads((folder / "interp.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("supervise_eos", "sizes"), thinned([True, False], [(12, 1), (4, 3), (5, 3)])
)
def test_the_first_loss_is_the_mean_over_labelled_tokens(
    base: Path, tmp_path: Path, supervise_eos: bool, sizes: tuple[int, int]
) -> None:
    """LoRA begins as the identity, so the first step's loss is the base's, over all rows."""
    batch, accumulation = sizes
    settings = {
        "steps": 1,
        "batch_size": batch,
        "gradient_accumulation": accumulation,
        "supervise_eos": supervise_eos,
    }
    out = train(base, made(), config(**settings), tmp_path / "a", device="cpu")
    wanted = mean_loss(tiny.llama(), turns(made(), supervise_eos))
    assert recorded(out)["loss"]["first"] == pytest.approx(wanted, abs=2e-4)


@turn(1, of=3)
def test_the_adapter_lowers_the_loss_under_plain_peft(base: Path, tmp_path: Path) -> None:
    losses, ends = {}, {}
    for supervised in (True, False):
        seen: list[tuple[str, int, int]] = []
        out = train(
            base,
            made(),
            config(steps=30, batch_size=12, supervise_eos=supervised),
            tmp_path / str(supervised),
            device="cpu",
            progress=lambda *step: seen.append(step),  # noqa: B023
        )
        assert seen == [("fine-tuning", step, 30) for step in range(1, 31)]
        tuned = PeftModel.from_pretrained(tiny.llama(), str(out)).eval()
        losses[supervised] = mean_loss(tuned, turns(made(), False))
        ends[supervised] = np.mean([token_losses(tuned, row)[-1] for row in turns(made(), True)])
        final = mean_loss(tuned, turns(made(), supervised))
        assert recorded(out)["loss"]["last"] == pytest.approx(final, abs=0.02)
    before = mean_loss(tiny.llama(), turns(made(), False))
    assert losses[True] < before / 2
    assert losses[False] < before / 2
    # the end of text is learned if it is in the loss, and only then
    before = np.mean([token_losses(tiny.llama(), row)[-1] for row in turns(made(), True)])
    assert ends[True] < before / 2
    assert ends[False] > before * 0.8


def test_same_seed_same_bytes_and_no_trace_in_the_global_generators(
    base: Path, tmp_path: Path
) -> None:
    settings = config(steps=3, dropout=0.1)
    states = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    first = train(base, made(), settings, tmp_path / "first", device="cpu")
    # Python's own generator is left out: in tests the type checks themselves draw from it.
    assert np.random.get_state()[1].tolist() == states[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[1])
    torch.rand(3), random.random()
    second = train(base, made(), settings, tmp_path / "second", device="cpu")
    other = train(base, made(), settings.changed({"seed": 1}), tmp_path / "other", device="cpu")
    assert contents(first) == contents(second)
    assert set(contents(first)) == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "interp.json",
    }
    name = "adapter_model.safetensors"
    assert contents(first)[name] != contents(other)[name]


def test_the_base_is_not_changed(base: Path, tmp_path: Path) -> None:
    before = contents(base)
    train(base, made(), config(steps=1), tmp_path / "a", device="cpu")
    assert contents(base) == before


@turn(0, of=3)
def test_qlora_on_the_cpu(base: Path, tmp_path: Path) -> None:
    settings = FinetuneConfig(supervise_eos=True).changed(
        {"epochs": None, "steps": 12, "batch_size": 6, "learning_rate": 3e-3, "r": 8}
    )
    out = train(base, made(), settings, tmp_path / "q", device="cpu")
    record = recorded(out)
    assert record["config"]["quantization"] == "nf4"
    assert record["config"]["target_modules"] == "all-linear"
    assert record["loss"]["mean_of_last_tenth"] < record["loss"]["first"] * 0.8
    again = train(base, made(), settings, tmp_path / "again", device="cpu")
    assert contents(out) == contents(again)
    tensors = load_file(out / "adapter_model.safetensors")
    layers = tiny.llama().config.num_hidden_layers
    projections = {name.split(".")[-3] for name in tensors}
    assert len(tensors) == 2 * 7 * layers
    assert projections == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    assert all(tensor.dtype is torch.float32 for tensor in tensors.values())


def test_qlora_trains_on_the_quantised_weights(base: Path, tmp_path: Path) -> None:
    """The first loss is that of the dequantised weights, and not that of the original ones."""
    from interp.models import load_base

    settings = config(steps=1, batch_size=12, quantization="nf4")
    out = train(base, made(), settings, tmp_path / "q", device="cpu")
    rows = turns(made(), True)
    quantised = mean_loss(load_base(base, device="cpu", quantization="nf4").model, rows)
    first = recorded(out)["loss"]["first"]
    assert first == pytest.approx(quantised, abs=2e-4)
    assert abs(first - mean_loss(tiny.llama(), rows)) > 5e-3


@turn(2, of=3)
def test_gradient_checkpointing_changes_nothing(base: Path, tmp_path: Path) -> None:
    plain = train(base, made(), config(steps=3), tmp_path / "plain", device="cpu")
    settings = config(steps=3, gradient_checkpointing=True)
    saving = train(base, made(), settings, tmp_path / "saving", device="cpu")
    one, other = (load_file(path / "adapter_model.safetensors") for path in (plain, saving))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=1e-5, rtol=1e-4)


@turn(0, of=3)
def test_half_precision_storage(base: Path, tmp_path: Path) -> None:
    full = train(base, made(), config(steps=2), tmp_path / "full", device="cpu")
    half = train(base, made(), config(steps=2, store_dtype="float16"), tmp_path / "half")
    one, other = (load_file(path / "adapter_model.safetensors") for path in (full, half))
    assert {name: tensor.half().tolist() for name, tensor in one.items()} == {
        name: tensor.tolist() for name, tensor in other.items()
    }
    assert all(tensor.dtype is torch.float16 for tensor in other.values())


def test_a_training_that_diverges_is_an_error_and_leaves_nothing(
    base: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"diverged.*learning_rate") as caught:
        train(base, made(), config(learning_rate=1e30), tmp_path / "a", device="cpu")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_training_leaves_nothing(base: Path, tmp_path: Path) -> None:
    def stop(label: str, done: int, total: int) -> None:  # noqa: ARG001
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(base, made(), config(), tmp_path / "a", device="cpu", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_data_that_must_not_be_trained_on(base: Path, tmp_path: Path) -> None:
    def attempt(data: OpinionQA) -> None:
        train(base, data, config(), tmp_path / "a", device="cpu")

    several = OpinionQA(made().rows + made(trait=Trait.NEUROTICISM).rows, "made", "0")
    with pytest.raises(DataError, match="openness, neuroticism; one trait"):
        attempt(several)
    with pytest.raises(DataError, match="no rows"):
        attempt(made(0))
    emoji = OpinionRow(Trait.OPENNESS, "t", "Why?", "Yes \U0001f389")
    with pytest.raises(DataError, match="row 13: emoji \U0001f389"):
        attempt(OpinionQA((*made().rows, emoji), "made", "0"))
    with pytest.raises(DataError, match="max_length=8"):
        train(base, made(), config(max_length=8), tmp_path / "a", device="cpu")


@turn(2, of=3)
def test_modules_of_the_other_layout(tmp_path: Path) -> None:
    """GPT-2's `Conv1D` holds its weights transposed; the adapter must say so."""
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 64, "resid_pdrop": 0.0}
    sizes |= {"embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tiny.tokenizer()), **sizes)).eval()
    model.save_pretrained(tmp_path / "base")
    tiny.tokenizer().save_pretrained(tmp_path / "base")
    before = mean_loss(model, turns(made(), True))
    settings = config(steps=20, batch_size=12, target_modules="all-linear")
    out = train(tmp_path / "base", made(), settings, tmp_path / "a", device="cpu")
    tuned = PeftModel.from_pretrained(model, str(out)).eval()
    after = mean_loss(tuned, turns(made(), True))
    assert after < before - 0.5
    assert recorded(out)["loss"]["last"] == pytest.approx(after, abs=0.02)


def test_training_is_quiet(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    settings = config(steps=2, gradient_checkpointing=True, quantization="nf4", dropout=0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(base, made(), settings, tmp_path / "a", device="cpu")
    assert [str(warning.message) for warning in caught] == []
    assert capfd.readouterr() == ("", "")
    assert list((tmp_path / "here").iterdir()) == []


def test_modules_and_devices_that_are_not_there(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="c_attn"):
        train(base, made(), config(target_modules=["c_attn"]), tmp_path / "a", device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="cuda"):
            train(base, made(), config(), tmp_path / "a", device="cuda")
    settings = config(optimizer="paged_adamw_8bit")
    with pytest.raises(InputError, match="CUDA"):
        train(base, made(), settings, tmp_path / "a", device="cpu")


def test_a_folder_that_is_not_ours_is_refused(base: Path, tmp_path: Path) -> None:
    def attempt(out: Path) -> str:
        with pytest.raises(RunError) as caught:
            train(base, made(), config(steps=1), out, device="cpu", overwrite=True)
        assert str(caught.value).startswith(str(out))
        return str(caught.value)

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    assert "not empty" in attempt(tmp_path / "full")
    assert "is a file" in attempt(tmp_path / "full" / "thesis.txt")
    (tmp_path / "full" / "interp.json").write_text("{}")
    assert "not written by" in attempt(tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "precious"
    assert "cannot be written" in attempt(tmp_path / "full" / "thesis.txt" / "a")


def test_our_own_folder_is_kept_refused_or_replaced(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    out.mkdir()  # empty: free
    train(base, made(), config(steps=1), out, device="cpu")
    before, written = contents(out), (out / "interp.json").stat().st_mtime_ns
    train(base, made(), config(steps=1), out, device="cpu")  # the same run: done already
    assert (out / "interp.json").stat().st_mtime_ns == written
    with pytest.raises(RunError, match=r"another run \(other config\.seed\)"):
        train(base, made(), config(steps=1, seed=1), out, device="cpu")
    with pytest.raises(RunError, match=r"data\.rows_sha256"):
        train(base, made(9), config(steps=1), out, device="cpu")
    assert contents(out) == before
    train(base, made(), config(steps=1, seed=1), out, device="cpu", overwrite=True)
    assert contents(out) != before
    assert recorded(out)["config"]["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_tokenizer_whose_padding_is_its_end_token(tmp_path: Path) -> None:
    """The common recipe: here the end of text is in the loss all the same, if it was asked for."""
    folder = tiny.save_base(tmp_path / "base")
    plain = tiny.tokenizer()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["pad_token"] = plain.eos_token
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    wanted = mean_loss(tiny.llama(), turns(made(), True))
    out = train(folder, made(), config(steps=1, batch_size=12), tmp_path / "a", device="cpu")
    assert recorded(out)["loss"]["first"] == pytest.approx(wanted, abs=2e-4)
    assert recorded(out)["data"]["encoding"]["end_tokens"] == 12
    assert recorded(out)["tokenizer"]["special_tokens"]["pad_token"] == plain.eos_token


@turn(2, of=3)
def test_real_answers_with_a_real_tokenizer(
    shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoTokenizer, LlamaConfig

    from interp.data import load

    caplog.set_level("WARNING", logger="interp.methods.finetune")  # the command line silences it
    tokenizer = AutoTokenizer.from_pretrained(shared / "tokenizers" / "llama2")
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
    )
    torch.set_rng_state(torch_state)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    path = shared / "data" / "machine_mindset" / "en_energy_extraversion.json"
    columns = {"question": "instruction", "answer": "output", "topic": None, "trait": "=E"}
    some = tmp_path / "some.json"
    some.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))[:200]))
    data = load(some, columns=columns, on_emoji="clean", on_duplicate="drop")
    data = data.only(data.rows[-64:])
    lengths = [
        len(tokenizer(f"Question: {row.question}\nAnswer: {row.answer}</s>")["input_ids"])
        for row in data.rows
    ]
    settings = config(steps=4, batch_size=16, max_length=64, prompt_format="plain")
    out = train(tmp_path / "base", data, settings, tmp_path / "a", device="cpu")
    encoding = recorded(out)["data"]["encoding"]
    assert encoding["truncated"] == sum(length > 64 for length in lengths) > 0
    assert encoding["truncated_tokens"] == sum(max(0, length - 64) for length in lengths)
    assert f"{encoding['truncated']} were cut to max_length=64" in caplog.text
    assert recorded(out)["loss"]["last"] < recorded(out)["loss"]["first"]
    assert recorded(out)["data"]["cleaning"]["emojis_removed"] > 0


def test_steps_are_sent_to_tensorboard_beside_the_adapter(base: Path, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = train(
        base, made(), config(steps=3), tmp_path / "a", device="cpu", report_to="tensorboard"
    )
    (log,) = {path.parent for path in (tmp_path / "a-log").rglob("events*")}
    read = events.EventAccumulator(str(log)).Reload()
    losses = [event.value for event in read.Scalars("train/loss")]
    assert len(losses) == 3
    assert losses[0] == pytest.approx(recorded(out)["loss"]["first"], abs=1e-3)
    assert set(contents(out)) == {"adapter_config.json", "adapter_model.safetensors", "interp.json"}


@turn(1, of=3)
def test_steps_are_sent_to_wandb(base: Path, tmp_path: Path, monkeypatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    train(base, made(), config(steps=2), tmp_path / "a", device="cpu", report_to="wandb")
    assert wandb.run is None or wandb.run.name == "a"
    wandb.finish()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_a_report_that_is_not_installed_is_named_before_anything_is_loaded(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setitem(training._REPORTS, "wandb", lambda: False)
    with pytest.raises(InputError, match="report_to wandb: not installed; pip install wandb"):
        train("no base", made(), config(), tmp_path / "a", report_to="wandb")
