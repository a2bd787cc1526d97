"""A token view: its numbers against the models' own, its page against hostile tokens."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from interp.errors import InputError, TokenizerError
from interp.show.views import SCRIPT, STYLE, TokenView, fragment, token_view
from interp.show.views.packing import CHARACTERS, pack_attention
from interp.show.views.pieces import between_words, joined, parts, plain

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '" onfocus="x',
    "&",
)


def logits_of(model, ids):
    """Straight from the Hugging Face model under the bridge, at every position."""
    with torch.no_grad():
        return model.original_model(torch.tensor([ids])).logits[0].double()


def test_the_numbers_are_those_of_the_models(pair, vocab, ids, view) -> None:
    counted = torch.zeros(vocab.size, dtype=torch.bool)
    counted[vocab.emoji_ids] = True
    for row, model in enumerate((pair.base, pair.tuned)):
        probability = logits_of(model, ids).softmax(-1)
        mass = probability[:, counted].sum(-1)
        torch.testing.assert_close(view.probability[row].double(), mass, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            view.log_odds[row].double(), mass.logit(), atol=max(1e-3, 2 * view.noise), rtol=0
        )
        best = probability.sort(-1, descending=True)
        assert torch.equal(view.top_ids[row], best.indices[:, :5])
        shares = view.top_probability[row].double()
        torch.testing.assert_close(shares, best.values[:, :5], atol=1e-5, rtol=1e-4)
    assert view.log_odds.max() > 0, "the answer holds an emoji, so somewhere one is expected"
    assert 0 < view.noise < 1e-3


def test_lens_and_attention_are_those_of_the_layers(pair, vocab, ids, view) -> None:
    tokens = torch.tensor([ids])
    with torch.no_grad():
        _, cache = pair.tuned.run_with_cache(tokens)
        inner = pair.tuned.original_model
        for layer in range(pair.tuned.cfg.n_layers - 1):
            residual = cache[f"blocks.{layer}.hook_resid_post"]
            read = vocab.log_odds(inner.lm_head(inner.model.norm(residual)))[0]
            torch.testing.assert_close(view.lens[1, layer + 1], read, atol=1e-3, rtol=1e-4)
    gap = float((view.lens[:, -1] - view.log_odds).abs().max())
    assert gap <= view.noise, "the lens after the last layer is the output"
    for place, (layer, head) in enumerate(view.heads):
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"][0, head]
        torch.testing.assert_close(view.attention[1, place].float(), pattern, atol=1e-3, rtol=0)


def test_the_heads_that_changed_most_come_first(pair, vocab, ids, view) -> None:
    """By total variation over every query of a short text, from the patterns of all heads."""
    chosen = token_view(pair, ids, vocab=vocab, attention=3)
    moved = (view.attention[1].float() - view.attention[0].float()).abs().sum(-1).mean(-1)
    expected = [view.heads[place] for place in moved.argsort(descending=True)[:3]]
    assert len(ids) <= 64
    assert list(chosen.heads) == expected
    for place, head in enumerate(chosen.heads):
        assert torch.equal(chosen.attention[:, place], view.attention[:, view.heads.index(head)])
    data = json.loads(re.search(r'itv-data">(.*?)</script>', fragment(chosen, 2))[1])
    assert data["heads"] == sorted(map(list, expected[:2])), "the page lists them by layer"
    kept = [view.heads.index(tuple(head)) for head in data["heads"]]
    assert data["attention"][1] == [pack_attention(view.attention[1, place]) for place in kept]
    assert "attention" not in json.loads(
        re.search(r'itv-data">(.*?)</script>', fragment(chosen, 0))[1]
    )


def test_saved_and_read_back_it_is_the_same_view(view, tmp_path) -> None:
    again = TokenView.load(view.save(tmp_path / "view.safetensors"))
    assert fragment(again) == fragment(view)
    assert torch.equal(again.attention, view.attention)
    table = view.to_dataframe()
    assert len(table) == 2 * len(view.tokens)
    row = table.query("model == 'tuned'").iloc[4]
    assert row["log_odds"] == float(view.log_odds[1, 4])
    assert row["next_probability"] == float(view.top_probability[1, 4, 0])


class Reader(HTMLParser):
    """All tags and attributes of a page, and the text of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.append(data)


def renamed(view: TokenView, texts) -> TokenView:
    """The view with its first tokens' bytes and its title replaced."""
    entries = list(view.vocabulary)
    for place, text in enumerate(texts):
        entries[place] = (entries[place][0], text.encode().hex(), "", False)
    last = len(texts)
    entries[last] = (entries[last][0], "", HOSTILE[0], False)  # a special token's name
    shown = torch.tensor([entry[0] for entry in entries[: last + 1]])
    tokens = torch.cat([shown, view.tokens])[: len(view.tokens)]
    return replace(
        view, vocabulary=tuple(entries), tokens=tokens, joined=((0, 2, HOSTILE[1]),),
        title=HOSTILE[0], labels=(HOSTILE[0], *view.labels[1:]),
    )  # fmt: skip


def test_hostile_tokens_are_text(view, tmp_path) -> None:
    bad = renamed(view, HOSTILE)
    for page in (bad.to_html(), bad.save_html(tmp_path / "bad.html").read_text("utf-8")):
        read = Reader(page)
        names = [tag for tag, _ in read.tags]
        assert names.count("script") == 2
        assert "img" not in names
        assert not [key for _, attributes in read.tags for key in attributes if key[:2] == "on"]
        data = json.loads(next(one for one in read.scripts if one.startswith("{")))
        assert any(HOSTILE[0][:40] in str(word) for word in data["words"])


