"""Routes: how much of each adapter a row gets.

Shape letters: B rows, K adapters, k adapters that one row uses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdlora.config import counted
from mdlora.errors import AdapterError
from mdlora.layers import DomainRows, Segments, make_segments
from mdlora.layers.row_update import Run

__all__ = ["ExpertRoute", "MixtureRoute", "Pairs", "Route", "Runs"]

Integers = npt.NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs of a row and an adapter that it uses, sorted by adapter; n of them, S adapters.

    `pairs` (n,) are their places in `experts`, `rows` (n,) their rows; those of adapter `used[s]`
    begin at `starts[s]` (S + 1,). `rising` says that they are in the order of the rows.
    """

    pairs: Integers
    rows: Integers
    starts: Integers
    used: Integers
    rising: bool

    def runs(self, shortest: int) -> list[Run]:
        """Adapters' rows, where they are so many and stand together, without others between."""
        counts = np.diff(self.starts)
        if not self.rising or not len(counts) or counts.max() < shortest:
            return []
        chosen = np.flatnonzero(counts >= shortest)
        firsts, lasts = self.rows[self.starts[chosen]], self.rows[self.starts[chosen + 1] - 1] + 1
        whole = np.flatnonzero(lasts - firsts == counts[chosen])
        places = zip(firsts[whole], lasts[whole], chosen[whole], strict=True)
        return [Run(int(first), int(last), int(index)) for first, last, index in places]


class Runs(NamedTuple):
    """Rows that come sorted by their one expert, those without one first.

    `ends` (K,) int32 is where the rows of each expert end; (K + 1,) with `without`, which says
    that there are rows without an expert: these come first, and so does their end. `counts` (K,)
    is the number of each expert's rows, and `of_row` (B, K) float32 is 1 for the row's expert.
    """

    ends: Tensor
    without: bool
    counts: npt.NDArray[np.int64]
    of_row: Tensor


