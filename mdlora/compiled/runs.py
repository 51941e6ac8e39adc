"""Long runs of rows of one adapter: its update is made part of the layer's weight, and its gradient
is taken out of that of the weight.

Shape letters: I in, O out, K adapters, R rank, P the next multiple of 4, S adapters in use. The
matrices are those of `low_rank`; `k` is the run's adapter, and `s` its place among those in use.
"""

from __future__ import annotations

import numpy as np

from mdlora.compiled.kernel import bare_kernel
from mdlora.compiled.low_rank_blocks import Floats, dots, four_rows, gather, ones, spread
from mdlora.compiled.vectors import inlined

__all__ = ["fold_gradient", "merge_weight"]


@inlined
def _turn(up: Floats, first: int, rank: int, at: int, num: int, low: Floats, p: int) -> None:
    """low[p + b, q] = up[first + q, at + b], for four columns of which there are `num`, else 0."""
    for b in range(4):
        for q in range(low.shape[1]):
            low[p + b, q] = up[first + q, at + b] if b < num and q < rank else np.float32(0)


@bare_kernel
def merge_weight(
    weight: Floats, shift: Floats, down: Floats, up: Floats, bias: Floats, k: int, rank: int,
    scratch: Floats, merged: Floats, merged_shift: Floats,
) -> None:  # fmt: skip
    """The weight and shift of a run: merged (O, I) = weight + (A_k B_k)^T, and merged_shift (O,) =
    shift + c_k. `bias` may be empty. `scratch` (4, P).
    """
    first, end = k * rank, weight.shape[0]
    for o in range(end):
        for j in range(weight.shape[1]):
            merged[o, j] = weight[o, j]
        merged_shift[o] = shift[o] + bias[k, o] if bias.size else shift[o]
    for at in range(0, end, 4):
        _turn(up, first, rank, at, end - at, scratch, 0)
        spread(merged, four_rows(0, at, end), scratch, 0, ones(end - at), down, first, rank)


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
        block, num = four_rows(0, at, end), end - at
        dots(of_merged, block, down, first, rank, scratch, 0)
        for q in range(rank):
            for b in range(min(4, num)):
                of_up[own + q, at + b] = scratch[b, q]
        _turn(up, first, rank, at, num, scratch, 4)
        gather(of_down, own, rank, scratch, 4, ones(num), of_merged, block)
