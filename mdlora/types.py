"""What packages hand to one another: plain tuples of tensors, without behaviour.

Shape letters: B rows, F categorical fields, N scaled numeric columns, E embedding width.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Batch", "Embedded"]


class Batch(NamedTuple):
    """Encoded rows.

    `categories` (B, F) int64 holds one id per categorical field, the domain's own field last;
    id 0 is "out of vocabulary" in every column. `domain` (B,) int64 is 0 for an unknown domain
    and 1..D for the known ones. `label` (B,) float is 0 or 1, or None for rows to be scored.
    """

    categories: Tensor
    domain: Tensor
    label: Tensor | None = None


class Embedded(NamedTuple):
    """What embeddings give to a backbone.

    `fields` (B, F, E); `first_order` (B,), the sum of the linear weights (zeros where the
    backbone has no linear part); `dense` (B, N), scaled numerics (N may be 0);
    `domain` (B,) int64 as in `Batch`.
    """

    fields: Tensor
    first_order: Tensor
    dense: Tensor
    domain: Tensor
