"""One product in which each row meets the matrix of its group, by torch's grouped product."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mdlora.layers.first_only import first_only

__all__ = ["SortedRows", "can_group", "grouped_product", "sort_rows"]

_MULTIPLE = 4  # torch's grouped product wants rows aligned to 16 bytes


class SortedRows(NamedTuple):
    """Rows in the order of their groups.

    `group` (B,) is each row's group; `order` (B,) names the rows sorted by it, `place` (B,) is
    where each row is then, and `ends` (K,) int32 is where each group ends.
    """

    group: Tensor
    order: Tensor
    place: Tensor
    ends: Tensor


def sort_rows(group: Tensor, num_groups: int) -> SortedRows:
    """Sort rows whose groups are (B,) int64 in 0..num_groups - 1; each group keeps its order."""
    order = torch.argsort(group, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    ends = torch.bincount(group, minlength=num_groups).cumsum(0).to(torch.int32)
    return SortedRows(group, order, place, ends)


def can_group(x: Tensor, weight: Tensor) -> bool:
    """Whether `grouped_product` can multiply x (B, I) with weight (K, I, O)."""
    _, num_in, num_out = weight.shape
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32  # torch has no grouped product in float64
        and len(x) > 0
        and num_in % _MULTIPLE == num_out % _MULTIPLE == 0
        and not torch.is_autocast_enabled("cpu")
        and hasattr(F, "grouped_mm")  # since torch 2.10
    )


class _GroupedProduct(torch.autograd.Function):
    """One node of the graph for the product, the bias, and the way into order and back."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rows: SortedRows
    ) -> Tensor:
        x = x.index_select(0, rows.order)
        made = F.grouped_mm(x, weight, offs=rows.ends).index_select(0, rows.place)
        ctx.save_for_backward(x, weight)
        ctx.rows = rows
        return made if bias is None else made.add_(bias.index_select(0, rows.group))

    @staticmethod
    @first_only("compute in float64, which takes the plain path")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows: SortedRows = ctx.rows
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        grads: list[Tensor | None] = [None] * 4
        if of_bias:
            zeros = grad.new_zeros(len(rows.ends), grad.shape[1])
            grads[2] = zeros.index_add_(0, rows.group, grad)
        if of_x or of_weight:
            grad = grad.index_select(0, rows.order)
        if of_x:
            made = F.grouped_mm(grad, weight.transpose(1, 2), offs=rows.ends)
            grads[0] = made.index_select(0, rows.place)
        if of_weight:
            grads[1] = F.grouped_mm(x.T, grad, offs=rows.ends)
        return tuple(grads)


def grouped_product(x: Tensor, weight: Tensor, bias: Tensor | None, rows: SortedRows) -> Tensor:
    """x_i W_g + b_g, with g the group of row i, where `can_group` says so; first derivatives only.

    Shapes (B rows, K groups, I in, O out): x (B, I), weight (K, I, O), bias (K, O) -> (B, O).
    """
    made: Tensor = _GroupedProduct.apply(x, weight, bias, rows)
    return made
