from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlora.data.splits import given_split, split_by_time, split_by_user, split_users
from mdlora.errors import ConfigError, DataError


def test_by_time_by_hand():
    # Ten rows at 3:1:1 are 6, 2 and 2: in time order 1 1 2 3 3 4 | 5 6 | 7 9.
    time = np.array([9, 1, 3, 4, 2, 5, 1, 3, 7, 6])
    codes, borders = split_by_time(time)
    assert codes.dtype == np.int8
    assert codes.tolist() == [2, 0, 0, 0, 0, 1, 0, 0, 2, 1]
    assert borders == (4, 6)


def test_rows_of_one_time_go_to_the_earlier_side():
    # In order 1 2 3 4 5 5 5 5 8 9: the sixth is a 5, so all four 5s train.
    time = np.array([1, 2, 3, 4, 5, 5, 5, 5, 8, 9])
    codes, borders = split_by_time(time)
    assert codes.tolist() == [0] * 8 + [2, 2]  # the eighth is a 5 too: nothing for validation
    assert borders == (5, 5)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    time=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=60),
    ratio=st.lists(st.floats(0.1, 10), min_size=2, max_size=4),
)
def test_by_time_no_later_row_is_in_an_earlier_part(time: list[int], ratio: list[float]):
    codes, borders = split_by_time(np.array(time), ratio=ratio)
    assert len(borders) == len(ratio) - 1
    order = np.argsort(time, kind="stable")
    assert (np.diff(codes[order]) >= 0).all()
    ends = np.round(np.cumsum(ratio)[:-1] / sum(ratio) * len(time))
    for part, (border, end) in enumerate(zip(borders, ends, strict=True)):
        early = np.array(time) <= border
        np.testing.assert_array_equal(codes <= part, early)
        assert early.sum() >= end  # never less than its share: ties go to the earlier side
        assert (np.array(time) < border).sum() < max(end, 1)  # and no more ties than needed


def test_no_rows_by_time():
    assert split_by_time(np.array([], dtype=np.int64)).codes.shape == (0,)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    users=st.lists(st.integers(0, 30), min_size=1, max_size=200),
    seed=st.integers(0, 3),
    order=st.randoms(use_true_random=False),
)
def test_each_user_is_in_one_part_whatever_the_order_of_rows(users: list[int], seed: int, order):
    codes = split_by_user(np.array(users), seed=seed)
    where = {user: set(codes[np.array(users) == user].tolist()) for user in set(users)}
    assert all(len(parts) == 1 for parts in where.values())
    counts = np.bincount([min(parts) for parts in where.values()], minlength=3)
    assert (abs(counts - len(where) * np.array([0.6, 0.2, 0.2])) < 1 + 1e-6).all()
    mixed = list(range(len(users)))
    order.shuffle(mixed)
    np.testing.assert_array_equal(split_by_user(np.array(users)[mixed], seed=seed), codes[mixed])


def test_users_may_be_strings_and_the_seed_decides():
    users = np.array([f"u{i % 40:02d}" for i in range(200)])
    first = split_by_user(users, seed=1)
    np.testing.assert_array_equal(
        first, split_users(40, ratio=(3, 1, 1), seed=1)[np.arange(200) % 40]
    )
    assert (first != split_by_user(users, seed=2)).any()


def test_users_are_drawn_at_random():
    draws = [split_by_user(np.arange(50), seed=seed) == 0 for seed in range(200)]
    share = np.mean(draws, axis=0)
    assert abs(share.mean() - 0.6) < 1e-9
    assert 0.4 < share.min() < share.max() < 0.8  # six standard errors of 0.035


@pytest.mark.parametrize(
    "column",
    [
        pa.chunked_array([pa.array([0, 2, 1, 0])]),
        pa.array([0, 2, 1, 0], pa.uint8()),
        pa.chunked_array([pa.array(["train", "test"]), pa.array(["validation", "train"])]),
        pa.array(["train", "test", "validation", "train"]).dictionary_encode(),
    ],
)
def test_given_codes(column: pa.ChunkedArray):
    codes = given_split(column, "part")
    assert (codes.dtype, codes.tolist()) == (np.int8, [0, 2, 1, 0])


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([0, 1, 3]), r"rows.csv: Split column 'part' is 3 in row 2 \(counted from 0\)"),
        (pa.array([0, None, 1]), "'part' is null in row 1"),
        (pa.array(["train", "valid"]), "'part' is 'valid' in row 1 .* validation or test"),
        (pa.array([0.0, 1.0]), "holds double values"),
    ],
)
def test_wrong_given_codes(column: pa.Array, wanted: str):
    with pytest.raises(DataError, match=wanted):
        given_split(column, "part", "rows.csv: ")


def test_wrong_settings():
    with pytest.raises(ConfigError, match="numbers above 0"):
        split_by_time(np.arange(5), ratio=(1, 0))
    with pytest.raises(ConfigError, match="seed=-1"):
        split_by_user(np.arange(5), seed=-1)
