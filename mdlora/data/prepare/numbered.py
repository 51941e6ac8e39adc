"""Columns of a table of clicks as numbered users, items and domains."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mdlora.config.checks import counted
from mdlora.data.prepare.pieces import Codes, slices
from mdlora.data.prepare.table_codes import ValueCodes
from mdlora.data.sources import CsvOptions, MixedColumn, list_files, names_in, read_batches
from mdlora.errors import DataError
from mdlora.schema.arrow import is_text, plain_column
from mdlora.schema.places import Source, in_row, opening

if TYPE_CHECKING:
    import polars as pl

__all__ = ["NumberedColumn", "read_numbered"]


class NumberedColumn(NamedTuple):
    """A column of N values, of which V are different."""

    values: pl.Series
    """(V,) the different values, ascending: Int64 if all are whole numbers, else String."""
    codes: Codes
    """(N,) where in `values` each row's value stands."""
    mixed: MixedColumn | None = None
    """The first cell of CSV that is no whole number, where most are and the column is text."""


def read_numbered(path: str | Path, names: Sequence[str]) -> dict[str, NumberedColumn]:
    """The columns called `names` of Parquet or CSV: a file, a folder, a glob or a URL.

    A CSV column of whole numbers, each written as a 64-bit integer is (without plus or leading
    zeros), becomes integers; any other stays text, so that ids that differ stay different. Where
    most of its cells are integers, `mixed` names the first that is none. Columns that are not asked
    for are ignored. The files are read a batch at a time; what is held is a code of at most 4 bytes
    for each row of each column, and each different value.

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
    columns = {name: _Column(name) for name in names}
    rows = 0
    places: list[tuple[int, Source]] = []
    for table, source in read_batches(files, names, csv=csv):
        for name, column in columns.items():
            column.add(table.column(name), source)
        places.append((rows, source))
        rows += table.num_rows
    if not rows:
        raise DataError(f"{files.source} has no rows. Give a file with clicks.")
    for column in columns.values():
        column.check()
    cells = inside if files.format == "csv" else []
    return {
        name: column.finish_csv(places) if name in cells else column.finish()
        for name, column in columns.items()
    }


class _Column:
    """Takes in one column, batch by batch."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values = ValueCodes()
        self._missing, self._first_missing = 0, ("", -1)

    def add(self, column: pa.ChunkedArray, source: str) -> None:
        """Take the next rows; `source` is what messages call them."""
        missing = pc.is_null(column)
        if is_text(column.type):
            missing = pc.or_(missing, pc.fill_null(pc.equal(column, ""), True))
        found = pc.sum(missing).as_py() or 0
        if found and not self._missing:
            self._first_missing = source, pc.index(missing, True).as_py()
        self._missing += found
        if not self._missing:
            self._values.add(plain_column(column, self._name, opening(source)))

    def check(self) -> None:
        """Refuse a column that lacks values."""
        if self._missing:
            source, row = self._first_missing
            note = counted(self._missing, "such row") + " in all"
            raise DataError(
                f"{source}: column {self._name!r} has no value in {in_row(source, row, note)}. "
                "Give these rows a value or drop them."
            )

    def finish(self) -> NumberedColumn:
        """All rows, with the values as they stand; call it once, or `finish_csv`."""
        import polars as pl

        gathered = self._values.finish()
        return NumberedColumn(pl.Series(self._name, gathered.values), gathered.codes)

    def finish_csv(self, places: Sequence[tuple[int, Source]]) -> NumberedColumn:
        """All rows, as integers if all are; `places` are the first rows and names of batches."""
        import polars as pl

        column = self.finish()
        whole = column.values.cast(pl.Int64, strict=False)
        is_whole = whole.cast(pl.String).eq_missing(column.values).to_numpy()
        if is_whole.all():
            return _by_size(whole, column.codes)
        num_whole, first = _count_whole(is_whole, column.codes)
        if 2 * num_whole <= column.codes.size:
            return column
        start, source = places[bisect_right(places, first, key=lambda place: place[0]) - 1]
        assert source.line_of is not None
        line, cell = source.line_of(source.first + first - start), column.codes[first]
        mixed = MixedColumn(self._name, str(source), line, column.values[int(cell)])
        return column._replace(mixed=mixed)


def _count_whole(is_whole: npt.NDArray[np.bool_], codes: Codes) -> tuple[int, int]:
    """How many rows hold whole numbers, and the first that does not; `is_whole` is by value."""
    num, first = 0, -1
    for part in slices(codes.size):
        rows = is_whole[codes[part]]
        if first < 0 and not rows.all():
            first = part.start + int(rows.argmin())
        num += int(np.count_nonzero(rows))
    return num, first


def _by_size(whole: pl.Series, codes: Codes) -> NumberedColumn:
    """The column with its values in the order of integers, not of their texts."""
    order = whole.arg_sort()
    place = np.empty(len(whole), dtype=codes.dtype)
    place[order.to_numpy()] = np.arange(len(whole), dtype=place.dtype)
    for part in slices(codes.size):
        codes[part] = place[codes[part]]
    return NumberedColumn(whole.gather(order), codes)
