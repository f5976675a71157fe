"""What keeps easy tasks from crowding out hard ones."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.filter.filter import grouped
from selfloop.filter.selecting import Context
from selfloop.filter.selectors.tail import ClipPerTask, RepeatTail

from .conftest import group, joined

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=8)
SOME = st.integers(1, 6)


@given(SIZES, SOME)
def test_of_each_task_the_first_are_kept_up_to_the_limit(sizes: list[int], limit: int) -> None:
    given = [each for task, size in enumerate(sizes) for each in group(f"t{task}", *[("x", True)] * size)]
    batch, rejected = ClipPerTask(limit=limit)(grouped(joined(given)), Context())
    kept = Counter(batch["task"].to_pylist())
    assert kept == {f"t{task}": min(size, limit) for task, size in enumerate(sizes)}
    assert all(attempt < limit for attempt in batch["attempt"].to_pylist())
    assert rejected["enough of its task"] == sum(sizes) - sum(kept.values())


@given(SIZES, SOME)
def test_the_few_of_a_task_weigh_as_much_as_so_many(sizes: list[int], to: int) -> None:
    given = [each for task, size in enumerate(sizes) for each in group(f"t{task}", *[("x", True)] * size)]
    batch, rejected = RepeatTail(to=to)(grouped(joined(given)), Context())
    assert batch.num_rows == len(given)
    assert not rejected
    totals = Counter[str]()
    for task, weight in zip(batch["task"].to_pylist(), batch["weight"].to_pylist(), strict=True):
        totals[task] += weight
    assert totals == {f"t{task}": pytest.approx(max(size, to)) for task, size in enumerate(sizes)}
