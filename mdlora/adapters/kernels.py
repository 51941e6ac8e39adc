"""Three ways to compute the same sum of low-rank updates; `update` chooses by shape.

    delta[i] = sum_k w[i, k] * (x[i] A_k B_k + c_k)

Shape letters: B rows, I in, O out, K adapters, R rank, k adapters of one row. A_k is kept as
`down[k]` (R, I), transposed so that all of A is one matrix without a copy; B_k as `up[k]` (R, O).

* masked: one product with all adapters at once, zero where a row does not use one. For few
  adapters, and for mixtures, whose rows use them all.
* gathered: each row brings its own matrices. For few rows.
* segmented: rows sorted by adapter in padded blocks; the cost does not grow with K.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdlora.adapters.routes import ExpertRoute, MixtureRoute, Route

__all__ = ["choose_kernel", "gathered", "masked", "segmented", "update"]

_FEW_ROWS = 64
_FEW_COLUMNS = 64  # K * R up to which one masked product beats sorting (measured, batch 1024)


def choose_kernel(num_rows: int, num_experts: int, rank: int) -> str:
    """The name of the kernel for an ExpertRoute of this shape."""
    if num_experts * rank <= _FEW_COLUMNS:
        return "masked"
    return "gathered" if num_rows <= _FEW_ROWS else "segmented"


def update(
    x: Tensor,
    down: Tensor,
    up: Tensor,
    bias: Tensor | None,
    route: Route,
    output: Tensor | None = None,
) -> Tensor:
    """Delta (B, O) of x (B, I), or output (B, O) + delta."""
    if isinstance(route, MixtureRoute):
        return masked(x, down, up, bias, route.mixture(x.dtype), output)
    kernel = choose_kernel(route.experts.numel(), route.num_experts, down.shape[1])
    if kernel == "masked":
        return masked(x, down, up, bias, route.mixture(x.dtype), output)
    delta = (gathered if kernel == "gathered" else segmented)(x, down, up, bias, route)
    return delta if output is None else output + delta.to(output.dtype)


def masked(
    x: Tensor,
    down: Tensor,
    up: Tensor,
    bias: Tensor | None,
    weights: Tensor,
    output: Tensor | None = None,
) -> Tensor:
    """All adapters in one product; weights (B, K). Returns delta, or output + delta.

    The bias is one more row of up, met by the weights themselves, and the product adds to
    `output` in one pass: arrays of (B, O) are what costs.
    """
    num_experts, rank, _ = down.shape
    low = x @ down.flatten(0, 1).T
    low = (low.view(-1, num_experts, rank) * weights.unsqueeze(-1)).flatten(1)
    up = up.flatten(0, 1)
    if bias is not None:
        low, up = torch.cat((low, weights), 1), torch.cat((up, bias))
    return low @ up if output is None else torch.addmm(output, low, up)


def gathered(
    x: Tensor, down: Tensor, up: Tensor, bias: Tensor | None, route: ExpertRoute
) -> Tensor:
    """Each row with its own matrices."""
    per_row = route.experts.shape[1]
    experts = route.flat_experts()
    rows = x.repeat_interleave(per_row, 0) if per_row > 1 else x
    low = torch.bmm(down[experts], rows.unsqueeze(-1))
    delta = torch.bmm(low.transpose(1, 2), up[experts]).squeeze(1)
    if bias is not None:
        delta = delta + bias[experts]
    return _combine(delta, route, per_row)


def segmented(
    x: Tensor, down: Tensor, up: Tensor, bias: Tensor | None, route: ExpertRoute
) -> Tensor:
    """Blocks of rows that share an adapter."""
    per_row = route.experts.shape[1]
    rows = x.repeat_interleave(per_row, 0) if per_row > 1 else x
    slot, block_expert, block_rows = route.segments()
    padded = rows.new_zeros(block_expert.numel() * block_rows, rows.shape[1])
    padded = padded.index_copy(0, slot, rows).view(-1, block_rows, rows.shape[1])
    low = torch.bmm(padded, down[block_expert].transpose(1, 2))
    if bias is None:
        delta = torch.bmm(low, up[block_expert])
    else:
        delta = torch.baddbmm(bias[block_expert].unsqueeze(1), low, up[block_expert])
    return _combine(delta.flatten(0, 1)[slot], route, per_row)


def _combine(delta: Tensor, route: ExpertRoute, per_row: int) -> Tensor:
    weights = route.flat_weights(delta.dtype)
    if weights is not None:
        delta = delta * weights.unsqueeze(-1)
    return delta.view(-1, per_row, delta.shape[1]).sum(1) if per_row > 1 else delta
