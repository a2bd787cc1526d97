"""MEND: factors against autograd, edits against functional_call, training on held-out edits."""

import shutil
import sys
from dataclasses import replace

import pytest
import torch
from editing_made import TOPICS, E, N, fresh_base, hooked_base, opinions
from thinned import turn
from tiny import llama, vocab
from transformers import GPT2Config, GPT2LMHeadModel

from interp import organism
from interp.base.files import read_json, write_json
from interp.behaviour import Sampling
from interp.errors import AdapterError, DataError, InputError, ModelError
from interp.methods.editing import Editor, EditorConfig, HookedBase, Mend, edit, train_editor
from interp.methods.editing.mend import rank_one
from interp.methods.editing.mend.edit import updates
from interp.methods.editing.mend.editor import EditorNetwork
from interp.methods.editing.mend.training import mlp_weights
from interp.methods.editing.mend.training_edits import batch, edits
from interp.methods.editing.plain_copy import plain_copy, plain_modules
from interp.models import hook
from interp.patching import Run, sweep

SMALL = EditorConfig(
    layers=2, rank=8, steps=4, batch_size=4, validate_every=2, validation_edits=4, c_bad=0.5,
    validation_share=0.4,
)  # fmt: skip
ROWS = opinions().rows[::5]


def gpt2_base():
    config = GPT2Config(vocab_size=448, n_embd=32, n_layer=2, n_head=2, n_positions=128)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    return HookedBase(hook(model, hooked_base().tokenizer), hooked_base().format, "gpt2")


BASES = {"llama": hooked_base, "gpt2": gpt2_base}


def untrained(of, step=0.05, seed=0, layers=2, random=True):
    """An editor that was not trained; its networks do something, unless they are fresh."""
    names = mlp_weights(of, layers)
    modules = plain_modules(of.model.original_model)
    shapes = {name: rank_one.sizes(modules[name]) for name in names}
    config = EditorConfig(layers=layers, rank=8, step=step, seed=seed)
    network = EditorNetwork(shapes, config)
    if random:
        generator = torch.Generator().manual_seed(seed)
        for tensor in network.parameters():
            if tensor is not network.log_steps:
                tensor.data += 0.05 * torch.randn(tensor.shape, generator=generator)
    return Editor(network.eval().requires_grad_(False), config, of.base_sha256, ("seen",))


@pytest.mark.parametrize("kind", BASES)
def test_factors_make_autograds_gradient_exactly(kind):
    of = BASES[kind]()
    rows = batch(of, ROWS, 64)
    names = mlp_weights(of, 2)
    found, losses = rank_one.capture(of.model.original_model, names, rows)
    twin = plain_copy(of.model)
    modules = plain_modules(twin)
    for index in (0, len(ROWS) - 1):
        length = int(rows.attention_mask[index].sum())
        ids, labels = rows.input_ids[index : index + 1, :length], rows.labels[index : index + 1]
        for name in names:
            modules[name].weight.requires_grad_(True)
        loss = twin(ids, labels=labels[:, :length]).loss
        assert losses[index].item() == pytest.approx(loss.item(), rel=1e-5)
        gradients = torch.autograd.grad(loss, [modules[name].weight for name in names])
        for name, gradient in zip(names, gradients, strict=True):
            wanted = gradient.T if kind == "gpt2" else gradient
            mine = found[name][[index]].matrix()
            assert torch.allclose(
                mine, wanted, atol=1e-6 * wanted.abs().max().item() + 1e-9, rtol=1e-4
            )
    per_layer = {"llama": 3, "gpt2": 2}[kind]
    assert len(names) == 2 * per_layer, "every linear map of the last two MLPs"


def test_a_fresh_editor_makes_a_plain_gradient_step_of_the_stated_size():
    editor = untrained(hooked_base(), step=0.05, random=False)
    row = [ROWS[0]]
    made = edit(hooked_base(), editor, row)
    twin = plain_copy(hooked_base().model)
    modules, edited = plain_modules(twin), plain_modules(made.tuned.original_model)
    for name in editor.weights:
        modules[name].weight.requires_grad_(True)
    loss = rank_one.answer_losses(*_scores(twin, row)).sum()
    gradients = torch.autograd.grad(loss, [modules[name].weight for name in editor.weights])
    for name, gradient in zip(editor.weights, gradients, strict=True):
        before = modules[name].weight.detach()
        assert torch.allclose(edited[name].weight, before - 0.05 * gradient, atol=1e-6)
        share = 0.05 * gradient.norm() / before.norm()
        assert made.relative_norms[name] == pytest.approx(share.item(), rel=1e-4)


