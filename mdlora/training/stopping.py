"""Early stops: one for all, or one for each expert."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Stopper", "UnitScores", "unit_scores"]


class UnitScores(NamedTuple):
    """What decides for each expert: `values` (K,), higher is better; which domains were judged
    by log loss, and which by the other domains' mean for want of validation rows.
    """

    values: Tensor
    by_log_loss: Tensor
    by_mean: Tensor


def unit_scores(
    auc: Tensor, log_loss: Tensor, rows: Tensor, positives: Tensor, min_validation: int
) -> UnitScores:
    """The figure of each unit (methods: AUC, else log loss, else the others' mean).

    A unit with at least `min_validation` validation rows of either class is judged by its AUC;
    one with fewer by its log loss; one without rows by the mean AUC of the first kind.
    """
    negatives = rows - positives
    enough = (positives >= min_validation) & (negatives >= min_validation)
    empty = rows == 0
    values = torch.where(enough, auc, -log_loss)
    mean = auc[enough].mean() if bool(enough.any()) else -log_loss[~empty].mean()
    values = torch.where(empty, mean, values)
    return UnitScores(values, ~enough & ~empty, empty)


class Stopper:
    """Best figures and patience of U units (1, or one for each expert). Higher is better.

    A unit improves by a strictly higher figure and stops after `patience` evaluations without.
    """

    def __init__(self, num_units: int, patience: int | None) -> None:
        self.patience = patience
        self.best = torch.full((num_units,), -math.inf, dtype=torch.float64)
        self.bad = torch.zeros(num_units, dtype=torch.int64)
        self.best_epoch = torch.zeros(num_units, dtype=torch.int64)

    def update(self, values: Tensor, epoch: int) -> Tensor:
        """Take new figures (U,); returns which running units improved (U,) bool."""
        running = ~self.stopped
        better = running & (values.double() > self.best)
        self.best = torch.where(better, values.double(), self.best)
        self.best_epoch = torch.where(better, epoch, self.best_epoch)
        self.bad = torch.where(better, 0, self.bad + running.long())
        return better

    @property
    def stopped(self) -> Tensor:
        """(U,) bool."""
        if self.patience is None:
            return torch.zeros_like(self.bad, dtype=torch.bool)
        return self.bad >= self.patience

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, not copied."""
        return {"best": self.best, "bad": self.bad, "best_epoch": self.best_epoch}

    def load_tensors(self, state: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        for name, tensor in self.tensors().items():
            tensor.copy_(state[name])
