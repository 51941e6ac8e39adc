"""The update of rows that each use all adapters, as one step with hand-written gradients.

Two products there and, while the adapters stand still, two back: what autograd would keep, copy
and multiply besides costs as much again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdlora.adapters.checks import check_shapes
from mdlora.adapters.routes import MixtureRoute
from mdlora.config import counted
from mdlora.errors import AdapterError

__all__ = ["MixedUpdate"]

Grads = list[Tensor | None]


class MixedUpdate:
    """As `LowRankUpdate`, for weights (B, K) of all adapters; float32 on a CPU.

    Rows may come in parts.

    Args:
        down: (K, R, I).
        up: (K, R, O).
        bias: (K, O) or None.
        route: the weights.
    """

    def __init__(self, down: Tensor, up: Tensor, bias: Tensor | None, route: MixtureRoute) -> None:
        weights = route.mixture(down.dtype).contiguous()
        self.tensors: tuple[Tensor | None, ...] = (down, up, bias, weights)
        """What the update is computed from, beside x: down, up, bias or None, weights (B, K)."""
        self._rank = down.shape[1]
        self._down = down.detach().view(-1, down.shape[2])
        up = up.detach().view(-1, up.shape[2])
        # A bias is one more rank of each adapter, whose factor is the weight alone.
        self._up = up if bias is None else torch.cat((up, bias.detach()))
        self._weights = weights.detach()
        # What the way back needs: low always, and scaled where up or bias learn.
        self._low = self._weights.new_empty(len(weights), len(self._down))
        learns = any(t is not None and t.requires_grad for t in (self.tensors[1], bias))
        self._scaled = self._weights.new_empty(len(weights) if learns else 0, len(self._up))
        self._wanted: Sequence[bool] = ()
        self._found: Grads = []

    @property
    def in_parts(self) -> bool:
        """Whether rows may come in parts."""
        return True

    @property
    def row_numbers(self) -> int:
        """How many numbers a row needs while it is worked on."""
        return len(self._down) + len(self._up)

    def route_with(self, weights: Tensor | None) -> MixtureRoute:
        """The route with these weights in place of its own."""
        assert weights is not None
        return MixtureRoute(weights)

    def check(self, rows: int, width: int, out: int) -> None:
        """As `LowRankUpdate.check`."""
        num, experts = self._weights.shape
        check_shapes((rows, width, out), self.tensors[:2], (num, experts))
        if experts != len(self._down) // self._rank:
            raise AdapterError(
                f"Weights of {counted(experts, 'adapter')} for "
                f"{counted(len(self._down) // self._rank, 'adapter')}."
            )

    def add(self, z: Tensor, x: Tensor, first: int = -1) -> None:
        """Add each row's update to z (n, O), in place; arguments as for `LowRankUpdate.add`."""
        from mdlora.compiled.mixed import scale_mixed

        z, x = z.detach(), x.detach()
        weights, low, scaled = self._rows(x.shape[0], first)
        torch.mm(x, self._down.t(), out=low)
        scale_mixed(low.numpy(), weights.numpy(), self._rank, scaled.numpy())
        z.addmm_(scaled, self._up)

    def start_back(self, wanted: Sequence[bool]) -> None:
        """Begin to collect gradients of those of `tensors` that are `wanted`."""
        like = self._down, self._up, None, self._weights
        needs = wanted[0], wanted[1] or wanted[2], False, wanted[3]
        self._wanted = wanted
        self._found = [
            torch.empty_like(t) if need and t is not None else None
            for t, need in zip(like, needs, strict=True)
        ]

    def pass_back(self, grad: Tensor, x: Tensor, of_x: Tensor | None, first: int = -1) -> None:
        """Collect gradients; arguments as for `LowRankUpdate.pass_back`."""
        from mdlora.compiled.mixed import mixed_dots, scale_mixed

        of_down, of_up, _, of_weights = self._found
        weights, low, scaled = self._rows(x.shape[0], first)
        more = float(first > 0)  # than the first part, with which sums begin
        if of_up is not None:
            torch.addmm(of_up, scaled.t(), grad, beta=more, out=of_up)
        if of_x is None and of_down is None and of_weights is None:
            return
        back = grad.mm(self._up.t())
        if of_weights is not None:
            part = of_weights[max(first, 0) :][: x.shape[0]]
            mixed_dots(back.numpy(), low.numpy(), self._rank, part.numpy())
        scaled = torch.empty_like(low)
        scale_mixed(back.numpy(), weights.numpy(), self._rank, scaled.numpy())
        if of_x is not None:
            of_x.addmm_(scaled, self._down)
        if of_down is not None:
            torch.addmm(of_down, scaled.t(), x.detach(), beta=more, out=of_down)

    def gradients(self) -> Grads:
        """What was collected: of each of `tensors`, None where it was not wanted."""
        (of_down, of_up, _, of_weights), num = self._found, len(self._down)
        self._found = []
        grads: Grads = [None, None, None, of_weights]
        if of_down is not None:
            grads[0] = of_down.view(-1, self._rank, of_down.shape[1])
        if of_up is not None and self._wanted[1]:
            grads[1] = of_up[:num].view(-1, self._rank, of_up.shape[1])
        if of_up is not None and self._wanted[2]:
            grads[2] = of_up[num:]
        return grads

    def _rows(self, num: int, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of some rows: weights, x A, and the place for the scaled x A."""
        begin = max(first, 0)
        parts = [t[begin : begin + num] for t in (self._weights, self._low, self._scaled)]
        if parts[2].shape[0] < num:
            parts[2] = self._low.new_empty(num, len(self._up))
        return parts[0], parts[1], parts[2]
