from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mdlora.adapters import ExpertRoute, MixtureRoute
from mdlora.adapters.kernels import choose_kernel, gathered, masked, segmented

KERNELS: dict[str, Any] = {
    "masked": lambda x, down, up, bias, route: masked(
        x, down, up, bias, route.mixture(torch.float64)
    ),
    "gathered": gathered,
    "segmented": segmented,
}


def by_definition(
    x: Tensor, down: Tensor, up: Tensor, bias: Tensor | None, uses: list[list[tuple[int, Any]]]
) -> Tensor:
    """Row by row: the sum of w * (x A_k B_k + c_k) over the (k, w) that the row uses."""
    rows = []
    for row, used in zip(x, uses, strict=True):
        total = 0.0 * (up[0, 0] * row.sum())
        for k, weight in used:
            delta = (row @ down[k].T) @ up[k]
            total = total + weight * (delta if bias is None else delta + bias[k])
        rows.append(total)
    return torch.stack(rows)


def uses_of(experts: Tensor, weights: Tensor | None) -> list[list[tuple[int, Any]]]:
    return [
        [
            (k, 1.0 if weights is None else weights[i, j])
            for j, k in enumerate(row)
            if k >= 0
        ]
        for i, row in enumerate(experts.tolist())
    ]  # fmt: skip


def case(
    rows: int, num: int, rank: int, width: tuple[int, int], per_row: int, seed: int
) -> tuple[list[Tensor], Tensor]:
    make = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, dtype=torch.float64, generator=make)

    tensors = [draw(rows, width[0]), draw(num, rank, width[0]), draw(num, rank, width[1])]
    tensors += [draw(num, width[1]), draw(rows, per_row).abs()]
    # Distinct experts in a row, -1 (none) among the choices.
    experts = torch.rand(rows, num + 1, generator=make).argsort(1)[:, :per_row] - 1
    return tensors, experts


def check(kernel: str, tensors: list[Tensor], experts: Tensor, bias: bool, weighted: bool) -> None:
    mine = [t.clone().requires_grad_() for t in tensors]
    theirs = [t.clone().requires_grad_() for t in tensors]
    x, down, up, c, w = mine
    route = ExpertRoute(experts, down.shape[0], w if weighted else None)
    out = KERNELS[kernel](x, down, up, c if bias else None, route)
    x, down, up, c, w = theirs
    uses = uses_of(experts, w if weighted else None)
    expected = by_definition(x, down, up, c if bias else None, uses)
    scale = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12 * scale)
    grad = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    out.backward(grad)
    expected.backward(grad)
    for got, want in zip(mine, theirs, strict=True):
        grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in (got, want)]
        size = max(1.0, float(grads[1].abs().max())) if grads[1].numel() else 1.0
        torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12 * size)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 40),
    num=st.integers(1, 13),
    rank=st.integers(1, 5),
    width=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    per_row=st.integers(1, 3),
    bias=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_kernels_and_gradients_equal_the_definition(
    kernel: str, rows: int, num: int, rank: int, width: tuple[int, int], per_row: int,
    bias: bool, weighted: bool, seed: int,
):  # fmt: skip
    tensors, experts = case(rows, num, rank, width, min(per_row, num), seed)
    tensors[4] = tensors[4][:, : experts.shape[1]]
    check(kernel, tensors, experts, bias, weighted)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize("rows", [32, 33, 300])
def test_blocks_of_many_rows_of_one_adapter(kernel: str, rows: int):
    """Block borders of the sorted form: exactly full, one over, several blocks."""
    tensors, _ = case(rows, 4, 2, (5, 3), 1, seed=1)
    experts = torch.full((rows, 1), 2)
    experts[rows // 2 :: 7] = 0
    check(kernel, tensors, experts, bias=True, weighted=True)


def test_a_mixture_of_all_equals_the_definition():
    tensors, _ = case(11, 5, 3, (4, 6), 1, seed=2)
    x, down, up, bias, _ = tensors
    weights = torch.rand(11, 5, dtype=torch.float64)
    uses = [[(k, weights[i, k]) for k in range(5)] for i in range(11)]
    expected = by_definition(x, down, up, bias, uses)
    out = masked(x, down, up, bias, MixtureRoute(weights).mixture(torch.float64))
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "num", "rank", "kernel"),
    [(1024, 8, 8, "masked"), (1024, 13, 5, "segmented"), (64, 13, 5, "gathered"),
     (65, 13, 5, "segmented"), (1, 64, 1, "masked")],
)  # fmt: skip
def test_the_kernel_is_chosen_by_shape(rows: int, num: int, rank: int, kernel: str):
    assert choose_kernel(rows, num, rank) == kernel
