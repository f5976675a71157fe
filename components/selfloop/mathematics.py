"""Comparing mathematics, in a process of its own that can be killed: nothing else imports this.

The library is imported at the top, so that a process which says that it is ready has done so. Only LaTeX is read: of
plain expressions, sympy would have Python evaluate them.
"""

from math_verify import LatexExtractionConfig, parse, verify


def equal(answer: str, said: str) -> bool:
    """Whether two LaTeX expressions are worth the same; time and memory are limited by who calls."""
    wanted, given = (
        parse(f"\\boxed{{{text}}}", [LatexExtractionConfig()], parsing_timeout=None, raise_on_error=True)
        for text in (answer, said)
    )
    return bool(verify(wanted, given, timeout_seconds=None, raise_on_error=True))
