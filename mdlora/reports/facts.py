"""What each backbone is on a schema: its size, its work, and what adapters reach."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from mdlora.adapters import AdaptedModel, linear_names, make_bank
from mdlora.backbones import BACKBONES, Backbone, build_backbone, get_backbone, idle_settings
from mdlora.backbones.describe import Setting, settings_of
from mdlora.config import BackboneConfig, DomainAdapters, MoEMLoRA
from mdlora.errors import AdapterError, ConfigError
from mdlora.model import inputs_of
from mdlora.reports.work import counted_pass, embedding_parameters, linears
from mdlora.schema import Schema

__all__ = ["COUNTED", "AdapterFacts", "LayerFacts", "ModelFacts", "every_model", "model_facts"]

COUNTED = 100_000_000
"""Parameters up to which a network's work is counted."""

Kind = Literal["backbone", "multi-domain"]


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """One dense layer of a network."""

    name: str
    inputs: int
    outputs: int
    reached: bool
    """Whether adapters can work there: it is called, on rows whose domains are known."""

    default: bool
    """Whether they do, unless `adapter.targets` says otherwise."""

    rank: int | None
    """Of MLoRA's adapters there; None where the given rank does not fit, or nothing reaches it."""

    parameters: int | None
    """Of one domain's adapter there."""