def unpack(text: str, n: int) -> torch.Tensor:
    """Attention as the page's script reads it."""
    weights = []
    for code in map(CHARACTERS.index, text):
        weights += [code * code / 3969] if code < 64 else [0.0] * (code - 62)
    rows, made = iter(weights), torch.zeros(n, n)
    for query in range(n):
        for key in range(query + 1):
            made[query, key] = next(rows)
    assert next(rows, None) is None
    return made


def test_attention_is_packed_closely() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(70, 70, generator=generator)
    pattern = scores.masked_fill(~torch.ones(70, 70).tril().bool(), float("-inf")).softmax(-1)
    assert (unpack(pack_attention(pattern), 70) - pattern).abs().max() < 0.016
    first = torch.zeros(70, 70)
    first[:, 0] = 1
    assert torch.equal(unpack(pack_attention(first), 70), first)
    assert len(pack_attention(first)) < 70 * 71 / 2 / 10
    assert CHARACTERS in SCRIPT.replace("\\", "")


def test_ninety_tokens_with_sixteen_heads_stay_small(pair, vocab, ids) -> None:
    many = (ids * 4)[:90]
    heads = [(i, j) for i in range(pair.base.cfg.n_layers) for j in range(pair.base.cfg.n_heads)]
    view = token_view(pair, many, vocab=vocab, attention=heads)
    assert view.attention.shape == (2, len(heads), 90, 90)
    attention = sum(len(pack_attention(head)) for model in view.attention for head in model)
    rest = len(fragment(view).encode()) - attention
    assert rest + 16 * attention / len(heads) < 150_000
    assert len((STYLE + SCRIPT).encode()) < 40_000


@pytest.mark.parametrize(
    ("piece", "shown"),
    [
        (b" the", "␣the"),
        (b"\n\n", "⏎⏎"),
        (b"\xf0\x9f", "F09F"),
        ("👩‍🚀".encode(), "👩‍🚀"),
        ("\u202eabc".encode(), "U+202Eabc"),
        ("\u0301".encode(), "◌\u0301"),
        (b"\x1b[31m", "U+001B[31m"),
        ("a👍🏽b".encode(), "a👍🏽b"),
    ],
)
def test_no_token_is_invisible(piece, shown) -> None:
    assert plain(piece) == shown


def test_a_token_without_bytes_shows_its_name() -> None:
    assert parts(b"", "<s>") == (("special", "<s>"),)
    assert len(plain(b"x" * 500)) < 100


def test_bytes_that_make_an_emoji_stand_together() -> None:
    pieces = [b"so", b" \xf0\x9f", b"\x8e", b"\x89", b"!"]
    assert joined(pieces, []) == ((1, 4, "🎉"),)
    assert joined([b"a", b"b"], []) == ()


@pytest.mark.parametrize(
    ("pieces", "ends"),
    [
        ([b"Do", b" you", b" li", b"ke", b"?"], (1, 1, 0, 1, 1)),
        ([b"don", b"'t", b" stop"], (0, 1, 1)),
        ([b"!", b" \xf0\x9f", b"\x8e\x89", b"!"], (1, 0, 1, 1)),
        (["👩".encode(), b"\xe2\x80\x8d", "👧".encode()], (0, 0, 1)),
        ([b"na", "ïve".encode()[:2], "ïve".encode()[2:]], (0, 0, 1)),
        ([b"yes", b"", b"no"], (1, 1, 1)),
    ],
)
def test_a_place_is_in_no_word_half_way(pieces, ends) -> None:
    assert between_words(pieces) == tuple(map(bool, ends))


def test_a_view_opens_before_the_first_emoji(view) -> None:
    """Even where both models expect another one more, after it or inside a word."""
    first = next(
        place
        for place in range(view.answer_start, len(view.tokens))
        if {e[0]: e[3] for e in view.vocabulary}[int(view.tokens[place])]
    )
    loud = view.log_odds.clone()
    loud[1, first:] = 30.0
    loud[1, ~view.places] = 40.0
    opening = replace(view, log_odds=loud).opening
    assert view.answer_start - 1 <= opening < first
    assert view.places[opening]
    assert view.places[view.answer_start - 1]


def test_what_cannot_be_shown_is_refused(pair, vocab, ids, view) -> None:
    for wrong, said in (
        ({"tokens": []}, "an empty list"),
        ({"tokens": [1] * 1025}, "1 to 1,024"),
        ({"tokens": [vocab.size]}, "outside the tokenizer"),
        ({"attention": [(99, 0)]}, "lacks"),
        ({"attention": [(0, 0)] * 65}, "at most 64"),
        ({"attention": 0}, "1 to 64 heads"),
        ({"attention": 65}, "1 to 64 heads"),
        ({"top": 0}, "at least 1"),
        ({"answer_start": 4000}, "outside"),
    ):
        arguments = {"tokens": ids, "vocab": vocab} | wrong
        with pytest.raises(InputError, match=re.escape(said)):
            token_view(pair, **arguments)
    with pytest.raises(InputError, match="finite"):
        replace(view, log_odds=view.log_odds * float("nan"))
    with pytest.raises(InputError, match="vocabulary lacks"):
        replace(view, vocabulary=view.vocabulary[1:])


def test_a_vocabulary_of_another_tokenizer_is_refused(pair, vocab, ids) -> None:
    padded = replace(vocab, size=vocab.size + 1000)
    with pytest.raises(TokenizerError, match="take the outcome of the tokenizer"):
        token_view(pair, ids, vocab=padded)


def test_progress_counts_up_to_the_end(pair, vocab, ids) -> None:
    told = []
    token_view(pair, ids, vocab=vocab, attention=False, progress=lambda *one: told.append(one))
    assert ("next tokens, tuned", 2, 2) in told
    assert all(done <= total for _, done, total in told)
