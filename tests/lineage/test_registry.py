"""The log of moves, and the aliases that follow it, on a real sqlite file."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from selfloop.errors import UserError
from selfloop.fetch import FetchParams
from selfloop.identity import work_key
from selfloop.lineage.registry import (
    CHAMPION,
    DONE,
    PREVIOUS,
    RECENT,
    Move,
    MovedError,
    Registry,
    counted,
    counted_at_the_end,
    is_step,
    previous,
)

pytestmark = pytest.mark.slow


def appended(bases: list[int]) -> list[Move]:
    return [Move(n, n, base, "promote", "", "", 0.0, {}) for n, base in enumerate(bases, 1)]


def test_of_two_moves_that_follow_the_same_one_the_first_counts() -> None:
    assert [move.number for move in counted(appended([0, 1, 1, 2, 3]))] == [1, 2, 4]


@given(st.lists(st.integers(0, 12), max_size=12))
def test_the_moves_that_count_are_a_chain_and_more_moves_never_change_it(bases: list[int]) -> None:
    moves = appended(bases)
    chain = counted(moves)
    assert [move.base for move in chain] == [0, *(move.number for move in chain)][: len(chain)]
    for length in range(len(moves)):
        before = counted(moves[:length])
        assert chain[: len(before)] == before


@given(st.lists(st.integers(0, 12), max_size=12), st.sets(st.integers(1, 12)), st.integers(0, 12))
def test_the_last_moves_that_count_are_read_without_those_before(bases: list[int], applied: set[int], at: int) -> None:
    chain = counted(appended(bases))
    known = applied & {move.number for move in chain}  # only what counts is ever written into the aliases
    moves = [replace(move, writers={"mark": DONE} if move.number in known else {}) for move in appended(bases)]
    read = counted_at_the_end(moves[at:])
    assert read == [move for move in counted(moves) if read and move.number >= read[0].number]
    assert bool(read) == any(number > at for number in known)


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["promote", "rollback", "repair"])), max_size=12))
def test_what_is_before_a_step_is_what_it_replaced(steps: list[tuple[int, str]]) -> None:
    moves = [Move(n, version, n - 1, kind, "", "", 0.0, {}) for n, (version, kind) in enumerate(steps, 1)]
    if is_step(moves[-2:]):
        assert previous(moves) == previous(moves[-2:]) == moves[-2].version


def test_the_last_moves_of_a_long_log_are_read_in_one_page(registry: Registry) -> None:
    for turn in range(RECENT + 2):
        registry.move(4 + turn % 2, "promote", "better", registry.settle())
    moves, last = registry.moves(), registry.last_moves()
    assert len(moves) == RECENT + 4
    assert (len(last), last) == (RECENT, moves[-RECENT:])
    registry.move(1, "rollback", "worse", registry.settle())
    assert registry.aliases() == {CHAMPION: 1}, "what is before the first champion is looked for in the whole log"
    assert [move.version for move in registry.moves_to(3)] == [3]
    assert registry.moves_to(2) == []


def test_a_rollback_goes_back_step_by_step() -> None:
    def before(*steps: int) -> int | None:
        """What is before the champion after promotions, and rollbacks, which are negative."""
        kinds = ["rollback" if step < 0 else "promote" for step in steps]
        moves = zip(steps, kinds, strict=True)
        return previous([Move(n, abs(v), n - 1, kind, "", "", 0.0, {}) for n, (v, kind) in enumerate(moves, 1)])

    assert before() is None
    assert before(1) is None
    assert before(1, 3, 5) == 3
    assert before(1, 3, 5, -3) == 1
    assert before(1, 3, 5, -3, -1) is None
    assert before(1, 3, 5, -3, 7) == 3
    assert before(1, 3, 5, 1) == 5, "a promotion of an old version is one step, too"


def test_a_move_takes_the_aliases_with_it(registry: Registry) -> None:
    assert registry.aliases() == {CHAMPION: 3, PREVIOUS: 1}
    head = registry.settle()
    assert head is not None
    assert (head.version, head.kind, head.applied) == (3, "promote", True)
    registry.move(1, "rollback", "worse on carries", head)
    assert registry.aliases() == {CHAMPION: 1}


def test_a_move_from_a_champion_that_is_no_longer_in_force_changes_nothing(registry: Registry) -> None:
    stale = registry.moves()[0]
    with pytest.raises(MovedError, match="moved to version 3 in the meantime"):
        registry.move(2, "promote", "late", stale)
    assert registry.aliases()[CHAMPION] == 3
    assert [move.version for move in registry.moves()] == [1, 3]


def test_a_version_is_registered_once(registry: Registry) -> None:
    again = registry.register("run:2", "/elsewhere", "", {}, "")
    assert (again.number, again.source) == (2, "/nowhere/2")


def test_an_alias_moved_by_hand_is_honoured_and_recorded(registry: Registry, client: MlflowClient) -> None:
    client.set_registered_model_alias("adder", CHAMPION, "2")
    head = registry.settle()
    assert head is not None
    assert (head.version, head.kind) == (2, "by hand")
    assert registry.aliases() == {CHAMPION: 2, PREVIOUS: 3}
    assert registry.settle() == registry.moves()[-1]
    assert len(registry.moves()) == 3


def test_an_alias_set_by_hand_before_any_move_is_the_first(client: MlflowClient) -> None:
    registry = Registry("fresh")
    registry.register("run:1", "/nowhere", "", {}, "")
    assert registry.settle() is None
    client.set_registered_model_alias("fresh", CHAMPION, "1")
    head = registry.settle()
    assert head is not None
    assert (head.version, head.kind) == (1, "by hand")


def test_a_model_that_is_somebody_elses_is_left_as_it_is(client: MlflowClient) -> None:
    client.create_registered_model("theirs")
    for number in range(1, 3):
        client.create_model_version("theirs", source=f"s3://theirs/{number}")
    for alias, version in (("champion", "2"), ("previous", "1")):
        client.set_registered_model_alias("theirs", alias, version)
    theirs = Registry("theirs")
    assert theirs.find("champion").number == 2
    assert theirs.settle() is None
    assert theirs.aliases() == {"champion": 2, "previous": 1}
    assert "theirs.moves" not in theirs.names()


def test_a_champion_that_was_deleted_makes_way_for_the_one_before(registry: Registry, client: MlflowClient) -> None:
    client.delete_model_version("adder", "3")
    head = registry.settle()
    assert head is not None
    assert (head.version, head.kind) == (1, "repair")
    assert registry.aliases() == {CHAMPION: 1}
    client.delete_model_version("adder", "1")
    assert registry.settle() is None


def test_a_late_alias_is_overtaken_by_the_log(registry: Registry) -> None:
    """As where a process that had moved the champion wakes only after somebody moved on."""
    stale = registry.moves()
    registry.move(4, "promote", "better", registry.settle())
    registry._apply(stale)
    assert registry.aliases()[CHAMPION] == 4
    assert len(registry.moves()) == 3


class Interrupted:
    """MLflow, in which somebody else writes right before one of our own writes."""

    def __init__(self, client: MlflowClient, step: int, other: Callable[[], None]) -> None:
        self._client, self._left, self._other = client, step, other

    def __getattr__(self, name: str) -> Any:
        self._left -= name.startswith(("create", "set", "delete"))
        if self._left == 0:
            self._left = -1
            self._other()
        return getattr(self._client, name)


def test_at_any_write_of_a_move_another_and_a_look_find_one_order_and_nobody_by_hand(registry: Registry) -> None:
    told: list[str] = []

    def moved(by: Registry, version: int, reason: str) -> None:
        try:
            by.move(version, "promote", reason, by.settle())
            told.append(reason)
        except MovedError:
            pass

    steps = 0
    while True:
        steps += 1
        there, looked = Registry("adder"), Registry("adder")

        def other(there: Registry = there, looked: Registry = looked, step: int = steps) -> None:
            looked.settle()
            moved(there, 4, f"theirs at {step}")
            looked.settle()

        slow = Registry("adder")
        slow.client = Interrupted(registry.client, steps, other)
        moved(slow, 5, f"ours at {steps}")
        looked.settle()
        moves = registry.moves()
        assert {move.kind for move in moves[2:]} == {"promote"}
        assert sorted(move.reason for move in moves[2:]) == sorted(told)
        assert registry.aliases()[CHAMPION] == moves[-1].version
        if f"theirs at {steps}" not in told:
            break
        moved(registry, 3, f"again at {steps}")
    assert steps > 4


def test_a_late_alias_of_a_process_that_was_killed_is_no_person_s_move(
    registry: Registry, client: MlflowClient
) -> None:
    registry.move(4, "promote", "better", registry.settle())
    log = registry.log
    client.set_model_version_tag(log, "2", "selfloop.writer.late", str(time.time()))
    client.set_registered_model_alias("adder", CHAMPION, "3")
    head = registry.settle()
    assert head is not None
    assert (head.version, registry.aliases()[CHAMPION]) == (4, 4)
    client.set_model_version_tag(log, "2", "selfloop.writer.late", str(time.time() - 3600))
    client.set_registered_model_alias("adder", CHAMPION, "3")
    head = registry.settle()
    assert head is not None
    assert (head.version, head.kind) == (3, "by hand"), "what a process began an hour ago explains nothing"


def test_a_move_that_was_made_counts_whatever_its_answer_was(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = registry._append

    def loses_the_answer(*words: Any) -> Any:
        append(*words)
        raise UserError("MLflow cannot be used (database is locked).")

    monkeypatch.setattr(registry, "_append", loses_the_answer)
    assert registry.move(4, "promote", "better", registry.settle()).version == 4
    monkeypatch.undo()

    def fails(*words: Any) -> None:
        raise UserError("MLflow cannot be used (database is locked).")

    monkeypatch.setattr(registry, "_apply", fails)
    assert registry.move(5, "promote", "better still", registry.settle()).version == 5


def test_a_loop_whose_first_version_was_never_moved_to_begins_with_it(client: MlflowClient) -> None:
    registry = Registry("fresh")
    registry.register("run:0", "/nowhere", "", {"verdict": "start"}, "")
    head = registry.settle()
    assert head is not None
    assert (head.version, head.kind, registry.aliases()) == (1, "start", {CHAMPION: 1})


def test_an_alias_that_was_deleted_is_put_back(registry: Registry, client: MlflowClient) -> None:
    client.delete_registered_model_alias("adder", CHAMPION)
    registry.settle()
    assert registry.aliases()[CHAMPION] == 3


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("9", "adder has no version 9: its versions end at 5"),
        ("best", "adder has no alias 'best': it has champion, previous"),
    ],
)
def test_what_is_not_there_is_named(registry: Registry, reference: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        registry.find(reference)


def test_a_loop_that_is_not_there_is_named_with_the_nearest(registry: Registry) -> None:
    with pytest.raises(UserError, match="There is no loop in the registry 'ader': did you mean 'adder'"):
        Registry("ader").find("1")


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a'b", 'a"b', "a\nb", "adder.moves", "a;drop"])
def test_a_name_with_odd_characters_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name of a loop"):
        Registry(name)


def test_a_registry_that_is_not_there_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client: MlflowClient
) -> None:
    import mlflow

    uri = "http://somebody:secret@127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    with pytest.raises(UserError, match=r"MLflow at http://127.0.0.1:9 cannot be used") as caught:
        Registry("adder").versions()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_policy_counts_by_the_version_that_its_alias_names(registry: Registry) -> None:
    def key(reference: str) -> str:
        return work_key(FetchParams(source=f"models:/adder{reference}"), {})

    before = key("@champion")
    assert before == key("@champion") == key("/3") != key("/4")
    registry.move(4, "promote", "better", registry.settle())
    assert before != key("@champion") == key("/4")
    with pytest.raises(UserError, match="has no alias 'nobody'"):
        key("@nobody")
