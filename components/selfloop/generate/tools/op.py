"""One operation at a time: ``+``, ``-`` or ``*`` on two whole numbers, such as ``-7*2``, and nothing else."""

import operator
import re
from collections.abc import Callable

at_once = True
OPERATION = re.compile(r"(-?[0-9]{1,18})([+*-])(-?[0-9]{1,18})")
REFUSAL = "error: not one operation on two whole numbers"
SIGNS: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def tool(operation: str) -> str:
    """The value of an operation on two whole numbers, or ``error:`` and why there is none."""
    found = OPERATION.fullmatch(operation.strip())
    if found is None:
        return REFUSAL
    left, sign, right = found.groups()
    return str(SIGNS[sign](int(left), int(right)))
