from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, ExpertRoute, Gate, MixtureRoute
from mdlora.config import MoEMLoRA

D = 5
Tower = Callable[..., nn.Sequential]
Trained = Callable[[AdaptedModel], AdaptedModel]


def gate(**settings: Any) -> Gate:
    made = Gate(MoEMLoRA(**settings), D, nn.Linear(9, 8).double())
    make = torch.Generator().manual_seed(3)
    for p in made.parameters():
        p.data = torch.randn(p.shape, dtype=p.dtype, generator=make)
    return made


def inputs(rows: int = 12, *middle: int) -> tuple[Tensor, Tensor]:
    make = torch.Generator().manual_seed(7)
    domain = torch.randint(0, D + 1, (rows,), generator=make)
    domain[:3] = torch.tensor([0, 1, D])
    return domain, torch.randn(rows, *middle, 9, dtype=torch.float64, generator=make)


def by_definition(made: Gate, domain: int, x: Tensor, *, m: int, own: float | None) -> Tensor:
    """softmax(V z + prior) of one row; the prior lifts own experts to share `own` at V = 0."""
    z = made.embedding.weight[domain]
    if made.sees_input:
        z = torch.cat([z, x])
    logits = made.linear.weight @ z + made.linear.bias
    if own is not None and domain > 0:
        prior = [0.0] * (D * m)
        for k in range(domain - 1, D * m, D):
            prior[k] = math.log(own / m / ((1 - own) / ((D - 1) * m)))
        logits = logits + torch.tensor(prior, dtype=torch.float64)
    weights = torch.exp(logits - logits.max())
    return weights / weights.sum()


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("sees", ["domain", "input"])
@pytest.mark.parametrize("init", ["own", "uniform"])
@pytest.mark.parametrize("unknown", ["backbone", "gate"])
def test_weights_equal_the_formula(m: int, sees: str, init: str, unknown: str):
    made = gate(
        gate=sees, experts_per_domain=m, gate_init=init, gate_own_weight=0.7,
        unknown_domain=unknown,
    )  # fmt: skip
    domain, x = inputs()
    weights = made(domain, x).mixture(torch.float64)
    for i, d in enumerate(domain.tolist()):
        want = by_definition(made, d, x[i], m=m, own=0.7 if init == "own" else None)
        if d == 0 and unknown == "backbone":
            want = torch.zeros(D * m, dtype=torch.float64)
        torch.testing.assert_close(weights[i], want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("sees", ["domain", "input"])
def test_a_fresh_gate_gives_own_experts_the_stated_weight(m: int, share: float, sees: str):
    made = Gate(
        MoEMLoRA(gate=sees, experts_per_domain=m, gate_own_weight=share), D,
        nn.Linear(9, 8).double(),
    )  # fmt: skip
    domain, x = inputs()
    weights = made(domain, x).mixture(torch.float64)
    for row, d in zip(weights, domain.tolist(), strict=True):
        for k in range(D * m):
            want = 0.0 if d == 0 else share / m if k % D == d - 1 else (1 - share) / (D - 1) / m
            assert row[k].item() == pytest.approx(want, rel=1e-12, abs=0)


def test_a_fresh_uniform_gate_is_even():
    made = Gate(MoEMLoRA(gate_init="uniform", experts_per_domain=2), D, nn.Linear(9, 8).double())
    weights = made(torch.arange(1, D + 1), torch.empty(0)).mixture(torch.float64)
    torch.testing.assert_close(weights, torch.full((D, 2 * D), 1 / (2 * D), dtype=torch.float64))


def test_a_single_domain_has_all_the_weight():
    made = Gate(MoEMLoRA(), 1, nn.Linear(9, 8).double())
    assert made(torch.tensor([1, 0]), torch.empty(0)).mixture(torch.float64).tolist() == [[1], [0]]


@pytest.mark.parametrize("sees", ["domain", "input"])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_is_exactly_zero_elsewhere_and_sums_to_one(sees: str, k: int):
    full, top = gate(gate=sees), gate(gate=sees, top_k=k)
    domain, x = inputs()
    softmax = full(domain, x).mixture(torch.float64)
    route = top(domain, x)
    assert isinstance(route, ExpertRoute)
    weights = route.mixture(torch.float64)
    for row, whole, d in zip(weights, softmax, domain.tolist(), strict=True):
        if d == 0:
            assert row.eq(0).all()
            continue
        best = whole.argsort(descending=True)[:k]
        want = torch.zeros(D, dtype=torch.float64)
        want[best] = whole[best] / whole[best].sum()
        torch.testing.assert_close(row, want, rtol=1e-12, atol=0)
        assert int(row.eq(0).sum()) == D - k
        assert row.sum().item() == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize("sees", ["domain", "input"])
@pytest.mark.parametrize("k", [D, D + 7])
def test_top_k_of_all_is_the_softmax(sees: str, k: int):
    full, top = gate(gate=sees), gate(gate=sees, top_k=k)
    domain, x = inputs()
    assert isinstance(full(domain, x), MixtureRoute)
    torch.testing.assert_close(
        top(domain, x).mixture(torch.float64), full(domain, x).mixture(torch.float64),
        rtol=1e-12, atol=0,
    )  # fmt: skip


def test_top_k_gradients_equal_those_of_the_renormalised_softmax():
    made, domain, x = gate(gate="input", top_k=2, gate_detach=False), *inputs()
    x.requires_grad_()
    make = torch.Generator().manual_seed(1)
    c = torch.randn(len(domain), D, dtype=torch.float64, generator=make)
    parameters = [x, *made.parameters()]
    got = torch.autograd.grad((made(domain, x).mixture(torch.float64) * c).sum(), parameters)
    whole = made.weights(domain, x)
    mask = torch.zeros_like(whole).scatter(1, whole.topk(2).indices, 1.0)
    kept = whole * mask * (domain > 0).unsqueeze(1)
    total = kept.sum(1, keepdim=True)
    want = torch.autograd.grad(((kept / torch.where(total > 0, total, 1.0)) * c).sum(), parameters)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def test_middle_axes_are_averaged_for_the_gate():
    made = gate(gate="input")
    domain, x = inputs(12, 4)
    weights = made(domain, x).mixture(torch.float64)
    torch.testing.assert_close(weights, made(domain, x.mean(1)).mixture(torch.float64))


def run_by_formula(adapted: AdaptedModel, x: Tensor, domain: Tensor, *, detach: bool) -> Tensor:
    """The tower, row by row: each layer's own g, or the first layer's for all."""
    net: Any = adapted.module
    config: Any = adapted.config
    out = []
    for i, h in enumerate(x):
        d, g = int(domain[i]), None
        for index, (layer, bank) in enumerate(zip((net[0], net[2]), adapted.banks, strict=True)):
            if g is None or not config.gate_shared:
                made = adapted.gates[0 if config.gate_shared else index]
                seen = h.detach() if detach else h
                g = by_definition(made, d, seen, m=1, own=0.9) * (d > 0)
            y = layer.weight @ h + layer.bias
            for k in range(D):
                y = y + g[k] * (h @ bank.down[k].T @ bank.up[k] + bank.bias[k])
            h = torch.tanh(y)
        out.append(net[4].weight @ h + net[4].bias)
    return torch.stack(out)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("sees", ["domain", "input"])
def test_a_gate_for_all_layers_and_one_for_each(
    shared: bool, detach: bool, sees: str, make_tower: Tower, trained: Trained
):
    config = MoEMLoRA(num_domains=D, rank=2, gate=sees, gate_shared=shared, gate_detach=detach)
    adapted = trained(AdaptedModel(make_tower(), config, targets="[02]"))
    assert len(adapted.gates) == (1 if shared else 2)
    domain, x = inputs()
    x.requires_grad_()
    out = adapted(x, domain=domain)
    expected = run_by_formula(adapted, x, domain, detach=detach)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    wanted = [x, *adapted.parameters()]
    grad = torch.randn_like(out)
    got = torch.autograd.grad(out, wanted, grad)
    want = torch.autograd.grad(expected, wanted, grad)
    for a, b in zip(got, want, strict=True):
        scale = max(1.0, float(b.abs().max()))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12 * scale)


