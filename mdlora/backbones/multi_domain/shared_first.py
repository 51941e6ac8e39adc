"""Methods that end in a tower and a head of each domain, after a part that does not know it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from mdlora.backbones.base import Inputs
from mdlora.backbones.multi_domain.base import MultiDomainBackbone
from mdlora.config import check_count
from mdlora.errors import ConfigError
from mdlora.layers import DomainLinear, DomainMLP, DomainRows

__all__ = ["SharedFirst", "split_hidden"]


def split_hidden(
    hidden: Sequence[int], tower_layers: int | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Widths of the layers before the towers, and of each domain's tower.

    Args:
        hidden: `backbone.hidden`.
        tower_layers: how many of the last ones are the tower's; None: one, or none of one.

    Raises:
        ConfigError: nothing is left before the towers.
    """
    check_count("backbone.options.tower_layers", tower_layers, low=0, optional=True)
    own = min(1, len(hidden) - 1) if tower_layers is None else tower_layers
    shared = len(hidden) - own
    if shared < 1:
        raise ConfigError(
            f"backbone.options.tower_layers={own} leaves none of the {len(hidden)} layers of "
            f"backbone.hidden for what comes before the towers; choose 0 to {len(hidden) - 1}."
        )
    return tuple(hidden[:shared]), tuple(hidden[shared:])


class SharedFirst(MultiDomainBackbone):
    """A method whose first part is run once for each row, whatever its domain.

    `shared(x)` is that part; `own(parts, rows)` makes of it what the row's domain sees, which then
    passes the domain's own tower (submodule `towers`) and head (`heads`). Only the row's own
    tower is computed.

    Args:
        inputs: what it is built for.
        width: of the towers' input.
        tower: widths of the towers' layers, perhaps none.
        dropout: chance of dropping a hidden unit.
    """

    def __init__(self, inputs: Inputs, *, width: int, tower: Sequence[int], dropout: float) -> None:
        super().__init__(inputs)
        self.towers = DomainMLP(self.num_domains, width, tower, dropout=dropout)
        self.heads = DomainLinear(self.num_domains, tower[-1] if tower else width, 1)

    @abstractmethod
    def own(self, parts: tuple[Tensor, ...], rows: DomainRows) -> Tensor:
        """The input of the row's tower, (B, width), from what `shared` made."""

    def logits(self, parts: tuple[Tensor, ...], rows: DomainRows) -> Tensor:
        """The logit of each row."""
        logits: Tensor = self.heads(self.towers(self.own(parts, rows), rows), rows)
        return logits.squeeze(1)
