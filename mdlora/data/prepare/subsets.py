"""Random subsets of many small sets at once, without a loop over the sets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Subsets", "random_subsets"]

Ids = npt.NDArray[np.int64]


class Subsets(NamedTuple):
    """What was drawn (M members), sorted by group and rank."""

    group: Ids
    rank: Ids


def random_subsets(sizes: Ids, counts: Ids, rng: np.random.Generator) -> Subsets:
    """For each group g, counts[g] of the ranks 0 to sizes[g] - 1; all such sets are equally likely.

    Where more than half of a group is wanted, the ranks to leave out are drawn instead. So time
    and memory go with the number of groups and of ranks drawn, not with the sizes.

    Shapes (G groups): sizes (G,), counts (G,) with 0 <= counts <= sizes.
    """
    assert ((counts >= 0) & (counts <= sizes)).all()
    width = int(sizes.max(initial=0)) + 1
    sparse = 2 * counts <= sizes
    keys = _distinct_draws(sizes, np.where(sparse, counts, sizes - counts), width, rng)
    is_member = sparse[keys // width]
    dense = np.flatnonzero(~sparse)
    everything = np.repeat(dense * width, sizes[dense]) + _count_up(sizes[dense])
    rest = np.delete(everything, np.searchsorted(everything, keys[~is_member]))
    chosen = np.sort(np.concatenate([keys[is_member], rest]))
    return Subsets(chosen // width, chosen % width)


def _distinct_draws(sizes: Ids, counts: Ids, width: int, rng: np.random.Generator) -> Ids:
    """Keys group * width + rank, sorted: counts[g] distinct ranks below sizes[g] for each group.

    Each round draws as many ranks as are still missing and drops those that the group has already:
    that is drawing one after the other without replacement, so no set is favoured. At most half of
    a group is wanted, so a draw is new with a chance of at least one half.
    """
    done: list[Ids] = [np.empty(0, dtype=np.int64)]
    unfinished = done[0]
    missing = counts
    while missing.any():
        group = np.repeat(np.arange(len(sizes)), missing)
        drawn = group * width + rng.integers(0, sizes[group])
        unfinished = np.sort(np.concatenate([unfinished, drawn]))
        unfinished = unfinished[np.diff(unfinished, prepend=-1) > 0]  # faster than np.unique
        owner = unfinished // width
        missing = counts - np.bincount(owner, minlength=len(sizes))
        full = missing[owner] == 0
        done.append(unfinished[full])
        unfinished = unfinished[~full]
        counts = np.where(missing == 0, 0, counts)
    return np.sort(np.concatenate(done))


def _count_up(sizes: Ids) -> Ids:
    """0, 1, ... size - 1 for each size in turn."""
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