@dataclass(frozen=True, kw_only=True)
class AdapterFacts:
    """The adapters of a method on one network, for all domains."""

    of_domain: int
    """Parameters of one domain."""

    gates: int
    """Parameters of the gates."""

    total: int
    """Parameters of all domains, and of the gates."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """One backbone or multi-domain method on a schema."""

    name: str
    kind: Kind
    paper: str
    about: str
    """The first paragraph of its documentation."""

    settings: tuple[Setting, ...]
    idle: tuple[str, ...] = ()
    """Which of "hidden" and "dropout" have no effect."""

    problem: str | None = None
    """Why the schema cannot serve it; all below is then empty."""

    parameters: int | None = None
    """Of the network, without embeddings."""

    own: int | None = None
    """Of these, what each domain has of its own: what a further domain would add."""

    separate: int | None = None
    """Of the method "separate", a whole network for each domain, with embeddings."""

    flops: int | None = None
    """Of a row in a forward pass: additions and multiplications of all matrix products. None where
    the network has more than 100 million parameters."""

    targets: str = ""
    """Which layers adapters reach, as a pattern."""

    no_adapters: str | None = None
    """Why adapters reach nothing."""

    layers: tuple[LayerFacts, ...] = ()
    other_targets: tuple[str, ...] = ()
    """Patterns, for `adapter.targets`, of layers that adapters reach if told so."""

    adapters: Mapping[str, AdapterFacts] = field(default_factory=dict)
    """By method, mlora, moe-mlora and full-finetuned; empty where adapters reach nothing."""


def model_facts(
    schema: Schema,
    name: str,
    *,
    backbone: BackboneConfig | None = None,
    adapter: MoEMLoRA | None = None,
) -> ModelFacts:
    """What a backbone is on a schema.

    Args:
        schema: the columns.
        name: of the backbone.
        backbone: its settings, but for the name. A setting of hidden layers counts where the
            backbone has them.
        adapter: the adapters' settings.

    Raises:
        ConfigError: no such backbone, or an option that it does not have.
    """
    kind = get_backbone(name)
    config = dataclasses.replace(backbone or BackboneConfig(), name=name)
    idle = idle_settings(config)
    if "hidden" in idle:
        config = dataclasses.replace(config, hidden=BackboneConfig().hidden)
    plain = ModelFacts(
        name=name,
        kind="multi-domain" if kind.is_multi_domain else "backbone",
        paper=kind.paper,
        about=" ".join((kind.__doc__ or "").partition("\n\n")[0].split()),
        settings=settings_of(kind),
        idle=idle,
    )
    inputs = inputs_of(schema, config.embed_dim)
    try:
        with torch.device("meta"):
            network = build_backbone(config, inputs)
            further = dataclasses.replace(inputs, num_domains=inputs.num_domains + 1)
            more = build_backbone(config, further) if kind.is_multi_domain else network
    except ConfigError as error:
        return dataclasses.replace(plain, problem=str(error))
    parameters = _count(network)
    whole = parameters + embedding_parameters(
        schema, inputs.embed_dim, first_order=network.uses_first_order
    )
    flops, reached = None, set(linears(network))
    if parameters <= COUNTED:
        flops, reached = counted_pass(schema, config)
    given = dataclasses.replace(adapter or MoEMLoRA(), num_domains=schema.num_domains)
    targets = given.targets or network.adapter_targets
    chosen, problem = _chosen(network, targets, reached)
    sizes: dict[str, AdapterFacts] = {}
    if problem is None:
        try:
            sizes = _adapters(network, given)
        except AdapterError as error:
            problem = str(error)
    return dataclasses.replace(
        plain,
        parameters=parameters,
        own=_count(more) - parameters,
        separate=schema.num_domains * whole,
        flops=flops,
        targets=targets,
        no_adapters=problem,
        layers=_layers(network, given, chosen, reached),
        other_targets=_other_targets(network, chosen, reached),
        adapters=sizes,
    )


def every_model(
    schema: Schema, *, backbone: BackboneConfig | None = None, adapter: MoEMLoRA | None = None
) -> list[ModelFacts]:
    """The facts of all backbones and multi-domain methods, in the order of their names."""
    return [model_facts(schema, name, backbone=backbone, adapter=adapter) for name in BACKBONES]


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _chosen(network: Backbone, targets: str, reached: set[str]) -> tuple[list[str], str | None]:
    """The layers that a pattern names, and why adapters cannot reach them, if so."""
    try:
        names = linear_names(network, targets)
    except AdapterError as error:
        return [], network.adapter_hint or str(error)
    missed = [name for name in names if name not in reached]
    if missed:
        return [], f"{', '.join(missed)} see other rows than those of the batch."
    return names, None


def _adapters(network: Backbone, config: MoEMLoRA) -> dict[str, AdapterFacts]:
    methods: dict[str, DomainAdapters] = {
        "mlora": config.as_mlora(),
        "moe-mlora": config,
        "full-finetuned": config.as_full(),
    }
    sizes = {}
    for method, settings in methods.items():
        with torch.device("meta"):
            adapted = AdaptedModel(network, settings)
        banks, gates = _count(adapted.banks), _count(adapted.gates)
        adapted.unwrap()
        sizes[method] = AdapterFacts(
            of_domain=banks // adapted.num_domains, gates=gates, total=banks + gates
        )
    return sizes


def _layers(
    network: Backbone, config: MoEMLoRA, chosen: list[str], reached: set[str]
) -> tuple[LayerFacts, ...]:
    found = []
    for name, layer in linears(network).items():
        rank, parameters = None, None
        if name in reached:
            try:
                bank, choice = make_bank(config, layer, name, 1)
                rank, parameters = choice.rank, _count(bank)
            except AdapterError:  # the rank that was given is too large for this layer
                pass
        found.append(
            LayerFacts(
                name=name,
                inputs=layer.in_features,
                outputs=layer.out_features,
                reached=name in reached,
                default=name in chosen,
                rank=rank,
                parameters=parameters,
            )
        )
    return tuple(found)


def _other_targets(network: Backbone, chosen: list[str], reached: set[str]) -> tuple[str, ...]:
    """Names of the modules that hold further layers, or of single layers, in module order."""
    groups = {name: _group(name) for name in linears(network)}
    whole = Counter(groups.values())
    free = Counter(groups[name] for name in groups if name in reached and name not in chosen)
    return tuple(
        dict.fromkeys(
            group if free[group] == whole[group] else name
            for name, group in groups.items()
            if name in reached and name not in chosen
        )
    )


def _group(name: str) -> str:
    """The module at the top, or right below a host, that a layer is in."""
    parts = name.split(".")
    return ".".join(parts[: 2 if parts[0] == "host" else 1])
