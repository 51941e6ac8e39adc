"""The tower of dense layers that every backbone's deep part is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from mdlora.layers.dropout import ReLUDropout
from mdlora.layers.tower_step import can_fuse, fused_tower

__all__ = ["MLP", "dense", "glorot_"]


def glorot_(weight: Tensor, in_features: int, out_features: int) -> Tensor:
    """Fill a tensor with the weights of layers I -> O: uniform in +-sqrt(6 / (I + O)).

    Glorot and Bengio 2010. A tensor may hold several layers' weights: each starts as `dense`'s.

    Shapes (I in, O out): any, say (O, I), or (K, I, O) of K layers; returned as it was given.
    """
    bound = math.sqrt(6 / (in_features + out_features))
    return nn.init.uniform_(weight, -bound, bound)


def dense(in_features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
    """The layer x W' + b with Glorot-uniform W (see `glorot_`), and zero b or none.

    Shapes (I in, O out, "..." any axes before): (..., I) -> (..., O); weight (O, I), bias (O,).
    """
    layer = nn.Linear(in_features, out_features, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class MLP(nn.Module):
    """dropout(relu(W x + b)), one after another.

    Shapes (B rows, I in, H the last of `hidden`): (B, I) -> (B, H).
    The linear maps are `linears.0`, `linears.1`, ...
    """

    def __init__(self, in_features: int, hidden: Sequence[int], *, dropout: float = 0.0) -> None:
        super().__init__()
        widths = [in_features, *hidden]
        self.linears = nn.ModuleList(dense(i, o) for i, o in pairwise(widths))
        self.activations = nn.ModuleList(ReLUDropout(dropout, in_place=True) for _ in hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Run all layers."""
        layers = list(zip(self.linears, self.activations, strict=True))
        # All or none: what somebody's hook makes of a layer is not known before it has run.
        if can_fuse(layers, x):
            return fused_tower(layers, x)
        for linear, activation in layers:
            x = activation(linear(x))
        return x
