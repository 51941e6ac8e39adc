"""Adapters in a tower that runs as one step, against the plain path; whole batches and parts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, adapt
from mdlora.compiled import has_numba, plain_only
from mdlora.config import MLoRA, MoEMLoRA
from mdlora.layers import MLP, ReLUDropout, tower_step

pytestmark = pytest.mark.skipif(not has_numba(), reason="numba is not installed")

CONFIGS = {
    "own": MLoRA(num_domains=7, rank=3),
    "no bias": MLoRA(num_domains=7, rank=5, bias=False),
    "gate": MoEMLoRA(num_domains=7, rank=3),
    "input gate": MoEMLoRA(num_domains=7, rank=3, gate="input"),
    "top-2": MoEMLoRA(num_domains=7, rank=3, top_k=2),
}


def tower(name: str, dropout: float) -> AdaptedModel:
    torch.manual_seed(3)
    adapted = adapt(MLP(9, (40, 21, 12), dropout=dropout), CONFIGS[name], targets="*")
    for parameter in adapted.parameters():
        nn.init.normal_(parameter, std=0.3)
    return adapted.train()


def outcome(adapted: AdaptedModel, x: Tensor, domain: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Output and gradients, from the same random bytes each time."""
    for module in adapted.modules():
        if isinstance(module, ReLUDropout):
            module.generator = torch.Generator().manual_seed(5)
    given = x.clone().requires_grad_()
    y = adapted(given, domain=domain)
    y.backward(grad)
    found = {n: p.grad for n, p in adapted.named_parameters() if p.grad is not None}
    assert given.grad is not None
    return {**found, "x": given.grad, "y": y.detach()}


@pytest.fixture(params=[None, 1, 13, 32])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches in parts of so many rows, where they can be taken in parts."""
    size: int | None = request.param
    if size is None:
        return
    monkeypatch.setattr(tower_step, "_CACHE", 1)
    monkeypatch.setattr(tower_step, "_FEWEST", size)


@pytest.mark.usefixtures("part")
@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("frozen", ["", "module", "experts", "gates"])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_it_learns_as_the_plain_path(name: str, frozen: str, in_order: bool):
    if frozen == "gates" and not isinstance(CONFIGS[name], MoEMLoRA):
        pytest.skip("there is no gate")
    fast = tower(name, 0.5)
    if frozen:
        fast.freeze(frozen)
    slow = copy.deepcopy(fast)
    x, grad = torch.randn(75, 9), torch.randn(75, 12)
    domain = torch.randint(0, 8, (75,))
    domain = domain.sort().values if in_order else domain
    got = outcome(fast, x, domain, grad)
    with plain_only():
        want = outcome(slow, x, domain, grad)
    assert set(got) == set(want)
    for what, tensor in got.items():
        scale = max(1.0, float(want[what].abs().max()))
        torch.testing.assert_close(
            tensor, want[what], rtol=1e-4, atol=2e-6 * scale, msg=f"{what} differs"
        )


def test_parts_are_taken(monkeypatch: pytest.MonkeyPatch):
    sizes = []
    step = tower_step.DrawnReLU.keep

    def keep(self: object, z: Tensor, *rest: object) -> None:
        sizes.append(z.shape[0])
        step(self, z, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tower_step.DrawnReLU, "keep", keep)
    monkeypatch.setattr(tower_step, "_CACHE", 1)
    monkeypatch.setattr(tower_step, "_FEWEST", 32)
    adapted = tower("own", 0.5)
    domain = torch.randint(0, 8, (75,))
    adapted(torch.randn(75, 9), domain=domain)
    assert sizes == [75] * 3
    sizes.clear()
    adapted(torch.randn(75, 9), domain=domain.sort().values)
    assert sizes == [32] * 6 + [11] * 3


@pytest.mark.parametrize("learns", ["linears.1.weight", "linears.2.bias", "linears.0.bias"])
def test_the_way_back_ends_where_nothing_learns_below(learns: str):
    mlp = MLP(6, (16, 12, 8), dropout=0.5).train()
    for name, parameter in mlp.named_parameters():
        parameter.requires_grad_(name == learns)
    mlp(torch.randn(40, 6)).sum().backward()
    assert [n for n, p in mlp.named_parameters() if p.grad is not None] == [learns]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_way_back_under_autocast_is_that_without(dropout: float):
    found = []
    for inside in (False, True):
        adapted = tower("own", dropout)
        for module in adapted.modules():
            if isinstance(module, ReLUDropout):
                module.generator = torch.Generator().manual_seed(5)
        torch.manual_seed(7)
        y = adapted(torch.randn(30, 9), domain=torch.arange(30) % 8)
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            y.sum().backward()
        found.append({n: p.grad for n, p in adapted.named_parameters()})
    for name, grad in found[0].items():
        assert grad is not None
        assert grad.dtype is torch.float32
        torch.testing.assert_close(found[1][name], grad, rtol=2e-2, atol=2e-2, msg=name)
