"""Python in the sandbox: what a program prints, or why it did not end well. Every call is a program of its own."""

SHOWN = 2000
"""Characters of what was printed that the policy is told."""


def tool(source: str) -> str:
    """The standard output of a program, or ``error:`` and its last words."""
    from selfloop.sandbox import Program, run_programs

    [outcome] = run_programs([Program(source)], workers=1)
    if outcome.status == "ok":
        return outcome.stdout.strip()[:SHOWN]
    words = outcome.stderr.strip().splitlines() or [outcome.status]
    return f"error: {words[-1]}"[:SHOWN]
