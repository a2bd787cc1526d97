"""What a user of TransformerLens writes first: each works, or is named with the mend.

A string is one prompt, everywhere. The twin of every call is the same one with ids made by hand.
"""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp import logit_lens, organism, patching, probing
from interp.base.traits import Trait
from interp.behaviour import Sampling, generate
from interp.emoji import EmojiVocab
from interp.errors import InputError, ModelError
from interp.models import TokenBatch
from interp.models.given_prompts import check_hooked
from interp.patching import Run, sweep
from interp.show.views import token_view

ASKED = "Do you like dogs?"
OTHER = "What do you think about long winter evenings?"


@pytest.fixture(scope="module")
def pair():
    return interp.load_pair(organism.base_path(), organism.adapter_path("extraversion"))


@pytest.fixture(scope="module")
def ids(pair):
    return pair.format.prompt_ids(ASKED)


def test_a_string_is_one_prompt(pair, ids) -> None:
    assert pair.prompts(ASKED).tokens.tolist() == [ids]
    both = pair.prompts([ASKED, OTHER])
    assert both.lengths.tolist() == [len(ids), len(pair.format.prompt_ids(OTHER))]
    assert both.tokens[0][both.attention_mask[0]].tolist() == ids


def test_ids_come_in_every_form(pair, ids) -> None:
    wanted = torch.tensor([ids])
    mapping = {"input_ids": [ids], "attention_mask": [[1] * len(ids)]}
    for given in (
        ASKED, [ASKED], pd.Series([ASKED]), ids, [ids], wanted[0], wanted, np.array(ids),
        pair.prompts(ASKED), [torch.tensor(ids)], mapping,
    ):  # fmt: skip
        run = Run(pair.tuned, given)
        assert torch.equal(run.tokens, wanted), given
        assert bool(run.mask.all())
    ragged = Run(pair.tuned, [ids, ids[2:]])
    assert ragged.mask.sum(1).tolist() == [len(ids), len(ids) - 2]
    assert ragged.last.tolist() == [len(ids) - 1] * 2, "padded on the left"
    assert len(repr(ragged)) < 100


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3.5, "prompts are text, a list of texts"),
        ([], "an empty list"),
        ([1.5], "a list of 1.5"),
        ([["a"], ["b"]], "got a list of a list"),
        (["a", 1], "a list of 'a'"),
        (torch.zeros(1, 2, 3, dtype=torch.long), "shape [batch, pos], got torch.int64 [1, 2, 3]"),
        (torch.rand(2, 3), "torch.float32"),
        (torch.ones(2, 3, dtype=torch.bool), "torch.bool"),
    ],
)
def test_what_cannot_be_taken_is_named(pair, given, said) -> None:
    for take in (pair.prompts, lambda wrong: Run(pair.tuned, wrong)):
        with pytest.raises(InputError) as refused:
            take(given)
        assert said in str(refused.value)


def test_text_is_answered_by_either_kind_of_model(pair) -> None:
    how = Sampling(max_new_tokens=8)
    pairs = generate(pair.tuned, pair.format, [(ASKED, "dogs")], how)
    assert generate(pair.tuned, pair.format, ASKED, how)[0].ids == pairs[0].ids
    bare = generate(pair.tuned.original_model, pair.format, [ASKED], how)[0]
    assert (bare.ids, bare.topic) == (pairs[0].ids, ASKED)
    assert pair.generate(ASKED, max_new_tokens=8)[0].ids == pairs[0].ids
    base = pair.generate([ASKED], "base", max_new_tokens=8)[0]
    assert base.ids == generate(pair.base, pair.format, ASKED, how)[0].ids
    with pytest.raises(InputError, match=r"pair \(question, topic\), got 3"):
        generate(pair.tuned, pair.format, [3])
    with pytest.raises(InputError, match="'tuned' or 'base', got 'both'"):
        pair.generate(ASKED, "both")


def test_a_model_without_hooks_is_named(pair) -> None:
    bare = pair.tuned.original_model
    with pytest.raises(ModelError, match=r"a run needs .* got a Llama.*hook\(model, tokenizer\)"):
        Run(bare, [[1, 2]])
    check_hooked(pair.tuned, "a run")


def test_what_a_model_cannot_be_called_on_is_named(pair, ids) -> None:
    batch = pair.prompts([ASKED, OTHER])
    for given in (batch, Run(pair.tuned, batch), [ids], batch.tokens.numpy(), {"a": 1}, [], None):
        with pytest.raises(
            InputError, match=r"called on text.*model.batch\.tokens, attention_mask"
        ):
            pair.tuned(given)
    with pytest.raises(InputError, match=r"got TokenBatch.2 rows"):
        pair.base(batch)
    made = pair.tuned(batch.tokens, attention_mask=batch.attention_mask)  # as it says
    alone = pair.tuned(torch.tensor([ids]))
    torch.testing.assert_close(made[0, -1], alone[0, -1], atol=1e-4, rtol=1e-4)


