"""Rows of data files as they stand there: JSON Lines, JSON, CSV and TSV, plain or gzipped, and what ``datasets`` reads.

No type is guessed. A cell of a CSV is text, so ``0042`` keeps its zeros and ``None`` is a word; a number of a JSON file
is the digits that stand there, however many; a date is no point in time. Parquet and other files that have types of
their own are read by ``datasets``, which also knows the splits of a folder and of a data set of the Hub.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from selfloop.errors import UserError
from selfloop.identity import data_digest

if TYPE_CHECKING:
    from datasets import Dataset

Row = Mapping[str, Any]
ZIPPED = ".gz"


class Digits(str):
    """A number of a JSON file, as it stands there."""

    __slots__ = ()


def typed(value: Any) -> Any:
    """A value of a JSON file with its numbers as such, in lists and objects too."""
    match value:
        case Digits():
            return json.loads(value)
        case list():
            return [typed(item) for item in value]
        case dict():
            return {key: typed(item) for key, item in value.items()}
    return value


class Table(NamedTuple):
    """The rows of a split, and the names of its columns; a row may lack some."""

    columns: list[str]
    rows: Sequence[Row]


def json_lines(lines: TextIO, place: str) -> Iterator[Row]:
    """The objects of a file with one a line."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _object(_parsed(line, f"{place}: line {number}"), f"{place}: line {number}")


def json_document(lines: TextIO, place: str) -> Iterator[Row]:
    """The objects of a list, or those that an object of columns makes up; a file with one a line is read as such."""
    text = lines.read()
    try:
        value = _parsed(text, place)
    except UserError:
        if not text.lstrip().startswith("{"):
            raise
        yield from json_lines(io.StringIO(text), place)
        return
    if isinstance(value, dict) and value and all(isinstance(each, list | dict) for each in value.values()):
        columns = [each.values() if isinstance(each, dict) else each for each in value.values()]
        if len(set(map(len, columns))) > 1:
            raise UserError(f"{place}: its columns are not of the same length: write a list of objects.")
        value = [dict(zip(value, each, strict=True)) for each in zip(*columns, strict=True)]
    for number, row in enumerate(value if isinstance(value, list) else [value], 1):
        yield _object(row, f"{place}: row {number}")


def separated(delimiter: str) -> Callable[[TextIO, str], Iterator[Row]]:
    """What reads rows of cells below a row of names; each cell is the text that stands there."""

    def rows(lines: TextIO, place: str) -> Iterator[Row]:
        csv.field_size_limit(sys.maxsize)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            names = next(reader, [])
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise UserError(f"{place} has two columns '{twice}': give each a name of its own.")
            for cells in filter(None, reader):
                if len(cells) != len(names):
                    raise UserError(
                        f"{place}: line {reader.line_num} has {len(cells)} cells where the first line names "
                        f"{len(names)} columns: put a text that holds a delimiter between quotes."
                    )
                yield dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise UserError(
                f"{place}: line {reader.line_num} is not well quoted ({error}): double the quotes within a quoted text."
            ) from None

    return rows


TEXTS: Mapping[str, Callable[[TextIO, str], Iterator[Row]]] = {
    ".jsonl": json_lines,
    ".json": json_document,
    ".csv": separated(","),
    ".tsv": separated("\t"),
}
"""What reads the rows of a text, by the file's suffix."""
KINDS = (*TEXTS, ".parquet")


def kind_of(name: str) -> str | None:
    """The suffix of a file that is read here, without that of its compression; none where it is no such file."""
    bare = name.removesuffix(ZIPPED)
    return next((kind for kind in KINDS if bare.endswith(kind) and (kind in TEXTS or bare == name)), None)


def value_at(row: Row, column: str) -> Any:
    """What stands in a column, or in a part of one by its path: ``reward_model.ground_truth``, ``answers.text.0``."""
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        else:
            is_place = isinstance(value, Sequence) and not isinstance(value, str) and part.isdecimal()
            value = value[int(part)] if is_place and int(part) < len(value) else None
    return value


def check_place(place: str) -> None:
    """Refuse what can be neither a file, nor a folder, nor an id of the Hub."""
    path = Path(place).expanduser()
    if path.is_file() and kind_of(path.name) is None:
        raise UserError(f"{place} is none of {', '.join(KINDS)}: save it as one of them.")
    if path.exists() or (place.count("/") == 1 and place[0] not in "./~" and kind_of(place) is None):
        return
    raise UserError(f"There is no data set at {place}: give a file, a folder, or an id of the Hub (owner/name).")


