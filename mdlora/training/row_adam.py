"""Adam on an embedding table whose step costs the rows that it touches."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from mdlora.compiled import can_compile

__all__ = ["RowAdam"]

_CHUNK_STEPS = 64


class RowAdam:
    """Adam over the rows of one table, from sparse gradients.

    * lazy: a row without a gradient stands still, moments included, as in torch.optim.SparseAdam
      (bias corrections use the global step; eps is added after them, as in torch.optim.Adam).
    * catch_up: equals dense Adam. A row's missed steps, whose gradients were zero, are applied
      before the row is next read (`before_reading`), and to all rows by `settle`, which must come
      before every evaluation or save. Missed steps whose effect is below 1e-18 of the first are
      left out.

    `l2` adds the gradient of l2 * sum of squares of the distinct rows touched.

    Args:
        table: (rows, width).
        lr: learning rate.
        betas: decay rates of the moments.
        eps: added to the root of the second moment.
        l2: weight of the penalty.
        catch_up: which of the two semantics.
    """

    def __init__(
        self,
        table: nn.Parameter,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        l2: float = 0.0,
        catch_up: bool = False,
    ) -> None:
        self.table = table
        self.lr, self.betas, self.eps, self.l2 = lr, betas, eps, l2
        self.catch_up = catch_up
        self.clock = torch.zeros((), dtype=torch.int64)
        self.mean = torch.zeros_like(table)
        self.square = torch.zeros_like(table)
        rows = table.shape[0] if catch_up else 0
        self.last = torch.zeros(rows, dtype=torch.int64, device=table.device)
        self._places: Tensor | None = None  # zeros between steps; where each row's sum is
        # A missed step's share of the first one falls as (beta1 / sqrt(beta2))^j.
        decay = betas[0] / math.sqrt(betas[1]) if betas[1] > 0 else 0.0
        reach = math.log(1e-18) / math.log(decay) if 0 < decay < 1 else 1.0
        self.longest = math.ceil(reach) if decay < 1 else 10**9

    @torch.no_grad()
    def before_reading(self, rows: Tensor) -> None:
        """Bring rows (any shape, repeats allowed) up to the present step."""
        if self.catch_up:
            if can_compile(self.table, rows):
                self._check(rows)
                self._compiled_missed(rows.view(-1))
            else:
                self._apply_missed(torch.unique(rows))

    @torch.no_grad()
    def settle(self) -> None:
        """Bring the whole table up to the present step."""
        if self.catch_up:
            now = self.clock.to(self.last.device)
            behind = ((self.last > 0) & (self.last < now)).nonzero().squeeze(1)
            if can_compile(self.table):
                self._compiled_missed(behind)
                return
            for part in behind.split(65536):
                self._apply_missed(part)

    @torch.no_grad()
    def step(self) -> None:
        """One step from the table's sparse gradient."""
        self.clock += 1
        if self.table.grad is None:
            return
        if can_compile(self.table) and self.table.grad.dtype == torch.float32:
            self._note(self._compiled_step(self.table.grad))
            return
        gradient = self.table.grad.coalesce()
        rows, grad = gradient.indices()[0], gradient.values()
        beta1, beta2 = self.betas
        step = int(self.clock)
        weight = self.table[rows]
        if self.l2:
            grad = grad + 2 * self.l2 * weight
        mean = self.mean[rows].lerp_(grad, 1 - beta1)
        square = self.square[rows].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        self.mean[rows], self.square[rows] = mean, square
        root = square.sqrt().div_(math.sqrt(1 - beta2**step)).add_(self.eps)
        self.table[rows] = weight.addcdiv_(mean, root, value=-self.lr / (1 - beta1**step))
        self._note(rows)

    def _note(self, rows: Tensor) -> None:
        """That these rows are up to the present step."""
        if self.catch_up:
            self.last[rows] = self.clock.to(self.last.device)

    def _check_table(self) -> None:
        if self.table.shape != self.mean.shape:
            raise IndexError(
                f"the table has {len(self.table):,} rows, and had {len(self.mean):,} when its "
                "optimizer was made: make a new one"
            )

    def _check(self, rows: Tensor) -> None:
        """Kernels look at no bounds: refuse rows that are not there."""
        self._check_table()
        if rows.numel():
            low, high = rows.aminmax()
            if low < 0 or high >= len(self.table):
                raise IndexError(
                    f"row {int(low) if low < 0 else int(high)} is not in a table of "
                    f"{len(self.table):,} rows"
                )

    def _compiled_missed(self, rows: Tensor) -> None:
        from mdlora.compiled.rows import catch_up_rows

        catch_up_rows(
            self.table.detach().numpy(),
            self.mean.numpy(),
            self.square.numpy(),
            self.last.numpy(),
            rows.numpy(),
            int(self.clock),
            np.array([self.lr, *self.betas, self.eps]),
            self.longest,
        )

    def _compiled_step(self, gradient: Tensor) -> Tensor:
        """The same formulas in two passes of compiled kernels; returns the distinct rows."""
        from mdlora.compiled.rows import adam_on_rows, add_up_rows

        ids, grads = gradient._indices()[0], gradient._values().contiguous()
        self._check_table()
        if self._places is None:
            self._places = torch.zeros(len(self.table), dtype=torch.int32)
        rows, sums = torch.empty_like(ids), torch.empty_like(grads)
        places = self._places.numpy()
        num = add_up_rows(ids.numpy(), grads.numpy(), places, rows.numpy(), sums.numpy())
        if num < 0:
            self._check(ids)
        rows = rows[:num]
        (beta1, beta2), step = self.betas, int(self.clock)
        size, correction = self.lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
        settings = [size, correction, beta1, beta2, self.eps, 2 * self.l2]
        adam_on_rows(
            self.table.detach().numpy(),
            self.mean.numpy(),
            self.square.numpy(),
            rows.numpy(),
            sums.numpy(),
            np.array(settings, dtype=np.float32),
        )
        return rows

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.table.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, not copied."""
        return {
            "clock": self.clock,
            "mean": self.mean,
            "square": self.square,
            "last": self.last,
        }

    def _apply_missed(self, rows: Tensor) -> None:
        now = int(self.clock)
        since = self.last[rows]
        missed = now - since
        rows, since, missed = (t[missed > 0] for t in (rows, since, missed))
        if not rows.numel():
            return
        beta1, beta2 = self.betas
        mean, square = self.mean[rows], self.square[rows]
        kind = mean.dtype
        moved = torch.zeros_like(mean)
        longest = min(int(missed.max()), self.longest)
        for first in range(1, longest + 1, _CHUNK_STEPS):
            j = torch.arange(first, min(first + _CHUNK_STEPS, longest + 1), device=rows.device)
            inside = j <= missed.unsqueeze(1)
            t = (since.unsqueeze(1) + j).double()
            size = beta1 ** j.double() / (1 - beta1**t) * inside
            root = (beta2 ** j.double() / (1 - beta2**t)).sqrt().to(kind).unsqueeze(-1)
            bottom = root * square.sqrt().unsqueeze(1) + self.eps
            moved += (size.to(kind).unsqueeze(-1) / bottom).sum(1)
        self.table[rows] = self.table[rows] - self.lr * mean * moved
        ages = missed.unsqueeze(1).double()
        self.mean[rows] = mean * (beta1**ages).to(kind)
        self.square[rows] = square * (beta2**ages).to(kind)
        self.last[rows] = now
