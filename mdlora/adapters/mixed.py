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
        self._low = self._scaled = self._weights

    def route_with(self, weights: Tensor | None) -> MixtureRoute:
        """The route with these weights in place of its own."""
        assert weights is not None
        return MixtureRoute(weights)

    def add(self, z: Tensor, x: Tensor) -> None:
        """Add each row's update to z (B, O), in place."""
        from mdlora.compiled.low_rank import scale_mixed

        rows, experts = self._weights.shape
        check_shapes(z, x, self.tensors[:2], (rows, experts))
        if experts != len(self._down) // self._rank:
            raise AdapterError(
                f"Weights of {counted(experts, 'adapter')} for "
                f"{counted(len(self._down) // self._rank, 'adapter')}."
            )
        z, x = z.detach(), x.detach()
        self._low = x.mm(self._down.t())
        self._scaled = self._low.new_empty(len(x), len(self._up))
        scale_mixed(self._low.numpy(), self._weights.numpy(), self._rank, self._scaled.numpy())
        z.addmm_(self._scaled, self._up)

    def gradients(
        self, grad: Tensor, x: Tensor, of_x: Tensor | None, wanted: Sequence[bool]
    ) -> Grads:
        """The gradients of what `add` added; arguments as for `LowRankUpdate.gradients`."""
        from mdlora.compiled.low_rank import mixed_dots, scale_mixed

        grads: Grads = [None] * 4
        num = len(self._down)
        if wanted[1] or wanted[2]:
            both = self._scaled.t().mm(grad)
            grads[1] = both[:num].view(-1, self._rank, grad.shape[1]) if wanted[1] else None
            grads[2] = both[num:] if wanted[2] else None
        if of_x is None and not wanted[0] and not wanted[3]:
            return grads
        back = grad.mm(self._up.t())
        if wanted[3]:
            of_weights = torch.empty_like(self._weights)
            mixed_dots(back.numpy(), self._low.numpy(), self._rank, of_weights.numpy())
            grads[3] = of_weights
        scaled = torch.empty_like(self._low)
        scale_mixed(back.numpy(), self._weights.numpy(), self._rank, scaled.numpy())
        if of_x is not None:
            of_x.addmm_(scaled, self._down)
        if wanted[0]:
            grads[0] = scaled.t().mm(x.detach()).view(-1, self._rank, x.shape[1])
        return grads
