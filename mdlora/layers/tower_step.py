"""Layers of linear map, ReLU and dropout, in training, as one node of the graph.

Many rows go through all layers in parts that stay in the processor's cache, there and back: what
one step of a layer has written, the next one reads from there, and the gradients between layers are
those of a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mdlora.compiled import can_compile, is_array
from mdlora.layers.dropout import DrawnReLU, ReLUDropout, ShiftedReLU
from mdlora.layers.first_only import PLAIN_PATH, first_only
from mdlora.layers.no_autocast import without_autocast
from mdlora.layers.overlaid import is_overlaid
from mdlora.layers.row_update import FusableHook, Run, RunsBack, RunUpdate
from mdlora.layers.tower_parts import Part, TowerLayer, parts_of

__all__ = ["can_fuse", "fused_tower"]

Floats = npt.NDArray[np.float32]
Layers = Sequence[tuple[nn.Module, nn.Module]]


class _TowerStep(torch.autograd.Function):
    """dropout(relu(x W^T + b + update)), layer after layer; `tensors` are those of all layers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: list[TowerLayer], *tensors: Tensor | None) -> Tensor:
        outputs = [x.new_empty(x.shape[0], layer.linear.out_features) for layer in layers]
        steps = [_There(layer, y) for layer, y in zip(layers, outputs, strict=True)]
        parts = parts_of(x, layers)
        sizes = [part.last - part.first for part in parts]
        for part, below, *above in zip(
            parts, *(t.split(sizes) for t in (x, *outputs)), strict=True
        ):
            for step, z in zip(steps, above, strict=True):
                step.pass_on(below, z, part)
                below = z
        weights = [layer.linear.weight for layer in layers]
        updates = [t for layer in layers if layer.update for t in layer.update.tensors]
        ctx.save_for_backward(x, *outputs[:-1], *weights, *updates)
        ctx.layers, ctx.steps, ctx.parts = layers, steps, parts
        return outputs[-1]

    @staticmethod
    @first_only(PLAIN_PATH)
    @without_autocast
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        layers: list[TowerLayer] = ctx.layers
        num = len(layers)
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        inputs, weights = [t.contiguous() for t in saved[:num]], saved[num : 2 * num]
        wants = _by_layer(layers, ctx.needs_input_grad[2:])
        wants_x: bool = ctx.needs_input_grad[0]
        lowest = 0 if wants_x else next(i for i, wanted in enumerate(wants) if any(wanted))
        steps = {
            i: _Back(ctx.steps[i], weights[i], wants[i], passes=i > lowest or wants_x)
            for i in range(lowest, num)
        }
        of_x = torch.empty_like(inputs[0]) if wants_x else None
        for part in ctx.parts:
            rows = slice(part.first, part.last)
            g = grad[rows].clone(memory_format=torch.contiguous_format)
            passed = False
            for i in range(num - 1, lowest - 1, -1):
                out = None if i or of_x is None else of_x[rows]
                under = steps[i - 1].before if i > lowest else None
                if not passed:
                    steps[i].pass_relu(g, part)
                below, passed = steps[i].pass_back(g, inputs[i][rows], out, part, under)
                g = g if below is None else below
        grads: list[Tensor | None] = [of_x, None]
        for i, wanted in enumerate(wants):
            grads += steps[i].gradients() if i >= lowest else [None] * len(wanted)
        return tuple(grads)


class _There:
    """The way through one layer."""

    def __init__(self, layer: TowerLayer, output: Tensor) -> None:
        self.update, self.relu = layer.update, DrawnReLU(layer.activation, output)
        self.weight = layer.linear.weight.detach()
        self.shift: Floats = layer.linear.bias.detach().numpy()
        self.merged: dict[Run, tuple[Tensor, Floats]] = {}
        self._turned = self.weight.t()
        self._after = ShiftedReLU(self.relu, self.shift)

    def pass_on(self, x: Tensor, z: Tensor, part: Part) -> None:
        """Fill z with the output of a part."""
        if self.update is not None and part.run is not None:
            if part.begins:
                update = cast("RunUpdate", self.update)
                self.merged[part.run] = update.merged(part.run, self.weight, self.shift)
            weight, shift = self.merged[part.run]
            torch.mm(x, weight.t(), out=z)
            self.relu.keep(z.numpy(), shift, part.first)
            return
        torch.mm(x, self._turned, out=z)
        if self.update is not None:
            self.update.add(z, x, part.first, self._after)
        else:
            self._after.keep(z.numpy(), part.first)


