from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mdlora.adapters import AdaptedModel, ExpertRoute, FullBank, adapt, merge_domain
from mdlora.config import FullFinetuning, MLoRA
from mdlora.training.bank_adam import BankAdam


@pytest.mark.parametrize("num_domains", [3, 7])
def test_each_row_gets_its_own_domains_matrix(
    num_domains: int, make_tower: Callable[[], nn.Sequential]
):
    make = torch.Generator().manual_seed(3)
    x = torch.randn(50, 9, dtype=torch.float64, generator=make)
    domain = torch.randint(num_domains + 1, (50,), generator=make)
    before = make_tower()(x)
    adapted = adapt(make_tower(), FullFinetuning(num_domains=num_domains), targets="*")
    assert torch.equal(adapted(x, domain=domain), before)  # untrained: not a bit changes
    for p in adapted.banks.parameters():
        p.data = torch.randn(p.shape, dtype=p.dtype, generator=make)
    out = adapted(x, domain=domain)
    for i in range(50):
        h, d = x[i], int(domain[i]) - 1
        for place, layer in enumerate(adapted.target_layers):
            bank = adapted.banks[place]
            z = layer.weight @ h + layer.bias
            if d >= 0:
                z = z + bank.delta[d].T @ h + bank.bias[d]
            h = torch.tanh(z) if place < 2 else z
        torch.testing.assert_close(out[i], h, rtol=1e-12, atol=1e-12)


def test_it_merges_and_counts_its_parameters(make_tower: Callable[[], nn.Sequential]):
    adapted = adapt(make_tower(), FullFinetuning(num_domains=6, bias=False), targets="*")
    # 6 domains of 9 x 8, 8 x 6 and 6 x 1 weights.
    assert sum(p.numel() for p in adapted.banks.parameters()) == 6 * (72 + 48 + 6)
    assert [choice.rank for choice in adapted.ranks.values()] == [8, 6, 1]
    for p in adapted.banks.parameters():
        nn.init.normal_(p)
    x = torch.randn(20, 9, dtype=torch.float64)
    for d in (0, 2, 6):
        plain = merge_domain(adapted, d)
        expected = adapted(x, domain=torch.full((20,), d))
        torch.testing.assert_close(plain(x), expected, rtol=1e-12, atol=1e-12)


def test_rows_with_middle_axes_and_all_experts_at_once():
    bank = FullBank(nn.Linear(4, 3).double(), 6, bias=True)
    for p in bank.parameters():
        nn.init.normal_(p)
    net = nn.Sequential(nn.Linear(4, 3)).double()
    adapted = AdaptedModel(net, FullFinetuning(num_domains=6), targets="0")
    adapted.banks[0] = bank
    x = torch.randn(10, 5, 4, dtype=torch.float64)
    domain = torch.arange(10) % 7
    out = adapted(x, domain=domain)
    for i in range(10):
        d = int(domain[i]) - 1
        extra = x[i] @ bank.delta[d] + bank.bias[d] if d >= 0 else 0
        torch.testing.assert_close(out[i], net[0].forward(x[i]) + extra, rtol=1e-12, atol=1e-12)


def test_sums_and_gradients_in_float32_are_those_of_the_formula():
    """In the sizes that torch's grouped product takes; some rows have no adapter."""
    x, expert = torch.randn(90, 8, requires_grad=True), torch.arange(90) % 11 - 1
    bank = FullBank(nn.Linear(8, 12), 10, bias=True)
    for p in bank.parameters():
        nn.init.normal_(p)
    route, pull = ExpertRoute(expert.unsqueeze(1), 10), torch.randn(90, 12)
    wanted = [x, bank.delta, bank.bias]
    made = bank(x, route)
    chosen = expert.clamp(min=0)
    plain = torch.einsum("bi,bio->bo", x, bank.delta[chosen]) + bank.bias[chosen]
    plain = plain * (expert >= 0).unsqueeze(1)
    torch.testing.assert_close(made, plain, rtol=1e-5, atol=1e-5)
    found = zip(*(torch.autograd.grad(y, wanted, pull) for y in (made, plain)), strict=True)
    for mine, theirs in found:
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(bank(x, route), made)


def test_finetuning_beside_the_frozen_layer_is_finetuning_a_copy_of_it():
    """Adam on D_d beside a frozen W takes the very steps that it takes on a copy of W."""
    net = nn.Linear(5, 4).double()
    copies = [copy.deepcopy(net) for _ in range(6)]
    adapted = adapt(nn.Sequential(net), FullFinetuning(num_domains=6), targets="*")
    adapted.freeze("module")
    mine = BankAdam(list(adapted.banks.parameters()), lr=0.01)
    theirs = [torch.optim.Adam(c.parameters(), lr=0.01) for c in copies]
    for step in range(5):
        x = torch.randn(30, 5, dtype=torch.float64)
        target = torch.randn(30, 4, dtype=torch.float64)
        domain = torch.randint(1, 7 - step % 3, (30,))  # some domains rest in some steps
        mine.zero_grad()
        (adapted(x, domain=domain) - target).square().sum().backward()
        mine.step(torch.bincount(domain - 1, minlength=6) > 0)
        for d, (plain, optimizer) in enumerate(zip(copies, theirs, strict=True)):
            rows = domain == d + 1
            if rows.any():
                optimizer.zero_grad()
                (plain(x[rows]) - target[rows]).square().sum().backward()
                optimizer.step()
    bank = adapted.banks[0]
    for d, plain in enumerate(copies):
        torch.testing.assert_close(net.weight + bank.delta[d].T, plain.weight, rtol=0, atol=1e-9)
        torch.testing.assert_close(net.bias + bank.bias[d], plain.bias, rtol=0, atol=1e-9)


def test_low_rank_adapters_cannot_hold_more_than_whole_ones():
    net = nn.Sequential(nn.Linear(32, 16))
    low = adapt(copy.deepcopy(net), MLoRA(num_domains=2, temperature=4), targets="*")
    full = adapt(net, FullFinetuning(num_domains=2), targets="*")
    sizes = [sum(p.numel() for p in a.banks.parameters()) for a in (low, full)]
    assert sizes == [2 * (4 * 32 + 4 * 16 + 16), 2 * (32 * 16 + 16)]
