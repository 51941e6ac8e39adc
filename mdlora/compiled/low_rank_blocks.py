"""Parts of kernels for low-rank products: four rows of one adapter at a time, from the cache.

Rows are worked on in blocks of four of one adapter, and ranks four at a time. What a block has too
few of is the last one again, with zero for its factor: so there is one code for all sizes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mdlora.compiled.vectors import (
    LANES,
    add_product,
    fill,
    inlined,
    load,
    load_some,
    store,
    store_some,
    store_totals,
    zeros,
)

__all__ = [
    "Factors",
    "Floats",
    "Four",
    "Integers",
    "add_rows",
    "add_up",
    "axpy",
    "block_weights",
    "dots",
    "four",
    "four_rows",
    "gather",
    "ones",
    "spread",
]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Four = tuple[int, int, int, int]
Factors = tuple[Any, Any, Any, Any]


@inlined
def four_rows(first: int, q: int, num: int) -> Four:
    """Four of the `num` rows from `first` on, from the q-th; for want of more, the last again."""
    last = first + num - 1
    at = first + q
    return at, min(at + 1, last), min(at + 2, last), min(at + 3, last)


@inlined
def _add_products(s: Any, x: Any, b: Any) -> Any:
    """s[t] + x b[t], of four vectors."""
    return (
        add_product(s[0], x, b[0]),
        add_product(s[1], x, b[1]),
        add_product(s[2], x, b[2]),
        add_product(s[3], x, b[3]),
    )


@inlined
def dots(a: Floats, i: Four, m: Floats, first: int, rank: int, out: Floats, p: int) -> None:
    """out[p + b, q] = a[i[b]] . m[first + q], zero for q from `rank` on."""
    width = a.shape[1]
    n = width % LANES
    wide = width - n
    for q in range(0, rank, 4):
        r = four_rows(first, q, rank)
        s = zeros(), zeros(), zeros(), zeros()
        t, u, v = s, s, s
        for j in range(0, wide, LANES):
            b = load(m, r[0], j), load(m, r[1], j), load(m, r[2], j), load(m, r[3], j)
            s, t = _add_products(s, load(a, i[0], j), b), _add_products(t, load(a, i[1], j), b)
            u, v = _add_products(u, load(a, i[2], j), b), _add_products(v, load(a, i[3], j), b)
        if n > 0:
            b = (
                load_some(m, r[0], wide, n),
                load_some(m, r[1], wide, n),
                load_some(m, r[2], wide, n),
                load_some(m, r[3], wide, n),
            )
            s = _add_products(s, load_some(a, i[0], wide, n), b)
            t = _add_products(t, load_some(a, i[1], wide, n), b)
            u = _add_products(u, load_some(a, i[2], wide, n), b)
            v = _add_products(v, load_some(a, i[3], wide, n), b)
        num = rank - q
        store_totals(out, p, q, s[0], s[1], s[2], s[3], num)
        store_totals(out, p + 1, q, t[0], t[1], t[2], t[3], num)
        store_totals(out, p + 2, q, u[0], u[1], u[2], u[3], num)
        store_totals(out, p + 3, q, v[0], v[1], v[2], v[3], num)


@inlined
def _sum(x: Any, c: Factors, v0: Any, v1: Any, v2: Any, v3: Any) -> Any:
    x = add_product(add_product(x, fill(c[0]), v0), fill(c[1]), v1)
    return add_product(add_product(x, fill(c[2]), v2), fill(c[3]), v3)


@inlined
def add_rows(
    out: Floats, i: Four, c: Factors, d: Factors, e: Factors, f: Factors, v: Floats, r: Four
) -> None:
    """out[i[0]] += sum_t c[t] v[r[t]], and so for the three others, one after another."""
    width = out.shape[1]
    wide = width - width % LANES
    for j in range(0, wide, LANES):
        v0, v1, v2, v3 = load(v, r[0], j), load(v, r[1], j), load(v, r[2], j), load(v, r[3], j)
        store(_sum(load(out, i[0], j), c, v0, v1, v2, v3), out, i[0], j)
        store(_sum(load(out, i[1], j), d, v0, v1, v2, v3), out, i[1], j)
        store(_sum(load(out, i[2], j), e, v0, v1, v2, v3), out, i[2], j)
        store(_sum(load(out, i[3], j), f, v0, v1, v2, v3), out, i[3], j)
    n = width - wide
    if n > 0:
        v0, v1 = load_some(v, r[0], wide, n), load_some(v, r[1], wide, n)
        v2, v3 = load_some(v, r[2], wide, n), load_some(v, r[3], wide, n)
        store_some(_sum(load_some(out, i[0], wide, n), c, v0, v1, v2, v3), out, i[0], wide, n)
        store_some(_sum(load_some(out, i[1], wide, n), d, v0, v1, v2, v3), out, i[1], wide, n)
        store_some(_sum(load_some(out, i[2], wide, n), e, v0, v1, v2, v3), out, i[2], wide, n)
        store_some(_sum(load_some(out, i[3], wide, n), f, v0, v1, v2, v3), out, i[3], wide, n)


@inlined
def _across(low: Floats, p: int, q: int, w: float) -> Factors:
    """Four numbers of a row of `low`, times a weight."""
    return low[p, q] * w, low[p, q + 1] * w, low[p, q + 2] * w, low[p, q + 3] * w


@inlined
def _along(low: Floats, p: int, q: int, w: Factors) -> Factors:
    """Four numbers of a column of `low`, times their rows' weights."""
    return low[p, q] * w[0], low[p + 1, q] * w[1], low[p + 2, q] * w[2], low[p + 3, q] * w[3]


