"""Where a phase's rows come from, epoch by epoch, and what is done to them before a step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mdlora.config import Phase, RunConfig
from mdlora.schema import Schema
from mdlora.seeds import derive_seed
from mdlora.training.batches import (
    PhaseRows,
    epoch_bounds,
    epoch_order,
    hide_values,
    sort_within,
)
from mdlora.types import Batch

__all__ = ["Assign", "Epoch", "MemorySource", "RowRules", "Source", "Step", "step_of", "weight_of"]

Assign = Callable[[Tensor, Tensor], tuple[Tensor | None, Tensor]]
"""From domains (N,) and ids (N, F): places of rows to learn from (None: each once, in order),
and the expert of each."""


class Step(NamedTuple):
    """What one step learns from."""

    batch: Batch | None
    """None where no row has an expert that still learns."""

    expert: Tensor | None
    """(B,) the expert that learns from each row; None outside phases that train each alone."""

    rows: int
    """Rows that the step passes over, those left out too."""

    size: float
    """What the summed loss is divided by: `rows`, or the sum of their weights."""

    learned: float
    """Rows of `batch`, or the sum of their weights."""


class Epoch(Protocol):
    """The steps of one epoch that are left."""

    num_rows: int
    num_batches: int
    rows_done: int
    """Rows of the batches before the first that is left."""

    def leave_out(self, stopped: Tensor | None) -> None:
        """From the next step on, skip rows of these experts (K,) bool, and of unknown domains.

        Batches keep their bounds and their loss scale, so that an expert's steps do not depend on
        when others stop. Without experts of their own no rows are skipped.
        """

    def steps(self) -> Generator[Step, None, None]:
        """The steps, in order; close it to leave early."""


class Source(Protocol):
    """The training rows of a phase, in a new order each epoch."""

    @property
    def holds_unseen(self) -> list[bool]:
        """For each field, and then each list, whether a row holds its id 0."""

    def epoch(self, number: int, done: int) -> Epoch:
        """Epoch `number`, from 0, after its first `done` batches."""


@dataclass(eq=False)
class RowRules:
    """What a phase does to its rows before a step, wherever they come from.

    Args:
        phase: the phase.
        config: of the run.
        schema: of the rows.
        device: where steps are.
        dtype: of labels and weights.
        assign: gives each row its expert, in phases that train each expert alone; else None.
        hides: whether a share of the values is hidden (`data.oov_rate`).
        sorts: whether rows of a batch are sorted by what routes them. A batch's loss does not
            depend on the order of its rows, but adapters are faster on runs.
    """

    phase: Phase
    config: RunConfig
    schema: Schema
    device: torch.device
    dtype: torch.dtype
    assign: Assign | None
    hides: bool
    sorts: bool

    def seed(self, what: str, epoch: int, *more: int) -> int:
        """The seed of the stream `what` in an epoch of the phase."""
        return derive_seed(self.config.seed, what, self.phase.name, epoch, *more)

    def prepare(self, rows: PhaseRows) -> PhaseRows:
        """Rows with their experts, on the device; rows of no expert's may be gone."""
        rows = replace(rows, time=None)  # it has chosen the rows, and is of no more use
        if self.assign is not None:
            places, expert = self.assign(rows.domain, rows.categories)
            rows = replace(rows if places is None else rows.pick(places), expert=expert)
        rows = rows.to(self.device)
        weight = None if rows.weight is None else rows.weight.to(self.dtype)
        return replace(rows, label=rows.label.to(self.dtype), weight=weight)

    def hide(self, rows: PhaseRows, epoch: int, *more: int) -> PhaseRows:
        """Hide a share of values, so that the out-of-vocabulary rows learn."""
        if not self.hides:
            return rows
        seed = self.seed("oov", epoch, *more)
        return hide_values(rows, self.schema, self.config.data.oov_rate, seed)

    def sort(self, rows: PhaseRows, bounds: Sequence[tuple[int, int]]) -> PhaseRows:
        """Each batch's rows sorted by what routes them, where that is of use."""
        if not self.sorts:
            return rows
        key = rows.domain if rows.expert is None else rows.expert
        return rows.pick(sort_within(key, bounds))

    def running(self, rows: PhaseRows, stopped: Tensor | None) -> Tensor | None:
        """(N,) bool, whether a row's expert still learns; None where all do."""
        if rows.expert is None:
            return None
        running = rows.expert >= 0
        if stopped is not None:
            running &= ~stopped.to(self.device)[rows.expert.clamp(min=0)]
        return None if bool(running.all()) else running


class MemorySource:
    """Rows that are held in memory, permuted whole."""

    def __init__(self, train: PhaseRows, rules: RowRules) -> None:
        self.rules = rules
        self.rows = rules.prepare(train)

    @property
    def holds_unseen(self) -> list[bool]:
        """For each field, and then each list, whether a row holds its id 0."""
        unseen: list[bool] = (self.rows.categories == 0).any(0).tolist()
        return unseen + [bool((part.values == 0).any()) for part in self.rows.lists]

    def epoch(self, number: int, done: int) -> Epoch:
        """Epoch `number`, from 0, after its first `done` batches."""
        rules = self.rules
        order, bounds = epoch_bounds(
            self.rows.domain.cpu(),
            epoch_order(len(self.rows.domain), rules.seed("order", number)),
            rules.config.training.batch_size,
            by_domain=rules.phase.batches == "by_domain",
            seed=rules.seed("batches", number),
        )
        rows = rules.hide(self.rows.pick(order.to(rules.device)), number)
        return _MemoryEpoch(rules.sort(rows, bounds), bounds, done, rules)


class _MemoryEpoch:
    def __init__(
        self, rows: PhaseRows, bounds: Sequence[tuple[int, int]], done: int, rules: RowRules
    ) -> None:
        self._rows, self._bounds, self._done, self._rules = rows, bounds, done, rules
        self._kept: tuple[PhaseRows, Tensor] | None = None
        self.num_rows = len(rows)
        self.num_batches = len(bounds)
        self.rows_done = sum(end - start for start, end in bounds[:done])

    def leave_out(self, stopped: Tensor | None) -> None:
        """Pick the rows that are kept once, and count them before each row."""
        running = self._rules.running(self._rows, stopped)
        if running is None:
            self._kept = None
            return
        before = torch.zeros(len(running) + 1, dtype=torch.int64)
        before[1:] = running.cumsum(0).cpu()
        self._kept = self._rows.pick(running.nonzero().squeeze(1)), before

    def steps(self) -> Generator[Step, None, None]:
        """Slices of the rows."""
        for start, end in self._bounds[self._done :]:
            size = weight_of(self._rows, start, end)
            if self._kept is None:
                yield step_of(self._rows, start, end, end - start, size)
            else:
                kept, before = self._kept
                yield step_of(kept, int(before[start]), int(before[end]), end - start, size)


def step_of(rows: PhaseRows, start: int, end: int, passed: int, size: float) -> Step:
    """A step over rows `start` to `end`, which are those kept of `passed` rows of weight `size`."""
    size = size or 1  # rows of no weight have no loss either
    if start == end:
        return Step(None, None, passed, size, 0)
    expert = None if rows.expert is None else rows.expert[start:end]
    return Step(rows.batch(start, end), expert, passed, size, weight_of(rows, start, end))


def weight_of(rows: PhaseRows, start: int, end: int) -> float:
    """How many rows a slice holds, or the sum of their weights."""
    return end - start if rows.weight is None else float(rows.weight[start:end].sum())
