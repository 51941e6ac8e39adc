from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mdlora.training.bank_adam import BankAdam

K = 4
SHAPES = ((K, 3, 5), (K, 3, 2), (K, 2))


def bank() -> list[nn.Parameter]:
    make = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(s, dtype=torch.float64, generator=make)) for s in SHAPES]


def gradients(steps: int) -> list[list[Tensor]]:
    make = torch.Generator().manual_seed(2)
    return [
        [torch.randn(s, dtype=torch.float64, generator=make) for s in SHAPES] for _ in range(steps)
    ]


def assert_close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("how", ["none", "all true"])
def test_always_active_is_torchs_adam(how: str):
    settings = {"lr": 0.03, "betas": (0.8, 0.99), "eps": 1e-6}
    mine, theirs = bank(), bank()
    ours, adam = BankAdam(mine, **settings), torch.optim.Adam(theirs, **settings)
    active = None if how == "none" else torch.ones(K, dtype=torch.bool)
    for grads in gradients(60):
        for p, q, grad in zip(mine, theirs, grads, strict=True):
            p.grad, q.grad = grad.clone(), grad.clone()
        ours.step(active)
        adam.step()
    for p, q in zip(mine, theirs, strict=True):
        assert_close(p.detach(), q.detach())
    assert ours.steps.tolist() == [60.0] * K


def test_each_expert_is_torchs_adam_on_the_steps_where_it_was_active():
    mine, alone = bank(), bank()
    ours = BankAdam(mine, lr=0.03)
    single = [[nn.Parameter(p[k].detach().clone()) for p in alone] for k in range(K)]
    adams = [torch.optim.Adam(parameters, lr=0.03) for parameters in single]
    make = torch.Generator().manual_seed(3)
    counts = [0] * K
    for grads in gradients(120):
        active = torch.rand(K, generator=make) < torch.tensor([0.9, 0.5, 0.1, 0.0])
        for p, grad in zip(mine, grads, strict=True):
            p.grad = grad.clone()  # the inactive ones' gradients too: they must not count
        ours.step(active)
        for k in active.nonzero().flatten().tolist():
            counts[k] += 1
            for p, grad in zip(single[k], grads, strict=True):
                p.grad = grad[k].clone()
            adams[k].step()
    assert counts[3] == 0
    assert 0 < counts[2] < counts[1] < counts[0]
    assert ours.steps.tolist() == counts
    for k in range(K):
        for p, q in zip(mine, single[k], strict=True):
            assert_close(p[k].detach(), q.detach())


def test_an_expert_without_rows_does_not_move_nor_its_moments_nor_its_clock():
    mine = bank()
    ours = BankAdam(mine, lr=0.03)
    history = gradients(6)
    for grads in history[:5]:
        for p, grad in zip(mine, grads, strict=True):
            p.grad = grad
        ours.step(None)
    tensors = {**ours.tensors(), **{f"p{i}": p.detach() for i, p in enumerate(mine)}}
    before = {name: t.clone() for name, t in tensors.items()}
    for p, grad in zip(mine, history[5], strict=True):
        p.grad = grad
    ours.step(torch.tensor([True, False, True, False]))
    for name, tensor in tensors.items():
        for k in (1, 3):
            assert torch.equal(tensor[k], before[name][k]), name
        for k in (0, 2):
            assert not torch.equal(tensor[k], before[name][k]), name
    kept = {name: t.clone() for name, t in tensors.items()}
    ours.step(torch.zeros(K, dtype=torch.bool))
    assert all(torch.equal(tensors[name], kept[name]) for name in kept)


def test_zero_grad_forgets():
    mine = bank()
    ours = BankAdam(mine, lr=0.1)
    for p in mine:
        p.grad = torch.ones_like(p)
    ours.zero_grad()
    assert all(p.grad is None for p in mine)
