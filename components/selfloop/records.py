"""The tables that flow between stages: typed rows, Arrow schemas, Parquet shards.

A record is a ``NamedTuple``; its Arrow schema is derived from its annotations, so a column is written once.
Tables are directories of Parquet shards, read and written as streams of batches: ten million rows pass
through a stage in constant memory. Older tables, from version 2 on, are read as those of today.
"""

from __future__ import annotations

import functools
import itertools
import json
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from selfloop.columns import RowDigest, field_of, first_missing, repeated, values_of
from selfloop.errors import UserError
from selfloop.links import link

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq


class Task(NamedTuple):
    """One problem. ``attempts`` and ``max_tokens`` are what its proposer allows for it, ``seed`` is the evaluation seed
    that a held-out item was drawn with. Its attempts are drawn at ``temperature`` where it has one of its own. Tasks of
    one ``cluster``, made of one source, are one for statistics.
    """

    id: str
    level: int
    suite: str
    prompt: str
    answer: str
    attempts: int = 1
    max_tokens: int = 512
    metadata: str = "{}"
    seed: int = 0
    cluster: str = ""
    temperature: float | None = None


POLICY, PROTOCOL, TOOL, ENVIRONMENT = "policy", "protocol", "tool", "environment"
"""Authors of text. The role of whoever is asked without a role of its own is ``policy``."""


class Segment(NamedTuple):
    """A piece of a text: who wrote it, and what it is worth by itself, where that is known."""

    author: str
    text: str
    reward: float | None = None


class Rollout(NamedTuple):
    """One attempt at a task. ``finished`` says that the policy ended it by itself, with its end token.

    ``tokens`` counts what the policy wrote, ``logprob`` is the sum of the log-probabilities of these tokens under the
    policy (nats, before temperature), ``self_certainty`` the mean KL divergence from the uniform distribution to the
    policy's own over them (Kang et al., arXiv:2502.18581).

    ``completion`` is the whole text behind the prompt. Its ``segments`` say who wrote what: what is not by the author
    ``role`` never trains. Without segments all of it is by ``role``. Where a protocol asks several roles, such as the
    seats of a game, each has a rollout with what it read and wrote, and they share their ``episode``.

    Where they are kept, ``token_ids`` are the completion's tokens, the end token among them, and ``logprobs`` their
    log-probabilities: null for tokens that the policy did not write, or that a stop string cut through.
    """

    task: str
    level: int
    attempt: int
    prompt: str
    completion: str
    finished: bool
    tokens: int
    logprob: float | None = None
    self_certainty: float | None = None
    turns: int = 1
    episode: str = ""
    role: str = POLICY
    segments: tuple[Segment, ...] = ()
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float | None, ...] | None = None


class Verdict(NamedTuple):
    """What the loop believes of a rollout: whether it is good (``ok``, ``None`` where the verifier has no opinion), how
    good, and why. Rows stand in the order of the rollouts that they judge.
    """

    task: str
    level: int
    attempt: int
    ok: bool | None
    score: float
    reason: str


class Audit(NamedTuple):
    """A verdict beside the truth, which is ``None`` where the environment does not know it, and beside the answer.

    ``said`` is the answer of the completion, those at one task that say the same in one spelling: empty where it gives
    none, ``None`` where the environment does not tell an answer from the rest of a completion. Rows stand in the order
    of the rollouts. The table is for those who watch the loop: it never trains.
    """

    task: str
    level: int
    attempt: int
    ok: bool | None
    score: float
    truth: bool | None
    said: str | None = None


class Example(NamedTuple):
    """One text to train on. ``round`` is the round that made it, 0 for the data of the base policy.

    ``weight`` multiplies its loss. ``good`` is false for a text to train away from, ``rate`` is the share of good
    rollouts in its group. ``rejected`` is the worse completion where the example is a pair. ``role``, ``segments`` and
    ``rejected_segments`` are as in a ``Rollout``: what others wrote carries no loss. An end token is learnt behind what
    is ``finished``, and behind no text that was cut at its limit.
    """

    task: str
    level: int
    prompt: str
    completion: str
    round: int
    weight: float = 1.0
    good: bool = True
    rate: float = 1.0
    rejected: str = ""
    role: str = POLICY
    segments: tuple[Segment, ...] = ()
    rejected_segments: tuple[Segment, ...] = ()
    finished: bool = True
    rejected_finished: bool = True


