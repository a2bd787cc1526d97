"""Code that a folder brings, links that lead elsewhere, templates that fail: none gets through."""

import json
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from tiny import llama, save_base

from interp.errors import AdapterError, ModelError, TokenizerError
from interp.models import ChatFormat, load_base, load_tokenizer, read_adapter
from interp.models.folders import allows_code

# Code of a model's own -----------------------------------------------------------------------

CODE = """
from pathlib import Path
from transformers import LlamaForCausalLM
Path({marker!r}).write_text("it ran")
class Mine(LlamaForCausalLM):
    pass
"""


@pytest.fixture
def with_code(tmp_path, monkeypatch) -> Path:
    """A base whose config names code of its own, which leaves a mark when it runs."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    folder = save_base(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    auto = {"auto_map": {"AutoModelForCausalLM": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config | auto))
    (folder / "mine.py").write_text(CODE.format(marker=str(tmp_path / "ran")))
    return folder


@pytest.mark.parametrize(
    ("trusted", "message"),
    [
        (None, "auto_map asks to run the model's own code; refused"),
        (False, "auto_map asks to run the model's own code; refused"),
        (True, "name the repository whose code may run"),
        ("someone/else", "trust_remote_code names someone/else"),
        ("", "trust_remote_code names , but"),
    ],
)
def test_code_does_not_run_unless_it_is_named(with_code, tmp_path, trusted, message):
    with pytest.raises(ModelError, match=message):
        load_base(with_code, device="cpu", trust_remote_code=trusted)
    assert not (tmp_path / "ran").exists()


def test_named_code_runs(with_code, tmp_path):
    loaded = load_base(with_code, device="cpu", trust_remote_code=str(with_code))
    assert type(loaded.model).__name__ == "Mine"
    assert (tmp_path / "ran").read_text() == "it ran"


def test_code_of_another_repository_is_refused_though_one_is_named(with_code, tmp_path):
    config = json.loads((with_code / "config.json").read_text())
    elsewhere = {"auto_map": {"AutoModelForCausalLM": "someone/else--mine.Mine"}}
    (with_code / "config.json").write_text(json.dumps(config | elsewhere))
    with pytest.raises(ModelError, match="asks to run someone/else--mine"):
        load_base(with_code, device="cpu", trust_remote_code=str(with_code))
    assert not (tmp_path / "ran").exists()


def test_tokenizer_code_is_refused(with_code):
    path = with_code / "tokenizer_config.json"
    auto = {"auto_map": {"AutoTokenizer": [None, "mine.Mine"]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | auto))
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json: auto_map"):
        load_tokenizer(with_code)
    assert allows_code("org/name", "org/name")
    assert not allows_code("org/name", None)


# Links ---------------------------------------------------------------------------------------


def test_links_into_the_blobs_of_the_same_repository_are_followed(tmp_path):
    """The layout of the hub's cache: `snapshots/<commit>/file` is a link to `blobs/<hash>`."""
    repository = tmp_path / "models--org--name"
    snapshot, blobs = repository / "snapshots" / "abc", repository / "blobs"
    get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(snapshot)
    blobs.mkdir()
    for number, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(Path("../../blobs") / str(number))
    assert read_adapter(snapshot).rank == 4
    other = tmp_path / "models--other--name" / "blobs"
    other.mkdir(parents=True)
    weights = snapshot / "adapter_model.safetensors"
    weights.resolve().rename(other / "w")
    weights.unlink()
    weights.symlink_to(other / "w")
    with pytest.raises(AdapterError, match="is a link out of its folder"):
        read_adapter(snapshot)


def test_a_template_that_only_fails_later_is_a_tokenizer_error(tmp_path):
    """A template is a program: it may fail for one question only."""
    folder = save_base(tmp_path / "base")
    text = "{{ 1 / (messages[0]['content'] | length - 3) }}{{ messages[0]['content'] }}"
    (folder / "chat_template.jinja").write_text(text)
    form = ChatFormat.from_tokenizer(load_tokenizer(folder))
    with pytest.raises(
        TokenizerError, match=r"template fails \(ZeroDivisionError: division by zero"
    ):
        form.prompt_ids("Oh?")
