"""Vectors of users and items made from clicks, to be given to models that do not train them."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mdlora.config.checks import counted
from mdlora.errors import ConfigError, DataError

__all__ = ["VECTOR_RMS", "ClickVectors", "VectorTable", "click_vectors", "parse_vectors"]

VECTOR_RMS = 0.1
"""The root mean square of a table's numbers: near that of trained embeddings, so that the products
of fields which many backbones take stay about 1 (at width 100, vectors have a length near 1)."""

_NO_WEIGHT = 1e-6  # singular values below this share of the largest are float noise


class VectorTable(NamedTuple):
    """One vector for each id that has clicks (K ids, W wide)."""

    ids: npt.NDArray[np.int64]
    """(K,), ascending."""
    vectors: npt.NDArray[np.float32]
    """(K, W), row i for ids[i]."""


class ClickVectors(NamedTuple):
    """The vectors of both sides; `user @ item` approximates the clicks up to one factor."""

    user: VectorTable
    item: VectorTable


def click_vectors(
    user: npt.NDArray[np.integer], item: npt.NDArray[np.integer], *, width: int, seed: int
) -> ClickVectors:
    """Vectors by truncated singular value decomposition of the matrix of clicks.

    The matrix C counts the clicks of each user (rows) on each item (columns); C is about
    U diag(s) V^T with its `width` largest singular values s, largest first. Users get the rows of
    U diag(sqrt(s)), items those of V diag(sqrt(s)); then each of the two tables is multiplied by
    one number that makes its root mean square `VECTOR_RMS`. So lengths still tell busy users and
    popular items from others. Of each component's two signs, the one is taken that makes its
    largest item number positive. Components without weight (C has a lower rank) are zero.

    The seed gives the start of the iteration (ARPACK); it does not matter to the result but for
    rounding, and for the choice of axes where singular values are equal.

    Shapes (N clicks): user (N,), item (N,) integers.

    Raises:
        ConfigError: `width` is below 1.
        DataError: there are not more users and items than `width`.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import svds

    if width < 1:
        raise ConfigError(f"Vectors are at least 1 wide, got {width}.")
    users, row = np.unique(user, return_inverse=True)
    items, column = np.unique(item, return_inverse=True)
    smaller = min(len(users), len(items))
    if smaller <= width:
        raise DataError(
            f"Vectors {width} wide need more than {counted(width, 'user')} and "
            f"{counted(width, 'item')} with clicks, got {counted(len(users), 'user')} and "
            f"{counted(len(items), 'item')}. "
            "Choose narrower vectors or make them from more clicks."
        )
    ones = np.ones(len(row), dtype=np.float64)
    clicks = csr_array((ones, (row, column)), shape=(len(users), len(items)))
    start = np.random.default_rng(seed).standard_normal(smaller)
    left, values, right = svds(clicks, k=width, v0=start)
    order = np.argsort(-values, kind="stable")
    values = np.where(values < _NO_WEIGHT * values.max(), 0.0, values)[order]
    left, right = left[:, order], right[order].T
    largest = right[np.abs(right).argmax(axis=0), np.arange(width)]
    weights = np.sqrt(values) * np.where(largest < 0, -1.0, 1.0)
    left *= weights
    right *= weights
    return ClickVectors(
        VectorTable(users.astype(np.int64), _scaled(left)),
        VectorTable(items.astype(np.int64), _scaled(right)),
    )


def parse_vectors(text: str) -> int:
    """The width in "svd:WIDTH".

    Raises:
        ConfigError: the text is something else.
    """
    found = re.fullmatch(r"svd:([1-9]\d{0,4})", text)
    if found is None:
        raise ConfigError(f"vectors={text!r} is not known. Give svd:WIDTH, for example svd:64.")
    return int(found[1])


def _scaled(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The table, which is scaled in place, as float32."""
    table *= VECTOR_RMS / np.sqrt(np.mean(np.square(table)))
    return np.ascontiguousarray(table, dtype=np.float32)
