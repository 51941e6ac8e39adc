from __future__ import annotations

import torch
from torch import nn

from mdlora.training.dense_adam import DenseAdam


def test_it_is_torchs_own_bit_for_bit():
    torch.manual_seed(1)
    shapes = [(20, 7), (7,), (1,), (3, 4, 5)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    settings = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-6}
    mine, reference = DenseAdam(ours, **settings), torch.optim.Adam(theirs, fused=True, **settings)
    for step in range(12):
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            # now and then a parameter has no gradient, and stands still
            a.grad = None if (step + i) % 5 == 0 else torch.randn(a.shape)
            b.grad = None if a.grad is None else a.grad.clone()
        mine.step()
        reference.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert mine.clocks.tolist() == [reference.state[p]["step"].item() for p in theirs]


def test_gradients_may_lie_otherwise_than_weights():
    torch.manual_seed(4)
    ours = [nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6, 4).t())]
    theirs = [nn.Parameter(p.detach().clone().contiguous()) for p in ours]
    mine, reference = DenseAdam(ours, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(6, 4).t()
            b.grad = a.grad.clone().contiguous()
        mine.step()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_no_gradients_no_step():
    weight = nn.Parameter(torch.ones(3))
    adam = DenseAdam([weight], lr=1.0)
    adam.step()
    assert torch.equal(weight, torch.ones(3))
    assert adam.clocks.tolist() == [0]


def test_it_goes_on_from_its_state():
    torch.manual_seed(2)
    first, second = nn.Parameter(torch.randn(5, 2)), nn.Parameter(torch.zeros(5, 2))
    one, other = DenseAdam([first], lr=0.1), DenseAdam([second], lr=0.1)
    first.grad = torch.randn(5, 2)
    one.step()
    second.data.copy_(first.data)
    for name, tensor in other.tensors().items():
        tensor.copy_(one.tensors()[name])
    first.grad = torch.randn(5, 2)
    second.grad = first.grad.clone()
    one.step()
    other.step()
    assert torch.equal(first, second)
    one.zero_grad()
    assert first.grad is None
