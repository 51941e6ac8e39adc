"""AUC by group from one sort of whole numbers: group, score and label in 64 bits.

Plain numbers sort several times faster than row numbers by score, and bring all else along.

Letters: N rows, G groups; a run is the rows of one group that tie.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdlora.metrics.checks import Floats, Ints

__all__ = ["MOST_GROUPS", "packed_auc"]

MOST_GROUPS = 1 << 29

_GROUP_BIT = 33  # above 32 bits of score and the label
_BLOCK = 1 << 17  # rows whose arrays stay in the cache


def packed_auc(
    scores: npt.NDArray[np.float32], clicked: npt.NDArray[np.bool_], groups: Ints, num_groups: int
) -> tuple[Floats, Ints, Ints]:
    """Exact AUC, rows and clicks of each group, as `RankedScores.counts` without row weights.

    With the rows of a group in order, its clicks have ranks, rows that tie the mean of theirs. If
    the ranks of P clicks add up to S, they win S - P (P + 1) / 2 of the P N pairs.

    Args:
        scores: (N,), none NaN.
        clicked: (N,).
        groups: (N,) in 0..num_groups - 1.
        num_groups: G, up to `MOST_GROUPS`.
    """
    keys = _sorted_keys(scores, clicked, groups)
    bounds = np.searchsorted(keys, np.arange(num_groups + 1) << _GROUP_BIT)
    ranks, clicks = _by_group(keys, bounds)
    rows = np.diff(bounds)
    # Ranks count from the first row of all: each click takes back the rows before its group.
    wins = ranks - clicks * (2 * bounds[:-1] + clicks + 1)
    pairs = 2.0 * clicks * (rows - clicks)
    auc = np.full(num_groups, np.nan)
    np.divide(wins, pairs, out=auc, where=pairs > 0)
    return auc, rows, clicks


def _sorted_keys(
    scores: npt.NDArray[np.float32], clicked: npt.NDArray[np.bool_], groups: Ints
) -> Ints:
    keys = np.empty(scores.size, np.int64)
    for start in range(0, scores.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        bits = (scores[block] + np.float32(0)).view(np.int32)  # adding makes -0 the same as 0
        bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)  # whole numbers in the order of the floats
        above = bits.astype(np.int64) + (1 << 31)
        keys[block] = (groups[block] << _GROUP_BIT) + (above << 1) + clicked[block]
    keys.sort()
    return keys


def _by_group(keys: Ints, bounds: npt.NDArray[np.intp]) -> tuple[Ints, Ints]:
    """For each group twice the sum of its clicks' ranks among all rows, and its clicks, (G,)."""
    ranks_before, clicks_before = np.zeros((2, bounds.size), np.int64)
    ranks = clicks = last_end = clicks_at_end = 0  # up to this block; up to the last run that ended
    for start in range(0, keys.size, _BLOCK):
        block = keys[start : start + _BLOCK]
        end = start + block.size
        # A run ends where the next row differs in more than its label, or there is none.
        after = keys[start + 1 : end + 1]
        ends = np.flatnonzero((after ^ block[: after.size]) > 1) + (start + 1)
        if end == keys.size:
            ends = np.append(ends, end)
        running = clicks + np.cumsum(block & 1)
        clicks = running[-1]
        if not ends.size:
            continue
        at_end = running[ends - (start + 1)]
        starts = np.concatenate(([last_end], ends[:-1]))
        of_run = np.diff(at_end, prepend=clicks_at_end)
        ranks_at_end = ranks + np.cumsum(of_run * (starts + ends + 1))
        reached = slice(*np.searchsorted(bounds, (start, end), side="right"))
        places = np.searchsorted(ends, bounds[reached])
        ranks_before[reached] = ranks_at_end[places]
        clicks_before[reached] = at_end[places]
        ranks, clicks_at_end, last_end = ranks_at_end[-1], at_end[-1], ends[-1]
    return np.diff(ranks_before), np.diff(clicks_before)
