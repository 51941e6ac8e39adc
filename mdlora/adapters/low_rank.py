"""Updates of few adapters a row by compiled kernels: each row's products, from the cache.

A row's update is few operations, so what counts is how often arrays of the size of the batch, and
banks of many adapters, are read and written. The kernels read each once, add to the layer's output
and to the gradient of its input in place, and touch no adapter without rows: its gradient is not
there at all where `sparse` is asked for.

Shapes (B rows, I in, O out, K adapters, R rank, k adapters of a row): x (B, I), z (B, O), down
(K, R, I), up (K, R, O), bias (K, O) or None, weights (B, k) or None for ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdlora.adapters.checks import check_shapes
from mdlora.adapters.routes import ExpertRoute, Route
from mdlora.compiled import can_compile
from mdlora.errors import AdapterError

__all__ = ["BankArrays", "LowRankUpdate", "can_add"]

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
    """The update of one layer's rows: a `RowUpdate` of a fused tower.

    Args:
        down: (K, R, I).
        up: (K, R, O).
        bias: (K, O) or None.
        route: which adapters a row has; on it `can_add` has been asked.
        sparse: whether gradients may leave out adapters without rows.
        arrays: what the bank keeps of its matrices.

    Raises:
        AdapterError: an adapter of the route is not there, or its weights are not one for each.
    """

    def __init__(
        self, down: Tensor, up: Tensor, bias: Tensor | None, route: ExpertRoute, *, sparse: bool,
        arrays: BankArrays | None = None,
    ) -> None:  # fmt: skip
        weights = route.row_weights(down.dtype)
        self.tensors: tuple[Tensor | None, ...] = (down, up, bias, weights)
        """What the update is computed from, beside x: down, up, bias, weights (B, k) or None."""
        self.route, self.sparse = route, sparse
        if weights is not None and weights.shape != route.experts.shape:
            raise AdapterError(
                f"Weights {tuple(weights.shape)} for the adapters {tuple(route.experts.shape)} of "
                "rows: give one for each adapter of a row."
            )
        self._pairs = pairs = route.pairs()
        self.used = pairs.used
        """(S,) the adapters that rows use, rising."""
        self._rank = down.shape[1]
        self._columns = -(-self._rank // 4) * 4
        spare = 3 * (len(pairs.used) + 1)
        self._inputs: tuple[Any, ...] = (
            *(arrays or BankArrays()).of(down, up, bias),
            _NO_WEIGHTS if weights is None else weights.detach().view(-1).numpy(),
            pairs.pairs,
            pairs.rows,
            pairs.starts,
            pairs.used,
            self._rank,
            np.empty((spare + len(pairs.rows), self._columns), np.float32),
        )

    @property
    def in_parts(self) -> bool:
        """Whether rows may come in parts: their adapters rise."""
        return self._pairs.rising

    @property
    def row_numbers(self) -> int:
        """How many numbers a row needs while it is worked on."""
        return self._columns

    def route_with(self, weights: Tensor | None) -> ExpertRoute:
        """The route with these weights in place of its own."""
        return ExpertRoute(self.route.experts, self.route.num_experts, weights)

    def check(self, rows: int, width: int, out: int) -> None:
        """Refuse rows (B, I) and outputs (B, O) that do not fit: kernels look at no bounds.

        Raises:
            AdapterError: they do not fit.
        """
        route = self.route
        check_shapes((rows, width, out), self.tensors[:2], route.num_rows, route.num_experts)

    def add(self, z: Tensor, x: Tensor, first: int = 0) -> None:
        """Add each row's update to z (n, O), in place; x (n, I).

        Args:
            z: all rows, or a part where `in_parts` says so; `check` has seen the sizes of all.
            x: of the same rows.
            first: of a part, the place of its first row.
        """
        from mdlora.compiled.low_rank import add_updates

        rows = z.detach().numpy(), x.detach().numpy()
        arguments: tuple[Any, ...] = *rows, *self.arguments(first)
        add_updates(*arguments)

    def back(self, wanted: Sequence[bool]) -> LowRankBack:
        """What collects the gradients of those of `tensors` that are `wanted`."""
        return LowRankBack(self, wanted)

    def arguments(self, first: int) -> tuple[Any, ...]:
        """What kernels are called with after the rows, the first of which has this place."""
        return *self._inputs, first if self.in_parts else -1


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
            np.empty((num * down.shape[1], down.shape[2]), np.float32) if learns else _NONE,
            np.empty((num * down.shape[1], up.shape[2]), np.float32) if learns else _NONE,
            np.empty((num, up.shape[2]), np.float32) if wanted[2] else _NONE,
            np.zeros(experts.numel(), np.float32) if wanted[3] else _NO_WEIGHTS,
        )
        self._scratch = np.empty((8, update.row_numbers), np.float32)

    def pass_back(self, grad: Tensor, x: Tensor, of_x: Tensor | None, first: int) -> None:
        """Collect the gradients of what `add` added; parts come as they came there.

        Args:
            grad: that of z, (n, O).
            x: as `add` had it.
            of_x: that of x, to which the update's part is added in place; None: not wanted.
            first: as `add` had it.
        """
        from mdlora.compiled.low_rank import update_gradients

        if of_x is None and not any(self._wanted):
            return
        rows = grad.numpy(), x.detach().numpy(), *self._update.arguments(first)
        more = self._scratch, _NONE if of_x is None else of_x.numpy(), *self._found
        arguments: tuple[Any, ...] = *rows, *more
        update_gradients(*arguments)

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
