"""How things are found by name: what comes with selfloop in a dict, the user's own as ``module:name``."""

import importlib
import operator
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from selfloop.errors import UserError


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among the known ones; it offers the nearest."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(names)}."
    return UserError(f"There is no {kind} '{name}': {hint}")


def imported(kind: str, target: str) -> Any:
    """What ``module:name`` names. Raises ``UserError`` where there is no such thing."""
    module, _, name = target.partition(":")
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise UserError(f"No {kind} at '{target}': {error}.") from None
