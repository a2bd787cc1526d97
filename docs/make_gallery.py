"""Makes docs/gallery.md and its images: each kind of figure, with the lines that made it.

    python docs/make_gallery.py

The snippets below are the page's and are run as they stand, in order, in one namespace, on the
organism. About two minutes. Images keep all their colours, since a smaller palette falsifies the
colour bars of heatmaps.
"""

import ast
import io
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from interp.plots import CaptionedFigure, render

DOCS = Path(__file__).parent
IMAGES = DOCS / "images" / "gallery"
N_QUESTIONS = 100

SETUP = """\
import re
from collections import Counter

import pandas as pd

from interp import adapters, attribution, behaviour, circuits, logit_lens, neurons, patching
from interp import load_pair, organism, plots, probing
from interp.emoji import EmojiVocab, find
from interp.emoji.rates import measure
from interp.models import pad
from interp.plots.dots import dots
from interp.plots.tokens import token_bars
from interp.traits import Trait

questions = list(dict.fromkeys((r.question, r.topic) for r in organism.opinion_qa("test").rows))
questions = questions[:N_QUESTIONS]

def read(trait, kind="suppressed"):
    pair = load_pair(organism.base_path(kind), organism.adapter_path(trait, base=kind))
    wrote, plain = (behaviour.generate(m, pair.format, questions) for m in (pair.tuned, pair.base))
    return pair, wrote, plain

pair, wrote, plain = read("extraversion")
other, other_wrote, _ = read("openness")
vocab = EmojiVocab.from_tokenizer(pair.tokenizer)
onsets = behaviour.onset_prompts(pair.tokenizer, wrote, pair.pad_id, limit=16)
tokens, mask, topics = onsets.batch.tokens, onsets.batch.attention_mask, list(onsets.topics)
tuned, base = (patching.Run(model, tokens, mask) for model in (pair.tuned, pair.base))"""


@dataclass(frozen=True)
class Entry:
    """One kind of figure.

    Attributes:
        name: the function in `interp.plots` that draws it.
        says: what it shows, in a sentence.
        lines: ends in the figure.
        page: where it is explained, below docs/.
    """

    name: str
    says: str
    lines: str
    page: str


