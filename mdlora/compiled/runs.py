"""Long runs of rows of one adapter: its update is made part of the layer's weight, and its gradient
is taken out of that of the weight.

Shape letters: I in, O out, K adapters, R rank, P the next multiple of 4, S adapters in use. The
matrices are those of `low_rank`; `k` is the run's adapter, and `s` its place among those in use.
"""

from __future__ import annotations

import numpy as np

from mdlora.compiled.kernel import bare_kernel
from mdlora.compiled.low_rank_blocks import (
    Factors,
    Floats,
    Four,
    add_rows,
    dots,
    ranks,
)
from mdlora.compiled.vectors import inlined

__all__ = ["fold_gradient", "merge_weight"]


@inlined
def _nothing() -> Factors:
    """Factors of what stands in a block again, for want of more."""
    zero = np.float32(0)
    return zero, zero, zero, zero


@inlined
def _next_four(at: int, end: int) -> Four:
    """Four numbers from `at` on; where there are fewer before `end`, the last again."""
    last = end - 1
    return at, min(at + 1, last), min(at + 2, last), min(at + 3, last)


@inlined
def _of_column(m: Floats, first: int, q: int, rank: int, o: int) -> Factors:
    """Four numbers of column `o` of an adapter's matrix, from rank q on; zero for what is not."""
    zero, at = np.float32(0), first + q
    return (
        m[at, o],
        m[at + 1, o] if q + 1 < rank else zero,
        m[at + 2, o] if q + 2 < rank else zero,
        m[at + 3, o] if q + 3 < rank else zero,
    )


@inlined
def _of_row(m: Floats, row: int, o: int, end: int) -> Factors:
    """Four numbers of a row of an adapter's matrix, from column `o` on; zero for what is not."""
    zero = np.float32(0)
    return (
        m[row, o],
        m[row, o + 1] if o + 1 < end else zero,
        m[row, o + 2] if o + 2 < end else zero,
        m[row, o + 3] if o + 3 < end else zero,
    )


@bare_kernel
def merge_weight(
    weight: Floats, shift: Floats, down: Floats, up: Floats, bias: Floats, k: int, rank: int,
    merged: Floats, merged_shift: Floats,
) -> None:  # fmt: skip
    """The weight and shift of a run: merged (O, I) = weight + (A_k B_k)^T, and merged_shift (O,) =
    shift + c_k. `bias` may be empty.
    """
    first, end = k * rank, weight.shape[0]
    for o in range(end):
        for j in range(weight.shape[1]):
            merged[o, j] = weight[o, j]
        merged_shift[o] = shift[o] + bias[k, o] if bias.size else shift[o]
    for at in range(0, end, 4):
        block = _next_four(at, end)
        n, none = end - at, _nothing()
        for q in range(0, rank, 4):
            c = _of_column(up, first, q, rank, block[0])
            d = _of_column(up, first, q, rank, block[1]) if n > 1 else none
            e = _of_column(up, first, q, rank, block[2]) if n > 2 else none
            f = _of_column(up, first, q, rank, block[3]) if n > 3 else none
            add_rows(merged, block, c, d, e, f, down, ranks(first, q, rank))


@bare_kernel
def fold_gradient(
    of_merged: Floats, down: Floats, up: Floats, k: int, s: int, rank: int, scratch: Floats,
    of_weight: Floats, of_down: Floats, of_up: Floats,
) -> None:  # fmt: skip
    """From the gradient of a run's merged weight (O, I): `of_weight` gains it; those of A_k and
    B_k, of_down (S R, I) and of_up (S R, O), are overwritten, or not wanted where empty.
    `scratch` (8, P).
    """
    first, own, end = k * rank, s * rank, of_merged.shape[0]
    for o in range(end):
        for j in range(of_merged.shape[1]):
            of_weight[o, j] += of_merged[o, j]
    if not of_up.size:
        return
    of_down[own : own + rank] = np.float32(0)
    for at in range(0, end, 4):
        block = _next_four(at, end)
        dots(of_merged, block, down, first, rank, scratch, 0)
        for q in range(rank):
            for b in range(min(4, end - at)):
                of_up[own + q, at + b] = scratch[b, q]
        for q in range(0, rank, 4):
            r = ranks(first, q, rank)
            c, d = _of_row(up, r[0], at, end), _of_row(up, r[1], at, end)
            e, f = _of_row(up, r[2], at, end), _of_row(up, r[3], at, end)
            none = _nothing()
            d, e = d if q + 1 < rank else none, e if q + 2 < rank else none
            f = f if q + 3 < rank else none
            add_rows(of_down, ranks(own, q, rank), c, d, e, f, of_merged, block)
