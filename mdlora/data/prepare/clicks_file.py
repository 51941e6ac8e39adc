"""A CSV file of clicks as numbered users, items and domains."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from mdlora.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["NumberedColumn", "read_clicks"]


class NumberedColumn(NamedTuple):
    """A column of N values, of which V are different."""

    values: pl.Series
    """(V,) the different values, ascending: Int64 if all are whole numbers, else String."""
    codes: npt.NDArray[np.int64]
    """(N,) where in `values` each row's value stands."""


def read_clicks(path: Path, names: Sequence[str]) -> dict[str, NumberedColumn]:
    """The columns called `names` of a CSV file with a header, gzipped or not.

    A column of whole numbers, each written as a 64-bit integer is (without plus or leading zeros),
    becomes integers; any other column stays text, so that ids that differ stay different. Columns
    that are not asked for are ignored.

    Raises:
        DataError: the file is not there, is damaged, has no rows, lacks a column, or a row has too
            many or too few values, or an empty one; the message names the file, row and column.
    """
    import polars as pl

    data = _content(path)
    try:
        there = pl.read_csv(data, infer_schema=False, n_rows=0).columns
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is no CSV file: {error}.") from error
    for name in names:
        double = f"{name}_duplicated_0" in there
        if name not in there or double:
            raise DataError(
                f"{path}: column {name!r} {'stands there twice' if double else 'is missing'}. "
                f"Columns there: {', '.join(there)}. "
                "Say which columns hold the user, the item and the domain."
            )
    try:
        table = pl.read_csv(data, infer_schema=False, columns=list(names))
    except pl.exceptions.PolarsError as error:
        raise _blame(path, data, len(there), error) from error
    if not table.height:
        raise DataError(f"{path} has a header but no rows. Give a file with clicks.")
    return {name: _numbered(table[name], path) for name in names}


def _content(path: Path) -> bytes:
    """The bytes of the file, decompressed."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise DataError(
            f"{path} {what}. Give a CSV file with a column each for user, item, domain."
        )
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        elif path.suffix == ".gz" and data:
            raise DataError(
                f"{path} is not a gzip file, though it is called one. "
                "Compress it, or take .gz from its name."
            )
    except (EOFError, zlib.error, OSError) as error:
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {cause}. Get a whole copy of it.") from error
    if not data.strip():
        raise DataError(f"{path} is empty. Give a CSV file with a header and clicks.")
    return data


def _numbered(column: pl.Series, path: Path) -> NumberedColumn:
    import polars as pl

    missing = column.is_null() | (column == "")
    if missing.any():
        row = missing.arg_true()[0]
        raise DataError(
            f"{path}: column {column.name!r} has no value in row {row} (counted from 0; "
            f"{missing.sum()} such rows in all). Give these rows a value or drop them."
        )
    whole = column.cast(pl.Int64, strict=False)
    if whole.cast(pl.String).eq_missing(column).all():
        column = whole
    codes = column.rank("dense").cast(pl.Int64).to_numpy() - 1
    return NumberedColumn(column.unique().sort(), codes)


def _blame(path: Path, data: bytes, width: int, error: Exception) -> DataError:
    """What to say of a file that polars refused: which row, if that can be found."""
    text = io.StringIO(data.decode("utf-8", errors="replace"), newline="")
    try:
        reader = csv.reader(text, strict=True)
        for row, values in enumerate(reader, -1):
            if len(values) > width:
                return DataError(
                    f"{path}, line {reader.line_num}: row {row} (counted from 0) has "
                    f"{len(values)} values, but there are {width} columns. Correct or drop it."
                )
            if any("\ufffd" in value for value in values):
                return DataError(
                    f"{path}, line {reader.line_num}: row {row} (counted from 0) is not UTF-8 "
                    "text. Save the file as UTF-8."
                )
    except csv.Error as problem:
        return DataError(
            f"{path}, line {reader.line_num}: {problem}. Check the quotes in that line."
        )
    return DataError(f"{path} cannot be read as CSV: {error}.")
