"""One table for all columns of ids, the linear weight of a value beside its vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mdlora.embeddings.vectors import KeyedVectors, to_width
from mdlora.layers import look_up, pool
from mdlora.types import Batch, Embedded, EmbeddedList

__all__ = ["DensePart", "Embeddings", "PooledList"]


class PooledList(NamedTuple):
    """A list column: its ids, out of vocabulary included, and whether the mean or the sum.

    `rows_of` is the field, by its place, whose rows of the table its ids select; None where it
    has rows of its own.
    """

    num_ids: int
    mean: bool
    rows_of: int | None = None


class DensePart(NamedTuple):
    """Columns of Batch.dense that belong together: a scaled number, or a vector."""

    width: int
    is_vector: bool


class Embeddings(nn.Module):
    """Vectors, and linear weights, of all columns that a model sees.

    Columns of ids, lists among them, share one table, so that a batch is one lookup; column c's
    id i is row `starts[c] + i`. A list may have the rows of a field of ids: what one of the two
    learns, the other has. With `first_order`, the last element of a row is the value's
    linear weight. Id 0, out of vocabulary, starts at zero; other rows at N(0, init_std^2).
    A list's vectors and linear weights are summed or averaged; an empty list gives zeros. Given
    vectors have tables of their own, and those in the rows none; where their width is not E, one
    trained linear map without bias makes it so.

    Embedded.fields holds first the id fields in the order of Batch.categories, given vectors with
    a key among them and the domain last; then the lists; then the vectors in the rows.

    Shapes (B rows, F id fields, L lists, V vectors in the rows, N scaled numbers, E width):
    Batch.categories (B, F) -> fields (B, F + L + V, E), first_order (B,), dense (B, N).

    Args:
        num_ids: ids of each of the F fields, out of vocabulary included.
        embed_dim: E.
        first_order: whether the backbone has a linear part.
        init_std: standard deviation at the start.
        lists: the list columns.
        vectors: the fields, by their place, that are given vectors.
        dense: the parts of Batch.dense, in order.
        keep_lists: also give the lists' vectors as they are before they are pooled.
    """

    offsets: Tensor
    own: Tensor
    order: Tensor

    def __init__(
        self,
        num_ids: Sequence[int],
        embed_dim: int,
        *,
        first_order: bool,
        init_std: float = 0.01,
        lists: Sequence[PooledList] = (),
        vectors: Mapping[int, KeyedVectors] | None = None,
        dense: Sequence[DensePart] = (),
        keep_lists: bool = False,
    ) -> None:
        super().__init__()
        given = dict(sorted((vectors or {}).items()))
        self.num_ids = tuple(num_ids)
        self.embed_dim = embed_dim
        self.first_order = first_order
        self.lists, self.dense = tuple(lists), tuple(dense)
        self.keep_lists = keep_lists
        self.sparse_gradients = False
        self.vector_fields = tuple(given)
        own = [f for f in range(len(self.num_ids)) if f not in given]
        # Where each column is in the table: fields by their place, then lists.
        rows = {f: self.num_ids[f] for f in own}
        at = {len(self.num_ids) + i: part for i, part in enumerate(self.lists)}
        rows |= {place: part.num_ids for place, part in at.items() if part.rows_of is None}
        starts = list(accumulate(rows.values(), initial=0))
        self.starts, self.sizes = dict(zip(rows, starts[:-1], strict=True)), rows
        self.shared = {place: p.rows_of for place, p in at.items() if p.rows_of is not None}
        for place, field in self.shared.items():
            assert at[place].num_ids == rows.get(field), "a list has the ids of the field it shares"
            self.starts[place], self.sizes[place] = self.starts[field], rows[field]
        self.register_buffer("offsets", torch.tensor(starts[: len(own)]), persistent=False)
        table = torch.empty(starts[-1], embed_dim + int(first_order))
        nn.init.normal_(table, std=init_std)
        table[starts[:-1]] = 0.0
        self.table = nn.Parameter(table)
        self.only_ids = not (self.lists or given or self.dense)
        if self.only_ids:
            return
        self.vectors = nn.ModuleList(given.values())
        inline = [to_width(p.width, embed_dim) or nn.Identity() for p in self.dense if p.is_vector]
        self.projections = nn.ModuleList(inline)
        self.register_buffer("own", torch.tensor(own), persistent=False)
        made = [*own, *range(len(self.num_ids), len(self.num_ids) + len(self.lists)), *given]
        made += range(len(made), len(made) + len(inline))
        self.register_buffer("order", torch.tensor(made).argsort(), persistent=False)

    def rows(self, categories: Tensor) -> Tensor:
        """Table rows (B, T) of ids (B, F), for the T fields that are no given vectors."""
        if self.vector_fields:
            categories = categories.index_select(1, self.own)
        return categories + self.offsets

    def forward(self, batch: Batch) -> Embedded:
        """Look up all fields."""
        if not self.only_ids:
            return self._all_kinds(batch)
        found = look_up(self.table, self.rows(batch.categories), sparse=self.sparse_gradients)
        none = found.new_zeros(found.shape[0], 0)
        return Embedded(*self._split(found), none, batch.domain)

    def _split(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, C, E) and the sum of linear weights (B,) of table rows (B, C, ...)."""
        if not self.first_order:
            return found, found.new_zeros(found.shape[0])
        vectors, linear = found.split([self.embed_dim, 1], -1)
        return vectors, linear.sum((1, 2))

    def _all_kinds(self, batch: Batch) -> Embedded:
        rows = self.rows(batch.categories)
        flat = self._rows_of_ids(batch, rows)
        found = look_up(self.table, flat, sparse=self.sparse_gradients)
        sizes = [rows.numel(), *(part.values.numel() for part in batch.lists)]
        ids, *values = found.split(sizes)
        pooled = [
            pool(part, jagged.offsets, mean=column.mean).unsqueeze(1)
            for part, jagged, column in zip(values, batch.lists, self.lists, strict=True)
        ]
        single = ids.view(*rows.shape, found.shape[1])
        fields, first_order = self._split(torch.cat([single, *pooled], 1))
        parts = [fields]
        for place, field in self._given():
            chosen = batch.categories[:, place]
            parts.append(field(chosen, self.sparse_gradients).unsqueeze(1))
            if self.first_order and field.linear is not None:
                weight = look_up(field.linear, chosen, sparse=self.sparse_gradients)
                first_order = first_order + weight.squeeze(1)
        scaled = [fields.new_zeros(fields.shape[0], 0)]
        if self.dense:
            assert batch.dense is not None, "the batch lacks the schema's columns of numbers"
            numbers = batch.dense.to(self.table.dtype).split([p.width for p in self.dense], 1)
            maps = iter(self.projections)
            for part, column in zip(numbers, self.dense, strict=True):
                if column.is_vector:
                    parts.append(next(maps)(part).unsqueeze(1))
                else:
                    scaled.append(part)
        fields = torch.cat(parts, 1)
        if self.vector_fields:
            fields = fields.index_select(1, self.order)
        kept = zip(values, batch.lists, strict=True) if self.keep_lists else ()
        lists = tuple(EmbeddedList(v[:, : self.embed_dim], ids.offsets) for v, ids in kept)
        return Embedded(fields, first_order, torch.cat(scaled, 1), batch.domain, lists)

    def _rows_of_ids(self, batch: Batch, rows: Tensor) -> Tensor:
        """Table rows (R,) of all ids of a batch: of the fields, `rows`, then of the lists."""
        first = len(self.num_ids)
        lists = [part.values + self.starts[first + i] for i, part in enumerate(batch.lists)]
        return torch.cat([rows.flatten(), *lists])

    def _given(self) -> list[tuple[int, KeyedVectors]]:
        """Each field of given vectors, by its place."""
        fields = cast("list[KeyedVectors]", list(self.vectors))
        return list(zip(self.vector_fields, fields, strict=True))

    def row_tables(self) -> list[nn.Parameter]:
        """All that learns by rows: the table, trained vectors, and the keys' linear weights."""
        if self.only_ids:
            return [self.table]
        return [self.table, *(table for _, field in self._given() for table in field.row_tables())]

    def touched(self, batch: Batch) -> list[Tensor]:
        """For each of `row_tables`, the rows that a batch reads (any shape, with repeats)."""
        rows = self.rows(batch.categories)
        if self.only_ids:
            return [rows]
        found = [self._rows_of_ids(batch, rows)]
        for place, field in self._given():
            found += [batch.categories[:, place]] * len(field.row_tables())
        return found

    def column_rows(self, place: int) -> slice:
        """The slice of the table that a column has: a field by its place, or list i at F + i."""
        return slice(self.starts[place], self.starts[place] + self.sizes[place])

    def column_vectors(self, field: int) -> Tensor:
        """The vectors (ids, width) of a field's ids, 0 included; not copied."""
        if field in self.vector_fields:
            return dict(self._given())[field].table.detach()
        return self.table.detach()[self.column_rows(field), : self.embed_dim]

    @torch.no_grad()
    def fill_unlearned(self, learned: Sequence[bool]) -> list[int]:
        """Set the out-of-vocabulary row of each column that never learned it to its column's mean.

        Given vectors keep zeros there; only the linear weight of their id 0 is set. A row that a
        list shares with a field learned if either held id 0.

        Args:
            learned: for each field, and then each list, whether training rows held id 0.

        Returns:
            The places of the columns that were filled, without lists that share a field's rows.
        """
        filled = []
        by_lists = {field for place, field in self.shared.items() if learned[place]}
        for place, by_itself in enumerate(learned):
            if place in self.shared:
                continue
            seen = by_itself or place in by_lists
            rows: Tensor | None
            if place in self.starts:
                rows = self.table[self.column_rows(place)]
            else:
                rows = dict(self._given())[place].linear
            if not seen and rows is not None and len(rows) > 1:
                rows[0] = rows[1:].mean(0)
                filled.append(place)
        return filled
