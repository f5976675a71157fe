"""Rows of data files are what stands in them."""

import csv
import datetime
import gzip
import io
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.datafiles import json_document, json_lines, kind_of, separated, splits_of
from selfloop.errors import UserError

TRAPS = ["0042", "None", "NA", "null", "nan", "True", "1.50", "2024-05-11", "1e3", "12:30", "1_000", " 7 ", "-0", "٣"]
"""Texts that readers of tables like to take for something else."""
TEXTS = st.sampled_from(TRAPS) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def rows_of(place: Path) -> list[dict[str, object]]:
    return [dict(row) for row in splits_of(str(place))["train"].rows]


@pytest.mark.parametrize("delimiter", [",", "\t"])
@settings(max_examples=80)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1))
def test_a_cell_is_the_text_that_was_written(delimiter: str, rows: list[tuple[str, str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter).writerows([("a", "b"), *rows])
    file.seek(0)
    assert [(row["a"], row["b"]) for row in separated(delimiter)(file, "x.csv")] == rows


@settings(max_examples=80)
@given(st.lists(st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | TEXTS, min_size=1))
def test_a_number_of_json_is_the_digits_that_stand_there(values: list[int | Decimal | str]) -> None:
    written = [json.dumps(value) if isinstance(value, str) else str(value) for value in values]
    objects = [f'{{"a": {value}}}' for value in written]
    document, lines = io.StringIO(f"[{', '.join(objects)}]"), io.StringIO("\n".join(objects))
    for found in (json_document(document, "x"), json_lines(lines, "x")):
        assert [row["a"] for row in found] == [str(value) for value in values]


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]',
        '{"a": ["1", "3"], "b": ["2", "4"]}',
        '{"a": {"0": "1", "1": "3"}, "b": {"0": "2", "1": "4"}}',
        '{"a": "1", "b": "2"}\n\n{"a": "3", "b": "4"}\n',
        '\ufeff[{"a": 1, "b": 2}, {"a": 3, "b": 4}]',
    ],
)
def test_a_json_file_holds_a_list_or_columns_or_an_object_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    assert rows_of(tmp_path / "x.json") == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", 'a,b\r\n1,"2,\n""3"""\r\n'),
        ("x.tsv", 'a\tb\n1\t"2,\n""3"""\n'),
        ("x.jsonl", '{"a": 1, "b": "2,\\n\\"3\\""}\n'),
        ("x.json", '[{"a": 1, "b": "2,\\n\\"3\\""}]'),
    ],
)
def test_texts_are_read_plain_and_gzipped_as_a_file_and_in_a_folder(tmp_path: Path, name: str, text: str) -> None:
    expected = [{"a": "1", "b": '2,\n"3"'}]
    (tmp_path / name).write_bytes(text.encode())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name.replace("x", "train")).write_bytes(text.encode())
    (tmp_path / "zipped").mkdir()
    (tmp_path / "zipped" / f"train{name[1:]}.gz").write_bytes(gzip.compress(text.encode()))
    for place in (name, "folder", "zipped", f"zipped/train{name[1:]}.gz"):
        assert rows_of(tmp_path / place) == expected, place


def test_parquet_keeps_its_types_and_short_numbers_stay_short(tmp_path: Path) -> None:
    day, large = datetime.date(2024, 5, 11), 12345678901234567890123
    values = {
        "text": pa.array(["0042"]),
        "single": pa.array([0.1], pa.float32()),
        "decimal": pa.array([Decimal("1.50")], pa.decimal128(9, 2)),
        "large": pa.array([Decimal(large)], pa.decimal128(38, 0)),
        "day": pa.array([day]),
    }
    pq.write_table(pa.table(values), tmp_path / "x.parquet")
    [row] = rows_of(tmp_path / "x.parquet")
    assert row == {"text": "0042", "single": "0.1", "decimal": Decimal("1.50"), "large": Decimal(large), "day": day}


def damaged(data: bytes) -> bytes:
    return gzip.compress(data * 99, mtime=0)[:-20]


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        (
            "x.jsonl",
            '{"a": "é"}\n'.encode("latin-1"),
            "is not UTF-8 (it holds the byte 0xe9): save it in that encoding.",
        ),
        ("x.csv", "a,b\né,1\n".encode("utf-16"), "is not UTF-8 (it holds the byte 0xff)"),
        ("x.csv.gz", damaged(b"a,b\n1,2\n"), "x.csv.gz cannot be read ("),
        ("x.jsonl.gz", b'{"a": 1}\n', "x.jsonl.gz cannot be read (Not a gzipped file"),
        ("x.csv", b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells where the first line names 2 columns: put a text"),
        ("x.csv", b"a,b\n1\n", "line 2 has 1 cells where the first line names 2 columns"),
        ("x.tsv", b'a\tb\n1\t"2\n', "line 2 is not well quoted (unexpected end of data)"),
        ("x.csv", b'a,b\n1,"2"3\n', "line 2 is not well quoted"),
        ("x.csv", b"a,b,a\n1,2,3\n", "has two columns 'a': give each a name of its own."),
        ("x.jsonl", b'{"a": 1}\n[1]\n', "line 2 is no object: write it as"),
        ("x.jsonl", b'{"a": NaN}\n', "line 1 is not JSON (NaN is no number)."),
        ("x.json", b'[{"a": 1}, 2]', "row 2 is no object"),
        ("x.json", b'{"a": [1, 2], "b": [1]}', "its columns are not of the same length: write a list of objects."),
        ("x.json", b"[" * 100_000, "x.json is not JSON ("),
        ("x.jsonl", b"\n\n", "cannot be read as a data set: it holds no rows."),
        ("x.json", b"[]", "cannot be read as a data set: it holds no rows."),
        ("x.tsv", b"a\tb\n", "cannot be read as a data set: it holds no rows."),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_a_sentence(
    tmp_path: Path, name: str, data: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as refused:
        splits_of(str(tmp_path / name))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_cell_may_be_longer_than_python_s_own_limit(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"a,b\n1,{'x' * 200_000}\n")
    assert len(str(rows_of(tmp_path / "x.csv")[0]["b"])) == 200_000


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jsonl", ".jsonl"), ("a.b.csv.gz", ".csv"), ("a.parquet", ".parquet"), ("a.parquet.gz", None), ("csv", None)],
)
def test_the_suffix_says_how_a_file_is_read(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind
