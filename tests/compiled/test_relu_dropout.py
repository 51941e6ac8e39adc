"""Bias, ReLU and dropout in one pass, against the plain path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mdlora.compiled import plain_only
from mdlora.layers import MLP, ReLUDropout, tower_parts
from mdlora.layers.tower_step import can_fuse


def both_ways(layer: ReLUDropout, x: Tensor, grad: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Output and gradient, compiled and plain, from the same random bytes."""
    found = []
    for plain in (False, True):
        layer.generator = torch.Generator().manual_seed(7)
        given = x.clone().requires_grad_()
        if plain:
            with plain_only():
                y = layer(given)
        else:
            y = layer(given)
        y.backward(grad)
        assert given.grad is not None
        found.append((y.detach(), given.grad))
    return found


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 50),
    dropout=st.sampled_from([0.5, 0.1, 0.3, 0.9]),
    seed=st.integers(0, 99),
)
def test_it_is_the_plain_path_bit_for_bit(rows: int, width: int, dropout: float, seed: int):
    torch.manual_seed(seed)
    x, grad = torch.randn(rows, width), torch.randn(rows, width)
    (y, of_x), (plain, of_plain) = both_ways(ReLUDropout(dropout).train(), x, grad)
    assert torch.equal(y, plain)
    assert torch.equal(of_x, of_plain)


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (0, 6)])
def test_other_shapes(shape: tuple[int, ...]):
    x, grad = torch.randn(shape), torch.randn(shape)
    (y, of_x), (plain, of_plain) = both_ways(ReLUDropout(0.5).train(), x, grad)
    assert torch.equal(y, plain)
    assert torch.equal(of_x, of_plain)


def test_its_input_stays_unless_it_is_given_away():
    x = torch.randn(64, 32)
    before = x.clone()
    ReLUDropout(0.5).train()(x)
    assert torch.equal(x, before)
    ReLUDropout(0.5, in_place=True).train()(x)
    assert not torch.equal(x, before)


@pytest.mark.parametrize("dropout", [0.5, 0.25])
def test_what_is_not_a_number_stays_so_where_it_is_kept(dropout: float):
    layer = ReLUDropout(dropout).train()
    layer.generator = torch.Generator().manual_seed(1)
    y = layer(torch.full((100, 10), torch.nan))
    share = y.isnan().float().mean()
    assert abs(share - (1 - dropout)) < 0.05


