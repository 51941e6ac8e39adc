"""FinalMLP and MaskNet: options, sizes, adapters, dropout, export."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mdlora.adapters import linear_names
from mdlora.backbones import Backbone, Inputs, build_backbone
from mdlora.config import BackboneConfig
from mdlora.errors import ConfigError
from mdlora.types import Embedded

G, E, N = 4, 3, 2
D = G * E + N  # of the flat input
INPUTS = Inputs(field_names=("user", "item", "hour", "shop"), embed_dim=E, num_dense=N)
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("finalmlp", {}),
    ("finalmlp", {"gating": False, "second_hidden": [7, 8], "heads": 2}),
    ("finalmlp", {"first_context": ["user", "hour"], "second_context": ["item"], "heads": 4}),
    ("masknet", {}),
    ("masknet", {"structure": "parallel", "blocks": 2, "block_width": 5}),
]
EVERY = pytest.mark.parametrize(("name", "options"), MODELS)


def made(name: str, dropout: float = 0.0, **options: Any) -> Backbone:
    config = BackboneConfig(name=name, hidden=(6, 4), dropout=dropout, options=options)
    return build_backbone(config, INPUTS)


def rows(num: int = 7) -> Embedded:
    make = torch.Generator().manual_seed(5)
    sizes = ((num, G, E), (num,), (num, N))
    parts = (torch.randn(size, dtype=torch.float64, generator=make) for size in sizes)
    return Embedded(*parts, torch.ones(num, dtype=torch.int64))


def tower(width: int, *hidden: int) -> int:
    """Weights and biases of dense layers."""
    sizes = [width, *hidden]
    return sum(i * o + o for i, o in zip(sizes, hidden, strict=False))


@pytest.mark.parametrize(
    ("name", "options", "weights"),
    [
        # Two streams; for each a learned context and a gate of 64; fusion: 4 * 4, 8 and a bias.
        ("finalmlp", {}, 2 * tower(D, 6, 4) + 2 * (E + tower(E, 64, D)) + 16 + 9),
        ("finalmlp", {"gating": False}, 2 * tower(D, 6, 4) + 16 + 9),
        ("finalmlp", {"gating": False, "heads": 2}, 2 * tower(D, 6, 4) + 2 * 2 * 2 + 9),
        (
            "finalmlp",
            {"second_hidden": [8], "first_context": ["user", "shop"], "gate_hidden": 5},
            tower(D, 6, 4) + tower(D, 8) + tower(2 * E, 5, D) + E + tower(E, 5, D) + 32 + 13,
        ),
        # Norms of the fields; masks of D and 6 units; blocks without biases, but with norms; head.
        (
            "masknet",
            {},
            2 * G * E + tower(D, 2 * D, D) + tower(D, 12, 6) + D * 6 + 12 + 6 * 4 + 8 + 5,
        ),
        (
            "masknet",
            {"reduction": 0.01},
            2 * G * E + tower(D, 1, D) + tower(D, 1, 6) + D * 6 + 12 + 6 * 4 + 8 + 5,
        ),
        (
            "masknet",
            {"structure": "parallel"},
            2 * G * E + 3 * (tower(D, 2 * D, D) + D * 64 + 128) + tower(192, 6, 4) + 5,
        ),
        (
            "masknet",
            {"structure": "parallel", "blocks": 2, "block_width": 5},
            2 * G * E + 2 * (tower(D, 2 * D, D) + D * 5 + 10) + tower(10, 6, 4) + 5,
        ),
    ],
)
def test_number_of_weights(name: str, options: dict[str, Any], weights: int):
    assert sum(p.numel() for p in made(name, **options).parameters()) == weights


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("finalmlp", {"heads": 0}, r"backbone\.options\.heads=0 is out of range"),
        ("finalmlp", {"heads": 3}, "heads=3 cannot cut .* of 4 and 4 units, .* divisor of both"),
        ("finalmlp", {"heads": 4, "second_hidden": [4, 6]}, "of 4 and 6 units"),
        ("finalmlp", {"second_hidden": []}, "second_hidden is empty; .*say"),
        ("finalmlp", {"second_hidden": [4, 0]}, "second_hidden=0 is out of range"),
        ("finalmlp", {"gate_hidden": 0}, r"backbone\.options\.gate_hidden=0"),
        (
            "finalmlp",
            {"first_context": ["usr"]},
            r"first_context names 'usr', which is no field. Did you mean 'user'\? Fields: user, i",
        ),
        ("finalmlp", {"second_context": ["item", "item"]}, "'item', 'item'; name each field once"),
        ("finalmlp", {"gating": False, "second_context": ["item"]}, "gating is false, so contexts"),
        ("finalmlp", {"gating": "no thanks"}, "gating='no thanks' is not of type"),
        ("masknet", {"structure": "serie"}, "structure='serie' is not of type"),
        ("masknet", {"reduction": 0}, r"backbone\.options\.reduction=0 is out of range"),
        ("masknet", {"blocks": 2}, "blocks=2 is for parallel blocks; .*structure=parallel"),
        ("masknet", {"block_width": 8}, "block_width=8 is for parallel blocks"),
        ("masknet", {"structure": "parallel", "blocks": 0}, "blocks=0 is out of range"),
        ("masknet", {"structure": "parallel", "block_width": 0}, "block_width=0 is out of range"),
    ],
)
def test_values_that_do_not_fit_are_refused(name: str, options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        made(name, **options)


@EVERY
def test_adapters_reach_every_linear_map(name: str, options: dict[str, Any], sound: Any):
    net = made(name, **options).double().eval()
    maps = [n for n, m in net.named_modules() if isinstance(m, torch.nn.Linear)]
    assert list(sound.adapts(net, rows(), "*")) == maps


@pytest.mark.parametrize(
    ("name", "options", "targets", "names"),
    [
        ("finalmlp", {}, "gates.first", ["gates.first.unit.cross", "gates.first.unit.scale"]),
        ("finalmlp", {}, "fusion", ["fusion.linear"]),
        ("masknet", {}, "masks.0", ["masks.0.aggregate", "masks.0.project"]),
        (
            "masknet",
            {"structure": "parallel", "blocks": 2},
            "tower,blocks",
            ["tower.linears.0", "tower.linears.1", "blocks.0.linear", "blocks.1.linear"],
        ),
    ],
)
def test_patterns_name_the_parts(
    name: str, options: dict[str, Any], targets: str, names: list[str]
):
    assert linear_names(made(name, **options), targets) == names


@EVERY
def test_a_rows_score_ignores_its_batch_mates(name: str, options: dict[str, Any], sound: Any):
    sound.ignores_batch_mates(made(name, dropout=0.5, **options).double(), rows())


@EVERY
def test_dropout_is_on_while_training_only(name: str, options: dict[str, Any], sound: Any):
    sound.drops_while_training(made(name, dropout=0.5, **options).double(), rows(64))


@pytest.mark.parametrize(("name", "options"), [MODELS[i] for i in (2, 4)])
def test_exported_for_any_number_of_rows(name: str, options: dict[str, Any], sound: Any):
    sound.exports(made(name, **options).double(), rows(3), rows(9))


@EVERY
def test_every_weight_learns(name: str, options: dict[str, Any], sound: Any):
    sound.learns_everywhere(made(name, **options).double(), rows(64))


def test_gates_start_near_one():
    net, x = made("finalmlp", first_context=["user"]).double(), rows()
    for name in ("first", "second"):
        factors = net.gates[name](0.01 * x.fields)
        torch.testing.assert_close(factors, torch.ones_like(factors), rtol=0, atol=0.05)
    assert net.gates["second"].context.shape == (1, E)
    assert net.gates["first"].context is None