class Twice(nn.Module):
    """Calls one layer two times in a pass."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.layer, self.head = nn.Linear(9, 9).double(), nn.Linear(9, 1).double()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))
        return out


def twice_by_formula(adapted: AdaptedModel, x: Tensor, domain: Tensor) -> tuple[Tensor, set[int]]:
    """`Twice` row by row, each call by the gate's look at that call's input; experts it used."""
    net: Any = adapted.module
    config: Any = adapted.config
    bank: Any = adapted.banks[0]
    out, used = [], set()
    for i, h in enumerate(x):
        d, g = int(domain[i]), None
        for _ in range(2):
            if g is None or not config.gate_shared:
                g = by_definition(adapted.gates[0], d, h.detach(), m=1, own=0.9) * (d > 0)
                if config.top_k is not None:
                    best = g.topk(config.top_k).indices
                    used |= set(best.tolist()) if d else set()
                    g = torch.zeros_like(g).index_put((best,), g[best] / g[best].sum().clamp(1e-9))
            y = net.layer.weight @ h + net.layer.bias
            for k in range(D):
                y = y + g[k] * (h @ bank.down[k].T @ bank.up[k] + bank.bias[k])
            h = torch.tanh(y)
        out.append(net.head.weight @ h + net.head.bias)
    return torch.stack(out), used


@pytest.mark.parametrize("top_k", [None, 1, 2])
@pytest.mark.parametrize("shared", [True, False])
def test_a_gate_sees_the_input_of_each_call_of_its_layer(
    shared: bool, top_k: int | None, trained: Trained
):
    config = MoEMLoRA(num_domains=D, rank=2, gate="input", gate_shared=shared, top_k=top_k)
    adapted = trained(AdaptedModel(Twice(), config, targets="layer"))
    domain, x = inputs(5)
    out = adapted(x, domain=domain)
    expected, used = twice_by_formula(adapted, x, domain)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    wanted = [*adapted.parameters()]
    got = torch.autograd.grad(out.sum(), wanted)
    for a, b in zip(got, torch.autograd.grad(expected.sum(), wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    experts = adapted.experts_used()
    if top_k is None:
        assert experts is None
    else:
        assert set(experts.nonzero().flatten().tolist()) == used  # of both calls


def test_shared_and_separate_gates_differ(make_tower: Tower, trained: Trained):
    domain, x = inputs()
    outs = []
    for shared in (True, False):
        config = MoEMLoRA(num_domains=D, rank=2, gate_shared=shared, gate="input")
        adapted = trained(AdaptedModel(make_tower(), config, targets="[02]"))
        outs.append(adapted(x, domain=domain))
    assert not torch.allclose(*outs)


@pytest.mark.parametrize(("detach", "flows"), [(True, False), (False, True)])
def test_a_detached_gate_passes_no_gradient_below(detach: bool, flows: bool):
    made = gate(gate="input", gate_detach=detach)
    domain, x = inputs()
    x.requires_grad_()
    (made.weights(domain, x)[:, 0].sum()).backward()
    assert (x.grad is not None and bool(x.grad.ne(0).any())) == flows
    assert made.linear.weight.grad.ne(0).any()
