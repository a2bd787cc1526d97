"""Every kind of result, and the pair, show themselves: their numbers, safely, in a moment."""

from dataclasses import dataclass, fields, replace
from html.parser import HTMLParser
from typing import ClassVar

import made_results
import pandas as pd
import pytest
import torch
from made_by_type import GIVEN, kinds, made

import interp.show.plots  # noqa: F401  hangs the drawers
from interp.adapters import EffectsByMetric, PartEffects
from interp.base.cards import result_table
from interp.base.html import table
from interp.base.results import Result
from interp.circuits import Circuit
from interp.errors import InputError
from interp.models import MergeReport
from interp.patching import PatchingByMetric, PatchingResult
from interp.probing import ProbeResult
from interp.show.views import TokenView

WITHOUT_TABLE = {"CureFit", "Features", "JacobianLens", "JudgeCheck", "MergeReport"}  # facts only
KINDS = sorted(kinds(), key=lambda kind: kind.__name__)


class Cells(HTMLParser):
    """The cells of the tables of a page, row by row; names of all tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        assert not [key for key, _ in attrs if key.startswith("on")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data) -> None:
        if self.tags and self.tags[-1] in ("td", "th") and self.rows:
            self.rows[-1][-1] += data


def one(kind) -> Result:
    if kind is PatchingResult:
        return made_results.patching()
    if kind is PatchingByMetric:
        return made_results.factors()
    if kind is EffectsByMetric:
        return kind.stack({"log_odds": one(PartEffects)})
    if kind is ProbeResult:
        return made_results.probe()
    return made(kind, **GIVEN.get(kind.__name__, {}))


def test_there_are_many_kinds() -> None:
    assert len(KINDS) > 35


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not TokenView], ids=lambda k: k.__name__)
def test_a_result_shows_the_head_of_its_table(kind) -> None:
    result = one(kind)
    page = result._repr_html_()
    assert kind.__name__ in page
    assert "No table" not in page
    assert "No figure" not in page
    assert "#fff" not in page.partition("</style>")[2]
    read = Cells(page)
    if kind.__name__ in WITHOUT_TABLE:
        assert not read.rows
        return
    frame = result_table(result).head(8)
    assert read.rows[0] == [str(name) for name in frame.columns]
    assert len(read.rows) == 1 + len(frame)
    for shown, row in zip(read.rows[1:], frame.itertuples(index=False), strict=True):
        for text, value in zip(shown, row, strict=True):
            assert same(text, value), (text, value)


def equal(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other and type(one) is type(other)


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not TokenView], ids=lambda k: k.__name__)
def test_a_result_comes_back_from_its_file_as_it_was(kind, tmp_path) -> None:
    result = one(kind)
    again = kind.load(result.save(tmp_path / "result.safetensors"))
    for field in fields(kind):
        assert equal(getattr(result, field.name), getattr(again, field.name)), field.name
    with pytest.raises(InputError, match=f"holds {kind.kind}, not "):
        (MergeReport if kind is not MergeReport else ProbeResult).load(
            tmp_path / "result.safetensors"
        )


def same(text: str, value) -> bool:
    if text == "—":
        return bool(pd.isna(value))
    if text in ("yes", "no"):
        return bool(value) == (text == "yes")
    if isinstance(value, str):
        return text == value or (len(value) > 120 and value.startswith(text[:-1]))
    return float(text) == pytest.approx(float(value), rel=1e-3)


def test_the_noise_floor_is_said() -> None:
    result = replace(made_results.patching(), noise_floor=0.00125)
    assert "Noise floor: 0.0013 nats" in result._repr_html_() or "0.0012" in result._repr_html_()


def test_figures_are_drawn_where_there_is_one() -> None:
    for result in (one(Circuit), made_results.patching(), made_results.lens(), one(ProbeResult)):
        page = result._repr_html_()
        assert page.count("<img") == 1
        assert 'alt="' in page
    large = made_results.lens(n_layers=100, n=40, n_positions=200)
    assert "<img" not in large._repr_html_(), "it would take long"


def test_what_strangers_wrote_is_text() -> None:
    result = replace(made_results.probe(), task="<img src=x onerror=alert(1)></style><script>")
    read = Cells(result._repr_html_())
    assert "script" not in read.tags
    assert read.tags.count("img") == 1, "the figure"
    frame = result_table(result)
    assert "<script" not in table(frame.rename(columns={"layer": "<script>"}))


@dataclass(frozen=True)
class Broken(Result):
    kind: ClassVar[str] = "broken"
    number: int

    def to_dataframe(self):
        raise RuntimeError("<b>no</b>")


def test_a_card_shows_what_it_can_and_never_raises() -> None:
    page = Broken(3)._repr_html_()
    assert "No table: RuntimeError: &lt;b&gt;no&lt;/b&gt;" in page
    broken = Broken(4)
    object.__delattr__(broken, "number")
    assert broken._repr_html_() is None


def test_a_large_result_is_shown_without_its_table() -> None:
    page = made_results.patching(n_layers=40, n_units=100, n=100)._repr_html_()
    assert "would take long" in page
    assert not Cells(page).rows


def test_a_pair_names_folders_not_paths(pair) -> None:
    page, report = pair._repr_html_(), pair.merge_report
    assert str(pair.adapter.path) not in page
    assert str(pair.adapter.path.parent) not in page
    for said in (pair.adapter.path.name, "LORA of rank 8 on 16 modules", "float32"):
        assert said in page
    assert f"{report.effect_mean_kl:.2g}" in page
    assert "&lt;|user|&gt;" in page, "the template"


def test_a_vocabulary_shows_its_emojis(vocab, pair) -> None:
    page = vocab._repr_html_()
    for emoji in vocab.single_token_emojis:
        assert f"<li>{emoji}</li>" in page
    assert f"{len(vocab.whole_ids)} ids" in page
    assert "&lt;|assistant|&gt;</li>" in pair.format._repr_html_()
    batch = pair.prompts(["Hi?", "What do you think about dogs?"])
    padding = int((~batch.attention_mask).sum())
    assert batch._repr_html_().count("<li class=") == padding > 0
