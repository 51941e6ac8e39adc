"""The update of rows that each use all adapters, as one step with hand-written gradients.

Two products there and, while the adapters stand still, two back: what autograd would keep, copy
and multiply besides costs as much again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdlora.adapters.routes import MixtureRoute

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
        self._up = up.detach().view(-1, up.shape[2])
        self._bias = None if bias is None else bias.detach()
        self._weights = weights.detach()
        self._low = self._scaled = self._weights

    def route_with(self, weights: Tensor | None) -> MixtureRoute:
        """The route with these weights in place of its own."""
        assert weights is not None
        return MixtureRoute(weights)

    def add(self, z: Tensor, x: Tensor) -> None:
        """Add each row's update to z (B, O), in place."""
        from mdlora.compiled.low_rank import scale_mixed

        z, x = z.detach(), x.detach()
        self._low = x.mm(self._down.t())
        self._scaled = torch.empty_like(self._low)
        scale_mixed(self._low.numpy(), self._weights.numpy(), self._rank, self._scaled.numpy())
        z.addmm_(self._scaled, self._up)
        if self._bias is not None:
            z.addmm_(self._weights, self._bias)

    def gradients(
        self, grad: Tensor, x: Tensor, of_x: Tensor | None, wanted: Sequence[bool]
    ) -> Grads:
        """The gradients of what `add` added; arguments as for `LowRankUpdate.gradients`."""
        from mdlora.compiled.low_rank import mixed_gradients

        grads: Grads = [None] * 4
        if wanted[2]:
            grads[2] = self._weights.t().mm(grad)
        if wanted[1]:
            grads[1] = self._scaled.t().mm(grad).view(-1, self._rank, grad.shape[1])
        if of_x is None and not wanted[0] and not wanted[3]:
            return grads
        back = grad.mm(self._up.t())
        if self._bias is None:
            of_weights = torch.zeros_like(self._weights)
        else:
            of_weights = grad.mm(self._bias.t())
        arrays = back.numpy(), self._low.numpy(), self._weights.numpy()
        mixed_gradients(*arrays, self._rank, of_weights.numpy())
        if of_x is not None:
            of_x.addmm_(back, self._down)
        if wanted[0]:
            grads[0] = back.t().mm(x.detach()).view(-1, self._rank, x.shape[1])
        if wanted[3]:
            grads[3] = of_weights
        return grads
