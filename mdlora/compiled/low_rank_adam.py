"""Adam on some slices of a tensor, each with its own clock: one pass over these slices alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdlora.compiled.kernel import kernel

__all__ = ["step_slices"]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@kernel
def step_slices(
    weight: Floats, mean: Floats, square: Floats, grad: Floats, place: Integers, chosen: Integers,
    size: Floats, root: Floats, keep1: np.float32, keep2: np.float32, eps: np.float32,
) -> None:  # fmt: skip
    """One step of the slices `chosen` (A,) of weight, mean and square (K, N).

    Slice a's gradient is grad[place[a]], or zero where that is -1. `size` (A,) is
    lr / (1 - beta1^t), `root` (A,) is 1 / sqrt(1 - beta2^t); `keep1` is 1 - beta1, `keep2` is
    1 - beta2.
    """
    none = np.zeros(weight.shape[1], np.float32)
    rest2 = np.float32(1) - keep2
    for a in range(chosen.size):
        k = chosen[a]
        w, m, s = weight[k], mean[k], square[k]
        g = grad[place[a]] if place[a] >= 0 else none
        step, scale = size[a], root[a]
        for j in range(w.size):
            m[j] += keep1 * (g[j] - m[j])
            s[j] = rest2 * s[j] + keep2 * (g[j] * g[j])
            w[j] -= step * (m[j] / (np.sqrt(s[j]) * scale + eps))