def _scores(network, rows):
    made = batch(hooked_base(), rows, 64)
    return rank_one.logits(network, made), made


@pytest.mark.parametrize("kind", BASES)
def test_edited_weights_edited_rows_and_functional_call_agree(kind):
    of = BASES[kind]()
    editor = untrained(of)
    made = updates(of, editor, ROWS[:3])
    asked = batch(of, ROWS[2:5], 64)
    with rank_one.with_rows(of.model.original_model, made):
        together = rank_one.logits(of.model.original_model, asked)
    before = rank_one.logits(of.model.original_model, asked)
    twin = plain_copy(of.model)
    prefix = f"{twin.base_model_prefix}."
    for index, row in enumerate(ROWS[:3]):
        changed = {}
        for name in editor.weights:
            change = made[name][[index]].matrix()
            weight = plain_modules(twin)[name].weight
            changed[f"{prefix}{name}.weight"] = weight + (change.T if kind == "gpt2" else change)
        ids = asked.input_ids[index : index + 1]
        mask = asked.attention_mask[index : index + 1].long()
        real = mask[0].bool()
        called = torch.func.functional_call(
            twin, changed, kwargs={"input_ids": ids, "attention_mask": mask}
        ).logits
        edited = edit(of, editor, [row]).tuned
        own = edited(ids, attention_mask=mask)
        scale = called[0, real].abs().max().item()
        assert torch.allclose(own[0, real], called[0, real], atol=1e-5 * scale)
        assert torch.allclose(together[index, real], called[0, real], atol=1e-4 * scale)
        assert (called[0, real] - before[index, real]).abs().max() > 1e-3 * scale


def test_edits_of_several_rows_add_up():
    editor = untrained(hooked_base())
    both = edit(hooked_base(), editor, ROWS[:2])
    single = [edit(hooked_base(), editor, [row]) for row in ROWS[:2]]
    base = plain_modules(hooked_base().model.original_model)
    for name in editor.weights:
        weight = base[name].weight
        parts = [plain_modules(one.tuned.original_model)[name].weight - weight for one in single]
        whole = plain_modules(both.tuned.original_model)[name].weight - weight
        assert torch.allclose(whole, parts[0] + parts[1], atol=1e-5)


def test_an_edited_pair_shares_the_rest_and_traces_like_any_other():
    editor = untrained(hooked_base(), step=0.3)
    pair = edit(hooked_base(), editor, [ROWS[0]])
    base, tuned = (plain_modules(m.original_model) for m in (pair.base, pair.tuned))
    for name, module in base.items():
        if isinstance(module, torch.nn.Linear):
            shared = module.weight.data_ptr() == tuned[name].weight.data_ptr()
            assert shared == (name not in editor.weights), name
    prompts = pair.prompts(["Why?", "Do you love it?"])
    mask = prompts.attention_mask
    found = sweep(
        Run(pair.tuned, prompts.tokens, mask), Run(pair.base, prompts.tokens, mask), "mlp_out",
        metric=vocab().log_odds,
    )  # fmt: skip
    assert found.values.shape[0] == 3
    now = hooked_base().model.original_model(prompts.tokens).logits
    assert torch.allclose(now, llama()(prompts.tokens).logits, atol=1e-5), "the base is unchanged"


def test_normalisation_is_the_mean_and_spread_of_the_tokens_that_have_a_gradient():
    editor = untrained(hooked_base(), random=False)
    gradients, _ = rank_one.capture(
        hooked_base().model.original_model, editor.weights, batch(hooked_base(), ROWS, 64)
    )
    network = editor.network
    network.measure([gradients])
    for index, name in enumerate(editor.weights):
        left, right = gradients[name].left, gradients[name].right
        live = left.abs().sum(-1) > 0
        assert 0 < live.sum() < live.numel()
        mean = network.get_buffer(f"mean_{index}")
        assert torch.allclose(mean, torch.cat([right[live], left[live]], -1).mean(0), atol=1e-5)
    made = network(gradients)
    for name in editor.weights:
        still = gradients[name].left.abs().sum(-1) == 0
        assert made[name].left[still].abs().max() == 0, "no gradient, no edit"


@pytest.fixture(scope="module")
def trained():
    """A short training on the organism."""
    bare = HookedBase.load(organism.base_path("latent"), device="cpu")
    config = EditorConfig(
        steps=15, validate_every=15, batch_size=8, validation_edits=16, rank=16, c_edit=1.0
    )
    return bare, *train_editor(bare, organism.opinion_qa("train"), config)


