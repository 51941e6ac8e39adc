"""Sampled negatives for tables that hold clicks alone, and the two ways to split the outcome.

The recipe is that of the papers' Taobao and Amazon data: each domain has a click ratio, drawn at
random, and each user of a domain gets `int(clicks / ratio)` items of that domain that the user did
not click there. (So the ratio is clicks over negatives: 0.2 to 0.5 make click rates of 1/6 to 1/3.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from mdlora.data.prepare.subsets import random_subsets
from mdlora.data.splits import check_ratio, stratified_split
from mdlora.errors import ConfigError, DataError

__all__ = [
    "CLICK_RATIO",
    "Negatives",
    "SplitRule",
    "check_click_ratio",
    "check_split_rule",
    "distinct_rows",
    "sample_negatives",
    "split_codes",
]

SplitRule: TypeAlias = Literal["paper", "released"]
Ids: TypeAlias = npt.NDArray[np.int64]

CLICK_RATIO = (0.2, 0.5)
"""The papers' range of a domain's clicks over its negatives."""

_RATIO_LIMITS = (0.001, 1000.0)


@dataclass(frozen=True, eq=False)
class Negatives:
    """Items that users did not click (M rows, sorted by domain, user and item)."""

    domain: Ids
    user: Ids
    item: Ids

    ratios: dict[int, float]
    """The click ratio that each domain drew."""

    shortfall: dict[int, int]
    """For each domain, the negatives that the formula asks for but its items cannot give."""


def sample_negatives(
    domain: npt.ArrayLike,
    user: npt.ArrayLike,
    item: npt.ArrayLike,
    *,
    ratio: Sequence[float] = CLICK_RATIO,
    seed: int,
) -> Negatives:
    """Draw `int(clicks / ratio)` items for each user of each domain, without replacement.

    A user's candidates are the domain's items (those that anyone clicked there) without the ones
    that this user clicked there; every set of candidates of one size is equally likely. Where there
    are fewer candidates than asked for, all are taken and the shortfall is counted. A click that is
    repeated counts once. All is sparse: time and memory go with the rows in and out.

    Args:
        domain: of each click, (N,) integers.
        user: of each click, (N,) integers.
        item: of each click, (N,) integers.
        ratio: each domain's ratio is drawn uniformly from this range.
        seed: of the ratios and of the items.

    Raises:
        ConfigError: `ratio` is no range between 0.001 and 1000, or `seed` is negative.
        DataError: the clicks are not three integer columns of one length.
    """
    low, high = check_click_ratio(ratio)
    rng = np.random.default_rng(_checked_seed(seed))
    names, clicks = _compact([_integers(c) for c in (domain, user, item)])
    num_domains, num_items = len(names[0]), len(names[2])
    ratios = rng.uniform(low, high, num_domains)

    # The domain's items: sorted keys domain * num_items + item, each domain's items in one piece.
    pool = np.unique(clicks[:, 0] * num_items + clicks[:, 2])
    pool_start = np.searchsorted(pool, np.arange(num_domains + 1) * num_items)

    # Groups: one for each user of a domain; `clicks` is sorted by domain, user and item.
    first = np.flatnonzero(np.any(np.diff(clicks[:, :2], axis=0, prepend=-1) != 0, axis=1))
    group_domain, group_user = clicks[first, 0], clicks[first, 1]
    num_clicks = np.diff(first, append=len(clicks))
    free = np.diff(pool_start)[group_domain] - num_clicks
    asked = np.floor(num_clicks / ratios[group_domain]).astype(np.int64)
    taken = np.minimum(asked, free)

    # The r-th candidate of a group is the r-th of the domain's items, counted past its clicks.
    group, rank = random_subsets(free, taken, rng)
    place = np.searchsorted(pool, clicks[:, 0] * num_items + clicks[:, 2])
    place -= pool_start[clicks[:, 0]]
    own = np.repeat(np.arange(len(first)), num_clicks)
    before = place - (np.arange(len(clicks)) - first[own])  # candidates in front of each click
    width = int(np.diff(pool_start).max(initial=0)) + 1
    passed = np.searchsorted(own * width + before, group * width + rank, side="right")
    rank += passed - first[group]
    drawn = pool[pool_start[group_domain[group]] + rank] % max(num_items, 1)

    short = np.bincount(group_domain, weights=asked - taken, minlength=num_domains)
    known = names[0].tolist()
    return Negatives(
        names[0][group_domain[group]],
        names[1][group_user[group]],
        names[2][drawn],
        dict(zip(known, ratios.tolist(), strict=True)),
        dict(zip(known, short.astype(np.int64).tolist(), strict=True)),
    )


def split_codes(
    rule: SplitRule,
    domain: npt.NDArray[np.integer],
    user: npt.NDArray[np.integer],
    label: npt.NDArray[np.generic],
    *,
    ratio: Sequence[float] = (3, 1, 1),
    seed: int,
) -> npt.NDArray[np.int8]:
    """A split code for each row: 0 train, 1 validation, 2 test.

    "paper" splits all rows once, stratified by domain and label. "released" is what the papers'
    authors published: the clicks of a domain are split at random, and so are the negatives of each
    user of a domain, each time by two cuts that round the later part up: with 3:1:1, of n rows
    ceil(0.4 n) are not for training, and half of these, rounded up, are for testing. Users have few
    negatives, so the test split gets a larger share of them and has a lower click rate. (One
    negative alone, which the published code cannot split, is a test row.)

    Shapes (N rows): domain (N,), user (N,), label (N,), 1 or True for clicks -> codes (N,) int8.

    Raises:
        ConfigError: `rule` or `ratio` is not one of those allowed, or `seed` is negative.
        DataError: the columns differ in length.
    """
    check_split_rule(rule)
    parts = check_ratio(ratio)
    if len(parts) != 3:
        raise ConfigError(f"ratio={tuple(ratio)} must have 3 parts: train, validation, test.")
    if not len(domain) == len(user) == len(label):
        raise DataError(
            f"domain, user and label have {len(domain)}, {len(user)} and {len(label)} rows; "
            "they must be columns of the same rows."
        )
    if rule == "paper":
        return stratified_split(domain, label, ratio=ratio, seed=seed)
    rng = np.random.default_rng(_checked_seed(seed))
    clicked = np.asarray(label).astype(bool)
    owner = np.where(clicked, 0, np.unique(user, return_inverse=True)[1] + 1)
    group = _numbered(np.unique(domain, return_inverse=True)[1], owner)
    sizes = np.bincount(group)
    shuffled = rng.permutation(len(group))
    by_group = shuffled[np.argsort(group[shuffled], kind="stable")]
    rank = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    held_out = _rounded_up(sizes * (parts[1] + parts[2]))
    test = _rounded_up(held_out * (parts[2] / (parts[1] + parts[2])))
    codes = np.empty(len(group), dtype=np.int8)
    codes[by_group] = (rank >= np.repeat(sizes - held_out, sizes)).astype(np.int8)
    codes[by_group] += rank >= np.repeat(sizes - test, sizes)
    return codes


def distinct_rows(*columns: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Which rows stand there for the first time, (N,) from columns of N integers each."""
    order = np.lexsort(columns)  # stable: of equal rows, the earliest comes first
    repeated = np.ones(len(order), dtype=bool)
    repeated[:1] = False
    for column in columns:
        repeated[1:] &= column[order[1:]] == column[order[:-1]]
    keep = np.empty(len(order), dtype=bool)
    keep[order] = ~repeated
    return keep


