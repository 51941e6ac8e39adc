"""Adam on plain weights: torch's fused kernel, without its optimizer's overhead."""

from __future__ import annotations

import torch
from torch import Tensor

from mdlora.training.adam_state import AdamState

__all__ = ["DenseAdam"]


class DenseAdam(AdamState):
    """What torch.optim.Adam(fused=True) does, bit for bit.

    On weights of this size its Python takes longer than its kernel. A parameter without a
    gradient stands still in that step, its moments and its clock too. Arguments are `AdamState`'s.
    """

    def start_clocks(self) -> None:
        """Steps of each parameter."""
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
        self.fused_step(parameters, [p.grad for p in parameters], means, squares, clocks)

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, not copied."""
        return {"clocks": self.clocks, **self.moments()}
