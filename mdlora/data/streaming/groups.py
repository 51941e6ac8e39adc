"""The row groups of Parquet files, and the parts into which they are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mdlora.data.reading import check_parquet
from mdlora.data.streaming.opening import Footers, batches_of, blame
from mdlora.errors import DataError

__all__ = ["Part", "RowGroup", "RowGroupList", "list_row_groups"]

Key = tuple[Any, ...]

_MOST_RUNS = 16  # reading a part means skipping what stands before it in the group


class RowGroup(NamedTuple):
    """A row group: its file, number in there and rows; which row of the file is its first."""

    path: str
    group: int
    rows: int
    first_row: int


class Part(NamedTuple):
    """Rows `start` to `start + rows` of row group number `place` of a list.

    `key`: what all rows hold in the balanced columns; None where they differ or are not balanced.
    """

    place: int
    start: int
    rows: int
    key: Key | None


@dataclass(frozen=True, eq=False, repr=False)
class RowGroupList:
    """All row groups of some files, in the files' order."""

    groups: tuple[RowGroup, ...]
    """Groups without rows are left out."""

    parts: tuple[Part, ...]
    """The groups, cut where the balanced columns change; whole ones where they change often."""

    arrow: pa.Schema
    """Names and types of the columns that are read, the same in all files."""

    balance: tuple[str, ...] = ()
    """The columns whose values each window holds in the shares of the whole."""

    def __repr__(self) -> str:
        return f"RowGroupList({len(self.groups)} groups, {self.num_rows:,} rows)"

    @cached_property
    def num_rows(self) -> int:
        """Rows of all files."""
        return sum(group.rows for group in self.groups)


def list_row_groups(
    files: str | Path | Sequence[str | Path],
    columns: Sequence[str],
    *,
    balance: Sequence[str] = (),
) -> RowGroupList:
    """Read the footers of Parquet files, and the balanced columns themselves.

    Args:
        files: Parquet files, or one folder whose `*.parquet` files are taken, sorted by name.
        columns: the columns that will be read.
        balance: columns whose shares each window is to have. Where rows are sorted by them, a
            group has few runs of equal values (16 at most) and is cut between them.

    Raises:
        DataError: no file, no rows, a file that is not Parquet or lacks a column, or a column
            whose type differs between files.
    """
    paths = _paths(files)
    footers = Footers()
    groups: list[RowGroup] = []
    arrow: pa.Schema | None = None
    for path in paths:
        check_parquet(Path(path), [*columns, *balance])
        with footers.open(path) as file:
            found = pa.schema([file.schema_arrow.field(name) for name in columns])
            counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        arrow = found if arrow is None else arrow
        _check_types(path, found, paths[0], arrow)
        ends = np.cumsum(counts).tolist()
        groups += [
            RowGroup(path, i, rows, end - rows)
            for i, (rows, end) in enumerate(zip(counts, ends, strict=True))
            if rows
        ]
    if arrow is None or not groups:
        raise DataError(f"There are no rows in {_named(paths)}; give files with rows.")
    parts: list[Part] = []
    for place, group in enumerate(groups):
        parts += _cut(footers, place, group, balance)
    return RowGroupList(tuple(groups), tuple(parts), arrow, tuple(balance))


def _paths(files: str | Path | Sequence[str | Path]) -> list[str]:
    if not isinstance(files, (str, Path)):
        paths = [str(path) for path in files]
    elif Path(files).is_dir():
        paths = [str(path) for path in sorted(Path(files).glob("*.parquet"))]
        if not paths:
            raise DataError(f"There is no *.parquet file in {files}; give a folder with some.")
    else:
        paths = [str(files)]
    if not paths:
        raise DataError("No files are given; give at least one Parquet file.")
    return paths


def _named(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more files"


def _check_types(path: str, found: pa.Schema, first: str, expected: pa.Schema) -> None:
    for here, there in zip(found, expected, strict=True):
        if here.type != there.type:
            raise DataError(
                f"{path}: column {here.name!r} is {here.type}, but in {first} it is {there.type}. "
                "All files of a stream need the same columns; write them alike."
            )


def _cut(footers: Footers, place: int, group: RowGroup, balance: Sequence[str]) -> list[Part]:
    """The parts of a group, one for each run of equal values; the whole where there are many."""
    whole = [Part(place, 0, group.rows, None)]
    if not balance:
        return whole
    runs: list[tuple[int, Key]] = []
    row = 0
    with blame(group.path, group.group), footers.open(group.path) as file:
        for batch in batches_of(file, group.group, balance):
            changed = np.zeros(batch.num_rows, dtype=bool)
            for name in balance:
                column = codes = batch.column(name)
                if not pa.types.is_dictionary(column.type):
                    codes = column.dictionary_encode(null_encoding="encode")
                indices = codes.indices.to_numpy(zero_copy_only=False)
                changed[1:] |= indices[1:] != indices[:-1]
            changed[:1] = True
            starts = changed.nonzero()[0].tolist()
            if len(runs) + len(starts) > _MOST_RUNS + 1:
                return whole
            for start in starts:
                key = tuple(batch.column(name)[start].as_py() for name in balance)
                if not runs or runs[-1][1] != key:
                    runs.append((row + start, key))
            row += batch.num_rows
    if len(runs) > _MOST_RUNS:
        return whole
    ends = [start for start, _ in runs[1:]] + [group.rows]
    return [
        Part(place, start, end - start, key) for (start, key), end in zip(runs, ends, strict=True)
    ]
