"""Columns that stand in the names of folders: hive partitions, "key=value"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from mdlora.errors import DataError

__all__ = ["PartitionValue", "add_partitions", "column_types", "read_partitions"]

PartitionValue: TypeAlias = int | str | None
Partitions: TypeAlias = tuple[tuple[str, PartitionValue], ...]

_NULL = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,18})")  # with leading zeros it is a code, kept as text


def read_partitions(files: Sequence[tuple[str, tuple[str, ...]]]) -> list[Partitions]:
    """The partition columns of each file.

    A column is of integers if all its values are (without leading zeros), else of strings.

    Args:
        files: the name of each file and the folders that it lies in.

    Raises:
        DataError: the files have other keys than each other, or a key stands in a path twice.
    """
    raw: list[dict[str, str | None]] = []
    for name, folders in files:
        pairs = [folder.partition("=") for folder in folders if "=" in folder]
        texts = [(unquote(k), None if v == _NULL else unquote(v)) for k, _, v in pairs]
        values = dict(texts)
        if len(values) < len(texts):
            raise DataError(f"{name}: a folder's key stands twice in the path.")
        if raw and list(values) != list(raw[0]):
            raise DataError(
                f"{name}: its folders give the columns {_names(values)}, those of {files[0][0]} "
                f"give {_names(raw[0])}. All files must lie below the same keys."
            )
        raw.append(values)
    whole = {key for key in raw[0] if all(_is_integer(values[key]) for values in raw)}
    return [
        tuple((k, int(v) if v is not None and k in whole else v) for k, v in values.items())
        for values in raw
    ]


def column_types(files: Sequence[Partitions]) -> dict[str, pa.DataType]:
    """The type of each partition column: int64 or string."""
    found: dict[str, pa.DataType] = {}
    for partitions in files:
        for key, value in partitions:
            if isinstance(value, str):
                found[key] = pa.string()
            else:
                found.setdefault(key, pa.int64() if value is not None else pa.null())
    return {k: pa.string() if pa.types.is_null(kind) else kind for k, kind in found.items()}


def add_partitions(
    table: pa.Table, partitions: Partitions, types: dict[str, pa.DataType], name: str
) -> pa.Table:
    """`table` with a column for each partition at its end.

    A column of that name in the file itself (some writers keep it) must agree with the folder.

    Raises:
        DataError: it does not agree.
    """
    for key, value in partitions:
        column = pa.repeat(pa.scalar(value, type=types[key]), table.num_rows)
        place = table.schema.get_field_index(key)
        if place < 0:
            table = table.append_column(key, column)
            continue
        if not _agrees(table.column(place), value):
            raise DataError(
                f"{name}: column {key!r} stands in the file and in the folder's name, "
                f"with other values than {key}={value}. Rename one of them."
            )
        table = table.set_column(place, key, column)
    return table


def _agrees(column: pa.ChunkedArray, value: PartitionValue) -> bool:
    if value is None:
        return bool(column.null_count == len(column))
    try:
        same = pc.equal(column.cast(pa.string()), str(value))
    except pa.ArrowException:
        return False
    return bool(pc.all(pc.fill_null(same, False), min_count=0).as_py())


def _is_integer(text: str | None) -> bool:
    return text is None or bool(_INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63)


def _names(values: dict[str, str | None]) -> str:
    return ", ".join(values) or "none"
