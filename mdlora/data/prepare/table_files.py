"""Write a long table to a Parquet file in row groups of even size, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mdlora.data.layout import split_file

__all__ = ["GROUP_ROWS", "SplitFiles", "parts_of", "read_split"]

GROUP_ROWS = 65_536
"""Rows of a row group; the last one of a file has what is left, up to twice as many."""


class SplitFiles:
    """One zstd Parquet file for each split, written by a thread of its own while others read.

    At most one chunk waits for the thread, so memory stays bounded.
    """

    def __init__(self, folder: Path, names: Sequence[str], group_rows: int) -> None:
        """`names[code]` is the name of a split; `group_rows` are those of a row group."""
        self._folder, self._names, self._group_rows = folder, names, group_rows
        self._files: dict[int, _GroupFile] = {}
        self._pool = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def add(self, parts: Mapping[int, pa.Table]) -> None:
        """Take the next rows of each split; all chunks have the same columns.

        Raises:
            OSError: an earlier chunk could not be written.
        """
        self._wait()
        self._last = self._pool.submit(self._write, dict(parts))

    @classmethod
    @contextmanager
    def open(
        cls, folder: Path, names: Sequence[str], group_rows: int = GROUP_ROWS
    ) -> Iterator[SplitFiles]:
        """Files that are complete, and closed, after the block."""
        files = cls(folder, names, group_rows)
        try:
            yield files
            files._wait()
            for file in files._files.values():
                file.finish()
        finally:
            files._pool.shutdown(wait=True)
            for file in files._files.values():
                file.close()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def _write(self, parts: dict[int, pa.Table]) -> None:
        for code, part in parts.items():
            if code not in self._files:
                path = self._folder / split_file(self._names[code])
                self._files[code] = _GroupFile(path, part, self._group_rows)
            self._files[code].add(part)


class _GroupFile:
    """A Parquet file whose row groups have `group_rows` rows, the last one excepted."""

    def __init__(self, path: Path, like: pa.Table, group_rows: int) -> None:
        self._group_rows = group_rows
        self._writer = pq.ParquetWriter(path, like.schema, compression="zstd")
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0

    def add(self, rows: pa.Table) -> None:
        """Take the next rows; up to two groups stay in memory, so that none is too small."""
        self._waiting.append(rows)
        self._num_waiting += rows.num_rows
        if self._num_waiting >= 2 * self._group_rows:
            table = pa.concat_tables(self._waiting)
            end = self._group_rows * (self._num_waiting // self._group_rows - 1)
            self._writer.write_table(table.slice(0, end), row_group_size=self._group_rows)
            self._waiting = [table.slice(end)]
            self._num_waiting -= end

    def finish(self) -> None:
        """Write what is left, as one group."""
        if self._num_waiting:
            table = pa.concat_tables(self._waiting)
            self._writer.write_table(table, row_group_size=2 * self._group_rows)

    def close(self) -> None:
        """Close the file; twice does no harm."""
        self._writer.close()


def parts_of(table: pa.Table, codes: npt.NDArray[np.int8], num: int) -> dict[int, pa.Table]:
    """The rows of each split with rows in `table`, by code; rows with a code below 0 are left."""
    parts = {code: np.flatnonzero(codes == code) for code in range(num)}
    return {c: table.take(pa.array(rows)) for c, rows in parts.items() if rows.size}


def read_split(
    folder: Path, name: str, columns: Sequence[str], chunk_rows: int
) -> Iterator[pa.Table]:
    """The rows of a split that was written, in tables of `chunk_rows`."""
    with pq.ParquetFile(folder / split_file(name), pre_buffer=False) as file:
        for batch in file.iter_batches(chunk_rows, columns=list(columns)):
            yield pa.Table.from_batches([batch])
