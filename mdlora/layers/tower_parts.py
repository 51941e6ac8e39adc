"""In which parts rows go through a tower."""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import Tensor, nn

from mdlora.layers.dropout import ReLUDropout
from mdlora.layers.row_update import RowUpdate, Run, RunUpdate

__all__ = ["Part", "TowerLayer", "parts_of"]

_CACHE = 1 << 21  # bytes of rows that a part may take
_FEWEST = 128  # rows of a part: with fewer, matrix products slow down


class TowerLayer(NamedTuple):
    """A layer of a step: a linear map, what its hook adds, ReLU and dropout."""

    linear: nn.Linear
    activation: ReLUDropout
    update: RowUpdate | None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """Whose gradients the step gives: weight, bias, and what the update is computed from."""
        more = () if self.update is None else self.update.tensors
        return (self.linear.weight, self.linear.bias, *more)


class Part(NamedTuple):
    """Rows `first` to `last`; those of a run, or of none."""

    first: int
    last: int
    run: Run | None

    @property
    def begins(self) -> bool:
        """Whether its run begins with it."""
        return self.run is not None and self.first == self.run.first

    @property
    def ends(self) -> bool:
        """Whether its run ends with it."""
        return self.run is not None and self.last == self.run.last


def parts_of(x: Tensor, layers: list[TowerLayer]) -> list[Part]:
    """The rows in their order: long runs, and what is between them, no part above a size."""
    num_rows, size = x.shape[0], _rows_of_a_part(x, layers)
    found: list[Part] = []
    done = 0
    for run in _runs(layers):
        found += _pieces(done, run.first, size, None)
        found += _pieces(run.first, run.last, size, run)
        done = run.last
    return found + _pieces(done, num_rows, size, None)


def _pieces(first: int, last: int, size: int, run: Run | None) -> list[Part]:
    return [Part(at, min(at + size, last), run) for at in range(first, last, size)]


def _runs(layers: list[TowerLayer]) -> list[Run]:
    """Runs of rows of which all updates say that they cost less with matrices of their own."""
    updates = [layer.update for layer in layers if layer.update is not None]
    groups = updates[0].groups if updates else None
    if (
        groups is None
        or any(update.groups is not groups for update in updates)
        # To learn adapters from the gradient of a whole matrix pays only if that is wanted anyway.
        or not all(layer.linear.weight.requires_grad for layer in layers if layer.update)
    ):
        return []
    merging = [cast("RunUpdate", update) for update in updates]
    return merging[0].runs(max(update.shortest_run for update in merging))


def _rows_of_a_part(x: Tensor, layers: list[TowerLayer]) -> int:
    updates = [layer.update for layer in layers if layer.update is not None]
    if not all(update.in_parts for update in updates):
        return x.shape[0]
    width = x.shape[1] + sum(layer.linear.out_features for layer in layers)
    width += max((update.row_numbers for update in updates), default=0)
    caches = max((update.caches for update in updates), default=1)
    size = max(caches * _CACHE // (4 * width) // _FEWEST * _FEWEST, _FEWEST)
    return min(size, x.shape[0])
