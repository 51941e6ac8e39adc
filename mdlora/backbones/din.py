"""The deep interest network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from mdlora.backbones.base import Inputs, TowerBackbone, tower_input
from mdlora.backbones.fields import find_list, find_target
from mdlora.config import check_choice, check_count
from mdlora.errors import ConfigError
from mdlora.layers import LocalActivation, LocalActivationKind
from mdlora.types import Embedded

__all__ = ["DIN"]


class DIN(TowerBackbone):
    """Deep Interest Network (Zhou et al. 2018, arXiv:1706.06978): a history seen from the item.

    A list of what a user did before is summed with weights that a local activation unit,
    `attention`, gives each of its items by the item that the row is about (the target). This sum
    takes the place of the list's pooled vector; then comes the tower, with ReLU as in all
    backbones. In the paper the history has the item's own embeddings: give the list column the
    setting `like`. Other lists stay pooled.

    Shapes (B rows, G fields, E width, N numbers, V items): x.fields (B, G, E), x.dense (B, N),
    x.lists[i].values (V, E) -> (B,). Adapters on `attention` give an item what the domain of its
    row has; the default targets are those of the tower.

    Args:
        inputs: what it is built for.
        hidden: widths of the tower's layers.
        dropout: chance of dropping a hidden unit of the tower.
        history: name of the list column; None for the only one.
        target: name of the field that the history is seen from; None for the one with the role
            "item".
        attention_hidden: widths of the hidden layers of the local activation unit.
        activation: what follows each of them: "prelu", "dice", "relu" or "sigmoid".
        softmax: whether the weights of a history are normalised to sum to one. They are not in
            the paper, so that a longer interest counts more.
    """

    uses_lists = True
    paper = "Zhou et al. 2018, arXiv:1706.06978"

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
        history: str | None = None,
        target: str | None = None,
        attention_hidden: tuple[int, ...] = (36,),
        activation: LocalActivationKind = "prelu",
        softmax: bool = False,
    ) -> None:
        check_choice("backbone.options.activation", activation, get_args(LocalActivationKind))
        if not attention_hidden:
            raise ConfigError(
                "backbone.options.attention_hidden is empty; give at least one width, say [36]."
            )
        for width in attention_hidden:
            check_count("backbone.options.attention_hidden", width, low=1)
        place = find_list(inputs, "history", history, "din")
        seen_from = find_target(inputs, "target", target, "din")
        pooled = inputs.lists[place].field
        if seen_from == pooled:
            raise ConfigError(
                f"backbone.options.target={target!r} is the history itself; name the field of "
                "the item that a row is about."
            )
        super().__init__(inputs, hidden=hidden, dropout=dropout)
        self.place, self.pooled, self.target = place, pooled, seen_from
        self.attention = LocalActivation(
            inputs.embed_dim, attention_hidden, activation=activation, softmax=softmax
        )

    def forward(self, x: Embedded) -> Tensor:
        """The logit of each row."""
        history = x.lists[self.place]
        interest = self.attention(x.fields[:, self.target], history.values, history.offsets)
        before, after = x.fields[:, : self.pooled], x.fields[:, self.pooled + 1 :]
        fields = torch.cat((before, interest.unsqueeze(1), after), 1)
        return self.deep(tower_input(Embedded(fields, x.first_order, x.dense, x.domain)))
