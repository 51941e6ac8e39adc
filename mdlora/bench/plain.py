"""The same epoch as a good plain PyTorch loop has it, written by hand."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mdlora.bench.network import Network
from mdlora.bench.timing import Epoch
from mdlora.training.batches import PhaseRows

__all__ = ["PlainModel", "plain_epoch"]


class PlainModel(nn.Module):
    """DeepFM, or without `pairs` wide and deep: ids (B, F), numbers (B, N) -> logits (B,)."""

    starts: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        sizes = network.schema.num_ids
        starts = [0, *accumulate(sizes)]
        self.register_buffer("starts", torch.tensor(starts[:-1]))
        self.vectors = nn.Embedding(starts[-1], network.embed_dim)
        self.linear = nn.Embedding(starts[-1], 1)
        nn.init.normal_(self.vectors.weight, std=network.config.init_std)
        nn.init.normal_(self.linear.weight, std=network.config.init_std)
        width = len(sizes) * network.embed_dim + len(network.numbers)
        layers: list[nn.Module] = []
        for units in network.config.hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(network.config.dropout)]
            width = units
        self.tower = nn.Sequential(*layers, nn.Linear(width, 1))
        self.pairs = network.backbone == "deepfm"

    def forward(self, ids: Tensor, numbers: Tensor | None) -> Tensor:
        """The logit of each row."""
        rows = ids + self.starts
        fields = self.vectors(rows)
        flat = fields.flatten(1)
        deep = self.tower(flat if numbers is None else torch.cat([flat, numbers], 1))
        logits: Tensor = self.linear(rows).sum((1, 2)) + deep.squeeze(1)
        if self.pairs:
            squares = fields.sum(1).square() - fields.square().sum(1)
            logits = logits + 0.5 * squares.sum(1)
        return logits


def plain_epoch(network: Network, rows: PhaseRows) -> Epoch:
    """An epoch of slices of permuted tensors: one embedding table, torch's Adam, no L2.

    Args:
        network: what is trained.
        rows: the training rows.
    """
    with torch.random.fork_rng(devices=[]):
        model = PlainModel(network)
    optimizer = torch.optim.Adam(model.parameters())
    size = network.batch_size

    def run() -> float:
        with torch.random.fork_rng(devices=[]):
            order = torch.randperm(len(rows))
            ids, label = rows.categories[order], rows.label[order]
            numbers = None if rows.dense is None else rows.dense[order]
            total = 0.0
            model.train()
            for start in range(0, len(rows), size):
                part = slice(start, start + size)
                logits = model(ids[part], None if numbers is None else numbers[part])
                loss = F.binary_cross_entropy_with_logits(logits, label[part])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
            return total

    return Epoch(run, len(rows), size)
