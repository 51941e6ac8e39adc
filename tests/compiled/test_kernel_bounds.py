"""Kernels look at no bounds, so what reaches them is checked before."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mdlora.adapters import AdapterBank, ExpertRoute, MixtureRoute, adapt
from mdlora.compiled import can_compile
from mdlora.config import MLoRA
from mdlora.errors import AdapterError
from mdlora.layers import MLP
from mdlora.layers.tower_step import can_fuse
from mdlora.training.row_adam import RowAdam


@pytest.mark.parametrize("row", [100, 150_000, -1, 10**9])
@pytest.mark.parametrize("catch_up", [True, False])
def test_rows_that_are_not_there(row: int, catch_up: bool):
    table = nn.Parameter(torch.randn(100, 4))
    adam = RowAdam(table, lr=0.1, catch_up=catch_up)
    if catch_up:
        with pytest.raises(IndexError, match="is not in a table of 100 rows"):
            adam.before_reading(torch.tensor([1, row]))
    table.grad = torch.sparse_coo_tensor(
        torch.tensor([[1, row]]), torch.ones(2, 4), (100, 4), check_invariants=False
    )
    with pytest.raises(IndexError, match="is not in a table of 100 rows"):
        adam.step()


def test_a_table_that_has_grown_since():
    table = nn.Parameter(torch.randn(100, 4))
    adam = RowAdam(table, lr=0.1)
    table.data = torch.randn(200, 4)
    F.embedding(torch.tensor([150]), table, sparse=True).sum().backward()
    with pytest.raises(IndexError, match="make a new one"):
        adam.step()


def test_arrays_of_other_sizes():
    bank = AdapterBank(nn.Linear(16, 8), 3, 2, bias=True)
    route = ExpertRoute(torch.zeros(5, 1, dtype=torch.int64), 3)
    x = torch.randn(5, 16)
    assert bank(x, route, torch.zeros(5, 8)).shape == (5, 8)
    wrong = [
        (torch.randn(5, 12), route, None),
        (x, ExpertRoute(torch.full((5, 1), 400), 500), None),
        (x, route, torch.zeros(2, 8)),
        (x, route, torch.zeros(5, 4)),
        (x, ExpertRoute(torch.zeros(5, 1, dtype=torch.int64), 3, torch.ones(2, 1)), None),
        (x, MixtureRoute(torch.ones(5, 2)), None),
    ]
    for rows, on, output in wrong:
        with pytest.raises(AdapterError):
            bank(rows, on, output)


def test_nobody_traces_transforms_or_replaces():
    x = torch.randn(4, 8)
    seen: list[bool] = []

    def look(y: torch.Tensor) -> torch.Tensor:
        seen.append(can_compile(y))
        return y + 1

    torch.func.vmap(look)(x)
    torch.func.grad(lambda y: look(y).sum())(x)
    with torch.autograd.forward_ad.dual_level():
        look(x)
    assert seen == [False, False, False]
    mlp = MLP(8, (8, 8), dropout=0.5).train()
    assert can_fuse([(mlp.linears[0], mlp.activations[0])], x)
    mlp.linears[0].forward = lambda y: torch.zeros_like(y)  # type: ignore[method-assign]
    assert not can_fuse([(mlp.linears[0], mlp.activations[0])], x)
    assert can_fuse([(mlp.linears[1], mlp.activations[1])], x)


def test_a_hook_on_one_layer_keeps_all_unfused():
    mlp = MLP(8, (8, 8, 8), dropout=0.5).train()
    mlp.activations[0].register_forward_hook(lambda _m, _a, out: out.t().contiguous().t())
    shapes: list[object] = []
    for linear in mlp.linears[1:]:
        linear.register_forward_hook(lambda _m, _a, out: shapes.append(out.shape))
    mlp(torch.randn(4, 8))
    assert shapes == [(4, 8), (4, 8)]


def test_adapters_leave_a_replaced_layer_to_itself():
    tower = nn.Sequential(nn.Linear(8, 4))
    adapted = adapt(tower, MLoRA(num_domains=2), targets="0")
    x, domain = torch.randn(6, 8), torch.tensor([1, 2, 1, 2, 0, 1])
    tower[0].forward = lambda y: torch.zeros(len(y), 4)  # type: ignore[method-assign]
    assert torch.equal(adapted(x, domain=domain), torch.zeros(6, 4))
