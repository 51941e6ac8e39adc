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
from mdlora.layers.dropout import ShiftedReLU

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
        self.rank = down.shape[1]
        self.down = down.detach().view(-1, down.shape[2])
        up = up.detach().view(-1, up.shape[2])
        # A bias is one more rank of each adapter, whose factor is the weight alone.
        self.up = up if bias is None else torch.cat((up, bias.detach()))
        self.weights = weights.detach()
        # What the way back needs: low always, and scaled where up or bias learn.
        self.low = self.weights.new_empty(len(weights), len(self.down))
        learns = any(t is not None and t.requires_grad for t in (self.tensors[1], bias))
        self.scaled = self.weights.new_empty(len(weights) if learns else 0, len(self.up))

    @property
    def in_parts(self) -> bool:
        """Whether rows may come in parts."""
        return True

    @property
    def row_numbers(self) -> int:
        """How many numbers a row needs while it is worked on."""
        return len(self.down) + len(self.up)

    @property
    def caches(self) -> int:
        """Two (measured): what is done are products, and they are faster on more rows."""
        return 2

    @property
    def groups(self) -> None:
        """Rows that use all adapters make no runs."""
        return

    def route_with(self, weights: Tensor | None) -> MixtureRoute:
        """The route with these weights in place of its own."""
        assert weights is not None
        return MixtureRoute(weights)

    def check(self, rows: int, width: int, out: int) -> None:
        """As `LowRankUpdate.check`."""
        num, experts = self.weights.shape
        check_shapes((rows, width, out), self.tensors[:2], num, experts)
        if experts != len(self.down) // self.rank:
            raise AdapterError(
                f"Weights of {counted(experts, 'adapter')} for "
                f"{counted(len(self.down) // self.rank, 'adapter')}."
            )

    def add(self, z: Tensor, x: Tensor, first: int = 0, after: ShiftedReLU | None = None) -> None:
        """Add each row's update to z (n, O), in place; arguments as for `LowRankUpdate.add`."""
        from mdlora.compiled.mixed import scale_mixed

        z, x = z.detach(), x.detach()
        some = slice(first, first + x.shape[0])
        low, scaled = self.low[some], self.scaled[some]
        if not len(scaled):
            scaled = low.new_empty(len(low), len(self.up))
        torch.mm(x, self.down.t(), out=low)
        scale_mixed(low.numpy(), self.weights[some].numpy(), self.rank, scaled.numpy())
        z.addmm_(scaled, self.up)
        if after is not None:
            after.keep(z.numpy(), first)

    def back(self, wanted: Sequence[bool]) -> MixedBack:
        """What collects the gradients of those of `tensors` that are `wanted`."""
        return MixedBack(self, wanted)


class MixedBack:
    """The way back of a `MixedUpdate`, as `LowRankBack`."""

    def __init__(self, update: MixedUpdate, wanted: Sequence[bool]) -> None:
        self.update, self._wanted = update, wanted
        needs = wanted[0], wanted[1] or wanted[2], wanted[3]
        like = update.down, update.up, update.weights
        self._found = [
            torch.empty_like(t) if need else None for t, need in zip(like, needs, strict=True)
        ]

    def pass_back(
        self, grad: Tensor, x: Tensor, of_x: Tensor | None, first: int,
        before: ShiftedReLU | None = None,
    ) -> None:  # fmt: skip
        """Collect gradients; arguments as for `LowRankBack.pass_back`."""
        from mdlora.compiled.mixed import mixed_dots, scale_mixed

        update, (of_down, of_up, of_weights) = self.update, self._found
        some = slice(first, first + x.shape[0])
        more = float(first > 0)  # than the first part, with which sums begin
        if of_up is not None:
            torch.addmm(of_up, update.scaled[some].t(), grad, beta=more, out=of_up)
        if of_x is None and of_down is None and of_weights is None:
            return
        low, back = update.low[some], grad.mm(update.up.t())
        if of_weights is not None:
            mixed_dots(back.numpy(), low.numpy(), update.rank, of_weights[some].numpy())
        scaled = torch.empty_like(low)
        scale_mixed(back.numpy(), update.weights[some].numpy(), update.rank, scaled.numpy())
        if of_x is not None:
            of_x.addmm_(scaled, update.down)
            if before is not None:
                before.pass_back(of_x.numpy(), first)
        if of_down is not None:
            torch.addmm(of_down, scaled.t(), x.detach(), beta=more, out=of_down)

    def gradients(self) -> Grads:
        """What was collected: of each of `tensors`, None where it was not wanted."""
        (of_down, of_up, of_weights), rank = self._found, self.update.rank
        grads: Grads = [None, None, None, of_weights]
        if of_down is not None:
            grads[0] = of_down.view(-1, rank, of_down.shape[1])
        if of_up is not None and self._wanted[1]:
            grads[1] = of_up[: len(self.update.down)].view(-1, rank, of_up.shape[1])
        if of_up is not None and self._wanted[2]:
            grads[2] = of_up[len(self.update.down) :]
        return grads
