import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.artifacts import check, seal
from selfloop.columns import RowDigest, field_of
from selfloop.errors import UserError
from selfloop.records import (
    PROTOCOL,
    Example,
    Rollout,
    Segment,
    Task,
    Verdict,
    batch_of,
    beside,
    count,
    final_text,
    non_policy_spans,
    read,
    rows,
    schema,
    segments_of,
    take,
    to_batch,
    whole_groups,
    with_final_text,
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


def tuples(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(of, max_size=3).map(tuple)


some_segments = tuples(
    st.builds(Segment, st.sampled_from(["policy", "tool"]), st.text(max_size=3), st.none() | st.floats(0, 1))
)
rollouts = st.builds(
    Rollout,
    task=st.text(max_size=3),
    level=st.integers(0, 9),
    attempt=st.integers(0, 9),
    prompt=st.text(max_size=3),
    completion=st.text(max_size=3),
    finished=st.booleans(),
    tokens=st.integers(0, 9),
    logprob=st.none() | st.floats(-1, 0),
    self_certainty=st.none() | st.floats(0, 1),
    turns=st.integers(0, 9),
    role=st.sampled_from(["policy", "first"]),
    episode=st.sampled_from(["", "t-0"]),
    segments=some_segments,
    token_ids=st.none() | tuples(st.integers(0, 9)),
    logprobs=st.none() | tuples(st.none() | st.floats(-1, 0)),
)
tables: pytest.MarkDecorator = pytest.mark.parametrize(("record", "made"), [(Verdict, verdicts), (Rollout, rollouts)])


@tables
@given(st.data())
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, record: Any, made: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    place, written = tmp_path_factory.mktemp("table"), data.draw(st.lists(made, max_size=30))
    with writing(place, record) as table:
        table.write(written)
    assert list(rows(place, record)) == written
    assert count(place) == len(written)


@tables
@given(st.data())
def test_the_digest_of_rows_does_not_depend_on_how_they_are_cut(
    record: Any, made: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    written = data.draw(st.lists(made, max_size=30))
    whole, cut = RowDigest(schema(record)), RowDigest(schema(record))
    batch = to_batch(record, written)
    whole.update(batch)
    first = 0
    while first < len(written):
        size = data.draw(st.integers(1, len(written)))
        cut.update(batch.slice(first, size))
        first += size
    assert whole.hexdigest() == cut.hexdigest()


@tables
@given(st.data())
def test_the_digest_of_rows_changes_with_any_value(
    record: Any, made: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    written = data.draw(st.lists(made, min_size=1, max_size=10))
    other = list(written)
    index = data.draw(st.integers(0, len(written) - 1))
    other[index] = data.draw(made.filter(lambda row: row != written[index]))
    digests = []
    for version in (written, other):
        digest = RowDigest(schema(record))
        digest.update(to_batch(record, version))
        digests.append(digest.hexdigest())
    assert digests[0] != digests[1]


def test_moving_text_between_neighbouring_rows_changes_the_digest() -> None:
    digests = set()
    for completions in (("ab", "c"), ("a", "bc")):
        digest = RowDigest(schema(Example))
        digest.update(to_batch(Example, [Example("t", 1, "p", text, 0) for text in completions]))
        digests.add(digest.hexdigest())
    assert len(digests) == 2


def test_moving_a_segment_between_neighbouring_rows_changes_the_digest() -> None:
    digests, one = set(), Segment("tool", "a")
    for first, second in (((one, one), ()), ((one,), (one,)), ((), (one, one))):
        digest = RowDigest(schema(Example))
        digest.update(to_batch(Example, [Example("t", 1, "p", "aa", 0, segments=each) for each in (first, second)]))
        digests.add(digest.hexdigest())
    assert len(digests) == 3


def test_rows_are_spread_over_shards(tmp_path: Path) -> None:
    with writing(tmp_path, Example, shard_rows=70_000) as table:
        for number in range(4):
            table.write([Example(f"{number}", 1, "p", "c", 0)] * 50_000)
    assert len(list(tmp_path.glob("*.parquet"))) > 1
    assert count(tmp_path) == sum(batch.num_rows for batch in read(tmp_path, Example)) == 200_000


def test_a_table_that_grows_is_the_same_in_few_shards_and_written_a_few_times(tmp_path: Path) -> None:
    def grown(rounds: int, each: int) -> list[Example]:
        return [Example(f"task {number}", number, "1+1=", "2" * 40, 0) for number in range(rounds * each)]

    last, each = 80, 7
    with writing(tmp_path / "0", Example):
        pass
    for number in range(1, last + 1):
        with writing(tmp_path / str(number), Example) as table:
            seen = sum(batch.num_rows for batch in table.extend(tmp_path / str(number - 1)))
            assert seen == table.rows == (number - 1) * each
            table.write(grown(number, each)[seen:])
    with writing(tmp_path / "at once", Example) as table:
        table.write(grown(last, each))
    assert list(rows(tmp_path / str(last), Example)) == grown(last, each)
    grown_table, at_once = (json.loads((tmp_path / name / "table.json").read_text()) for name in (str(last), "at once"))
    assert grown_table == at_once
    shards = {path.stat().st_ino: path for path in tmp_path.glob("*/*.parquet")}
    assert len(list((tmp_path / str(last)).glob("*.parquet"))) <= 8
    assert sum(pq.ParquetFile(path).metadata.num_rows for path in shards.values()) < 8 * last * each


def test_a_value_of_the_wrong_type_is_refused_with_row_and_field(tmp_path: Path) -> None:
    wrong = Example("t", "two", "p", "c", 0)  # type: ignore[arg-type]
    with (
        pytest.raises(UserError, match="Row 1, field 'level' of a Example must be int64"),
        writing(tmp_path, Example) as table,
    ):
        table.write([Example("t", 1, "p", "c", 0), wrong])
    with pytest.raises(UserError, match="Row 0, field 'level' of a Example must be int64"):
        to_batch(Example, [Example("t", 2**63, "p", "c", 0)])
    with pytest.raises(UserError, match="Row 0, field 'segments' of a Example must be list"):
        to_batch(Example, [Example("t", 1, "p", "c", 0, segments=((1, 2, 3),))])  # type: ignore[arg-type]


def test_a_missing_value_is_refused_with_file_row_and_field(tmp_path: Path) -> None:
    rows = pa.Table.from_batches([to_batch(Example, [Example("a", 1, "p", "c", 0)] * 2)]).replace_schema_metadata()
    rows = rows.set_column(1, "level", pa.array([1, None], pa.int64()))
    pq.write_table(rows, tmp_path / "shard-00000.parquet")
    with pytest.raises(UserError, match=r"shard-00000.parquet: row 1, field 'level' of a Example is missing"):
        list(read(tmp_path, Example))


def test_a_missing_value_inside_a_segment_is_refused_with_row_and_field(tmp_path: Path) -> None:
    nobody = Segment(None, "c")  # type: ignore[arg-type]
    given = [Example("a", 1, "p", "cc", 0, segments=each) for each in ((), (Segment("tool", "c"), nobody))]
    with (
        pytest.raises(UserError, match=r"row 1, field 'segments.author' of a Example is missing"),
        writing(tmp_path, Example) as table,
    ):
        table.write(given)


def test_a_field_that_no_column_can_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot hold"):
        field_of("set", set[int])


def test_columns_that_are_not_given_hold_the_defaults() -> None:
    task = Task("a", 1, "", "p", "c")
    given = {name: pa.array([getattr(task, name)] * 2) for name in ("id", "level", "suite", "prompt", "answer")}
    assert batch_of(Task, given).equals(to_batch(Task, [task] * 2))


V2: dict[type, tuple[str, ...]] = {
    Task: ("id", "level", "suite", "prompt", "answer", "attempts", "max_tokens", "metadata", "seed"),
    Rollout: (
        "task", "level", "attempt", "prompt", "completion", "finished", "tokens", "logprob", "self_certainty",
        "observed", "turns",
    ),
    Example: (
        "task", "level", "prompt", "completion", "round", "weight", "good", "rate", "rejected", "observed",
    ),
}  # fmt: skip
"""The columns that version 2 had."""


def write_version_2(place: Path, record: Any, given: list[Any], observed: list[str]) -> None:
    """A table as selfloop wrote it when its version was 2."""
    batch = to_batch(record, given)
    kept = {field.name: field for field in batch.schema} | {"observed": field_of("observed", str)}
    columns = {name: batch[name] for name in batch.schema.names} | {"observed": pa.array(observed, pa.string())}
    metadata = {"selfloop.record": record.__name__, "selfloop.version": "2"}
    names = V2[record]
    table = pa.table([columns[name] for name in names], schema=pa.schema([kept[name] for name in names], metadata))
    place.mkdir()
    pq.write_table(table, place / "shard-00000.parquet")
    about = {"record": record.__name__, "version": 2, "rows": len(given), "digest": "that of then"}
    (place / "table.json").write_text(json.dumps(about))


OBSERVED = ["[]", "[[1, 8]]", "[[0, 2], [2, 3], [7, 9]]"]
SAID = "3 again 2"


@pytest.mark.parametrize("record", [Rollout, Example])
def test_texts_of_version_2_are_read_with_what_others_wrote_in_segments(tmp_path: Path, record: Any) -> None:
    made = {Rollout: Rollout("t", 1, 0, "p", SAID, True, 2), Example: Example("t", 1, "p", SAID, 3)}[record]
    write_version_2(tmp_path / "old", record, [made] * 3, OBSERVED)
    found = list(rows(tmp_path / "old", record))
    assert [row._replace(segments=()) for row in found] == [made] * 3
    spans = [[[*span] for span in non_policy_spans(row.segments)] for row in found]
    assert spans == list(map(json.loads, OBSERVED))
    assert ["".join(part.text for part in row.segments) for row in found] == ["", SAID, SAID]
    assert [final_text(SAID, row.segments) for row in found] == [SAID, "2", ""]
    [some] = read(tmp_path / "old", record, ["segments", "task", "role"])
    assert some.schema.names == ["segments", "task", "role"]
    assert some["role"].to_pylist() == ["policy"] * 3


def test_tasks_of_version_2_are_read_and_their_digest_stays(tmp_path: Path) -> None:
    task = Task("a", 1, "", "p", "c", metadata="{}")
    write_version_2(tmp_path / "old", Task, [task] * 2, ["[]"] * 2)
    seal(tmp_path / "old", "Dataset")
    assert list(rows(tmp_path / "old", Task)) == [task] * 2
    assert [batch["cluster"].to_pylist() for batch in read(tmp_path / "old", Task, ["cluster"])] == [["", ""]]
    assert check(tmp_path / "old").digest == "that of then"


def test_what_is_read_of_version_2_is_written_as_it_is_now(tmp_path: Path) -> None:
    write_version_2(tmp_path / "old", Rollout, [Rollout("t", 1, 0, "p", SAID, True, 2)] * 3, OBSERVED)
    with writing(tmp_path / "new", Rollout) as table:
        for batch in read(tmp_path / "old", Rollout):
            table.write(batch)
    assert list(rows(tmp_path / "new", Rollout)) == list(rows(tmp_path / "old", Rollout))


def test_examples_of_version_3_were_finished_and_keep_their_segments(tmp_path: Path) -> None:
    made = Example("t", 1, "p", SAID, 3, segments=segments_of(SAID, [(1, 8)], PROTOCOL))
    batch = to_batch(Example, [made])
    metadata = {"selfloop.record": "Example", "selfloop.version": "3"}
    older = pa.Table.from_batches([batch]).drop(["finished", "rejected_finished"]).replace_schema_metadata(metadata)
    pq.write_table(older, tmp_path / "shard-00000.parquet")
    assert list(rows(tmp_path, Example)) == [made]
    pq.write_table(older.drop(["segments"]), tmp_path / "shard-00000.parquet")
    with pytest.raises(UserError, match="lacks the field 'segments' of Example"):
        list(read(tmp_path, Example))


def test_a_table_of_version_2_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    write_version_2(tmp_path / "old", Rollout, [Rollout("t", 1, 0, "p", SAID, True, 2)], ["[]"])
    table = pq.read_table(tmp_path / "old" / "shard-00000.parquet").drop(["observed"])
    pq.write_table(table, tmp_path / "old" / "shard-00000.parquet")
    with pytest.raises(UserError, match="lacks the field 'observed' of Rollout"):
        list(read(tmp_path / "old", Rollout))


@given(st.text(max_size=9), st.lists(st.integers(0, 9), max_size=6, unique=True).map(sorted))
def test_segments_say_where_others_wrote_and_what_counts(text: str, ends: list[int]) -> None:
    spans = [(first, last) for first, last in itertools.pairwise(ends) if last <= len(text)][::2]
    segments = segments_of(text, spans, "tool", role="solver")
    assert "".join(segment.text for segment in segments) == (text if spans else "")
    assert non_policy_spans(segments, "solver") == spans
    assert final_text(text, segments, "solver") == (text[spans[-1][1] :] if spans else text)


def test_where_others_wrote_last_what_the_role_wrote_before_counts() -> None:
    segments = [Segment("a", "1"), Segment("b", "2"), Segment("a", "3"), Segment("a", "4"), Segment("b", "5")]
    assert final_text("12345", segments, "a") == "34"
    assert final_text("12345", segments, "b") == "5"
    assert final_text("12345", segments, "c") == ""


def test_a_batch_has_the_text_that_counts_in_place_of_its_completions() -> None:
    plain = Rollout("t", 1, 0, "p", SAID, True, 2)
    told = plain._replace(segments=segments_of(SAID, [(1, 8)], PROTOCOL))
    batch = to_batch(Rollout, [plain, told])
    assert with_final_text(batch)["completion"].to_pylist() == [SAID, "2"]
    assert with_final_text(batch.slice(0, 1)).equals(batch.slice(0, 1))
    assert with_final_text(batch.slice(0, 0)).num_rows == 0


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
