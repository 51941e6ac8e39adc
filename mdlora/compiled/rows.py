"""Rows of a table: adding up their gradients, and Adam on them.

Shapes (N rows of the table, W its width, n ids, U distinct ones).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdlora.compiled.kernel import kernel

__all__ = ["adam_on_rows", "add_up_rows", "catch_up_rows"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@kernel
def add_up_rows(
    ids: Ints, grads: Floats, places: npt.NDArray[np.int32], rows: Ints, sums: Floats
) -> int:
    """The distinct ones of n ids, in the order in which they first come, and their gradients.

    `places` (N,) is zeros, before and after; rows (n,) and sums (n, W) have their first U filled.
    Returns U; or -1 where an id is not in 0 to N - 1.
    """
    found, wrong = 0, False
    for i in range(ids.size):
        if ids[i] < 0 or ids[i] >= places.size:
            wrong = True
            break
        place, grad = places[ids[i]], grads[i]
        if place == 0:
            rows[found] = ids[i]
            to = sums[found]
            found += 1
            places[ids[i]] = found
            for j in range(grad.size):
                to[j] = grad[j]
        else:
            to = sums[place - 1]
            for j in range(grad.size):
                to[j] += grad[j]
    for i in range(found):
        places[rows[i]] = 0
    return -1 if wrong else found


@kernel
def adam_on_rows(
    table: Floats,
    mean: Floats,
    square: Floats,
    rows: Ints,
    grads: Floats,
    settings: Floats,
) -> None:
    """One step of Adam on `rows` (U,) of a table with gradients (U, W).

    `settings` are lr / (1 - beta1^t), sqrt(1 - beta2^t), beta1, beta2, eps and 2 * l2.
    """
    size, correction, beta1, beta2, eps, decay = settings
    one = np.float32(1)
    for i in range(rows.size):
        weight, first, second = table[rows[i]], mean[rows[i]], square[rows[i]]
        of_row = grads[i]
        for j in range(of_row.size):
            grad = of_row[j] + decay * weight[j]
            first[j] += (grad - first[j]) * (one - beta1)
            second[j] = second[j] * beta2 + grad * grad * (one - beta2)
            weight[j] -= size * first[j] / (np.sqrt(second[j]) / correction + eps)


@kernel
def catch_up_rows(
    table: Floats,
    mean: Floats,
    square: Floats,
    last: Ints,
    rows: Ints,
    now: int,
    settings: npt.NDArray[np.float64],
    longest: int,
) -> None:
    """Apply to `rows`, with repeats or not, Adam's steps without gradient from last[row] to `now`.

    `settings` are lr, beta1, beta2 and eps; steps after the first `longest` move no weight.
    """
    lr, beta1, beta2, eps = settings
    moved = np.empty(table.shape[1], np.float32)
    for row in rows:
        since, missed = last[row], now - last[row]
        if since == 0 or missed <= 0:  # never moved: there are no moments to move it by
            last[row] = now
            continue
        weight, first, second = table[row], mean[row], square[row]
        moved[:] = np.float32(0)
        decay1, decay2 = 1.0, 1.0
        bias1, bias2 = beta1**since, beta2**since
        for _ in range(min(missed, longest)):
            decay1, decay2, bias1, bias2 = (
                decay1 * beta1,
                decay2 * beta2,
                bias1 * beta1,
                bias2 * beta2,
            )
            size = np.float32(decay1 / (1 - bias1))
            root = np.float32(np.sqrt(decay2 / (1 - bias2)))
            for j in range(moved.size):
                moved[j] += size / (root * np.sqrt(second[j]) + np.float32(eps))
        aged1, aged2 = np.float32(beta1**missed), np.float32(beta2**missed)
        for j in range(moved.size):
            weight[j] -= np.float32(lr) * first[j] * moved[j]
            first[j] *= aged1
            second[j] *= aged2
        last[row] = now
