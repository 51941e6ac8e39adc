"""What a network computes for a row, and what is before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mdlora.backbones import Inputs
from mdlora.config import BackboneConfig
from mdlora.embeddings import build_embeddings, vector_placeholders
from mdlora.layers import row_owners
from mdlora.model import backbone_for, inputs_of
from mdlora.schema import Schema
from mdlora.types import Embedded, EmbeddedList

__all__ = ["counted_pass", "embedding_parameters", "linears", "schema_sizes"]

_ROWS = 32  # a whole block of the products that bring rows of a domain together


def linears(network: nn.Module) -> dict[str, nn.Linear]:
    """The dense layers that adapters could be put on, by name."""
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Linear)}


def counted_pass(schema: Schema, config: BackboneConfig) -> tuple[int, set[str]]:
    """FLOPs of a row, and the dense layers whose rows are known to be those of the batch, or of
    items of theirs.

    FLOPs are the additions and multiplications of all matrix products in a forward pass. The rows
    are alike, so that those of one domain, or one cluster, are a whole block and none is padding;
    lists are as long as they can be.
    """
    with torch.random.fork_rng(devices=[]):
        network = backbone_for(schema, config).double()  # float64: all its products are counted
    network.eval().requires_grad_(False)
    x = _rows_alike(schema, inputs_of(schema, config.embed_dim))
    seen: set[str] = set()

    def note(name: str, rows: Tensor) -> None:
        if len(rows) == _ROWS or row_owners() is not None:
            seen.add(name)

    for name, layer in linears(network).items():
        layer.register_forward_pre_hook(lambda _, args, name=name: note(name, args[0]))
    with FlopCounterMode(display=False) as counter:
        network(x)
    return counter.get_total_flops() // _ROWS, seen


def _rows_alike(schema: Schema, inputs: Inputs) -> Embedded:
    """Rows of the first domain."""
    kind = torch.float64
    lists = []
    for column in schema.lists:
        items = torch.ones(_ROWS * column.max_length, inputs.embed_dim, dtype=kind)
        lists.append(EmbeddedList(items, torch.arange(_ROWS + 1) * column.max_length))
    return Embedded(
        torch.ones(_ROWS, inputs.num_fields, inputs.embed_dim, dtype=kind),
        torch.ones(_ROWS, dtype=kind),
        torch.ones(_ROWS, inputs.num_dense, dtype=kind),
        torch.ones(_ROWS, dtype=torch.int64),
        tuple(lists),
    )


def schema_sizes(schema: Schema, embed_dim: int | None) -> dict[str, int]:
    """What all networks on a schema have in common.

    Args:
        schema: the columns.
        embed_dim: E; default: see `embed_dim_of`.

    Returns:
        "fields", "embed_dim", "numbers", "lists", "domains"; "embeddings", the parameters of the
        embeddings, and "linear", those of the linear part, which some networks have beside them.
    """
    inputs = inputs_of(schema, embed_dim)
    plain, both = (
        embedding_parameters(schema, inputs.embed_dim, first_order=linear)
        for linear in (False, True)
    )
    return {
        "fields": inputs.num_fields,
        "embed_dim": inputs.embed_dim,
        "numbers": inputs.num_dense,
        "lists": len(inputs.lists),
        "domains": inputs.num_domains,
        "embeddings": plain,
        "linear": both - plain,
    }


def embedding_parameters(schema: Schema, embed_dim: int, *, first_order: bool) -> int:
    """Parameters of all embeddings, and of the linear part if there is one."""
    with torch.device("meta"):
        made = build_embeddings(
            schema,
            embed_dim,
            first_order=first_order,
            init_std=BackboneConfig().init_std,
            vectors=vector_placeholders(schema),
        )
    return sum(p.numel() for p in made.parameters())
