"""The report of a run that hostile models and data wrote: what they wrote is text, never markup."""

import re
from html.parser import HTMLParser

import pytest
from made_results import answers, merge_report, origin, rates

from interp import report
from interp.base.traits import Trait
from interp.study.runs import RunFolder

HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "]]>", "</style><b>", "--><i>",
    "javascript:alert(1)", "&#x27; onmouseover=alert(1) x=&#x27;", "<!--",
    "</script><svg/onload=a()>",
    "{{ 7 * 7 }}{% raw %}", "\u202e<u>", "<a href='javascript:alert(1)'>x</a>",
    "<iframe src=//evil.example>", "<base href=//evil.example>", "<meta http-equiv=refresh>",
    "' style='background:url(//evil.example)",
)  # fmt: skip
HARMLESS = tuple(f"plain text {number:02d}" for number in range(len(HOSTILE)))


class Markup(HTMLParser):
    """Elements with their attributes' names, every address, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: dict[tuple[str, tuple[str, ...]], int] = {}
        self.values: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        key = (tag, tuple(sorted(name for name, _ in attrs)))
        self.elements[key] = self.elements.get(key, 0) + 1
        self.values += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.values.append(("comment", data))


def page_of(folder, texts: tuple[str, ...]) -> str:
    """The report of a run in which each text stands wherever a stranger's text can."""
    trait = Trait.EXTRAVERSION
    base, adapter, data, *_ = texts
    config = {"base": base, "adapters": {str(trait): adapter}, "data": data, "seed": 3}
    run = RunFolder.create(folder, config | {"n_responses": 8, "temperature": 0.7})
    run.note(
        command=f"interp trace {texts[3]}",
        skipped={f"extraversion/{texts[4]}": texts[5], "extraversion/lens": texts[6]},
        versions={"torch": texts[7]},
    )
    written = [f"{text} 🎉 {text}" for text in texts]
    run.save_responses(answers(written, question=texts[8]), str(trait), "responses.json")
    run.save_responses(answers(list(texts), question=texts[9]), "base", "responses-dense.json")
    for name, result in {
        "merge": merge_report(), "rates-base": rates(trait, 0), "rates-tuned": rates(trait, 9),
        "origin": origin(),
    }.items():  # fmt: skip
        result.save(run.file(str(trait), f"{name}.safetensors"))
    run.finish(4.2)
    report.write(run)
    return (run.path / report.PAGE).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> tuple[str, str]:
    where = tmp_path_factory.mktemp("runs")
    return page_of(where / "hostile", HOSTILE), page_of(where / "plain", HARMLESS)


def test_hostile_text_adds_no_element_and_no_attribute(pages):
    hostile, plain = map(Markup, pages)
    assert hostile.elements == plain.elements
    assert not [value for name, value in hostile.values if name == "comment" and "i>" in value]


def test_what_was_written_is_shown_as_it_was_written(pages):
    hostile, plain = (" ".join(Markup(page).text.split()) for page in pages)
    shown = 0
    for text, harmless in zip(HOSTILE, HARMLESS, strict=True):
        assert hostile.count(" ".join(text.split())) >= plain.count(harmless), text
        shown += harmless in plain
    assert shown >= 6


def test_no_handler_and_no_outside_address(pages):
    hostile = Markup(pages[0])
    for name, value in hostile.values:
        assert not name.startswith("on"), (name, value)
        if name in ("src", "href", "action", "data", "poster", "srcset", "formaction"):
            assert value.startswith(("data:", "#")) or re.fullmatch(r"[\w./-]+", value), (
                name,
                value,
            )
        assert not re.match(r"\s*javascript:", value, re.IGNORECASE)
    styles = " ".join(re.findall(r"<style.*?</style>", pages[0], re.DOTALL))
    assert not re.search(r"url\(\s*['\"]?(https?:)?//", styles)


def test_the_policy_stands_before_everything_that_could_break_it(pages):
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"\s+content="([^"]*)"', pages[0])
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1] or "default-src 'none'" in policy[1]
    assert "unsafe-eval" not in policy[1]
    scripts = re.search(r"script-src([^;]*)", policy[1])
    assert scripts is None or "unsafe-inline" not in scripts[1]
    assert pages[0].index("Content-Security-Policy") < pages[0].index("<script")
