"""GSM8K: word problems of grade school (Cobbe et al., arXiv:2110.14168), ``openai/gsm8k`` of the Hub or a copy of it.

The level is the number of steps of the data set's own solution, which it marks ``<<48/2=24>>``; level 8 has all longer
ones too. The answer stands behind ``####``. Training tasks are its split train, held-out items its split test.
"""

import re
from collections.abc import Iterator

from selfloop.answers import IN_A_BOX
from selfloop.datafiles import Table, check_place, configs, splits_of
from selfloop.environments.dataset import Answered, Row, Rows
from selfloop.errors import UserError

STEP = re.compile(r"<<[^<>]*>>")


class GSM8K(Answered):
    """Word problems with a number as the answer."""

    name = "gsm8k"
    summary = "word problems of grade school; the level is the number of steps; gsm8k:PATH for a copy of one's own"
    levels = range(1, 9)
    max_tokens = 1024
    check_name = "number"

    def __init__(self, place: str = "openai/gsm8k") -> None:
        self.place = place
        check_place(place)

    def read(self) -> Rows:
        """The splits train and test of the configuration main, or of the only one."""
        splits = splits_of(self.place, "main" if "main" in configs(self.place) else None)
        for split in ("train", "test"):
            if split not in splits:
                raise UserError(f"{self.place} is no copy of openai/gsm8k: it has no split '{split}'.")
        return Rows(*(list(self._read(splits[split])) for split in ("train", "test")))

    def _read(self, table: Table) -> Iterator[Row]:
        for number, row in enumerate(table.rows, 1):
            solution, mark, answer = str(row.get("answer")).rpartition("####")
            if not mark or not row.get("question"):
                raise UserError(
                    f"{self.place}: row {number} is none of GSM8K, which has a 'question', and '####' in its 'answer'."
                )
            steps = min(max(len(STEP.findall(solution)), self.levels[0]), self.levels[-1])
            answer = answer.strip()
            shown = f"{STEP.sub('', solution).strip()}\n\\boxed{{{answer}}}"
            yield Row(steps, f"{row['question']}\n\n{IN_A_BOX}", answer, {"row": str(number), "solution": shown})


environment = GSM8K
