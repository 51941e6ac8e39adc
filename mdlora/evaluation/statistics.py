"""Intervals and tests over seeds: small, exact, and honest about one seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mdlora.errors import DataError

__all__ = ["Interval", "MeanInterval", "finite", "holm", "mean_interval", "paired_test"]


class Interval(NamedTuple):
    """Two ends of an interval, low <= high."""

    low: float
    high: float


class MeanInterval(NamedTuple):
    """A mean and its interval; `interval` is None where one value says nothing of the spread."""

    mean: float
    interval: Interval | None
    num: int

    @property
    def half_width(self) -> float | None:
        """Half the interval's length: the x of "mean ± x"."""
        return None if self.interval is None else (self.interval.high - self.interval.low) / 2


def finite(value: object) -> float | None:
    """The value as a float, or None where it is NaN or infinite (JSON has neither)."""
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None


def _as_array(values: Sequence[float], name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not array.size or not np.isfinite(array).all():
        raise DataError(f"{name} must be one or more finite numbers, got {list(values)}.")
    return array


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> MeanInterval:
    """The mean and its Student t interval, mean ± t sd / sqrt(n) with n - 1 degrees of freedom.

    One value has no interval.

    Raises:
        DataError: no values, values that are not finite, or a confidence outside (0, 1).
    """
    from scipy import stats

    if not 0 < confidence < 1:
        raise DataError(f"confidence must lie between 0 and 1, got {confidence}: 0.95 is usual.")
    array = _as_array(values, "values")
    mean = float(array.mean())
    if array.size == 1:
        return MeanInterval(mean, None, 1)
    reach = float(stats.t.ppf((1 + confidence) / 2, array.size - 1))
    half = reach * float(array.std(ddof=1)) / math.sqrt(array.size)
    return MeanInterval(mean, Interval(mean - half, mean + half), int(array.size))


def paired_test(differences: Sequence[float]) -> float | None:
    """The two-sided p of a paired t-test, given the differences of the pairs.

    None for one pair, which proves nothing. Where all differences are the same number, t is
    0/0 or infinite: p is then 1.0 if that number is zero, and 0.0 if it is not.

    Raises:
        DataError: no differences, or ones that are not finite.
    """
    from scipy import stats

    array = _as_array(differences, "differences")
    if array.size == 1:
        return None
    if np.all(array == array[0]):
        return 1.0 if array[0] == 0 else 0.0
    t = float(array.mean()) / (float(array.std(ddof=1)) / math.sqrt(array.size))
    return float(2 * stats.t.sf(abs(t), array.size - 1))


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down correction for several tests, in the order given.

    The k-th smallest of m values is multiplied by m - k + 1, never falls below the one before it,
    and never exceeds 1.

    Raises:
        DataError: a value outside [0, 1].
    """
    if not all(0 <= p <= 1 for p in pvalues):
        raise DataError(f"p values must lie between 0 and 1, got {list(pvalues)}.")
    corrected = [0.0] * len(pvalues)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(pvalues)), key=pvalues.__getitem__)):
        largest = max(largest, min(1.0, (len(pvalues) - rank) * pvalues[i]))
        corrected[i] = largest
    return corrected
