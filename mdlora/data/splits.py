"""Stratified random splits: every (domain, label) group is shared out by the same ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mdlora.errors import ConfigError

__all__ = ["check_ratio", "stratified_split"]


def stratified_split(
    domain: npt.NDArray[np.integer],
    label: npt.NDArray[np.generic],
    *,
    ratio: Sequence[float] = (3, 1, 1),
    seed: int,
) -> npt.NDArray[np.int8]:
    """A split code for each row: 0 for the first part of `ratio`, 1 for the second, and so on.

    Each group of rows with the same domain and label is shared out by largest remainder, so
    every part of every group is within one row of its exact share; equal remainders and the rows
    themselves are drawn at random from `seed`.

    Shapes (N rows): domain (N,), label (N,) -> codes (N,) int8.

    Raises:
        ConfigError: fewer than two parts, a part that is not above zero, or a negative seed.
    """
    parts = check_ratio(ratio)
    if seed < 0:
        raise ConfigError(f"seed={seed} must be a whole number, at least 0.")
    rng = np.random.default_rng(seed)
    classes = np.unique(label, return_inverse=True)[1]
    names = np.unique(domain, return_inverse=True)[1]
    keys = names * (int(classes.max(initial=0)) + 1) + classes
    group, sizes = np.unique(keys, return_inverse=True, return_counts=True)[1:]

    shuffled = rng.permutation(group.size)
    by_group = shuffled[np.argsort(group[shuffled], kind="stable")]  # groups in turn, rows shuffled
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    rank = np.arange(group.size) - starts  # 0, 1, ... inside each group

    ends = np.cumsum(_largest_remainder(sizes, parts, rng), axis=1)
    codes = np.empty(group.size, dtype=np.int8)
    codes[by_group] = (rank[:, None] >= np.repeat(ends, sizes, axis=0)[:, :-1]).sum(axis=1)
    return codes


def check_ratio(ratio: Sequence[float]) -> npt.NDArray[np.float64]:
    """`ratio` as shares that sum to 1.

    Raises:
        ConfigError: fewer than two parts, or a part that is not above zero.
    """
    parts = [float(part) for part in ratio]
    if not 2 <= len(parts) <= 100 or not all(math.isfinite(p) and p > 0 for p in parts):
        raise ConfigError(
            f"ratio={tuple(ratio)} cannot split rows: give two or more numbers above 0, "
            "for example 3, 1, 1."
        )
    return np.array(parts) / math.fsum(parts)


def _largest_remainder(
    sizes: npt.NDArray[np.integer], parts: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Rows of each part in each group, (G, S) from sizes (G,) and shares (S,)."""
    exact = sizes[:, None] * parts
    counts = np.floor(exact + 1e-9).astype(np.int64)
    remainder = np.round(exact - counts, 6)  # so that ties are ties, whatever the float noise
    order = np.lexsort((rng.random(exact.shape), -remainder), axis=1)
    place = np.argsort(order, axis=1)
    left = sizes - counts.sum(axis=1)
    return np.asarray(counts + (place < left[:, None]), dtype=np.int64)
