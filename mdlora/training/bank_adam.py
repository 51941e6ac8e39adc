"""Adam on stacked adapters, each with its own clock."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["BankAdam"]


class BankAdam:
    """Adam (Kingma and Ba 2015) over tensors (K, ...) whose slice k belongs to adapter k.

    Weights, both moments and the step counter of an adapter change only in steps that name it
    active: one without rows in a batch does not move, nor do its moments decay.

    Args:
        parameters: tensors with the same first size K.
        lr: learning rate.
        betas: decay rates of the moments.
        eps: added to the root of the second moment.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.parameters = list(parameters)
        self.lr, self.betas, self.eps = lr, betas, eps
        first = self.parameters[0]
        self.steps = torch.zeros(first.shape[0], dtype=torch.float64, device=first.device)
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, active: Tensor | None = None) -> None:
        """One step of the active adapters: (K,) bool, or None for all."""
        if active is not None and not bool(active.all()):
            self._some(active.nonzero().squeeze(1))
        elif bool((self.steps == self.steps[0]).all()):
            self._all()
        else:
            self._some(torch.arange(len(self.steps), device=self.steps.device))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, not copied."""
        state = {"steps": self.steps}
        for i, (mean, square) in enumerate(zip(self.means, self.squares, strict=True)):
            state[f"mean.{i}"], state[f"square.{i}"] = mean, square
        return state

    def _corrections(self, steps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Of each adapter, lr / (1 - beta1^t) and sqrt(1 - beta2^t)."""
        step_size = self.lr / (1 - self.betas[0] ** steps)
        root = (1 - self.betas[1] ** steps).sqrt()
        return step_size.to(like.dtype), root.to(like.dtype)

    def _all(self) -> None:
        """All adapters, whose clocks agree: the same arithmetic on whole tensors."""
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        beta1, beta2 = self.betas
        self.steps += 1
        clock = float(self.steps[0])
        torch._foreach_lerp_(self.means, grads, 1 - beta1)
        torch._foreach_mul_(self.squares, beta2)
        torch._foreach_addcmul_(self.squares, grads, grads, 1 - beta2)
        roots = torch._foreach_sqrt(self.squares)
        torch._foreach_div_(roots, (1 - beta2**clock) ** 0.5)
        torch._foreach_add_(roots, self.eps)
        size = self.lr / (1 - beta1**clock)
        torch._foreach_addcdiv_([*self.parameters], self.means, roots, -size)

    def _some(self, chosen: Tensor) -> None:
        if not chosen.numel():
            return
        beta1, beta2 = self.betas
        steps = self.steps[chosen] + 1
        self.steps[chosen] = steps
        size, correction = self._corrections(steps, self.parameters[0])
        for parameter, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            if parameter.grad is None:
                grad = torch.zeros_like(parameter[chosen])
            else:
                grad = parameter.grad[chosen]
            shape = (-1, *[1] * (parameter.dim() - 1))
            new_mean = mean[chosen].lerp_(grad, 1 - beta1)
            new_square = square[chosen].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            mean.index_copy_(0, chosen, new_mean)
            square.index_copy_(0, chosen, new_square)
            root = new_square.sqrt().div_(correction.view(shape)).add_(self.eps)
            parameter.index_add_(0, chosen, new_mean.div_(root).mul_(size.view(shape)), alpha=-1)
