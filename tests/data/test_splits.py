from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdlora.data import stratified_split
from mdlora.errors import ConfigError


def test_shares_by_hand():
    # 10 rows at 3:1:1 are 6, 2, 2 exactly; 5 rows are 3, 1, 1.
    domain = np.array([7] * 15 + [9] * 5)
    label = np.array([0] * 10 + [1] * 5 + [0] * 5)
    codes = stratified_split(domain, label, seed=3)
    assert codes.dtype == np.int8
    assert np.bincount(codes[:10]).tolist() == [6, 2, 2]
    assert np.bincount(codes[10:15]).tolist() == [3, 1, 1]
    assert np.bincount(codes[15:]).tolist() == [3, 1, 1]


@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=120),
    ratio=st.lists(st.floats(0.1, 10), min_size=2, max_size=4),
    seed=st.integers(0, 5),
)
def test_every_group_is_within_one_row_of_its_share(rows, ratio, seed):
    domain = np.array([d for d, _ in rows], dtype=np.int64)
    label = np.array([y for _, y in rows], dtype=bool)
    codes = stratified_split(domain, label, ratio=ratio, seed=seed)
    assert codes.shape == (len(rows),)
    for group in set(rows):
        own = codes[(domain == group[0]) & (label == group[1])]
        counts = np.bincount(own, minlength=len(ratio))
        assert len(counts) == len(ratio)
        assert (abs(counts - len(own) * np.array(ratio) / sum(ratio)) < 1 + 1e-6).all()


def test_the_seed_decides():
    domain, label = np.repeat(np.arange(4), 50), np.tile([0, 1], 100)
    first = stratified_split(domain, label, seed=1)
    np.testing.assert_array_equal(first, stratified_split(domain, label, seed=1))
    assert (first != stratified_split(domain, label, seed=2)).any()


def test_rows_are_drawn_at_random():
    # In each of 100 places, about 60 % of 200 seeds say "train".
    draws = [stratified_split(np.zeros(100), np.zeros(100), seed=s) == 0 for s in range(200)]
    share = np.mean(draws, axis=0)
    assert abs(share.mean() - 0.6) < 1e-9
    assert 0.4 < share.min() < share.max() < 0.8  # six standard errors of 0.035


@pytest.mark.parametrize("ratio", [(1,), (3, 1, 0), (3, -1, 1), (1, float("nan"))])
def test_bad_ratio(ratio):
    with pytest.raises(ConfigError, match="numbers above 0"):
        stratified_split(np.zeros(5), np.zeros(5), ratio=ratio, seed=1)


def test_bad_seed():
    with pytest.raises(ConfigError, match="seed=-1"):
        stratified_split(np.zeros(5), np.zeros(5), seed=-1)
