"""Columns of a long table as compact codes, gathered chunk by chunk."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["DistinctValues", "Gathered", "Numbers", "ValueCodes"]

_FEW = 1 << 20


class Gathered:
    """A column of codes in the smallest type that holds them, and the value behind each code."""

    def __init__(self, codes: npt.NDArray[np.integer], values: pa.Array) -> None:
        self.codes = codes
        """(N,) in [0, num_values)."""
        self.values = values
        """(V,) int64 or large_string, sorted: integers by size, strings by code point."""

    @property
    def num_values(self) -> int:
        """V, the number of different values."""
        return len(self.values)


class ValueCodes:
    """Gives each value of a column a number: 4 bytes a row, and each value once.

    A chunk is coded by its own dictionary; dictionaries are joined when they have grown as large
    as all that was joined before, so the whole work grows with the rows and not with their square.
    """

    def __init__(self) -> None:
        self._codes: list[npt.NDArray[np.int32]] = []
        self._joined: pa.Array | None = None
        self._waiting: list[pa.Array] = []
        self._num_waiting = 0

    def add(self, column: pa.ChunkedArray) -> None:
        """Take the next rows: int64 or large_string without nulls, of one type throughout."""
        coded = column.combine_chunks().dictionary_encode()
        self._codes.append(np.array(coded.indices.to_numpy(zero_copy_only=False), dtype=np.int32))
        self._waiting.append(coded.dictionary)
        self._num_waiting += len(coded.dictionary)
        if self._num_waiting >= max(_FEW, 0 if self._joined is None else len(self._joined)):
            self._join()

    def finish(self) -> Gathered:
        """All rows. The codes are the ranks of their values; call it once."""
        self._join()
        assert self._joined is not None
        order = np.asarray(pc.array_sort_indices(self._joined).to_numpy(), dtype=np.int64)
        kind = np.min_scalar_type(max(order.size - 1, 0))
        rank = np.empty(order.size, dtype=kind)
        rank[order] = np.arange(order.size, dtype=kind)
        codes = np.empty(sum(map(len, self._codes)), dtype=kind)
        end = codes.size
        while self._codes:
            chunk = self._codes.pop()
            codes[end - chunk.size : end] = rank[chunk]
            end -= chunk.size
        return Gathered(codes, self._joined.take(pa.array(order)))

    def _join(self) -> None:
        """Give each waiting dictionary, and its chunk, the numbers of the joined dictionary."""
        if self._waiting:
            known = [] if self._joined is None else [self._joined]
            joined = pa.chunked_array([*known, *self._waiting]).dictionary_encode()
            first = len(self._codes) - len(self._waiting)
            for place in range(len(self._waiting)):
                numbers = joined.chunk(len(known) + place).indices.to_numpy()
                chunk = self._codes[first + place]
                np.take(numbers, chunk, out=chunk)
            self._joined = joined.chunk(0).dictionary
        self._waiting, self._num_waiting = [], 0


class DistinctValues:
    """Counts the different values of a column that passes by; keeps each value once or twice."""

    def __init__(self) -> None:
        self._joined: list[pa.Array] = []
        self._waiting: list[pa.Array] = []

    def add(self, values: Any) -> None:
        """Take the next values, an array or chunked array of one type throughout."""
        self._waiting.append(pc.unique(values))
        if sum(map(len, self._waiting)) >= max(_FEW, sum(map(len, self._joined))):
            self.count()

    def count(self) -> int:
        """How many there are so far."""
        if self._waiting:
            self._joined = [pa.chunked_array([*self._joined, *self._waiting]).unique()]
            self._waiting = []
        return sum(map(len, self._joined))


class Numbers:
    """A column of plain numbers, gathered in one type."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype
        self._chunks: list[npt.NDArray[Any]] = []

    def add(self, chunk: npt.NDArray[Any]) -> None:
        """Take the next rows."""
        self._chunks.append(chunk.astype(self._dtype))

    def finish(self) -> npt.NDArray[Any]:
        """All rows, (N,); call it once."""
        chunks, self._chunks = self._chunks, []
        return np.concatenate([np.empty(0, dtype=self._dtype), *chunks])
