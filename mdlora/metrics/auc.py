"""Exact AUC of all rows, of each group, and averaged over groups."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdlora.metrics.checks import group_array, label_array, score_array
from mdlora.metrics.packed import MOST_GROUPS, packed_auc
from mdlora.metrics.ranking import RankedScores

__all__ = ["GroupedAUC", "auc", "grouped_auc", "mean_auc", "weighted_auc"]


class GroupedAUC(NamedTuple):
    """AUC by group: `auc` (G,) float64, NaN where a group is empty or holds one class.

    `rows` and `positives` (G,) int64 count the rows and the clicks of each group.
    """

    auc: Tensor
    rows: Tensor
    positives: Tensor


def grouped_auc(scores: Tensor, labels: Tensor, groups: Tensor, num_groups: int) -> GroupedAUC:
    """The exact AUC of every group, from one sort of all rows; ties count half.

    Args:
        scores: (N,) float32 or float64; logits and probabilities give the same AUC.
        labels: (N,) of 0 and 1.
        groups: (N,) int64 in 0..num_groups-1, such as domain ids.
        num_groups: G, the number of groups, empty ones included.

    Raises:
        DataError: NaN scores (the message says how many), labels other than 0 and 1, group ids
            out of range, or shapes and types that do not fit.
    """
    if scores.dtype == torch.float32 and num_groups <= MOST_GROUPS:
        values = score_array(scores)
        clicked = label_array(labels, values.size)
        ids = group_array(groups, values.size, num_groups)
        by_group, rows, clicks = packed_auc(values, clicked, ids, num_groups)
    else:
        by_group, rows, clicks = RankedScores(scores, labels, groups, num_groups).counts()
    return GroupedAUC(torch.from_numpy(by_group), torch.from_numpy(rows), torch.from_numpy(clicks))


def auc(scores: Tensor, labels: Tensor) -> float:
    """The exact AUC of all rows (N,); NaN where they hold one class only.

    Raises:
        DataError: as for `grouped_auc`.
    """
    everything = torch.zeros(scores.shape[:1], dtype=torch.int64)
    return float(grouped_auc(scores, labels, everything, 1).auc[0])


def weighted_auc(grouped: GroupedAUC) -> float:
    """WAUC: the sum over groups of w_g AUC_g, where w_g is g's share of the rows.

    A group without an AUC is left out and its weight is spread over the rest, in proportion to
    their rows. NaN where no group has an AUC.
    """
    known = ~grouped.auc.isnan()
    rows = grouped.rows[known].double()
    return float((grouped.auc[known] * rows).sum() / rows.sum())


def mean_auc(grouped: GroupedAUC) -> float:
    """The plain mean of the groups' AUC, leaving out groups without one; NaN where none has one."""
    return float(grouped.auc.nanmean())
