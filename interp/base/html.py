"""How objects show themselves in a notebook or browser: one palette, and one kind of card.

A card has a heading, facts, a note, tables and pictures. It brings its style along, so that it can
stand in any page; everything given as text is escaped.

Which of the two holds is the reader's choice: the system's (`prefers-color-scheme`), unless the
page around says otherwise: JupyterLab's theme, VS Code's theme, mkdocs-material's scheme, or
`data-theme` on the root element. Every view paints its own ground, so that its contrast does not
depend on the page: text has at least 4.5:1 on every colour of the scale, in both.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from html import escape
from math import isfinite
from numbers import Integral, Real
from typing import Any

import pandas as pd

from interp.base.errors import one_line, visible

LIGHT = {
    "ink": "#1f2328",
    "soft": "#57606a",
    "ground": "#ffffff",
    "raised": "#f6f8fa",
    "line": "#d8dee4",
    "warm": "246 125 80",
    "cold": "112 174 235",
    "look": "130 80 223",
    "base": "#6b7177",
    "tuned": "#b3401a",
    "ring": "#a3360f",
    "focus": "#0b5cad",
}
DARK = {
    "ink": "#e6e9ed",
    "soft": "#a5aeb8",
    "ground": "#14171b",
    "raised": "#1d2228",
    "line": "#343b44",
    "warm": "172 62 20",
    "cold": "26 92 158",
    "look": "178 140 255",
    "base": "#a5aeb8",
    "tuned": "#ff9d75",
    "ring": "#ff9d75",
    "focus": "#7cb8ff",
}
_PAGES = {
    "light": (
        'body[data-jp-theme-light="true"]',
        "body.vscode-light",
        'html[data-theme="light"]',
        'body[data-md-color-scheme="default"]',
    ),
    "dark": (
        'body[data-jp-theme-light="false"]',
        "body.vscode-dark",
        "body.vscode-high-contrast:not(.vscode-high-contrast-light)",
        'html[data-theme="dark"]',
        'body[data-md-color-scheme="slate"]',
    ),
}


def themed(selector: str) -> str:
    """CSS that gives `selector` the palette as custom properties `--itv-…`."""
    light, dark = _properties(LIGHT, "light"), _properties(DARK, "dark")
    on_light = ",".join(f"{page} {selector}" for page in _PAGES["light"])
    on_dark = ",".join(f"{page} {selector}" for page in _PAGES["dark"])
    return (
        f"{selector}{{{light}}}\n"
        f"@media (prefers-color-scheme:dark){{{selector}{{{dark}}}}}\n"
        f"@media print{{{selector}{{{light}}}}}\n"
        f"{on_light}{{{light}}}\n{on_dark}{{{dark}}}\n"
    )


def shown(make: Callable[[Any], str]) -> Callable[[Any], str | None]:
    """For `_repr_html_`: None, which shows the text instead, where `make` fails."""

    @wraps(make)
    def safely(thing: Any) -> str | None:
        try:
            return make(thing)
        except Exception:  # a display that raises would hide the object
            return None

    return safely


def card(
    heading: str,
    of: str = "",
    facts: Mapping[str, object] | None = None,
    parts: Sequence[str] = (),
) -> str:
    """HTML of an object.

    Args:
        heading: what it is.
        of: what it was made of or from, beside the heading.
        facts: names and values, in order; values are shown by `cell`.
        parts: HTML to put below, made by `table`, `note` and the like.
    """
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(cell(value))}</dd></div>"
        for name, value in (facts or {}).items()
    )
    beside = f" <small>{escape(one_line(of))}</small>" if of else ""
    return visible(
        f'<style>{STYLE}</style><div class="irv"><div class="irv-head"><b>{escape(heading)}</b>'
        f"{beside}</div>{f'<dl>{items}</dl>' if items else ''}{''.join(parts)}</div>"
    )


def note(text: str) -> str:
    """A line of small print."""
    return f'<p class="irv-note">{escape(one_line(text))}</p>'


def chips(texts: Sequence[str], off: Sequence[bool] = (), *, grid: bool = False) -> str:
    """Short texts side by side, those that are `off` dashed; as a `grid`, large and even."""
    marks = [*off, *[False] * (len(texts) - len(off))]
    items = "".join(
        f'<li class="irv-off">{escape(text)}</li>' if mark else f"<li>{escape(text)}</li>"
        for text, mark in zip(map(one_line, texts), marks, strict=True)
    )
    return f'<ul class="irv-grid">{items}</ul>' if grid else f"<ul>{items}</ul>"


def table(frame: pd.DataFrame, most: int = 8) -> str:
    """The first rows of a table, which scrolls by itself where it is too wide."""
    head = frame.head(most)
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in head.dtypes]
    sides = [' class="irv-n"' if one else "" for one in numeric]
    names = "".join(
        f'<th scope="col"{side}>{escape(str(name))}</th>'
        for name, side in zip(head.columns, sides, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{side}>{escape(cell(value))}</td>" for value, side in zip(row, sides, strict=True)
        )
        + "</tr>"
        for row in head.itertuples(index=False, name=None)
    )
    left = f"{len(head)} of {len(frame):,} rows" if len(frame) > len(head) else ""
    return (
        '<div class="irv-wide" tabindex="0" role="region" aria-label="Table"><table><thead><tr>'
        f"{names}</tr></thead><tbody>{rows}</tbody></table></div>{note(left) if left else ''}"
    )


def cell(value: object) -> str:
    """A value as it stands in a card: four digits of a number, yes or no, a dash for nothing."""
    if value is None or value is pd.NA or value is pd.NaT:
        return "—"
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value)}"
    if isinstance(value, Real):
        number = float(value)
        return f"{number:.4g}" if isfinite(number) else "—" if number != number else f"{number}"
    text = one_line(str(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _properties(palette: dict[str, str], scheme: str) -> str:
    pairs = ";".join(f"--itv-{name}:{value}" for name, value in palette.items())
    return f"{pairs};color-scheme:{scheme}"


_LONGEST = 120
_FONTS = (
    'system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif,'
    '"Noto Color Emoji","Apple Color Emoji","Segoe UI Emoji"'
)
STYLE = themed(".irv") + (
    ".irv{background:var(--itv-ground);color:var(--itv-ink);border:1px solid var(--itv-line);"
    f"border-radius:10px;padding:.7rem 1rem .8rem;margin:.4rem 0;font:.88rem/1.45 {_FONTS};"
    "max-width:70rem;text-align:left}\n"
    ".irv *{box-sizing:border-box}\n"
    ".irv-head{overflow-wrap:anywhere}\n"
    ".irv-head b{font-size:1.08em}\n"
    ".irv small,.irv dt,.irv p.irv-note,.irv figcaption{color:var(--itv-soft);font-size:.92em}\n"
    ".irv small{margin-left:.35em}\n"
    ".irv dl{display:flex;flex-wrap:wrap;gap:.3rem 1.5rem;margin:.55rem 0 0;padding:0}\n"
    ".irv dl>div{max-width:100%;min-width:0}\n"
    # Notebook pages float both, with as much say as `.irv dt` has.
    ".irv dl>div>dt,.irv dl>div>dd{float:none;width:auto;margin:0}\n"
    ".irv dt{font-weight:400;line-height:1.3}\n"
    ".irv dd{overflow-wrap:anywhere;font-variant-numeric:tabular-nums}\n"
    ".irv p.irv-note{margin:.45rem 0 0;line-height:1.4}\n"
    ".irv-wide{overflow-x:auto;margin:.6rem 0 0}\n"
    ".irv-wide:focus-visible{outline:2.5px solid var(--itv-focus);outline-offset:2px}\n"
    ".irv table{border-collapse:collapse;margin:0;border:0;font-size:.95em;color:inherit}\n"
    ".irv tr,.irv tbody tr:nth-child(odd),.irv tbody tr:hover{background:transparent}\n"
    ".irv th,.irv td{padding:.18rem .7rem .18rem 0;text-align:left;border:0;max-width:24rem;"
    "border-bottom:1px solid var(--itv-line);white-space:nowrap;overflow:hidden;"
    "text-overflow:ellipsis;vertical-align:top}\n"
    ".irv th{color:var(--itv-soft);font-weight:600}\n"
    ".irv .irv-n{text-align:right;font-variant-numeric:tabular-nums}\n"
    ".irv figure{margin:.7rem 0 0}\n"
    ".irv figure img{max-width:100%;height:auto;border-radius:6px;display:block}\n"
    ".irv figcaption{margin:.35rem 0 0;max-width:46rem;line-height:1.4}\n"
    ".irv ul{list-style:none;display:flex;flex-wrap:wrap;gap:.15rem .2rem;margin:.6rem 0 0;"
    "padding:0}\n"
    ".irv li{margin:0;border:1px solid var(--itv-line);background:var(--itv-raised);"
    "border-radius:5px;padding:0 .3em;white-space:pre-wrap;overflow-wrap:anywhere;max-width:100%;"
    "unicode-bidi:isolate}\n"
    ".irv ul.irv-grid li{font-size:1.25em;min-width:1.9em;text-align:center;line-height:1.6}\n"
    ".irv li.irv-off{color:var(--itv-soft);border-style:dashed;background:transparent}\n"
    "@media (max-width:30rem){.irv{padding:.6rem .7rem .7rem}}\n"
)
"""Style of cards."""