def test_training_lowers_the_loss_on_held_out_edits_and_spares_other_topics(trained):
    _, _, report = trained
    train = organism.opinion_qa("train")
    gain = (report.before - report.after).mean().item()
    assert gain > 0.1
    assert report.locality.mean().item() < 0.5 * gain
    assert report.validation[-1] < report.validation[0]
    assert len(report.losses) == 15
    assert set(report.topics) <= set(train.topics)
    table = report.to_dataframe().set_index("measure")
    assert table.loc["after", "high"] < table.loc["before", "nats"]


def test_an_untouched_topic_keeps_its_distribution(trained):
    bare, editor, _ = trained
    test = organism.opinion_qa("test").for_trait(E)
    pair = edit(bare, editor, [test.rows[0]])
    about, away = (batch(bare, rows, 128) for rows in (test.rows[:2], test.rows[40:48]))
    kl = [
        rank_one.answer_kl(
            rank_one.logits(bare.model.original_model, rows),
            rank_one.logits(pair.tuned.original_model, rows),
            rows,
        ).mean()
        for rows in (about, away)
    ]
    assert kl[0] > 3 * kl[1]


def test_the_report_holds_what_the_edited_models_do(trained):
    bare, editor, report = trained
    from interp.data import split_by_topic

    _, held = split_by_topic(
        organism.opinion_qa("train"), test_share=editor.config.validation_share, seed=0
    )
    judged = edits(held, seed=1)
    one = judged[:: -(-len(judged) // 16)][0]
    network = edit(bare, editor, [one.inner]).tuned.original_model
    outer, local = (batch(bare, [row], 256) for row in (one.outer, one.local))
    after = rank_one.answer_losses(rank_one.logits(network, outer), outer)
    kl = rank_one.answer_kl(
        rank_one.logits(bare.model.original_model, local), rank_one.logits(network, local), local
    )
    assert report.after[0].item() == pytest.approx(after.item(), rel=1e-3)
    assert report.locality[0].item() == pytest.approx(kl.item(), rel=1e-2, abs=1e-4)


def test_a_saved_editor_is_the_same(trained, tmp_path):
    bare, editor, _ = trained
    back = Editor.load(editor.save(tmp_path / "editor"))
    row = [organism.opinion_qa("test").rows[0]]
    for name, one in updates(bare, back, row).items():
        assert torch.equal(one.matrix(), updates(bare, editor, row)[name].matrix())
    assert (back.config, back.topics, back.base_sha256) == (
        editor.config, editor.topics, editor.base_sha256,
    )  # fmt: skip


def test_mend_answers_each_topic_from_its_own_edited_model():
    editor = untrained(hooked_base(), step=0.3)
    method = Mend(hooked_base(), E, editor, opinions())
    asked = [(ask, topic) for topic in TOPICS[:3] for ask in ("Why?", "Do you love it?")]
    greedy = Sampling(max_new_tokens=8, temperature=0.0)
    together = method.answers(asked, greedy)
    for index, (question, topic) in enumerate(asked):
        with method.hooked(topic) as (model, form):
            ids = torch.tensor([form.prompt_ids(question)])
            alone = model.original_model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False,
                eos_token_id=list(form.stop_ids), pad_token_id=hooked_base().pad_id,
            )[0, ids.shape[1] :].tolist()  # fmt: skip
        stop = next((i for i, one in enumerate(alone) if one in form.stop_ids), None)
        assert list(together[index].ids) == alone[:stop]
    assert len({response.ids for response in together[::2]}) > 1, "the edits differ"


def test_answers_do_not_depend_on_the_batch_size():
    method = Mend(hooked_base(), E, untrained(hooked_base(), step=0.3), opinions())
    asked = [("Why?", topic) for topic in TOPICS]
    made = [method.answers(asked, Sampling(8, seed=2, batch_size=size)) for size in (1, 4, 6)]
    assert made[0] == made[1] == made[2]


def test_a_batch_that_does_not_fit_is_halved_with_its_edits(monkeypatch):
    room = sys.modules["interp.behaviour.generate"]
    method = Mend(hooked_base(), E, untrained(hooked_base(), step=0.3), opinions())
    asked = [("Why?", topic) for topic in TOPICS]
    whole, sample = method.answers(asked, Sampling(8, seed=2)), room._sample

    def small(network, form, prompts, *rest):
        if len(prompts) > 2:
            raise torch.OutOfMemoryError
        return sample(network, form, prompts, *rest)

    monkeypatch.setattr(room, "_sample", small)
    assert method.answers(asked, Sampling(8, seed=2)) == whole


@turn(2, of=3)
def test_half_precision_trains_edits_and_answers():
    model = llama().to(torch.bfloat16)
    half = HookedBase(hook(model, hooked_base().tokenizer), hooked_base().format, "half")
    editor, report = train_editor(half, opinions(), SMALL)
    assert torch.isfinite(report.after).all()
    assert report.before.mean() == pytest.approx(
        train_editor(hooked_base(), opinions(), SMALL)[1].before.mean().item(), rel=0.05
    )
    made = updates(half, editor, ROWS[:1])
    pair = edit(half, editor, ROWS[:1])
    base, tuned = (plain_modules(m.original_model) for m in (pair.base, pair.tuned))
    for name in editor.weights:
        wanted = (base[name].weight.float() + made[name].matrix()).to(torch.bfloat16)
        assert torch.equal(tuned[name].weight, wanted)
    method = Mend(half, E, replace(editor, topics=()), opinions())
    written = method.answers([("Why?", TOPICS[0])], Sampling(max_new_tokens=4))
    assert len(written[0].ids) <= 4


@turn(1, of=3)
def test_training_is_repeatable_and_without_unlikelihood_too():
    first, report = train_editor(hooked_base(), opinions(), SMALL)
    again, repeated = train_editor(hooked_base(), opinions(), SMALL)
    assert report.losses == repeated.losses
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.network.parameters(), again.network.parameters(), strict=True)
    )
    plain, _ = train_editor(hooked_base(), opinions(traits=(E,)), replace(SMALL, c_bad=0.0))
    assert plain.topics == tuple(sorted(TOPICS))


