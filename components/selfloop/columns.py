"""Arrow columns of a record's fields: their types, their values, their digest.

A field is text, a number, a bool, a ``NamedTuple`` of fields, a ``tuple[X, ...]`` of these, or one of them ``| None``.
"""

from __future__ import annotations

import hashlib
import itertools
import types
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

ELEMENT = "element"
"""What Arrow and Parquet call what is in a list."""


def field_of(name: str, hint: Any) -> pa.Field:
    """The Arrow field of an annotation. Raises ``TypeError`` for one that has none."""
    import pyarrow as pa

    base = _base(hint)
    return pa.field(name, _type_of(base), nullable=base is not hint)


def _base(hint: Any) -> Any:
    """An annotation without its ``| None``."""
    if isinstance(hint, types.UnionType):
        return next(each for each in typing.get_args(hint) if each is not types.NoneType)
    return hint


def _type_of(hint: Any) -> pa.DataType:
    import pyarrow as pa

    if typing.get_origin(hint) is tuple:
        return pa.list_(field_of(ELEMENT, typing.get_args(hint)[0]))
    if hasattr(hint, "_fields"):
        return pa.struct([field_of(name, each) for name, each in typing.get_type_hints(hint).items()])
    scalars = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if hint not in scalars:
        raise TypeError(f"A record cannot hold {hint}.")
    return scalars[hint]


def repeated(value: Any, kind: pa.DataType, length: int) -> pa.Array:
    """A column that holds one value in every row."""
    import numpy as np
    import pyarrow as pa

    if value is None:
        return pa.nulls(length, kind)
    if pa.types.is_list(kind) and not value:  # many times as fast as to repeat a list
        ends = pa.array(np.zeros(length + 1, np.int32))
        return pa.ListArray.from_arrays(ends, pa.array([], kind.value_type), type=kind)
    return pa.repeat(pa.scalar(value, kind), length)


def values_of(column: pa.Array, hint: Any) -> list[Any]:
    """A column's values as an annotation has them: lists are tuples, structs are records."""
    base = _base(hint)
    if typing.get_origin(base) is tuple:
        return _tuples(column, typing.get_args(base)[0])
    if hasattr(base, "_fields"):
        hints = typing.get_type_hints(base).values()
        parts = [values_of(part, each) for part, each in zip(column.flatten(), hints, strict=True)]
        made = [base(*each) for each in zip(*parts, strict=True)]
        return [each if there else None for each, there in zip(made, column.is_valid().to_pylist(), strict=True)]
    values: list[Any] = column.to_pylist()
    return values


def _tuples(column: pa.Array, hint: Any) -> list[tuple[Any, ...] | None]:
    import pyarrow.compute as pc

    if column.null_count == len(column):
        return [None] * len(column)
    values, lengths = values_of(column.flatten(), hint), pc.list_value_length(column).to_pylist()
    if not values and not column.null_count:
        return [()] * len(column)
    source = iter(values)
    return [None if length is None else tuple(itertools.islice(source, length)) for length in lengths]


def first_missing(column: pa.Array, field: pa.Field) -> tuple[int, str] | None:
    """The row and the field of the first null where none may be, inside lists and structs too."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count and not field.nullable:
        return pc.index(column.is_null(), pa.scalar(True)).as_py(), field.name
    if pa.types.is_list(field.type):
        inside = first_missing(column.flatten(), field.type.value_field)
        if inside is not None:
            row = pc.list_parent_indices(column)[inside[0]].as_py()
            return row, inside[1].replace(ELEMENT, field.name, 1)
    if pa.types.is_struct(field.type):
        for part, within in zip(column.flatten(), field.type, strict=True):
            inside = first_missing(part, within)
            if inside is not None:
                return inside[0], f"{field.name}.{inside[1]}"
    return None


class RowDigest:
    """SHA-256 over the values of a table, the same however the rows are cut into batches and shards."""

    def __init__(self, expected: pa.Schema) -> None:
        self._schema = expected
        self._columns = [ColumnDigest(field.type) for field in expected]

    def update(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        for column, digest in zip(batch.columns, self._columns, strict=True):
            digest.update(column)

    def hexdigest(self) -> str:
        """The digest of the rows so far, in hex."""
        whole = hashlib.sha256(str(self._schema.metadata).encode())
        for field, column in zip(self._schema, self._columns, strict=True):
            whole.update(f"{field.name}:{field.type}".encode() + column.digest())
        return whole.hexdigest()


class ColumnDigest:
    """SHA-256 over a column: of its shape (nulls, lengths), of its data, and of the columns inside it."""

    def __init__(self, kind: pa.DataType) -> None:
        import pyarrow as pa

        self._kind, self._shape, self._data = kind, hashlib.sha256(), hashlib.sha256()
        nested = pa.types.is_list(kind) or pa.types.is_struct(kind)
        self._inside = [ColumnDigest(kind.field(n).type) for n in range(kind.num_fields)] if nested else []

    def update(self, column: pa.Array) -> None:
        """Add rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_string(self._kind):
            self._shape.update(pc.fill_null(pc.binary_length(column), -1).to_numpy())
            self._data.update(_letters(column))
        elif pa.types.is_list(self._kind):
            self._shape.update(pc.fill_null(pc.list_value_length(column), -1).to_numpy())
            self._go_inside([column.flatten()])
        else:
            self._shape.update(column.is_null().to_numpy(zero_copy_only=False))
            if self._inside:
                self._go_inside(column.flatten())
                return
            filled = pc.fill_null(column, False if pa.types.is_boolean(self._kind) else 0)
            self._data.update(filled.to_numpy(zero_copy_only=False))

    def _go_inside(self, columns: Sequence[pa.Array]) -> None:
        for column, digest in zip(columns, self._inside, strict=True):
            digest.update(column)

    def digest(self) -> bytes:
        """The digests of the rows so far, one behind the other."""
        return b"".join((self._shape.digest(), self._data.digest(), *(each.digest() for each in self._inside)))


def _letters(column: pa.Array) -> memoryview:
    """The bytes of a column of strings, one behind the other."""
    offsets = column.buffers()[1]
    if offsets is None or not len(column):
        return memoryview(b"")
    ends = memoryview(offsets).cast("i")[column.offset : column.offset + len(column) + 1]
    return memoryview(column.buffers()[2] or b"")[ends[0] : ends[-1]]
