"""The layer's product taken over by one with W + A_k B_k, against the formula in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, ExpertRoute, adapt
from mdlora.adapters import routed as adapted_module
from mdlora.adapters.kernels import can_merge, merged
from mdlora.compiled import plain_only
from mdlora.config import MLoRA
from mdlora.errors import AdapterError


@pytest.fixture(autouse=True)
def _without_kernels() -> Iterator[None]:
    """Compiled kernels come first where they can run."""
    with plain_only():
        yield


def by_definition(
    x: Tensor, weight: Tensor, own: Tensor | None, down: Tensor, up: Tensor, bias: Tensor | None,
    experts: Tensor,
) -> Tensor:  # fmt: skip
    """Row by row: x W + b, and x A_k B_k + c_k where the row has an adapter k."""
    rows = []
    for row, expert in zip(x, experts.tolist(), strict=True):
        total = row @ weight.T
        if own is not None:
            total = total + own
        if expert >= 0:
            total = total + (row @ down[expert].T) @ up[expert]
            if bias is not None:
                total = total + bias[expert]
        rows.append(total)
    return torch.stack(rows)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 90),
    num=st.integers(1, 6),
    rank=st.integers(1, 5),
    width=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    first=st.integers(-1, 1),
    biases=st.tuples(st.booleans(), st.booleans()),
    learns=st.lists(st.booleans(), min_size=6, max_size=6),
    seed=st.integers(0, 10_000),
)
def test_output_and_gradients_equal_the_definition(
    rows: int, num: int, rank: int, width: tuple[int, int], first: int,
    biases: tuple[bool, bool], learns: list[bool], seed: int,
):  # fmt: skip
    make = torch.Generator().manual_seed(seed)
    ins, outs = 4 * width[0], 4 * width[1]
    sizes = [(rows, ins), (outs, ins), (outs,), (num, rank, ins), (num, rank, outs), (num, outs)]
    tensors: list[Any] = [torch.randn(size, generator=make) for size in sizes]
    tensors[2] = tensors[2] if biases[0] else None
    tensors[5] = tensors[5] if biases[1] else None
    low = min(first, num - 1)  # from 1, so that adapter 0 has no rows; from -1, some have none
    experts = torch.randint(low, num, (rows,), generator=make).sort().values
    grad = torch.randn(rows, outs, generator=make)
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [None if t is None else t.detach().to(dtype, copy=True) for t in tensors]
        chosen = [t.requires_grad_() for t, on in zip(leaves, learns, strict=True)
                  if on and t is not None]  # fmt: skip
        if dtype == torch.float32:
            out = merged(*leaves, ExpertRoute(experts.unsqueeze(1), num))
        else:
            out = by_definition(*leaves, experts)
        if chosen:
            out.backward(grad.to(dtype))
        results.append([out.detach(), *(t.grad for t in chosen)])
    for got, want in zip(*results, strict=True):
        want = torch.zeros_like(got, dtype=torch.float64) if want is None else want
        scale = max(1.0, float(want.abs().max()))
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5 * scale)


def route_of(experts: list[int], num: int) -> ExpertRoute:
    return ExpertRoute(torch.tensor(experts).unsqueeze(1), num)


def test_where_the_runs_of_sorted_rows_end():
    runs = route_of([0, 0, 2, 2, 2], 4).runs()
    assert runs is not None
    assert runs.ends.tolist() == [2, 2, 5, 5]
    assert not runs.without
    runs = route_of([-1, 0, 2], 3).runs()
    assert runs is not None
    assert runs.ends.tolist() == [1, 2, 2, 3]
    assert runs.without
    assert route_of([0, 2, 1], 3).runs() is None
    assert ExpertRoute(torch.zeros(3, 2, dtype=torch.int64), 3).runs() is None
    assert ExpertRoute(torch.zeros(3, 1, dtype=torch.int64), 3, torch.ones(3, 1)).runs() is None


def test_when_the_layer_is_taken_over():
    x, weight = torch.randn(64, 8), torch.randn(4, 8)
    route = route_of([0] * 30 + [1] * 34, 2)
    assert can_merge(x, weight, route)
    assert not can_merge(x[:63], weight, route_of([0] * 30 + [1] * 33, 2))  # too few rows for two
    wide = torch.randn(400, 400)  # 400 * 400 / (2 * 800) = 100 rows an adapter
    assert can_merge(torch.randn(200, 400), wide, route_of([0] * 100 + [1] * 100, 2))
    assert not can_merge(torch.randn(199, 400), wide, route_of([0] * 99 + [1] * 100, 2))
    assert not can_merge(x[:, :7], weight[:, :7], route)  # 28 bytes a row
    assert not can_merge(x, weight[:3], route)
    assert not can_merge(x.double(), weight.double(), route)
    assert not can_merge(x, weight, ExpertRoute(route.experts, 2, torch.ones(64, 1)))
    with torch.no_grad():
        assert not can_merge(x, weight, route)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not can_merge(x, weight, route)
    with pytest.raises(AdapterError, match="said to be sorted, but they are not: sort the batch"):
        can_merge(x, weight, route_of([1] * 34 + [0] * 30, 2))


@pytest.fixture
def adapted() -> AdaptedModel:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4, bias=False), nn.Linear(4, 1))
    adapted = adapt(net, MLoRA(num_domains=3, rank=2), targets="[02]")
    for parameter in adapted.banks.parameters():
        nn.init.normal_(parameter, std=0.3)
    return adapted


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each layer that asked was taken over."""
    answers: list[bool] = []

    def counted(*args: Any) -> bool:
        answers.append(can_merge(*args))
        return answers[-1]

    monkeypatch.setattr(adapted_module, "can_merge", counted)
    return answers


