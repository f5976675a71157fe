"""Items that are used again: exact while there are few, near it when there are many, in bounded room."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.promote.reuse import MOST, Used

IDS = st.sets(st.text(max_size=5), max_size=40)


@given(st.lists(IDS, max_size=6), IDS)
def test_few_items_are_counted_exactly_and_survive_as_json(rounds: list[set[str]], now: set[str]) -> None:
    used = Used()
    for ids in rounds:
        used = Used.of(json.loads(json.dumps(used.after(ids).as_state())))
    assert used.again(now) == len(now & set().union(*rounds))
    assert Used.of({}) == Used()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_many_items_are_counted_about_right_in_bounded_room(share: float) -> None:
    used = Used()
    for round in range(40):
        used = used.after(f"gate-{round}-{n}" for n in range(1000))
        assert len(used.hashes) <= MOST
    old = int(4000 * share)
    now = [f"gate-{n % 40}-{n // 40}" for n in range(old)] + [f"new-{n}" for n in range(4000 - old)]
    assert used.again(now) == pytest.approx(old, abs=0 if not old else 1000)
    assert len(json.dumps(used.as_state())) < 20_000