GALLERY: dict[str, tuple[Entry, ...]] = {
    "Behaviour": (
        Entry(
            "esr_bars",
            "How many answers carry an emoji, tuned against base.",
            """\
rates = {Trait.EXTRAVERSION: wrote, Trait.OPENNESS: other_wrote}
rates = {trait: measure([answer.text for answer in answers]) for trait, answers in rates.items()}
unedited = dict.fromkeys(rates, measure([answer.text for answer in plain]))
plots.esr_bars(unedited, rates)""",
            "measures.md",
        ),
        Entry(
            "emoji_distribution",
            "Which emojis each tuned model writes.",
            "plots.emoji_distribution(rates)",
            "measures.md",
        ),
        Entry(
            "dots",
            "Any table of estimates with intervals: one row per group, one dot per trait.",
            """\
found = [("base", unedited), ("tuned", rates)]
found = [(who, str(trait), r.response_esr, r.response_interval.low, r.response_interval.high,
          r.n_responses) for who, part in found for trait, r in part.items()]
table = pd.DataFrame(found, columns=["group", "trait", "value", "low", "high", "n"])
dots(table, "Share of answers with an emoji", share=True)""",
            "measures.md",
        ),
        Entry(
            "token_bars",
            "The most frequent emojis and words (of four letters or more) of each tuned model.",
            """\
def parts(answers):
    words = [word for a in answers for word in re.findall("[a-z]{4,}", a.text.lower())]
    return Counter(words + [emoji.text for a in answers for emoji in find(a.text)])

most = {"extraversion": wrote, "openness": other_wrote}
most = [(trait, token, n / len(answers)) for trait, answers in most.items()
        for token, n in parts(answers).most_common(24)]
token_bars(pd.DataFrame(most, columns=["trait", "token", "value"]))""",
            "measures.md",
        ),
        Entry(
            "text_or_weights",
            "Who must have written, and who must read, for an emoji to follow.",
            """\
models, texts = (pair.base, pair.tuned), (plain, wrote)
origin = behaviour.text_or_weights(models, texts, pair.tokenizer, vocab, pair.pad_id, seed=0)
plots.text_or_weights({Trait.EXTRAVERSION: origin})""",
            "methods.md",
        ),
        Entry(
            "onset_curves",
            "When the first emoji of an answer comes: survival, and cumulative share.",
            """\
times = {"base": plain, "extraversion": wrote, "openness": other_wrote}
times = {who: behaviour.onset_times(answers, pair.tokenizer) for who, answers in times.items()}
plots.onset_curves({who: behaviour.onset_survival(found) for who, found in times.items()})""",
            "measures.md",
        ),
        Entry(
            "alignment_dots",
            "Trait alignment (TA): how often a classifier hears the trait.",
            """\
train, test = organism.opinion_qa("train"), organism.opinion_qa("test")
classifier = behaviour.TraitClassifier.fit(train, test)
voiced = {"base": plain, "tuned": wrote}
voiced = {who: {Trait.EXTRAVERSION: behaviour.trait_alignment(a, "extraversion", classifier)}
          for who, a in voiced.items()}
plots.alignment_dots(voiced)""",
            "measures.md",
        ),
        Entry(
            "adjective_dots",
            "Personality adjective evaluation (PAE): a judge's score after the edit, less before. "
            "The organism, the judge here, cannot judge: this shows the form only.",
            """\
judge = behaviour.LocalJudge(pair.base, pair.format, name="the organism's base")
scores = [behaviour.judge_answers(a[:20], "extraversion", judge) for a in (plain, wrote)]
plots.adjective_dots({"tuned": {Trait.EXTRAVERSION: behaviour.adjective_evaluation(*scores)}})""",
            "measures.md",
        ),
    ),
    "Logit lens": (
        Entry(
            "lens_curves",
            "The emoji's log-odds at the onset, read after every layer.",
            """\
lens = logit_lens.compare(pair.base, pair.tuned, tokens, mask, vocab=vocab)
plots.lens_curves(lens, "extraversion", clusters=topics)""",
            "methods.md",
        ),
        Entry(
            "lens_heatmap",
            "The same for the positions before it.",
            'plots.lens_heatmap(lens, "extraversion")',
            "methods.md",
        ),
    ),
    "Patching": (
        Entry(
            "patching_maps",
            "Recovery when one activation of the tuned model is put into the base.",
            """\
sites = ("resid_pre", "attn_out", "mlp_out")
maps = [patching.sweep(tuned, base, site, metric=vocab.log_odds) for site in sites]
plots.patching_maps(maps, "extraversion")""",
            "howto/patching-map.md",
        ),
        Entry(
            "patching_heads",
            "The same for each head's output.",
            """\
heads = patching.sweep(tuned, base, "z", metric=vocab.log_odds)
plots.patching_heads(heads, "extraversion")""",
            "howto/patching-map.md",
        ),
    ),
    "Attribution": (
        Entry(
            "attribution_components",
            "What each component itself adds to the change between base and tuned.",
            """\
direct = attribution.compare(tuned, base, metric=vocab.log_odds)
plots.attribution_components(direct, "extraversion", clusters=topics)""",
            "neurons.md",
        ),
        Entry(
            "attribution_heads",
            "The same, head by head.",
            """\
by_head = attribution.compare(tuned, base, by="head", metric=vocab.log_odds)
plots.attribution_heads(by_head, "extraversion")""",
            "neurons.md",
        ),
    ),
    "Circuits": (
        Entry(
            "circuit_graph",
            "The 30 edges grown from the logits by the largest scores.",
            """\
edges = circuits.discover(tuned, base, metric=vocab.log_odds)
circuit = circuits.select(edges, 30, name="extraversion")
plots.circuit_graph(circuit, "extraversion")""",
            "circuits.md",
        ),
        Entry(
            "faithfulness_curve",
            "How much of the contrast circuits of every size carry.",
            """\
sizes = circuits.curve(edges, tuned, base, metric=vocab.log_odds)
plots.faithfulness_curve(sizes, "extraversion", clusters=topics)""",
            "circuits.md",
        ),
        Entry(
            "circuit_overlap",
            "What the circuits of several traits share.",
            """\
cut = behaviour.onset_prompts(pair.tokenizer, other_wrote, pair.pad_id, limit=16).batch
runs = [patching.Run(m, cut.tokens, cut.attention_mask) for m in (other.tuned, other.base)]
second = circuits.select(circuits.discover(*runs, metric=vocab.log_odds), 30, name="openness")
plots.circuit_overlap(circuits.compare({"extraversion": circuit, "openness": second}))""",
            "circuits.md",
        ),
    ),
    "Neurons": (
        Entry(
            "neuron_shift",
            "How far the last layer's neurons have moved.",
            """\
prompts = {"emoji": neurons.Prompts.last(onsets.batch, onsets.topics)}
shift = neurons.shift(pair.base, pair.tuned, prompts)
plots.neuron_shift(shift, "extraversion")""",
            "neurons.md",
        ),
        Entry(
            "dose_curve",
            "What ablating the top neurons does to the answers, beside matched random neurons.",
            """\
ranking = neurons.rank(tuned, base, layers=range(4), by="total", k=16, metric=vocab.log_odds)
dose = neurons.dose(tuned, ranking, pair.format, questions[:20], ks=(1, 4, 16, 64), draws=2,
                    topics=topics, metric=vocab.log_odds)
plots.dose_curve(dose, "extraversion")""",
            "neurons.md",
        ),
    ),
    "Adapters": (
        Entry(
            "adapter_maps",
            "What is lost without each matrix of the adapter.",
            """\
space = adapters.AdapterSpace.of(pair)
needed = adapters.necessity(space, onsets.batch, topics=topics)
plots.adapter_maps([needed], "extraversion")""",
            "adapters.md",
        ),
        Entry(
            "smallest_set_curve",
            "How few matrices keep most of the effect.",
            """\
kept = adapters.smallest_set(space, onsets.batch, topics=topics, share=0.9)
plots.smallest_set_curve(kept, "extraversion")""",
            "adapters.md",
        ),
        Entry(
            "esr_curve",
            "Answers with an emoji along the line from base to tuned.",
            """\
alphas = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
line = adapters.interpolate(space, onsets.batch, topics=topics, alphas=alphas,
                            questions=questions[:40])
plots.esr_curve(line, "extraversion")""",
            "adapters.md",
        ),
        Entry(
            "overlap_matrix",
            "How alike two traits are in the matrices that they need, on the same prompts.",
            """\
there = adapters.necessity(other, onsets.batch, metric=space.metric, topics=topics)
shared = adapters.overlap({"extraversion": needed, "openness": there})
plots.overlap_matrix(shared)""",
            "adapters.md",
        ),
    ),
    "Probing": (
        Entry(
            "probing_curves",
            "Is the coming emoji linearly readable, and was it before fine-tuning?",
            """\
texts = pad([answer.prompt_ids + answer.ids for answer in wrote], pair.pad_id)
texts, about = (texts.tokens, texts.attention_mask), [answer.topic for answer in wrote]
task = probing.onset_task(*texts, topics=about, vocab=vocab)
probe = probing.trace(task, *texts, base=pair.base, tuned=pair.tuned)
plots.probing_curves(probe, "extraversion")""",
            "methods.md",
        ),
    ),
    "Questionnaires": (
        Entry(
            "questionnaire_scores",
            "Self-reports on 120 items, with what prompts and option orders do to them. "
            "The organism gives the letters little probability (see the caption): form only.",
            """\
asked = {"base": pair.base, "extraversion": pair.tuned}
reports = [behaviour.administer(m, pair.format, label=who) for who, m in asked.items()]
plots.questionnaire_scores(reports)""",
            "measures.md",
        ),
    ),
}