@inlined
def spread(
    out: Floats, rows: Four, low: Floats, p: int, w: Factors, m: Floats, first: int, rank: int
) -> None:
    """out[rows[b]] += w[b] sum_q low[p + b, q] m[first + q]."""
    for q in range(0, rank, 4):
        c, d = _across(low, p, q, w[0]), _across(low, p + 1, q, w[1])
        e, f = _across(low, p + 2, q, w[2]), _across(low, p + 3, q, w[3])
        add_rows(out, rows, c, d, e, f, m, four_rows(first, q, rank))


@inlined
def axpy(out: Floats, p: int, c: float, v: Floats, r: int) -> None:
    """out[p] += c v[r]."""
    width = out.shape[1]
    wide = width - width % LANES
    factor = fill(c)
    for j in range(0, wide, LANES):
        store(add_product(load(out, p, j), factor, load(v, r, j)), out, p, j)
    n = width - wide
    if n > 0:
        x = add_product(load_some(out, p, wide, n), factor, load_some(v, r, wide, n))
        store_some(x, out, p, wide, n)


@inlined
def add_up(out: Floats, p: int, w: Factors, v: Floats, r: Four) -> None:
    """out[p] += sum_b w[b] v[r[b]]."""
    width = out.shape[1]
    wide = width - width % LANES
    for j in range(0, wide, LANES):
        v0, v1, v2, v3 = load(v, r[0], j), load(v, r[1], j), load(v, r[2], j), load(v, r[3], j)
        store(_sum(load(out, p, j), w, v0, v1, v2, v3), out, p, j)
    n = width - wide
    if n > 0:
        v0, v1 = load_some(v, r[0], wide, n), load_some(v, r[1], wide, n)
        v2, v3 = load_some(v, r[2], wide, n), load_some(v, r[3], wide, n)
        store_some(_sum(load_some(out, p, wide, n), w, v0, v1, v2, v3), out, p, wide, n)


@inlined
def gather(
    out: Floats, first: int, rank: int, low: Floats, p: int, w: Factors, v: Floats, rows: Four
) -> None:
    """out[first + q] += sum_b w[b] low[p + b, q] v[rows[b]]."""
    fours = rank - rank % 4
    for q in range(0, fours, 4):
        c, d = _along(low, p, q, w), _along(low, p, q + 1, w)
        e, f = _along(low, p, q + 2, w), _along(low, p, q + 3, w)
        add_rows(out, four_rows(first, q, rank), c, d, e, f, v, rows)
    for q in range(fours, rank):  # one row in place of another would wait for what was just stored
        add_up(out, first + q, _along(low, p, q, w), v, rows)


@inlined
def four(values: Integers, at: int, end: int, less: int) -> Four:
    """Four of the values from `at` on, each less `less`; where there are fewer, the last again."""
    last = end - 1
    return (
        values[at] - less,
        values[min(at + 1, last)] - less,
        values[min(at + 2, last)] - less,
        values[min(at + 3, last)] - less,
    )


@inlined
def ones(num: int) -> Factors:
    """Of the `num` rows of a block, and zero for the rest."""
    one, none = np.float32(1), np.float32(0)
    return one, one if num > 1 else none, one if num > 2 else none, one if num > 3 else none


@inlined
def block_weights(weights: Floats, pairs: Four, num: int) -> Factors:
    """Of the `num` pairs of a block, and zero for the rest; 1 where `weights` is empty."""
    if weights.size:
        none = np.float32(0)
        return (
            weights[pairs[0]],
            weights[pairs[1]] if num > 1 else none,
            weights[pairs[2]] if num > 2 else none,
            weights[pairs[3]] if num > 3 else none,
        )
    return ones(num)
