"""Tables of backbones and multi-domain methods, and of one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mdlora.backbones.describe import value_words
from mdlora.config import METHODS
from mdlora.evaluation import Table
from mdlora.reports.facts import Kind, ModelFacts

__all__ = [
    "adapters_table",
    "layers_table",
    "methods_table",
    "models_table",
    "models_to_json",
    "settings_table",
]

_TITLES: dict[Kind, tuple[str, str]] = {
    "backbone": ("Backbones", "backbone"),
    "multi-domain": ("Multi-domain methods, named like backbones", "method"),
}


def models_table(facts: Sequence[ModelFacts], kind: Kind, num_domains: int) -> Table:
    """One row for each model of a kind."""
    title, first = _TITLES[kind]
    caption = (
        f"{title}: what adapters reach unless adapter.targets says otherwise, and what else it can "
        "name; parameters without embeddings, and what MLoRA adds to them; parameters of "
        f"{num_domains} separate networks, with embeddings; FLOPs of the matrix products in a "
        "row's forward pass, without adapters."
    )
    if kind == "multi-domain":
        caption += " Own of a domain: those of the parameters that each domain has to itself."
    columns = (
        *(first, "paper", "adapters reach", "other targets", "parameters"),
        *_if_own(kind, "own of a domain"),
        *("a domain's adapters", "%", f"all {num_domains} domains'", "%"),
        *("separate", "FLOPs a row"),
    )
    rows = tuple(_model_row(each) for each in facts if each.kind == kind)
    return Table(caption, columns, rows, num_text=4)


def _model_row(facts: ModelFacts) -> tuple[str, ...]:
    if facts.problem is not None:
        return (
            facts.name,
            facts.paper or "–",
            f"not with this schema: {facts.problem}",
            *["–"] * 8,
            *_if_own(facts.kind, "–"),
        )
    reached = [layer for layer in facts.layers if layer.default]
    many = "layer" if len(reached) == 1 else "layers"
    reach = f"{len(reached)} {many}: {facts.targets}"
    if facts.no_adapters is not None:
        reach = f"none: {facts.no_adapters}"
    size = facts.adapters.get("mlora")
    return (
        facts.name,
        facts.paper or "–",
        reach,
        ", ".join(facts.other_targets) or "–",
        _number(facts.parameters),
        *_if_own(facts.kind, _number(facts.own)),
        *_sizes(size.of_domain if size else None, facts.parameters),
        *_sizes(size.total if size else None, facts.parameters),
        _number(facts.separate),
        _number(facts.flops),
    )


def methods_table() -> Table:
    """What can be trained with each backbone."""
    return Table(
        "Methods: --method of mdlora train, with any of these; those with adapters where adapters "
        "reach layers.",
        ("method", "what is trained"),
        tuple(METHODS.items()),
        num_text=2,
    )


def settings_table(facts: ModelFacts) -> Table:
    """A model's settings."""
    rows = tuple(
        (
            setting.key,
            setting.type,
            value_words(setting.default),
            setting.text + (" (no effect here)" if _last(setting.key) in facts.idle else ""),
        )
        for setting in facts.settings
    )
    return Table("Settings.", ("setting", "type", "default", "what it is"), rows, num_text=4)


def adapters_table(facts: ModelFacts) -> Table:
    """What each method with adapters adds to a model, on the layers that they reach."""
    rows = tuple(
        (
            method,
            *_sizes(size.of_domain, facts.parameters),
            _number(size.gates),
            *_sizes(size.total, facts.parameters),
        )
        for method, size in facts.adapters.items()
    )
    caption = f"Parameters that adapters add, in percent of the network's {facts.parameters:,}."
    columns = ("method", "a domain's", "%", "gates", "in all", "%")
    return Table(caption, columns, rows)


def layers_table(facts: ModelFacts) -> Table:
    """A model's dense layers, and MLoRA's adapters there."""
    rows = tuple(
        (
            layer.name,
            "by default" if layer.default else "if named" if layer.reached else "cannot",
            str(layer.inputs),
            str(layer.outputs),
            _number(layer.rank),
            _number(layer.parameters),
        )
        for layer in facts.layers
    )
    caption = (
        "Dense layers, as adapter.targets names them, whether adapters work there, and the rank "
        "and parameters of one domain's."
    )
    columns = ("layer", "adapters", "inputs", "outputs", "rank", "a domain's")
    return Table(caption, columns, rows, num_text=2)


def models_to_json(facts: Sequence[ModelFacts]) -> list[Mapping[str, Any]]:
    """The same as plain values."""
    return [dataclasses.asdict(each) for each in facts]


def _if_own(kind: Kind, cell: str) -> tuple[str, ...]:
    """A cell that only a table of multi-domain methods has."""
    return (cell,) if kind == "multi-domain" else ()


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _sizes(value: int | None, whole: int | None) -> tuple[str, str]:
    """A number, and its percentage of the whole."""
    return _number(value), "–" if value is None or not whole else f"{100 * value / whole:.1f}"
