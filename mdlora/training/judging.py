"""What validation says of the present weights: figures of all rows, and of each expert."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mdlora.data import Rows, Split
from mdlora.errors import DataError, RunError
from mdlora.evaluation import score_rows
from mdlora.metrics import grouped_auc, grouped_log_loss, log_loss, mean_auc, weighted_auc
from mdlora.model import CTRModel
from mdlora.training.expert_rows import own_expert
from mdlora.training.stopping import UnitScores, unit_scores

__all__ = ["Judge", "check_validation"]

ByDomain = tuple[Tensor, Tensor, Tensor, Tensor]
"""AUC, log loss, rows and clicks of each known domain, (D,) each."""


def check_validation(validation: Split, source: str) -> None:
    """Refuse validation rows that cannot decide anything.

    Raises:
        DataError: no domain holds both classes, so there is no WAUC.
    """
    rows = validation.domain.bincount()
    clicks = validation.domain.bincount(validation.label.double())
    if not bool(((clicks > 0) & (clicks < rows)).any()):
        raise DataError(
            f"{source}: no domain's validation rows hold both clicks and non-clicks, so no WAUC "
            "can choose the best weights. Give validation more rows, or rows of both classes."
        )


@dataclass
class Judge:
    """Scores validation rows for a phase.

    Args:
        model: whose weights are judged.
        validation: the rows that decide.
        batch_size: rows scored at once.
        min_validation: rows of either class that a domain's AUC needs to decide.
        per_domain: experts of a domain that are scored alone, in turn; None: all rows at once,
            as the route says.
        clusters: a field and the cluster of each of its ids, where rows belong to the expert of
            their cluster.
        where: what errors call the phase.
    """

    model: CTRModel
    validation: Split
    batch_size: int
    min_validation: int
    per_domain: int | None
    clusters: tuple[int, Tensor] | None
    where: str

    def figures(self) -> list[tuple[dict[str, Any], ByDomain]]:
        """One entry, or one for each of a domain's experts: figures, and those by known domain."""
        return [self._score(which) for which in range(self.per_domain or 1)]

    def whole(self, figures: list[tuple[dict[str, Any], ByDomain]]) -> dict[str, Any]:
        """The figures of all validation rows, as the route says; `figures` are the present ones."""
        return figures[0][0] if len(figures) == 1 else self._score(None)[0]

    def units(self, figures: list[tuple[dict[str, Any], ByDomain]]) -> UnitScores:
        """What decides for each expert."""
        parts = [unit_scores(*known, self.min_validation) for _, known in figures]
        return UnitScores(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def names(self, marks: Tensor) -> list[str]:
        """Names of the domains with a marked expert; marks (K,)."""
        names = self.model.schema.domain_names
        marked = marks.view(-1, len(names)).any(0).tolist()
        return [name for name, mark in zip(names, marked, strict=True) if mark]

    def _score(self, which: int | None) -> tuple[dict[str, Any], ByDomain]:
        rows: Rows = self.validation
        names = self.model.schema.domain_names
        expert = None
        if which is not None and self.per_domain is not None and self.per_domain > 1:
            if self.clusters is not None:
                field, cluster = self.clusters
                mine = cluster[rows.categories[:, field]] == which
                rows = rows.pick(mine.nonzero().squeeze(1))
            expert = own_expert(rows.domain, which, len(names))
        logits = score_rows(self.model, rows, batch_size=self.batch_size, expert=expert)
        if not bool(torch.isfinite(logits).all()):
            raise RunError(
                f"Training diverged in {self.where}: validation logits are not finite. Lower the "
                "learning rate."
            )
        domain, label = rows.domain, rows.label
        assert label is not None
        grouped = grouped_auc(logits, label, domain, len(names) + 1)
        losses = grouped_log_loss(logits, label, domain, len(names) + 1)
        auc = {
            name: None if math.isnan(value) else value
            for name, value in zip(names, grouped.auc[1:].tolist(), strict=True)
        }
        figures = {
            "wauc": weighted_auc(grouped),
            "mean_auc": mean_auc(grouped),
            "log_loss": log_loss(logits, label),
            "auc": auc,
        }
        return figures, (grouped.auc[1:], losses[1:], grouped.rows[1:], grouped.positives[1:])
