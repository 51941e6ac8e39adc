"""A linear layer with ReLU and dropout, in training, as one node of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mdlora.compiled import can_compile
from mdlora.layers.dropout import DrawnReLU, ReLUDropout
from mdlora.layers.overlaid import is_overlaid

__all__ = ["AddedUpdate", "can_fuse", "dense_relu_dropout"]


class AddedUpdate(Protocol):
    """What a layer's hook adds to its product; a hook that has one has `can_fuse` and `fused`.

    Shapes (B rows, I in, O out): x (B, I), z (B, O).
    """

    tensors: tuple[Tensor | None, ...]
    """What it is computed from, beside x."""

    def add(self, z: Tensor, x: Tensor) -> None:
        """Add to z in place."""

    def gradients(
        self, grad: Tensor, x: Tensor, of_x: Tensor | None, wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """From that of z those of `tensors`; its part of x's is added to `of_x` in place."""


class _DenseReLUDropout(torch.autograd.Function):
    """dropout(relu(x W^T + b)): the product, then one pass of a compiled kernel, each way.

    With an update, it is added to the product before the pass, and `tensors` are its own.

    `exclusive` says that the gradient of the output comes from one such node, and nobody else
    sees it: then it is overwritten.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dropout: ReLUDropout, exclusive: bool,
        update: AddedUpdate | None, *tensors: Tensor | None,
    ) -> Tensor:  # fmt: skip
        y = x.mm(weight.t())
        if update is not None:
            update.add(y, x)
        ctx.update = update
        ctx.relu = DrawnReLU(dropout, y)
        ctx.relu.keep(y, bias)
        ctx.save_for_backward(x, weight, *tensors)
        ctx.exclusive = exclusive
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *_ = ctx.saved_tensors
        if not ctx.exclusive or not grad.is_contiguous():
            grad = grad.clone(memory_format=torch.contiguous_format)
        of_bias = ctx.relu.pass_back(grad)
        of_x = grad.mm(weight) if ctx.needs_input_grad[0] else None
        of_weight = grad.t().mm(x) if ctx.needs_input_grad[1] else None
        grads: list[Tensor | None] = [of_x, of_weight]
        grads += [of_bias if ctx.needs_input_grad[2] else None, None, None, None]
        if ctx.update is not None:
            grads += ctx.update.gradients(grad, x, of_x, ctx.needs_input_grad[6:])
        return tuple(grads)


def can_fuse(linear: nn.Module, activation: nn.Module, x: Tensor) -> bool:
    """Whether `dense_relu_dropout` can stand in for calls of the two modules.

    It calls neither, so nobody's hooks may hang on them but such as say that they are idle, or
    that what they do can be fused.
    """
    return (
        type(linear) is nn.Linear
        and type(activation) is ReLUDropout
        and activation.drops
        and linear.bias is not None
        and x.dim() == 2
        and not torch.is_autocast_enabled("cpu")
        and can_compile(x, linear.weight)
        and not _is_watched(activation, x)
        and not _is_watched(linear, x)
    )


def _is_watched(module: nn.Module, x: Tensor) -> bool:
    if is_overlaid(module):
        return True
    hooks: list[Any] = [
        *module._forward_hooks.values(),
        *module._forward_pre_hooks.values(),
        *module._backward_hooks.values(),
        *module._backward_pre_hooks.values(),
    ]
    for hook in hooks:
        if getattr(hook, "is_idle", False):
            continue
        if not hasattr(hook, "can_fuse") or not hook.can_fuse(module, x):
            return True
    return False


def dense_relu_dropout(
    linear: nn.Module, activation: nn.Module, x: Tensor, *, exclusive: bool
) -> Tensor:
    """activation(linear(x)), (B, I) -> (B, O), where `can_fuse` says so; first derivatives only.

    With `exclusive`, the output's gradient may be overwritten: say so only where the output goes
    to one more such call and nowhere else.
    """
    update: AddedUpdate | None = None
    hooks: list[Any] = list(linear._forward_hooks.values())
    for hook in hooks:
        if not getattr(hook, "is_idle", False):
            update = hook.fused(x)
    tensors = () if update is None else update.tensors
    y: Tensor = _DenseReLUDropout.apply(
        x, linear.weight, linear.bias, activation, exclusive, update, *tensors
    )
    return y
