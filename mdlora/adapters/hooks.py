"""What an adapted model hangs on the layers of its module, and on the module itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mdlora.layers.row_update import FusableHook

if TYPE_CHECKING:
    from mdlora.adapters.routed import RoutedModule
    from mdlora.adapters.updated import CompiledUpdate

__all__ = ["AddUpdate", "BeginPass", "EndPass", "TakeOver"]


class _LayerHook(FusableHook):
    """A hook of target `index`."""

    def __init__(self, adapted: RoutedModule, index: int) -> None:
        self.adapted = adapted
        self.index = index

    @property
    def is_idle(self) -> bool:
        """Whether it does nothing now, so that the layer need not be called for its sake."""
        return self.adapted.route_mode == "none"


class AddUpdate(_LayerHook):
    """Forward hook of one layer: its own output, plus what its adapters add."""

    def __call__(
        self,
        layer: nn.Module,
        args: tuple[Tensor, ...],
        kwargs: dict[str, Tensor],
        output: Tensor,
    ) -> Tensor:
        """The output with the update."""
        x = args[0] if args else kwargs["input"]
        return self.adapted.add_update(self.index, layer, x, output)

    def can_fuse(self, layer: nn.Module, x: Tensor) -> bool:
        """Whether `fused` can stand in for a call, for as many rows as x, in a step that learns."""
        return self.adapted.can_fuse(self.index, layer, x)

    @property
    def needs_input(self) -> bool:
        """Whether `fused` needs the layer's input, and not any rows."""
        return self.adapted.needs_input(self.index)

    def fused(self, x: Tensor) -> CompiledUpdate:
        """What is to be added, for x, the layer's input, or other rows of the same batch."""
        return self.adapted.fused(self.index, x)


class TakeOver(_LayerHook):
    """Pre-forward hook of one layer.

    Where one step can give the layer's output with its update, the layer itself is handed no
    rows, and `AddUpdate` gives the output that was made here.
    """

    def __call__(self, layer: nn.Linear, args: tuple[Tensor, ...]) -> tuple[Tensor] | None:
        """No rows for the layer, or None to leave it alone."""
        if not args or not self.adapted.take_over(self.index, layer, args[0]):
            return None
        return (args[0][:0].detach(),)

    def can_fuse(self, layer: nn.Module, x: Tensor) -> bool:
        """Whatever `AddUpdate` says: a fused step needs nothing of this hook."""
        return True


class BeginPass:
    """Pre-forward hook of the module: reads the rows' domains from its own inputs."""

    def __init__(self, adapted: RoutedModule) -> None:
        self.adapted = adapted

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Set the route."""
        self.adapted.begin_pass(args, kwargs)


class EndPass:
    """Forward hook of the module: clears what `BeginPass` set.

    Args:
        adapted: whose pass it is.
        completed: the forward pass ended well, so that all targets must have been called.
    """

    def __init__(self, adapted: RoutedModule, *, completed: bool) -> None:
        self.adapted = adapted
        self.completed = completed

    def __call__(self, *_: Any) -> None:  # as names, torch.compile would look at the results
        """Clear the route."""
        self.adapted.end_pass(completed=self.completed)