class ItemResult(NamedTuple):
    """How one policy (``champion`` or ``candidate``) did in one sample of one held-out item, and the item's cluster.

    ``said`` is the answer as in an ``Audit``, where an item has several samples.
    """

    policy: str
    suite: str
    level: int
    task: str
    attempt: int
    ok: bool
    completion: str
    seed: int = 0
    cluster: str = ""
    said: str | None = None


VERSIONS: Mapping[type, int] = {Task: 3, Rollout: 3, Verdict: 2, Audit: 2, Example: 4, ItemResult: 4}
SINCE: Mapping[type, Mapping[str, int]] = {
    Task: {"cluster": 3, "temperature": 3},
    Rollout: {"episode": 3, "role": 3, "segments": 3, "token_ids": 3, "logprobs": 3},
    Example: {"role": 3, "segments": 3, "rejected_segments": 3, "finished": 4, "rejected_finished": 4},
    Audit: {"said": 2},
    ItemResult: {"cluster": 3, "said": 4},
}
"""The versions that brought columns. In place of segments version 2 has ``observed``: pairs of places, as JSON."""
OLDEST = 2
OBSERVED = "observed"
TABLE = "table.json"
BATCH_ROWS = 65_536
SHARD_ROWS = 2_000_000

T = TypeVar("T")
R = TypeVar("R", bound=tuple[Any, ...])


@functools.cache
def schema(record: type[tuple[Any, ...]]) -> pa.Schema:
    """The Arrow schema of a record, with the record's name and version as metadata."""
    import pyarrow as pa

    fields = [field_of(name, hint) for name, hint in hints(record).items()]
    return pa.schema(fields, metadata={"selfloop.record": record.__name__, "selfloop.version": str(VERSIONS[record])})


@functools.cache
def hints(record: type[tuple[Any, ...]]) -> Mapping[str, Any]:
    """The annotations of a record's fields."""
    return typing.get_type_hints(record)