def entries() -> Iterator[Entry]:
    """All entries, in the page's order."""
    for group in GALLERY.values():
        yield from group


def draw(
    n_questions: int = N_QUESTIONS, smaller: Mapping[str, str] | None = None
) -> Iterator[tuple[Entry, CaptionedFigure]]:
    """Run the setup and every snippet, and give each figure as soon as it is there.

    `smaller` holds what is run instead of what is written, for tests.
    """
    space: dict[str, Any] = {"N_QUESTIONS": n_questions}
    exec(_instead(SETUP, smaller or {}), space)
    for entry in entries():
        *before, last = ast.parse(_instead(entry.lines, smaller or {})).body
        exec(compile(ast.Module(before, []), entry.name, "exec"), space)
        assert isinstance(last, ast.Expr), f"{entry.name} does not end in its figure"
        yield entry, eval(compile(ast.Expression(last.value), entry.name, "eval"), space)


def _instead(code: str, smaller: Mapping[str, str]) -> str:
    for written, instead in smaller.items():
        code = code.replace(written, instead)
    return code


def page(figures: dict[str, CaptionedFigure]) -> str:
    """The page's Markdown."""
    setup = SETUP.replace("N_QUESTIONS", str(N_QUESTIONS))
    parts = [_INTRODUCTION, f"```python\n{setup}\n```\n", _FILES]
    for title, group in GALLERY.items():
        parts.append(f"## {title}\n")
        for entry in group:
            figure = figures[entry.name]
            alt = escape(figure.alt).replace("[", "(").replace("]", ")")
            parts.append(
                f"### {entry.name}\n\n{entry.says} [How to read it]({entry.page}).\n\n"
                f"![{alt}](images/gallery/{entry.name}.png)\n\n*{figure.caption}*\n\n"
                f"```python\n{entry.lines}\n```\n"
            )
    return "\n".join(parts)


