"""How things are found by name: what comes with selfloop in a dict, the user's own as ``module:name``."""

import importlib
import operator
import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from selfloop import sources
from selfloop.errors import UserError


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among the known ones; it offers the nearest."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(names)}."
    return UserError(f"There is no {kind} '{name}': {hint}")


def imported(kind: str, target: str) -> Any:
    """What ``module:name`` or ``file.py:name`` names. Raises ``UserError`` where there is no such thing."""
    module, _, name = target.rpartition(":")
    try:
        return operator.attrgetter(name)(_module(kind, module))
    except (AttributeError, ModuleNotFoundError) as error:
        raise UserError(f"No {kind} at '{target}': {error}.") from None


def _module(kind: str, name: str) -> ModuleType:
    """A module by its name, or by the path of its file, whose folder is importable from then on."""
    if not name.endswith(".py"):
        return _imported(kind, name, name)
    path = Path(name).resolve()
    if not path.is_file():
        raise UserError(f"There is no file {name}: give the path of a file that defines the {kind}.")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # behind what is installed: a file there may have any name
    found = _imported(kind, path.stem, name)
    if Path(found.__file__ or "").resolve() != path:
        raise UserError(f"Another module is named '{path.stem}' as the file {name} is: give the file another name.")
    return found


def _imported(kind: str, module: str, named: str) -> ModuleType:
    try:
        found = importlib.import_module(module)
    except (UserError, ModuleNotFoundError):
        raise
    except Exception as error:  # whatever a user's module does when it is imported
        last = traceback.extract_tb(error.__traceback__)[-1]
        line = error.lineno if isinstance(error, SyntaxError) else last.lineno
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{named}, which should define the {kind}, cannot be imported (line {line}, {what}).") from None
    sources.note(found)
    return found
