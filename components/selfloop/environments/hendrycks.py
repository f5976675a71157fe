r"""MATH: problems of competitions (Hendrycks et al., arXiv:2103.03874), ``EleutherAI/hendrycks_math`` or a copy of it.

The level is the data set's own, 1 to 5; the answer is what stands in the last ``\boxed{}`` of its solution, and the
subject goes with the task. Rows without either are left out. Training tasks are the split train of all subjects,
held-out items the split test.
"""

from collections.abc import Iterator

from selfloop.answers import IN_A_BOX, boxed
from selfloop.datafiles import Table, check_place, configs, splits_of
from selfloop.environments.dataset import Answered, Row, Rows, level_of
from selfloop.errors import UserError


class Hendrycks(Answered):
    """Problems with a mathematical expression as the answer."""

    name = "math"
    summary = "problems of competitions, the MATH data set with its own levels; math:PATH for a copy of one's own"
    levels = range(1, 6)
    check_name = "math"

    def __init__(self, place: str = "EleutherAI/hendrycks_math") -> None:
        self.place = place
        check_place(place)

    def read(self) -> Rows:
        """Both splits of every configuration, which are the subjects."""
        rows = Rows([], [])
        for config in configs(self.place):
            splits = splits_of(self.place, config)
            for split, found in (("train", rows.training), ("test", rows.held_out)):
                if split not in splits:
                    raise UserError(f"{self.place} is no copy of EleutherAI/hendrycks_math: it has no split '{split}'.")
                found.extend(self._read(splits[split]))
        return rows

    def _read(self, table: Table) -> Iterator[Row]:
        for number, row in enumerate(table.rows, 1):
            if not row.keys() >= {"problem", "level", "type", "solution"}:
                raise UserError(
                    f"{self.place} is no copy of EleutherAI/hendrycks_math: it lacks one of the columns problem, "
                    "level, type and solution."
                )
            level, answer = level_of(row["level"]), boxed(row["solution"])
            if level is not None and level in self.levels and answer:
                kept = {"row": str(number), "subject": row["type"], "solution": row["solution"]}
                yield Row(level, f"{row['problem']}\n\n{IN_A_BOX}", answer, kept)


environment = Hendrycks
