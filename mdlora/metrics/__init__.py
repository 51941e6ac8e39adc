"""Exact AUC (overall, by group, weighted), log loss and calibration, computed in float64."""

from __future__ import annotations

from mdlora.metrics.auc import GroupedAUC, auc, grouped_auc, mean_auc, weighted_auc
from mdlora.metrics.probability import calibration, grouped_calibration, grouped_log_loss, log_loss
from mdlora.metrics.ranking import RankedScores, score_order

__all__ = [
    "GroupedAUC",
    "RankedScores",
    "auc",
    "calibration",
    "grouped_auc",
    "grouped_calibration",
    "grouped_log_loss",
    "log_loss",
    "mean_auc",
    "score_order",
    "weighted_auc",
]
