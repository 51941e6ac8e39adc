from __future__ import annotations

import numpy as np
import pytest

from mdlora.data.prepare.given_vectors import (
    VECTOR_RMS,
    ClickVectors,
    click_vectors,
    parse_vectors,
)
from mdlora.errors import ConfigError, DataError


def clicks(num_users: int, num_items: int, num: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([3 * rng.integers(0, num_users, num), rng.integers(0, num_items, num) + 100])


def dense(pairs: np.ndarray) -> np.ndarray:
    """The matrix of clicks, users and items in ascending order."""
    users, row = np.unique(pairs[0], return_inverse=True)
    items, column = np.unique(pairs[1], return_inverse=True)
    matrix = np.zeros((len(users), len(items)))
    np.add.at(matrix, (row, column), 1.0)
    return matrix


def rms(table: np.ndarray) -> float:
    return float(np.sqrt(np.mean(table.astype(np.float64) ** 2)))


@pytest.mark.parametrize(("num_users", "num_items"), [(60, 25), (25, 60)])
def test_against_a_dense_decomposition(num_users: int, num_items: int):
    pairs = clicks(num_users, num_items, 300)
    made = click_vectors(*pairs, width=7, seed=1)
    assert made.user.ids.tolist() == sorted(set(pairs[0].tolist()))
    assert made.item.ids.tolist() == sorted(set(pairs[1].tolist()))
    assert made.user.vectors.dtype == made.item.vectors.dtype == np.float32
    left, values, right = np.linalg.svd(dense(pairs))
    left, right = left[:, :7] * np.sqrt(values[:7]), right[:7].T * np.sqrt(values[:7])
    sign = np.sign(right[np.abs(right).argmax(axis=0), np.arange(7)])
    for got, expected in ((made.user.vectors, left * sign), (made.item.vectors, right * sign)):
        np.testing.assert_allclose(got, expected * (VECTOR_RMS / rms(expected)), atol=1e-5)
        assert rms(got) == pytest.approx(VECTOR_RMS, rel=1e-6)


def test_the_product_is_the_best_approximation_up_to_a_factor():
    # Two blocks of users who click the same items, and clicks that are repeated: rank 2. The first
    # block is 3 x 2 of ones, the second 2 x 3 of twos: singular values sqrt(6) and 2 sqrt(6).
    pairs = [(u, i) for u in (1, 2, 3) for i in (11, 12)]
    pairs += [(u, i) for u in (4, 5) for i in (13, 14, 15)] * 2
    made = click_vectors(*np.array(pairs).T, width=2, seed=1)
    product = made.user.vectors @ made.item.vectors.T
    matrix = dense(np.array(pairs).T)
    np.testing.assert_allclose(product, matrix * (product[0, 0] / matrix[0, 0]), atol=1e-6)
    # By hand: each component sits on its own block, the heavier block first.
    for table, first in ((made.user.vectors, 3), (made.item.vectors, 2)):
        np.testing.assert_allclose(table[:first, 0], 0, atol=1e-6)
        np.testing.assert_allclose(table[first:, 1], 0, atol=1e-6)
        assert (table[first:, 0] > 0.1).all()
        assert (table[:first, 1] > 0.05).all()


def test_components_without_weight_are_zero():
    # Rank 2 and width 4: two columns are zero, not noise.
    pairs = [(u, i) for u in range(6) for i in range(5)]
    pairs += [(u, i) for u in range(6, 9) for i in range(5, 8)]
    made = click_vectors(*np.array(pairs).T, width=4, seed=1)
    for table in (made.user.vectors, made.item.vectors):
        assert (np.abs(table[:, :2]).max(axis=0) > 0.05).all()
        assert not table[:, 2:].any()
        assert rms(table) == pytest.approx(VECTOR_RMS, rel=1e-6)


def test_equal_singular_values_still_give_an_orthogonal_basis():
    # Each user clicked an item of its own: all singular values are 1, any axes will do.
    one_each = np.arange(12)
    made = click_vectors(one_each, one_each, width=3, seed=1)
    np.testing.assert_allclose(made.user.vectors, made.item.vectors, atol=1e-6)
    gram = made.user.vectors.T @ made.user.vectors
    np.testing.assert_allclose(gram, np.eye(3) * gram[0, 0], atol=1e-6)


def same(first: ClickVectors, second: ClickVectors) -> bool:
    return all(
        np.array_equal(a.ids, b.ids) and np.array_equal(a.vectors, b.vectors)
        for a, b in zip(first, second, strict=True)
    )


def test_one_seed_gives_the_same_bits_and_another_the_same_vectors():
    pairs = clicks(80, 40, 500)
    first = click_vectors(*pairs, width=5, seed=1)
    assert same(first, click_vectors(*pairs, width=5, seed=1))
    assert same(first, click_vectors(*pairs[:, ::-1], width=5, seed=1))  # rows in another order
    other = click_vectors(*pairs, width=5, seed=2)
    np.testing.assert_allclose(first.item.vectors, other.item.vectors, atol=1e-5)


def test_too_few_clicks_for_the_width():
    pairs = np.array([(u, i) for u in range(9) for i in range(4)]).T
    assert click_vectors(*pairs, width=3, seed=1).user.vectors.shape == (9, 3)
    with pytest.raises(DataError, match="got 9 users and 4 items"):
        click_vectors(*pairs, width=4, seed=1)
    words = "more than 1 user and 1 item with clicks, got 1 user and 4 items"
    with pytest.raises(DataError, match=words):
        click_vectors(*pairs[:, :4], width=1, seed=1)
    with pytest.raises(ConfigError, match="at least 1 wide, got 0"):
        click_vectors(*pairs, width=0, seed=1)


def test_parse_vectors():
    assert parse_vectors("svd:64") == 64
    for text in ("svd", "svd:", "svd:0", "svd:-3", "svd:6.5", "als:64", "svd:64 ", "svd:123456"):
        with pytest.raises(ConfigError, match="Give svd:WIDTH"):
            parse_vectors(text)
