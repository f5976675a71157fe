"""What holds for every selector, in every order."""

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.filter import FilterParams
from selfloop.filter.filter import Step, grouped, selected
from selfloop.filter.selecting import Context, Selector
from selfloop.records import whole_groups

from .conftest import Filtered, Judged, Keep, Selected, group, joined, judged

if TYPE_CHECKING:
    import pyarrow as pa

PAIRING = sorted(name for name, selector in Selector.members().items() if selector.pairs)
SINGLE = sorted(set(Selector.members()) - {"nothing", "diverse-by-embedding", *PAIRING})
"""Those that stand anywhere."""
BOUNDS = {
    "minhash": "ngram=2,ngram_of=characters,similarity=0.6,permutations=64",
    "diverse": "ngram=2,ngram_of=characters",
    "length": "shortest=1,longest=6",
    "budget": "tokens=40",
    "budget-by-score": "tokens=40",
    "budget-by-task": "tokens=40",
    "balance": "enough=2",
    "per-level": "limit=6",
    "rate": "min_rate=0.2",
}


def bounded(*names: str) -> FilterParams:
    """Selectors with bounds that small groups reach."""
    return FilterParams(select=[",".join([name, *([BOUNDS[name]] if name in BOUNDS else [])]) for name in names])


attempts = st.tuples(
    st.text("abc", max_size=8), st.sampled_from([True, False, None]), st.sampled_from([0.0, 0.5, 0.75, 1.0])
)
tasks = st.lists(st.tuples(st.integers(1, 2), st.lists(attempts, min_size=1, max_size=6)), min_size=1, max_size=6)
select = st.tuples(
    st.lists(st.sampled_from(SINGLE), max_size=3),
    st.sampled_from([[], *([name] for name in PAIRING)]),
    st.lists(st.sampled_from(SINGLE), max_size=2),
).map(lambda parts: parts[0] + parts[1] + parts[2] or ["all"])
possible = select.filter(
    lambda names: "first-error" not in names or "correct" not in names[: names.index("first-error")]
).filter(lambda names: not {"quantiles", "closed-book"} <= set(names))  # what takes passages away takes marks away


def rollouts(tasks: list[tuple[int, list[tuple[str, bool | None, float]]]]) -> list[Judged]:
    return [
        judged(f"t{number}", level, attempt, said, ok, score=score, prompt=f"<q5>passage?t{number}")
        for number, (level, said_of_it) in enumerate(tasks)
        for attempt, (said, ok, score) in enumerate(said_of_it)
    ]


def at_once(given: list[Judged]) -> list["pa.RecordBatch"]:
    return [grouped(joined(given))]


@given(tasks, possible)
@settings(max_examples=80, deadline=None)
def test_the_counts_add_up_at_every_selector(
    tmp_path_factory: pytest.TempPathFactory,
    tasks: list[tuple[int, list[tuple[str, bool | None, float]]]],
    select: list[str],
) -> None:
    given = rollouts(tasks)
    made = Selected(tmp_path_factory.mktemp("made"), bounded(*select), at_once(given))
    reaching = len(given)
    assert [step["selector"] for step in made.funnel] == select
    for step in made.funnel:
        assert step["in"] == reaching
        assert step["in"] == step["kept"] + sum(step["rejected"].values())
        assert all(number > 0 for number in step["rejected"].values())
        reaching = step["kept"]
    assert len(made.rows) == reaching


@given(tasks, possible)
@settings(max_examples=60, deadline=None)
def test_selectors_in_a_row_keep_what_they_keep_one_after_the_other(
    tmp_path_factory: pytest.TempPathFactory,
    tasks: list[tuple[int, list[tuple[str, bool | None, float]]]],
    select: list[str],
) -> None:
    batches = at_once(rollouts(tasks))
    made = Selected(tmp_path_factory.mktemp("made"), bounded(*select), batches)
    for name in select:
        [selector] = bounded(name).select
        batches = list(selected(iter(batches), [Step(selector)], Context(), tmp_path_factory.mktemp("single")))
    rows = [row for batch in batches for row in batch.drop_columns(["group"]).to_pylist()]
    assert rows == made.rows


