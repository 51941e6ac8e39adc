"""Updates of few adapters a row by compiled kernels: each row's products, from the cache.

A row's update is few operations, so what counts is how often arrays of the size of the batch, and
banks of many adapters, are read and written. The kernels read each once, add to the layer's output
and to the gradient of its input in place, and touch no adapter without rows: its gradient is not
there at all where `sparse` is asked for.

Shapes (B rows, I in, O out, K adapters, R rank, k adapters of a row): x (B, I), z (B, O), down
(K, R, I), up (K, R, O), bias (K, O) or None, weights (B, k) or None for ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mdlora.adapters.checks import check_shapes
from mdlora.adapters.kernels import update as plain_update
from mdlora.adapters.mixed import MixedUpdate
from mdlora.adapters.routes import ExpertRoute, Route
from mdlora.compiled import can_compile

__all__ = [
    "BankArrays",
    "CompiledUpdate",
    "LowRankUpdate",
    "adapted_linear",
    "can_add",
    "updated",
]

_NONE = np.empty((0, 0), np.float32)
_NO_WEIGHTS = np.empty(0, np.float32)

_FEW_NUMBERS = 65_536  # up to which a bank's dense gradient costs less than the sparse form's care

Floats = npt.NDArray[np.float32]
Grads = list[Tensor | None]


def can_add(route: Route | None, x: Tensor, *tensors: Tensor | None) -> bool:
    """Whether the kernels can serve rows x (B, I) on this route, with these other tensors."""
    return (
        x.dim() == 2
        and x.dtype is torch.float32
        and x.is_cpu
        and not torch.is_autocast_enabled("cpu")
        and can_compile(*[t for t in tensors if t is not None])
        and (not isinstance(route, ExpertRoute) or can_compile(route.experts))
    )


class BankArrays:
    """A bank's tensors as arrays, kept from step to step while they stay where they are."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[Any, ...], tuple[Floats, Floats, Floats]] | None = None

    def of(self, down: Tensor, up: Tensor, bias: Tensor | None) -> tuple[Floats, Floats, Floats]:
        """All adapters' matrices, one below the other: (K R, I), (K R, O); (K, O) or empty."""
        kept = self._kept
        where = (down.data_ptr(), up.data_ptr(), -1 if bias is None else bias.data_ptr())
        place = (*where, down.shape, up.shape)
        if kept is None or kept[0] != place:
            arrays = (
                down.detach().view(-1, down.shape[2]).numpy(),
                up.detach().view(-1, up.shape[2]).numpy(),
                _NONE if bias is None else bias.detach().numpy(),
            )
            kept = self._kept = place, arrays
        return kept[1]

    def __reduce__(self) -> tuple[type[BankArrays], tuple[()]]:
        return BankArrays, ()  # copies have tensors of their own


