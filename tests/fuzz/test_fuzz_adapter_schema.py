"""The adapter's schema against PEFT's own classes, and what it lets through."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from tiny import llama, save_base

from interp.errors import AdapterError, ModelError, TokenizerError
from interp.models import ChatFormat, load_base, load_tokenizer, read_adapter
from interp.models.adapter_config import KINDS, parse_adapter_config
from interp.models.adapters import attach
from interp.models.folders import allows_code

PEFT = {"LORA": LoraConfig, "LOHA": LoHaConfig, "LOKR": LoKrConfig}
CONFIGS = {
    "lora": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False),
    "rslora": LoraConfig(r=4, lora_alpha=6.5, target_modules=["q_proj"], use_rslora=True),
    "dora": LoraConfig(r=4, target_modules=["q_proj"], use_dora=True),
    "pattern": LoraConfig(r=4, target_modules=r".*\.(q|v)_proj", task_type="CAUSAL_LM"),
    "all-linear": LoraConfig(r=4, target_modules="all-linear", exclude_modules=["down_proj"]),
    "patterns": LoraConfig(
        r=4, target_modules=["q_proj", "k_proj"], rank_pattern={r"^model\.layers\.0.*q_proj": 2},
        alpha_pattern={"k_proj": 3}, layers_to_transform=[0, 1], layers_pattern="layers",
    ),
    "loha": LoHaConfig(r=4, target_modules=["q_proj"]),
    "lokr": LoKrConfig(r=4, target_modules=["q_proj"], decompose_both=True, decompose_factor=8),
}  # fmt: skip


@pytest.mark.parametrize("kind", PEFT)
def test_every_field_that_peft_writes_is_known(kind):
    written = {field.name for field in dataclasses.fields(PEFT[kind])}
    assert written <= set(KINDS[kind].model_fields) | {"runtime_config"}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_peft_saves_is_accepted_and_means_the_same(name, tmp_path):
    get_peft_model(llama(), CONFIGS[name]).save_pretrained(tmp_path)
    adapter = read_adapter(tmp_path)
    mine = parse_adapter_config(adapter.config, tmp_path).for_peft().to_dict()
    own = PeftConfig.from_pretrained(str(tmp_path)).to_dict()
    labels = ("auto_mapping", "base_model_name_or_path", "revision", "eva_config")
    assert {k: v for k, v in mine.items() if k not in labels} == {
        k: v for k, v in own.items() if k not in labels
    }
    live = attach(llama(), adapter).base_model.model
    changed = [name for name, module in live.named_modules() if isinstance(module, BaseTunerLayer)]
    own = PeftModel.from_pretrained(llama(), str(tmp_path))
    assert sorted(changed) == sorted(own.targeted_module_names)


def test_fields_of_another_version_pass_while_they_are_off(tmp_path):
    get_peft_model(llama(), CONFIGS["lora"]).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    good = json.loads(path.read_text())
    off = {"new_config": None, "use_new": False, "new_list": [], "new_map": {}, "new_text": ""}
    path.write_text(json.dumps(good | off))
    assert read_adapter(tmp_path).rank == 4
    attach(llama(), read_adapter(tmp_path))  # and PEFT is not handed them: it would warn
    path.write_text(json.dumps(good | {"use_new": True}))
    with pytest.raises(AdapterError, match=r"adapter_config\.json: use_new: True is asked for"):
        read_adapter(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_any_value_in_any_field_is_refused_or_typed(kind, data):
    """What is accepted has the types that PEFT's own annotations ask for: it makes a config."""
    good = {"peft_type": kind, "r": 4, "target_modules": ["q_proj"]}
    name = data.draw(st.sampled_from(sorted(KINDS[kind].model_fields)))
    value = data.draw(JSON)
    try:
        found = parse_adapter_config(good | {name: value}, Path("adapter_config.json"))
    except AdapterError:
        return
    assert type(found.r) is int
    assert 1 <= found.r <= 4096
    assert all(isinstance(one, str) for one in found.patterns)
    made = found.for_peft()
    assert made.peft_type == kind
    alpha = made.lora_alpha if kind == "LORA" else made.alpha
    assert 0 <= alpha <= 65536


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
    get_peft_model(llama(), CONFIGS["lora"]).save_pretrained(snapshot)
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
    """What passes the trial may still raise for another question."""
    folder = save_base(tmp_path / "base")
    text = "{{ 1 / (messages[0]['content'] | length - 3) }}{{ messages[0]['content'] }}"
    (folder / "chat_template.jinja").write_text(text)
    form = ChatFormat.from_tokenizer(load_tokenizer(folder))
    with pytest.raises(
        TokenizerError, match=r"template fails \(ZeroDivisionError: division by zero"
    ):
        form.prompt_ids("Oh?")