def rows_of(low: int) -> tuple[Tensor, Tensor]:
    domain = torch.randint(low, 4, (200,), generator=torch.Generator().manual_seed(1))
    return torch.randn(200, 8, generator=torch.Generator().manual_seed(2)), domain.sort().values


@pytest.mark.parametrize("low", [0, 1], ids=["with-unknown", "all-known"])
def test_sorted_rows_train_as_others(adapted: AdaptedModel, taken: list[bool], low: int):
    x, domain = rows_of(low)
    twin = copy.deepcopy(adapted)
    fast = adapted(x, domain=domain, sorted_rows=True)
    assert taken == [True, True]
    slow = twin(x, domain=domain)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    fast.square().sum().backward()
    slow.square().sum().backward()
    slow_grads = dict(twin.named_parameters())
    for name, parameter in adapted.named_parameters():
        torch.testing.assert_close(parameter.grad, slow_grads[name].grad, rtol=1e-4, atol=1e-4)
    assert taken == [True, True]


def test_scores_do_not_depend_on_sorting(adapted: AdaptedModel, taken: list[bool]):
    x, domain = rows_of(0)
    with torch.no_grad():
        assert torch.equal(
            adapted(x, domain=domain, sorted_rows=True), adapted(x, domain=domain)
        )  # fmt: skip
    assert taken == []  # only steps that learn are taken over


def test_rows_that_are_not_sorted_are_refused(adapted: AdaptedModel):
    x, domain = rows_of(0)
    with pytest.raises(AdapterError, match="not: sort the batch by expert"):
        adapted(x, domain=domain.flip(0), sorted_rows=True)


def test_second_derivatives_raise_on_sorted_rows(adapted: AdaptedModel):
    x, domain = rows_of(1)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(adapted(x, domain=domain).sum(), x, create_graph=True)
    grad.square().sum().backward()
    out = adapted(x, domain=domain, sorted_rows=True).sum()
    with pytest.raises(RuntimeError, match=r"first derivatives only.*leave out sorted_rows"):
        torch.autograd.grad(out, x, create_graph=True)


def test_other_layers_and_layers_with_hooks_are_left_alone(taken: list[bool]):
    class Twice(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    seen: list[int] = []
    net = nn.Sequential(Twice(8, 4), nn.Linear(4, 4))
    net[1].register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
    x, domain = torch.randn(64, 8), torch.ones(64, dtype=torch.int64)
    want = net(x)
    adapted = adapt(net, MLoRA(num_domains=1, rank=1), targets="*")
    torch.testing.assert_close(adapted(x, domain=domain, sorted_rows=True), want)
    assert taken == []
    assert seen == [64, 64]