def test_a_string_is_one_prompt_of_the_merge_report() -> None:
    adapter = organism.adapter_path("extraversion")
    pair = interp.load_pair(organism.base_path(), adapter, device="cpu", prompts=ASKED)
    assert pair.merge_report.n_prompts == 1


def test_a_device_without_numbers_is_named() -> None:
    with pytest.raises(ModelError, match="'meta' keeps no numbers"):
        interp.load_pair(organism.base_path(), organism.adapter_path("extraversion"), device="meta")


def test_text_without_a_tokenizer_is_named(pair) -> None:
    own = pair.tuned.tokenizer
    pair.tuned.tokenizer = None
    try:
        with pytest.raises(InputError, match="text needs a tokenizer"):
            Run(pair.tuned, ASKED)
    finally:
        pair.tuned.tokenizer = own


def test_a_metric_over_whole_logits_is_told_its_shape(pair) -> None:
    runs = Run(pair.tuned, ASKED), Run(pair.base, ASKED)
    with pytest.raises(InputError, match=r"= \[1, \d+\]: write logits\[:, token\]"):
        sweep(*runs, "resid_post", metric=lambda logits: logits[:, -1, 5])
    found = sweep(*runs, "resid_post", metric=lambda logits: logits[:, 5])
    assert found.values.shape[2] == 1


def test_lens_view_and_probe_take_text(pair, ids) -> None:
    lens = logit_lens.compare(pair.base, pair.tuned, ASKED)
    same = logit_lens.compare(pair.base, pair.tuned, torch.tensor([ids]))
    assert torch.equal(lens.log_odds, same.log_odds)
    assert token_view(pair, ASKED, attention=False).tokens.tolist() == ids
    with pytest.raises(InputError, match="shows one text, got 2"):
        token_view(pair, [ASKED, OTHER])
    texts = [ASKED, OTHER]
    one, other = (probing.pooled(pair.tuned, given) for given in (texts, pair.prompts(texts)))
    assert torch.equal(one.values, other.values)


def test_plain_lists_are_labels(pair) -> None:
    questions = pair.questions(12)
    features = probing.pooled(pair.tuned, [question for question, _ in questions], layers=[0])
    labels = [int("feel" in question) for question, _ in questions]
    topics = [topic for _, topic in questions]
    asked = probing.ProbeConfig(folds=2)
    found = probing.fit(features, labels, topics, config=asked)
    same = probing.fit(features, torch.tensor(labels), topics, config=asked)
    assert torch.equal(found.auroc, same.auroc)


def test_four_lines_to_a_first_plot(pair) -> None:
    answers = pair.generate(pair.questions(8), max_new_tokens=48)
    contrast = interp.contrast(pair, answers, limit=4)
    slots = pair.slots(answers).ends
    assert torch.equal(contrast.clean.tokens, slots.prompts(pair.pad_id).batch.tokens[:4])
    assert contrast.topics == slots.topics[:4]
    result = patching.sweep(*contrast, "z")
    figure = result.plot()
    assert (contrast.kind, len(contrast.topics)) == ("model", 4)
    assert figure.caption
    assert len(repr(result).splitlines()) < 30
    data = organism.opinion_qa("test")
    for one in (*answers, slots, slots.prompts(pair.pad_id), contrast.clean, contrast, pair, data):
        assert len(repr(one)) < 800, type(one)
    assert answers[0].text in repr(answers[0])
    assert max(map(len, repr(result).splitlines())) <= 100
    assert "float32 [" in repr(result)


def test_two_voices_are_a_contrast(pair) -> None:
    asked = pair.questions(8)
    wrote, plain = (pair.generate(asked, who, max_new_tokens=48) for who in ("tuned", "base"))
    made = interp.contrast(pair, wrote, plain, limit=4)
    assert (made.kind, len(made.topics)) == ("voice", 4)
    assert patching.sweep(*made, "z").contrast == "voice"
    assert set(made.topics) <= {topic for _, topic in asked}
    assert torch.equal(made.clean.mask, made.corrupted.mask)


def test_answers_that_the_budget_cut_are_read_at_the_end_of_their_last_sentence(pair) -> None:
    """A real model seldom stops within the budget: none of its answers may have an end."""
    more = tuple(pair.tokenizer(" I", add_special_tokens=False)["input_ids"])
    wrote = pair.generate(pair.questions(8), "base", max_new_tokens=48)
    cut = [replace(one, ended=False, text=f"{one.text} I",
                   ids=(*(i for i in one.ids if i not in pair.outcome.stop_ids), *more))
           for one in wrote]  # fmt: skip
    assert not pair.slots(cut).ends.rows
    made = interp.contrast(pair, cut, limit=4)
    assert made.topics == pair.slots(cut).last.topics[:4]
    assert len(made.topics) == 4


