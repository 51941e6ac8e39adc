"""Rows sorted once by group and score, from which exact AUC follows by running sums.

Letters: N rows, G groups, R runs of rows that tie (same group, same score).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mdlora.metrics.checks import Floats, Ints, group_array, label_array, score_array

__all__ = ["RankedScores", "score_order"]

_RADIX_GROUPS = 65536  # NumPy sorts 16-bit integers in linear time


def score_order(scores: Tensor) -> Ints:
    """Row numbers (N,) by rising score. This is the only sort of scores that any metric makes."""
    order: Ints = np.argsort(score_array(scores))
    return order


class RankedScores:
    """Scores in order within each group, to be counted under any whole-number row weights.

    The AUC of a group is the chance that a click outscores a non-click, ties counting half.
    With the rows in order, each run of p clicks and n non-clicks that tie, after b non-clicks with
    lower scores, adds p (2 b + n) to 2 P N times the AUC. All of this is in integers, so
    the only rounding is the final division (exact up to about two billion rows).

    Args:
        scores: (N,) float32 or float64, higher means more likely to be clicked.
        labels: (N,) of 0 and 1.
        groups: (N,) int64 in 0..num_groups-1.
        num_groups: G.
        order: the result of `score_order(scores)`, where it is already known.

    Raises:
        DataError: shapes, types or values that `mdlora.metrics.checks` refuses.
    """

    def __init__(
        self,
        scores: Tensor,
        labels: Tensor,
        groups: Tensor,
        num_groups: int,
        *,
        order: Ints | None = None,
    ) -> None:
        values = score_array(scores)
        clicked = label_array(labels, values.size)
        group_ids = group_array(groups, values.size, num_groups)
        order = np.argsort(values) if order is None else order
        if num_groups > 1:
            key = group_ids.astype(np.uint16) if num_groups <= _RADIX_GROUPS else group_ids
            order = order[np.argsort(key[order], kind="stable")]
        self.order = order
        """Row numbers (N,) by group, then by rising score."""
        self._clicks = clicked[order].astype(np.int64)
        sizes = np.bincount(group_ids, minlength=num_groups)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        values = values[order]
        starts_run = np.empty(values.size, dtype=np.bool_)
        starts_run[:1] = True
        np.not_equal(values[1:], values[:-1], out=starts_run[1:])
        starts_run[bounds[:-1][sizes > 0]] = True
        self._runs: npt.NDArray[np.intp] = np.flatnonzero(starts_run)
        self._group_runs = np.searchsorted(self._runs, bounds)

    def counts(self, weights: Ints | None = None) -> tuple[Floats, Ints, Ints]:
        """AUC, rows and clicks of each group, where row i counts weights[i] times.

        Args:
            weights: (N,) int64, how often each row counts, in the rows' first order; None: once.

        Returns:
            auc (G,) float64, NaN where a group lacks clicks or non-clicks; rows (G,) and
            clicks (G,) int64.
        """
        if weights is None:
            rows_by_run = np.diff(self._runs, append=self._clicks.size)
            clicks_by_run = self._by_run(self._clicks)
        else:
            sorted_weights = weights[self.order]
            rows_by_run = self._by_run(sorted_weights)
            clicks_by_run = self._by_run(sorted_weights * self._clicks)
        others_by_run = rows_by_run - clicks_by_run
        others_before = np.cumsum(others_by_run) - others_by_run
        rows = self._by_group(rows_by_run)
        clicks = self._by_group(clicks_by_run)
        others = rows - clicks
        # others_before counts from the first group on, so each click takes back its group's share.
        earlier = np.cumsum(others) - others
        wins = self._by_group(clicks_by_run * (2 * others_before + others_by_run))
        wins -= 2 * earlier * clicks
        pairs = 2.0 * clicks * others
        auc = np.full(pairs.shape, np.nan)
        np.divide(wins, pairs, out=auc, where=pairs > 0)
        return auc, rows, clicks

    def _by_run(self, values: Ints) -> Ints:
        if not values.size:
            return values
        sums: Ints = np.add.reduceat(values, self._runs)
        return sums

    def _by_group(self, values: Ints) -> Ints:
        running = np.concatenate([[0], np.cumsum(values)])
        sums: Ints = np.diff(running[self._group_runs])
        return sums