class _Back:
    """The way back through one layer, and the gradients that it collects."""

    def __init__(
        self, there: _There, weight: Tensor, wanted: Sequence[bool], *, passes: bool
    ) -> None:
        self.weight, self.merged, self.passes = weight, there.merged, passes
        self._wanted: bool = wanted[0]
        self._of_weight = torch.empty_like(weight)
        self._begun = False  # whether that holds anything
        self._of_bias = np.zeros(weight.shape[0], np.float32)
        self.of_bias = torch.from_numpy(self._of_bias) if wanted[1] else None
        self.before = ShiftedReLU(there.relu, self._of_bias)
        self.of_update = None if there.update is None else there.update.back(wanted[2:])

    def pass_relu(self, grad: Tensor, part: Part) -> None:
        """From the gradient of a part's output make that of z."""
        if self._is_merged(part) and part.begins:
            self._of_shift = np.zeros_like(self._of_bias)
        of_shift = self._of_shift if self._is_merged(part) else self._of_bias
        self.before.relu.pass_back(grad.numpy(), of_shift, part.first)

    def pass_back(
        self, grad: Tensor, x: Tensor, of_x: Tensor | None, part: Part, under: ShiftedReLU | None
    ) -> tuple[Tensor | None, bool]:
        """From the gradient of a part's z collect.

        Gives back that of x, and whether it has gone through `under`, what x came from, already.
        """
        if self._is_merged(part):
            return self._pass_back_run(grad, x, of_x, part), False
        of_x = torch.mm(grad, self.weight, out=of_x) if self.passes else None
        if self._wanted:
            beta = float(self._begun)
            torch.addmm(self._of_weight, grad.t(), x, beta=beta, out=self._of_weight)
            self._begun = True
        if self.of_update is None:
            return of_x, False
        self.of_update.pass_back(grad, x, of_x, part.first, under)
        return of_x, under is not None

    def _is_merged(self, part: Part) -> bool:
        return part.run is not None and self.of_update is not None

    def _pass_back_run(
        self, grad: Tensor, x: Tensor, of_x: Tensor | None, part: Part
    ) -> Tensor | None:
        assert part.run is not None
        of_x = torch.mm(grad, self.merged[part.run][0], out=of_x) if self.passes else None
        if part.begins:
            self._of_merged = torch.empty_like(self.weight)
        beta = float(not part.begins)
        torch.addmm(self._of_merged, grad.t(), x, beta=beta, out=self._of_merged)
        if part.ends:
            if not self._begun:
                self._of_weight.zero_()
                self._begun = True
            self._of_bias += self._of_shift
            back = cast("RunsBack", self.of_update)
            back.end_run(part.run, self._of_shift, self._of_merged, self._of_weight)
        return of_x

    def gradients(self) -> list[Tensor | None]:
        """Of the weight, the bias, and what the update is computed from."""
        more = [] if self.of_update is None else self.of_update.gradients()
        return [self._of_weight if self._wanted else None, self.of_bias, *more]


def _by_layer(layers: list[TowerLayer], wanted: Sequence[bool]) -> list[Sequence[bool]]:
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
    part: list[TowerLayer] = []
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
        part.append(TowerLayer(linear, activation, update))
    return _step(part, x)


def _step(layers: list[TowerLayer], x: Tensor) -> Tensor:
    rows, width = x.shape
    for linear, _, update in layers:
        if linear.in_features != width:  # kernels that come before the product look at no bounds
            raise RuntimeError(
                f"Rows of {width} numbers come to a layer of {linear.in_features} inputs: "
                "give it rows of that width."
            )
        if update is not None:
            update.check(rows, width, linear.out_features)
        width = linear.out_features
    tensors = [t for layer in layers for t in layer.tensors]
    made: Tensor = _TowerStep.apply(x, layers, *tensors)
    return made
