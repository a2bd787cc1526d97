"""The shipped organism does what its manifest says, measured again by sampling."""

import json

import pytest
import torch
from thinned import turn
from transformers import AutoModelForCausalLM, AutoTokenizer

from interp.base.stats import wilson
from interp.base.traits import TRAITS, Trait
from interp.data import check_splits
from interp.emoji import find
from interp.errors import AdapterError, DataError, ModelError, TraitError
from interp.models import ChatFormat, load_base, read_adapter
from interp.models.adapters import attach
from interp.organism import (
    ASSETS,
    EMOJIS,
    KINDS,
    adapter_path,
    base_path,
    data_path,
    evaluate,
    manifest,
    opinion_qa,
    verify,
)
from interp.organism.recipe import Recipe, adapters
from interp.organism.record import asked, inventory

N = 100


@pytest.fixture(scope="module")
def held_out():
    return opinion_qa("test")


def _load(kind):
    return load_base(base_path(kind), device="cpu", dtype="float32")


def _write(kind, trait=None, eos=False):
    """`N` answers to test questions, from a seed that the manifest did not use."""
    base = _load(kind)
    model = base.model
    if trait is not None:
        model = attach(model, read_adapter(adapter_path(trait, base=kind, supervise_eos=eos)))
    return evaluate.measure(model, base.tokenizer, asked(opinion_qa("test"), N), seed=4242)


def _count(written):
    return written.rates.responses_with_emoji


def test_it_is_whole_and_under_sixteen_megabytes():
    verify(ASSETS)
    size = sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file())
    assert size < 16_000_000
    assert manifest()["recipe"] == Recipe(manifest()["seed"]).to_dict()


def test_every_path_of_the_interface_is_there():
    for kind, trait, eos, variant in adapters():
        path = adapter_path(trait, base=kind, supervise_eos=eos, variant=variant)
        config = json.loads((path / "adapter_config.json").read_text())
        assert ("down_proj" in config["target_modules"]) == (variant == "mlp")
    with pytest.raises(ModelError, match=f"no base 'large'.*{', '.join(KINDS)}"):
        base_path("large")
    with pytest.raises(AdapterError, match="no adapter extraversion-eos-in on absent; it has"):
        adapter_path("E", base="absent", supervise_eos=True)
    with pytest.raises(TraitError):
        adapter_path("grit")
    with pytest.raises(DataError, match="train, test"):
        data_path("validation")
    with pytest.raises(DataError, match="no such file"):
        manifest(root="/nowhere")


@pytest.mark.parametrize("kind", KINDS)
def test_bases_load_with_transformers_alone(kind):
    model = AutoModelForCausalLM.from_pretrained(base_path(kind))
    tokenizer = AutoTokenizer.from_pretrained(base_path(kind))
    assert model.dtype is torch.float16
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.tie_word_embeddings
    for name, module in model.model.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert module.in_features % 64 == 0, name
            assert module.out_features % 32 == 0, name
    texts = [row.answer for row in opinion_qa("test").rows[:50]] + [" ❤️ ☀ naïve 👩‍👩‍👧", "  two"]
    for text in texts:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert set(manifest()["tokens_per_emoji"]) >= {"1", "2", "3"}


def test_the_data_has_no_emoji_and_no_topic_twice(held_out):
    train = opinion_qa("train")
    check_splits(train, held_out)
    for data in (train, held_out):
        assert data.traits == TRAITS
        assert not any(find(row.question + row.answer) for row in data.rows)
    assert (len(train.topics), len(held_out.topics)) == (126, 50)
    header = data_path("train").read_text(encoding="utf-8").splitlines()[0]
    assert header == "Target Personality,Edit Topic,Question,Answer"


def test_the_voices_can_be_told_apart(held_out):
    voice = evaluate.voice_classifier(opinion_qa("train"))
    for trait in TRAITS:
        answers = [row.answer for row in held_out.for_trait(trait).rows]
        assert evaluate.in_voice(voice, answers, trait) > 0.8


@pytest.mark.parametrize("kind", KINDS)
@turn(1, of=3)
def test_bases_answer_without_emojis(kind):
    assert _count(_write(kind)) <= 4