def outcome(mlp: MLP, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Output and all gradients, from the same random bytes each time."""
    for module in mlp.activations:
        assert isinstance(module, ReLUDropout)
        module.generator = torch.Generator().manual_seed(5)
    given = x.detach().clone().requires_grad_(x.requires_grad)
    mlp.zero_grad()
    y = mlp(given)
    y.backward(grad)
    found = {n: p.grad for n, p in mlp.named_parameters() if p.grad is not None}
    if given.grad is not None:
        found["x"] = given.grad
    return {**found, "y": y.detach()}


def refuse_to_be_called(*_: object) -> None:
    raise AssertionError("called")


@pytest.mark.parametrize("dropout", [0.5, 0.2])
@pytest.mark.parametrize("rows", [1, 64, 129])
@pytest.mark.parametrize("part", [None, 1, 13, 64])
def test_a_fused_tower_is_the_plain_tower(
    rows: int, dropout: float, part: int | None, monkeypatch: pytest.MonkeyPatch
):
    if part is not None:
        monkeypatch.setattr(tower_parts, "_rows_of_a_part", lambda x, _: min(part, len(x)))
    torch.manual_seed(1)
    mlp = MLP(12, (40, 24, 8), dropout=dropout).train()
    for linear in mlp.linears:
        assert isinstance(linear, nn.Linear)
        nn.init.normal_(linear.bias, std=0.3)
    x, grad = torch.randn(rows, 12, requires_grad=True), torch.randn(rows, 8)
    assert can_fuse([(mlp.linears[0], mlp.activations[0])], x)
    fused = outcome(mlp, x, grad)
    with plain_only():
        plain = outcome(mlp, x, grad)
    assert set(fused) == set(plain)
    for name, tensor in fused.items():
        torch.testing.assert_close(tensor, plain[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("frozen", ["linears.0.weight", "linears.1.bias", "x", "linears"])
def test_frozen_parts_get_no_gradient(frozen: str):
    mlp = MLP(12, (40, 24), dropout=0.5).train()
    for name, parameter in mlp.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    x = torch.randn(30, 12, requires_grad=frozen != "x")
    fused = outcome(mlp, x, torch.randn(30, 24))
    assert not any(name.startswith(frozen) for name in fused)
    assert set(fused) == {
        n for n in ("x", "y", *dict(mlp.named_parameters())) if not n.startswith(frozen)
    }


def test_gradients_that_are_shared_with_others_stay_whole():
    mlp = MLP(6, (16, 16), dropout=0.5).train()
    x = torch.randn(20, 6)
    beside = torch.randn(20, 16, requires_grad=True)
    grad = torch.randn(20, 16)
    (mlp(x) + beside).backward(grad)
    assert beside.grad is not None
    assert torch.equal(beside.grad, grad)


@pytest.mark.parametrize(
    "hook",
    ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"],
)
@pytest.mark.parametrize("where", ["linears", "activations"])
def test_somebodys_hooks_are_called(where: str, hook: str):
    mlp = MLP(6, (16, 8), dropout=0.5).train()
    getattr(getattr(mlp, where)[1], hook)(refuse_to_be_called)
    x = torch.randn(20, 6, requires_grad=True)
    with pytest.raises(AssertionError, match="called"):
        mlp(x).sum().backward()


def test_other_layers_and_modes_run_as_they_are():
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    mlp = MLP(6, (16, 8), dropout=0.5).train()
    x = torch.randn(20, 6)
    for linear, activation, rows in (
        (Doubled(6, 16), mlp.activations[0], x),
        (nn.Linear(6, 16, bias=False), mlp.activations[0], x),
        (mlp.linears[0], mlp.activations[0].eval(), x),
        (mlp.linears[0], nn.ReLU(), x),
        (mlp.linears[0], mlp.activations[1], x.double()),
        (mlp.linears[0], mlp.activations[1], x.unsqueeze(1)),
    ):
        assert not can_fuse([(linear, activation)], rows)
    assert can_fuse([(mlp.linears[1], mlp.activations[1])], torch.randn(20, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not can_fuse([(mlp.linears[1], mlp.activations[1])], torch.randn(20, 16))


def test_second_derivatives_are_refused_and_the_plain_path_has_them():
    mlp = MLP(6, (16, 8), dropout=0.5).train()
    x = torch.randn(20, 6, requires_grad=True)
    for loss in (mlp(x).square().sum(), mlp(x).sum()):  # of the latter only weights' would miss
        with pytest.raises(RuntimeError, match=r"first derivatives only.*MDLORA_NUMBA=0"):
            torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"first derivatives only.*MDLORA_NUMBA=0"):
        torch.autograd.grad(ReLUDropout(0.5).train()(x).sum(), x, create_graph=True)

    def penalty(dropouts: Sequence[Callable[[Tensor], Tensor]]) -> dict[str, Tensor | None]:
        mlp.zero_grad()
        y = x
        for linear, dropout in zip(mlp.linears, dropouts, strict=True):
            y = dropout(linear(y))
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        first.square().sum().backward()
        return {name: p.grad for name, p in mlp.named_parameters()}

    masks: list[Tensor] = []

    def drawn(z: Tensor, activation: nn.Module) -> Tensor:
        y: Tensor = activation(z)
        masks.append((y != 0).to(y.dtype) * 2)
        return y

    with plain_only():
        got = penalty([partial(drawn, activation=a) for a in mlp.activations])
    want = penalty([partial(torch.mul, mask) for mask in masks])  # relu is in what is alive
    for name, grad in want.items():
        torch.testing.assert_close(got[name], grad, msg=f"{name} differs")


def test_rows_of_another_width_are_refused():
    mlp = MLP(6, (16, 8), dropout=0.5).train()
    with pytest.raises(RuntimeError, match="Rows of 7 numbers come to a layer of 6 inputs"):
        mlp(torch.randn(20, 7))
