"""Scores of encoded rows."""

from __future__ import annotations

import torch
from torch import Tensor

from mdlora.model import CTRModel
from mdlora.types import Batch

__all__ = ["score_rows"]


@torch.no_grad()
def score_rows(
    model: CTRModel,
    categories: Tensor,
    domain: Tensor,
    *,
    batch_size: int = 16384,
    expert: Tensor | None = None,
) -> Tensor:
    """Logits (N,) on the CPU, in the rows' order; the model is left in evaluation mode.

    Args:
        model: on any device; rows are moved there a batch at a time.
        categories: (N, F) int64 ids.
        domain: (N,) int64.
        batch_size: rows scored at once.
        expert: (N,) the one adapter of each row, in place of its domain's.
    """
    model.eval()
    device = model.embeddings.table.device
    logits = torch.empty(len(domain), dtype=model.embeddings.table.dtype)
    for start in range(0, len(domain), batch_size):
        rows = slice(start, start + batch_size)
        batch = Batch(categories[rows].to(device), domain[rows].to(device))
        chosen = None if expert is None else expert[rows].to(device)
        logits[rows] = model(batch, chosen).cpu()
    return logits
