"""Run the notebooks and keep what they show.

    python notebooks/execute.py        # all of them
    python notebooks/execute.py 03     # those whose name begins so

Each runs in a kernel of its own, on one thread and without a network, in this folder. A cell that
fails, or that says something on standard error, ends the run and leaves the file as it was. What
changes from run to run for no reason (times, the kernel's version) is not kept.
"""

import os
import re
import sys
import tempfile
import tomllib
from pathlib import Path

try:
    import nbformat
    from nbclient import NotebookClient
    from nbformat import NotebookNode
except ModuleNotFoundError as missing:
    sys.stderr.write(f"error: no module {missing.name}; pip install -c constraints.txt -e '.[notebooks]'\n")
    sys.exit(2)

HERE = Path(__file__).parent
SECONDS = 600  # that a cell may take: on busy cores the imports alone take one
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}


def environment(folder: Path | str) -> dict[str, str]:
    """What the kernel sees: one thread, no network, this Python's commands, no one's settings."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "IPYTHONDIR": str(folder),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }


def run(notebook: NotebookNode, seconds: int = SECONDS) -> NotebookNode:
    """Execute `notebook` in place in a new kernel and clean it.

    Raises:
        CellExecutionError: if a cell fails.
        RuntimeError: if a cell says something on standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=seconds,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(HERE)}},
        )
        client.execute(env=environment(folder))
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                raise RuntimeError(f"a cell says on standard error: {output.text}")
    return clean(notebook)


def clean(notebook: NotebookNode) -> NotebookNode:
    """Take out what says when and where the notebook was run, and widgets, which need a kernel."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook


def opened_in_colab(text: str, name: str, project: Path = HERE.parent / "pyproject.toml") -> str:
    """A notebook's first cell with its badge for Colab, where the project says its place on GitHub."""
    title, *rest = re.sub(r"\n\n\[!\[Open in Colab\].*", "", text).split("\n")
    urls = tomllib.loads(project.read_text(encoding="utf-8"))["project"].get("urls", {})
    place = (urls.get("Repository") or urls.get("Source") or "").rstrip("/").removesuffix(".git")
    if place.startswith("https://github.com/"):
        colab = "https://colab.research.google.com"
        page = f"{colab}/github/{place.removeprefix('https://github.com/')}/blob/main/notebooks/{name}"
        badge = f"[![Open in Colab]({colab}/assets/colab-badge.svg)]({page})"
        title += f"\n\n{badge} Run there first: `%pip install git+{place}`"
    return "\n".join([title, *rest])


def main(prefixes: list[str]) -> None:
    wanted = [
        path
        for path in sorted(HERE.glob("*.ipynb"))
        if not prefixes or path.name.startswith(tuple(prefixes))
    ]
    if not wanted:
        sys.stderr.write(f"error: no notebook's name begins with {' or '.join(prefixes)}; try 03\n")
        sys.exit(2)
    for path in wanted:
        made = run(nbformat.read(path, as_version=4))
        made.cells[0].source = opened_in_colab(made.cells[0].source, path.name)
        text = nbformat.writes(made)
        path.write_text(text + "\n", encoding="utf-8")
        print(f"{path.name}: {len(made.cells)} cells, {len(text) // 1000} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
