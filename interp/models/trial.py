"""Run as a script by `interp.models.guard`, never imported: tries what a stranger's file computes.

`trial.py patterns` matches regular expressions against module names as PEFT does, `trial.py
template` renders a chat template as transformers does. Both read a JSON object from standard input
and write one line: `ready` once everything is imported and the limits are set, then a JSON object.
A trial that needs more than its limits is killed by the system or fails with a MemoryError.
"""

import json
import sys


def limit(seconds: float, memory: int) -> None:
    """Allow this process `seconds` more of CPU time and `memory` more bytes."""
    import signal

    try:
        import resource
    except ImportError:  # not on Windows: the parent's clock is the only limit there
        return
    signal.setitimer(signal.ITIMER_PROF, seconds)  # CPU time; its signal ends the process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            pages = int(file.read().split()[0])
        size = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    except (OSError, ValueError):  # macOS
        return


def patterns(given: dict) -> dict:
    """The frames that PEFT 0.21 puts around patterns, each tried on every name."""
    import re

    for pattern in given["patterns"]:
        for name in given["names"]:
            re.fullmatch(pattern, name)
            re.match(rf"(.*\.)?({pattern})$", name)
            re.match(rf"(^|.*\.){pattern}($|\..*)", name)
            re.match(rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.", name)
    return {}


def template(given: dict) -> dict:
    """The length of what a template makes of each conversation; its own errors are left to it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    lengths = []
    for turns, is_open in given["conversations"]:
        try:
            made, _ = render_jinja_template(
                [turns],
                chat_template=given["template"],
                add_generation_prompt=is_open,
                **given["special_tokens"],
            )
            lengths.append(len(made[0]))
        except MemoryError:
            raise
        except Exception:  # seen, with its text, when the template is used
            lengths.append(0)
    return {"lengths": lengths}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    if sys.argv[1] == "template":
        import transformers.utils.chat_template_utils  # noqa: F401 (before the limits)
    print("ready", flush=True)
    limit(asked["seconds"], asked["memory"])
    print(json.dumps({"patterns": patterns, "template": template}[sys.argv[1]](asked)))
