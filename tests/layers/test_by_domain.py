from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mdlora.layers import DomainLinear, DomainMLP, DomainRows, domain_product


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    rows=st.integers(0, 90),
    domains=st.integers(1, 9),
    bias=st.booleans(),
    seed=st.integers(0, 999),
)
def test_each_row_meets_its_own_domains_layer(rows: int, domains: int, bias: bool, seed: int):
    make = torch.Generator().manual_seed(seed)
    layer = DomainLinear(domains, 3, 2, bias=bias).double()
    x = torch.randn(rows, 3, dtype=torch.float64, generator=make, requires_grad=True)
    index = torch.randint(domains, (rows,), generator=make)
    out = layer(x, DomainRows(index, domains))
    z = x.detach().clone().requires_grad_()
    weight = layer.weight.detach().clone().requires_grad_()
    lines = [z[i] @ weight[index[i]] for i in range(rows)]
    expected = torch.stack(lines) if lines else torch.zeros(0, 2, dtype=torch.float64)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
        out, expected = layer(x, DomainRows(index, domains)), expected + layer.bias[index]
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-13)
    if rows:
        grad = torch.randn(rows, 2, dtype=torch.float64, generator=make)
        out.backward(grad)
        expected.backward(grad, inputs=[z, weight])
        torch.testing.assert_close(x.grad, z.grad, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-12, atol=1e-13)


def test_layers_of_domains_start_apart_and_as_dense_layers_do():
    layer = DomainLinear(3, 200, 100)
    assert not torch.equal(layer.weight[0], layer.weight[1])
    # Glorot: uniform within sqrt(6 / 300) = 0.1414, so the standard deviation is 0.0816.
    assert layer.weight.abs().max() <= 0.1415
    assert layer.weight.std().item() == pytest.approx(0.0816, rel=0.01)
    assert not layer.bias.any()


@pytest.mark.parametrize("domains", [2, 7])
def test_a_tower_of_each_domain_is_the_plain_tower_of_its_rows(domains: int):
    tower = DomainMLP(domains, 5, (4, 3)).double().eval()
    x, index = torch.randn(40, 5, dtype=torch.float64), torch.arange(40) % domains
    out = tower(x, DomainRows(index, domains))
    for d in range(domains):
        h = x[index == d]
        for linear in tower.linears:
            h = torch.clamp(h @ linear.weight[d] + linear.bias[d], min=0)
        torch.testing.assert_close(out[index == d], h, rtol=1e-12, atol=1e-13)


def by_rows(x: Tensor, weight: Tensor, bias: Tensor, index: Tensor) -> Tensor:
    lines = [x[i] @ weight[d] + bias[d] for i, d in enumerate(index)]
    return torch.stack(lines) if lines else x.new_zeros(0, weight.shape[2])


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    rows=st.integers(0, 300),
    domains=st.integers(1, 12),
    widths=st.sampled_from([(8, 4), (4, 12), (8, 3), (5, 8), (8, 1), (4, 64)]),
    seed=st.integers(0, 999),
)
def test_every_form_of_float32_is_the_product_of_each_row(
    rows: int, domains: int, widths: tuple[int, int], seed: int
):
    make = torch.Generator().manual_seed(seed)
    size_in, size_out = widths
    x = torch.randn(rows, size_in, generator=make).requires_grad_()
    weight = torch.randn(domains, size_in, size_out, generator=make).requires_grad_()
    bias = torch.randn(domains, size_out, generator=make).requires_grad_()
    leaves = (x, weight, bias)
    index = torch.randint(max(domains - 1, 1), (rows,), generator=make)  # the last has no rows
    copies = [leaf.detach().double().requires_grad_() for leaf in leaves]
    grad = torch.randn(rows, size_out, generator=make)
    out = domain_product(*leaves, DomainRows(index, domains))
    expected = by_rows(*copies, index)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    if rows:
        out.backward(grad)
        expected.backward(grad.double())
        for ours, theirs in zip(leaves, copies, strict=True):
            torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-4)


def test_few_columns_run_together_and_others_by_group(monkeypatch: pytest.MonkeyPatch):
    from mdlora.layers import by_domain

    used: list[str] = []
    for name in ("grouped_product", "segment_product"):
        real = getattr(by_domain, name)
        monkeypatch.setattr(
            by_domain, name, lambda *a, n=name, real=real: used.append(n) or real(*a)
        )
    rows = DomainRows(torch.arange(40) % 8, 8)
    for size_out, kind in ((4, torch.float32), (8, torch.float32), (8, torch.float64)):
        weight = torch.zeros(8, 4, size_out, dtype=kind)
        domain_product(torch.zeros(40, 4, dtype=kind), weight, None, rows)
    assert used == ["grouped_product", "segment_product"]


@pytest.mark.parametrize(("rows", "domains", "block"), [(64, 8, 32), (400, 8, 64), (9000, 8, 128)])
def test_blocks_are_about_as_long_as_a_domain_has_rows(rows: int, domains: int, block: int):
    assert DomainRows(torch.arange(rows) % domains, domains).segments().rows == block


@pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="torch has no grouped product")
def test_second_derivatives_are_refused_where_there_are_none():
    x = torch.randn(30, 8, requires_grad=True)
    rows = DomainRows(torch.arange(30) % 9, 9)
    made = domain_product(x, torch.randn(9, 8, 64, requires_grad=True), None, rows)
    with pytest.raises(RuntimeError, match=r"first derivatives only.*float64"):
        torch.autograd.grad(made.sum(), x, create_graph=True)


def test_only_what_learns_gets_a_gradient():
    rows = DomainRows(torch.arange(40) % 8, 8)
    x, weight = torch.randn(40, 8), torch.randn(8, 8, 8).requires_grad_()
    domain_product(x, weight, None, rows).sum().backward()
    assert x.grad is None
    frozen = weight.detach()
    domain_product(x.requires_grad_(), frozen, torch.zeros(8, 8), rows).sum().backward()
    torch.testing.assert_close(x.grad, frozen[rows.index].sum(2))


def test_all_domains_outputs_at_once():
    layer = DomainLinear(3, 4, 2).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    for rows in (x, x[:, 0]):
        made = layer.each(rows)
        for d in range(3):
            own = rows[:, d] if rows.dim() == 3 else rows
            expected = layer(own, DomainRows(torch.full((5,), d), 3))
            torch.testing.assert_close(made[:, d], expected, rtol=1e-12, atol=1e-13)
