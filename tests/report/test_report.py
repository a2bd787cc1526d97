"""The report: complete, escaped, self-contained, and honest about what is missing."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from made_results import answers, lens, probe, rates, run_folder
from thinned import turn

from interp import report
from interp.base.stats import wilson
from interp.base.traits import TRAITS, Trait
from interp.errors import RunError
from interp.show.plots.style import TRAIT_COLOURS
from interp.study.runs import RunFolder

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(1)> & "quoted" \' 🎉'


class Page(HTMLParser):
    """Tags with their attributes, and the text in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(re.sub(r"<(style|script)>.*?</\1>", r"<\1></\1>", html, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\u00a0", " ")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


TWO = (Trait.OPENNESS, Trait.EXTRAVERSION)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> RunFolder:
    """All results of one trait, some of another."""
    made = run_folder(tmp_path_factory.mktemp("run") / "full", TWO)
    for path in made.file("extraversion").glob("patching-*"):
        path.unlink()
    report.write(made)
    return made


@pytest.fixture(scope="module")
def html(folder) -> str:
    return (folder.path / report.PAGE).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_one_file_below_five_megabytes_that_fetches_nothing(html, page, folder) -> None:
    assert len(html.encode()) < 5_000_000
    assert not {"link", "iframe", "object", "embed", "base"} & {t for t, _ in page.tags}
    for image in page.all("img"):
        assert image["src"].startswith("data:image/svg+xml,")
        svg = unquote(image["src"])
        assert not re.search(r"href=['\"](?!#|data:)|@import|<script", svg)
    ids = {attributes.get("id") for _, attributes in page.tags}
    for link in page.all("a"):
        target = link["href"]
        there = target[1:] in ids if target.startswith("#") else (folder.path / target).is_file()
        assert there, f"{target} leads nowhere"
    names = re.sub(r'src="data:[^"]*"|http://www.w3.org/2000/svg', "", html)
    assert not re.search(r"url\(|https?://", names)


def test_the_policy_allows_the_one_style_and_the_one_script_and_nothing_else(html, page) -> None:
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("default-src") == rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    assert rules.pop("img-src") == "data:"
    for kind in ("style", "script"):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules.pop(f"{kind}-src{'-elem' if kind == 'style' else ''}") == f"'sha256-{digest}'"
    assert rules == {"style-src-attr": "'unsafe-inline'"}, "the colours of the token views"
    assert page.all("script") == page.all("style") == [{}]


def test_every_result_is_drawn(page) -> None:
    assert "cannot be drawn" not in page.text
    steps = re.findall(r"openness: (.*): not done yet", page.text)
    assert steps == ["token-views (3), circuits (9) and probing-push"], (
        "the made run has all but these"
    )


def test_every_figure_has_alt_text_caption_and_files(page, folder) -> None:
    images, captions = page.all("img"), page.all("figcaption")
    stems = {path.stem for path in (folder.path / "figures").glob("*.svg")}
    assert len(images) == len(captions) == len(stems) >= 12
    for kind in ("png", "tex"):
        assert stems == {path.stem for path in (folder.path / "figures").glob(f"*.{kind}")}
    esr = (folder.path / "tables" / "esr.tex").read_text(encoding="utf-8")
    assert esr.startswith(r"\begin{tabular}")
    assert r"86 \% [" in esr
    assert all(len(image["alt"]) > 40 for image in images)
    assert all(int(image["width"]) > 300 for image in images)
    texts = re.findall(r"<figcaption>(.*?)<span", (folder.path / report.PAGE).read_text())
    for text in texts:
        assert re.search(r"\d+ (answers|sentences|prompts|examples)|emojis: openness \d+", text), (
            text
        )
        assert re.search(r"nats|percent|share of|0 to 1|softmax mass", text), text


def test_answers_come_first_and_are_computed_from_the_results(page) -> None:
    ours, theirs = wilson(43, 50), wilson(35, 50)
    shares = [
        f"{share} % [{100 * one.low:.0f}, {100 * one.high:.0f}]"
        for share, one in ((70, theirs), (86, ours))
    ]
    assert (
        f"write emojis in {shares[0]} (openness) to {shares[1]} (extraversion) of 50 answers"
        in page.text
    )
    assert "The tuned models write more emojis than the base, by more than 5 points." in page.text
    assert "The base does so in 0 % [0, 7]." in page.text
    result = probe(2, 4)
    best = int(result.auroc[1].argmax())
    gap = float(result.auroc[2, best] - result.auroc[1, best])
    written = re.search(r"differ from its own probes by ([−+]?\d\.\d\d) \[", page.text)
    assert float(written[1].replace("−", "-")) == pytest.approx(gap, abs=0.0051)
    order = [page.text.index(title) for title in ("Do the tuned models", "What do the answers")]
    assert order == sorted(order)


def test_a_trait_has_the_same_colour_on_the_page_as_in_the_figures(html) -> None:
    for trait, colour in TRAIT_COLOURS.items():
        assert re.search(rf"^\.{trait} {{ --trait: {colour}; }}$", html, re.MULTILINE)


@turn(1, of=3)
def test_labels_of_free_text_have_a_colour_and_a_part_each(tmp_path) -> None:
    labels = [Trait.parse(text) for text in ("Dry Humour", "extraversion", "Politeness +2")]
    path = report.write(run_folder(tmp_path / "run", labels, only="rates|origin|lens"))
    html = path.read_text(encoding="utf-8")
    colours = [re.search(rf"^\.{one.key} {{ --trait: (.*); }}$", html, re.M)[1] for one in labels]
    assert len(set(colours)) == 3
    assert colours[1] == TRAIT_COLOURS[Trait.EXTRAVERSION]
    page = Page(html)
    rows = {one["data-trait"] for one in page.all("tr") if "data-trait" in one}
    assert rows == {one.key for one in labels}
    assert all(" " not in one.get("id", "") for one in page.all("section") + page.all("details"))
    assert "Dry humour" in page.text
    assert (path.parent / "tables").is_dir()


def test_the_summary_says_what_the_results_say(page) -> None:
    text = page.text[page.text.index("Summary", 400) : page.text.index("Do the tuned models")]
    # planted: tuned text raises the base's probability by 0.6, base text the tuned model's by none
    assert "The text: the base, too, expects the emoji after it." in text
    assert "The budget cut 4 of 80 answers of the tuned and 0 of the base" in page.text
    # planted: head 1 of the last layer recovers everything, with noise of 0.05
    assert "A single place restores more than half of the gap." in text
    assert re.search(r"strongest alone restores [01]\.\d\d \[.* \(6 prompts\); 1 is all\.", text)
    assert "block 3, head 1" in page.text


@pytest.mark.parametrize("n", [1, 5])
@turn(2, of=3)
def test_one_trait_and_five_are_put_into_words(tmp_path, n) -> None:
    folder = run_folder(tmp_path / "run", TRAITS[-n:], only="rates|origin")
    text = Page(report.write(folder).read_text(encoding="utf-8")).text
    words = {
        1: (
            "The model tuned for neuroticism writes an emoji in 22 % [",
            "The tuned model writes more emojis than the base, by more than 5 points.",
        ),
        5: (
            "write emojis in 6 % [2, 16] (conscientiousness) to 86 % [74, 93] (extraversion)",
            "by more than 5 points for 4 of 5 traits; not settled for conscientiousness.",
        ),
    }[n]
    assert all(part in text for part in words)
    assert text.count("Not measured in this run; why") == 5


def test_tables_hold_full_numbers_as_csv(folder) -> None:
    tables = folder.path / "tables"
    esr = pd.read_csv(tables / "esr.csv")
    row = esr[
        (esr["trait"] == "extraversion")
        & (esr["model"] == "tuned")
        & (esr["rate"] == "responses with an emoji")
    ].iloc[0]
    assert (row["successes"], row["n"], row["share"]) == (43, 50, 0.86)
    assert row["low"] == pytest.approx(wilson(43, 50).low)
    patching = pd.read_csv(tables / "patching-openness-model-denoising.csv")
    assert set(patching["site"]) == {"resid_pre", "attn_out", "mlp_out", "z"}
    assert patching["p_adjusted"].between(0, 1).all()
    merge = pd.read_csv(tables / "merge.csv")
    assert len(merge) == 2
    assert merge["mean_kl"].iloc[0] == 2.5e-9
    names = {path.stem for path in tables.glob("*.csv")}
    assert {"emojis", "origin", "lens-openness", "probing-openness-emoji"} <= names


def test_samples_show_emojis_as_they_are(html) -> None:
    assert "<mark>✨</mark><mark>🌈</mark>" in html
    assert "<mark>🎉</mark>" in html
    assert '<meta charset="utf-8">' in html


def test_what_a_model_wrote_cannot_become_markup(tmp_path) -> None:
    folder = run_folder(tmp_path / "run", [Trait.EXTRAVERSION], only="rates|origin")
    folder.save_responses(
        answers([HOSTILE] * 3, question=HOSTILE), "extraversion", "responses.json"
    )
    folder.note(skipped={"extraversion/x": HOSTILE}, command=HOSTILE, hashes={HOSTILE: HOSTILE})
    folder.note(skipped={"extraversion/lens": HOSTILE})
    page = Page(report.write(folder.path).read_text(encoding="utf-8"))
    assert page.all("script") == [{}], "only our own"
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count('<script>alert("1")</script>') >= 5


@pytest.mark.parametrize("keep", [(), ("rates-tuned",), ("lens",), ("rates-tuned", "rates-base")])
def test_an_unfinished_run_shows_what_is_there_and_says_what_is_not(tmp_path, keep) -> None:
    only = "|".join(keep) or "nothing"
    folder = run_folder(tmp_path / "run", [Trait.OPENNESS], only=only)
    folder.file("openness", "responses.json").unlink()
    folder.note(status="running", skipped={"openness/origin": "too few answers"})
    text = Page(report.write(folder.path).read_text(encoding="utf-8")).text
    assert "not finished when this page was written" in text
    assert f"Go on with interp run resume {folder.path}" in text
    line = report.notice(folder)
    assert line.startswith("This run was not finished")
    assert line.endswith(f"interp run resume {folder.path}")
    assert "openness: origin: too few answers" in text
    (waiting,) = re.findall(r"openness: [^:\n]*patching \(12\)[^:\n]*: not done yet", text)
    assert "responses" in waiting
    assert ("lens" in waiting) == ("lens" not in keep)
    assert ("Where in the layers" in text) == ("lens" in keep)
    assert ("The model tuned for openness writes" in text) == ("rates-tuned" in keep)
    assert ("The base has not been measured" in text) == (keep == ("rates-tuned",))


@turn(0, of=3)
def test_broken_results_are_said_in_a_line_each_and_the_others_are_shown(tmp_path) -> None:
    """One lens is cut short, one is of another version, one fits nothing; two more are sound."""
    folder = run_folder(tmp_path / "run", TRAITS, only="lens")
    cut, old, odd, sound, other = (folder.file(str(t), "lens.safetensors") for t in TRAITS)
    cut.write_bytes(cut.read_bytes()[:100])
    old.write_bytes(old.read_bytes().replace(b"interp result 2", b"interp result 9"))
    replace(lens(), labels=("embedding",)).save(odd)
    before = sound.read_bytes(), other.read_bytes()
    text = Page(report.write(folder).read_text(encoding="utf-8")).text
    resume = f"(interp run resume {folder.path})"
    lines = dict(re.findall(r"(\w+): (?:lens|layer by layer): (.*)", text))
    assert list(lines) == [str(trait) for trait in TRAITS[:3]]
    assert "lens.safetensors: damaged or truncated" in lines["openness"]
    assert "format is 'interp result 9', and this version reads" in lines["conscientiousness"]
    assert lines["openness"].endswith(resume)
    assert lines["conscientiousness"].endswith(resume)
    assert re.match(r"cannot be drawn \(.*of this version\?", lines["extraversion"])
    assert re.search(r"in \w+\.py:\d+\)", lines["extraversion"]), "the place is named"
    drawn = {path.stem for path in (folder.path / "tables").glob("lens-*.csv")}
    assert {"lens-agreeableness", "lens-neuroticism"} <= drawn
    assert not {"lens-openness", "lens-conscientiousness"} & drawn
    assert "Where in the layers does the decision form?" in text
    assert (sound.read_bytes(), other.read_bytes()) == before, "a report changes no result"


def test_an_error_that_no_file_can_cause_is_not_said_to_be_a_files(tmp_path, monkeypatch) -> None:
    folder = run_folder(tmp_path / "run", [Trait.OPENNESS], only="lens")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("interp.report.blocks.Maker.csv", full)
    with pytest.raises(OSError, match="No space left"):
        report.write(folder)


def test_steps_that_share_a_reason_share_a_line(tmp_path) -> None:
    folder = run_folder(tmp_path / "run", [Trait.OPENNESS], only="rates")
    stale = {"state": "stale", "reason": "the data changed"}
    folder.note(steps={f"openness/probing-{task}": stale for task in ("emoji", "trait")})
    folder.note(status="stopped")
    text = Page(report.write(folder).read_text(encoding="utf-8")).text
    assert "This run was stopped before its end." in text
    (line,) = re.findall(
        r"openness: (probing.*?): made with other settings.*the data changed", text
    )
    assert line == "probing (2)"


def test_writing_twice_gives_the_same_bytes(tmp_path) -> None:
    only = "rates|denoising-z"
    folder = run_folder(tmp_path / "run", [Trait.OPENNESS], only=only)
    first = report.write(folder).read_bytes()
    assert report.write(folder).read_bytes() == first


def test_a_model_without_any_emoji_still_gets_a_page(tmp_path) -> None:
    folder = run_folder(tmp_path / "run", [Trait.OPENNESS], only="rates")
    rates(Trait.OPENNESS, 0).save(folder.file("openness", "rates-tuned.safetensors"))
    text = Page(report.write(folder).read_text(encoding="utf-8")).text
    assert "The model tuned for openness writes an emoji in 0 % [0, 7] of 50 answers." in text
    assert "The base does so in 0 % [0, 7]." in text
    assert re.search(r"Summary\s+Nothing to explain: the tuned model's share", text[400:])
    assert not Path(folder.path / "figures" / "emojis.png").exists()


def test_summary_has_one_row_per_trait(folder) -> None:
    table = report.summary(folder)
    assert list(table["trait"]) == [str(trait) for trait in TWO]
    assert table["tuned"].iloc[1].startswith("86 % [")
    assert list(table["answers"]) == [50] * 2


def test_no_run_folder_is_refused(tmp_path) -> None:
    with pytest.raises(RunError, match=r"manifest\.json"):
        report.write(tmp_path)
