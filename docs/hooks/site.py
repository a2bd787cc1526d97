"""What the site holds beside the pages in docs/, made when it is built.

- The tutorial: every notebook of notebooks/, in the order of its name, shown as committed.
- The reference: a page for every room of `interp`, from its docstrings.
- The commands: the tables of docs/command-line.md, from the command line itself.

What a notebook's page would fetch when it is read (MathJax, Mermaid) is taken out: the site is read
without a network.
"""

import ast
import pkgutil
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import interp
from interp.cli import app

ROOT = Path(__file__).parents[2]
NOT_IN_REFERENCE = {"cli", "base.console"}  # docs/command-line.md has the commands
START = "reference/index.md"
NAMED = re.compile(r"`(interp(?:\.\w+)+)`")
FLOORS = {
    "models": "Models and prompts", "text": "Text and data", "readout": "What is read off",
    "behaviour": "What models write", "traces": "Looking inside", "methods": "Making tuned models",
    "measures": "Measuring answers", "show": "Figures and views", "study": "Studies and reports",
    "report": "Studies and reports", "organism": "The organism", "base": "Ground floor",
}  # fmt: skip
"""What each floor is called in the reference's contents."""
COMMANDS = "<!-- every command, from the command line itself -->"
# From a notebook to another one, or to a page of docs/.
LINKS = re.compile(r"href=\"(?:(?P<page>[\w-]+)\.ipynb|\.\./docs/(?P<doc>[\w/-]+)\.md)")
FETCHES = re.compile(
    r"<script[^>]*\bsrc=[\"']https?://.*?</script>"
    r"|<script type=\"text/x-mathjax-config\">.*?</script>"
    r"|<script type=\"module\">(?:(?!</script>).)*mermaid.*?</script>",
    flags=re.DOTALL,
)


def notebooks() -> list[str]:
    return [f"notebooks/{path.name}" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]


def rooms() -> dict[str, str]:
    """The public rooms by the name that one imports them by, with their place below `interp`.

    A floor that exports names is a room itself, any other floor has one room for each module.
    """
    short = {place.removeprefix("interp."): name for name, place in interp.ROOMS.items()}
    found = []
    for floor in (one.name for one in pkgutil.iter_modules(interp.__path__) if one.ispkg):
        if floor in NOT_IN_REFERENCE or _names(floor)[0]:
            found.append(floor)
        else:
            inside = pkgutil.iter_modules([str(ROOT / "interp" / floor)])
            found += [f"{floor}.{one.name}" for one in inside if one.name[0] != "_"]
    return {short.get(p, p): p for p in found if p not in NOT_IN_REFERENCE}


def _by_floor() -> list[dict[str, Any]]:
    """The rooms' pages below what their floors are for, in the order of the house."""
    found: dict[str, list[dict[str, str]]] = {title: [] for title in FLOORS.values()}
    for room, place in sorted(rooms().items()):
        title = FLOORS[place.partition(".")[0]]
        found[title].append({f"interp.{room}": f"reference/{room}.md"})
    return [{title: pages} for title, pages in found.items() if pages]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the tutorial and the reference in."""
    found: dict[str, list[Any]] = {
        "Tutorial": notebooks(),
        "Reference": [{"By question": START}, *_by_floor()],
    }
    for entry in config.nav:
        for title in entry:
            entry[title] = found.get(title, entry[title])
    config.nav = [entry for entry in config.nav if all(entry.values())]
    return config


@event_priority(100)  # before the notebook plugin, which takes what it finds here
def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name in notebooks():
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    for room, place in rooms().items():
        page = reference(room, place)
        files.append(File.generated(config, f"reference/{room}.md", content=page))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    if page.file.src_uri == "command-line.md":
        return markdown.replace(COMMANDS, commands())
    if page.file.src_uri == START:
        return NAMED.sub(_linked, markdown) + _front_door()
    return markdown


def _linked(named: re.Match[str]) -> str:
    """A name with a link to the page that it is on."""
    known, parts = rooms(), named[1].split(".")[1:]
    inside = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    page = next((one for one in inside if one in known), None)
    if page is None:
        floor = interp._NAMES[parts[0]].split(".")[1]
        page = floor if parts[0] in _names(floor)[0] else ""
    return (
        f"[{named[0]}]({page}.md)"
        if page
        else f"[{named[0]}](#{interp._NAMES[parts[0]]}.{parts[0]})"
    )


def _front_door() -> str:
    """What is at the front door and on no floor's page."""
    parts = ["\n## At the front door\n"]
    for name, place in interp._NAMES.items():
        if name not in _names(place.split(".")[1])[0]:
            parts.append(
                f"::: {place}.{name}\n    options: {{show_root_heading: true, heading_level: 3}}\n"
            )
    return "\n".join(parts)


def on_page_content(html: str, page: Page, **_: object) -> str:
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    html = FETCHES.sub("", html)
    return LINKS.sub(lambda link: f'href="{link["page"] or "../" + link["doc"]}.html', html)


def reference(room: str, place: str) -> str:
    """A room's page: its docstring, then every exported name in the order of `__all__`."""
    rank = "---\nsearch: {boost: 0.5}\n---\n\n"  # pages that explain come first
    title = f"{rank}# interp.{room}\n\n::: interp.{place}\n"
    exported = _exported(place)
    if not exported:
        return title
    parts = [f"{title}    options: {{members: false}}\n"]
    for name in exported:
        parts.append(
            f"::: {name}\n    options: {{show_root_heading: true, show_root_toc_entry: true}}\n"
        )
    return "\n".join(parts)


def _names(place: str) -> tuple[list[str], dict[str, str]]:
    """A package's `__all__`, and the modules that its names come from; read, not imported."""
    init = ROOT / "interp" / place.replace(".", "/") / "__init__.py"
    names, sources = [], {}
    for node in ast.parse(init.read_text(encoding="utf-8")).body if init.is_file() else []:
        if isinstance(node, ast.ImportFrom):
            sources |= {alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
    return names, sources


def _exported(place: str) -> list[str]:
    """Where the names of a room's `__all__` are to be found.

    A name is the room's own, unless a module of the room has it too: `interp.patching.screen` is
    both a function and the module that it comes from.
    """
    names, sources = _names(place)
    folder = ROOT / "interp" / place.replace(".", "/")
    both = {path.stem for path in folder.iterdir()} & set(sources) if names else set()
    return [f"{sources[n] if n in both else f'interp.{place}'}.{n}" for n in names]


def commands() -> str:
    """The options before a command, then all commands with theirs, as Markdown."""
    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="interp")
    every = [_command(root.commands[name], context) for name in root.list_commands(context)]
    return "\n".join(["## Before every command\n", _options(root, context), *every])


def _command(command: Any, parent: typer.Context) -> str:
    context = typer.Context(command, info_name=command.name, parent=parent)
    parts = [f"## {context.command_path}\n", f"{command.help}\n"]
    if hasattr(command, "commands"):
        names = command.list_commands(context)
        return "\n".join(
            parts + [_command(command.commands[name], context)[1:] for name in names]
        ).replace("\n# ", "\n### ")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    return "\n".join([*parts, f"`{usage}`\n", _options(command, context)])


def _options(command: Any, context: typer.Context) -> str:
    """A command's arguments and options as a table."""
    rows = ["| option | meaning |\n|---|---|"]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in record[0]:
            name, text = (part.replace("|", "\\|") for part in record)
            rows.append(f"| `{name}` | {' '.join(text.split())} |")
    return "\n".join(rows) + "\n"