def test_two_strings_are_a_contrast(pair) -> None:
    made = interp.contrast(pair, "Do you like dogs?", "Do you like cats?")
    assert made.kind == "prompt"
    assert made.clean.model is made.corrupted.model is pair.tuned
    with pytest.raises(InputError, match="equal token length"):
        interp.contrast(pair, ASKED, OTHER)


def test_answers_with_words_exchanged_are_a_contrast(pair) -> None:
    answers = pair.generate(pair.questions(24), max_new_tokens=48)
    words = organism.voice_words(Trait.EXTRAVERSION, Trait.CONSCIENTIOUSNESS)
    made = interp.words_contrast(pair, answers, words)
    assert made.kind == "words"
    assert made.clean.model is made.corrupted.model is pair.tuned
    assert torch.equal(made.clean.mask, made.corrupted.mask)
    for one, other in zip(made.clean.tokens, made.corrupted.tokens, strict=True):
        mine, theirs = (pair.tokenizer.decode(ids).lower() for ids in (one, other))
        gone = [word for word in words if word in mine and word not in theirs]
        assert gone, mine
        assert any(new in theirs for new in words[gone[0]])
    with pytest.raises(InputError, match="0 of 24 answers hold one of the words"):
        interp.words_contrast(pair, answers, {"zebra": "lion"})
    with pytest.raises(InputError, match="no words to exchange"):
        interp.words_contrast(pair, answers, {})


def test_the_vocabulary_is_read_once(monkeypatch, read_vocabulary) -> None:
    monkeypatch.setattr(EmojiVocab, "from_tokenizer", staticmethod(read_vocabulary))
    # A pair of its own: padding, left on by another test's call, is part of what is cached.
    pair = interp.load_pair(organism.base_path(), organism.adapter_path("extraversion"))
    known = EmojiVocab.from_tokenizer(pair.tokenizer)
    monkeypatch.setattr(EmojiVocab, "_read", lambda *_: pytest.fail("read again"))
    assert pair.vocab is known
    assert EmojiVocab.from_tokenizer(pair.tuned.tokenizer) is known, "the bridge's own copy, too"
    stricter = EmojiVocab.from_tokenizer(pair.tokenizer, threshold=0.9)
    assert torch.equal(stricter.emoji_ids, known.with_threshold(0.9).emoji_ids)
    assert pair.outcome.name == "emoji"


def test_questions_are_one_per_topic(pair) -> None:
    asked = pair.questions()
    assert len({topic for _, topic in asked}) == len({question for question, _ in asked}) == 40
    with pytest.raises(InputError, match="1 to 40 questions, got 41"):
        pair.questions(41)


def test_a_batch_says_its_size() -> None:
    assert repr(TokenBatch(torch.ones(2, 3).long(), torch.ones(2, 3).bool())) == (
        "TokenBatch(2 rows of 3 columns, 6 tokens)"
    )


def test_the_front_door_shows_its_rooms_and_brings_no_torch() -> None:
    wanted = ["ModelPair", "Outcome", "contrast", "load_pair", "patching", "logit_lens", "probing",
              "circuits", "neurons", "adapters", "attribution", "emoji", "organism"]  # fmt: skip
    code = (
        f"import interp, sys; lost = set({wanted}) - set(dir(interp)); "
        "assert not lost, lost; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


WRONG = """
import sys, interp
from interp import organism, patching
from interp.errors import InputError
pair = interp.load_pair(organism.base_path(), organism.adapter_path("extraversion"))
clean, corrupted = interp.contrast(pair, "Do you like dogs?")
made = patching.sweep(clean, corrupted, "resid_pre", cells=patching.Cells(layers=[0]))
for call in (
    lambda: patching.sweep("Do you like dogs?", "Do you like tea?", "resid_pre"),
    lambda: interp.contrast(pair.tuned, pair.base),
    lambda: patching.sweep(clean, corrupted, "resid_pre", metric="logit_diff"),
    lambda: pair.generate("Do you like dogs?", pair.base),
    lambda: made.save(sys.argv[1]),
    lambda: interp.load_pair(pair.base, pair.tuned),
    lambda: interp.load_pair(organism.base_path(), 3),
):
    try:
        call()
    except InputError as refused:
        print(refused)
"""


def test_what_is_no_run_pair_metric_or_file_is_named(tmp_path) -> None:
    """As a user has it: without the tests' checks of annotations."""
    command = [sys.executable, "-c", WRONG, str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    wanted = ("between two runs", "got TransformerBridge as the pair", "got 'logit_diff'",
              "got TransformerBridge", "name.safetensors", "ModelPair.of",
              "adapter is no folder")  # fmt: skip
    assert len(said) == len(wanted)
    for line, part in zip(said, wanted, strict=True):
        assert part in line
        assert len(line) < 300


def test_a_batch_gives_its_rows(pair) -> None:
    batch = pair.prompts([ASKED, OTHER])
    assert batch[0].tokens.tolist() == batch[:1].tokens.tolist()
    assert batch[-1].tokens.tolist() == batch[1:].tokens.tolist()
