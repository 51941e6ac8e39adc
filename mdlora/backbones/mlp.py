"""The plain deep tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mdlora.layers import MLP, dense
from mdlora.types import Embedded

__all__ = ["MLPBackbone"]


class MLPBackbone(nn.Module):
    """A multi-layer perceptron on the concatenated embeddings; no linear part.

    Shapes (B rows, F fields, E width, N numerics): x.fields (B, F, E), x.dense (B, N) -> (B,).
    """

    uses_first_order = False
    adapter_targets = "tower.linears.*"

    def __init__(
        self,
        num_fields: int,
        embed_dim: int,
        *,
        num_dense: int = 0,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tower = MLP(num_fields * embed_dim + num_dense, hidden, dropout=dropout)
        self.head = dense(hidden[-1], 1)

    def forward(self, x: Embedded) -> Tensor:
        """The logit of each row."""
        return self.deep(x)

    def deep(self, x: Embedded) -> Tensor:
        """The tower's part of the logit, (B,)."""
        inputs = x.fields.flatten(1)
        if x.dense.shape[1]:
            inputs = torch.cat((inputs, x.dense), 1)
        logits: Tensor = self.head(self.tower(inputs)).squeeze(-1)
        return logits
