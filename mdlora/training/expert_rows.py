"""Which expert of its domain a row belongs to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mdlora.config import MoEMLoRA, counted
from mdlora.errors import ConfigError
from mdlora.model import CTRModel
from mdlora.schema import Schema
from mdlora.seeds import derive_seed

__all__ = ["assign_rows", "cluster_field", "clusters_of", "own_expert"]


def own_expert(domain: Tensor, which: Tensor | int, num_domains: int) -> Tensor:
    """Expert ids (N,) of the `which`-th expert of each row's domain; -1 for unknown domains.

    Expert k belongs to domain k mod D, so it is which * D + domain - 1.
    """
    expert = domain - 1 + num_domains * which
    return torch.where(domain > 0, expert, -1)


def cluster_field(schema: Schema, config: MoEMLoRA) -> int | None:
    """The place of the field that expert_rows "clusters:COLUMN" names; None for other rules.

    Raises:
        ConfigError: no such field.
    """
    column = config.expert_rows.removeprefix("clusters:")
    if config.expert_rows == column:
        return None
    if column not in schema.field_names:
        raise ConfigError(
            f"adapter.expert_rows={config.expert_rows!r} names no field; choose one of "
            f"{', '.join(schema.field_names)}."
        )
    return schema.field_names.index(column)


def clusters_of(model: CTRModel, config: MoEMLoRA, seed: int) -> tuple[int, Tensor] | None:
    """For expert_rows "clusters:COLUMN": the field, and a cluster (ids,) of each of its ids.

    k-means (scipy, k-means++ starts) of the column's embeddings into `experts_per_domain`.

    Raises:
        ConfigError: no such field.
    """
    field = cluster_field(model.schema, config)
    if field is None or config.experts_per_domain == 1:
        return None
    vectors = model.embeddings.column_vectors(field)
    if len(vectors) < config.experts_per_domain:
        raise ConfigError(
            f"{model.schema.field_names[field]} has {counted(len(vectors), 'id')}, too few for "
            f"{config.experts_per_domain} clusters."
        )
    rng = np.random.default_rng(derive_seed(seed, "clusters"))
    points = vectors.cpu().double().numpy()
    from scipy.cluster.vq import kmeans2  # a fifth of a second, that other runs save

    _, label = kmeans2(points, config.experts_per_domain, minit="++", rng=rng)
    return field, torch.from_numpy(label.astype(np.int64))


def assign_rows(
    domain: Tensor,
    categories: Tensor,
    config: MoEMLoRA | None,
    clusters: tuple[int, Tensor] | None,
    *,
    num_domains: int,
    seed: int,
) -> tuple[Tensor | None, Tensor]:
    """Places of rows to learn from (None: each once, in order), and the expert of each.

    With one expert a domain, the domain's. Else a seeded partition of each domain's rows, a
    bootstrap (as many draws with replacement as the domain has rows, for each expert), or the
    row's cluster.
    """
    m = 1 if config is None else config.experts_per_domain
    if config is None or m == 1:
        return None, own_expert(domain, 0, num_domains)
    if clusters is not None:
        field, cluster = clusters
        return None, own_expert(domain, cluster[categories[:, field]], num_domains)
    generator = torch.Generator().manual_seed(derive_seed(seed, "expert_rows"))
    shuffled = torch.randperm(len(domain), generator=generator)
    by_domain = shuffled[torch.argsort(domain[shuffled], stable=True)]
    counts = torch.bincount(domain, minlength=num_domains + 1)
    first = counts.cumsum(0) - counts
    if config.expert_rows == "random":
        rank = torch.empty_like(domain)
        rank[by_domain] = torch.arange(len(domain)) - first[domain[by_domain]]
        return None, own_expert(domain, rank % m, num_domains)
    size = counts[domain].repeat(m)
    draw = torch.rand(m * len(domain), generator=generator, dtype=torch.float64)
    places = by_domain[first[domain].repeat(m) + (draw * size).long()]
    which = torch.arange(m).repeat_interleave(len(domain))
    return places, own_expert(domain[places], which, num_domains)
