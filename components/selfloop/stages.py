"""Every stage that comes with selfloop, by name."""

import importlib

from selfloop.lookup import unknown
from selfloop.stage import Stage, load

MODULES = ("fetch", "propose", "finetune", "generate", "verify", "filter", "evaluate", "report")


def stages() -> dict[str, Stage]:
    """The stages in the order in which a loop uses them."""
    found: dict[str, Stage] = {}
    for name in MODULES:
        module = importlib.import_module(f"selfloop.{name}")
        found |= {
            value.name: value
            for value in vars(module).values()
            if isinstance(value, Stage) and value.target.startswith(module.__name__)
        }
    return found


def find_stage(name: str) -> Stage:
    """A stage by its name, or the user's own as ``module:function``."""
    if ":" in name:
        return load(name)
    known = stages()
    if name not in known:
        raise unknown("stage", name, known)
    return known[name]


def as_markdown() -> str:
    """The table of the stages in the documentation."""
    lines = ["| stage | what it does | takes | gives |", "|-|-|-|-|"]
    lines += [
        f"| `{s.name}` | {s.summary} | {', '.join(s.inputs) or '–'} | {', '.join(s.outputs)} |"
        for s in stages().values()
    ]
    return "\n".join(lines) + "\n"
