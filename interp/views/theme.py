"""One palette for everything that shows itself in a browser: light and dark.

Which of the two holds is the reader's choice: the system's (`prefers-color-scheme`), unless the
page around says otherwise: JupyterLab's theme, VS Code's theme, mkdocs-material's scheme, or
`data-theme` on the root element. Every view paints its own ground, so that its contrast does not
depend on the page: text has at least 4.5:1 on every colour of the scale, in both.
"""

from importlib.resources import files

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


def asset(name: str) -> str:
    """The text of a file in `interp/views/assets`."""
    return files("interp.views").joinpath("assets", name).read_text(encoding="utf-8")


def _properties(palette: dict[str, str], scheme: str) -> str:
    pairs = ";".join(f"--itv-{name}:{value}" for name, value in palette.items())
    return f"{pairs};color-scheme:{scheme}"
