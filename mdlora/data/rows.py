"""Encoded rows as tensors, of every kind of column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from mdlora.schema import EncodedRows
from mdlora.types import Batch, Jagged

__all__ = ["Rows", "concatenate"]


@dataclass(frozen=True, eq=False)
class Rows:
    """N rows (F id fields, W columns of numbers)."""

    categories: Tensor
    """(N, F) int64 ids, the domain's field last; 0 is out of vocabulary."""

    domain: Tensor
    """(N,) int64, 1 to D, 0 for an unknown domain."""

    label: Tensor | None = None
    """(N,) float32, 0 or 1; None for rows to be scored."""

    dense: Tensor | None = None
    """(N, W) float32, scaled numerics and vectors that stand in the rows; None without such."""

    lists: tuple[Jagged, ...] = ()
    """The ids of each multi-valued column, (V,) with offsets (N + 1,)."""

    weight: Tensor | None = None
    """(N,) float32, each row's share in the loss; None where all count the same."""

    time: Tensor | None = None
    """(N,) int64 seconds since 1970; None without a time column."""

    def __len__(self) -> int:
        return self.domain.shape[0]

    @classmethod
    def of(cls, encoded: EncodedRows) -> Rows:
        """What a schema made of raw rows, as tensors."""
        return Rows(
            torch.from_numpy(encoded.categories),
            torch.from_numpy(encoded.domain),
            _tensor(encoded.label),
            _tensor(encoded.dense),
            tuple(
                Jagged(torch.from_numpy(part.values), torch.from_numpy(part.offsets))
                for part in encoded.lists
            ),
            _tensor(encoded.weight),
            _tensor(encoded.time),
        )

    def pick(self, index: Tensor) -> Rows:
        """The rows at these places (M,), in that order; a place may stand there twice."""

        def rows(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.index_select(0, index)

        return Rows(
            self.categories.index_select(0, index),
            self.domain.index_select(0, index),
            rows(self.label),
            rows(self.dense),
            tuple(_pick_lists(part, index) for part in self.lists),
            rows(self.weight),
            rows(self.time),
        )

    def slice(self, start: int, end: int) -> Rows:
        """Rows `start` to `end`, without copies (but for the offsets of lists)."""

        def rows(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[start:end]

        return Rows(
            self.categories[start:end],
            self.domain[start:end],
            rows(self.label),
            rows(self.dense),
            tuple(_slice_lists(part, start, end) for part in self.lists),
            rows(self.weight),
            rows(self.time),
        )

    def batch(self, start: int, end: int) -> Batch:
        """Rows `start` to `end` as a model takes them."""
        return Batch(
            self.categories[start:end],
            self.domain[start:end],
            None if self.label is None else self.label[start:end],
            None if self.dense is None else self.dense[start:end],
            tuple(_slice_lists(part, start, end) for part in self.lists),
            None if self.weight is None else self.weight[start:end],
        )

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on another device."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        return Rows(
            self.categories.to(device),
            self.domain.to(device),
            moved(self.label),
            moved(self.dense),
            tuple(Jagged(*(t.to(device) for t in part)) for part in self.lists),
            moved(self.weight),
            moved(self.time),
        )


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Rows one after another; all of one schema, all with labels or all without."""
    if len(parts) == 1:
        return parts[0]

    def joined(name: str) -> Tensor | None:
        columns = [getattr(part, name) for part in parts]
        return None if columns[0] is None else torch.cat(columns)

    lists = zip(*(part.lists for part in parts), strict=True)
    return Rows(
        torch.cat([part.categories for part in parts]),
        torch.cat([part.domain for part in parts]),
        joined("label"),
        joined("dense"),
        tuple(_join_lists(column) for column in lists),
        joined("weight"),
        joined("time"),
    )


def _pick_lists(part: Jagged, index: Tensor) -> Jagged:
    lengths = part.offsets.diff().index_select(0, index)
    offsets = torch.zeros(len(index) + 1, dtype=torch.int64, device=index.device)
    torch.cumsum(lengths, 0, out=offsets[1:])
    total = int(offsets[-1])
    shift = part.offsets.index_select(0, index) - offsets[:-1]
    places = torch.repeat_interleave(shift, lengths, output_size=total)
    places += torch.arange(total, device=index.device)
    return Jagged(part.values.index_select(0, places), offsets)


def _slice_lists(part: Jagged, start: int, end: int) -> Jagged:
    offsets = part.offsets[start : end + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    return Jagged(part.values[first:last], offsets - first)


def _join_lists(parts: Sequence[Jagged]) -> Jagged:
    values = torch.cat([part.values for part in parts])
    lengths = torch.cat([part.offsets.diff() for part in parts])
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64, device=lengths.device)
    torch.cumsum(lengths, 0, out=offsets[1:])
    return Jagged(values, offsets)


def _tensor(array: npt.NDArray[Any] | None) -> Tensor | None:
    if array is None:
        return None
    return torch.from_numpy(array if array.flags.writeable else array.copy())
