"""Schemas and rows of any size, made up in memory, without vocabularies."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mdlora.schema import Domain, Hashed, Label, Numeric, Schema
from mdlora.training.batches import PhaseRows

__all__ = ["make_rows", "make_schema"]

_CLICKS = 0.25


def make_schema(sizes: Sequence[int], *, domains: int, numbers: int = 0) -> Schema:
    """Columns of ids "c1", "c2", ... with so many values each, scaled "n1", ..., and a domain.

    Args:
        sizes: values of each column but the domain.
        domains: values of the domain, which is the last field.
        numbers: how many columns of numbers.
    """
    ids = [Hashed(f"c{i}", num_buckets=size) for i, size in enumerate(sizes, 1)]
    scaled = [Numeric(f"n{i}", encoding="scaled", mean=0.0, std=1.0) for i in range(1, numbers + 1)]
    names = tuple(map(str, range(1, domains + 1)))
    return Schema((*ids, *scaled, Domain("domain", values=names), Label("label")))


def make_rows(schema: Schema, rows: int, *, skewed: bool) -> PhaseRows:
    """Random rows, the same ones each time.

    Args:
        schema: of `make_schema`.
        rows: how many.
        skewed: whether a value's share falls as one over its rank (Zipf's law with exponent 1);
            else all values of a column are equally likely.
    """
    draw = torch.Generator().manual_seed(1)
    sizes = torch.tensor(schema.num_ids, dtype=torch.float64) - 1  # id 0 is nobody's
    place = torch.rand(rows, len(sizes), generator=draw, dtype=torch.float64)
    # The logarithm of a value's rank is uniform where shares fall as one over the rank.
    rank = (sizes + 1) ** place - 1 if skewed else sizes * place
    ids = (rank.long() + 1).minimum(sizes.long())
    width = len(schema.dense)
    return PhaseRows(
        categories=ids,
        domain=ids[:, -1].contiguous(),
        label=(torch.rand(rows, generator=draw) < _CLICKS).float(),
        dense=torch.randn(rows, width, generator=draw) if width else None,
    )
