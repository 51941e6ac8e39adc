"""mdlora models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mdlora.cli.parsing import add_json, make_parser, parse, write_json
from mdlora.cli.settings import add_some
from mdlora.config import METHODS, BackboneConfig, MoEMLoRA
from mdlora.errors import ConfigError

if TYPE_CHECKING:
    from mdlora.reports import ModelFacts

__all__ = ["run"]

_SIZES = {
    "backbone": ("embed_dim", "hidden", "options"),
    "adapter": (
        *("bias", "targets", "temperature", "rank", "layer_ranks", "max_adapter_parameters"),
        *("experts_per_domain", "gate", "gate_embed_dim", "gate_shared"),
    ),
}
"""The settings that decide sizes."""


def run(arguments: Sequence[str]) -> None:
    """Parse, look, print."""
    parser = make_parser(
        "models",
        "[NAME] [options]",
        "List backbones, multi-domain methods and methods: what adapters reach, parameters, FLOPs. "
        "With a name, that one's settings and layers.",
        "mdlora models dcnv2 --data DATA --adapter.rank 4",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a backbone or multi-domain method")
    parser.add_argument(
        "--data", type=str, default="synthetic", help="a data folder, whose schema decides sizes"
    )
    add_json(parser)
    options = parse(parser, add_some(parser, arguments, _SIZES))
    backbone = BackboneConfig(**vars(options.backbone))
    adapter = MoEMLoRA(**vars(options.adapter))
    _check_name(options.name, backbone)

    from mdlora.backbones import get_backbone
    from mdlora.data import load_dataset
    from mdlora.reports import every_model, model_facts, models_to_json, schema_sizes

    if options.name is not None:
        get_backbone(options.name)
    schema = load_dataset(options.data).schema
    sizes: dict[str, Any] = {"backbone": backbone, "adapter": adapter}
    if options.name is None:
        facts = every_model(schema, **sizes)
    else:
        facts = [model_facts(schema, options.name, **sizes)]
    about = schema_sizes(schema, backbone.embed_dim)
    _check_facts(options.name, backbone, adapter, facts)
    print(
        "Sizes are those of {data}: {fields} fields of width {embed_dim}, {numbers} numbers, "
        "{lists} lists (of full length, where FLOPs are counted), {domains} domains. Its "
        "embeddings, not counted below, have {embeddings:,} parameters, and {linear:,} more where "
        "there is a linear part.\n".format(data=options.data, **about)
    )
    if options.name is None:
        _show_all(facts, schema.num_domains)
    else:
        _show_one(facts[0])
    plain = {"data": about, "models": models_to_json(facts), "methods": METHODS}
    write_json(options.json, plain)


def _check_name(name: str | None, backbone: BackboneConfig) -> None:
    if name is None and backbone.options:
        raise ConfigError("backbone.options are those of one backbone: name it.")
    if name in METHODS:
        raise ConfigError(
            f"{name!r} is what `mdlora train --method` takes: {METHODS[name]}. Name a backbone or "
            "a multi-domain method, of those that `mdlora models` lists."
        )


def _check_facts(
    name: str | None, backbone: BackboneConfig, adapter: MoEMLoRA, facts: Sequence[ModelFacts]
) -> None:
    """Refuse settings that fit nothing of what was asked for."""
    if backbone.options and facts[0].problem is not None:
        raise ConfigError(facts[0].problem)
    served = [each for each in facts if each.problem is None]
    if any(each.no_adapters is None for each in served):
        return
    for each in served:
        # Else adapters reach nothing of it whatever the settings, which its table says.
        if adapter.targets is not None or any(layer.default for layer in each.layers):
            whose = "" if name else f"Adapters reach no network. Of {each.name!r}: "
            raise ConfigError(f"{whose}{each.no_adapters}")


def _show_all(facts: Sequence[ModelFacts], num_domains: int) -> None:
    from mdlora.cli.showing import show_table
    from mdlora.reports import methods_table, models_table

    show_table(models_table(facts, "backbone", num_domains))
    show_table(models_table(facts, "multi-domain", num_domains))
    show_table(methods_table())


def _show_one(facts: ModelFacts) -> None:
    from mdlora.cli.showing import show_table
    from mdlora.reports import adapters_table, layers_table, settings_table

    kind = "a backbone" if facts.kind == "backbone" else "a multi-domain method"
    print(f"{facts.name}, {kind}. {facts.about}\n{facts.paper}\n")
    show_table(settings_table(facts))
    if facts.problem is not None:
        print(f"Not with this schema: {facts.problem}")
        return
    work = "not counted" if facts.flops is None else f"{facts.flops:,} a row"
    own = f", {facts.own:,} of them each domain's own" if facts.kind == "multi-domain" else ""
    print(
        f"Parameters: {facts.parameters:,}{own}. Of separate networks, one for each domain, with "
        f"embeddings: {facts.separate:,}. FLOPs of a forward pass: {work}.\n"
    )
    show_table(layers_table(facts))
    if facts.no_adapters is None:
        show_table(adapters_table(facts))
    else:
        print(f"Adapters reach nothing: {facts.no_adapters}")
