"""``python``: what a program prints, or why it did not end well. Every call is a program of its own."""

from pydantic import Field

from selfloop.generate.tools import Tool


class Python(Tool):
    """Python in the sandbox: what a program prints."""

    name = "python"
    needs = "the sandbox"
    runs_code = True
    shown: int = Field(2000, ge=1, description="Characters of what was printed that the policy is told.")

    def __call__(self, argument: str) -> str:
        """The standard output of a program, or ``error:`` and its last words."""
        from selfloop.sandbox import Program, run_programs

        [outcome] = run_programs([Program(argument)], workers=1)
        if outcome.status == "ok":
            return outcome.stdout.strip()[: self.shown]
        words = outcome.stderr.strip().splitlines() or [outcome.status]
        return f"error: {words[-1]}"[: self.shown]
