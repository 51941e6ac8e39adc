from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, ExpertRoute, MixtureRoute, adapt
from mdlora.adapters.kernels import choose_kernel
from mdlora.config import MLoRA, MoEMLoRA

DOMAINS = 11


def tower(*, bias: bool = True) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        layers = (nn.Linear(9, 8, bias=bias), nn.Tanh(), nn.Linear(8, 6, bias=bias), nn.Tanh())
        return nn.Sequential(*layers, nn.Linear(6, 1)).double()


def shake(adapted: AdaptedModel, seed: int = 5) -> AdaptedModel:
    """Give every adapter and gate random values, as if trained."""
    make = torch.Generator().manual_seed(seed)
    for p in [*adapted.banks.parameters(), *adapted.gates.parameters()]:
        p.data = torch.randn(p.shape, dtype=p.dtype, generator=make) * 0.5
    return adapted


def row_by_row(adapted: AdaptedModel, x: Tensor, weights: list[list[float]]) -> Tensor:
    """The tower of `tower()` on each row alone, weights[i][k] of adapter k in both layers."""
    net: Any = adapted.module
    rows = []
    for i, h in enumerate(x):
        for layer, bank in zip((net[0], net[2]), adapted.banks, strict=True):
            y = h @ layer.weight.T
            if layer.bias is not None:
                y = y + layer.bias
            for k, w in enumerate(weights[i]):
                if w:
                    c = 0.0 if bank.bias is None else bank.bias[k]
                    y = y + w * (h @ bank.down[k].T @ bank.up[k] + c)
            h = torch.tanh(y)
        rows.append(h @ net[4].weight.T + net[4].bias)
    return torch.stack(rows)


def one_hot(domain: Tensor, num_domains: int = DOMAINS, m: int = 1) -> list[list[float]]:
    """Expert k belongs to domain k mod D; ids start at 1; 0 has none."""
    return [
        [1 / m if d > 0 and k % num_domains == d - 1 else 0.0 for k in range(num_domains * m)]
        for d in domain.tolist()
    ]


def rows_of(count: int, middle: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    make = torch.Generator().manual_seed(count)
    x = torch.randn(count, *middle, 9, dtype=torch.float64, generator=make)
    domain = torch.randint(0, DOMAINS + 1, (count,), generator=make)
    if count > 1:
        domain[:2] = torch.tensor([0, DOMAINS])
    return x, domain


def assert_gradients_close(out: Tensor, expected: Tensor, adapted: AdaptedModel) -> None:
    parameters = [*adapted.banks.parameters(), *adapted.module.parameters()]
    grad = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1))
    got = torch.autograd.grad(out, parameters, grad)
    want = torch.autograd.grad(expected, parameters, grad)
    for a, b in zip(got, want, strict=True):
        scale = max(1.0, float(b.abs().max()))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.parametrize("middle", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("count", "rank", "kernel"),
    [(1, 1, "masked"), (40, 2, "masked"), (200, 2, "masked"), (7, 6, "gathered"),
     (200, 6, "segmented")],
)  # fmt: skip
def test_each_row_meets_its_own_domains_adapter(
    count: int, rank: int, kernel: str, bias: bool, middle: tuple[int, ...]
):
    rows = count * torch.Size(middle).numel()
    assert choose_kernel(rows, DOMAINS, rank) == kernel
    config = MLoRA(num_domains=DOMAINS, rank=rank, bias=bias)
    adapted = shake(AdaptedModel(tower(bias=bias), config, targets="[02]"))
    x, domain = rows_of(count, middle)
    out = adapted(x, domain=domain)
    expected = row_by_row(adapted, x, one_hot(domain))
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    assert_gradients_close(out, expected, adapted)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    domain=st.lists(st.integers(0, 14), min_size=1, max_size=80),
    rank=st.integers(1, 6),
    middle=st.sampled_from([(), (1,), (4,)]),
    m=st.integers(1, 3),
)
def test_any_mix_of_domains(domain: list[int], rank: int, middle: tuple[int, ...], m: int):
    config = MoEMLoRA(num_domains=14, rank=rank, experts_per_domain=m)
    adapted = shake(AdaptedModel(tower(), config, targets="[02]"))
    adapted.route_mode = "own"
    x = torch.randn(len(domain), *middle, 9, dtype=torch.float64)
    ids = torch.tensor(domain)
    expected = row_by_row(adapted, x, one_hot(ids, 14, m))
    torch.testing.assert_close(adapted(x, domain=ids), expected, rtol=1e-12, atol=1e-12)


