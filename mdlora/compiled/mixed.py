"""What weighs the low-rank products of rows that use all adapters, there and back.

Shape letters: B rows, K adapters, R rank.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mdlora.compiled.kernel import kernel
from mdlora.compiled.vectors import (
    LANES,
    add_product,
    fill,
    inlined,
    load_some,
    store_some,
    store_totals,
    zeros,
)

__all__ = ["mixed_dots", "scale_mixed"]

Floats = npt.NDArray[np.float32]


@kernel
def scale_mixed(low: Floats, weights: Floats, rank: int, out: Floats) -> None:
    """out[i, k, r] = low[i, k, r] * weights[i, k], with low and out (B, K R) or wider.

    Where `out` is (B, K R + K), its last columns become the weights.
    """
    num = weights.shape[1]
    for i in range(low.shape[0]):
        for k in range(out.shape[1] - num * rank):
            out[i, num * rank + k] = weights[i, k]
        for k in range(num):
            factor = fill(weights[i, k])
            for r in range(0, rank, LANES):
                j, n = k * rank + r, min(LANES, rank - r)
                store_some(add_product(zeros(), factor, load_some(low, i, j, n)), out, i, j, n)


@inlined
def _dot(a: Floats, b: Floats, i: int, first: int, rank: int) -> Any:
    """The parts of a[i] . b[i], of `rank` numbers from the first on."""
    s = zeros()
    for r in range(0, rank, LANES):
        j, n = first + r, min(LANES, rank - r)
        s = add_product(s, load_some(a, i, j, n), load_some(b, i, j, n))
    return s


@kernel
def mixed_dots(back: Floats, low: Floats, rank: int, of_weights: Floats) -> None:
    """of_weights[i, k] = back[i, k] . low[i, k], with back and low (B, K R).

    Where `back` is (B, K R + K), its last columns are added.
    """
    num = of_weights.shape[1]
    more = back.shape[1] > num * rank
    sums = np.empty((1, 4), np.float32)
    for i in range(low.shape[0]):
        for k in range(0, num, 4):  # past the end, the last again
            s = _dot(back, low, i, k * rank, rank)
            t = _dot(back, low, i, min(k + 1, num - 1) * rank, rank)
            u = _dot(back, low, i, min(k + 2, num - 1) * rank, rank)
            v = _dot(back, low, i, min(k + 3, num - 1) * rank, rank)
            store_totals(sums, 0, 0, s, t, u, v, 4)
            for b in range(min(4, num - k)):
                of_weights[i, k + b] = sums[0, b]
                if more:
                    of_weights[i, k + b] += back[i, num * rank + k + b]
