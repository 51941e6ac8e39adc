"""What hooks of linear layers offer, so that a fused step can stand in for the layers' calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from mdlora.layers.dropout import ShiftedReLU

__all__ = ["FusableHook", "RowUpdate", "RowsBack", "Run", "RunUpdate", "RunsBack"]

Floats = npt.NDArray[np.float32]


class Run(NamedTuple):
    """Rows `first` to `last` of a batch, for all of which an update is one and the same matrix.

    `matrix` says which one; it means something to the update alone.
    """

    first: int
    last: int
    matrix: int


class RowsBack(Protocol):
    """The way back of a `RowUpdate`: collects gradients, part by part."""

    def pass_back(
        self, grad: Tensor, x: Tensor, of_x: Tensor | None, first: int, before: ShiftedReLU | None
    ) -> None:
        """From the gradient of z collect; its part of that of x is added to `of_x` in place.

        Then `before`, what x came through, passes back `of_x`.
        """

    def gradients(self) -> list[Tensor | None]:
        """What was collected, of each of the update's `tensors`."""


class RunsBack(RowsBack, Protocol):
    """The way back of a `RunUpdate`."""

    def end_run(self, run: Run, of_shift: Floats, of_merged: Tensor, of_weight: Tensor) -> None:
        """Collect from the gradients of a run's shift (O,) and of its merged weight (O, I).

        `of_weight`, the gradient of the layer's own, gains the latter.
        """


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

    @property
    def caches(self) -> int:
        """How many times what the cache holds a part may be: products can wait for memory."""

    @property
    def groups(self) -> object | None:
        """What says which runs there are, of a `RunUpdate`; None where there are none."""

    def check(self, rows: int, width: int, out: int) -> None:
        """Refuse sizes B, I, O that do not fit."""

    def add(self, z: Tensor, x: Tensor, first: int, after: ShiftedReLU) -> None:
        """Add to z in place, and then do what comes after."""

    def back(self, wanted: Sequence[bool]) -> RowsBack:
        """What collects the gradients of those of `tensors` that are `wanted`."""


class RunUpdate(RowUpdate, Protocol):
    """An update that can be made part of the layer's weight, for each run of rows."""

    @property
    def shortest_run(self) -> int:
        """Rows from which a run costs less with a matrix of its own."""

    def runs(self, shortest: int) -> list[Run]:
        """Runs of so many rows, in their order; updates of one `groups` have the same."""

    def merged(self, run: Run, weight: Tensor, shift: Floats) -> tuple[Tensor, Floats]:
        """The layer's weight (O, I) and shift (O,) with the run's update made part of them."""

    def back(self, wanted: Sequence[bool]) -> RunsBack:
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