class LowRankUpdate:
    """The update of one layer's rows: what a step that fuses the layer with more asks of it.

    Args:
        down: (K, R, I).
        up: (K, R, O).
        bias: (K, O) or None.
        route: which adapters a row has; on it `can_add` has been asked.
        sparse: whether gradients may leave out adapters without rows.
        arrays: what the bank keeps of its matrices.
    """

    def __init__(
        self, down: Tensor, up: Tensor, bias: Tensor | None, route: ExpertRoute, *, sparse: bool,
        arrays: BankArrays | None = None,
    ) -> None:  # fmt: skip
        weights = route.row_weights(down.dtype)
        self.tensors: tuple[Tensor | None, ...] = (down, up, bias, weights)
        """What the update is computed from, beside x: down, up, bias, weights (B, k) or None."""
        self.route, self.sparse = route, sparse
        self._matrices = (
            *(arrays or BankArrays()).of(down, up, bias),
            _NO_WEIGHTS if weights is None else weights.detach().view(-1).numpy(),
        )
        self._rank = down.shape[1]
        self._low = _NONE

    def route_with(self, weights: Tensor | None) -> ExpertRoute:
        """The route with these weights in place of its own."""
        return ExpertRoute(self.route.experts, self.route.num_experts, weights)

    def add(self, z: Tensor, x: Tensor) -> None:
        """Add each row's update to z (B, O), in place."""
        from mdlora.compiled.low_rank import add_updates

        route, weights = self.route, self.tensors[3]
        sizes = () if weights is None else weights.shape
        check_shapes(z, x, self.tensors[:2], (route.num_rows, route.num_experts, *sizes))
        pairs, rank = self.route.pairs(), self._rank
        blocks = len(pairs.pairs) + 3 * len(pairs.used)  # at most, in rows
        self._low = np.empty((blocks, -(-rank // 4) * 4), np.float32)
        rows = z.detach().numpy(), x.detach().numpy()
        add_updates(*rows, *self._matrices, *pairs, rank, self._low)

    def gradients(
        self, grad: Tensor, x: Tensor, of_x: Tensor | None, wanted: Sequence[bool]
    ) -> Grads:
        """The gradients of what `add` added.

        Args:
            grad: that of z, (B, O).
            x: as `add` had it.
            of_x: that of x, to which the update's part is added in place; None: not wanted.
            wanted: of which of `tensors` gradients are.
        """
        from mdlora.compiled.low_rank import update_gradients

        if of_x is None and not any(wanted):
            return [None] * 4
        pairs, rank = self.route.pairs(), self._rank
        num_used, (width, out) = len(pairs.used), (x.shape[1], grad.shape[1])
        learns = wanted[0] or wanted[1]
        of_down = np.empty((num_used * rank, width), np.float32) if learns else _NONE
        of_up = np.empty((num_used * rank, out), np.float32) if learns else _NONE
        of_bias = np.empty((num_used, out), np.float32) if wanted[2] else _NONE
        of_weights = np.zeros(self.route.experts.numel(), np.float32) if wanted[3] else _NO_WEIGHTS
        update_gradients(
            grad.numpy(), x.detach().numpy(), *self._matrices, *pairs, rank, self._low,
            np.empty((8, self._low.shape[1]), np.float32),
            _NONE if of_x is None else of_x.numpy(), of_down, of_up, of_bias, of_weights,
        )  # fmt: skip
        grads: Grads = [None] * 4
        for i, made in enumerate((of_down, of_up, of_bias)):
            like = self.tensors[i]
            if wanted[i] and like is not None:
                grads[i] = self._whole(made.reshape(num_used, *like.shape[1:]), like, pairs.used)
        if wanted[3]:
            grads[3] = torch.from_numpy(of_weights.reshape(self.route.experts.shape))
        return grads

    def _whole(self, made: Floats, like: Tensor, used_ids: npt.NDArray[np.int64]) -> Tensor:
        """From the gradient of the adapters in use that of all, (K, ...)."""
        compact, size = torch.from_numpy(made), like.shape
        if len(used_ids) == size[0]:
            return compact
        used = torch.from_numpy(used_ids)
        if not self.sparse or like.numel() < _FEW_NUMBERS:
            return compact.new_zeros(size).index_copy_(0, used, compact)
        return torch.sparse_coo_tensor(
            used.unsqueeze(0), compact, size, check_invariants=False, is_coalesced=True
        )


CompiledUpdate = LowRankUpdate | MixedUpdate


class _AdaptedLinear(torch.autograd.Function):
    """x W + b with each row's update. Where second derivatives are asked for, the plain path's."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, layer_bias: Tensor | None, update: CompiledUpdate,
        *tensors: Tensor | None,
    ) -> Tensor:  # fmt: skip
        z = F.linear(x, weight, layer_bias)
        update.add(z, x)
        ctx.update = update
        ctx.save_for_backward(x, weight, layer_bias, *tensors)
        return z

    @staticmethod
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
        return (*grads, *ctx.update.gradients(grad, x, of_x, wants[4:]))


class _Updated(torch.autograd.Function):
    """A layer's output with each row's update; else as `_AdaptedLinear`."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, x: Tensor, update: CompiledUpdate, *tensors: Tensor | None
    ) -> Tensor:
        z = output.clone(memory_format=torch.contiguous_format)
        update.add(z, x)
        ctx.update = update
        ctx.save_for_backward(output, x, *tensors)
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        output, x, *rest = ctx.saved_tensors
        wants = ctx.needs_input_grad
        if torch.is_grad_enabled():
            wanted = [*wants[:2], *wants[3:]]
            made = _plain_gradients(_plain_update, (output, x, *rest), wanted, ctx.update, grad)
            return (*made[:2], None, *made[2:])
        of_x = torch.zeros_like(x) if wants[1] else None
        grads = ctx.update.gradients(grad.contiguous(), x, of_x, wants[3:])
        return (grad if wants[0] else None, of_x, None, *grads)


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
    update.add(z, x)
    return z
