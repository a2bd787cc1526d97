"""The site builds without a warning, holds every page, needs no network; every link leads on."""

import contextlib
import logging
import pkgutil
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from docs_pages import ROOT, pages
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from thinned import turn

import interp

IMAGES = {  # where the figures of README and docs come from
    "text-or-weights.png": "make demo",
    "emoji-rate.png": "make experiments",
    "real-text-or-weights.png": "make real SIZE=small",
    "real-five-labels.png": "make real\n",
    "circuit-extraversion.png": "plots.circuit_graph(circuit",
}
LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
today = turn(0, of=3)  # to build the site takes half a minute


class Html(HTMLParser):
    """What a page loads, where it links to, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag in LOADS and given.get(LOADS[tag]) and given.get("rel") != "canonical":
            self.loads.append(given[LOADS[tag]])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("mkdocs").addHandler(handler)
    config.plugins.on_startup(command="build", dirty=False)
    with contextlib.suppress(Abort):
        build(config)
    logging.getLogger("mkdocs").removeHandler(handler)
    assert not said, "\n".join(said)
    return folder


@pytest.fixture(scope="module")
def built(site) -> dict[str, Html]:
    return {p.relative_to(site).as_posix(): Html(p) for p in sorted(site.rglob("*.html"))}


@pytest.mark.slow
@today
def test_every_page_and_notebook_is_in_the_site_and_its_contents(built):
    wanted = [name.removeprefix("docs/") for name in pages() if name != "README.md"]
    wanted += [f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")]
    home = {unquote(link) for link in built["index.html"].links}
    for name in wanted:
        html = str(Path(name).with_suffix(".html"))
        assert html in built
        assert html in home, f"{name} is not in the contents (nav of mkdocs.yml)"


@today
def test_every_room_is_in_the_reference_with_what_it_exports(built):
    folder = Path(interp.__file__).parent
    floors = ("models", "readout", "behaviour", "measures", "organism", "study", "report")
    public = {*interp.ROOMS, *floors}
    every = (path.relative_to(folder).with_suffix("").parts for path in folder.glob("*/*"))
    rooms = {".".join(parts) for parts in every if parts[1][0] != "_"}
    pages = {Path(name).stem for name in built if "reference/" in name} - {"index"}
    assert {"interp.behaviour.contrasts.contrast"} <= built["reference/index.html"].ids
    assert public <= pages
    assert pages - public <= rooms
    for name in rooms - pages:  # shown under a short name, or by a floor that exports names
        floor, _, room = name.partition(".")
        assert room in interp.ROOMS or floor in public or floor == "cli" or room == "console", name
    anchors = {
        name: built[f"reference/{name}.html"].ids for name in ("patching", "neurons", "emoji")
    }
    # `screen`, `rank` and `find` are modules as well as functions.
    traces = "interp.traces"
    assert {f"{traces}.patching.screen.screen", f"{traces}.patching.sweep"} <= anchors["patching"]
    assert {f"{traces}.neurons.rank.rank", f"{traces}.neurons.NeuronShift"} <= anchors["neurons"]
    assert {"interp.text.emoji.find.find", "interp.text.emoji.EmojiVocab"} <= anchors["emoji"]


@today
def test_nothing_is_fetched_from_a_network(built, site):
    for name, page in built.items():
        away = [url for url in page.loads if url.startswith(("http:", "https:", "//"))]
        assert not away, f"{name} loads {away[0]}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", sheet.read_text()), sheet
    for name in built:
        if name.startswith("notebooks/"):
            text = (site / name).read_text(encoding="utf-8").lower()
            assert "cdn" not in re.sub(r"data:[\w/+;,=]*", "", text), name  # pictures aside


@today
def test_every_link_and_anchor_leads_somewhere(built, site):
    for name, page in built.items():
        if name == "404.html":  # its links are from the root of a server
            continue
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("data:"):
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            assert target.exists(), f"{name} links to {link}"
            there = target.resolve().relative_to(site.resolve()).as_posix()
            if parts.fragment and there in built:
                assert unquote(parts.fragment) in built[there].ids, f"{name} links to {link}"


@today
def test_the_commands_page_shows_the_command_line(built, site):
    ids = built["command-line.html"].ids
    assert {"interp-demo", "interp-trace", "interp-run-status", "interp-data-check"} <= ids
    text = (site / "command-line.html").read_text(encoding="utf-8")
    assert "--supervise-eos / --no-supervise-eos" in text
    assert "<!-- every command" not in text


def test_links_of_the_readme_lead_somewhere():
    text = pages()["README.md"].text
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 5
    for link in links:
        if not urlsplit(link).scheme:
            assert (ROOT / link.partition("#")[0]).exists(), link


def test_files_named_in_the_text_exist():
    for page in pages().values():
        named = re.findall(
            r"`((?:docs|interp|tests|experiments|benchmarks|notebooks)/[\w./-]+)`", page.prose
        )
        for path in named:
            assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_figures_come_from_a_command_that_a_page_gives():
    used = {
        image: page
        for page in pages().values()
        for image in re.findall(r"\]\((?:\.\./|docs/)?images/([\w-]+\.png)\)", page.text)
    }
    shown = {path.name for path in (ROOT / "docs" / "images").glob("*.png")}
    assert set(used) == shown == set(IMAGES)
    for image, page in used.items():
        assert IMAGES[image] in page.text, f"{page.name} does not say how {image} is made"


def test_every_name_of_the_start_page_is_there():
    text = pages()["docs/reference/index.md"].text
    names = set(re.findall(r"`(interp(?:\.\w+)+)`", text))
    assert len(names) > 40
    for name in names:
        pkgutil.resolve_name(name)
