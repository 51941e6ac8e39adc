"""The common types of files that are read as one table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from mdlora.config.checks import did_you_mean
from mdlora.errors import DataError

__all__ = ["cast_columns", "common_types"]

_UNITS = ("s", "ms", "us", "ns")


def common_types(
    files: Sequence[tuple[str, int, pa.Schema]],
    columns: Sequence[str] | None = None,
    *,
    numbers: Collection[str] = (),
) -> dict[str, pa.DataType]:
    """For each column the type that holds all files' values unchanged.

    Integers of any width become int64, floats float64, strings large_string where the files
    differ; a column without values takes the others' type. Integers and floats mix only in
    `numbers`, since a float cannot hold every 64-bit id. Files without rows may differ freely.

    Args:
        files: name, number of rows and columns of each file, at least one.
        columns: those that are read; None for all, which must then be the same in each file.
        numbers: columns whose values are amounts, not ids.

    Raises:
        DataError: a column is missing or doubled in a file, or its types have nothing in common;
            the message names the file and the one that it differs from.
    """
    filled = [file for file in files if file[1]] or list(files[:1])
    first_name, _, first = filled[0]
    types: dict[str, pa.DataType] = {}
    for name, _, schema in filled:
        wanted = list(columns) if columns is not None else first.names
        for column in wanted:
            found = schema.get_all_field_indices(column)
            if len(found) != 1:
                problem = "is missing" if not found else f"stands there {len(found)} times"
                beside = f" ({first_name} has it)" if name != first_name and not found else ""
                near = "" if found else did_you_mean(column, schema.names)
                raise DataError(
                    f"{name}: column {column!r} {problem}{beside}. "
                    f"Columns there: {', '.join(schema.names) or 'none'}.{near}"
                )
            kind = schema.field(found[0]).type
            before = types.setdefault(column, kind)
            both = _common(before, kind, column in numbers)
            if both is None:
                raise DataError(
                    f"{name}: column {column!r} holds {kind} values, but {before} in the files "
                    f"before it (from {first_name} on). {_advice(before, kind)}"
                )
            types[column] = both
        extra = [] if columns is not None else [n for n in schema.names if n not in types]
        if extra:
            raise DataError(
                f"{name}: column {extra[0]!r} is not in {first_name}. Files that are read as one "
                "must have the same columns: name the columns to read, or write the files alike."
            )
    return types


def cast_columns(table: pa.Table, types: Mapping[str, pa.DataType], where: str) -> pa.Table:
    """`table` with each column in its common type.

    Raises:
        DataError: a value does not fit, such as an unsigned integer beyond 64 bits.
    """
    for place, name in enumerate(table.column_names):
        if table.column(place).type != types[name]:
            try:
                column = table.column(place).cast(types[name])
            except pa.ArrowException as error:
                raise DataError(
                    f"{where}: column {name!r} holds a value that is no {types[name]} ({error})."
                ) from error
            table = table.set_column(place, name, column)
    return table


def _common(a: pa.DataType, b: pa.DataType, number: bool) -> pa.DataType | None:
    if a.equals(b):
        return a
    a, b = _plain(a), _plain(b)
    if a.equals(b) or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    kinds = {_family(a), _family(b)}
    if kinds == {"text"}:
        return pa.large_string()
    if kinds == {"integer"}:
        return pa.int64()
    if kinds == {"float"} or (number and kinds <= {"integer", "float", "decimal", "boolean"}):
        return pa.float64()
    if kinds == {"list"}:
        inner = _common(a.value_type, b.value_type, number)
        return None if inner is None else pa.large_list(inner)
    if kinds == {"timestamp"} and a.tz == b.tz:
        return pa.timestamp(max(a.unit, b.unit, key=_UNITS.index), a.tz)
    return None


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _family(kind: pa.DataType) -> str:
    known = pa.types
    if known.is_string(kind) or known.is_large_string(kind) or "string_view" in str(kind):
        return "text"
    if known.is_list(kind) or known.is_large_list(kind) or known.is_fixed_size_list(kind):
        return "list"
    if known.is_timestamp(kind):
        return "timestamp"
    if known.is_integer(kind):
        return "integer"
    if known.is_floating(kind):
        return "float"
    if known.is_decimal(kind):
        return "decimal"
    return "boolean" if known.is_boolean(kind) else str(kind)


def _advice(a: pa.DataType, b: pa.DataType) -> str:
    if {_family(_plain(a)), _family(_plain(b))} == {"integer", "float"}:
        return (
            "Store integers in all of them (pandas makes floats of integers with gaps: "
            "use its 'Int64'), or say that the column is numeric."
        )
    return "Write the files with one type."
