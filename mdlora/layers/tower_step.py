"""Layers of linear map, ReLU and dropout, in training, as one node of the graph.

Many rows go through all layers in parts that stay in the processor's cache, there and back: what
one step of a layer has written, the next one reads from there, and the gradients between layers are
those of a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mdlora.compiled import can_compile, is_array
from mdlora.layers.dropout import DrawnReLU, ReLUDropout
from mdlora.layers.no_autocast import without_autocast
from mdlora.layers.overlaid import is_overlaid

__all__ = ["FusableHook", "RowUpdate", "can_fuse", "fused_tower"]

Layers = Sequence[tuple[nn.Module, nn.Module]]

_CACHE = 1 << 21  # bytes of rows that a part may take
_FEWEST = 128  # rows of a part: with fewer, matrix products slow down


class RowsBack(Protocol):
    """The way back of a `RowUpdate`: collects gradients, part by part."""

    def pass_back(self, grad: Tensor, x: Tensor, of_x: Tensor | None, first: int) -> None:
        """From the gradient of z collect; its part of that of x is added to `of_x` in place."""

    def gradients(self) -> list[Tensor | None]:
        """What was collected, of each of the update's `tensors`."""


class RowUpdate(Protocol):
    """What a layer's hook adds to its product.

    Shapes (B rows, n of them, I in, O out): x (n, I), z (n, O). Rows come in parts where
    `in_parts` says so, each with the place of its first among the B; else all at once.
    """

    tensors: tuple[Tensor | None, ...]
    """What it is computed from, beside x."""

    @property
    def in_parts(self) -> bool:
        """Whether rows may come in parts."""

    @property
    def row_numbers(self) -> int:
        """How many numbers a row needs while it is worked on."""

    def check(self, rows: int, width: int, out: int) -> None:
        """Refuse sizes B, I, O that do not fit."""

    def add(self, z: Tensor, x: Tensor, first: int) -> None:
        """Add to z in place."""

    def back(self, wanted: Sequence[bool]) -> RowsBack:
        """What collects the gradients of those of `tensors` that are `wanted`."""


class FusableHook:
    """A hook of a linear layer for which a fused step can stand in.

    A forward hook of this kind also has `needs_input`, whether its update depends on the layer's
    input and not only on which rows there are, and `fused(x)`, the `RowUpdate`.
    """

    @property
    def is_idle(self) -> bool:
        """Whether it does nothing now, so that the layer need not be called for its sake."""
        return False

    def can_fuse(self, layer: nn.Module, x: Tensor) -> bool:
        """Whether a fused step can do what it does, for as many rows as x."""
        return False


class _Layer(NamedTuple):
    linear: nn.Linear
    activation: ReLUDropout
    update: RowUpdate | None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """Whose gradients the step gives: weight, bias, and what the update is computed from."""
        more = () if self.update is None else self.update.tensors
        return (self.linear.weight, self.linear.bias, *more)


class _TowerStep(torch.autograd.Function):
    """dropout(relu(x W^T + b + update)), layer after layer; `tensors` are those of all layers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: list[_Layer], *tensors: Tensor | None) -> Tensor:
        num_rows = x.shape[0]
        size = _rows_of_a_part(x, layers)
        outputs = [x.new_empty(num_rows, layer.linear.out_features) for layer in layers]
        drawn = [DrawnReLU(layer.activation, y) for layer, y in zip(layers, outputs, strict=True)]
        steps = [
            (layer.linear.weight.detach().t(), layer.linear.bias.detach().numpy(), layer.update)
            for layer in layers
        ]
        first = 0
        for rows, *parts in zip(*(t.split(size) for t in (x, *outputs)), strict=True):
            below = rows
            for (weight, bias, update), relu, z in zip(steps, drawn, parts, strict=True):
                torch.mm(below, weight, out=z)
                if update is not None:
                    update.add(z, below, first)
                relu.keep(z.numpy(), bias, first)
                below = z
            first += size
        weights = [layer.linear.weight for layer in layers]
        updates = [t for layer in layers if layer.update for t in layer.update.tensors]
        ctx.save_for_backward(x, *outputs[:-1], *weights, *updates)
        ctx.layers, ctx.drawn, ctx.size = layers, drawn, size
        return outputs[-1]

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        layers: list[_Layer] = ctx.layers
        num, size, num_rows = len(layers), ctx.size, grad.shape[0]
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        inputs, weights = [t.contiguous() for t in saved[:num]], saved[num : 2 * num]
        wants = _by_layer(layers, ctx.needs_input_grad[2:])
        wants_x: bool = ctx.needs_input_grad[0]
        lowest = 0 if wants_x else next(i for i, wanted in enumerate(wants) if any(wanted))
        steps = [
            _Back(weight, wanted, layer.update, relu, i > lowest or wants_x)
            for i, (layer, weight, wanted, relu) in enumerate(
                zip(layers, weights, wants, ctx.drawn, strict=True)
            )
        ]
        of_x = torch.empty_like(inputs[0]) if wants_x else None
        for first in range(0, num_rows, size):
            last = min(first + size, num_rows)
            g = grad[first:last].clone(memory_format=torch.contiguous_format)
            for i in range(num - 1, lowest - 1, -1):
                out = None if i or of_x is None else of_x[first:last]
                below = steps[i].pass_back(g, inputs[i][first:last], out, first)
                g = g if below is None else below
        grads: list[Tensor | None] = [of_x, None]
        for i, step in enumerate(steps):
            grads += step.gradients() if i >= lowest else [None] * len(wants[i])
        return tuple(grads)


class _Back:
    """The way back through one layer, and the gradients that it collects."""

    def __init__(
        self, weight: Tensor, wanted: Sequence[bool], update: RowUpdate | None,
        relu: DrawnReLU, passes: bool,
    ) -> None:  # fmt: skip
        self.weight, self.relu, self.passes = weight, relu, passes
        self.of_weight = torch.empty_like(weight) if wanted[0] else None
        self._of_bias = np.zeros(weight.shape[0], np.float32)
        self.of_bias = torch.from_numpy(self._of_bias) if wanted[1] else None
        self.of_update = None if update is None else update.back(wanted[2:])

    def pass_back(self, grad: Tensor, x: Tensor, of_x: Tensor | None, first: int) -> Tensor | None:
        """From the gradient of a part's output, overwritten, collect; give back that of x."""
        self.relu.pass_back(grad.numpy(), self._of_bias, first)
        of_x = torch.mm(grad, self.weight, out=of_x) if self.passes else None
        if self.of_weight is not None:
            torch.addmm(self.of_weight, grad.t(), x, beta=min(first, 1), out=self.of_weight)
        if self.of_update is not None:
            self.of_update.pass_back(grad, x, of_x, first)
        return of_x

    def gradients(self) -> list[Tensor | None]:
        """Of the weight, the bias, and what the update is computed from."""
        more = [] if self.of_update is None else self.of_update.gradients()
        return [self.of_weight, self.of_bias, *more]


