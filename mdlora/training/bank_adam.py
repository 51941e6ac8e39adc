"""Adam on stacked adapters, each with its own clock."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mdlora.compiled import can_compile
from mdlora.training.adam_state import AdamState

__all__ = ["BankAdam"]


class BankAdam(AdamState):
    """Adam over tensors (K, ...) whose slice k belongs to adapter k.

    Weights, both moments and the step counter of an adapter change only in steps that name it
    active: one without rows in a batch does not move, nor do its moments decay. Gradients may be
    sparse, with slices of some adapters alone; a step then reads and writes no others. Arguments
    are `AdamState`'s; all parameters have the same first size K.
    """

    def start_clocks(self) -> None:
        """Steps of each adapter."""
        first = self.parameters[0]
        self._steps = torch.zeros(first.shape[0], dtype=torch.float64, device=first.device)
        self._clocks = torch.zeros((), dtype=torch.float32, device=first.device)  # as torch has it
        self._clock: int | None = None  # of all adapters, where known to be one; steps lag behind

    @property
    def steps(self) -> Tensor:
        """(K,) float64, the steps that each adapter has made."""
        if self._clock is not None:
            self._steps.fill_(self._clock)
        return self._steps

    @torch.no_grad()
    def step(self, active: Tensor | None = None) -> None:
        """One step of the active adapters: (K,) bool, or None for all."""
        if active is not None and not bool(active.all()):
            self._some(active.nonzero().squeeze(1))
        elif self._agreed_clock() is None:
            self._some(torch.arange(len(self._steps), device=self._steps.device))
        else:
            self._all()

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, not copied."""
        state = {"steps": self.steps, **self.moments()}
        self._clock = None  # the caller may write into them
        return state

    def _corrections(self, steps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Of each adapter, lr / (1 - beta1^t) and sqrt(1 - beta2^t)."""
        step_size = self.lr / (1 - self.betas[0] ** steps)
        root = (1 - self.betas[1] ** steps).sqrt()
        return step_size.to(like.dtype), root.to(like.dtype)

    def _agreed_clock(self) -> int | None:
        if self._clock is None and bool((self._steps == self._steps[0]).all()):
            self._clock = int(self._steps[0])
        return self._clock

    def _all(self) -> None:
        """All adapters, whose clocks agree: torch's own fused step, the same formulas."""
        assert self._clock is not None
        self._clock += 1
        clock = self._clocks.fill_(self._clock)
        grads = [
            _dense(p.grad) if p.grad is not None else torch.zeros_like(p) for p in self.parameters
        ]
        clocks = [clock] * len(self.parameters)
        self.fused_step([*self.parameters], grads, self.means, self.squares, clocks)

    def _some(self, chosen: Tensor) -> None:
        if not chosen.numel():
            return
        made = self.steps
        self._clock = None
        steps = made[chosen] + 1
        made[chosen] = steps
        step = self._kernel_step if self._can_compile() else self._plain_step
        size, correction = self._corrections(steps, self.parameters[0])
        for parameter, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            step(parameter, mean, square, chosen, size, correction)

    def _can_compile(self) -> bool:
        grads = (p.grad for p in self.parameters if p.grad is not None)
        values = (g._values() if g.is_sparse else g for g in grads)
        return can_compile(*self.parameters, *self.means, *self.squares, *values)

    def _kernel_step(
        self, parameter: Tensor, mean: Tensor, square: Tensor, chosen: Tensor, size: Tensor,
        correction: Tensor,
    ) -> None:  # fmt: skip
        from mdlora.compiled.low_rank_adam import step_slices

        num, found = len(parameter), parameter.grad
        if found is None:
            grad, place = mean[:0], torch.full_like(chosen, -1)
        elif found.is_sparse:
            found = found if _is_sorted(found) else found.coalesce()
            rows, grad = found._indices()[0], found._values()
            place = torch.searchsorted(rows, chosen)
            there = place.clamp(max=max(len(rows) - 1, 0))
            place = torch.where(rows[there] == chosen, there, -1) if len(rows) else place - num - 1
        else:
            grad, place = found, chosen
        weights, means, squares, grads = (
            t.detach().view(len(t), parameter[0].numel()).numpy()
            for t in (parameter, mean, square, grad)
        )
        step_slices(
            weights,
            means,
            squares,
            grads,
            place.numpy(),
            chosen.numpy(),
            size.numpy(),
            correction.reciprocal().numpy(),
            np.float32(1 - self.betas[0]),
            np.float32(1 - self.betas[1]),
            np.float32(self.eps),
        )

    def _plain_step(
        self, parameter: Tensor, mean: Tensor, square: Tensor, chosen: Tensor, size: Tensor,
        correction: Tensor,
    ) -> None:  # fmt: skip
        beta1, beta2 = self.betas
        if parameter.grad is None:
            grad = torch.zeros_like(parameter[chosen])
        else:
            grad = _dense(parameter.grad)[chosen]
        shape = (-1, *[1] * (parameter.dim() - 1))
        new_mean = mean[chosen].lerp_(grad, 1 - beta1)
        new_square = square[chosen].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        mean.index_copy_(0, chosen, new_mean)
        square.index_copy_(0, chosen, new_square)
        root = new_square.sqrt().div_(correction.view(shape)).add_(self.eps)
        parameter.index_add_(0, chosen, new_mean.div_(root).mul_(size.view(shape)), alpha=-1)


def _dense(grad: Tensor) -> Tensor:
    return grad.to_dense() if grad.is_sparse else grad


def _is_sorted(grad: Tensor) -> bool:
    """Whether a sparse gradient's rows rise, each there once."""
    rows = grad._indices()[0]
    return grad.is_coalesced() or bool((rows[1:] > rows[:-1]).all())
