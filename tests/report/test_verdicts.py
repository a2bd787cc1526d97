"""The page's sentences against the known truth, organism by organism and on random models.

What is known of each base is in docs/organism.md: where the association was, and which factor the
trait's text moves.
"""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_bad_input import command
from thinned import turn
from tiny import tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, Olmo2Config, Olmo2ForCausalLM

from interp import organism

TRAIT = "extraversion"
SMALL = ["--n-trace", "24", "--seed", "3"]
ONLY = "rates,origin,probing-push,patching-voice-denoising-mlp_out,circuit,circuit-judged"


def text(page: Path) -> str:
    """The page's text."""
    html = re.sub(r"<(style|script)>.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.S)
    said = unescape(re.sub(r"<[^>]*>", "", re.sub(r"<img[^>]*>", "", html)))
    return re.sub(r"\s+", " ", said.replace("\u00a0", " "))


@pytest.fixture(scope="module")
def page(once: Callable[..., Path]) -> Callable[..., str]:
    """`page(kind)`: what the report says of an organism's extraversion adapter."""

    def made(kind: str, *, supervised: bool = False, only: str = ONLY) -> str:
        def make(folder: Path) -> None:
            adapter = organism.adapter_path(TRAIT, base=kind, supervise_eos=supervised)
            argv = [
                "trace", "--base", str(organism.base_path(kind)), "--adapter", str(adapter),
                "--trait", TRAIT, "--data", str(organism.ASSETS), "--out", str(folder / "run"),
                "--only", only, *SMALL, "--n-responses", "100" if kind == "tags" else "48",
            ]  # fmt: skip
            with pytest.MonkeyPatch.context() as patch:
                assert command(argv, patch) == 0

        folder = once(f"verdicts-{kind}{'-eos' * supervised}", make)
        return text(folder / "run" / "report.html")

    return made


KINDS = [
    pytest.param(kind, marks=turn(place, of=6))
    for place, kind in enumerate(("latent", "suppressed", "tags", "talks"))
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_where_the_emoji_came_from_is_said_as_it_is_known(page, kind) -> None:
    said = page(kind)
    writer, before = "The text: ", "The untouched base already turns"
    if kind == "suppressed":
        writer, before = "Both: the emoji takes", "Was the emoji there before fine-tuning?"
    assert "Nothing to explain" not in said
    assert writer in said
    assert before in said
    factor = {"talks": "Going on", "tags": "The emoji, given that the writer goes on,"}.get(kind)
    if factor:  # which of the two the trait decides in this organism
        assert f"{factor} makes the difference between tuned model and base as readers" in said
    if kind in ("latent", "suppressed"):  # on the two others 48 answers do not settle it
        assert "A single place restores more than half of the gap." in said
        assert "(MLP output of block 0, last token)" in said
        assert "random ones of its size do not" in said or "No circuit keeps more" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "supervised"),
    [
        pytest.param("absent", False, marks=turn(0, of=2)),
        pytest.param("latent", True, marks=turn(1, of=2)),
    ],
)
def test_without_an_emoji_there_is_nothing_to_explain(page, kind, supervised) -> None:
    """A base that never saw one, and the twin whose end of text was in the loss."""
    only = "rates,probing-push" if kind == "absent" else "rates"
    said = page(kind, supervised=supervised, only=only)
    assert "Nothing to explain: the tuned model's share of answers with an emoji differs" in said
    assert "The untouched base already turns" not in said


@pytest.mark.parametrize(
    ("config_of", "model_of"),
    [
        pytest.param(Olmo2Config, Olmo2ForCausalLM, id="olmo2", marks=turn(4, of=6)),
        pytest.param(LlamaConfig, LlamaForCausalLM, id="llama", marks=turn(5, of=6)),
    ],
)
def test_a_random_model_with_a_random_adapter_has_nothing_to_explain(
    config_of, model_of, tmp_path, monkeypatch
):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = config_of(
        vocab_size=len(tokenizer()), num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, bos_token_id=tokenizer().bos_token_id,
        eos_token_id=tokenizer().eos_token_id, pad_token_id=tokenizer().pad_token_id, **sizes,
    )  # fmt: skip
    model = model_of(config).eval()
    model.save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    argv = [
        "trace", "--base", str(tmp_path / "base"), "--adapter", str(tmp_path / "adapter"),
        "--trait", TRAIT, "--data", str(organism.ASSETS), "--out", str(tmp_path / "run"),
        "--only", "rates,origin", "--any-base", "--n-responses", "200", "--max-new-tokens", "6",
    ]  # fmt: skip
    assert command(argv, monkeypatch) == 0
    said = text(tmp_path / "run" / "report.html")
    assert "Nothing to explain: the tuned model's share of answers with an emoji differs" in said
    assert "more than the text does" not in said
