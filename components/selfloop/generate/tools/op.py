"""``op``: one operation at a time: ``+``, ``-`` or ``*`` on two whole numbers, such as ``-7*2``, and nothing else."""

import operator
import re
from collections.abc import Callable

from selfloop.generate.tools import Tool

OPERATION = re.compile(r"(-?[0-9]{1,18})([+*-])(-?[0-9]{1,18})")
REFUSAL = "error: not one operation on two whole numbers"
SIGNS: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


class Op(Tool):
    """One operation at a time: +, - or * on two whole numbers."""

    name = "op"
    at_once = True

    def __call__(self, argument: str) -> str:
        """The value of an operation on two whole numbers, or ``error:`` and why there is none."""
        found = OPERATION.fullmatch(argument.strip())
        if found is None:
            return REFUSAL
        left, sign, right = found.groups()
        return str(SIGNS[sign](int(left), int(right)))
