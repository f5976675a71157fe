from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.dsl import Dataset
from selfloop.errors import UserError
from selfloop.filter import Correct, FilterParams, filter_rollouts
from selfloop.filter.selectors.duplicates import Unique
from selfloop.filter.selectors.room import PerLevel
from selfloop.records import BATCH_ROWS, Example, Rollout, Verdict, read

from ..conftest import sealed_table
from .conftest import Filtered, judged


def test_good_rollouts_are_kept_once_each_and_the_others_are_counted_by_reason(tmp_path: Path) -> None:
    given = [
        judged("a", 1, 0, "x", True),
        judged("a", 1, 1, "x", True),
        judged("a", 1, 2, "y", True),
        judged("b", 2, 0, "x", True),
        judged("b", 2, 1, "z", False),
        judged("b", 2, 2, "z", False),
    ]
    made = Filtered(tmp_path, FilterParams(round=5), given, [Example("old", 1, "p", "c", 4)])
    assert made.examples == [
        Example("a", 1, "a?", "x", 5, rate=1.0),
        Example("a", 1, "a?", "y", 5, rate=1.0),
        Example("b", 2, "b?", "x", 5, rate=1 / 3),
    ]
    assert made.pool == [Example("old", 1, "p", "c", 4), *made.examples]
    assert made.kept == {"1": 2, "2": 1}
    assert made.rejected == {"duplicate": 1, "wrong answer": 2}


def test_nothing_keeps_nothing_and_counts_all(tmp_path: Path) -> None:
    before = [Example("old", 1, "p", "c", 1)]
    made = Filtered(
        tmp_path, FilterParams(select=["nothing"]), [judged("a", 1, n, f"{n}", n < 3) for n in range(5)], before
    )
    assert (made.examples, made.pool) == ([], before)
    assert (made.kept, made.rejected) == ({}, {"nothing is selected": 5})


def test_a_level_is_filled_over_rounds_and_no_further(tmp_path: Path) -> None:
    kept: list[Example] = []
    told = []
    for round in (1, 2, 3):
        given = [judged(f"1-{round}-{n}", 1, 0, "x", True) for n in range(4)]
        given += [judged(f"2-{round}-{n}", 2, 0, "x", True) for n in range(2)]
        made = Filtered(
            tmp_path / str(round), FilterParams(select="correct+unique+per-level,limit=5", round=round), given, kept
        )
        kept = made.pool
        told.append((made.kept, made.rejected))
    assert Counter(example.level for example in kept) == {1: 5, 2: 5}
    assert told == [
        ({"1": 4, "2": 2}, {}),
        ({"1": 1, "2": 2}, {"level is full": 3}),
        ({"2": 1}, {"level is full": 5}),
    ]