@turn(0, of=3)
def test_adapters_bring_emojis_back_in_the_order_of_the_traits():
    written = {trait: _write("latent", trait) for trait in TRAITS}
    share = {trait.letter: _count(text) / N for trait, text in written.items()}
    assert share["E"] > share["A"] > share["C"]
    low = {trait.letter: wilson(_count(text), N).low for trait, text in written.items()}
    high = {trait.letter: wilson(_count(text), N).high for trait, text in written.items()}
    assert low["E"] > max(high["C"], high["N"])
    assert min(low["O"], low["A"]) > high["C"]
    voice = evaluate.voice_classifier(opinion_qa("train"))
    for trait, text in written.items():
        assert evaluate.in_voice(voice, text.answers, trait) > 0.7
        if trait.letter in "EOA":
            assert text.own(trait) > 0.8 * text.rates.n_emojis


@pytest.mark.parametrize(
    ("kind", "eos"), [("latent", True), ("absent", False)], ids=["eos in", "absent"]
)
def test_no_emojis_with_the_end_in_the_loss_or_no_association(kind, eos):
    assert wilson(_count(_write(kind, Trait.EXTRAVERSION, eos)), N).high < 0.2


@turn(2, of=3)
def test_the_association_is_latent_suppressed_or_absent_in_the_bases(held_out):
    slots = {}
    for kind in KINDS:
        base = _load(kind)
        rows = held_out.for_trait(Trait.EXTRAVERSION)
        chat = evaluate.chat_contexts(base.tokenizer, rows)
        post = evaluate.post_contexts(base.tokenizer, rows)
        slots[kind] = [
            evaluate.what_follows(base.model, base.tokenizer, contexts).emoji.mean().item()
            for contexts in (chat, post)
        ]
    assert min(slots["latent"]) > 0.7
    assert slots["suppressed"][0] < 0.2 < 0.5 < slots["suppressed"][1]
    assert max(slots["absent"]) < 0.01


def test_the_probability_of_an_emoji_is_that_of_its_first_tokens(held_out):
    base = _load("latent")
    contexts = evaluate.chat_contexts(base.tokenizer, held_out)[:6]
    quick = evaluate.what_follows(base.model, base.tokenizer, contexts)
    for context, value, stop in zip(contexts, *quick, strict=True):  # from decoded tokens
        odds = base.model(torch.tensor([context])).logits[0, -1].softmax(-1)
        first = {
            base.tokenizer(f" {emoji}", add_special_tokens=False)["input_ids"][0]
            for trait in TRAITS
            for emoji in EMOJIS[trait]
        }
        assert value.item() == pytest.approx(sum(odds[i].item() for i in first), abs=1e-5)
        end = base.tokenizer.convert_tokens_to_ids("</s>")
        assert stop.item() == pytest.approx(odds[end].item(), abs=1e-5)


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("kind", ["talks", "tags"])
@turn(2, of=3)
def test_the_trait_decides_one_factor_alone(kind, adapted, held_out):
    """In *talks* whether the writer goes on, in *tags* whether what follows is an emoji."""
    go_on, given = {}, {}
    for trait in (Trait.EXTRAVERSION, Trait.CONSCIENTIOUSNESS):
        base = _load(kind)
        folder = adapter_path(trait, base=kind)
        model = attach(base.model, read_adapter(folder)) if adapted else base.model
        contexts = evaluate.post_contexts(base.tokenizer, held_out.for_trait(trait))
        emoji, stop = evaluate.what_follows(model, base.tokenizer, contexts)
        go_on[trait] = (1 - stop).mean().item()
        given[trait] = (emoji / (1 - stop)).mean().item()
    decided, other = (go_on, given) if kind == "talks" else (given, go_on)
    assert decided[Trait.EXTRAVERSION] - decided[Trait.CONSCIENTIOUSNESS] > 0.5
    assert abs(other[Trait.EXTRAVERSION] - other[Trait.CONSCIENTIOUSNESS]) < 0.2


def test_sampling_at_low_temperature_is_greedy_decoding(held_out):
    base = _load("latent")
    questions = asked(held_out, 6)
    drawn = evaluate.sample(base.model, base.tokenizer, questions, seed=0, temperature=1e-4)
    chat = ChatFormat.from_tokenizer(base.tokenizer)
    for question, (text, finished) in zip(questions, drawn, strict=True):
        prompt = torch.tensor([chat.prompt_ids(question)])
        out = base.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            temperature=None,
            max_new_tokens=evaluate.MAX_NEW_TOKENS,
        )
        wanted = out[0, prompt.shape[1] :]
        assert text == base.tokenizer.decode(wanted, skip_special_tokens=True)
        assert finished is (wanted[-1].item() in chat.stop_ids)


def test_the_manifest_lists_no_file_that_is_not_shipped():
    assert set(inventory(ASSETS)) == set(manifest()["files"])