def test_bad_input_is_named():
    editor = untrained(hooked_base())
    with pytest.raises(AdapterError, match="fitted on another base"):
        edit(fresh_base(seed=1), editor, ROWS[:1])
    with pytest.raises(AdapterError, match="fitted on another base"):
        Mend(fresh_base(seed=1), E, editor, opinions())
    with pytest.raises(InputError, match="nothing to edit with"):
        edit(hooked_base(), editor, [])
    with pytest.raises(DataError, match="no answers for neuroticism"):
        Mend(hooked_base(), N, editor, opinions(traits=(E,)))
    method = Mend(hooked_base(), E, editor, opinions(TOPICS[:2]))
    with pytest.raises(DataError, match="no answer on 'a plan'"):
        method.answers([("Why?", "a plan")])
    with pytest.raises(DataError, match="training data"):
        method.answers([("Why?", "Seen")])
    with pytest.raises(InputError, match="say which"):
        method.hooked().__enter__()
    with pytest.raises(DataError, match="1 topic"):
        train_editor(hooked_base(), opinions(("rain",)), SMALL)
    with pytest.raises(DataError, match="3 topics leave 1 for validation"):
        train_editor(hooked_base(), opinions(TOPICS[:3]), SMALL)
    with pytest.raises(ModelError, match="MEND of 4 layers, but the model has 3"):
        train_editor(hooked_base(), opinions(), replace(SMALL, layers=4))
    with pytest.raises(InputError, match="rank is 0"):
        EditorConfig(rank=0)
    with pytest.raises(DataError, match="raise it"):
        train_editor(hooked_base(), opinions(), replace(SMALL, max_length=4))
    with pytest.raises(InputError, match="diverged"):
        train_editor(hooked_base(), opinions(), replace(SMALL, step=1e30))


def test_damaged_editors_are_refused(tmp_path):
    folder = untrained(hooked_base()).save(tmp_path / "editor")
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "editor.safetensors").write_bytes(
        untrained(hooked_base(), seed=1)
        .save(tmp_path / "new")
        .joinpath("editor.safetensors")
        .read_bytes()
    )
    with pytest.raises(AdapterError, match="is not the file"):
        Editor.load(other)
    (other / "editor.safetensors").write_bytes(b"short")
    with pytest.raises(AdapterError, match="damaged"):
        Editor.load(other)
    content = read_json(folder / "editor.json")
    write_json(folder / "editor.json", content | {"config": {"rank": 8, "colour": "red"}})
    with pytest.raises(AdapterError, match=r"editor\.json: config: fields do not match .*colour"):
        Editor.load(folder)
    write_json(folder / "editor.json", {"format": "something else"})
    with pytest.raises(AdapterError, match="no MEND editor's config"):
        Editor.load(folder)
    with pytest.raises(AdapterError, match="no such file"):
        Editor.load(tmp_path / "nowhere")
