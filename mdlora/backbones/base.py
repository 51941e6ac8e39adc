"""What every backbone is given, and what it says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mdlora.layers import MLP, dense
from mdlora.types import Embedded

__all__ = ["Backbone", "Inputs", "ListInput", "TowerBackbone", "tower_input"]


@dataclass(frozen=True, kw_only=True)
class ListInput:
    """A list column: its name, and the place of its pooled vector in Embedded.fields."""

    name: str
    field: int


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a backbone is built for: the shapes of `Embedded`, and where things are in it.

    `field_names` name the G fields of Embedded.fields in their order.
    """

    field_names: tuple[str, ...]
    """Names of all G fields, in the order of Embedded.fields."""

    embed_dim: int
    """E, the width of a field."""

    num_dense: int = 0
    """N, how many scaled numbers there are."""

    num_domains: int = 1
    """D, known domains; ids of Embedded.domain run from 0 (unknown) to D."""

    domain_field: int | None = None
    """Place of the domain's own field; None where there is none."""

    user_field: int | None = None
    """Place of the field whose role is "user", if any."""

    item_field: int | None = None
    """Place of the field whose role is "item", if any."""

    lists: tuple[ListInput, ...] = ()
    """The list columns, in the order of Embedded.lists."""

    @property
    def num_fields(self) -> int:
        """G."""
        return len(self.field_names)

    @property
    def width(self) -> int:
        """Width of the flat input: all fields, and the scaled numbers."""
        return self.num_fields * self.embed_dim + self.num_dense

    @classmethod
    def of_fields(
        cls, num_fields: int, embed_dim: int, *, num_dense: int = 0, num_domains: int = 1
    ) -> Inputs:
        """Inputs of so many fields, the last of which is the domain's."""
        return cls(
            field_names=tuple(f"field {i}" for i in range(num_fields)),
            embed_dim=embed_dim,
            num_dense=num_dense,
            num_domains=num_domains,
            domain_field=num_fields - 1,
        )


def tower_input(x: Embedded) -> Tensor:
    """The flat input of a tower (B, G * E + N): all fields one after another, then the numbers."""
    inputs = x.fields.flatten(1)
    return torch.cat((inputs, x.dense), 1) if x.dense.shape[1] else inputs


class Backbone(nn.Module, ABC):
    """A network from `Embedded` to logits (B,).

    A subclass takes `Inputs`, `hidden` and `dropout`, and its own settings as further keywords
    with defaults: these are its `backbone.options`. Its dense layers are `nn.Linear`, so that
    adapters find them.

    A class that is called directly has dropout 0.0 unless told otherwise, as a layer alone has.
    Models that are built from settings (`build_backbone`, `CTRModel`, the commands) get
    `BackboneConfig.dropout`, which is 0.5, and that is the default that `mdlora models` shows.
    """

    uses_first_order: bool = False
    """Whether it adds the linear part, Embedded.first_order; an option may decide it."""

    uses_lists: bool = False
    """Whether it looks into list columns, Embedded.lists."""

    adapter_targets: str = "tower"
    """The layers that adapters reach unless told otherwise (a pattern, as `adapter.targets`)."""

    adapter_hint: ClassVar[str] = ""
    """What to do where adapters cannot reach its layers; said where a pattern matches none."""

    is_multi_domain: ClassVar[bool] = False
    """Whether it has parts of its own for each domain."""

    tower_option: ClassVar[str] = "backbone.options.deep"
    """The option that adds a tower, where hidden layers are idle without one."""

    paper: ClassVar[str] = ""
    """Authors, year and where to find the paper."""

    @classmethod
    def idle_settings(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Which of "hidden" and "dropout" have no effect beside these options.

        Args:
            options: all options, defaults among them.
        """
        return ()

    @classmethod
    def width_multiple(cls, options: Mapping[str, Any]) -> int:
        """What the last hidden width must be a multiple of, beside these options.

        Args:
            options: all options, defaults among them.
        """
        return 1

    @abstractmethod
    def forward(self, x: Embedded) -> Tensor:
        """The logit of each row, (B,)."""

    def extra_loss(self) -> Tensor | None:
        """What its last training pass adds to the mean log loss, a scalar; None for nothing.

        Training asks after each pass. The loss that is reported stays the log loss alone.
        """
        return None


class TowerBackbone(Backbone):
    """A backbone with a deep tower and a one-unit head on it.

    Args:
        inputs: what it is built for.
        hidden: widths of the tower's layers.
        dropout: chance of dropping a hidden unit.
        width: of the tower's input; default: all fields and numbers.
    """

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
        width: int | None = None,
    ) -> None:
        super().__init__()
        self.tower = MLP(inputs.width if width is None else width, hidden, dropout=dropout)
        self.head = dense(hidden[-1], 1)

    def deep(self, inputs: Tensor) -> Tensor:
        """The tower's part of the logit, (B,), from its input (B, I)."""
        logits: Tensor = self.head(self.tower(inputs)).squeeze(-1)
        return logits
