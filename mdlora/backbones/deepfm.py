"""A factorisation machine beside a deep tower."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mdlora.backbones.mlp import MLPBackbone
from mdlora.layers import PairwiseInteraction
from mdlora.types import Embedded

__all__ = ["DeepFM"]


class DeepFM(MLPBackbone):
    """DeepFM (Guo et al. 2017, arXiv:1703.04247): linear part, pairs of fields, and the tower.

    Shapes (B rows, F fields, E width): x.fields (B, F, E), x.first_order (B,) -> logits (B,).
    Adapters cannot reach the linear part nor the pairs: neither holds a linear map.
    """

    uses_first_order = True

    def __init__(self, num_fields: int, embed_dim: int, **settings: Any) -> None:
        super().__init__(num_fields, embed_dim, **settings)
        self.pairs = PairwiseInteraction()

    def forward(self, x: Embedded) -> Tensor:
        """The logit of each row."""
        pairs: Tensor = self.pairs(x.fields)
        return x.first_order + pairs + self.deep(x)
