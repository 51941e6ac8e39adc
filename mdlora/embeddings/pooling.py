"""Rows of a table, and sums over lists of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["look_up", "pool"]


def look_up(table: Tensor, rows: Tensor, *, sparse: bool) -> Tensor:
    """Table rows (..., W) at `rows` (...); `sparse` asks for a sparse gradient of the table."""
    if sparse or table.is_cuda:
        return F.embedding(rows, table, sparse=sparse)
    # its gradient takes a quarter of the time; on CUDA it would depend on chance
    return table.index_select(0, rows.flatten()).view(*rows.shape, table.shape[1])


def pool(values: Tensor, offsets: Tensor, *, mean: bool) -> Tensor:
    """The sum, or mean, of each list of vectors; zeros for an empty list.

    Each list is summed in its own order, so that the result ignores the other lists.

    Shapes (V vectors of B lists, W width): values (V, W), offsets (B + 1,) -> (B, W).
    """
    lengths = offsets.diff()
    if values.is_cuda:  # index_add would depend on chance there
        total = torch.segment_reduce(values, "sum", lengths=lengths, axis=0, initial=0.0)
    else:
        lists = torch.arange(len(lengths), device=values.device)
        lists = torch.repeat_interleave(lists, lengths, output_size=len(values))
        total = values.new_zeros(len(lengths), values.shape[1]).index_add(0, lists, values)
    return total / lengths.clamp(min=1).unsqueeze(1) if mean else total