def to_batch(record: type[R], rows: Iterable[R]) -> pa.RecordBatch:
    """Rows as one Arrow batch; a value of the wrong type is refused with its row and field."""
    import pyarrow as pa

    expected, listed = schema(record), list(rows)
    columns = list(zip(*listed, strict=True)) if listed else [()] * len(expected)
    try:
        return pa.RecordBatch.from_arrays(
            [pa.array(values, field.type) for values, field in zip(columns, expected, strict=True)], schema=expected
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        row, field = next(
            (row, field)
            for row, values in enumerate(listed)
            for value, field in zip(values, expected, strict=True)
            if not _fits(value, field)
        )
        raise UserError(f"Row {row}, field '{field.name}' of a {record.__name__} must be {field.type}.") from None


def batch_of(record: type[tuple[Any, ...]], columns: Mapping[str, Any]) -> pa.RecordBatch:
    """One Arrow batch from the columns of a record; those that are not given hold the record's defaults."""
    import pyarrow as pa

    length = len(next(iter(columns.values())))
    arrays = [
        columns[field.name] if field.name in columns else default_of(record, field.name, length)
        for field in schema(record)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema(record))


def default_of(record: type[tuple[Any, ...]], name: str, length: int) -> pa.Array:
    """A column that holds a field's default in every row."""
    defaults: Mapping[str, Any] = record._field_defaults  # type: ignore[attr-defined]
    return repeated(defaults[name], schema(record).field(name).type, length)


def _fits(value: object, field: pa.Field) -> bool:
    import pyarrow as pa

    try:
        pa.array([value], field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False
    return True


class Writer:
    """Writes rows or batches of one record as Parquet shards into a directory."""

    def __init__(self, directory: Path, record: type[tuple[Any, ...]], shard_rows: int = SHARD_ROWS) -> None:
        self._directory, self._record, self._shard_rows = directory, record, shard_rows
        self._schema = schema(record)
        self._digest = RowDigest(self._schema)
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._rows_in_shard = self._shards = self._flushed = 0
        self._file: Any = None

    def write(self, rows: Iterable[tuple[Any, ...]] | pa.RecordBatch) -> None:
        """Append rows in order. Raises ``UserError`` where a value breaks the schema."""
        import pyarrow as pa

        batch = rows if isinstance(rows, pa.RecordBatch) else to_batch(self._record, rows)
        self._refuse_misfits(batch)
        self._digest.update(batch)
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        if self._pending_rows >= BATCH_ROWS:
            self._flush()

    def extend(self, directory: str | Path) -> Iterator[pa.RecordBatch]:
        """Begin with the rows of another table, and stream them. Of its shards those that are large beside what follows
        are taken as they are, hard links where that is possible: a table that grows round after round is written anew
        in parts only, and has few of them.
        """
        shards = sorted(Path(directory).glob("*.parquet"))
        kept = self._large(shards)
        for number, shard in enumerate(shards):
            if number < kept:
                link(shard, self._directory / f"shard-{self._shards:05}.parquet")
                self._shards += 1
            for batch in _read_shard(shard, self._record, schema(self._record).names, BATCH_ROWS):
                if number < kept:
                    self._digest.update(batch)
                    self._flushed += batch.num_rows
                else:
                    self.write(batch)
                yield batch

    def _large(self, shards: Sequence[Path]) -> int:
        """How many shards, from the first on, are of this version and twice as large as all that follow together."""
        files = [_opened(shard, self._record) for shard in shards]
        sizes = [file.metadata.num_rows for file in files]
        for number, file in enumerate(files):
            is_old = _version(file.schema_arrow, self._record) != VERSIONS[self._record]
            if is_old or sizes[number] < 2 * sum(sizes[number + 1 :]):
                return number
        return len(files)

    def _refuse_misfits(self, batch: pa.RecordBatch) -> None:
        check_schema(batch.schema, self._record, str(self._directory))
        refuse_missing(batch, self._record, str(self._directory), self.rows)

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._file is None:
            self._file = pq.ParquetWriter(self._directory / f"shard-{self._shards:05}.parquet", self._schema)
            self._shards += 1
        self._file.write_table(pa.Table.from_batches(self._pending, self._schema))
        self._flushed += self._pending_rows
        self._rows_in_shard += self._pending_rows
        self._pending, self._pending_rows = [], 0
        if self._rows_in_shard >= self._shard_rows:
            self._file.close()
            self._file, self._rows_in_shard = None, 0

    @property
    def rows(self) -> int:
        """The rows written so far."""
        return self._flushed + self._pending_rows

    def close(self) -> None:
        """Finish the last shard and write ``table.json`` (record, version, rows, digest of the rows)."""
        if self._pending_rows or not self._shards:
            self._flush()
        if self._file is not None:
            self._file.close()
        about = {
            "record": self._record.__name__,
            "version": VERSIONS[self._record],
            "rows": self.rows,
            "digest": self._digest.hexdigest(),
        }
        (self._directory / TABLE).write_text(json.dumps(about))


@contextmanager
def writing(directory: str | Path, record: type[tuple[Any, ...]], shard_rows: int = SHARD_ROWS) -> Iterator[Writer]:
    """A ``Writer`` that is closed when the block ends well."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    writer = Writer(Path(directory), record, shard_rows)
    yield writer
    writer.close()


def check_schema(found: pa.Schema, record: type[tuple[Any, ...]], where: str) -> None:
    """Refuse a table whose columns are not the record's, naming the file and the first field that differs."""
    version = _version(found, record)
    if version != VERSIONS[record] and not (record in SINCE and OLDEST <= version < VERSIONS[record]):
        raise UserError(
            f"{where} holds version {version} of {record.__name__}, this selfloop reads version {VERSIONS[record]}: "
            "make it again with this selfloop."
        )
    for field in _stored(record, version):
        index = found.get_field_index(field.name)
        if index < 0:
            raise UserError(f"{where} lacks the field '{field.name}' of {record.__name__}.")
        if found.field(index).type != field.type:
            raise UserError(
                f"{where}: field '{field.name}' of {record.__name__} is {found.field(index).type}, not {field.type}."
            )


def _version(found: pa.Schema, record: type[tuple[Any, ...]]) -> int:
    return int((found.metadata or {}).get(b"selfloop.version", VERSIONS[record]))


def _stored(record: type[tuple[Any, ...]], version: int) -> list[pa.Field]:
    """The fields that a table of a version has."""
    since = SINCE.get(record, {})
    kept = [field for field in schema(record) if since.get(field.name, 0) <= version]
    return [*kept, field_of(OBSERVED, str)] if since.get("segments", 0) > version else kept


def refuse_missing(batch: pa.RecordBatch, record: type[tuple[Any, ...]], where: str, first: int) -> None:
    """Raise ``UserError`` where a value is missing. ``first`` is the number of the batch's first row."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        found = first_missing(column, schema(record).field(name))
        if found is not None:
            raise UserError(f"{where}: row {first + found[0]}, field '{found[1]}' of a {record.__name__} is missing.")


def read(
    directory: str | Path, record: type[tuple[Any, ...]], columns: list[str] | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Stream a table's batches, in order. Raises ``UserError`` naming the file, row and field that are wrong."""
    shards = sorted(Path(directory).glob("*.parquet"))
    if not shards:
        raise UserError(f"{directory} holds no Parquet shards: it is not a table of {record.__name__}s.")
    for shard in shards:
        yield from _read_shard(shard, record, columns or schema(record).names, batch_rows)


def read_table(source: Any) -> pa.Table:
    """A whole table that selfloop wrote, in Arrow: of an artifact, its folder, or its manifest's path.

    Raises ``UserError`` for what is no table, and as ``read`` does.
    """
    import pyarrow as pa

    given = Path(getattr(source, "path", source))
    place = given.parent if given.name == "manifest.json" else given
    try:
        about = json.loads((place / TABLE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{given} is no table of selfloop (there is no {TABLE}): give an artifact's folder.") from None
    record = {each.__name__: each for each in VERSIONS}[about["record"]]
    return pa.Table.from_batches(read(place, record), schema(record))


def _read_shard(
    shard: Path, record: type[tuple[Any, ...]], wanted: list[str], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    row = 0
    for batch in _batches(_opened(shard, record), record, wanted, batch_rows):
        refuse_missing(batch, record, str(shard), row)
        row += batch.num_rows
        yield batch


def _opened(shard: Path, record: type[tuple[Any, ...]]) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(shard)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{shard} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    check_schema(file.schema_arrow, record, str(shard))
    return file


def _batches(
    file: pq.ParquetFile, record: type[tuple[Any, ...]], wanted: list[str], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    if _version(file.schema_arrow, record) == VERSIONS[record]:
        yield from (batch.select(wanted) for batch in file.iter_batches(batch_rows, columns=wanted))
        return
    needed = {*wanted, *(("completion", OBSERVED) if "segments" in wanted else ())}
    names = [name for name in file.schema_arrow.names if name in needed] or file.schema_arrow.names[:1]
    for batch in file.iter_batches(batch_rows, columns=names):
        yield _of_older(batch, record, wanted)


def _of_older(batch: pa.RecordBatch, record: type[tuple[Any, ...]], wanted: list[str]) -> pa.RecordBatch:
    """These columns of a batch of an older version as they are today."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {name: batch[name] for name in wanted if name in batch.schema.names}
    if "segments" in wanted and OBSERVED in batch.schema.names and not pc.all(pc.equal(batch[OBSERVED], "[]")).as_py():
        texts, observed = batch["completion"].to_pylist(), map(json.loads, batch[OBSERVED].to_pylist())
        made = [segments_of(text, spans, PROTOCOL) for text, spans in zip(texts, observed, strict=True)]
        columns["segments"] = pa.array(made, schema(record).field("segments").type)
    fields = pa.schema([schema(record).field(name) for name in wanted], schema(record).metadata)
    arrays = [columns[name] if name in columns else default_of(record, name, batch.num_rows) for name in fields.names]
    return pa.RecordBatch.from_arrays(arrays, schema=fields)


def rows(directory: str | Path, record: type[R]) -> Iterator[R]:
    """Stream a table's rows as records, for small tables and for code that is not hot."""
    for batch in read(directory, record):
        yield from as_rows(batch, record)


def as_rows(batch: pa.RecordBatch, record: type[R]) -> Iterator[R]:
    """The rows of a batch that has all columns of a record."""
    columns = [values_of(batch[name], hint) for name, hint in hints(record).items()]
    return itertools.starmap(record, zip(*columns, strict=True))


def take(directory: str | Path, record: type[R], indices: Sequence[int] | np.ndarray[Any, Any]) -> list[R]:
    """The rows with these indices, which must rise; only they become objects."""
    import numpy as np
    import pyarrow as pa

    wanted, first, taken = np.asarray(indices), 0, list[R]()
    for batch in read(directory, record):
        low, high = np.searchsorted(wanted, [first, first + batch.num_rows])
        picked = batch.take(pa.array(wanted[low:high] - first, pa.int64()))
        taken.extend(as_rows(picked, record))
        first += batch.num_rows
    return taken


def segments_of(text: str, spans: Sequence[Sequence[int]], author: str, role: str = POLICY) -> tuple[Segment, ...]:
    """A text in segments: an author's at some ranges of characters, the role's elsewhere, at the end in any case. None
    where there are no ranges.
    """
    made, end = list[Segment](), 0
    for first, last in spans:
        made += [Segment(role, text[end:first])] if first > end else []
        made.append(Segment(author, text[first:last]))
        end = last
    return (*made, Segment(role, text[end:])) if made else ()


def non_policy_spans(segments: Sequence[Segment], role: str = POLICY) -> list[tuple[int, int]]:
    """The ranges of characters that others than this role wrote."""
    ends = itertools.accumulate(len(segment.text) for segment in segments)
    return [
        (end - len(segment.text), end)
        for segment, end in zip(segments, ends, strict=True)
        if segment.author != role and segment.text
    ]


def final_text(completion: str, segments: Sequence[Segment], role: str = POLICY) -> str:
    """The text that counts: what the role wrote last, behind what others wrote before that."""
    if not segments:
        return completion
    from_its_last = itertools.dropwhile(lambda segment: segment.author != role, reversed(segments))
    own = itertools.takewhile(lambda segment: segment.author == role, from_its_last)
    return "".join(reversed([segment.text for segment in own]))


def with_final_text(rollouts: pa.RecordBatch) -> pa.RecordBatch:
    """Rollouts with the text that counts in place of their completion, as whoever judges them reads them."""
    import pyarrow as pa

    if not len(rollouts["segments"].flatten()):
        return rollouts
    names = ("completion", "segments", "role")
    columns = [values_of(rollouts[name], hints(Rollout)[name]) for name in names]
    texts = pa.array(itertools.starmap(final_text, zip(*columns, strict=True)), pa.string())
    place = rollouts.schema.get_field_index("completion")
    return rollouts.set_column(place, rollouts.schema.field(place), texts)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items, the last one shorter."""
    source = iter(items)
    while batch := list(itertools.islice(source, size)):
        yield batch


def count(directory: str | Path) -> int:
    """The number of rows in a table."""
    return int(json.loads((Path(directory) / TABLE).read_text())["rows"])


def beside(
    left: Iterator[pa.RecordBatch], right: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Walk two tables with the same number of rows together, in slices of equal length."""
    a = b = None
    while True:
        a = a if a is not None and a.num_rows else next(left, None)
        b = b if b is not None and b.num_rows else next(right, None)
        if a is None or b is None:
            break
        size = min(a.num_rows, b.num_rows)
        if size:
            yield a.slice(0, size), b.slice(0, size)
        a, b = a.slice(size), b.slice(size)
    if a is not None or b is not None:
        raise UserError("Two tables that belong together have different numbers of rows: make the second one again.")


def whole_groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Cut a stream anew so that the rows of one task, which stand together, are in one batch."""
    import pyarrow as pa
    import pyarrow.compute as pc

    held: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        last = pc.index(batch["task"], batch["task"][-1]).as_py()
        if last:
            yield pa.concat_batches([*held, batch.slice(0, last)])
            held = []
        elif held and held[-1]["task"][-1] != batch["task"][0]:
            yield pa.concat_batches(held)
            held = []
        held.append(batch.slice(last))
    if held:
        yield pa.concat_batches(held)


def with_tasks(
    batches: Iterator[pa.RecordBatch], tasks: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Pair each batch (with a column ``task``) with the tasks of its rows, row by row.

    Both tables name the tasks in the same order, so only a window of the tasks is held.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    window = schema(Task).empty_table()
    for batch in batches:
        while batch.num_rows:
            index = pc.index_in(batch["task"], value_set=window["id"].combine_chunks())
            if not index.null_count:
                break
            more = next(tasks, None)
            if more is None:
                name = batch["task"][index.is_null().to_pylist().index(True)]
                raise UserError(f"A rollout names the task '{name}', which is not among its tasks.")
            window = pa.concat_tables([window, pa.Table.from_batches([more]).cast(window.schema)])
        if batch.num_rows:
            yield batch, window.take(index).combine_chunks().to_batches()[0]
            window = window.slice(index[-1].as_py())