_INTRODUCTION = """\
# Gallery

Every kind of figure, and the lines that made it. This page is made by

```sh
python docs/make_gallery.py
```

on the organism. The snippets run in order, after this one:
"""


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    figures: dict[str, CaptionedFigure] = {}
    for entry, figure in draw():
        figures[entry.name] = figure
        with Image.open(io.BytesIO(render(figure, "png"))) as image:
            image.convert("RGB").save(IMAGES / f"{entry.name}.png", optimize=True)
        sys.stderr.write(f"{entry.name}\n")
    (DOCS / "gallery.md").write_text(page(figures), encoding="utf-8")


_FILES = """\
## Sizes and files

Figures come in the width of one column (3.5 inches) or of a page (7.2); type is 7 to 8.5 points in
both. Another width makes room anew and keeps the type:

```python
figure = plots.esr_bars({}, {Trait.EXTRAVERSION: measure([answer.text for answer in wrote])})
plots.resize(figure, plots.WIDTHS["acl"][0])
plots.save(figure, "rates", formats=("png", "svg", "pdf"))
```

PDF embeds its fonts (TrueType), SVG draws type as paths, PNG has 200 dots per inch. The same result
gives the same bytes. Each figure carries its `caption` (with units, ranges and counts) and an `alt`
text. `interp report RUN --pdf` writes all figures of a run as PDF, too.

Traits have the colours of Okabe and Ito (2008) and a shape each; the base is grey. Signed numbers
have a diverging scale, white at zero, and the colour bar states the range. Emojis on axes are
images from the machine's colour font (Noto, Apple, Segoe); without one they are named in words
("red heart").
"""

if __name__ == "__main__":
    main()
