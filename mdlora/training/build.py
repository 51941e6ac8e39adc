"""A model from a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from mdlora.adapters import AdaptedModel, linear_names
from mdlora.backbones import get_backbone, idle_settings, width_multiple
from mdlora.config import SEPARATE, BackboneConfig, DomainAdapters, MoEMLoRA, RunConfig
from mdlora.errors import ConfigError
from mdlora.model import CTRModel, backbone_for
from mdlora.schema import Schema

__all__ = ["adapter_of", "build_model", "check_model", "check_widening", "widened"]


def adapter_of(config: RunConfig) -> DomainAdapters | None:
    """The adapters that a method has, if any."""
    if config.method.startswith("base") or config.method == SEPARATE:
        return None
    if config.method == "full-finetuned":
        return config.adapter.as_full()
    return config.adapter if config.method.startswith("moe") else config.adapter.as_mlora()


def build_model(
    config: RunConfig, schema: Schema, vectors: Mapping[str, Tensor] | None = None
) -> CTRModel:
    """The model of a method, with the initial weights of the configuration's seed.

    `vectors` are the side tables of the schema's vector columns, those of `Dataset.vectors`.
    """
    backbone = config.backbone
    if config.method == "base-wide":
        backbone = widened(backbone, config.adapter, schema)
    return CTRModel(schema, backbone, adapter_of(config), seed=config.seed, vectors=vectors)


def check_model(config: RunConfig, schema: Schema) -> None:
    """Refuse, before any work, a model that the method cannot have on the schema.

    Raises:
        ConfigError: the backbone needs what the schema lacks, or cannot have a value that was
            given.
        AdapterError: adapters reach nothing, or a rank does not fit.
    """
    adapter = config.adapter if config.method == "base-wide" else adapter_of(config)
    with torch.device("meta"):
        network = backbone_for(schema, config.backbone)
        if adapter is not None:
            AdaptedModel(network, dataclasses.replace(adapter, num_domains=schema.num_domains))
    if config.method == "base-finetuned":
        linear_names(network, network.adapter_targets)


def check_widening(config: BackboneConfig) -> None:
    """Refuse what the control base-wide cannot widen.

    Raises:
        ConfigError: the backbone has no hidden layers.
    """
    if "hidden" in idle_settings(config):
        option = get_backbone(config.name).tower_option
        raise ConfigError(
            f"base-wide widens hidden layers, and {config.name!r} has none without a tower: set "
            f"{option} to true, or leave base-wide out of the methods."
        )


def widened(config: BackboneConfig, adapter: MoEMLoRA, schema: Schema) -> BackboneConfig:
    """The backbone with hidden layers so wide that it has as many parameters as MoE-MLoRA.

    All hidden widths grow by one factor, the last to a multiple of what the backbone asks for; the
    result is the first with at least as many.

    Raises:
        ConfigError: the backbone has no hidden layers.
    """
    check_widening(config)
    wanted = _backbone_size(config, schema) + _adapter_size(config, adapter, schema)
    grown, extra = config, 0
    multiple = width_multiple(config)
    while _backbone_size(grown, schema) < wanted:
        extra += 1
        factor = 1 + extra / config.hidden[0]
        *others, last = (width * factor for width in config.hidden)
        hidden = (*map(round, others), multiple * round(last / multiple))
        grown = dataclasses.replace(config, hidden=hidden)
    return grown


def _backbone_size(config: BackboneConfig, schema: Schema) -> int:
    with torch.device("meta"):
        network = backbone_for(schema, config)
    return sum(p.numel() for p in network.parameters())


def _adapter_size(config: BackboneConfig, adapter: MoEMLoRA, schema: Schema) -> int:
    with torch.device("meta"):
        network = backbone_for(schema, config)
        known = dataclasses.replace(adapter, num_domains=schema.num_domains)
        adapted = AdaptedModel(network, known)
    parts = (adapted.banks, adapted.gates)
    return sum(p.numel() for part in parts for p in part.parameters())
