from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.records import (
    Example,
    RowDigest,
    Task,
    Verdict,
    beside,
    count,
    read,
    rows,
    schema,
    take,
    to_batch,
    whole_groups,
    with_tasks,
    writing,
)

verdicts = st.builds(
    Verdict,
    task=st.text(max_size=5),
    level=st.integers(0, 9),
    attempt=st.integers(0, 9),
    ok=st.none() | st.booleans(),
    score=st.floats(0, 1),
    reason=st.text(max_size=5),
)


@given(st.lists(verdicts, max_size=30))
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, written: list[Verdict]) -> None:
    place = tmp_path_factory.mktemp("table")
    with writing(place, Verdict) as table:
        table.write(written)
    assert list(rows(place, Verdict)) == written
    assert count(place) == len(written)


@given(st.lists(verdicts, max_size=30), st.data())
def test_the_digest_of_rows_does_not_depend_on_how_they_are_cut(written: list[Verdict], data: st.DataObject) -> None:
    whole, cut = RowDigest(schema(Verdict)), RowDigest(schema(Verdict))
    batch = to_batch(Verdict, written)
    whole.update(batch)
    first = 0
    while first < len(written):
        size = data.draw(st.integers(1, len(written)))
        cut.update(batch.slice(first, size))
        first += size
    assert whole.hexdigest() == cut.hexdigest()


@given(st.lists(verdicts, min_size=1, max_size=10), st.data())
def test_the_digest_of_rows_changes_with_any_value(written: list[Verdict], data: st.DataObject) -> None:
    other = list(written)
    index = data.draw(st.integers(0, len(written) - 1))
    other[index] = data.draw(verdicts.filter(lambda row: row != written[index]))
    digests = []
    for version in (written, other):
        digest = RowDigest(schema(Verdict))
        digest.update(to_batch(Verdict, version))
        digests.append(digest.hexdigest())
    assert digests[0] != digests[1]


def test_moving_text_between_neighbouring_rows_changes_the_digest() -> None:
    digests = set()
    for completions in (("ab", "c"), ("a", "bc")):
        digest = RowDigest(schema(Example))
        digest.update(to_batch(Example, [Example("t", 1, "p", text, 0) for text in completions]))
        digests.add(digest.hexdigest())
    assert len(digests) == 2


def test_rows_are_spread_over_shards(tmp_path: Path) -> None:
    with writing(tmp_path, Example, shard_rows=70_000) as table:
        for number in range(4):
            table.write([Example(f"{number}", 1, "p", "c", 0)] * 50_000)
    assert len(list(tmp_path.glob("*.parquet"))) > 1
    assert count(tmp_path) == sum(batch.num_rows for batch in read(tmp_path, Example)) == 200_000


def test_a_value_of_the_wrong_type_is_refused_with_row_and_field(tmp_path: Path) -> None:
    wrong = Example("t", "two", "p", "c", 0)  # type: ignore[arg-type]
    with (
        pytest.raises(UserError, match="Row 1, field 'level' of a Example must be int64"),
        writing(tmp_path, Example) as table,
    ):
        table.write([Example("t", 1, "p", "c", 0), wrong])


def test_a_missing_value_is_refused_with_file_row_and_field(tmp_path: Path) -> None:
    rows = pa.Table.from_batches([to_batch(Example, [Example("a", 1, "p", "c", 0)] * 2)]).replace_schema_metadata()
    rows = rows.set_column(1, "level", pa.array([1, None], pa.int64()))
    pq.write_table(rows, tmp_path / "shard-00000.parquet")
    with pytest.raises(UserError, match=r"shard-00000.parquet: row 1, field 'level' of a Example is missing"):
        list(read(tmp_path, Example))


def test_a_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"task": ["a"]}), tmp_path / "shard-00000.parquet")
    with pytest.raises(UserError, match=r"shard-00000.parquet lacks the field 'level' of Example"):
        list(read(tmp_path, Example))


def test_a_table_of_another_version_is_refused(tmp_path: Path) -> None:
    newer = schema(Example).with_metadata({"selfloop.record": "Example", "selfloop.version": "99"})
    pq.write_table(pa.Table.from_batches([to_batch(Example, [])]).cast(newer), tmp_path / "shard-00000.parquet")
    with pytest.raises(UserError, match="holds version 99 of Example"):
        list(read(tmp_path, Example))


def test_a_corrupt_shard_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "shard-00000.parquet").write_bytes(b"PAR1 but then nothing")
    with pytest.raises(UserError, match=r"shard-00000.parquet is not a readable Parquet file"):
        list(read(tmp_path, Example))


def test_a_folder_without_shards_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no Parquet shards"):
        list(read(tmp_path, Example))


@given(st.lists(st.integers(0, 199), max_size=40, unique=True).map(sorted))
@settings(max_examples=20, deadline=None)
def test_taken_rows_are_the_rows_at_these_indices(tmp_path_factory: pytest.TempPathFactory, indices: list[int]) -> None:
    place = tmp_path_factory.mktemp("table")
    made = [Example(f"{n}", n, "p", "c", 0) for n in range(200)]
    with writing(place, Example, shard_rows=60) as table:
        table.write(made)
    assert take(place, Example, indices) == [made[index] for index in indices]


def _stream(names: list[str], sizes: list[int]) -> Iterator[pa.RecordBatch]:
    batch, first = pa.RecordBatch.from_pydict({"task": pa.array(names, pa.string())}), 0
    for size in sizes:
        yield batch.slice(first, size)
        first += size
    yield batch.slice(first)


groups = st.lists(st.integers(1, 4), max_size=8).map(
    lambda sizes: [f"t{number}" for number, size in enumerate(sizes) for _ in range(size)]
)


@given(groups, st.lists(st.integers(0, 5), max_size=10))
def test_whole_groups_keep_all_rows_and_split_no_task(names: list[str], sizes: list[int]) -> None:
    cut = list(whole_groups(_stream(names, sizes)))
    assert [name for batch in cut for name in batch["task"].to_pylist()] == names
    seen: set[str] = set()
    for batch in cut:
        here = set(batch["task"].to_pylist())
        assert not here & seen
        seen |= here


@given(groups, st.lists(st.integers(0, 5), max_size=10), st.integers(1, 5))
def test_each_rollout_meets_its_own_task(names: list[str], sizes: list[int], at_once: int) -> None:
    distinct = list(dict.fromkeys(names))
    tasks = to_batch(Task, [Task(name, 1, "", name, name) for name in distinct])
    stream = (tasks.slice(first, at_once) for first in range(0, len(distinct), at_once))
    met = [
        (name, task)
        for batch, asked in with_tasks(_stream(names, sizes), stream)
        for name, task in zip(batch["task"].to_pylist(), asked["id"].to_pylist(), strict=True)
    ]
    assert met == [(name, name) for name in names]


def test_a_rollout_of_an_unknown_task_is_refused() -> None:
    tasks = iter([to_batch(Task, [Task("a", 1, "", "p", "c")])])
    with pytest.raises(UserError, match="names the task 'b'"):
        list(with_tasks(_stream(["a", "b"], []), tasks))


def test_tables_of_different_lengths_do_not_go_together() -> None:
    with pytest.raises(UserError, match="different numbers of rows"):
        list(beside(_stream(["a", "b"], []), _stream(["a"], [])))
