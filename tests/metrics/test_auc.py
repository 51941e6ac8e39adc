from __future__ import annotations

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mdlora.errors import DataError
from mdlora.metrics import (
    GroupedAUC,
    RankedScores,
    auc,
    grouped_auc,
    mean_auc,
    score_order,
    weighted_auc,
)


def by_scikit(scores, labels, groups, num_groups):
    expected = np.full(num_groups, np.nan)
    for g in range(num_groups):
        rows = groups == g
        if len(np.unique(labels[rows])) == 2:
            expected[g] = roc_auc_score(labels[rows], scores[rows])
    return expected


def test_auc_counts_ties_half():
    # Clicks 0.4 and 0.8 against non-clicks 0.1, 0.4, 0.9: wins 1 + 1/2 + 0 + 1 + 1 + 0 of 6 pairs.
    scores = torch.tensor([0.1, 0.4, 0.4, 0.8, 0.9])
    assert auc(scores, torch.tensor([0, 1, 0, 1, 0])) == 3.5 / 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_groups", [1, 7, 70_000])
def test_grouped_auc_equals_scikit_learn(dtype, num_groups):
    rng = np.random.default_rng(3)
    n = 3000
    scores = torch.from_numpy(rng.integers(0, 60, n) / 7 - 3).to(dtype)  # many ties
    groups = rng.integers(0, min(num_groups, 40), n)
    groups[groups == 2] = num_groups - 1  # group 2 may be empty
    labels = rng.integers(0, 2, n)
    labels[groups == 0] = 1 if num_groups > 1 else labels[groups == 0]
    labels[groups == 1] = 0
    found = grouped_auc(scores, torch.from_numpy(labels), torch.from_numpy(groups), num_groups)
    expected = by_scikit(scores.numpy(), labels, groups, num_groups)
    np.testing.assert_allclose(found.auc.numpy(), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.rows, np.bincount(groups, minlength=num_groups))
    np.testing.assert_array_equal(found.positives, np.bincount(groups, labels, num_groups))


def test_tiny_and_one_class_domains_have_no_auc():
    scores = torch.tensor([0.3, 0.9, 0.2, 0.7, 0.1])
    labels = torch.tensor([1, 1, 0, 1, 0])
    found = grouped_auc(scores, labels, torch.tensor([0, 1, 1, 4, 4]), 5)
    assert found.auc[[1, 4]].tolist() == [1.0, 1.0]
    assert found.auc[[0, 2, 3]].isnan().all()
    assert found.rows.tolist() == [1, 2, 0, 0, 2]
    assert found.positives.tolist() == [1, 1, 0, 0, 1]


def test_equal_scores_of_two_groups_do_not_tie_with_each_other():
    scores = torch.full((4,), 0.5)
    found = grouped_auc(scores, torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1]), 2)
    assert found.auc.tolist() == [0.5, 0.5]


def test_minus_zero_ties_with_zero_and_infinities_are_ordered():
    assert auc(torch.tensor([0.0, -0.0]), torch.tensor([0, 1])) == 0.5
    assert auc(torch.tensor([-torch.inf, 3.0, torch.inf]), torch.tensor([0, 0, 1])) == 1.0


def test_no_rows_give_no_auc():
    nothing = torch.empty(0)
    found = grouped_auc(nothing, nothing, nothing.long(), 2)
    assert found.auc.isnan().all()
    assert found.rows.tolist() == [0, 0]
    assert math.isnan(weighted_auc(found))
    assert math.isnan(mean_auc(found))


def test_weighted_auc_spreads_the_weight_of_domains_without_auc():
    grouped = GroupedAUC(
        torch.tensor([0.6, math.nan, 0.8], dtype=torch.float64),
        torch.tensor([100, 700, 300]),
        torch.tensor([10, 0, 10]),
    )
    # 100/400 * 0.6 + 300/400 * 0.8 = 0.15 + 0.6
    assert weighted_auc(grouped) == pytest.approx(0.75, abs=1e-15)
    assert mean_auc(grouped) == pytest.approx(0.7, abs=1e-15)


def test_row_weights_equal_repeated_rows():
    rng = np.random.default_rng(5)
    scores, labels = rng.integers(0, 9, 80) / 4, rng.integers(0, 2, 80)
    groups, times = rng.integers(0, 3, 80), rng.integers(0, 4, 80)
    ranked = RankedScores(
        torch.from_numpy(scores), torch.from_numpy(labels), torch.from_numpy(groups), 3
    )
    found, rows, clicks = ranked.counts(times)
    again = [np.repeat(a, times) for a in (scores, labels, groups)]
    np.testing.assert_allclose(found, by_scikit(*again, 3), atol=1e-12)
    np.testing.assert_array_equal(rows, np.bincount(again[2], minlength=3))
    np.testing.assert_array_equal(clicks, np.bincount(again[2], again[1], 3))


def test_a_known_order_gives_the_same_auc():
    scores, labels = torch.tensor([3.0, 1.0, 2.0, 0.0]), torch.tensor([1, 0, 0, 1])
    groups = torch.tensor([0, 0, 1, 1])
    ranked = RankedScores(scores, labels, groups, 2, order=score_order(scores))
    assert ranked.counts()[0].tolist() == [1.0, 0.0]


@given(
    data=st.data(),
    n=st.integers(2, 40),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_auc_ignores_row_order_and_monotone_transforms(data, n, seed):
    rng = np.random.default_rng(seed)
    levels = data.draw(arrays.arrays(np.int64, n, elements=st.integers(-8, 8)))
    scores = torch.from_numpy(levels).double()
    labels = torch.from_numpy(rng.integers(0, 2, n))
    groups = torch.from_numpy(rng.integers(0, 3, n))
    first = grouped_auc(scores, labels, groups, 3)
    shuffled = torch.from_numpy(rng.permutation(n))
    moved = grouped_auc((scores[shuffled] / 3).exp() - 5, labels[shuffled], groups[shuffled], 3)
    for a, b in zip(first, moved, strict=True):
        assert torch.equal(a.nan_to_num(-1), b.nan_to_num(-1))
    mirrored = grouped_auc(-scores, labels, groups, 3)
    torch.testing.assert_close(first.auc + mirrored.auc, first.auc * 0 + 1, equal_nan=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": torch.tensor([0.1, math.nan, math.nan])}, "2 of 3 scores are NaN"),
        ({"scores": torch.zeros(3, 1)}, r"\(3, 1\)"),
        ({"scores": torch.zeros(3, dtype=torch.bfloat16)}, "bfloat16"),
        ({"labels": torch.tensor([0, 1])}, r"shape \(2,\) for 3 scores"),
        ({"labels": torch.tensor([0.0, 0.5, 1.0])}, "row 1 holds 0.5"),
        ({"groups": torch.tensor([0, 1, 2])}, r"0\.\.1, got 0\.\.2"),
        ({"groups": torch.tensor([0, -1, 1])}, r"got -1\.\.1"),
        ({"groups": torch.tensor([0, 1, 1], dtype=torch.int32)}, "int32"),
        ({"num_groups": 0}, "at least 1"),
    ],
)
def test_wrong_inputs_are_refused(change, message):
    given_inputs = {
        "scores": torch.tensor([0.1, 0.2, 0.3]),
        "labels": torch.tensor([0, 1, 0]),
        "groups": torch.tensor([0, 1, 1]),
        "num_groups": 2,
    }
    with pytest.raises(DataError, match=message):
        grouped_auc(**given_inputs | change)
