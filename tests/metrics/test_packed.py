from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlora.metrics import RankedScores, grouped_auc, packed


@given(
    n=st.integers(1, 60),
    levels=st.integers(1, 40),
    num_groups=st.integers(1, 6),
    block=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_packed_rows_give_what_ranked_scores_give(n, levels, num_groups, block, seed):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(-levels, levels + 1, n).astype(np.float32) / 3)
    labels = torch.from_numpy(rng.integers(0, 2, n))
    groups = torch.from_numpy(rng.integers(0, num_groups, n))
    expected = RankedScores(scores, labels, groups, num_groups).counts()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "_BLOCK", block)  # runs and groups begin and end anywhere in a block
        found = grouped_auc(scores, labels, groups, num_groups)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)


def test_extreme_scores_keep_their_order():
    tiny = torch.finfo(torch.float32).smallest_normal
    rising = [-torch.inf, -3e38, -1.0, -tiny, 0.0, tiny, 1.0, 3e38, torch.inf]
    scores = torch.tensor([*rising, -0.0])
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])
    # Five clicks, five others: all 25 pairs are won but that of 0 and -0, which tie.
    assert grouped_auc(scores, labels, torch.zeros(10, dtype=torch.int64), 1).auc[0] == 24.5 / 25


def test_group_numbers_up_to_the_limit_keep_apart():
    last = packed.MOST_GROUPS - 1
    keys = packed._sorted_keys(
        np.float32([torch.inf, -torch.inf]), np.array([True, False]), np.array([last - 1, last])
    )
    assert (keys >> 33).tolist() == [last - 1, last]
