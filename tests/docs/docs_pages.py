"""README and docs/ taken apart: code blocks by language, commands in text, links and anchors."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^(?P<mark>```+)(?P<kind>[^\n`]*)\n(?P<code>.*?)^(?P=mark)\s*$", re.M | re.S)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_BEFORE = re.compile(r"^(?:(?:[A-Z_]+=\S+|time|/usr/bin/time -v)\s+)*(?:\.venv/bin/)?")
TOOLS = ("interp", "make", "python", "pip", "mkdocs", "jupyter", "ray", "du")


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def blocks(self, *kinds: str) -> list[str]:
        """The code of every fenced block of these kinds, in order."""
        return [m["code"] for m in _FENCE.finditer(self.text) if m["kind"].strip() in kinds]

    @property
    def kinds(self) -> set[str]:
        return {match["kind"].strip() for match in _FENCE.finditer(self.text)}

    @property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _FENCE.sub("", self.text)

    def commands(self) -> list[str]:
        """Every command of the shell blocks, one line each."""
        joined = (code.replace("\\\n", " ") for code in self.blocks("sh"))
        lines = (" ".join(line.split()) for code in joined for line in code.splitlines())
        return [bare(line) for line in lines if line and not line.startswith("#")]

    def named(self) -> list[str]:
        """Commands that the prose names between backticks."""
        spans = (bare(span) for span in _SPAN.findall(self.prose))
        return [span for span in spans if span.split(" ")[0] in TOOLS and " " in span]


def bare(command: str) -> str:
    """A command without what sets the environment or takes the time, and with a bare tool name."""
    return _BEFORE.sub("", command.strip())


@cache
def pages() -> dict[str, Page]:
    """README.md and every page of docs/, by its place."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {page.name: page for page in map(Page, found)}
