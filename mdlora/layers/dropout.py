"""Dropout, alone and with ReLU, in few passes over memory, with few random bits.

`F.dropout` costs more than the matrix product it follows on a CPU; a random byte a unit, or at
0.5 a random bit, costs a fraction of it. A unit is kept when its byte is at least
round(256 * dropout), and what is kept is scaled by the exact inverse of that chance, so the
expectation is exact for every dropout, and the chance is exact where 256 * dropout is a whole
number, as at 0.5 (else within 1/512).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mdlora.compiled import can_compile
from mdlora.errors import ConfigError
from mdlora.layers.first_only import PLAIN_PATH, first_only

__all__ = ["DrawnReLU", "Dropout", "ReLUDropout", "ShiftedReLU"]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_LEVELS = 256
_HALF = _LEVELS // 2
_BITS = torch.tensor([[1], [2], [4], [8], [16], [32], [64], [128]], dtype=torch.uint8)


def _draw(like: Tensor, threshold: int, generator: torch.Generator | None) -> Tensor:
    """Random bytes: at half a bit for each unit of `like`, and some to spare, else a byte."""
    per_word = 64 if threshold == _HALF else 8
    words = torch.empty(-(-like.numel() // per_word), dtype=torch.int64, device=like.device)
    words.random_(-(2**63), None, generator=generator)  # the full range: all 64 bits count
    return words.view(torch.uint8)


def _draw_keep(like: Tensor, threshold: int, generator: torch.Generator | None) -> Tensor:
    """1 for units to keep and 0 for others: uint8, in the shape of `like`."""
    keep = _draw(like, threshold, generator)
    if threshold == _HALF:
        keep = (keep & _BITS.to(like.device)).ne_(0).view(-1)
    else:
        keep.ge_(threshold)
    return keep[: like.numel()].view(like.shape)


class _ReLUDropoutFunction(torch.autograd.Function):
    """y = relu(x) * keep / P(keep). A positive output marks a unit through which gradients flow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: int, generator: torch.Generator | None) -> Tensor:
        scale = _LEVELS / (_LEVELS - threshold)
        # One new array, then in place: a pass over memory outside the cache is what costs.
        y = _draw_keep(x, threshold, generator).to(x.dtype)
        y.mul_(x).clamp_min_(0.0).mul_(scale)
        ctx.save_for_backward(y)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors  # what it says, which units are alive, has no derivative
        return torch.ops.aten.threshold_backward(grad, y.detach(), 0) * ctx.scale, None, None


class Dropout(nn.Module):
    """Dropout in training mode, and nothing else. Shapes: (...) -> (...).

    `generator` (None: torch's default one) gives the random bytes; training sets it, so that
    nothing depends on the process's own generator.

    Raises:
        ConfigError: dropout is not in [0, 1).
    """

    generator: torch.Generator | None = None

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout={dropout} is out of range; choose a number in [0, 1).")
        self.dropout = dropout
        self.threshold = min(round(dropout * _LEVELS), _LEVELS - 1)

    @property
    def drops(self) -> bool:
        """Whether it drops anything now."""
        return self.training and self.threshold > 0

    def forward(self, x: Tensor) -> Tensor:
        """Drop, while training."""
        if not self.drops:
            return x
        keep = _draw_keep(x, self.threshold, self.generator).to(x.dtype)
        return x * keep.mul_(_LEVELS / (_LEVELS - self.threshold))

    def extra_repr(self) -> str:
        """What repr shows."""
        return f"dropout={self.dropout}"


class ReLUDropout(Dropout):
    """relu(x), then dropout in training mode. Shapes: (...) -> (...).

    With `in_place`, x may be overwritten while training, as by nn.ReLU(inplace=True).

    Raises:
        ConfigError: dropout is not in [0, 1).
    """

    def __init__(self, dropout: float = 0.0, *, in_place: bool = False) -> None:
        super().__init__(dropout)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        """Rectify and, while training, drop."""
        if not self.drops:
            return torch.relu(x)
        if can_compile(x) and x.dtype is torch.float32 and x.dim() > 0 and x.numel():
            mine = self.in_place and not x._is_view()  # autograd allows no writing into some views
            x = x if mine else x.clone()
            y: Tensor = _CompiledReLUDropout.apply(x, self)
        else:
            y = _ReLUDropoutFunction.apply(x, self.threshold, self.generator)
        return y


class DrawnReLU:
    """ReLU and dropout of rows by compiled kernels, in place: one pass there, one back.

    The rows may come in parts, each with the place of its first among all.

    Shapes (B rows, n of them, O units): z and grad (n, O), bias (O,).

    Args:
        dropout: says the chance and the generator; it drops.
        rows: as many and as wide as those to come, (B, O).
    """

    def __init__(self, dropout: Dropout, rows: Tensor) -> None:
        threshold = dropout.threshold
        drawn: Bytes = _draw(rows, threshold, dropout.generator).numpy()
        least = 0 if threshold == _HALF else threshold
        self.settings = drawn, least, np.float32(_LEVELS / (_LEVELS - threshold))
        """What kernels need: what was drawn, from which byte on is kept (0: bits), the scale."""

    def keep(self, z: Floats, bias: Floats, first: int = 0) -> None:
        """Make z relu(z + bias) where a unit is kept, scaled, and else 0."""
        from mdlora.compiled.relu_dropout import keep

        keep(z, bias, *self.settings, first)

    def pass_back(self, grad: Floats, of_bias: Floats, first: int = 0) -> None:
        """Make grad that of z + bias; its sum is added to of_bias (O,)."""
        from mdlora.compiled.relu_dropout import pass_back

        pass_back(grad, *self.settings, of_bias, first)


class ShiftedReLU(NamedTuple):
    """A `DrawnReLU` and its bias, or where the gradient of the bias is summed: (O,)."""

    relu: DrawnReLU
    shift: Floats

    @property
    def arguments(self) -> tuple[Floats, Bytes, int, np.float32]:
        """What kernels are called with that also do what `keep` or `pass_back` does."""
        return self.shift, *self.relu.settings

    def keep(self, z: Floats, first: int) -> None:
        """As `DrawnReLU.keep`."""
        self.relu.keep(z, self.shift, first)

    def pass_back(self, grad: Floats, first: int) -> None:
        """As `DrawnReLU.pass_back`."""
        self.relu.pass_back(grad, self.shift, first)


class _CompiledReLUDropout(torch.autograd.Function):
    """What `_ReLUDropoutFunction` does, bit for bit on finite numbers; x is overwritten."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropout: Dropout) -> Tensor:
        rows = x.detach().view(-1, x.shape[-1])
        ctx.relu = DrawnReLU(dropout, rows)
        ctx.relu.keep(rows.numpy(), np.zeros(rows.shape[1], np.float32))
        ctx.mark_dirty(x)
        return x

    @staticmethod
    @first_only(PLAIN_PATH)
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        of_x = grad.clone(memory_format=torch.contiguous_format)
        rows = of_x.view(-1, of_x.shape[-1])
        ctx.relu.pass_back(rows.numpy(), np.zeros(rows.shape[1], np.float32))
        return of_x, None
