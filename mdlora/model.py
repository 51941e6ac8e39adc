"""embeddings + backbone + adapters = CTRModel."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, hold_statistics, linear_names
from mdlora.backbones import Backbone, Inputs, ListInput, build_backbone
from mdlora.config import BackboneConfig, DomainAdapters, MoEMLoRA, counted
from mdlora.embeddings import build_embeddings, embed_dim_of, field_names, num_scaled
from mdlora.errors import AdapterError
from mdlora.fast_scorer import FastScorer
from mdlora.row_scorer import RowScorer
from mdlora.schema import Schema
from mdlora.seeds import derive_seed
from mdlora.types import Batch

__all__ = ["CTRModel", "ParameterGroup", "backbone_for", "inputs_of"]

ParameterGroup = Literal["embeddings", "backbone", "targets", "experts", "gates"]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw initial weights from `seed`, and give torch's own generator back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def inputs_of(schema: Schema, embed_dim: int | None = None) -> Inputs:
    """What a backbone is given of a schema's rows.

    Args:
        schema: the columns.
        embed_dim: E; default: see `embed_dim_of`.
    """
    names = field_names(schema)

    def place(role: Literal["user", "item"]) -> int | None:
        column = schema.field_of(role)
        return None if column is None else names.index(column)

    first = len(schema.fields)
    return Inputs(
        field_names=names,
        embed_dim=embed_dim_of(schema, embed_dim),
        num_dense=num_scaled(schema),
        num_domains=schema.num_domains,
        domain_field=names.index(schema.domain.name),
        user_field=place("user"),
        item_field=place("item"),
        lists=tuple(ListInput(name=c.name, field=first + i) for i, c in enumerate(schema.lists)),
    )


def backbone_for(schema: Schema, config: BackboneConfig) -> Backbone:
    """The backbone for a schema's fields, with weights drawn from torch's current generator."""
    return build_backbone(config, inputs_of(schema, config.embed_dim))


class CTRModel(RowScorer):
    """p(click) of a row, before the sigmoid, with the row's own domain's adapters.

    The backbone's initial weights depend on the seed alone, not on the adapters: methods of one
    seed start from the same backbone.

    Shapes (B rows, F fields): Batch.categories (B, F), Batch.domain (B,) -> logits (B,).

    Args:
        schema: columns and vocabularies.
        backbone: a name, or all its settings.
        adapter: MLoRA, MoEMLoRA, FullFinetuning, or None for the backbone alone.
        seed: of the initial weights.
        vectors: the side table (n, width) of each vector column with a key, by its name: those of
            `Dataset.vectors`.

    Raises:
        AdapterError: adapters that do not fit the backbone or the schema.
        ConfigError: no such backbone, or vectors that the schema does not ask for, or lacks.
    """

    def __init__(
        self,
        schema: Schema,
        backbone: str | BackboneConfig = "wdl",
        adapter: DomainAdapters | None = None,
        *,
        seed: int = 1,
        vectors: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        config = BackboneConfig(name=backbone) if isinstance(backbone, str) else backbone
        embed_dim = embed_dim_of(schema, config.embed_dim)
        self.schema = schema
        self.backbone_config = dataclasses.replace(config, embed_dim=embed_dim)
        self.seed = seed
        with _seeded(derive_seed(seed, "backbone")):
            network = backbone_for(schema, config)
            self.embeddings = build_embeddings(
                schema,
                embed_dim,
                first_order=network.uses_first_order,
                init_std=config.init_std,
                vectors=vectors,
                keep_lists=network.uses_lists,
            )
        self.backbone = network
        self.adapter_config: DomainAdapters | None = None
        self.adapted: AdaptedModel | None = None
        if adapter is not None:
            self._adapt(adapter)

    def _adapt(self, adapter: DomainAdapters) -> None:
        known = self.schema.num_domains
        if adapter.num_domains not in (None, known):
            raise AdapterError(
                f"adapter.num_domains={adapter.num_domains} but the schema has "
                f"{counted(known, 'domain')}; "
                "leave it out, and the schema's number is taken."
            )
        self.adapter_config = dataclasses.replace(adapter, num_domains=known)
        with _seeded(derive_seed(self.seed, "adapters")):
            self.adapted = AdaptedModel(self.backbone, self.adapter_config)

    @property
    def dtype(self) -> torch.dtype:
        """The type of its numbers."""
        return self.embeddings.table.dtype

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.embeddings.table.device

    def forward(
        self, batch: Batch, expert: Tensor | None = None, *, sorted_rows: bool = False
    ) -> Tensor:
        """Logits (B,).

        Args:
            batch: encoded rows.
            expert: (B,) one adapter of each row, in place of its domain's; -1 for none.
            sorted_rows: rows come sorted by expert, or by domain; see `AdaptedModel.routing`.
        """
        embedded = self.embeddings(batch)
        if self.adapted is None:
            logits: Tensor = self.backbone(embedded)
        else:
            logits = self.adapted(
                embedded, domain=batch.domain, expert=expert, sorted_rows=sorted_rows
            )
        return logits

    def fast_scorer(self) -> FastScorer:
        """As `RowScorer.fast_scorer`: by compiled kernels, where the model allows it."""
        self.eval()
        parts = self.embeddings, self.backbone, self.adapted
        return FastScorer(self, parts, names=self.schema.field_names)

    @property
    def has_gate(self) -> bool:
        """Whether a gate mixes the adapters."""
        return isinstance(self.adapter_config, MoEMLoRA)

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the backbone's layers that adapters reach, or would reach."""
        if self.adapted is not None:
            return self.adapted.target_names
        return tuple(linear_names(self.backbone, self.backbone.adapter_targets))

    def group(self, name: ParameterGroup) -> list[nn.Parameter]:
        """The parameters of one part; "targets" is a part of "backbone"."""
        if name == "embeddings":
            return list(self.embeddings.parameters())
        if name == "backbone":
            return list(self.backbone.parameters())
        if name == "targets":
            layers = [self.backbone.get_submodule(target) for target in self.target_names]
            return [parameter for layer in layers for parameter in layer.parameters()]
        if self.adapted is None:
            return []
        part = self.adapted.banks if name == "experts" else self.adapted.gates
        return list(part.parameters())

    def num_parameters(self, *groups: ParameterGroup) -> int:
        """Parameters of these parts; of all, if none is named."""
        chosen = groups or ("embeddings", "backbone", "experts", "gates")
        return sum(p.numel() for name in chosen for p in self.group(name))

    def train_only(self, *groups: ParameterGroup) -> None:
        """Let these parts learn and freeze the rest: no gradient of the rest is computed."""
        self.requires_grad_(False)
        for name in groups:
            for parameter in self.group(name):
                parameter.requires_grad_(True)

    def training_mode(self, groups: Sequence[ParameterGroup]) -> None:
        """Training mode for these parts; normalisation layers of a frozen backbone stay still.

        Dropout is on in every part.
        """
        self.train()
        if "backbone" not in groups:
            hold_statistics(self.backbone)

    def state(self) -> dict[str, Tensor]:
        """Every parameter and buffer by name, each once, not copied."""
        found: dict[str, Tensor] = dict(self.named_parameters())
        found.update(self.named_buffers())
        return {name: tensor.detach() for name, tensor in found.items()}

    @torch.no_grad()
    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Copy these tensors into the parameters and buffers of the same names."""
        own = self.state()
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
