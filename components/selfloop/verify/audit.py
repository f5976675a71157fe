"""The label audit: how a verifier compares with the truth, by difficulty.

Precision and recall of what is believed, and how well the score is calibrated: Brier score, and expected calibration
error with ten bins of equal width (Guo et al., arXiv:1706.04599). A rollout of which the verifier has no opinion
counts as not believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Column = np.ndarray[Any, Any]

BINS = 10
GROUPS = ("hardest", "hard", "easy", "easiest")
"""Where there are no levels: quarters of the rollouts, by the share of their task's attempts that is right."""
COUNTS = ("true_positive", "false_positive", "false_negative", "true_negative", "undecided")
FIELDS = ("rollouts", "score", "right", "off", *COUNTS)
"""What is summed in each bin of the score; ``off`` is the squared difference of score and truth."""


class Auditor:
    """Sums up verdicts beside their truth, in constant memory."""

    def __init__(self, by_level: bool) -> None:
        self._by_level = by_level
        self._cells: dict[float, Column] = {}
        self._shares = True

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows of ``Audit``, whole groups of them; those without a known truth say nothing."""
        import numpy as np

        batch = batch.filter(batch["truth"].is_valid())
        if not batch.num_rows:
            return
        truth, score = (batch[name].to_numpy(zero_copy_only=False).astype(float) for name in ("truth", "score"))
        self._shares &= bool(((score >= 0) & (score <= 1)).all())
        places = np.clip((np.clip(score, 0, 1) * BINS).astype(int), 0, BINS - 1)
        keys = batch["level"].to_numpy() if self._by_level else pass_rates(batch["task"], truth)
        summed = np.stack([np.ones_like(score), score, truth, (score - truth) ** 2, *_kinds(batch["ok"], truth)])
        for key in np.unique(keys):
            mine = keys == key
            cell = self._cells.setdefault(float(key), np.zeros((len(FIELDS), BINS)))
            for row, values in zip(cell, summed, strict=True):
                row += np.bincount(places[mine], values[mine], BINS)

    def summary(self) -> dict[str, Any]:
        """The whole audit as JSON: counts and measures of all rollouts, of each stratum, and bins of the score."""
        whole = _summed(self._cells.values())
        strata = [{"name": name, **measures(cell, self._shares)} for name, cell in self._strata().items()]
        bins = [
            {"rollouts": int(number), "score": _rounded(score / number), "right": _rounded(right / number)}
            for number, score, right, *_ in whole.T
            if number and self._shares
        ]
        return {**measures(whole, self._shares), "strata": strata, "bins": bins}

    def _strata(self) -> Mapping[str, Column]:
        if self._by_level:
            return {f"level {key:.0f}": self._cells[key] for key in sorted(self._cells)}
        groups = quarters({key: int(cell[0].sum()) for key, cell in self._cells.items()})
        return {GROUPS[group]: _summed(self._cells[key] for key in keys) for group, keys in groups.items()}


def _summed(cells: Iterable[Column]) -> Column:
    import numpy as np

    return sum(cells, np.zeros((len(FIELDS), BINS)))


def _kinds(ok: pa.Array, truth: Column) -> list[Column]:
    """A column of zeros and ones for each of ``COUNTS``."""
    import pyarrow.compute as pc

    believed = pc.fill_null(ok, False).to_numpy(zero_copy_only=False).astype(float)
    undecided = ok.is_null().to_numpy(zero_copy_only=False).astype(float)
    doubted, false = 1 - believed, 1 - truth
    return [believed * truth, believed * false, doubted * truth, doubted * false, undecided]


def pass_rates(tasks: pa.Array, truth: Column) -> Column:
    """For each row the share of its task's rows that are true."""
    import numpy as np

    codes = tasks.dictionary_encode().indices.to_numpy()
    rates = np.bincount(codes, truth) / np.bincount(codes)
    return np.asarray(rates[codes])


def quarters(sizes: Mapping[float, int]) -> dict[int, list[float]]:
    """Values with how often each occurs, as up to four groups of about equal size, the lowest values first.

    A value lies in the quarter in which the middle of its occurrences lies, so that it is in one group alone.
    """
    total, below, groups = sum(sizes.values()), 0, dict[int, list[float]]()
    for value in sorted(sizes):
        middle = below + sizes[value] / 2
        groups.setdefault(min(int(4 * middle / total), 3), []).append(value)
        below += sizes[value]
    return groups


def measures(cell: Column, shares: bool) -> dict[str, Any]:
    """Counts, precision, recall, expected calibration error and Brier score of sums by bin, (fields, bins).

    A measure is ``None`` where there is nothing to tell it from, and calibration where scores are no ``shares``.
    """
    import numpy as np

    sums = dict(zip(FIELDS, cell.sum(axis=1), strict=True))
    counts = {name: int(sums[name]) for name in ("rollouts", *COUNTS)}
    number, tp = counts["rollouts"], counts["true_positive"]
    decided = counts["undecided"] < number
    calibrated = shares and number
    apart = float(np.abs(cell[1] - cell[2]).sum())
    return {
        **counts,
        "precision": _share(tp, tp + counts["false_positive"]),
        "recall": _share(tp, tp + counts["false_negative"]) if decided else None,
        "ece": _rounded(apart / number) if calibrated else None,
        "brier": _rounded(sums["off"] / number) if calibrated else None,
    }


def _share(part: int, whole: int) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(value: float) -> float:
    """Sums of floats depend in their last digits on how a table was cut into batches."""
    return round(float(value), 6)
