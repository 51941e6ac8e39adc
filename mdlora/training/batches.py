"""Which training rows a phase sees, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdlora.data import Split, stratified_split
from mdlora.seeds import derive_seed

__all__ = ["PhaseRows", "epoch_bounds", "epoch_order", "phase_rows", "sort_within"]


class PhaseRows(NamedTuple):
    """The rows of a phase, on the training device.

    `categories` (N, F), `domain` (N,), `label` (N,); `expert` (N,) is the one expert that learns
    from the row (-1: none), or None outside phases that train each expert alone.
    """

    categories: Tensor
    domain: Tensor
    label: Tensor
    expert: Tensor | None = None

    def pick(self, index: Tensor) -> PhaseRows:
        """The rows at these places."""
        return PhaseRows(*(None if t is None else t.index_select(0, index) for t in self))  # type: ignore[arg-type]


def phase_rows(train: Split, rows: str, share: float | None, seed: int) -> Tensor:
    """Places (N,) of the training rows that a phase uses: "all", "seen" or "held_out".

    The held-out share is drawn once for a seed, stratified by domain and label.
    """
    if rows == "all" or share is None:
        return torch.arange(len(train))
    codes = stratified_split(
        train.domain.numpy(),
        train.label.numpy(),
        ratio=(1 - share, share),
        seed=derive_seed(seed, "held_out"),
    )
    wanted = 1 if rows == "held_out" else 0
    return torch.from_numpy(codes == wanted).nonzero().squeeze(1)


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
    starts = torch.tensor(sorted(start for start, _ in bounds), dtype=torch.int64).to(key.device)
    batch = torch.zeros_like(key)
    batch[starts[1:]] = 1
    span = int(key.max()) + 2 if key.numel() else 1
    place = batch.cumsum(0) * span + key
    if len(starts) * span < 2**31:
        place = place.int()  # sorts in half the time
    return torch.argsort(place, stable=True)
