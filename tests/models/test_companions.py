"""What lies beside an adapter: templates, tokenizers, embeddings of another length."""

import copy
import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import save_base, tokenizer
from trained import save_trained
from transformers import AutoModelForCausalLM

from interp import load_pair
from interp.errors import AdapterError, TokenizerError

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's advice, while adapters are made

OTHER = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}[a] "
CONFIG = {"r": 4, "target_modules": ["q_proj"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def adapter(base, tmp_path):
    return save_trained(base, tmp_path / "a", LoraConfig(**CONFIG))


def own(**changes):
    mine = copy.deepcopy(tokenizer())
    for name, value in changes.items():
        setattr(mine, name, value)
    return mine


@pytest.mark.parametrize("whole", [True, False])
def test_the_adapters_template_wins_and_it_is_said(base, adapter, caplog, whole):
    text = OTHER.replace("[a] ", "{% if add_generation_prompt %}[assistant] {% endif %}")
    if whole:
        own(chat_template=text).save_pretrained(adapter)
    else:
        (adapter / "chat_template.jinja").write_text(text)
    pair = load_pair(base, adapter, device="cpu")
    said = pair.tokenizer.decode(pair.format.prompt_ids("Tea?"))
    assert said == "[user] Tea?<|eos|>[assistant] "
    assert "its own chat template is used" in caplog.text


def test_the_same_template_needs_no_word(base, adapter, caplog):
    own().save_pretrained(adapter)
    load_pair(base, adapter, device="cpu")
    assert "template" not in caplog.text


def test_a_template_that_does_not_do_is_named_by_the_adapters_folder(base, adapter):
    (adapter / "chat_template.jinja").write_text("[{{ messages[0].content }}]")
    with pytest.raises(TokenizerError, match=str(adapter)):
        load_pair(base, adapter, device="cpu")


def test_a_token_without_an_embedding_is_named(base, adapter):
    own(pad_token="<|padding|>").save_pretrained(adapter)
    with pytest.raises(TokenizerError, match=r"1 tokens from '<\|padding\|>' on have no"):
        load_pair(base, adapter, device="cpu")


def test_another_vocabulary_is_refused_by_name(base, adapter):
    path = adapter / "tokenizer.json"
    own().save_pretrained(adapter)
    whole = json.loads(path.read_text())
    ids = whole["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    path.write_text(json.dumps(whole))
    with pytest.raises(TokenizerError, match=r"is not that of .*: .[ab]. is \d+ here"):
        load_pair(base, adapter, device="cpu")


def resized(base, folder, rows, *, extra=(), **changes):
    """An adapter as trainers leave it that resized the vocabulary first."""
    mine = own()
    mine.add_tokens(list(extra))
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(3)
    model.resize_token_embeddings(rows)
    live = get_peft_model(model, LoraConfig(**(CONFIG | changes)))
    for tensor in live.parameters():
        if tensor.requires_grad:
            tensor.data += 0.05 * torch.randn_like(tensor)
    live.save_pretrained(folder, save_embedding_layers=True)
    mine.save_pretrained(folder)
    return live.eval()


@pytest.mark.parametrize("changes", [{}, {"modules_to_save": ["embed_tokens", "lm_head"]}])
@pytest.mark.parametrize("more", [3, -2])
def test_a_vocabulary_that_the_trainer_resized_or_cut(tmp_path, more, changes):
    size = len(tokenizer())
    base = save_base(tmp_path / "base", vocab_size=size + 2, tie_word_embeddings=False)
    extra = ["<extra>"] if more > 0 else []
    live = resized(base, tmp_path / "a", size + 2 + more, extra=extra, **changes)
    pair = load_pair(base, tmp_path / "a", device="cpu")
    ids = torch.tensor([pair.format.prompt_ids("Tea in the rain?")])
    torch.testing.assert_close(pair.tuned(ids), live(ids).logits, atol=1e-4, rtol=1e-4)
    plain = AutoModelForCausalLM.from_pretrained(base)
    rows = min(size + 2, size + 2 + more)
    torch.testing.assert_close(pair.base(ids)[..., :rows], plain(ids).logits[..., :rows])
    assert len(pair.tokenizer) == size + len(extra)
    assert pair.base.cfg.d_vocab == pair.tuned.cfg.d_vocab == size + 2 + more


def test_copies_of_another_base_are_refused_although_resized(tmp_path):
    one = save_base(tmp_path / "one", tie_word_embeddings=False)
    other = save_base(tmp_path / "other", seed=5, tie_word_embeddings=False)
    resized(other, tmp_path / "a", len(tokenizer()) + 3, extra=["<extra>"])
    with pytest.raises(AdapterError, match=r"carries a .* that is not this base's"):
        load_pair(one, tmp_path / "a", device="cpu")


def test_tied_embeddings_trained_whole(base, tmp_path):
    """PEFT saves the twin of a tied module as well; both are the adapter's."""
    config = LoraConfig(**CONFIG, modules_to_save=["embed_tokens"], ensure_weight_tying=True)
    folder = save_trained(base, tmp_path / "a", config)
    pair = load_pair(base, folder, device="cpu")
    live = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    ids = torch.tensor([pair.format.prompt_ids("Tea?")])
    torch.testing.assert_close(pair.tuned(ids), live(ids).logits, atol=1e-4, rtol=1e-4)
