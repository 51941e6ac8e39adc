"""Open Parquet files and say in plain words what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from mdlora.data.layout import ORACLE_COLUMN
from mdlora.errors import DataError
from mdlora.schema import EncodedRows, Schema

__all__ = ["check_parquet", "read_rows", "read_table", "split_columns"]


def check_parquet(path: Path, needed: Sequence[str]) -> tuple[int, list[str]]:
    """Read the footer of a Parquet file: its number of rows and the names of its columns.

    Raises:
        DataError: no such file, not Parquet, cut short, or a needed column is missing.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}{' (it is a folder)' if path.is_dir() else ''}.")
    try:
        with pq.ParquetFile(path) as file:
            names: list[str] = file.schema_arrow.names
            rows: int = file.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: {_what_is_wrong(path)} ({_first_line(error)}).") from error
    missing = [name for name in needed if name not in names]
    if missing:
        raise DataError(
            f"{path}: column {missing[0]!r} is missing. Columns there: {', '.join(names)}."
        )
    return rows, names


def read_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """The given columns of a Parquet file, all rows.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """
    check_parquet(path, columns)
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns=list(columns))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path}: the rows cannot be read, the file is damaged ({_first_line(error)}). "
            "Copy or prepare it again."
        ) from error


def read_rows(
    path: str | Path,
    schema: Schema,
    *,
    unknown_domain: Literal["backbone", "error"] = "backbone",
) -> tuple[pa.Table, EncodedRows]:
    """New rows to score: the whole table as it stands, and its rows as ids.

    Other columns, the label among them if the file has one, are carried along unread.

    Args:
        path: a Parquet file.
        schema: whose columns are read.
        unknown_domain: give rows of unknown domains domain 0, or raise an error.

    Raises:
        DataError: the file cannot be read, lacks a field, does not fit the schema, or has rows
            of an unknown domain where that is an error.
    """
    path = Path(path)
    names = check_parquet(path, schema.raw_columns(with_label=False))[1]
    table = read_table(path, names)
    return table, schema.encode(
        table, with_label=False, source=str(path), unknown_domain=unknown_domain
    )


def split_columns(schema: Schema, there: Sequence[str]) -> list[str]:
    """The columns of a split file that are read: the schema's and, if there, the oracle."""
    oracle = [ORACLE_COLUMN] if ORACLE_COLUMN in there else []
    return [*schema.raw_columns(), *oracle]


def _what_is_wrong(path: Path) -> str:
    try:
        with path.open("rb") as file:
            opening = file.read(4)
    except OSError:
        return "cannot be opened"
    if opening == b"PAR1":
        return "this Parquet file is cut short or damaged; copy or prepare it again"
    if not opening:
        return "the file is empty; it must be a Parquet file"
    return "not a Parquet file; convert it, for example with polars: write_parquet"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