def test_a_rows_expert_can_be_named():
    adapted = shake(
        AdaptedModel(tower(), MoEMLoRA(num_domains=4, experts_per_domain=3, rank=2), targets="[02]")
    )
    adapted.route_mode = "own"
    x, _ = rows_of(6)
    domain, expert = torch.tensor([1, 1, 4, 4, 0, 2]), torch.tensor([0, 8, 3, 11, -1, 1])
    weights = [[1.0 if k == e else 0.0 for k in range(12)] for e in expert.tolist()]
    out = adapted(x, domain=domain, expert=expert)
    torch.testing.assert_close(out, row_by_row(adapted, x, weights), rtol=1e-12, atol=1e-12)


def test_an_unknown_domain_gets_the_backbone_alone():
    adapted = shake(AdaptedModel(tower(), MLoRA(num_domains=DOMAINS, rank=6), targets="[02]"))
    x, _ = rows_of(90)
    plain = tower()(x)
    zero = torch.zeros(90, dtype=torch.int64)
    torch.testing.assert_close(adapted(x, domain=zero), plain, rtol=1e-14, atol=1e-14)
    assert not torch.allclose(adapted(x, domain=zero + 1), plain)


def test_route_none_is_the_backbone_to_the_bit():
    adapted = shake(AdaptedModel(tower(), MLoRA(num_domains=DOMAINS, rank=6), targets="[02]"))
    x, domain = rows_of(30)
    adapted.route_mode = "none"
    assert torch.equal(adapted(x, domain=domain), tower()(x))


@pytest.mark.parametrize("rank", [2, 6])
def test_mixture_of_experts_on_its_one_hot_route_is_mlora(rank: int):
    mlora = shake(AdaptedModel(tower(), MLoRA(num_domains=DOMAINS, rank=rank), targets="[02]"))
    moe = AdaptedModel(tower(), MoEMLoRA(num_domains=DOMAINS, rank=rank), targets="[02]")
    moe.banks.load_state_dict(mlora.banks.state_dict())
    x, domain = rows_of(150)
    assert not torch.allclose(moe(x, domain=domain), mlora(x, domain=domain))  # by the gate
    moe.route_mode = "own"
    assert torch.equal(moe(x, domain=domain), mlora(x, domain=domain))
    # And the bank itself, on a mixture whose weights are ones and zeros.
    weights = torch.tensor(one_hot(domain), dtype=torch.float64)
    bank, h = mlora.banks[0], x
    by_expert = bank(h, ExpertRoute(domain.unsqueeze(1) - 1, DOMAINS))
    torch.testing.assert_close(bank(h, MixtureRoute(weights)), by_expert, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32])
@pytest.mark.parametrize("rank", [2, 6])
def test_ids_of_any_integer_type(kind: torch.dtype, rank: int):
    adapted = shake(adapt(tower(), MLoRA(num_domains=DOMAINS, rank=rank), targets="[02]"))
    for count in (20, 200):
        x, domain = rows_of(count)
        assert torch.equal(adapted(x, domain=domain.to(kind)), adapted(x, domain=domain))


@pytest.mark.parametrize("rank", [2, 6])
def test_no_rows_at_all(rank: int):
    adapted = shake(adapt(tower(), MLoRA(num_domains=DOMAINS, rank=rank), targets="[02]"))
    out = adapted(torch.empty(0, 9, dtype=torch.float64), domain=torch.empty(0, dtype=torch.int64))
    assert out.shape == (0, 1)


def test_which_experts_a_pass_used():
    adapted = AdaptedModel(tower(), MoEMLoRA(num_domains=3, experts_per_domain=2, rank=1),
                           targets="[02]")  # fmt: skip
    adapted.route_mode = "own"
    x, domain = torch.randn(4, 9, dtype=torch.float64), torch.tensor([0, 3, 1, 1])
    assert adapted.experts_used() is None  # no pass yet
    adapted(x, domain=domain)
    assert adapted.experts_used().tolist() == [True, False, True, True, False, True]
    adapted(x, domain=domain, expert=torch.tensor([-1, 5, 0, 0]))
    assert adapted.experts_used().tolist() == [True, False, False, False, False, True]
    adapted(x, domain=domain, expert=torch.tensor([-1, 0, 0, 5]))  # sorted
    assert adapted.experts_used().tolist() == [True, False, False, False, False, True]
    adapted.route_mode = "gate"
    adapted(x, domain=domain)
    assert adapted.experts_used() is None  # all of them


def test_which_experts_the_top_k_of_a_gate_used():
    config = MoEMLoRA(num_domains=4, rank=1, top_k=1, gate_own_weight=0.9)
    adapted = AdaptedModel(tower(), config, targets="[02]")
    domain = torch.tensor([0, 4, 2, 2])
    adapted(torch.randn(4, 9, dtype=torch.float64), domain=domain)
    assert adapted.experts_used().tolist() == [False, True, False, True]