class MixtureRoute:
    """Every row may use every adapter: weights (B, K)."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    @property
    def num_rows(self) -> int:
        """B."""
        return self.weights.shape[0]

    def mixture(self, dtype: torch.dtype) -> Tensor:
        """The weights (B, K)."""
        return self.weights.to(dtype)

    def repeat(self, times: int) -> MixtureRoute:
        """The route of rows that each stand `times` times in a row."""
        return self if times == 1 else MixtureRoute(self.weights.repeat_interleave(times, 0))


class ExpertRoute:
    """Every row uses few adapters: experts (B, k) int64, -1 for none; weights (B, k) or None for 1.

    The one-hot form and the sorted form are made once and shared by all layers.
    """

    def __init__(self, experts: Tensor, num_experts: int, weights: Tensor | None = None) -> None:
        self.experts = experts
        self.num_experts = num_experts
        self.weights = weights
        self._one_hot: dict[torch.dtype, Tensor] = {}
        self._segments: Segments | None = None
        self._rows: DomainRows | None = None
        self._runs: Runs | None = None
        self._pairs: Pairs | None = None
        self._repeated: dict[int, ExpertRoute] = {1: self}

    @property
    def num_rows(self) -> int:
        """B."""
        return self.experts.shape[0]

    def repeat(self, times: int) -> ExpertRoute:
        """The route of rows that each stand `times` times in a row."""
        if times not in self._repeated:
            weights = None if self.weights is None else self.weights.repeat_interleave(times, 0)
            experts = self.experts.repeat_interleave(times, 0)
            self._repeated[times] = ExpertRoute(experts, self.num_experts, weights)
        return self._repeated[times]

    def mixture(self, dtype: torch.dtype) -> Tensor:
        """The same route as weights (B, K)."""
        if dtype not in self._one_hot:
            all_experts = torch.arange(self.num_experts, device=self.experts.device)
            hits = (self.experts.unsqueeze(-1) == all_experts).to(dtype)
            if self.weights is not None:
                hits = hits * self.weights.to(dtype).unsqueeze(-1)
            self._one_hot[dtype] = hits.sum(1) if hits.shape[1] > 1 else hits.squeeze(1)
        return self._one_hot[dtype]

    def flat_weights(self, dtype: torch.dtype) -> Tensor | None:
        """(B * k,) weights, zero where a row has no adapter; None where all of them are one."""
        if self.weights is None:
            missing = self.experts < 0
            some = torch.compiler.is_compiling() or bool(missing.any())
            return (~missing).to(dtype).flatten() if some else None
        return (self.weights.to(dtype) * (self.experts >= 0)).flatten()

    def flat_experts(self) -> Tensor:
        """(B * k,) adapters, 0 in place of none (their weight is zero)."""
        return self.experts.clamp(min=0).flatten()

    def segments(self) -> Segments:
        """Rows sorted by adapter, in blocks."""
        if self._segments is None:
            self._segments = make_segments(self.flat_experts(), self.num_experts)
        return self._segments

    def row_weights(self, dtype: torch.dtype) -> Tensor | None:
        """The weights (B, k); None where all are one."""
        return None if self.weights is None else self.weights.to(dtype).contiguous()

    def pairs(self) -> Pairs:
        """Rows by adapter, for compiled kernels; on a CPU.

        Raises:
            AdapterError: an adapter is not there.
        """
        if self._pairs is None:
            from mdlora.compiled.pairs import group_pairs

            experts = self.experts.contiguous().view(-1).numpy()
            found = group_pairs(experts, self.experts.shape[1], self.num_experts)
            pairs, rows, starts, used, rising, wrong = found
            if wrong:
                raise AdapterError(
                    f"{counted(wrong, 'row')} name an adapter above {self.num_experts - 1}: "
                    f"there are {self.num_experts}, numbered from 0; -1 is none."
                )
            self._pairs = Pairs(pairs, rows, starts, used, rising)
        return self._pairs

    def rows(self) -> DomainRows:
        """Which adapter each row meets, for products with whole matrices."""
        if self._rows is None:
            self._rows = DomainRows(self.flat_experts(), self.num_experts)
        return self._rows

    @property
    def is_single(self) -> bool:
        """Whether each row has one adapter, with weight one, or none."""
        return self.experts.shape[1] == 1 and self.weights is None

    def runs(self) -> Runs | None:
        """Where each expert's rows end; None if a row has several, or they come unsorted."""
        if self._runs is None and self.is_single:
            self._runs = _find_runs(self.experts.squeeze(1), self.num_experts)
        return self._runs

    def used(self) -> Tensor | None:
        """(K,) bool: which experts have rows that give them weight; None where all have."""
        if self._pairs is not None and self.weights is None:
            if len(self._pairs.used) == self.num_experts:
                return None
            found = torch.zeros(self.num_experts, dtype=torch.bool)
            found[torch.from_numpy(self._pairs.used)] = True
            return found
        if self._runs is not None:
            counts = self._runs.counts
            return None if counts.all() else torch.from_numpy(counts > 0)
        used = self.experts.new_zeros(self.num_experts + 1, dtype=torch.bool)
        chosen = self.experts if self.weights is None else self.experts.where(self.weights > 0, -1)
        used[chosen.flatten() + 1] = True  # -1, none, has a spare first place
        return used[1:]


Route = ExpertRoute | MixtureRoute


def _find_runs(experts: Tensor, num_experts: int) -> Runs | None:
    ids = experts.numpy()  # numpy costs less than torch on so few numbers
    if (ids[1:] < ids[:-1]).any():
        return None
    all_experts = np.arange(-1, num_experts)
    ends = np.searchsorted(ids, all_experts, side="right")
    without = bool(ends[0])
    return Runs(
        torch.from_numpy(ends[0 if without else 1 :].astype(np.int32)),
        without,
        np.diff(ends),
        torch.from_numpy((ids[:, None] == all_experts[1:]).astype(np.float32)),
    )
