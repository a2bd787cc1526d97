"""The report of a small real run in a real browser: loads, fits, reads, sorts, prints."""

import json
import re

import pandas as pd
import pytest
from geometry import printed
from thinned import thinned
from waiting import comes_to

from interp.base.traits import Trait
from interp.emoji import find
from interp.report.sections.origin import _SAID

TRAITS = (Trait.EXTRAVERSION, Trait.OPENNESS)
WIDTHS = (1280, 390)
OPEN_ALL = "document.querySelectorAll('details').forEach(box => { box.open = true; })"
NO_SIDEWAYS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def run(browser, finished):
    """A small real run of the organism, made by the command line."""
    assert browser.is_connected()
    return finished.path


@pytest.fixture(scope="module")
def page_file(run):
    return run / "report.html"


@pytest.mark.parametrize("width", WIDTHS)
def test_it_loads_in_silence_and_never_scrolls_sideways(opened, page_file, width) -> None:
    assert page_file.stat().st_size < 5_000_000
    with opened(page_file, width=width) as page:
        assert page.evaluate(NO_SIDEWAYS)
        page.evaluate(OPEN_ALL)
        assert page.evaluate(NO_SIDEWAYS)
        sticky = page.locator(".rail").evaluate("box => getComputedStyle(box).position")
        assert sticky == "sticky"
        unread = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert page.evaluate(unread) == 0
        assert page.locator("figure img").count() > 12


def test_every_figure_says_what_it_shows(opened, page_file) -> None:
    with opened(page_file) as page:
        for image in page.locator("main img").all():
            assert len(image.get_attribute("alt")) > 40
        assert page.locator("figure").count() == page.locator("figure figcaption").count()
        silent = "svg:not([aria-hidden]):not([role=img][aria-label])"
        assert page.locator(silent).count() == 0


