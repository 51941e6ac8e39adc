"""What the optimizers of plain weights and of adapters share: moments, and torch's fused step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["AdamState"]


class AdamState:
    """The settings and moments of Adam (Kingma and Ba 2015) over some parameters.

    Args:
        parameters: what learns.
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
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.start_clocks()

    def start_clocks(self) -> None:
        """Begin to count steps, each kind of optimizer as it needs them."""

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def moments(self) -> dict[str, Tensor]:
        """Both moments of each parameter by name, not copied."""
        state = {}
        for i, (mean, square) in enumerate(zip(self.means, self.squares, strict=True)):
            state[f"mean.{i}"], state[f"square.{i}"] = mean, square
        return state

    def fused_step(
        self,
        parameters: list[Tensor],
        grads: list[Tensor],
        means: list[Tensor],
        squares: list[Tensor],
        clocks: list[Tensor],
    ) -> None:
        """One step of torch.optim.Adam's own kernel; `clocks` () float32 count it already."""
        grads = [
            # The kernel looks at no strides.
            g if g.is_contiguous() and p.is_contiguous() else torch.empty_like(p).copy_(g)
            for g, p in zip(grads, parameters, strict=True)
        ]
        torch._fused_adam_(
            parameters,
            grads,
            means,
            squares,
            [],
            clocks,
            lr=self.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=0.0,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )
