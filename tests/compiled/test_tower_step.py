"""Adapters in a tower that runs as one step, against the plain path; whole batches and parts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, adapt
from mdlora.adapters.low_rank import LowRankUpdate
from mdlora.compiled import has_numba, plain_only
from mdlora.config import MLoRA, MoEMLoRA
from mdlora.layers import MLP, ReLUDropout, tower_parts, tower_step

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


def seed_dropout(adapted: AdaptedModel) -> None:
    for module in adapted.modules():
        if isinstance(module, ReLUDropout):
            module.generator = torch.Generator().manual_seed(5)


def outcome(adapted: AdaptedModel, x: Tensor, domain: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Output and gradients, from the same random bytes each time."""
    seed_dropout(adapted)
    start = x.clone().requires_grad_()
    y = adapted(start, domain=domain)
    y.backward(grad)
    found = {n: p.grad for n, p in adapted.named_parameters() if p.grad is not None}
    assert start.grad is not None
    return {**found, "x": start.grad, "y": y.detach()}


def check_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert set(got) == set(want)
    for what, tensor in got.items():
        scale = max([1.0, *want[what].abs().flatten().tolist()])
        torch.testing.assert_close(
            tensor, want[what], rtol=1e-4, atol=2e-6 * scale, msg=f"{what} differs"
        )


@pytest.fixture(params=[None, 1, 13, 32])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches in parts of so many rows, where they can be taken in parts."""
    size: int | None = request.param
    if size is None:
        return
    monkeypatch.setattr(tower_parts, "_CACHE", 1)
    monkeypatch.setattr(tower_parts, "_FEWEST", size)


@pytest.fixture(params=[None, 1, 14])
def shortest_run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of so many rows have matrices of their own, where rows are in order."""
    shortest: int | None = request.param
    if shortest is not None:
        monkeypatch.setattr(LowRankUpdate, "shortest_run", shortest)


@pytest.mark.usefixtures("part", "shortest_run")
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
    check_same(got, want)


@settings(deadline=None, derandomize=True, max_examples=120)
@given(case=st.data())
def test_rows_of_any_shape_with_anything_learning(case: st.DataObject):
    """Sorted rows with gaps; some layers adapted; some tensors learning; back twice."""
    draw = case.draw
    torch.manual_seed(draw(st.integers(0, 10**6)))
    num, rows = draw(st.integers(1, 6)), draw(st.integers(0, 80))
    widths = draw(st.lists(st.integers(1, 50), min_size=2, max_size=4))
    config = MLoRA(
        num_domains=num, rank=min(draw(st.integers(1, 9)), *widths), bias=draw(st.booleans())
    )
    mlp = MLP(widths[0], tuple(widths[1:]), dropout=draw(st.sampled_from([0.5, 0.2])))
    fast = adapt(mlp, config, targets=draw(st.sampled_from(["*", "linears.0"]))).train()
    learns = draw(st.sampled_from([0.3, 0.7, 1.0]))
    for parameter in fast.parameters():
        nn.init.normal_(parameter, std=0.3).requires_grad_(bool(torch.rand(()) < learns))
    expert = torch.randint(0, num, (rows,)).sort().values
    expert[torch.rand(rows) < draw(st.sampled_from([0, 0.05, 0.5]))] = -1
    x, grad = torch.randn(rows, widths[0]), torch.randn(widths[-1], rows).t()

    def gradients(adapted: AdaptedModel) -> dict[str, Tensor]:
        start = x.clone().requires_grad_()
        seed_dropout(adapted)
        y = adapted(start, domain=torch.zeros(rows, dtype=torch.long), expert=expert)
        found: dict[str, Tensor] = {"y": y.detach()}
        tensors = {"x": start, **dict(adapted.named_parameters())}
        chosen = {name: t for name, t in tensors.items() if t.requires_grad}
        for time, names in enumerate((list(chosen), list(chosen)[-2:])):
            wanted = [chosen[name] for name in names]
            made = torch.autograd.grad(y, wanted, grad, retain_graph=True, allow_unused=True)
            for name, t, g in zip(names, wanted, made, strict=True):
                found[f"{name} {time}"] = torch.zeros_like(t) if g is None else g.to_dense()
        return found

    slow = copy.deepcopy(fast)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LowRankUpdate, "shortest_run", draw(st.sampled_from([1, 9, 1000])))
        patch.setattr(tower_parts, "_CACHE", 1)
        patch.setattr(tower_parts, "_FEWEST", draw(st.sampled_from([1, 5, 1000])))
        got = gradients(fast)
    with plain_only():
        check_same(got, gradients(slow))


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int | None]]:
    """The parts that towers take: rows from, to, and the place of the run's adapter."""
    found: list[tuple[int, int, int | None]] = []
    parts_of = tower_step.parts_of

    def note(x: Tensor, layers: list[Any]) -> list[Any]:
        parts = parts_of(x, layers)
        found.extend((p.first, p.last, None if p.run is None else p.run.matrix) for p in parts)
        return parts

    monkeypatch.setattr(tower_step, "parts_of", note)
    monkeypatch.setattr(tower_parts, "_CACHE", 1)
    monkeypatch.setattr(tower_parts, "_FEWEST", 32)
    return found


def test_parts_are_taken(taken: list[tuple[int, int, int | None]]):
    adapted = tower("own", 0.5)
    domain = torch.randint(0, 8, (75,))
    adapted(torch.randn(75, 9), domain=domain)
    assert taken == [(0, 75, None)]
    taken.clear()
    adapted(torch.randn(75, 9), domain=domain.sort().values)
    assert taken == [(0, 32, None), (32, 64, None), (64, 75, None)]


def test_long_runs_have_matrices_of_their_own_where_the_layers_learn(
    taken: list[tuple[int, int, int | None]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(LowRankUpdate, "shortest_run", 10)
    adapted = tower("own", 0.5)
    sizes = torch.tensor([3, 5, 40, 6, 12])  # of the unknown domain, and of 1, 2, 5, 7
    domain = torch.tensor([0, 1, 2, 5, 7]).repeat_interleave(sizes)
    x = torch.randn(66, 9)
    adapted(x, domain=domain)
    assert taken == [(0, 8, None), (8, 40, 1), (40, 48, 1), (48, 54, None), (54, 66, 3)]
    taken.clear()
    adapted.freeze("module")
    adapted(x, domain=domain)
    assert taken == [(0, 32, None), (32, 64, None), (64, 66, None)]


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
        seed_dropout(adapted)
        torch.manual_seed(7)
        y = adapted(torch.randn(30, 9), domain=torch.arange(30) % 8)
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            y.sum().backward()
        found.append({n: p.grad for n, p in adapted.named_parameters()})
    for name, grad in found[0].items():
        assert grad is not None
        assert grad.dtype is torch.float32
        torch.testing.assert_close(found[1][name], grad, rtol=2e-2, atol=2e-2, msg=name)
