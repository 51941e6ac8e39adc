"""A layer's output with the update of its adapters, as one node of the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mdlora.adapters.kernels import update as plain_update
from mdlora.adapters.low_rank import LowRankUpdate
from mdlora.adapters.mixed import MixedUpdate
from mdlora.config import counted
from mdlora.errors import AdapterError
from mdlora.layers.no_autocast import without_autocast

__all__ = ["CompiledUpdate", "adapted_linear", "updated"]

Grads = list[Tensor | None]

CompiledUpdate = LowRankUpdate | MixedUpdate


class _AdaptedLinear(torch.autograd.Function):
    """x W + b with each row's update. Where second derivatives are asked for, the plain path's."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, layer_bias: Tensor | None, update: CompiledUpdate,
        *tensors: Tensor | None,
    ) -> Tensor:  # fmt: skip
        z = F.linear(x, weight, layer_bias)
        _add(update, z, x)
        ctx.update = update
        ctx.save_for_backward(x, weight, layer_bias, *tensors)
        return z

    @staticmethod
    @without_autocast
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *rest = ctx.saved_tensors
        wants = ctx.needs_input_grad
        if torch.is_grad_enabled():
            wanted = [*wants[:3], *wants[4:]]
            made = _plain_gradients(_plain_linear, (x, weight, *rest), wanted, ctx.update, grad)
            return (*made[:3], None, *made[3:])
        grad = grad.contiguous()
        of_x = grad.mm(weight) if wants[0] else None
        grads: Grads = [of_x, grad.t().mm(x) if wants[1] else None]
        grads += [grad.sum(0) if wants[2] else None, None]
        return (*grads, *_gradients(ctx.update, grad, x, of_x, wants[4:]))


class _Updated(torch.autograd.Function):
    """A layer's output with each row's update; else as `_AdaptedLinear`."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, x: Tensor, update: CompiledUpdate, *tensors: Tensor | None
    ) -> Tensor:
        z = output.clone(memory_format=torch.contiguous_format)
        _add(update, z, x)
        ctx.update = update
        ctx.save_for_backward(output, x, *tensors)
        return z

    @staticmethod
    @without_autocast
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        output, x, *rest = ctx.saved_tensors
        wants = ctx.needs_input_grad
        if torch.is_grad_enabled():
            wanted = [*wants[:2], *wants[3:]]
            made = _plain_gradients(_plain_update, (output, x, *rest), wanted, ctx.update, grad)
            return (*made[:2], None, *made[2:])
        of_x = torch.zeros_like(x) if wants[1] else None
        grads = _gradients(ctx.update, grad.contiguous(), x, of_x, wants[3:])
        return (grad if wants[0] else None, of_x, None, *grads)


def _add(update: CompiledUpdate, z: Tensor, x: Tensor) -> None:
    if len(z) != len(x):
        raise AdapterError(f"{counted(len(x), 'row')} give {counted(len(z), 'output')}.")
    update.check(len(x), x.shape[1], z.shape[1])
    update.add(z, x)


def _gradients(
    mine: CompiledUpdate, grad: Tensor, x: Tensor, of_x: Tensor | None, wanted: Sequence[bool]
) -> Grads:
    back = mine.back(wanted)
    back.pass_back(grad, x, of_x, 0)
    return back.gradients()


def _plain_linear(
    mine: CompiledUpdate, x: Tensor, weight: Tensor, layer_bias: Tensor | None, *rest: Any
) -> Tensor:
    return _plain_update(mine, F.linear(x, weight, layer_bias), x, *rest)


def _plain_update(
    mine: CompiledUpdate, output: Tensor, x: Tensor, down: Tensor, up: Tensor, bias: Tensor | None,
    weights: Tensor | None,
) -> Tensor:  # fmt: skip
    return plain_update(x, down, up, bias, mine.route_with(weights), output)


def _plain_gradients(
    plain: Callable[..., Tensor], tensors: Sequence[Tensor | None], wanted: Sequence[bool],
    mine: CompiledUpdate, grad: Tensor,
) -> Grads:  # fmt: skip
    """The gradients as the plain path computes them, with a graph of their own."""
    chosen = [t for t, on in zip(tensors, wanted, strict=True) if on and t is not None]
    made = torch.autograd.grad(plain(mine, *tensors), chosen, grad, create_graph=True)
    found = iter(made)
    return [next(found) if on else None for on in wanted]


def adapted_linear(x: Tensor, layer: nn.Linear, update: CompiledUpdate) -> Tensor:
    """The layer's output (B, O) and each row's update; where `can_add` says so."""
    made: Tensor = _AdaptedLinear.apply(
        x.contiguous(), layer.weight, layer.bias, update, *update.tensors
    )
    return made


def updated(output: Tensor, x: Tensor, update: CompiledUpdate, *, in_place: bool) -> Tensor:
    """`output` (B, O) with each row's update; where `can_add` says so.

    Args:
        output: of the layer.
        x: the layer's input.
        update: of its rows.
        in_place: `output` may be overwritten where no gradient is wanted: nobody else has it.
    """
    x = x.contiguous()
    if torch.is_grad_enabled():
        made: Tensor = _Updated.apply(output, x, update, *update.tensors)
        return made
    z = output if in_place else output.clone(memory_format=torch.contiguous_format)
    z = z.contiguous()
    _add(update, z, x)
    return z
