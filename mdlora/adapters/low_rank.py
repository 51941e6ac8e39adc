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
from mdlora.adapters.low_rank_back import NO_MATRIX, NO_RELU, NO_VECTOR, LowRankBack
from mdlora.adapters.routes import ExpertRoute, Route
from mdlora.compiled import can_compile
from mdlora.errors import AdapterError
from mdlora.layers.dropout import ShiftedReLU
from mdlora.layers.row_update import Run

__all__ = ["BankArrays", "LowRankUpdate", "can_add"]

# Rows of one adapter from which a matrix of its own pays (measured): for the sake of its calls, and
# for its I O operations in place of I + O a row.
_SHORTEST_RUN, _LONGER_RUN = 1024, 4

Floats = npt.NDArray[np.float32]


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
                NO_MATRIX if bias is None else bias.detach().numpy(),
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
        self._shifted = np.empty(up.shape[2], np.float32)
        self._inputs: tuple[Any, ...] = (
            *(arrays or BankArrays()).of(down, up, bias),
            NO_VECTOR if weights is None else weights.detach().view(-1).numpy(),
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

    @property
    def caches(self) -> int:
        """One: kernels of few operations wait for memory."""
        return 1

    @property
    def groups(self) -> object | None:
        """What says which runs of one adapter's rows there are: each row has one, and they rise."""
        return self._pairs if self._pairs.rising and self.route.is_single else None

    @property
    def shortest_run(self) -> int:
        """Rows from which a run costs less with a matrix of its own, where the layer learns too."""
        down, up = self._inputs[:2]
        width, out = down.shape[1], up.shape[1]
        return max(_SHORTEST_RUN, int(_LONGER_RUN * width * out // (width + out)))

    def runs(self, shortest: int) -> list[Run]:
        """Runs of so many rows, where `groups` says that there are any."""
        return self._pairs.runs(shortest)

    def merged(self, run: Run, weight: Tensor, shift: Floats) -> tuple[Tensor, Floats]:
        """W + (A_k B_k)^T (O, I) and b + c_k (O,), from W and b; memory of this update."""
        from mdlora.compiled.runs import merge_weight

        down, up, bias = self._inputs[:3]
        merged = np.empty(weight.shape, np.float32), np.empty(len(shift), np.float32)
        scratch = np.empty((4, self._columns), np.float32)
        adapter = down, up, bias, int(self.used[run.matrix]), self._rank
        merge_weight(weight.detach().numpy(), shift, *adapter, scratch, *merged)
        return torch.from_numpy(merged[0]), merged[1]

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

    def add(self, z: Tensor, x: Tensor, first: int = 0, after: ShiftedReLU | None = None) -> None:
        """Add each row's update to z (n, O), in place; x (n, I).

        Args:
            z: all rows, or a part where `in_parts` says so; `check` has seen the sizes of all.
            x: of the same rows.
            first: of a part, the place of its first row.
            after: what is done to z then, in the same pass over memory where that can be.
        """
        from mdlora.compiled.low_rank import add_updates

        rows = z.detach().numpy(), x.detach().numpy()
        joined = None if self.groups is None else after
        relu = NO_RELU if joined is None else joined.arguments
        arguments: tuple[Any, ...] = *rows, *self.arguments(first), self._shifted, *relu
        add_updates(*arguments)
        if after is not None and joined is None:
            after.keep(rows[0], first)

    def back(self, wanted: Sequence[bool]) -> LowRankBack:
        """What collects the gradients of those of `tensors` that are `wanted`."""
        return LowRankBack(self, wanted)

    def arguments(self, first: int) -> tuple[Any, ...]:
        """What kernels are called with after the rows, the first of which has this place."""
        return *self._inputs, first if self.in_parts else -1

    def arguments_of_run(self, run: Run) -> tuple[Floats, Floats, int, int, int]:
        """All adapters' matrices, the run's adapter, its place among those in use, and the rank."""
        return *self._inputs[:2], int(self.used[run.matrix]), run.matrix, self._rank