@pytest.mark.parametrize(
    "seen", thinned([(1280, "light"), (390, "dark")], keep=2)
)  # the colours of both schemes, the layout of both widths
def test_axe_finds_nothing(opened, page_file, seen) -> None:
    width, scheme = seen
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not there")
    with opened(page_file, width=width, color_scheme=scheme, bypass_csp=True) as page:
        page.evaluate(OPEN_ALL)
        tags = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
        found = axe.Axe().run(page, options=tags).response
        assert len(found["passes"]) > 10, "axe looked at something"
        assert {rule["id"] for rule in found["passes"]} >= {"color-contrast", "image-alt"}
        broken = [
            f"{rule['id']}: {node['target']} {node['failureSummary']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]
        assert not broken


def test_contents_mark_where_one_is_down_to_the_last_line(opened, page_file) -> None:
    here = ".contents [aria-current]"
    with opened(page_file) as page:
        page.locator("#circuit").evaluate("e => e.scrollIntoView()")
        page.wait_for_selector(f"{here}[href='#circuit']")
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        page.wait_for_selector(f"{here}[href='#settings']")
        assert page.locator(here).count() == 1
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_selector(f"{here}[href='#summary']")


def test_a_link_that_was_cut_short_opens_the_page_all_the_same(opened, page_file) -> None:
    with opened(page_file, at="#tokens%E2%80") as page:
        page.get_by_role("link", name="Circuit", exact=True).click()
        comes_to(lambda: page.evaluate("location.hash"), "#circuit")
        comes_to(lambda: page.locator("#circuit").bounding_box()["y"] < 200, True)


def test_tab_reaches_everything_that_does_something(opened, page_file) -> None:
    with opened(page_file) as page:
        page.evaluate(OPEN_ALL)
        wanted = page.evaluate(
            """() => {
              const all = [...document.querySelectorAll("a[href], button, "
                + "main summary, input:checked, [type=search], select:enabled, [tabindex='0']")];
              const seen = all.filter(e => e.checkVisibility());
              seen.forEach((e, i) => { e.dataset.stop = i; });
              return seen.length;
            }"""
        )
        assert wanted > 80
        assert page.locator(".itv").count() == 3 * len(TRAITS)
        assert page.locator(".itv [role=option][data-stop]").count() == 3 * len(TRAITS)
        reached = set()
        for _ in range(2 * wanted):
            page.keyboard.press("Tab")
            stop = page.evaluate("document.activeElement?.dataset?.stop ?? null")
            reached.add(stop)
            if len(reached - {None}) == wanted:
                break
        assert reached - {None} == {str(i) for i in range(wanted)}


def test_a_token_view_answers_to_the_keyboard(opened, page_file) -> None:
    with opened(page_file, at="#tokens-openness") as page:
        view = page.locator("#tokens-openness .itv").first
        panel = view.locator(".itv-panel")
        view.locator("[role=option][tabindex='0']").focus()
        before = panel.inner_text()
        page.keyboard.press("ArrowLeft")
        comes_to(lambda: panel.inner_text() != before, True)
        assert re.search(r"token \d+ of \d+", panel.inner_text())
        assert "tuned" in panel.inner_text()


def test_more_answers_lie_in_folds_and_show_where_a_head_looks(opened, page_file) -> None:
    with opened(page_file, at="#tokens-openness-2") as page:
        fold, other = page.locator("#tokens-openness-2"), page.locator("#tokens-openness-3")
        assert fold.locator(".itv").is_visible(), "a link to it opens it"
        assert other.locator(".itv").is_hidden()
        assert "emoji: " in other.locator("summary").inner_text()
        named = page.locator(".itv").evaluate_all("all => all.map(e => e.ariaLabel)")
        assert all(name.endswith(("?", ".")) for name in named), "each by its question"
        layer, head = fold.locator("select").all()
        layers = layer.locator("option").all_inner_texts()
        assert layers == ["off", *(f"layer {i}" for i in range(len(layers) - 1))]
        assert len(layers) > 2
        layer.select_option("1")
        head.select_option("2")
        fold.locator(".itv-panel").get_by_text("Layer 1 head 2 attends to").wait_for()
        drawn = "all => Math.max(...all.map(one => +one.style.getPropertyValue('--a')))"
        assert fold.locator("[role=option]").evaluate_all(drawn) > 0.3


POINT_AT_ALL = """view => [...view.querySelectorAll("[role=option]")].map(token => {
  token.dispatchEvent(new MouseEvent("mouseenter"));
  return view.querySelectorAll(".itv-nats")[1].textContent;
})"""


def test_the_words_above_a_view_say_the_numbers_in_it(opened, page_file) -> None:
    with opened(page_file) as page:
        page.evaluate(OPEN_ALL)
        for view in page.locator(".itv").all():
            words = view.evaluate("e => e.previousElementSibling.textContent")
            said = re.search(r"\(([+−]\d+\.\d\d) nats apart\)", words)[1]
            seen = view.evaluate(POINT_AT_ALL)
            assert said in {text.split("(")[1].rstrip(")") for text in seen}


def test_arrow_keys_switch_traits_and_the_address_remembers(opened, page_file) -> None:
    parts = "[...document.querySelectorAll('main details.part')].filter(e => e.checkVisibility())"
    shown = f"[...new Set({parts}.map(e => e.dataset.trait))]"
    with opened(page_file) as page:
        everything = page.evaluate(f"{parts}.length")
        assert set(page.evaluate(shown)) == set(TRAITS)
        page.get_by_role("radio", name="All traits").focus()
        page.keyboard.press("ArrowDown")
        comes_to(lambda: page.evaluate(shown), ["extraversion"])
        comes_to(lambda: page.evaluate("location.hash"), "#trait=extraversion")
        rows = "[...document.querySelectorAll('tbody tr')].filter(e => e.checkVisibility())"
        page.evaluate(OPEN_ALL)
        assert set(page.evaluate(f"{rows}.map(e => e.dataset.trait || 'base')")) == {
            "extraversion", "base"
        }  # fmt: skip
        page.get_by_role("link", name="Circuit", exact=True).click()
        comes_to(lambda: page.evaluate("location.hash"), "#circuit&trait=extraversion")
        comes_to(lambda: page.evaluate(shown), ["extraversion"])
        page.emulate_media(media="print")  # paper shows all
        comes_to(lambda: page.evaluate(f"{parts}.length"), everything)
        page.emulate_media(media="screen")
        page.reload()
        comes_to(lambda: page.evaluate(shown), ["extraversion"])
        page.go_back()
        comes_to(lambda: page.evaluate("location.hash"), "#trait=extraversion")
        page.get_by_role("radio", name="All traits").check()
        comes_to(lambda: set(page.evaluate(shown)), set(TRAITS))


def test_where_one_trait_is_shown_what_is_said_of_all_says_so(opened, page_file) -> None:
    said = "[...document.querySelectorAll('.answer, .findings b')]"
    before = f"[...new Set({said}.map(e => getComputedStyle(e, '::before').content))]"
    with opened(page_file) as page:
        assert page.evaluate(before) == ["none"]
        page.get_by_role("radio", name="Openness").check()
        comes_to(lambda: page.evaluate(before), ['"All traits: "'])
        page.emulate_media(media="print")  # paper shows all
        comes_to(lambda: page.evaluate(before), ["none"])


@pytest.mark.parametrize(
    ("at", "fold"),
    [("#lens-probability", "#lens-more"), ("#tokens-openness-2", "#tokens-openness")],
)
def test_a_link_into_a_fold_opens_it_and_shows_its_trait(opened, page_file, at, fold) -> None:
    with opened(page_file, at=f"{at}&trait=extraversion") as page:
        target = page.locator(at)
        target.wait_for()
        assert page.locator(fold).get_attribute("open") is not None
        comes_to(lambda: 0 <= target.bounding_box()["y"] < 900, True)


def test_who_asks_for_one_trait_sees_its_detail(opened, page_file) -> None:
    with opened(page_file) as page:
        view = page.locator("#tokens-openness .itv").first
        assert view.is_hidden()
        page.get_by_role("radio", name="Openness").check()
        view.wait_for()
        page.locator("#tokens-extraversion").wait_for(state="hidden")


def test_answers_are_found_by_words_writer_label_and_emoji(opened, run, page_file) -> None:
    rows = "[...document.querySelectorAll('.answers tbody tr')].filter(e => e.checkVisibility())"
    with opened(page_file) as page:
        form = page.get_by_role("form", name="Filter the answers")
        total = page.evaluate(f"{rows}.length")
        files = ["base/responses-dense", *(f"{trait}/responses" for trait in TRAITS)]
        written = [one for file in files for one in json.loads((run / f"{file}.json").read_text())]
        assert total == len(written)
        form.get_by_label("Emoji").select_option("yes")
        with_emoji = sum(bool(find(one["text"])) for one in written)
        assert with_emoji > 0
        comes_to(lambda: page.evaluate(f"{rows}.length"), with_emoji)
        assert form.locator("output").inner_text() == f"{with_emoji} of {total} answers"
        form.get_by_label("Emoji").select_option("")
        form.get_by_label("Writer").select_option("base")
        writers = f"{rows}.map(e => e.cells[0].textContent)"
        comes_to(lambda: set(page.evaluate(writers)), {"base"})
        form.get_by_label("Writer").select_option("tuned")
        form.get_by_label("Label").select_option("openness")
        comes_to(lambda: set(page.evaluate(f"{rows}.map(e => e.dataset.trait)")), {"openness"})
        form.get_by_label("Search").fill("no such words")
        comes_to(lambda: page.evaluate(f"{rows}.length"), 0)
        form.get_by_label("Search").fill(written[-1]["text"][:12].upper())
        comes_to(lambda: page.evaluate(f"{rows}.length") >= 1, True)


def test_an_answer_leads_to_its_token_view(opened, page_file) -> None:
    with opened(page_file) as page:
        links = page.get_by_role("link", name=re.compile("This answer token by token"))
        assert links.count() == 3 * len(TRAITS)
        target = page.locator("#tokens-openness-2")
        assert target.is_hidden()
        page.locator("table.answers a[href='#tokens-openness-2']").click()
        target.wait_for()


COLUMNS = {
    "esr": ("Answers with an emoji", "share"),
    "merge": ("Max KL", "max_kl"),
    "origin": ("Tuned text, base reads", "probability"),
}


@pytest.mark.parametrize(
    ("stem", "how"), [("esr", "click"), ("merge", "Enter"), ("origin", "Space")]
)
def test_sorting_gives_the_order_of_pandas(opened, run, page_file, stem, how) -> None:
    column, name = COLUMNS[stem]
    table = pd.read_csv(run / "tables" / f"{stem}.csv")
    if stem == "esr":
        table = table[table["rate"] == "responses with an emoji"]
    elif stem == "origin":
        table = table[(table["writer"] == "tuned") & (table["reader"] == "base")]
        table["quantity"] = table["quantity"].map(_SAID).str.lower()
    keys = {"esr": ["trait", "model"], "origin": ["trait", "quantity"]}.get(stem, ["trait"])
    table = table.set_index(keys)[name]
    with opened(page_file) as page:
        page.evaluate(OPEN_ALL)
        shown = page.locator(f"#table-{stem} table")
        head = shown.locator("thead th", has=page.get_by_role("button", name=column, exact=True))
        cells = "rows => rows.map(r => [...r.cells].slice(0, %d).map(c => c.textContent.trim()))"
        before = shown.locator("tbody tr").evaluate_all(cells % len(keys))
        for rising in (True, False):
            if how == "click":
                head.get_by_role("button").click()
            else:
                head.get_by_role("button").press(how)
            order = [tuple(w.lower() for w in row) for row in before]
            values = pd.Series([float(table.loc[k if len(k) > 1 else k[0]]) for k in order], order)
            expected = values.sort_values(ascending=rising, kind="stable").index
            direction = "ascending" if rising else "descending"
            comes_to(lambda: head.get_attribute("aria-sort"), direction)
            after = shown.locator("tbody tr").evaluate_all(cells % len(keys))
            assert [tuple(w.lower() for w in row) for row in after] == [
                k if isinstance(k, tuple) else (k,) for k in expected
            ]
            assert shown.locator("th[aria-sort]").count() == 1
            before = after


CLICK_ALL = """() => [...document.querySelectorAll("table.sortable")].flatMap(table =>
  [...table.tHead.rows[0].cells].flatMap((head, column) => {
    const button = head.querySelector("button");
    return !button ? [] : [1, -1].map(sign => {
      button.click();
      const cells = [...table.tBodies[0].rows].map(row => row.cells[column].innerText);
      return [head.innerText, "numeric" in head.dataset, sign, cells];
    });
  }))"""


def test_every_column_sorts_by_what_it_shows(opened, page_file) -> None:
    """Every head of every table: the numbers that lead the cells rise, then fall."""
    with opened(page_file) as page:
        page.evaluate(OPEN_ALL)
        sorted_by = page.evaluate(CLICK_ALL)
    assert len(sorted_by) > 80
    for head, numeric, sign, cells in sorted_by:
        if not numeric:
            assert cells == sorted(cells, reverse=sign < 0), head
        elif head != "Above zero":  # shows words, sorts by layer
            plain = pd.Series(cells).str.replace("−", "-").str.replace(",", "")
            leading = plain.str.extract(r"^(?:< )?([-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?)")[0]
            known = (sign * pd.to_numeric(leading).dropna()).tolist()
            assert known, head
            assert known == sorted(known), head


def test_print_cuts_no_figure_and_shows_every_fold(opened, page_file) -> None:
    with opened(page_file) as page:
        assert page.locator("main details:not([open])").count() > 5
        figures = page.locator("figure").count()
        boxes, height, pages = printed(page, "figure")
    assert len(boxes) == figures, "figures in folds are printed, too"
    assert pages > 5
    for box in boxes:
        top, bottom = box["top"], box["bottom"]
        assert top.page == bottom.page
        assert 20 < bottom.y < top.y < height - 20
        assert top.y - bottom.y > 60, "no figure is squeezed to nothing"


def test_without_its_script_the_page_shows_everything(opened, page_file) -> None:
    with opened(page_file, java_script_enabled=False, width=390) as page:
        for trait in TRAITS:
            assert page.locator(f"#tokens-{trait} summary").first.is_visible()
            assert page.locator(f"#table-answers tr.{trait}").first.is_visible()
        assert page.locator("form.filters").is_hidden()
        assert page.locator("#probing-numbers summary").is_visible()
        assert page.locator(".switch").is_hidden()
        assert page.locator("thead button").count() == 0
        assert page.get_by_role("link", name="Circuit", exact=True).is_visible()
        assert page.locator("#table-answers thead th").first.inner_text() == "Writer"
