"""Rows by adapter: pairs of both, and rows of batches in their adapters' order.

Shape letters: B rows, K adapters; k adapters that a row uses, n pairs, S adapters that have pairs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdlora.compiled.kernel import kernel

__all__ = ["group_pairs", "sort_batches"]

Integers = npt.NDArray[np.int64]


@kernel
def group_pairs(
    experts: Integers, per_row: int, num_experts: int
) -> tuple[Integers, Integers, Integers, Integers, bool, int]:
    """Sort pairs by adapter.

    Args:
        experts: (B k,) the adapter of each pair, -1 for none.
        per_row: k.
        num_experts: K.

    Returns:
        pairs: (n,) places in `experts`, sorted by adapter, those without one left out.
        rows: (n,) the row of each of these.
        starts: (S + 1,) where in them each adapter's begin, and the end.
        used: (S,) the adapters, rising.
        rising: whether the adapters rise from row to row.
        wrong: how many of `experts` are K or more.
    """
    counts = np.zeros(num_experts + 1, np.int64)
    wrong, last, rising = 0, 0, True
    for expert in experts:
        if expert >= num_experts:
            wrong += 1
        elif expert >= 0:
            counts[expert + 1] += 1
            rising &= expert >= last
            last = expert
    num_used = 0
    for k in range(num_experts):
        num_used += counts[k + 1] > 0
    starts, used = np.empty(num_used + 1, np.int64), np.empty(num_used, np.int64)
    s, first = 0, 0
    for k in range(num_experts):
        count = counts[k + 1]
        if count > 0:
            starts[s], used[s] = first, k
            s += 1
        counts[k] = first  # from here on, where the next pair goes
        first += count
    starts[s] = first
    pairs, rows = np.empty(first, np.int64), np.empty(first, np.int64)
    for i in range(experts.size):
        expert = experts[i]
        if 0 <= expert < num_experts:
            pairs[counts[expert]], rows[counts[expert]] = i, i // per_row
            counts[expert] += 1
    return pairs, rows, starts, used, rising, wrong


@kernel
def sort_batches(keys: Integers, starts: Integers, span: int) -> Integers:
    """Places (N,) that sort the rows of each batch by their keys, at least -1 and below span - 1.

    Rows of one key stay in their order. `starts` are where the batches begin, from 0 on, and the
    end. A key below -1 counts as that.
    """
    places = np.empty(keys.size, np.int64)
    counts = np.empty(span + 1, np.int64)
    for b in range(starts.size - 1):
        counts[:] = 0
        for i in range(starts[b], starts[b + 1]):
            counts[max(keys[i], -1) + 2] += 1
        for k in range(1, span):
            counts[k] += counts[k - 1]
        for i in range(starts[b], starts[b + 1]):
            key = max(keys[i], -1)
            places[starts[b] + counts[key + 1]] = i
            counts[key + 1] += 1
    return places
