"""Four ways to compute the same sum of low-rank updates; they are chosen by shape.

    delta[i] = sum_k w[i, k] * (x[i] A_k B_k + c_k)

Shape letters: B rows, I in, O out, K adapters, R rank, k adapters of one row. A_k is kept as
`down[k]` (R, I), transposed so that all of A is one matrix without a copy; B_k as `up[k]` (R, O).

* masked: one product with all adapters at once, zero where a row does not use one. For few
  adapters, and for mixtures, whose rows use them all.
* gathered: each row brings its own matrices. For few rows.
* segmented: rows sorted by adapter in padded blocks; the cost does not grow with K.
* merged: for training on rows that come sorted by adapter. W + A_k B_k is made for each adapter,
  and takes the layer's own product over: each row meets one matrix, and nothing is done twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mdlora.adapters.routes import ExpertRoute, MixtureRoute, Route, Runs
from mdlora.errors import AdapterError
from mdlora.layers import segment_blocks
from mdlora.layers.first_only import first_only

__all__ = ["can_merge", "choose_kernel", "gathered", "masked", "merged", "segmented", "update"]

_FEW_ROWS = 64
_FEWEST_ROWS = 32  # of an adapter, on average, from which making its matrix can pay (measured)
_MULTIPLE = 4  # torch's grouped product wants rows aligned to 16 bytes
_FEW_COLUMNS = 64  # K * R up to which one masked product beats sorting (measured, batch 1024)


def choose_kernel(num_rows: int, num_experts: int, rank: int) -> str:
    """The name of the kernel for an ExpertRoute of this shape.

    The shapes of segments depend on the ids, so a compiled or exported graph gathers.
    """
    if num_experts * rank <= _FEW_COLUMNS:
        return "masked"
    return "gathered" if torch.compiler.is_compiling() or num_rows <= _FEW_ROWS else "segmented"


def can_merge(x: Tensor, weight: Tensor, route: ExpertRoute) -> bool:
    """Whether `merged` can stand in for a layer with this weight (O, I), and would be faster.

    Raises:
        AdapterError: the rows are not sorted by expert.
    """
    num_out, num_in = weight.shape
    worth = max(_FEWEST_ROWS, num_in * num_out / (2 * (num_in + num_out)))
    if not (
        torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32  # torch has no grouped product in float64
        and x.dim() == 2
        and x.shape[0] >= worth * route.num_experts
        and num_in % _MULTIPLE == num_out % _MULTIPLE == 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # a look at the values would break the graph
        and hasattr(F, "grouped_mm")  # since torch 2.10
        and route.is_single
    ):
        return False
    if route.runs() is None:
        raise AdapterError(
            "The rows are said to be sorted, but they are not: sort the batch by expert (by domain "
            "without expert ids), or leave out sorted_rows."
        )
    return True


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
    segments = route.segments()
    low = torch.bmm(segment_blocks(rows, segments), down[segments.block_group].transpose(1, 2))
    chosen = up[segments.block_group]
    if bias is None:
        delta = torch.bmm(low, chosen)
    else:
        delta = torch.baddbmm(bias[segments.block_group].unsqueeze(1), low, chosen)
    return _combine(delta.flatten(0, 1)[segments.slot], route, per_row)


class _GroupedLinear(torch.autograd.Function):
    """x W_k^T + c_k with W_k = W + (down_k^T up_k)^T, for the rows of each run k.

    One node of the graph instead of ten; and torch's own gradient of a grouped product fails on
    gradients that are broadcast. Asked for second derivatives, it raises.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, down: Tensor, up: Tensor, shift: Tensor | None,
        of_row: Tensor, runs: Runs,
    ) -> Tensor:  # fmt: skip
        weights = torch.baddbmm(weight.unsqueeze(0), up.transpose(1, 2), down)
        if runs.without:  # rows without an adapter meet the layer alone
            weights = torch.cat((weight.unsqueeze(0), weights))
        output = F.grouped_mm(x, weights.transpose(1, 2), offs=runs.ends)
        ctx.save_for_backward(x, weights, down, up, of_row)
        ctx.runs = runs
        return output if shift is None else output.addmm_(of_row, shift)

    @staticmethod
    @first_only("leave out sorted_rows")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weights, down, up, of_row = ctx.saved_tensors
        of_x, of_weight, of_down, of_up, of_shift = ctx.needs_input_grad[:5]
        grad = grad.contiguous()
        grads: list[Tensor | None] = [None] * 7
        if of_x:
            grads[0] = F.grouped_mm(grad, weights, offs=ctx.runs.ends)
        if of_weight or of_down or of_up:
            of_weights = F.grouped_mm(grad.T, x, offs=ctx.runs.ends)
            of_adapters = of_weights[1:] if ctx.runs.without else of_weights
            if of_weight:
                grads[1] = of_weights.sum(0)
            if of_down:
                grads[2] = torch.bmm(up, of_adapters)
            if of_up:
                grads[3] = torch.bmm(down, of_adapters.transpose(1, 2))
        if of_shift:
            grads[4] = of_row.T @ grad
        return tuple(grads)


def merged(
    x: Tensor,
    weight: Tensor,
    layer_bias: Tensor | None,
    down: Tensor,
    up: Tensor,
    bias: Tensor | None,
    route: ExpertRoute,
) -> Tensor:
    """The layer's output (B, O) and its adapters' update in one product, for sorted rows.

    `weight` (O, I) and `layer_bias` (O,) are the layer's own. Call only where `can_merge` says so.
    """
    runs = route.runs()
    assert runs is not None
    of_row = runs.of_row
    shift = bias
    if layer_bias is not None:
        shift = layer_bias.expand(len(down), -1) if bias is None else layer_bias + bias
    if runs.without and shift is not None:
        own = torch.zeros_like(shift[:1]) if layer_bias is None else layer_bias.unsqueeze(0)
        shift = torch.cat((own, shift))
        of_row = torch.cat((1 - of_row.sum(1, keepdim=True), of_row), 1)
    output: Tensor = _GroupedLinear.apply(x.contiguous(), weight, down, up, shift, of_row, runs)
    return output


def _combine(delta: Tensor, route: ExpertRoute, per_row: int) -> Tensor:
    weights = route.flat_weights(delta.dtype)
    if weights is not None:
        delta = delta * weights.unsqueeze(-1)
    return delta.view(-1, per_row, delta.shape[1]).sum(1) if per_row > 1 else delta