def test_a_level_is_filled_over_batches_and_no_further(tmp_path: Path) -> None:
    many = BATCH_ROWS + 5_000
    given = [judged(f"{n}", n % 2, 0, "x", True) for n in range(many)]
    made = Filtered(tmp_path, FilterParams(select=[Correct(), Unique(), PerLevel(limit=many // 2 - 10)]), given, [])
    assert len(list(read(tmp_path / "rollouts", Rollout))) == 2
    assert made.kept == {"0": many // 2 - 10, "1": many // 2 - 10}
    assert made.rejected == {"level is full": 20}
    assert [example.task for example in made.examples] == [f"{n}" for n in range(many - 20)]


groups = st.lists(
    st.tuples(st.integers(1, 3), st.lists(st.tuples(st.sampled_from("xyz"), st.booleans()), min_size=1, max_size=5)),
    max_size=8,
)


@given(
    groups,
    st.integers(1, 6),
    st.lists(st.integers(1, 3), max_size=6),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_is_kept_agrees_with_a_plain_reading_and_the_counts_add_up(
    tmp_path_factory: pytest.TempPathFactory,
    groups: list[tuple[int, list[tuple[str, bool]]]],
    per_level: int,
    kept: list[int],
    nothing: bool,
) -> None:
    given = [
        judged(f"t{number}", level, attempt, completion, ok)
        for number, (level, attempts) in enumerate(groups)
        for attempt, (completion, ok) in enumerate(attempts)
    ]
    before = [Example(f"old {number}", level, "p", "c", 0) for number, level in enumerate(kept)]
    select = "nothing" if nothing else f"correct+unique+per-level,limit={per_level}"
    params = FilterParams(select=select, round=1)
    made = Filtered(tmp_path_factory.mktemp("filter"), params, given, before)

    full, seen, expected = Counter(kept), set(), []
    for rollout, ok, *_ in given:
        if not nothing and ok and (rollout.task, rollout.completion) not in seen:
            seen.add((rollout.task, rollout.completion))
            if full[rollout.level] < per_level:
                full[rollout.level] += 1
                said = [each.ok for each in given if each.rollout.task == rollout.task]
                made_of = (rollout.task, rollout.level, rollout.prompt, rollout.completion, 1)
                expected.append(Example(*made_of, rate=sum(map(bool, said)) / len(said)))
    assert made.examples == expected
    assert made.pool == before + expected
    assert made.kept == {str(level): n for level, n in sorted(Counter(e.level for e in expected).items())}
    assert sum(made.kept.values()) + sum(made.rejected.values()) == len(given)


def test_verdicts_of_other_rollouts_are_refused(tmp_path: Path) -> None:
    a, b = judged("a", 1, 0, "x", True), judged("b", 1, 0, "x", True)
    with pytest.raises(UserError, match="are of other rollouts: verify these rollouts again"):
        filter_rollouts.into(
            filter_rollouts.out(
                examples=Dataset(uri=str(tmp_path / "examples")), replay_pool=Dataset(uri=str(tmp_path / "new_pool"))
            ),
            FilterParams(),
            rollouts=sealed_table(tmp_path / "rollouts", Rollout, [a.rollout]),
            verdicts=sealed_table(tmp_path / "verdicts", Verdict, [b.verdict]),
            replay_pool=sealed_table(tmp_path / "replay_pool", Example, []),
        )


def test_fewer_verdicts_than_rollouts_are_refused(tmp_path: Path) -> None:
    given = [judged("a", 1, attempt, "x", True) for attempt in range(2)]
    with pytest.raises(UserError, match="different numbers of rows"):
        filter_rollouts.into(
            filter_rollouts.out(
                examples=Dataset(uri=str(tmp_path / "examples")), replay_pool=Dataset(uri=str(tmp_path / "new_pool"))
            ),
            FilterParams(),
            rollouts=sealed_table(tmp_path / "rollouts", Rollout, [each.rollout for each in given]),
            verdicts=sealed_table(tmp_path / "verdicts", Verdict, [given[0].verdict]),
            replay_pool=sealed_table(tmp_path / "replay_pool", Example, []),
        )
    assert not (tmp_path / "examples" / "manifest.json").exists()


def test_verdicts_on_rollouts_of_another_policy_are_refused(tmp_path: Path) -> None:
    """Though they name the same tasks."""
    both = judged("a", 1, 0, "x", True)
    rollouts = sealed_table(tmp_path / "rollouts", Rollout, [both.rollout])
    verdicts = sealed_table(tmp_path / "verdicts", Verdict, [both.verdict])
    manifest = Path(verdicts.path) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"inputs": {}', '"inputs": {"rollouts": "of another policy"}'))
    out = filter_rollouts.out(*(Dataset(uri=str(tmp_path / name)) for name in ("examples", "new_pool")))
    pool = sealed_table(tmp_path / "replay_pool", Example, [])
    with pytest.raises(UserError, match="are of other rollouts: verify these rollouts again"):
        filter_rollouts.into(out, FilterParams(), rollouts=rollouts, verdicts=verdicts, replay_pool=pool)
