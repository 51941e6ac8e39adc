"""Adam on plain weights: torch's fused kernel, without its optimizer's overhead."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["DenseAdam"]


class DenseAdam:
    """Adam (Kingma and Ba 2015): what torch.optim.Adam(fused=True) does, bit for bit.

    On weights of this size its Python takes longer than its kernel. A parameter without a
    gradient stands still in that step, its moments and its clock too.

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
        device = self.parameters[0].device
        self.clocks = torch.zeros(len(self.parameters), dtype=torch.float32, device=device)

    @torch.no_grad()
    def step(self) -> None:
        """One step of all parameters with a gradient."""
        learning = [p.grad is not None for p in self.parameters]
        if all(learning):
            self.clocks += 1
        else:
            self.clocks += torch.tensor(learning, device=self.clocks.device)
        everything = zip(
            self.parameters, self.means, self.squares, self.clocks.unbind(), strict=True
        )
        chosen = [parts for parts in everything if parts[0].grad is not None]
        if not chosen:
            return
        parameters, means, squares, clocks = map(list, zip(*chosen, strict=True))
        torch._fused_adam_(
            parameters,
            [p.grad for p in parameters],
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

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, not copied."""
        state = {"clocks": self.clocks}
        for i, (mean, square) in enumerate(zip(self.means, self.squares, strict=True)):
            state[f"mean.{i}"], state[f"square.{i}"] = mean, square
        return state
