"""Encoded rows: what a schema makes of a table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["EncodedRows", "ListIds"]


class ListIds(NamedTuple):
    """The ids of a list column of N rows, one list after the other.

    `values` (V,) int64; `offsets` (N + 1,) int64: row i has `values[offsets[i]:offsets[i + 1]]`.
    """

    values: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]


class EncodedRows(NamedTuple):
    """Rows as ids and numbers (N rows, F id fields, W numbers)."""

    categories: npt.NDArray[np.int64]
    """(N, F), one id for each of the schema's `fields`, the domain's last."""

    domain: npt.NDArray[np.int64]
    """(N,), 0 for an unknown domain."""

    label: npt.NDArray[np.float32] | None
    """(N,) 0 or 1; None if it was not asked for."""

    unseen: dict[str, int]
    """For each field the rows, for each list column the items, whose value has id 0."""

    dense: npt.NDArray[np.float32] | None
    """(N, W), the schema's `dense` columns side by side; None if there are none."""

    lists: tuple[ListIds, ...]
    """One for each of the schema's `lists`."""

    weight: npt.NDArray[np.float32] | None
    """(N,), at least 0; None without a weight column, or if the label was not asked for."""

    time: npt.NDArray[np.int64] | None
    """(N,) seconds since 1970; None without a time column, or if the label was not asked for."""

    missing: dict[str, int]
    """For each numeric column, the rows without a value."""

    cut: dict[str, int]
    """For each list column, the rows whose list was longer than its maximum."""
