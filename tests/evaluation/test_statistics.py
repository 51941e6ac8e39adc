from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mdlora.errors import DataError
from mdlora.evaluation import holm, mean_interval, paired_test


def test_t_interval_by_hand():
    # 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.302653 (printed tables), half 4.302653 / sqrt(3).
    found = mean_interval([1, 2, 3])
    assert found.mean == 2
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert found.interval.low == pytest.approx(2 - 2.484138, abs=1e-5)
    assert found.num == 3
    narrower = mean_interval([1, 2, 3], confidence=0.9)
    assert narrower.half_width == pytest.approx(2.919986 / math.sqrt(3), abs=1e-6)


def test_one_value_has_no_interval():
    assert mean_interval([0.7]) == (0.7, None, 1)
    assert mean_interval([0.7]).half_width is None


def test_paired_test_equals_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.8, 0.01, (2, 6))
    assert paired_test(list(a - b)) == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-12)
    # By hand: 1, 2, 3 have t = 2 sqrt(3) with 2 degrees of freedom: p = 1 - t / sqrt(t^2 + 2).
    assert paired_test([1, 2, 3]) == pytest.approx(1 - math.sqrt(12 / 14), rel=1e-12)
    assert paired_test([-1, -2, -3]) == pytest.approx(1 - math.sqrt(12 / 14), rel=1e-12)


def test_paired_test_without_spread():
    assert paired_test([0.0, 0.0, 0.0]) == 1.0
    assert paired_test([0.01, 0.01]) == 0.0
    assert paired_test([0.01]) is None


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04 -> never falls.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_wrong_values_are_refused():
    with pytest.raises(DataError, match="one or more finite"):
        mean_interval([])
    with pytest.raises(DataError, match="one or more finite"):
        paired_test([0.1, math.nan])
    with pytest.raises(DataError, match="confidence"):
        mean_interval([1.0, 2.0], confidence=95)
    with pytest.raises(DataError, match="between 0 and 1"):
        holm([0.1, 1.5])
