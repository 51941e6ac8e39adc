"""Towers with low-rank adapters, for scoring: no gradients, no dropout.

Shape letters: B rows, F columns of ids, V rows of the table, E embedding width, I in, O out,
K adapters, R rank, G routes (a domain each, or an adapter each), k adapters of one route.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdlora.compiled.kernel import fast_sums

__all__ = ["embed_rows", "finish_layer", "score_rows"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@fast_sums
def embed_rows(
    ids: Ints,
    starts: Ints,
    sizes: Ints,
    table: Floats,
    width: int,
    pairs: bool,
    inputs: Floats,
    logits: Floats,
) -> int:
    """Each row's vectors side by side, inputs (B, F * E), and what needs no tower, logits (B,).

    That is the sum of linear weights, the last element of the table's rows (V, E or E + 1), and
    with `pairs` the dot products of all pairs of vectors. Column f's id i, of `sizes[f]`, is row
    `starts[f] + i`.

    Returns:
        The first row with an id that its column lacks, or -1.
    """
    zero, half = np.float32(0), np.float32(0.5)
    num_fields = ids.shape[1]
    linear = table.shape[1] > width
    total = np.empty(width, np.float32)
    for row in range(ids.shape[0]):
        logit, squares, both = zero, zero, zero
        for e in range(width):
            total[e] = zero
        for f in range(num_fields):
            if ids[row, f] < 0 or ids[row, f] >= sizes[f]:
                return row
            v = starts[f] + ids[row, f]
            for e in range(width):
                inputs[row, f * width + e] = table[v, e]
            if pairs:
                for e in range(width):
                    total[e] += table[v, e]
                    squares += table[v, e] * table[v, e]
            if linear:
                logit += table[v, width]
        for e in range(width):
            both += total[e] * total[e]
        logits[row] = logit + half * (both - squares)
    return -1


@fast_sums
def _multiply(x: Floats, weight: Floats, out: Floats) -> None:
    """Set out (B, O) to x (B, I) weight (I, O), for few rows."""
    num_in, num_out = weight.shape
    whole = num_in - num_in % 4
    for row in range(x.shape[0]):
        for o in range(num_out):
            out[row, o] = np.float32(0)
        for i in range(0, whole, 4):
            a, b, c, d = x[row, i], x[row, i + 1], x[row, i + 2], x[row, i + 3]
            for o in range(num_out):
                out[row, o] += (
                    a * weight[i, o]
                    + b * weight[i + 1, o]
                    + c * weight[i + 2, o]
                    + d * weight[i + 3, o]
                )
        for i in range(whole, num_in):
            for o in range(num_out):
                out[row, o] += x[row, i] * weight[i, o]


@fast_sums
def finish_layer(
    x: Floats,
    out: Floats,
    routes: Ints,
    bias: Floats,
    experts: Ints,
    shares: Floats,
    down: Floats,
    up: Floats,
    shift: Floats,
    relu: bool,
) -> None:
    """Add the bias and the adapters' updates to out (B, O) = x W, and cut below zero for `relu`.

    Row b gets sum_j shares[g, j] (x_b A_e B_e + c_e) with g = routes[b], e = experts[g, j]; -1
    stands for no adapter. down (K, R, I) holds A transposed, up (K, R, O) holds B, shift (K, O)
    holds c, or is empty.
    """
    zero = np.float32(0)
    num_in, num_out, rank = x.shape[1], out.shape[1], down.shape[1]
    whole = rank - rank % 4
    for row in range(x.shape[0]):
        g = routes[row]
        for o in range(num_out):
            out[row, o] += bias[o]
        for j in range(experts.shape[1]):
            e, share = experts[g, j], shares[g, j]
            if e < 0 or share == zero:
                continue
            for r in range(0, whole, 4):  # four at a time: fewer passes over x and out
                a, b, c, d = zero, zero, zero, zero
                for i in range(num_in):
                    a += x[row, i] * down[e, r, i]
                    b += x[row, i] * down[e, r + 1, i]
                    c += x[row, i] * down[e, r + 2, i]
                    d += x[row, i] * down[e, r + 3, i]
                a, b, c, d = a * share, b * share, c * share, d * share
                for o in range(num_out):
                    out[row, o] += (
                        a * up[e, r, o]
                        + b * up[e, r + 1, o]
                        + c * up[e, r + 2, o]
                        + d * up[e, r + 3, o]
                    )
            for r in range(whole, rank):
                a = zero
                for i in range(num_in):
                    a += x[row, i] * down[e, r, i]
                a *= share
                for o in range(num_out):
                    out[row, o] += a * up[e, r, o]
            if shift.size:
                for o in range(num_out):
                    out[row, o] += share * shift[e, o]
        if relu:
            for o in range(num_out):  # what is not a number stays so
                out[row, o] = zero if out[row, o] <= zero else out[row, o]


@fast_sums
def score_rows(
    inputs: Floats,
    routes: Ints,
    logits: Floats,
    weights: tuple[Floats, ...],
    biases: tuple[Floats, ...],
    experts: tuple[Ints, ...],
    shares: tuple[Floats, ...],
    downs: tuple[Floats, ...],
    ups: tuple[Floats, ...],
    shifts: tuple[Floats, ...],
) -> None:
    """Add the tower's logit of each row, inputs (B, I), to logits (B,). For few rows.

    The arrays of all layers are as in `finish_layer`, weights (I, O); the last one's O is 1.
    """
    last = len(weights) - 1
    x = inputs
    for layer in range(last + 1):
        out = np.empty((x.shape[0], weights[layer].shape[1]), np.float32)
        _multiply(x, weights[layer], out)
        finish_layer(
            x, out, routes, biases[layer], experts[layer], shares[layer], downs[layer],
            ups[layer], shifts[layer], layer < last,
        )  # fmt: skip
        x = out
    for row in range(x.shape[0]):
        logits[row] += x[row, 0]