def splits_of(place: str, config: str | None = None) -> dict[str, Table]:
    """A data set's splits by name. Raises ``UserError`` where it cannot be read, with the line where that is known."""
    path = Path(place).expanduser()
    check_place(place)
    for file in _files(path):
        if not file.stat().st_size:
            raise UserError(f"{file} is empty: give it rows, or take it away.")
    if path.is_file() and kind_of(path.name) in TEXTS:
        splits = {"train": _table([path], [path.name])}
    else:
        with _library(place) as datasets:
            splits = _found(datasets, place, path, config)
    if not any(table.rows for table in splits.values()):
        raise UserError(f"{place} cannot be read as a data set: it holds no rows.")
    return splits


def configs(place: str) -> list[str]:
    """The names of a data set's configurations."""
    path = Path(place).expanduser()
    check_place(place)
    if path.is_file():
        return ["default"]
    with _library(place) as datasets:
        return list(datasets.get_dataset_config_names(str(path) if path.is_dir() else place))


def _found(datasets: Any, place: str, path: Path, config: str | None) -> dict[str, Table]:
    """The splits that the library finds: texts are read here, files with types by the library."""
    given: dict[str, Any] = {"path": place, "name": config}
    if path.exists():
        # the library tells files apart by path and time, which a copy may keep where the content is another
        kept = Path(datasets.config.HF_DATASETS_CACHE, "selfloop", data_digest(path))
        given = {"path": str(path), "name": config, "cache_dir": str(kept)}
    if path.is_file():
        given |= {"path": "parquet", "name": None, "data_files": str(path)}
    else:
        files = datasets.load_dataset_builder(**given).config.data_files or {}
        names = {str(split): [str(name) for name in found] for split, found in files.items()}
        if names and all(kind_of(name) in TEXTS for found in names.values() for name in found):
            fetched = datasets.DownloadManager().download(names)
            return {split: _table(map(Path, fetched[split]), found) for split, found in names.items()}
    return {split: _typed(datasets, data) for split, data in datasets.load_dataset(**given).items()}


def _typed(datasets: Any, data: Dataset) -> Table:
    """A split of the library's; numbers of single precision are the shortest texts that are them, as ``0.1``."""
    for name, feature in data.features.items():
        if getattr(feature, "dtype", None) == "float32":
            data = data.cast_column(name, datasets.Value("string"))
    return Table(data.column_names, data)


def _table(paths: Iterator[Path] | Sequence[Path], names: Sequence[str]) -> Table:
    rows = [row for path, name in zip(paths, names, strict=True) for row in _read(path, name)]
    return Table(list(dict.fromkeys(column for row in rows for column in row)), rows)


def _read(path: Path, name: str) -> Iterator[Row]:
    """The rows of a text, which was called ``name`` where it came from."""
    kind, opening = TEXTS[kind_of(name) or ""], gzip.open if name.endswith(ZIPPED) else open
    try:
        with opening(path, "rt", encoding="utf-8-sig", newline="") as lines:
            yield from kind(lines, str(path))
    except UnicodeDecodeError as error:
        odd = error.object[error.start]
        raise UserError(f"{path} is not UTF-8 (it holds the byte 0x{odd:02x}): save it in that encoding.") from None
    except (EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}): copy it again.") from None


def _parsed(text: str, place: str) -> Any:
    """JSON with its numbers as they are written."""
    try:
        return json.loads(text, parse_int=Digits, parse_float=Digits, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON ({error}).") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _object(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise UserError(f'{place} is no object: write it as {{"prompt": ..., "answer": ...}}.')
    return value


def _files(path: Path) -> list[Path]:
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file for file in found if file.is_file() and kind_of(file.name) is not None]


@contextmanager
def _library(place: str) -> Iterator[Any]:
    """``datasets``, quiet: without progress bars, or log lines that go with an error which is raised as well."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise UserError(f"Install datasets with pip install 'selfloop[run]' ({error}).") from None
    before = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield datasets
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        said = "it holds no rows" if "corresponds to no data" in said else said
        raise UserError(f"{place} cannot be read as a data set: {said}.") from None
    finally:
        datasets.logging.set_verbosity(before)
        datasets.enable_progress_bars()
