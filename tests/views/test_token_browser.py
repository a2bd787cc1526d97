"""A token view in a real browser: silent, by mouse and keyboard, on a phone, in both schemes."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from thinned import turn
from waiting import PATIENCE, comes_to

WIDE, PHONE = 1100, 390


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on the path; install it, or name it in CHROMIUM")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(
            executable_path=path, args=["--no-sandbox"], timeout=1000 * PATIENCE
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def file(view, tmp_path_factory):
    return view.save_html(tmp_path_factory.mktemp("view") / "view.html")


@contextmanager
def opened(browser, file, width: int = WIDE, **context) -> Iterator[Any]:
    """The file in a page; leaving it asserts that nothing was said, asked for or went wrong."""
    room = browser.new_context(viewport={"width": width, "height": 900}, **context)
    room.set_default_timeout(1000 * PATIENCE)
    page, wrong = room.new_page(), []
    page.on("console", lambda said: wrong.append(said.text))
    page.on("pageerror", lambda problem: wrong.append(str(problem)))
    page.on("dialog", lambda dialog: (wrong.append("dialog"), dialog.dismiss()))
    page.on("request", lambda asked: None if asked.url == file.as_uri() else wrong.append(asked))
    page.goto(file.as_uri())
    yield page
    room.close()
    assert not wrong


def percent_of(share: float) -> str:
    value = 100 * share
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def test_mouse_and_keyboard_open_the_same_panel(browser, file, view) -> None:
    with opened(browser, file) as page:
        tokens, panel = page.locator("[role=option]"), page.locator(".itv-panel")
        assert tokens.count() == len(view.tokens)
        place = int((view.top_probability[1, :, 0] - 0.5).abs().argmin())
        tokens.nth(place).hover()
        panel.get_by_text(f"token {place + 1} of {len(view.tokens)}").wait_for()
        hovered = panel.inner_text()
        assert percent_of(float(view.top_probability[1, place, 0])) in hovered
        assert panel.locator(".itv-row").count() == 2 * view.top_ids.shape[-1]
        page.mouse.move(2, 2)
        tokens.nth(place).focus()
        comes_to(panel.inner_text, hovered)
        page.keyboard.press("ArrowLeft")
        panel.get_by_text(f"token {place} of").wait_for()
        page.keyboard.press("End")
        last = panel.get_by_text(f"token {len(view.tokens)} of")
        last.wait_for()
        page.keyboard.press("ArrowUp")
        last.wait_for(state="detached")
        assert "token " in panel.inner_text()
        page.keyboard.press("Escape")
        panel.wait_for(state="hidden")


COUNT_LAYOUTS = """view => {
  const text = view.querySelector(".itv-text");
  window.seen = {layouts: -1, panels: 0};  // an observer speaks once when it begins
  const places = () => [...text.querySelectorAll("[role=option]")].map(
    one => Object.values(one.getBoundingClientRect().toJSON()).join()).join(";");
  let before = places();
  new ResizeObserver(() => window.seen.layouts++).observe(text);
  new MutationObserver(() => window.seen.panels++).observe(
    view.querySelector(".itv-panel"), {childList: true});
  const look = () => {
    const now = places();
    if (now !== before) window.seen.layouts++;
    before = now;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.mark.parametrize("width", [WIDE, 700, PHONE])
def test_a_closed_panel_opens_once_and_moves_no_token(browser, file, view, width) -> None:
    with opened(browser, file, width) as page:
        page.locator(".itv-close").click()
        panel, tokens = page.locator(".itv-panel"), page.locator("[role=option]")
        panel.wait_for(state="hidden")
        page.locator(".itv").evaluate(COUNT_LAYOUTS)
        comes_to(lambda: page.evaluate("window.seen.layouts"), 0)
        for place in range(0, len(view.tokens), 5):
            tokens.nth(place).hover()
            panel.get_by_text(f"token {place + 1} of").wait_for()
            page.evaluate(DRAWN)  # what would move, has
            page.mouse.move(1, 1)  # off the text: the panel closes
            panel.wait_for(state="hidden")
            page.evaluate(DRAWN)
        seen = page.evaluate("window.seen")
        assert seen["layouts"] == 0
        assert seen["panels"] <= 2 * len(range(0, len(view.tokens), 5))


def test_it_opens_where_an_emoji_is_decided_and_leaves_marks_uncoloured(
    browser, file, view, vocab
) -> None:
    first = next(m.start for m in vocab.find_tokens(view.tokens[view.answer_start :].tolist()))
    with opened(browser, file) as page:
        said = page.locator(".itv-where").inner_text()
        place = int(re.search(r"token (\d+) of", said)[1]) - 1
        assert view.answer_start - 1 <= place < view.answer_start + first
        colours = page.locator("[role=option]").evaluate_all(
            "all => all.map(one => getComputedStyle(one).backgroundColor)"
        )
    clear = {place for place, colour in enumerate(colours) if colour.endswith("/ 0)")}
    clear |= {place for place, colour in enumerate(colours) if colour.endswith(", 0)")}
    assert view.bare
    assert clear >= set(view.bare)
    assert clear != set(range(len(view.tokens)))


def test_a_head_underlines_where_it_looks(browser, file, view) -> None:
    with opened(browser, file) as page:
        layer, head = page.locator(".itv-look select").all()
        place, (of_layer, of_head) = len(view.tokens) - 1, view.heads[-1]
        layer.select_option(str(of_layer))
        head.select_option(str(of_head))
        page.locator("[role=option]").nth(place).focus()
        panel = page.locator(".itv-panel")
        panel.get_by_text(f"token {place + 1} of").wait_for()
        panel.get_by_text(f"Layer {of_layer} head {of_head}").wait_for()
        drawn = page.locator("[role=option]").evaluate_all(
            "all => all.map(one => +one.style.getPropertyValue('--a'))"
        )
        weights = view.attention[1, -1, place].float().tolist()
        for shown, weight in zip(drawn, weights, strict=True):
            assert shown**2 == pytest.approx(weight, abs=0.03)
        head.select_option(str(view.heads[0][1]))
        panel.get_by_text(f"Layer {of_layer} head {view.heads[0][1]}").wait_for()
        other = page.locator("[role=option]").evaluate_all(
            "all => all.map(one => +one.style.getPropertyValue('--a'))"
        )
        assert other != drawn


def test_the_three_colours_differ(browser, file) -> None:
    with opened(browser, file) as page:
        levels = "all => all.map(one => one.style.getPropertyValue('--v')).join()"
        seen = set()
        for button in page.locator(".itv-switch button").all():
            button.click()
            comes_to(partial(button.get_attribute, "aria-pressed"), "true")
            seen.add(page.locator("[role=option]").evaluate_all(levels))
        assert len(seen) == 3


def test_emojis_stay_whole(browser, file, view, vocab) -> None:
    emojis = {match.text for match in vocab.find_tokens(view.tokens.tolist())}
    with opened(browser, file) as page:
        text = page.locator(".itv-text").inner_text()
        assert emojis
        assert all(emoji in text for emoji in emojis)
        assert "\ufffd" not in page.locator("body").inner_text()


@pytest.mark.parametrize("width", [WIDE, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_scrolls_sideways(browser, file, width, scheme) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not there")
    with opened(browser, file, width, color_scheme=scheme, bypass_csp=True) as page:
        inside = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert page.evaluate(inside)
        found = axe.Axe().run(page).response
        assert "color-contrast" in {rule["id"] for rule in found["passes"]}
        serious = [
            (rule["id"], node["target"], node["failureSummary"])
            for rule in found["violations"]
            for node in rule["nodes"]
        ]
        assert not serious


def test_hostile_tokens_do_nothing(browser, view, tmp_path) -> None:
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    entries = tuple((i, bad.encode().hex(), "", emoji) for i, _, _, emoji in view.vocabulary)
    file = replace(view, vocabulary=entries, title=bad).save_html(tmp_path / "bad.html")
    with opened(browser, file, PHONE) as page:
        page.locator("[role=option]").nth(3).focus()
        panel = page.locator(".itv-panel")
        comes_to(lambda: "token 4 of" in panel.inner_text(), True)
        assert page.locator("img").count() == 0
        assert re.search(r"onerror", panel.inner_text())


@turn(2, of=3)
def test_many_views_and_cards_on_one_page(browser, view, pair, tmp_path) -> None:
    file = tmp_path / "many.html"
    cells = [view.to_html(), pair._repr_html_(), view.to_html()]
    file.write_text(f"<!doctype html><meta charset=utf-8>{''.join(cells)}", encoding="utf-8")
    with opened(browser, file) as page:
        assert page.locator(".itv[data-ready]").count() == 2
        first, second = page.locator(".itv-panel").all()
        before = second.inner_text()
        page.locator(".itv").first.locator("[role=option]").first.hover()
        first.get_by_text("token 1 of").wait_for()
        assert second.inner_text() == before