def check_click_ratio(ratio: Sequence[float]) -> tuple[float, float]:
    """`ratio` as (lowest, highest).

    Raises:
        ConfigError: not two numbers between 0.001 and 1000, the lower one first.
    """
    ends = tuple(float(end) for end in ratio)
    if len(ends) != 2 or not _RATIO_LIMITS[0] <= ends[0] <= ends[1] <= _RATIO_LIMITS[1]:
        raise ConfigError(
            f"ratio={tuple(ratio)} must be two numbers from {_RATIO_LIMITS[0]} to "
            f"{_RATIO_LIMITS[1]:g}, the lower one first: a domain's clicks over its negatives lie "
            f"between them. The papers have {CLICK_RATIO}."
        )
    return ends[0], ends[1]


def check_split_rule(rule: str) -> None:
    """Refuse a rule that does not exist.

    Raises:
        ConfigError: not "paper" or "released".
    """
    if rule not in get_args(SplitRule):
        raise ConfigError(f"split_rule={rule!r} is not known: choose paper or released.")


def _compact(columns: Sequence[Ids]) -> tuple[list[Ids], Ids]:
    """Each column's sorted values, and the distinct rows as indices into them, sorted, (N, C)."""
    if len({len(column) for column in columns}) != 1:
        lengths = ", ".join(str(len(column)) for column in columns)
        raise DataError(f"domain, user and item must be columns of the same rows, have {lengths}.")
    pairs = [np.unique(column, return_inverse=True) for column in columns]
    rows = np.stack([index for _, index in pairs], axis=1).astype(np.int64)
    rows = rows[np.lexsort(rows.T[::-1])]
    new = np.any(np.diff(rows, axis=0, prepend=-1) != 0, axis=1)
    return [values for values, _ in pairs], rows[new]


def _integers(column: npt.ArrayLike) -> Ids:
    values = np.asarray(column)
    if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
        raise DataError(
            f"Clicks are columns of integers, got {values.dtype} of shape {values.shape}. "
            "Number strings first."
        )
    if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
        raise DataError(f"Clicks are columns of 64-bit signed integers, got {values.max()}.")
    return values.astype(np.int64)


def _numbered(first: Ids, second: Ids) -> Ids:
    """Equal numbers, from 0 without gaps, for equal pairs of numbers that are not negative."""
    pairs = first.astype(np.int64) * (int(second.max(initial=0)) + 1) + second
    return np.asarray(np.unique(pairs, return_inverse=True)[1], dtype=np.int64)


def _rounded_up(values: npt.NDArray[np.float64]) -> Ids:
    return np.ceil(values - 1e-9).astype(np.int64)  # 0.4 * 5 is 2, whatever the float noise


def _checked_seed(seed: int) -> int:
    if seed < 0:
        raise ConfigError(f"seed={seed} must be a whole number, at least 0.")
    return seed
