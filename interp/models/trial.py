"""Run as a script by `interp.models.guard`, never imported: tries what a stranger's file computes.

`trial.py patterns` matches regular expressions against module names as PEFT does, `trial.py
template` renders a chat template as transformers does, `trial.py spelling` normalises and splits
texts as a tokenizer does. All read a JSON object from standard input and write one line: `ready`
once everything is imported and the limits are set, then a JSON object.
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


def spelling(given: dict) -> dict:
    """The length of the longest text once it is normalised or decoded; all are split, too."""
    from tokenizers import Tokenizer

    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    whole = {"version": "1.0", "added_tokens": [], "model": model, **given["steps"]}
    try:
        tokenizer = Tokenizer.from_str(json.dumps(whole))
    except Exception:  # seen, with its text, when the tokenizer is loaded
        return {"length": 0}
    longest = 0
    for text in given["texts"]:
        made = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        longest = max(longest, len(made))
        if tokenizer.pre_tokenizer:
            tokenizer.pre_tokenizer.pre_tokenize_str(made)
        if tokenizer.decoder:
            longest = max(longest, len(tokenizer.decoder.decode([text])))
    return {"length": longest}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    if sys.argv[1] == "template":
        import transformers.utils.chat_template_utils  # noqa: F401 (before the limits)
    if sys.argv[1] == "spelling":
        import tokenizers  # noqa: F401
    print("ready", flush=True)
    limit(asked["seconds"], asked["memory"])
    tried = {"patterns": patterns, "template": template, "spelling": spelling}
    print(json.dumps(tried[sys.argv[1]](asked)))
