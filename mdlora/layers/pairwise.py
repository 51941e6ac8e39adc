"""The second-order term of a factorisation machine."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["PairwiseInteraction"]


class PairwiseInteraction(nn.Module):
    """Sum of the dot products of all pairs of fields (Rendle 2010; Guo et al. 2017, formula 2).

    sum_{i<j} <v_i, v_j> = (|sum_i v_i|^2 - sum_i |v_i|^2) / 2

    Shapes (B rows, F fields, E width): (B, F, E) -> (B,).
    """

    def forward(self, fields: Tensor) -> Tensor:
        """Sum over pairs."""
        total = fields.sum(1)
        return 0.5 * (total.square().sum(1) - fields.square().sum((1, 2)))
