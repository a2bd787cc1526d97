"""A headless Chromium for tests of the report; they skip, with the reason, where there is none."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Playwright's handle on the system's Chromium."""
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


Opener = Callable[..., Any]


@pytest.fixture(scope="module")
def opened(browser) -> Opener:
    """Opens a file in a page of its own; leaving it asserts that nothing went wrong meanwhile.

    Nothing: no console error or refused rule, no exception, no dialog, no request but the file's.
    """

    @contextmanager
    def visit(path: Path, *, width: int = 1280, at: str = "", **context: Any) -> Iterator[Any]:
        viewport = {"width": width, "height": 900}
        rooms = browser.new_context(viewport=viewport, **context)
        rooms.set_default_timeout(1000 * PATIENCE)
        page, wrong = rooms.new_page(), []
        page.on("console", lambda said: wrong.append(f"console: {said.text}"))
        page.on("pageerror", lambda problem: wrong.append(f"error: {problem}"))
        page.on("dialog", lambda dialog: (wrong.append("dialog"), dialog.dismiss()))
        page.on("request", lambda asked: _note(wrong, asked.url, path))
        page.goto(path.as_uri() + at)
        yield page
        rooms.close()
        assert not wrong

    return visit


def _note(wrong: list[str], url: str, path: Path) -> None:
    if not url.startswith("data:") and url.split("#")[0] != path.as_uri():
        wrong.append(f"request: {url}")
