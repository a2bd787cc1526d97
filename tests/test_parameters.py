"""No function takes more than eight parameters: what belongs together goes together."""

import ast
from pathlib import Path

import interp

MOST = 8
# Typer makes a command's options from its parameters, and these names of the front door stand.
KNOWN = {
    "measures/edit_scores.py:score_edit": 11,
    "measures/questionnaire.py:administer": 9,
    "cli/prepare.py:finetune": 15,
    "cli/trace.py:demo": 12,
    "cli/trace.py:trace": 13,
    "base/memory/batches.py:in_batches": 9,
    "models/pair.py:load_pair": 12,
}


def counted(text: str) -> dict[str, int]:
    """Parameters by function, without `self` and `cls`."""
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            args = node.args
            names = [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            found[node.name] = count + bool(args.vararg) + bool(args.kwarg)
    return found


def test_no_function_has_more_than_eight_parameters():
    root = Path(interp.__file__).parent
    many = {
        f"{path.relative_to(root)}:{name}": count
        for path in root.rglob("*.py")
        for name, count in counted(path.read_text()).items()
        if count > MOST
    }
    assert {name: n for name, n in many.items() if n > KNOWN.get(name, MOST)} == {}
    assert counted("def f(self, a, *b, c=1, **d): ...") == {"f": 4}
