"""Which training rows a phase sees, and in which order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from mdlora.compiled import can_compile
from mdlora.config import recent_days
from mdlora.data import Rows, stratified_split
from mdlora.schema import Numeric, Schema, is_hashed
from mdlora.seeds import derive_seed
from mdlora.types import Jagged

__all__ = [
    "PhaseRows",
    "can_be_unseen",
    "epoch_bounds",
    "epoch_order",
    "hide_values",
    "phase_rows",
    "sort_within",
]


@dataclass(frozen=True, eq=False)
class PhaseRows(Rows):
    """The rows of a phase, on the training device."""

    label: Tensor
    """(N,) 0 or 1."""

    expert: Tensor | None = None
    """(N,) the one expert that learns from the row (-1: none), or None outside phases that train
    each expert alone."""

    @classmethod
    def with_expert(cls, rows: Rows, expert: Tensor | None = None) -> PhaseRows:
        """These rows, and the expert of each."""
        return cls(**{f.name: getattr(rows, f.name) for f in fields(Rows)}, expert=expert)

    def pick(self, index: Tensor) -> PhaseRows:
        """The rows at these places."""
        expert = None if self.expert is None else self.expert.index_select(0, index)
        return PhaseRows.with_expert(super().pick(index), expert)

    def to(self, device: torch.device | str) -> PhaseRows:
        """The same rows on another device."""
        expert = None if self.expert is None else self.expert.to(device)
        return PhaseRows.with_expert(super().to(device), expert)


def phase_rows(train: Rows, rows: str, share: float | None, seed: int) -> Tensor:
    """Places (N,) of the training rows that a phase uses.

    The held-out share is drawn once for a seed, stratified by domain and label. The last days end
    with the latest training row.

    Args:
        train: with labels, and with times for recent rows.
        rows: "all", "seen", "held_out" or "recent:DAYS".
        share: of the rows that are held out; None where none are.
        seed: of the run.
    """
    days = recent_days(rows)
    if days is not None:
        assert train.time is not None, "check_plan refuses recent rows without a time column"
        before = int(train.time.max()) - math.ceil(days * 86400)
        return (train.time > before).nonzero().squeeze(1)
    if rows == "all" or share is None:
        return torch.arange(len(train))
    assert train.label is not None
    codes = stratified_split(
        train.domain.numpy(),
        train.label.numpy(),
        ratio=(1 - share, share),
        seed=derive_seed(seed, "held_out"),
    )
    wanted = 1 if rows == "held_out" else 0
    return torch.from_numpy(codes == wanted).nonzero().squeeze(1)


def can_be_unseen(schema: Schema) -> list[bool]:
    """For each field, and then each list, whether a value can be out of vocabulary.

    Where values are hashed or put in buckets, each has an id above 0.
    """
    columns = (*schema.fields, *schema.list_owners)
    return [not (is_hashed(column) or isinstance(column, Numeric)) for column in columns]


def hide_values(rows: PhaseRows, schema: Schema, rate: float, seed: int) -> PhaseRows:
    """Rows in which a share of the values, also of those in lists, is out of vocabulary.

    Nothing is hidden of columns whose values can never be unseen.
    """
    generator = torch.Generator().manual_seed(seed)
    device = rows.domain.device

    def hidden(shape: torch.Size, can: list[bool]) -> Tensor:
        drawn = torch.rand(shape, generator=generator) < rate
        return (drawn & torch.tensor(can)).to(device)

    can = can_be_unseen(schema)
    first = rows.categories.shape[1]
    of_fields = hidden(rows.categories.shape, can[:first])
    lists = [
        Jagged(part.values.masked_fill(hidden(part.values.shape, [of_list]), 0), part.offsets)
        for part, of_list in zip(rows.lists, can[first:], strict=True)
    ]
    return replace(
        rows,
        categories=rows.categories.masked_fill(of_fields, 0),
        domain=rows.domain.masked_fill(of_fields[:, -1], 0),
        lists=tuple(lists),
    )


def epoch_order(num_rows: int, seed: int) -> Tensor:
    """A permutation (N,) of the rows."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(num_rows, generator=generator)


def epoch_bounds(
    domain: Tensor, order: Tensor, batch_size: int, *, by_domain: bool, seed: int
) -> tuple[Tensor, Sequence[tuple[int, int]]]:
    """The order of rows, and where in it each batch starts and ends.

    Mixed batches are slices of `order`. By domain, rows are sorted by domain (within it, as in
    `order`), each batch holds one domain, and the batches come in random order.
    """
    if not by_domain:
        starts = torch.arange(0, len(order), batch_size)
        ends = (starts + batch_size).clamp(max=len(order))
        return order, list(zip(starts.tolist(), ends.tolist(), strict=True))
    of_row = domain[order]
    sort = torch.argsort(of_row, stable=True)
    counts = torch.bincount(of_row)
    batches = (counts + batch_size - 1) // batch_size
    first = counts.cumsum(0) - counts
    which = torch.repeat_interleave(torch.arange(len(counts)), batches)
    nth = torch.arange(len(which)) - (batches.cumsum(0) - batches)[which]
    starts = first[which] + nth * batch_size
    ends = torch.minimum(starts + batch_size, (first + counts)[which])
    shuffle = epoch_order(len(which), seed)
    pairs = zip(starts[shuffle].tolist(), ends[shuffle].tolist(), strict=True)
    return order[sort], list(pairs)


def sort_within(key: Tensor, bounds: Sequence[tuple[int, int]]) -> Tensor:
    """Places (N,) that sort the rows of each batch by a key (N,) of at least -1.

    Rows of one key stay in their order. `bounds` are those of `epoch_bounds`, in any order.
    """
    starts = sorted(start for start, _ in bounds)
    span = int(key.max()) + 2 if key.numel() else 1
    if can_compile(key):
        from mdlora.compiled.pairs import sort_batches

        edges = np.array([*starts, len(key)])
        return torch.from_numpy(sort_batches(key.numpy(), edges, span))
    batch = torch.zeros_like(key)
    batch[torch.tensor(starts[1:], dtype=torch.int64, device=key.device)] = 1
    place = batch.cumsum(0) * span + key
    if len(starts) * span < 2**31:
        place = place.int()  # sorts in half the time
    return torch.argsort(place, stable=True)
