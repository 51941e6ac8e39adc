"""Compiled low-rank updates against the plain path in float64, gradients too."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, ExpertRoute, MixtureRoute, adapt
from mdlora.adapters.kernels import update
from mdlora.adapters.low_rank import BankArrays, LowRankUpdate
from mdlora.adapters.mixed import MixedUpdate
from mdlora.compiled import has_numba, plain_only
from mdlora.config import MLoRA, MoEMLoRA
from mdlora.errors import AdapterError
from mdlora.training.bank_adam import BankAdam

pytestmark = pytest.mark.skipif(not has_numba(), reason="numba is not installed")


def draw(make: torch.Generator, *size: int) -> Tensor:
    return torch.randn(size, generator=make)


def close(got: Tensor | None, want: Tensor | None, like: Tensor) -> None:
    want = torch.zeros_like(like, dtype=torch.float64) if want is None else want
    assert got is not None
    got = got.to_dense() if got.is_sparse else got
    scale = max(1.0, float(want.abs().max())) if want.numel() else 1.0
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=2e-6 * scale)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 40),
    num=st.integers(1, 9),
    rank=st.integers(1, 9),
    width=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    per_row=st.integers(1, 3),
    bias=st.booleans(),
    kind=st.sampled_from(["ones", "weighted", "mixture"]),
    sparse=st.booleans(),
    part=st.integers(1, 50),
    rising=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_updates_and_gradients_equal_the_plain_path(
    rows: int, num: int, rank: int, width: tuple[int, int], per_row: int, bias: bool, kind: str,
    sparse: bool, part: int, rising: bool, seed: int,
):  # fmt: skip
    make = torch.Generator().manual_seed(seed)
    ins, outs = width
    experts = torch.rand(rows, num + 1, generator=make).argsort(1)[:, : min(per_row, num)] - 1
    if rising:
        experts = experts[:, :1].sort(0).values
    x, z, grad = draw(make, rows, ins), draw(make, rows, outs), draw(make, rows, outs)
    tensors: list[Any] = [draw(make, num, rank, n).requires_grad_() for n in (ins, outs)]
    tensors.append(draw(make, num, outs).requires_grad_() if bias else None)
    weights = draw(make, rows, num if kind == "mixture" else experts.shape[1]).abs()
    tensors.append(None if kind == "ones" else weights)

    def route_of(w: Tensor | None) -> Any:
        if kind == "mixture":
            return MixtureRoute(w if w is not None else weights)
        return ExpertRoute(experts, num, w)

    route = route_of(tensors[3])
    mine: Any
    if kind == "mixture":
        mine = MixedUpdate(*tensors[:3], route)
    else:
        mine = LowRankUpdate(*tensors[:3], route, sparse=sparse)
    got, of_x = z.clone(), draw(make, rows, ins)
    before = of_x.clone()
    assert mine.in_parts or not rising
    mine.check(rows, ins, outs)
    parts = [(0, slice(None))]
    if mine.in_parts:
        parts = [(at, slice(at, at + part)) for at in range(0, rows, part)]
    for first, some in parts:
        mine.add(got[some], x[some], first)
    back = mine.back([t is not None for t in tensors])
    for first, some in parts:
        back.pass_back(grad[some], x[some], of_x[some], first)
    grads = back.gradients()

    exact = [None if t is None else t.detach().double().requires_grad_() for t in (x, *tensors)]
    with plain_only():
        want = update(*exact[:4], route_of(exact[4]), z.double())
    want.backward(grad.double())
    close(got, want.detach(), got)
    close(of_x - before, None if exact[0] is None else exact[0].grad, of_x)
    for made, like in zip(grads, exact[1:], strict=True):
        if like is None:
            assert made is None
        else:
            close(made, like.grad, like)


def test_an_adapter_that_is_not_there_is_refused():
    route = ExpertRoute(torch.tensor([[0], [5]]), 5)
    with pytest.raises(AdapterError, match="1 row name an adapter above 4"):
        route.pairs()


def tower(config: MLoRA) -> AdaptedModel:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(9, 20), nn.Tanh(), nn.Linear(20, 17, bias=False), nn.Tanh())
    adapted = adapt(net, config, targets="*")
    for parameter in adapted.adapter_parameters():
        nn.init.normal_(parameter, std=0.3)
    return adapted


CONFIGS = {
    "own": MLoRA(num_domains=7, rank=3),
    "gate": MoEMLoRA(num_domains=7, rank=3),
    "top-2": MoEMLoRA(num_domains=7, rank=3, top_k=2, gate="input"),
}


@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("frozen", [False, True])
def test_a_module_learns_and_scores_as_on_the_plain_path(name: str, frozen: bool):
    fast = tower(CONFIGS[name])
    if frozen:
        fast.freeze("module")
    slow = copy.deepcopy(fast)
    x = torch.randn(50, 9, requires_grad=not frozen)
    domain = torch.randint(0, 8, (50,))
    out = fast(x, domain=domain)
    with plain_only():
        want = slow(x, domain=domain)
    torch.testing.assert_close(out, want, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(fast(x, domain=domain), want.detach(), rtol=1e-5, atol=1e-5)
    out.square().sum().backward()
    want.square().sum().backward()
    others = dict(slow.named_parameters())
    for part, parameter in fast.named_parameters():
        if others[part].grad is None:
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, others[part].grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_second_derivatives_are_those_of_the_plain_path(name: str):
    fast = tower(CONFIGS[name])
    slow = copy.deepcopy(fast)
    x = torch.randn(20, 9, requires_grad=True)
    domain = torch.randint(0, 8, (20,))
    found = []
    for adapted in (fast, slow):
        with plain_only() if adapted is slow else torch.enable_grad():
            (grad,) = torch.autograd.grad(adapted(x, domain=domain).sum(), x, create_graph=True)
            grad.square().sum().backward()
        found.append({n: p.grad for n, p in adapted.named_parameters()})
    for part, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][part], rtol=1e-4, atol=1e-4)


def test_other_hooks_see_the_output_as_it_was():
    seen: list[Tensor] = []
    net = nn.Sequential(nn.Linear(5, 4))
    net[0].register_forward_hook(lambda layer, inputs, output: seen.append(output))
    adapted = adapt(net, MLoRA(num_domains=2, rank=1), targets="*")
    for parameter in adapted.adapter_parameters():
        nn.init.ones_(parameter)
    x = torch.randn(6, 5)
    with torch.no_grad():
        out = adapted(x, domain=torch.ones(6, dtype=torch.int64))
    torch.testing.assert_close(seen[0], torch.nn.functional.linear(x, net[0].weight, net[0].bias))
    assert not torch.equal(seen[0], out)


def test_gradients_leave_out_adapters_without_rows_where_they_may():
    adapted = tower(MLoRA(num_domains=10_000, rank=2))
    domain = torch.tensor([5, 9, 5, 0])
    adapted.give_sparse_gradients(True)
    adapted(torch.randn(4, 9), domain=domain).sum().backward()
    grad = adapted.bank_of(0).down.grad
    assert isinstance(grad, Tensor)
    assert grad.is_sparse
    assert grad.coalesce().indices().tolist() == [[4, 8]]
    used = adapted.experts_used()
    assert used is not None
    assert used.nonzero().flatten().tolist() == [4, 8]


@pytest.mark.parametrize("sparse", [False, True])
def test_adam_steps_some_adapters_as_the_plain_path_does(sparse: bool):
    make = torch.Generator().manual_seed(1)
    start = [draw(make, 6, 3, 5), draw(make, 6, 7)]
    made = []
    for plain in (False, True):
        parameters = [nn.Parameter(t.clone()) for t in start]
        adam = BankAdam(parameters, lr=0.1)
        draws = torch.Generator().manual_seed(2)
        for active in ([1, 4], [0, 1, 2, 3, 4, 5], [4], [1, 3, 4]):
            mask = torch.zeros(6, dtype=torch.bool)
            mask[active] = True
            adam.zero_grad()
            for parameter in parameters:
                grad = draw(draws, *parameter.shape) * mask.view(-1, *[1] * (parameter.dim() - 1))
                grad[active[-1]] = 0.0  # named active, though its gradient is not there
                rows = torch.tensor(active[:-1], dtype=torch.int64)
                if sparse:
                    grad = torch.sparse_coo_tensor(
                        rows[None], grad[rows], grad.shape, check_invariants=False
                    )
                parameter.grad = grad
            if plain:
                with plain_only():
                    adam.step(mask)
            else:
                adam.step(mask)
        made.append([*parameters, *adam.tensors().values()])
    for got, want in zip(*made, strict=True):
        torch.testing.assert_close(got, want, rtol=2e-6, atol=1e-6)


def test_arrays_follow_tensors_that_move():
    down, up, bias = (nn.Parameter(torch.ones(2, 3, n)) for n in (4, 5, 6))
    kept = BankArrays()
    before = kept.of(down, up, bias)
    assert before[0].shape == (6, 4)
    assert kept.of(down, up, bias)[0] is before[0]
    down.data.mul_(2)  # in place
    assert kept.of(down, up, bias)[0].max() == 2
    down.data = torch.full((2, 3, 4), 7.0)
    assert kept.of(down, up, bias)[0].max() == 7
    down.data = down.data[:1]  # the same place, fewer adapters
    assert kept.of(down, up, bias)[0].shape == (3, 4)


def test_a_copy_of_an_adapted_model_has_arrays_of_its_own():
    torch.manual_seed(0)
    model = adapt(nn.Sequential(nn.Linear(4, 3)), MLoRA(num_domains=2), targets="0")
    x, domain = torch.randn(6, 4), torch.tensor([1, 2] * 3)
    model(x, domain=domain)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.bank_of(0).up.fill_(1.0)
    with plain_only():
        mine, others = model(x, domain=domain), other(x, domain=domain)
    assert not torch.allclose(mine, others)
    torch.testing.assert_close(model(x, domain=domain), mine)
    torch.testing.assert_close(other(x, domain=domain), others)
