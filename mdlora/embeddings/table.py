"""One table for all categorical columns, the linear weight of a value beside its vector."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mdlora.types import Batch, Embedded

__all__ = ["Embeddings"]


class Embeddings(nn.Module):
    """Vectors, and linear weights, of categorical values.

    All columns share one table, so that a batch is one lookup; column f's id i is row
    `offsets[f] + i`. With `first_order`, the last element of a row is the value's linear weight.
    Id 0, out of vocabulary, starts at zero; other rows at N(0, init_std^2).

    Shapes (B rows, F fields, E width): Batch.categories (B, F) -> fields (B, F, E),
    first_order (B,).

    Args:
        num_ids: ids of each column, out of vocabulary included.
        embed_dim: E.
        first_order: whether the backbone has a linear part.
        init_std: standard deviation at the start.
    """

    offsets: Tensor

    def __init__(
        self,
        num_ids: Sequence[int],
        embed_dim: int,
        *,
        first_order: bool,
        init_std: float = 0.01,
    ) -> None:
        super().__init__()
        self.num_ids = tuple(num_ids)
        self.embed_dim = embed_dim
        self.first_order = first_order
        self.sparse_gradients = False
        starts = list(accumulate(self.num_ids, initial=0))
        self.register_buffer("offsets", torch.tensor(starts[:-1]), persistent=False)
        table = torch.empty(starts[-1], embed_dim + int(first_order))
        nn.init.normal_(table, std=init_std)
        table[starts[:-1]] = 0.0
        self.table = nn.Parameter(table)

    def rows(self, categories: Tensor) -> Tensor:
        """Table rows (B, F) of ids (B, F)."""
        return categories + self.offsets

    def forward(self, batch: Batch) -> Embedded:
        """Look up all fields."""
        rows = self.rows(batch.categories)
        if self.sparse_gradients or self.table.is_cuda:
            found = F.embedding(rows, self.table, sparse=self.sparse_gradients)
        else:  # its gradient takes a quarter of the time; on CUDA it would depend on chance
            found = self.table.index_select(0, rows.flatten()).view(*rows.shape, -1)
        none = found.new_zeros(found.shape[0], 0)
        if not self.first_order:
            return Embedded(found, found.new_zeros(found.shape[0]), none, batch.domain)
        vectors = found[..., : self.embed_dim]
        return Embedded(vectors, found[..., self.embed_dim].sum(1), none, batch.domain)

    def column_rows(self, field: int) -> slice:
        """The slice of the table that a column owns."""
        start = int(self.offsets[field])
        return slice(start, start + self.num_ids[field])

    @torch.no_grad()
    def fill_unlearned(self, learned: Sequence[bool]) -> list[int]:
        """Set the out-of-vocabulary row of each column that never learned it to its column's mean.

        Args:
            learned: for each column, whether training rows held id 0.

        Returns:
            The columns that were filled.
        """
        filled = [f for f, seen in enumerate(learned) if not seen and self.num_ids[f] > 1]
        for field in filled:
            rows = self.table[self.column_rows(field)]
            rows[0] = rows[1:].mean(0)
        return filled
