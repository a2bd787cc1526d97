"""Reports of strange and broken runs in a real browser: hostile text, long words, no results."""

from unicodedata import category

import pytest
from made_results import answers, rates, run_folder
from waiting import comes_to

from interp import report
from interp.base.traits import TRAITS, Trait

WIDTHS = (1280, 390)
LONG_WORD = "Donau" * 2000
RIGHT_TO_LEFT = "أنا أحب الشاي كثيرا! 🎉 שלום"
OVERRIDE = "\u202etxet eht snrut \u2066 tahw \u202d"
HOSTILE = (
    '</p></script><script>document.title = "taken"</script><img src=x onerror="alert(1)">'
    '<a href="javascript:alert(2)">x</a><style>*{display:none}</style>&amp; {{ 7 * 7 }}'
)
TEXTS = [HOSTILE + OVERRIDE, LONG_WORD + "\x00\x0b\x1b[31m\ufeff 🎉", RIGHT_TO_LEFT, "so " * 3000]
NO_SIDEWAYS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
# Text that sticks out of its own box, unless that box, or one around it, scrolls or is not shown.
STICKING_OUT = """() => [...document.querySelectorAll("main *")].filter(e =>
  e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).display !== "inline"
  && !e.closest("[data-scrolls], svg")).map(e => e.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """A run of one trait whose models, data and paths are as bad as can be."""
    path = tmp_path_factory.mktemp("made") / ("deep" * 20) / "run"
    folder = run_folder(path, [Trait.NEUROTICISM], only="rates|merge|denoising-z")
    rates(Trait.NEUROTICISM, 0).save(folder.file("neuroticism", "rates-tuned.safetensors"))
    asked = [answers([text], question=text)[0] for text in TEXTS]
    folder.save_responses(asked, "neuroticism", "responses.json")
    silent = [answers([""], question=text)[0] for text in TEXTS]
    folder.save_responses(silent, "base", "responses-dense.json")
    base = f"/very/{'long' * 60}/{HOSTILE}"
    config = folder.manifest["config"] | {"base": base}
    folder.note(config=config, command=HOSTILE + LONG_WORD, hashes={HOSTILE: LONG_WORD})
    folder.note(skipped={"neuroticism/lens": HOSTILE + LONG_WORD}, status="running")
    return report.write(folder)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_that_a_model_wrote_runs_or_overflows(opened, strange, width) -> None:
    with opened(strange, width=width) as page:
        page.evaluate("document.querySelectorAll('details').forEach(box => { box.open = true; })")
        assert page.title().startswith("Emoji trace: neuroticism")
        assert page.locator("script").count() == 1
        assert page.locator("img").count() == page.locator("figure img").count() > 0
        assert page.evaluate(NO_SIDEWAYS)
        assert page.evaluate(STICKING_OUT) == []
        assert page.get_by_text(HOSTILE.split("&")[0]).count() >= 3


def test_control_characters_are_written_out(strange) -> None:
    text = strange.read_text(encoding="utf-8")
    found = {one for one in text if category(one) == "Cc"} - {"\n", "\t"}
    assert not found
    assert r"\x00\x0b\x1b[31m" in text


def test_text_from_right_to_left_is_set_so(opened, strange) -> None:
    with opened(strange) as page:
        rows = page.locator("table.answers tbody tr")
        said = rows.filter(has_text="أنا").locator("[dir=auto]")
        directions = said.evaluate_all("all => all.map(e => getComputedStyle(e).direction)")
        assert directions == ["rtl", "ltr", "rtl", "rtl"], "the base's silence, and an answer"
        assert rows.first.locator(".asked").evaluate("e => getComputedStyle(e).direction") == "ltr"


def test_one_trait_needs_no_switch(opened, strange) -> None:
    with opened(strange, at="#trait=openness") as page:
        assert page.locator(".switch").count() == 0
        assert page.locator("#rates").is_visible()
        assert page.locator("#patching h2").is_visible()
        page.evaluate("document.querySelectorAll('details').forEach(box => { box.open = true; })")
        assert page.locator("#patching figure").first.is_visible()


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    return report.write(run_folder(tmp_path_factory.mktemp("five") / "run", TRAITS, only="rates-"))


@pytest.mark.parametrize("width", WIDTHS)
def test_five_traits_fit(opened, five, width) -> None:
    with opened(five, width=width) as page:
        assert page.evaluate(NO_SIDEWAYS)
        assert page.evaluate(STICKING_OUT) == []
        labels = page.locator(".switch label")
        rows = {round(label.bounding_box()["y"]) for label in labels.all()}
        assert labels.count() == 6
        assert len(rows) == (6 if width == 1280 else 1)
        assert labels.all_inner_texts() == (
            ["All traits", *(trait.capitalize() for trait in TRAITS)]
            if width == 1280
            else ["All", *"OCEAN"]
        )


def test_contents_fold_on_a_telephone_and_stand_beside_the_text_on_a_desk(opened, strange) -> None:
    with opened(strange, width=390) as page:
        link = page.get_by_role("link", name="Emoji rates")
        assert link.is_hidden()
        page.get_by_text("Contents", exact=True).press("Enter")
        link.click()
        link.wait_for(state="hidden")  # the fold is out of the way again
        rail, title = page.locator(".rail"), page.locator("#rates h2")
        comes_to(lambda: rail.bounding_box()["y"], 0)
        comes_to(lambda: rail.bounding_box()["height"] <= title.bounding_box()["y"] < 300, True)
        page.set_viewport_size({"width": 1280, "height": 900})
        link.wait_for()
        main = page.locator("main")
        comes_to(lambda: link.bounding_box()["x"] < main.bounding_box()["x"], True)


def test_an_unfinished_run_says_so_first_and_how_to_go_on(opened, strange) -> None:
    with opened(strange) as page:
        notice = page.locator("aside.notice")
        assert "not finished" in notice.inner_text()
        assert f"interp run resume {strange.parent}" in notice.inner_text()
        notice.get_by_role("link").click()
        rows = page.locator("#missing li")
        comes_to(lambda: page.locator("#missing").bounding_box()["y"] < 900, True)
        assert "lens" in rows.first.inner_text()
        assert "resume" not in rows.first.inner_text(), "what was skipped, is not to be resumed"
        assert "not done yet" in rows.last.inner_text()
