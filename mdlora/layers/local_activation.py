"""Attention of one item to each item of a list."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from mdlora.layers.dice import Dice
from mdlora.layers.lists import list_of_items, look_up, softmax_lists, sum_lists
from mdlora.layers.mlp import dense
from mdlora.layers.owners import rows_of

__all__ = ["LocalActivation", "LocalActivationKind"]

LocalActivationKind = Literal["dice", "prelu", "relu", "sigmoid"]


class LocalActivation(nn.Module):
    """sum_j a(t, e_j) e_j over the items e_j of each list, with t the row's own target.

    a, the local activation unit of Zhou et al. 2018 (arXiv:1706.06978, section 4.3), is a network
    on (t, e_j, t - e_j, t * e_j) with one output, w_j. The w_j are taken as they are, so that
    their sum says how much the target interests; with `softmax` those of a list sum to one. An
    empty list gives zeros. (The paper feeds t, e_j and their outer product; its authors' code,
    and so this layer, the difference and the product element by element.)

    The linear maps `linears.i` and `head` see items, V rows, not the batch's B; `rows_of` says
    whose these are, so that adapters give an item what the domain of its own row has.

    Shapes (B rows, V items of all lists, E width): target (B, E), items (V, E),
    offsets (B + 1,) int64 -> (B, E).

    Args:
        width: E.
        hidden: widths of the hidden layers of a.
        activation: what follows each of them.
        softmax: whether the weights of a list are normalised.
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int] = (36,),
        *,
        activation: LocalActivationKind = "prelu",
        softmax: bool = False,
    ) -> None:
        super().__init__()
        widths = [4 * width, *hidden]
        self.linears = nn.ModuleList(dense(i, o) for i, o in pairwise(widths))
        self.activations = nn.ModuleList(_activation(activation, o) for o in hidden)
        self.head = dense(widths[-1], 1)
        self.softmax = softmax

    def forward(self, target: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
        """The weighted sum of each list."""
        weights = self.weights(target, items, offsets)
        return sum_lists(items * weights.unsqueeze(1), offsets)

    def weights(self, target: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
        """The weight of each item, (V,)."""
        rows = list_of_items(offsets, items.shape[0])
        mine = look_up(target, rows)
        x = torch.cat((mine, items, mine - items, mine * items), 1)
        with rows_of(rows, target.shape[0]):
            for linear, activation in zip(self.linears, self.activations, strict=True):
                x = activation(linear(x))
            logits: Tensor = self.head(x).squeeze(1)
        return softmax_lists(logits, offsets) if self.softmax else logits


def _activation(kind: LocalActivationKind, width: int) -> nn.Module:
    if kind == "dice":
        return Dice(width)
    if kind == "prelu":
        return nn.PReLU(width)
    return nn.ReLU() if kind == "relu" else nn.Sigmoid()
