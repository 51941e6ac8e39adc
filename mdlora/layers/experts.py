"""Several towers side by side, run together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mdlora.layers.dropout import ReLUDropout
from mdlora.layers.mlp import glorot_

__all__ = ["ExpertMLP", "experts_linear"]


def experts_linear(num_experts: int, in_features: int, out_features: int) -> nn.Linear:
    """K layers x W_k' + b_k as one linear layer: the outputs [x W_1' + b_1, ..., x W_K' + b_K].

    Each W_k is Glorot-uniform by itself (see `glorot_`), and each b_k zero. As one `nn.Linear` all
    are in reach of adapters.

    Shapes (B rows, I in, O out, K experts): (B, I) -> (B, K * O), expert after expert; weight
    (K * O, I), bias (K * O,).
    """
    layer = nn.Linear(in_features, num_experts * out_features)
    glorot_(layer.weight, in_features, out_features)
    nn.init.zeros_(layer.bias)
    return layer


class ExpertMLP(nn.Module):
    """K towers dropout(relu(x W_k + b_k)), one layer after another, all on every row.

    All towers' first layers are one linear map, `first`; the layers after it are one batched
    product each, whose weights no adapter reaches.

    Shapes (B rows, I in, K experts, H the last of `hidden`): x (B, I) -> (B, K, H); first.weight
    (K * H1, I), weights (K, in, out), biases (K, 1, out).

    Args:
        num_experts: K.
        in_features: I.
        hidden: widths of each tower, at least one.
        dropout: chance of dropping a hidden unit.
    """

    def __init__(
        self,
        num_experts: int,
        in_features: int,
        hidden: Sequence[int],
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.first = experts_linear(num_experts, in_features, hidden[0])
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for i, o in pairwise(hidden):
            self.weights.append(nn.Parameter(glorot_(torch.empty(num_experts, i, o), i, o)))
            self.biases.append(nn.Parameter(torch.zeros(num_experts, 1, o)))
        self.activations = nn.ModuleList(ReLUDropout(dropout) for _ in hidden)

    def forward(self, x: Tensor) -> Tensor:
        """The output of each tower on each row."""
        first, *others = self.activations
        units: Tensor = first(self.first(x)).unflatten(1, (self.num_experts, -1))
        by_expert = units.transpose(0, 1)
        for weight, bias, activation in zip(self.weights, self.biases, others, strict=True):
            by_expert = activation(torch.baddbmm(bias, by_expert, weight))
        return by_expert.transpose(0, 1)
