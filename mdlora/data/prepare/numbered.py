"""Columns of a table of clicks as numbered users, items and domains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mdlora.data.sources import CsvOptions, list_files, names_in, to_table
from mdlora.errors import DataError
from mdlora.schema.arrow import is_text, plain_column

if TYPE_CHECKING:
    import polars as pl

__all__ = ["NumberedColumn", "read_numbered"]


class NumberedColumn(NamedTuple):
    """A column of N values, of which V are different."""

    values: pl.Series
    """(V,) the different values, ascending: Int64 if all are whole numbers, else String."""
    codes: npt.NDArray[np.int64]
    """(N,) where in `values` each row's value stands."""


def read_numbered(path: str | Path, names: Sequence[str]) -> dict[str, NumberedColumn]:
    """The columns called `names` of Parquet or CSV: a file, a folder, a glob or a URL.

    A CSV column of whole numbers, each written as a 64-bit integer is (without plus or leading
    zeros), becomes integers; any other stays text, so that ids that differ stay different. Columns
    that are not asked for are ignored.

    Raises:
        DataError: a file is not there, is damaged, lacks a column, holds something else than
            integers and text, or has a wrong line or an empty value; or there are no rows.
        MissingExtraError: a URL needs fsspec.
    """
    files = list_files(path)
    for file, there in names_in(files).items():
        for name in names:
            if name not in there and name not in files.partition_types:
                raise DataError(
                    f"{file}: column {name!r} is missing. Columns there: {', '.join(there)}. "
                    "Say which hold the user, the item and the domain (--user, --item, --domain)."
                )
    inside = [name for name in names if name not in files.partition_types]
    csv = CsvOptions(types=dict.fromkeys(inside, "text"))
    table = to_table(files, names, csv=csv)
    if not table.num_rows:
        raise DataError(f"{files.source} has no rows. Give a file with clicks.")
    is_csv = files.format == "csv"
    return {name: _numbered(table[name], name, files.source, is_csv) for name in names}


def _numbered(column: pa.ChunkedArray, name: str, where: str, is_csv: bool) -> NumberedColumn:
    import polars as pl

    missing = pc.is_null(column)
    if is_text(column.type):
        missing = pc.or_(missing, pc.fill_null(pc.equal(column, ""), True))
    if pc.any(missing).as_py():
        raise DataError(
            f"{where}: column {name!r} has no value in row {pc.index(missing, True).as_py()} "
            f"(counted from 0; {pc.sum(missing).as_py()} such rows in all). "
            "Give these rows a value or drop them."
        )
    series = pl.Series(name, plain_column(column, name, f"{where}: "))
    if is_csv:
        whole = series.cast(pl.Int64, strict=False)
        if whole.cast(pl.String).eq_missing(series.cast(pl.String)).all():
            series = whole
    codes = series.rank("dense").cast(pl.Int64).to_numpy() - 1
    return NumberedColumn(series.unique().sort(), codes)
