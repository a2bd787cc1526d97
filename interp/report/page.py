"""The page: sections into one HTML file that needs no network.

Everything is inside the file: style, script, figures (SVG as data URIs), answers. A content
security policy names the one style sheet and the one script by their SHA-256 and forbids every
other, and every request. It allows style attributes, because each token of a token view carries its
colour in one; an attribute styles its own element and can load nothing. Whatever a model, a data
set or a path wrote is escaped by Jinja; only the figures' own data URIs, which hold no markup
characters, and the token views, which escape for themselves, are not. Without its script the page
shows all traits and unsorted tables.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from interp.base.errors import visible
from interp.base.outcomes import Asked, reworded
from interp.base.traits import TRAITS, Trait, in_order
from interp.behaviour.occurrences import in_text
from interp.report.absent import Gaps
from interp.report.blocks import FIGURES, TABLES, Section
from interp.report.collect import Contents
from interp.report.facts import facts, settings
from interp.report.summary import Summary
from interp.report.wording import percent
from interp.show.plots.style import trait_colour
from interp.show.views import SCRIPT, STYLE

_ROOM = files("interp.report") / "templates"


def page(
    contents: Contents, summary: Summary | None, sections: Sequence[Section], gaps: Gaps
) -> str:
    """The report's HTML."""
    style, script = sheet(contents.labels), _script()
    page = (
        environment(contents.asked)
        .get_template("page.html")
        .render(
            title=_title(contents),
            base=_name(contents),
            traits=contents.labels,
            facts=facts(contents),
            summary=summary,
            sections=sections,
            gaps=gaps,
            settings=settings(contents.manifest),
            style=Markup(style),
            script=Markup(script),
            policy=policy(style, script),
            figures_at=FIGURES,
            tables_at=TABLES,
        )
    )
    return visible(page)


def environment(asked: Asked) -> Environment:
    """Templates that speak of an outcome; everything they are given is escaped."""
    made = Environment(
        loader=PackageLoader("interp.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    name = asked.name
    made.filters["emojis"] = partial(_marked, asked)
    made.filters["said"] = lambda text: reworded(text, name)
    made.filters["asis"] = Markup
    made.filters["key"] = lambda trait: trait.key if trait else "all"
    made.filters["unbroken"] = _unbroken
    made.filters["percent"] = percent
    return made


def sheet(labels: Iterable[Trait]) -> str:
    """The style sheet, with the traits' colours and the rules of the trait switch."""
    rules = [(_ROOM / "page.css").read_text(encoding="utf-8")]
    for trait in in_order({*TRAITS, *labels}):
        key = trait.key
        rules.append(f".{key} {{ --trait: {trait_colour(trait)}; }}")
        hidden = f'[data-show="{key}"] main [data-trait]:not([data-trait="{key}"])'
        rules.append(f"@media screen {{ {hidden} {{ display: none; }} }}")
    return "\n".join([STYLE, *rules]) + "\n"


def _script() -> str:
    """Our script, then the one that brings token views to life."""
    return (_ROOM / "page.js").read_text(encoding="utf-8") + SCRIPT


def policy(style: str, script: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src-elem {_hash(style)}",
            "style-src-attr 'unsafe-inline'",
            f"script-src {_hash(script)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    """A source expression that allows one inline text; `text` must stand alone in its element."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _title(contents: Contents) -> str:
    names = contents.labels
    what = reworded("Emoji trace", contents.asked.name)
    return f"{what}: {', '.join(names) if len(names) < 4 else f'{len(names)} traits'}"


def _name(contents: Contents) -> str:
    """The base's name: a folder's last part, or a hub id as it is."""
    base = str(contents.manifest.get("config", {}).get("base", "unknown base")).rstrip("/")
    return base.rsplit("/", 1)[-1] if base.startswith(("/", ".")) or base.count("/") > 1 else base


def _unbroken(text: str) -> str:
    """No line break between a number and its percent sign, or within an interval."""
    text = text.replace(" %", "\u00a0%")
    return re.sub(r" \[([^\[\] ]+), ([^\[\] ]+)\]", "\u00a0[\\1,\u00a0\\2]", text)


def _marked(asked: Asked, text: str) -> Markup:
    """`text` escaped, with the outcome in a `<mark>` wherever its text is known."""
    parts, place = [], 0
    for match in in_text(asked, text):
        parts.append(Markup("{}<mark>{}</mark>").format(text[place : match.start], match.text))
        place = match.end
    return Markup("").join([*parts, text[place:]])
