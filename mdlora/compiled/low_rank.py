"""Low-rank products of rows with their own adapters: rows of one adapter together, from the cache.

Shape letters: B rows, I in, O out, K adapters, R rank; n pairs of a row and an adapter that it
uses, S adapters that have pairs. All adapters' matrices lie one below the other: `down` (K R, I),
`up` (K R, O), `bias` (K, O).

Pairs are worked on in blocks of four of one adapter, and ranks four at a time. `low`
(n + 3 (S + 1), P), x A_k, has a row for each pair and three to spare after each adapter's, and
columns up to P, the next multiple of 4.

Rows whose adapters rise may come in parts, of which `first` is the place of the first row; -1 where
the rows come as they are, all at once.
"""

from __future__ import annotations

import numpy as np

from mdlora.compiled.kernel import bare_kernel
from mdlora.compiled.low_rank_blocks import (
    Floats,
    Four,
    Integers,
    add_up,
    axpy,
    block_weights,
    dots,
    four,
    gather,
    spread,
)
from mdlora.compiled.relu_dropout import Bytes, keep_row, keep_rows, pass_rows
from mdlora.compiled.vectors import inlined

__all__ = ["add_updates", "update_gradients"]


@inlined
def _place(rows: Integers, row: int) -> int:
    """How many of the rows, which rise, come before a row."""
    low, high = 0, rows.size
    while low < high:
        middle = (low + high) // 2
        if rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def _pairs_of(rows: Integers, first: int, num: int) -> tuple[int, int]:
    """Where the pairs of the `num` rows from `first` on begin and end."""
    if first < 0:
        return 0, rows.size
    return _place(rows, first), _place(rows, first + num)


@inlined
def _keep_block(
    z: Floats, begin: int, block: Four, shift: Floats, shifted: Floats, drawn: Bytes,
    threshold: int, scale: np.float32, first: int,
) -> None:  # fmt: skip
    """`keep_row` of those from `begin` to the end of a block, whose own shift is `shifted`."""
    b = 0
    for i in range(begin, block[3] + 1):
        if i == block[b]:
            keep_row(z, i, shifted, drawn, threshold, scale, first)
            b = min(b + 1, 3)
        else:
            keep_row(z, i, shift, drawn, threshold, scale, first)


@bare_kernel
def add_updates(
    z: Floats, x: Floats, down: Floats, up: Floats, bias: Floats, weights: Floats,
    pairs: Integers, rows: Integers, starts: Integers, used: Integers, rank: int, low: Floats,
    first: int, shifted: Floats, shift: Floats, drawn: Bytes, threshold: int, scale: np.float32,
) -> None:  # fmt: skip
    """z[i] += w (x[i] A_k B_k + c_k) for each pair of a row i and an adapter k; fills `low`.

    `bias` and `weights` (B k,) may be empty: none, and all one. `pairs`, `rows`, `starts` and
    `used` are those of `group_pairs`. With `drawn` (B O,), then `keep` of `relu_dropout`, while the
    rows are at hand: adapters rise and no row has two. `shifted` (O,) is scratch.
    """
    joined = drawn.size > 0
    begin, end = _pairs_of(rows, first, z.shape[0])
    less, done = max(first, 0), 0
    for s in range(used.size):
        k, start, stop = used[s], max(starts[s], begin), min(starts[s + 1], end)
        if joined and start < stop:
            for j in range(shift.size):
                shifted[j] = shift[j] + bias[k, j] if bias.size else shift[j]
        for at in range(start, stop, 4):
            p, num = at + 3 * s, stop - at
            i = four(rows, at, stop, less)
            w = block_weights(weights, four(pairs, at, stop, 0), num)
            dots(x, i, down, k * rank, rank, low, p)
            spread(z, i, low, p, w, up, k * rank, rank)
            if joined:
                _keep_block(z, done, i, shift, shifted, drawn, threshold, scale, less)
                done = i[3] + 1
            elif bias.size:
                for b in range(min(4, num)):
                    axpy(z, i[b], w[b], bias, k)
    if joined:
        keep_rows(z, done, z.shape[0], shift, drawn, threshold, scale, less)


@bare_kernel
def update_gradients(
    grad: Floats, x: Floats, down: Floats, up: Floats, bias: Floats, weights: Floats,
    pairs: Integers, rows: Integers, starts: Integers, used: Integers, rank: int, low: Floats,
    first: int,
    back: Floats, of_x: Floats, of_down: Floats, of_up: Floats, of_bias: Floats, of_weights: Floats,
    of_shift: Floats, drawn: Bytes, threshold: int, scale: np.float32,
) -> None:  # fmt: skip
    """The gradients of what `add_updates` added, from that of z: `grad`; parts in the same order.

    `of_x`, as x, gains its part. `of_down` (S R, I), `of_up` (S R, O) and `of_bias` (S, O), of the
    adapters in `used` alone, and `of_weights` (B k,) are overwritten. What is empty is not wanted.
    `back` (8, P) is scratch. With `drawn` (B I,), then `pass_back` of `relu_dropout` on `of_x`.
    """
    learns = of_up.size > 0
    zero = np.float32(0)
    begin, end = _pairs_of(rows, first, grad.shape[0])
    less, done = max(first, 0), 0
    for s in range(used.size):
        k, own = used[s], s * rank
        start, stop = max(starts[s], begin), min(starts[s + 1], end)
        if start == starts[s] and start < stop:
            if learns:
                of_down[own : own + rank], of_up[own : own + rank] = zero, zero
            if of_bias.size:
                of_bias[s] = zero
        for at in range(start, stop, 4):
            p, num = at + 3 * s, stop - at
            i, pair = four(rows, at, stop, less), four(pairs, at, stop, 0)
            w = block_weights(weights, pair, num)
            dots(grad, i, up, k * rank, rank, back, 0)
            if of_weights.size:
                if bias.size:
                    dots(grad, i, bias, k, 1, back, 4)
                for b in range(min(4, num)):
                    value = back[4 + b, 0] if bias.size else zero
                    for q in range(rank):
                        value += low[p + b, q] * back[b, q]
                    of_weights[pair[b]] = value
            if of_bias.size:
                add_up(of_bias, s, w, grad, i)
            if of_x.size:
                spread(of_x, i, back, 0, w, down, k * rank, rank)
            if learns:
                gather(of_down, own, rank, back, 0, w, x, i)
                gather(of_up, own, rank, low, p, w, grad, i)
            if drawn.size:
                pass_rows(of_x, done, i[3] + 1, drawn, threshold, scale, of_shift, less)
                done = i[3] + 1
    if drawn.size:
        pass_rows(of_x, done, of_x.shape[0], drawn, threshold, scale, of_shift, less)
