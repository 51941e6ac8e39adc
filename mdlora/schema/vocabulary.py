"""From raw Arrow columns to vocabularies, ids and labels.

Integers stay 64-bit integers and strings stay strings from end to end: nothing passes through
floats, so ids that differ by one stay apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mdlora.errors import DataError, SchemaError
from mdlora.schema.columns import Values

__all__ = ["Vocabulary", "fit_values", "get_column", "read_label"]


class Vocabulary:
    """Looks up the ids of raw values: `values[i]` has id i + 1, all else has id 0."""

    def __init__(self, name: str, values: Values) -> None:
        self.name = name
        self.type = pa.int64() if not values or isinstance(values[0], int) else pa.large_string()
        self.num_values = len(values)
        self._values = pa.array(values, type=self.type)

    def encode(self, column: pa.ChunkedArray, where: str = "") -> npt.NDArray[np.int64]:
        """Ids of the rows of `column`, (N,) int64; `where` opens an error message.

        Raises:
            SchemaError: the column's type does not fit the vocabulary, or a value is null.
        """
        plain = _plain(column, self.name, where)
        if self.num_values and plain.type != self.type:
            raise SchemaError(
                f"{where}Column {self.name!r} holds {column.type} values, but the schema "
                f"was fitted on {_word(self.type)}. "
                f"Store it as {_word(self.type)}, or fit a new schema."
            )
        ids = pc.fill_null(pc.index_in(plain, value_set=self._values.cast(plain.type)), -1)
        return np.asarray(ids.to_numpy(), dtype=np.int64) + 1


def fit_values(column: pa.ChunkedArray, name: str, min_count: int = 1, where: str = "") -> Values:
    """The sorted values of a training column that stand in at least `min_count` rows.

    Integers are sorted by size, strings by code point.

    Raises:
        SchemaError: the column is of a type that cannot be a category, or a value is null.
    """
    plain = _plain(column, name, where)
    if min_count > 1:
        counts = pc.value_counts(plain)
        enough = pc.greater_equal(counts.field("counts"), min_count)
        values = counts.field("values").filter(enough)
    else:
        values = pc.unique(plain)
    return tuple(values.take(pc.sort_indices(values)).to_pylist())


def read_label(column: pa.ChunkedArray, name: str, where: str = "") -> npt.NDArray[np.float32]:
    """The labels as 0.0 and 1.0, (N,) float32.

    Raises:
        DataError: a label is null or not 0 or 1; the message names the first such row.
    """
    kind = column.type
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise DataError(
            f"{where}Label column {name!r} holds {kind} values. "
            "Store 0 for no click and 1 for a click."
        )
    numbers = column.cast(pa.float32()) if pa.types.is_boolean(kind) else column
    good = pc.fill_null(pc.is_in(numbers, value_set=pa.array([0, 1]).cast(numbers.type)), False)
    if not pc.all(good, min_count=0).as_py():
        row = pc.index(good, False).as_py()
        value = column[row].as_py()
        raise DataError(
            f"{where}Label column {name!r} is {'null' if value is None else value} in row {row} "
            "(counted from 0). Labels must be 0 or 1: drop the row or correct it."
        )
    return np.asarray(numbers.cast(pa.float32()).to_numpy(), dtype=np.float32)


def get_column(table: pa.Table, name: str, where: str = "") -> pa.ChunkedArray:
    """The column called `name`.

    Raises:
        SchemaError: no such column (the message lists those that are there), or two of them.
    """
    found = table.schema.get_all_field_indices(name)
    if len(found) != 1:
        problem = "is missing" if not found else f"stands there {len(found)} times"
        raise SchemaError(
            f"{where}Column {name!r} {problem}. "
            f"Columns there: {', '.join(table.column_names) or 'none'}."
        )
    return table.column(found[0])


def _plain(column: pa.ChunkedArray, name: str, where: str) -> Any:
    """The column without nulls as int64 or large_string."""
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise SchemaError(
            f"{where}Column {name!r} is null in row {row} (counted from 0; "
            f"{column.null_count} null rows in all). Give these rows a value of their own, "
            "for example -1 or 'unknown', or drop them."
        )
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_integer(kind):
        target = pa.int64()
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_string_view(kind):
        target = pa.large_string()
    else:
        raise SchemaError(
            f"{where}Column {name!r} holds {column.type} values. "
            "A category is a 64-bit integer or a string: store it as one of these."
        )
    try:
        if column.type != kind:
            column = column.cast(kind)
        return column.cast(target)
    except pa.ArrowInvalid as error:
        raise SchemaError(
            f"{where}Column {name!r} holds a value that is not a valid {_word(target)}: {error}."
        ) from error


def _is_string_view(kind: pa.DataType) -> bool:
    check = getattr(pa.types, "is_string_view", None)
    return bool(check is not None and check(kind))


def _word(kind: pa.DataType) -> str:
    return "64-bit integer" if kind == pa.int64() else "string"