@given(tasks, possible, st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_however_the_stream_is_cut_the_same_rows_are_kept(
    tmp_path_factory: pytest.TempPathFactory,
    tasks: list[tuple[int, list[tuple[str, bool | None, float]]]],
    select: list[str],
    size: int,
) -> None:
    given, params = rollouts(tasks), bounded(*select)
    whole = Selected(tmp_path_factory.mktemp("whole"), params, at_once(given))
    slices = iter([joined(given).slice(at, size) for at in range(0, len(given), size)])
    cut = Selected(tmp_path_factory.mktemp("cut"), params, [grouped(batch) for batch in whole_groups(slices)])
    assert cut.rows == whole.rows
    assert cut.funnel == whole.funnel


@given(tasks, st.sampled_from(["unique", "minhash", "diverse", "correct", "rate", "length", "per-level"]))
@settings(max_examples=60, deadline=None)
def test_what_a_selector_keeps_it_keeps_again(
    tmp_path_factory: pytest.TempPathFactory,
    tasks: list[tuple[int, list[tuple[str, bool | None, float]]]],
    name: str,
) -> None:
    once = Selected(tmp_path_factory.mktemp("1"), bounded(name), at_once(rollouts(tasks)))
    twice = Selected(tmp_path_factory.mktemp("2"), bounded(name, name), at_once(rollouts(tasks)))
    assert twice.rows == once.rows
    assert twice.funnel[1]["rejected"] == {}


def test_the_order_of_selectors_matters(keep: Keep) -> None:
    """A wrong duplicate comes first: without it the right one is kept."""
    given = group("a", ("x", False), ("x", True))
    assert keep(given, "correct", "unique").texts == ["x"]
    assert keep(given, "unique", "correct").texts == []


def test_two_selectors_that_foresee_each_see_what_reaches_them(keep: Keep) -> None:
    given = [row for task in "abc" for row in group(task, *((f"{task}{n}", n < 2, n / 4) for n in range(4)))]
    made = keep(given, "budget-by-task,tokens=12", "balance,enough=2", "budget-by-score,tokens=12")
    assert [step["in"] for step in made.funnel] == [12, 6, 6]
    assert made.files == ["manifest.json", "shard-00000.parquet", "sidecar.json", "table.json"]


@pytest.mark.parametrize("name", sorted(set(SINGLE) - {"balance", "budget-by-score", "budget-by-task", "quantiles"}))
def test_a_stream_passes_batch_by_batch_where_nothing_must_be_foreseen(tmp_path: Path, name: str) -> None:
    drawn = list[int]()

    def endless() -> Iterator["pa.RecordBatch"]:
        for number in count():
            drawn.append(number)
            yield grouped(joined(group(f"t{number}", *((f"{number} {n}", n < 2) for n in range(4)))))

    params = FilterParams(select=[name, "unique"])
    passing = selected(endless(), [Step(each) for each in params.select], Context(), tmp_path)
    for taken in range(1, 4):
        assert next(passing).num_rows
        assert len(drawn) == taken


def test_a_table_of_many_batches_is_selected_as_one_of_few(tmp_path: Path) -> None:
    """Groups are larger than what is read at once."""
    given = [
        judged(f"t{task}", 1, n, f"{task} {n % 40}", n % 3 == 0, score=n % 7 / 7, tokens=3)
        for task in range(40)
        for n in range(2500)
    ]
    select = "rate,min_rate=0.1+balance,enough=3+unique+correct+budget-by-score,tokens=300+per-level"
    params = FilterParams(select=select)
    made = Filtered(tmp_path / "stage", params, given)
    whole = Selected(tmp_path / "whole", params, at_once(given))
    assert made.texts == whole.texts
    assert (made.funnel, len(made.texts)) == (whole.funnel, 100)


def test_room_of_earlier_rounds_is_a_selector_s_to_see(tmp_path: Path) -> None:
    params = FilterParams(select="per-level,limit=3")
    given = [judged(f"{n}", 1, 0, "x", True) for n in range(4)]
    assert len(Selected(tmp_path, params, at_once(given), Counter({1: 2})).rows) == 1