def _rows_of_a_part(x: Tensor, layers: list[_Layer]) -> int:
    updates = [layer.update for layer in layers if layer.update is not None]
    if not all(update.in_parts for update in updates):
        return x.shape[0]
    width = x.shape[1] + sum(layer.linear.out_features for layer in layers)
    width += max((update.row_numbers for update in updates), default=0)
    size = max(_CACHE // (4 * width) // _FEWEST * _FEWEST, _FEWEST)
    return min(size, x.shape[0])


def _by_layer(layers: list[_Layer], wanted: Sequence[bool]) -> list[Sequence[bool]]:
    """Which gradients are wanted, of the `tensors` of each layer."""
    found, at = [], 0
    for layer in layers:
        num = len(layer.tensors)
        found.append(wanted[at : at + num])
        at += num
    return found


def can_fuse(layers: Layers, x: Tensor) -> bool:
    """Whether `fused_tower` can stand in for calls of these pairs of modules.

    It calls none of them, so nobody's hooks may hang on them but such as say that they are idle,
    or that what they do can be fused.
    """
    return (
        # What graphs are traced in comes first, and asks nothing of x.
        any(getattr(activation, "drops", False) for _, activation in layers)
        and can_compile(x)
        and x.dim() == 2
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and all(_can_fuse_layer(linear, activation, x) for linear, activation in layers)
    )


def _can_fuse_layer(linear: nn.Module, activation: nn.Module, x: Tensor) -> bool:
    return (
        type(linear) is nn.Linear
        and type(activation) is ReLUDropout
        and activation.drops
        and linear.bias is not None
        and linear.weight.shape == (linear.out_features, linear.in_features)
        and linear.bias.shape == (linear.out_features,)
        and is_array(linear.weight)
        and is_array(linear.bias)
        and _active_hooks(activation) == []
        and (hooks := _active_hooks(linear)) is not None
        and all(hook.can_fuse(linear, x) for hook in hooks)
    )


def _active_hooks(module: nn.Module) -> list[FusableHook] | None:
    """The hooks that are not idle; None where something else would see the module's call."""
    if is_overlaid(module) or module._backward_hooks or module._backward_pre_hooks:
        return None
    hooks: list[Any] = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    if not all(isinstance(hook, FusableHook) for hook in hooks):
        return None
    return [hook for hook in hooks if not hook.is_idle]


def fused_tower(layers: Layers, x: Tensor) -> Tensor:
    """The layers one after another, (B, I) -> (B, H), where `can_fuse` says so.

    First derivatives only.
    """
    part: list[_Layer] = []
    for linear, activation in layers:
        assert isinstance(linear, nn.Linear)
        assert isinstance(activation, ReLUDropout)
        update = None
        hooks: list[Any] = list(linear._forward_hooks.values())
        for hook in hooks:
            if hook.is_idle:
                continue
            if part and hook.needs_input:
                x, part = _step(part, x), []
            update = hook.fused(x)
        part.append(_Layer(linear, activation, update))
    return _step(part, x)


def _step(layers: list[_Layer], x: Tensor) -> Tensor:
    rows, width = x.shape
    for linear, _, update in layers:
        if update is not None:
            update.check(rows, width, linear.out_features)
        width = linear.out_features
    tensors = [t for layer in layers for t in layer.tensors]
    made: Tensor = _TowerStep.apply(x, layers, *tensors)
    return made
