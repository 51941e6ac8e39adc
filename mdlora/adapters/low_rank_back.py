"""The way back of updates of few adapters a row; shapes are those of `low_rank`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdlora.layers.dropout import ShiftedReLU
from mdlora.layers.row_update import Run

if TYPE_CHECKING:
    from mdlora.adapters.low_rank import LowRankUpdate

__all__ = ["NO_MATRIX", "NO_RELU", "NO_VECTOR", "LowRankBack"]

NO_MATRIX = np.empty((0, 0), np.float32)
NO_VECTOR = np.empty(0, np.float32)
NO_RELU = NO_VECTOR, np.empty(0, np.uint8), 0, np.float32(0)
"""What kernels get for what is not wanted."""

_FEW_NUMBERS = 65_536  # up to which a bank's dense gradient costs less than the sparse form's care

Floats = npt.NDArray[np.float32]
Grads = list[Tensor | None]


class LowRankBack:
    """The way back of a `LowRankUpdate`.

    Args:
        update: it has added to all rows.
        wanted: of which of its `tensors` gradients are.
    """

    def __init__(self, update: LowRankUpdate, wanted: Sequence[bool]) -> None:
        down, up, *_ = update.tensors
        assert down is not None
        assert up is not None
        self._update, self._wanted = update, wanted
        num, experts = len(update.used), update.route.experts
        learns = wanted[0] or wanted[1]
        self._found = (
            np.empty((num * down.shape[1], down.shape[2]), np.float32) if learns else NO_MATRIX,
            np.empty((num * down.shape[1], up.shape[2]), np.float32) if learns else NO_MATRIX,
            np.empty((num, up.shape[2]), np.float32) if wanted[2] else NO_MATRIX,
            np.zeros(experts.numel(), np.float32) if wanted[3] else NO_VECTOR,
        )
        self._scratch = np.empty((8, update.row_numbers), np.float32)

    def pass_back(
        self, grad: Tensor, x: Tensor, of_x: Tensor | None, first: int,
        before: ShiftedReLU | None = None,
    ) -> None:  # fmt: skip
        """Collect the gradients of what `add` added; parts come as they came there.

        Args:
            grad: that of z, (n, O).
            x: as `add` had it.
            of_x: that of x, to which the update's part is added in place; None: not wanted.
            first: as `add` had it.
            before: what was done to x before; `of_x` becomes the gradient of what that was.
        """
        from mdlora.compiled.low_rank import update_gradients

        if of_x is None and not any(self._wanted):
            return
        joined = before if self._update.groups is not None and of_x is not None else None
        rows = grad.numpy(), x.detach().numpy(), *self._update.arguments(first)
        more = self._scratch, NO_MATRIX if of_x is None else of_x.numpy(), *self._found
        relu = NO_RELU if joined is None else joined.arguments
        arguments: tuple[Any, ...] = *rows, *more, *relu
        update_gradients(*arguments)
        if before is not None and of_x is not None and joined is None:
            before.pass_back(of_x.numpy(), first)

    def end_run(self, run: Run, of_shift: Floats, of_merged: Tensor, of_weight: Tensor) -> None:
        """Collect from the gradients of b + c_k and of W + (A_k B_k)^T.

        Args:
            run: all of its rows have been passed back.
            of_shift: (O,).
            of_merged: (O, I).
            of_weight: that of W (O, I), which gains `of_merged`.
        """
        from mdlora.compiled.runs import fold_gradient

        if self._wanted[2]:
            self._found[2][run.matrix] = of_shift
        fold_gradient(
            of_merged.numpy(),
            *self._update.arguments_of_run(run),
            self._scratch,
            of_weight.numpy(),
            *self._found[:2],
        )

    def gradients(self) -> Grads:
        """What was collected: of each of `tensors`, None where it was not wanted."""
        used = self._update.used
        made: Grads = [None] * 4
        for i, found in enumerate(self._found[:3]):
            like = self._update.tensors[i]
            if self._wanted[i] and like is not None:
                compact = torch.from_numpy(found.reshape(len(used), *like.shape[1:]))
                made[i] = self._whole(compact, like, used)
        if self._wanted[3]:
            made[3] = torch.from_numpy(self._found[3].reshape(self._update.route.experts.shape))
        return made

    def _whole(self, compact: Tensor, like: Tensor, used_ids: npt.NDArray[np.int64]) -> Tensor:
        """From the gradient of the adapters in use that of all, (K, ...)."""
        size = like.shape
        if len(used_ids) == size[0]:
            return compact
        used = torch.from_numpy(used_ids)
        if not self._update.sparse or like.numel() < _FEW_NUMBERS:
            return compact.new_zeros(size).index_copy_(0, used, compact)
        return torch.sparse_coo_tensor(
            used.unsqueeze(0), compact, size, check_invariants=False, is_coalesced=True
        )
