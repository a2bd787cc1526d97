"""The page: sections into one HTML file that needs no network.

Everything is inside the file: style, figures (SVG as data URIs), answers. A content security policy
forbids scripts and every request. Whatever a model, a data set or a path wrote is escaped by
Jinja; only the figures' own data URIs, which hold no markup characters, are not.
"""

import re
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from interp.emoji import find
from interp.plots.style import BASE_COLOUR, TRAIT_COLOURS
from interp.report.blocks import FIGURES, TABLES, Section
from interp.report.collect import Contents
from interp.report.methods import facts, methods, versions


def page(contents: Contents, sections: Sequence[Section]) -> str:
    """The report's HTML."""
    environment = Environment(
        loader=PackageLoader("interp.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["emojis"] = _marked
    environment.filters["uri"] = Markup
    environment.filters["unbroken"] = _unbroken
    return environment.get_template("page.html").render(
        title=_title(contents),
        facts=facts(contents),
        sections=sections,
        missing=list(contents.missing),
        methods=methods(contents),
        versions=versions(contents.manifest),
        complete=contents.manifest.get("status") == "complete",
        colours={str(trait): colour for trait, colour in TRAIT_COLOURS.items()},
        base_colour=BASE_COLOUR,
        figures_at=FIGURES,
        tables_at=TABLES,
    )


def _title(contents: Contents) -> str:
    names = [one.trait.value for one in contents.traits]
    return f"Emoji trace: {', '.join(names) if len(names) < 4 else f'{len(names)} traits'}"


def _unbroken(text: str) -> str:
    """No line break between a number and its percent sign, or within an interval."""
    text = text.replace(" %", "\u00a0%")
    return re.sub(r"\[([^\[\] ]+), ([^\[\] ]+)\]", "[\\1,\u00a0\\2]", text)


def _marked(text: str) -> Markup:
    """`text` escaped, with every emoji in a `<mark>`."""
    parts, place = [], 0
    for match in find(text):
        parts.append(Markup("{}<mark>{}</mark>").format(text[place : match.start], match.text))
        place = match.end
    return Markup("").join([*parts, text[place:]])
