"""Whose rows a layer sees, where these are not the rows of the batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor

__all__ = ["RowOwners", "row_owners", "rows_of"]


class RowOwners(NamedTuple):
    """`row` (V,) int64: the row of the batch, 0..num_rows - 1, that each of V rows belongs to."""

    row: Tensor
    num_rows: int


_local = threading.local()


def row_owners() -> RowOwners | None:
    """The rows, (V,), that `rows_of` has set in this thread; None outside of it."""
    owners: RowOwners | None = getattr(_local, "owners", None)
    return owners


@contextmanager
def rows_of(row: Tensor, num_rows: int) -> Iterator[None]:
    """Layers called inside see V rows, row j of which belongs to row[j] of the batch.

    Say the items of all rows' lists, without padding. Adapters on such a layer then give each of
    the V rows what its owner's domain has.

    Args:
        row: (V,) int64 in 0..num_rows - 1.
        num_rows: B, rows of the batch.
    """
    before = row_owners()
    _local.owners = RowOwners(row, num_rows)
    try:
        yield
    finally:
        _local.owners = before
