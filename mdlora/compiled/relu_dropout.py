"""Bias, ReLU and dropout in one pass over memory each way, in place.

What was drawn becomes, unit by unit, what is alive: kept and above zero. The way back reads that, a
bit or a byte a unit, and not the outputs; it sums the gradient of the bias on its way.

Shapes (B rows, O units; n of the rows, from `first` on): z and grad (n, O), bias and of_bias
(O,). What was drawn is for all B rows: a byte a unit, kept from `threshold` on; or, where that is
0, a bit: bit b of byte j is that of unit b * len(drawn) + j, counted through all rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdlora.compiled.drawn_vectors import keep_lanes, pass_lanes
from mdlora.compiled.kernel import bare_kernel
from mdlora.compiled.vectors import LANES, add, inlined, load, load_along, store, store_along

__all__ = ["Bytes", "keep", "keep_row", "keep_rows", "pass_back", "pass_rows"]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@inlined
def _piece(
    row: int, done: int, width: int, drawn: Bytes, threshold: int
) -> tuple[int, int, int, np.uint8, np.uint8]:
    """Of a row's units from the `done`-th on, those that lie together.

    Where they end; to where vectors reach; the byte of the row's first, were it one of them; and
    which bits of a byte count, and how much they must be at least.
    """
    unit = row * width + done
    if threshold > 0:
        num, mask, least = width - done, 255, threshold
    else:
        mask = 1
        while unit >= drawn.size:  # 7 times at most, which costs less than a division
            unit -= drawn.size
            mask <<= 1
        num, least = min(width - done, drawn.size - unit), mask
    wide = done + num // LANES * LANES
    return done + num, wide, unit - done, np.uint8(mask), np.uint8(least)


@inlined
def keep_row(
    z: Floats, i: int, bias: Floats, drawn: Bytes, threshold: int, scale: np.float32, first: int
) -> None:
    """Make row i of z relu(z + bias) * scale where a unit is kept, else 0."""
    zero, width = np.float32(0), z.shape[1]
    done = 0
    while done < width:
        end, wide, at, mask, least = _piece(first + i, done, width, drawn, threshold)
        for j in range(done, wide, LANES):
            x = add(load(z, i, j), load_along(bias, j))
            store(keep_lanes(x, scale, drawn, at + j, mask, least), z, i, j)
        for j in range(wide, end):
            value = (z[i, j] + bias[j]) * scale
            alive = ((drawn[at + j] & mask) >= least) & ~(value <= zero)
            z[i, j] = value if alive else zero
            if not alive:
                drawn[at + j] = drawn[at + j] & ~mask
        done = end


@inlined
def _pass_row(
    grad: Floats, i: int, drawn: Bytes, threshold: int, scale: np.float32, of_bias: Floats,
    first: int,
) -> None:  # fmt: skip
    """Make row i of grad grad * scale where a unit is alive, else 0; of_bias gains it."""
    zero, width = np.float32(0), grad.shape[1]
    done = 0
    while done < width:
        end, wide, at, mask, least = _piece(first + i, done, width, drawn, threshold)
        for j in range(done, wide, LANES):
            x = pass_lanes(load(grad, i, j), scale, drawn, at + j, mask, least)
            store(x, grad, i, j)
            store_along(add(load_along(of_bias, j), x), of_bias, j)
        for j in range(wide, end):
            value = grad[i, j] * scale if (drawn[at + j] & mask) >= least else zero
            grad[i, j] = value
            of_bias[j] += value
        done = end


@inlined
def keep_rows(
    z: Floats, begin: int, end: int, bias: Floats, drawn: Bytes, threshold: int,
    scale: np.float32, first: int,
) -> None:  # fmt: skip
    """`keep_row` of rows `begin` to `end`."""
    for i in range(begin, end):
        keep_row(z, i, bias, drawn, threshold, scale, first)


@inlined
def pass_rows(
    grad: Floats, begin: int, end: int, drawn: Bytes, threshold: int, scale: np.float32,
    of_bias: Floats, first: int,
) -> None:  # fmt: skip
    """`_pass_row` of rows `begin` to `end`."""
    for i in range(begin, end):
        _pass_row(grad, i, drawn, threshold, scale, of_bias, first)


@bare_kernel
def keep(
    z: Floats, bias: Floats, drawn: Bytes, threshold: int, scale: np.float32, first: int
) -> None:
    """Make z relu(z + bias) * scale where a unit is kept, else 0; `drawn` becomes what is alive."""
    keep_rows(z, 0, z.shape[0], bias, drawn, threshold, scale, first)


@bare_kernel
def pass_back(
    grad: Floats, drawn: Bytes, threshold: int, scale: np.float32, of_bias: Floats, first: int
) -> None:
    """Make grad grad * scale where a unit is alive, else 0; of_bias gains its sum."""
    pass_rows(grad, 0, grad.shape[0], drawn, threshold, scale, of_bias, first)
