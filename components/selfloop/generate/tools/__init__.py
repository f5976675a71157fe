"""Tools that a policy may call: functions from text to text, one file each, or the user's own as ``module:function``.

A tool's name is also its mark: ``<calc>1+1</calc>``. What goes wrong is an answer too (``error: ...``), for the policy
to read; a tool that raises ends the stage. Tools answer in threads, unless their module says ``at_once = True``: such a
tool takes next to no time, and which attempts are decoded beside one another does not depend on how long it took.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable
from functools import cache

from selfloop.lookup import imported, unknown

Tool = Callable[[str], str]


@cache
def tools() -> dict[str, Tool]:
    """Every tool that comes with selfloop, by name."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return {module.__name__.rpartition(".")[2]: module.tool for module in modules}


def answers_at_once(tool: Tool) -> bool:
    """Whether a tool is called where it is wanted, and not in a thread."""
    return bool(getattr(sys.modules.get(tool.__module__), "at_once", False))


def find_tools(names: Iterable[str]) -> dict[str, Tool]:
    """The tools of these names. Raises ``UserError`` with the nearest name where there is none."""
    known, found = tools(), dict[str, Tool]()
    for name in names:
        if ":" in name:
            found[name.rpartition(":")[2]] = imported("tool", name)
        elif name in known:
            found[name] = known[name]
        else:
            raise unknown("tool", name, known)
    return found
