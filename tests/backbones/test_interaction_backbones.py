"""DCN, DCNv2, GDCN, FiBiNET and xDeepFM: options, sizes, adapters, dropout, export."""

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
TOWER = 6 * 5 + 5  # weights of a tower of 6 and 5 units, without its first layer's
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("dcn", {}),
    ("dcnv2", {}),
    ("dcnv2", {"rank": 2, "experts": 3, "nonlinear": True, "structure": "stacked"}),
    ("gdcn", {}),
    ("gdcn", {"structure": "stacked", "linear": True}),
    ("fibinet", {}),
    ("fibinet", {"bilinear_type": "all", "reduction": 2}),
    ("fibinet", {"bilinear_type": "each"}),
    ("xdeepfm", {}),
    ("xdeepfm", {"cin_sizes": (4, 3), "activation": "relu"}),
    ("xdeepfm", {"cin_sizes": (3, 5), "split_half": False}),
]
EVERY = pytest.mark.parametrize(("name", "options"), MODELS)


def made(name: str, dropout: float = 0.0, **options: Any) -> Backbone:
    config = BackboneConfig(name=name, hidden=(6, 5), dropout=dropout, options=options)
    return build_backbone(config, Inputs.of_fields(G, E, num_dense=N))


def rows(num: int = 7, dtype: torch.dtype = torch.float64) -> Embedded:
    make = torch.Generator().manual_seed(5)
    sizes = ((num, G, E), (num,), (num, N))
    parts = (torch.randn(size, dtype=dtype, generator=make) for size in sizes)
    return Embedded(*parts, torch.ones(num, dtype=torch.int64))


@pytest.mark.parametrize(
    ("name", "options", "weights"),
    [
        # Cross layers, the map of their output, and the tower on the flat input with its head.
        ("dcn", {}, 2 * 2 * D + D + 6 * D + 6 + TOWER + 6),
        ("dcn", {"cross_layers": 5}, 5 * 2 * D + D + 6 * D + 6 + TOWER + 6),
        ("dcnv2", {}, 2 * (D * D + D) + D + 6 * D + 6 + TOWER + 6),
        ("dcnv2", {"rank": 4}, 2 * (2 * 4 * D + D) + D + 6 * D + 6 + TOWER + 6),
        (
            "dcnv2",
            {"rank": 4, "experts": 3, "nonlinear": True, "structure": "stacked"},
            2 * (3 * (2 * 4 * D + 4 * 4 + D) + D) + 6 * D + 6 + TOWER + 6,
        ),
        ("gdcn", {}, 3 * (2 * D * D + D) + D + 6 * D + 6 + TOWER + 6),
        ("gdcn", {"structure": "stacked"}, 3 * (2 * D * D + D) + 6 * D + 6 + TOWER + 6),
        # SENET, matrices twice, and the tower on 12 products of pairs.
        ("fibinet", {}, 2 * G + 2 * 6 * E * E + 6 * (12 * E + N) + 6 + TOWER + 6),
        (
            "fibinet",
            {"bilinear_type": "each", "reduction": 2},
            2 * 2 * G + 2 * 3 * E * E + 6 * (12 * E + N) + 6 + TOWER + 6,
        ),
        (
            "fibinet",
            {"bilinear_type": "all"},
            2 * G + 2 * E * E + 6 * (12 * E + N) + 6 + TOWER + 6,
        ),
        # CIN: 128 maps of all pairs, 128 of 64 maps with all fields; 64 + 128 to the output.
        ("xdeepfm", {}, 128 * G * G + 128 * 64 * G + 192 + 6 * D + 6 + TOWER + 6),
        (
            "xdeepfm",
            {"split_half": False, "cin_sizes": [5, 3]},
            5 * G * G + 3 * 5 * G + 8 + 6 * D + 6 + TOWER + 6,
        ),
    ],
)
def test_number_of_weights(name: str, options: dict[str, Any], weights: int):
    assert sum(p.numel() for p in made(name, **options).parameters()) == weights


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dcn", {"cross_layers": 0}, r"backbone.options.cross_layers=0 is out of range"),
        ("dcn", {"structure": "stacked"}, "no option 'structure'"),
        ("dcnv2", {"cross_layers": -1}, "cross_layers=-1 is out of range"),
        ("dcnv2", {"rank": 0}, r"backbone.options.rank=0 is out of range"),
        ("dcnv2", {"rank": 2, "experts": 0}, r"backbone.options.experts=0 is out of range"),
        ("dcnv2", {"experts": 4}, "experts=4 and .*nonlinear=False are for low-rank"),
        ("dcnv2", {"nonlinear": True}, "experts=1 and .*nonlinear=True are for low-rank"),
        ("dcnv2", {"structure": "stack"}, "structure='stack' is not of type"),
        ("gdcn", {"cross_layers": 0}, "cross_layers=0 is out of range"),
        ("gdcn", {"structure": None}, "structure=None is not of type"),
        ("fibinet", {"reduction": 0}, r"backbone.options.reduction=0 is out of range"),
        ("fibinet", {"bilinear_type": "pair"}, "bilinear_type='pair' is not of type"),
        ("xdeepfm", {"cin_sizes": []}, "A CIN needs layers"),
        ("xdeepfm", {"cin_sizes": [4, 0]}, r"backbone.options.cin_sizes=0 is out of range"),
        ("xdeepfm", {"cin_sizes": [3, 4]}, "3 has no halves.* set split_half to false"),
        ("xdeepfm", {"activation": "tanh"}, "activation='tanh' is not of type"),
    ],
)
def test_values_that_do_not_fit_are_refused(name: str, options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        made(name, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gdcn", {"structure": "stack"}),
        ("fibinet", {"bilinear_type": "pair"}),
        ("xdeepfm", {"activation": "tanh"}),
    ],
)
def test_unknown_choices_are_refused_without_a_config_too(name: str, options: dict[str, Any]):
    from mdlora.backbones import get_backbone

    kind: Any = get_backbone(name)
    with pytest.raises(ConfigError, match=rf"No backbone.options.{next(iter(options))} '"):
        kind(Inputs.of_fields(G, E), **options)


def test_fibinet_needs_two_fields():
    config = BackboneConfig(name="fibinet", hidden=(4,))
    with pytest.raises(ConfigError, match="Pairs need at least two fields, but there are 1"):
        build_backbone(config, Inputs.of_fields(1, E))


@pytest.mark.parametrize(
    ("name", "options", "targets", "names"),
    [
        ("dcn", {}, "cross", ["cross.layers.0.map", "cross.layers.1.map"]),
        ("dcnv2", {}, "cross", ["cross.layers.0.map", "cross.layers.1.map"]),
        (
            "dcnv2",
            {"cross_layers": 1, "rank": 2, "experts": 2},
            "cross",
            [f"cross.layers.0.{n}" for n in ("down", "up", "gate")],
        ),
        (
            "gdcn",
            {"cross_layers": 2},
            "cross",
            [f"cross.layers.{i}.{n}" for i in (0, 1) for n in ("map", "gate")],
        ),
        (
            "fibinet",
            {"bilinear_type": "all"},
            "senet,bilinear,senet_bilinear",
            ["senet.squeeze", "senet.excite", "bilinear.map", "senet_bilinear.map"],
        ),
        (
            "xdeepfm",
            {"cin_sizes": (4, 3)},
            "cin",
            ["cin.layers.0.hidden", "cin.layers.0.direct", "cin.layers.1.direct"],
        ),
        ("xdeepfm", {"cin_sizes": (4, 3), "split_half": False, "activation": "relu"}, "cin",
         ["cin.layers.0.hidden", "cin.layers.1.direct"]),
    ],
)  # fmt: skip
def test_adapters_reach_the_interaction_layers(
    name: str, options: dict[str, Any], targets: str, names: list[str], sound: Any
):
    net = made(name, **options).double().eval()
    assert linear_names(net, targets) == names
    sound.adapts(net, rows(), targets)


@EVERY
def test_a_rows_score_ignores_its_batch_mates(name: str, options: dict[str, Any], sound: Any):
    sound.ignores_batch_mates(made(name, dropout=0.5, **options).double(), rows())


@EVERY
def test_dropout_is_on_while_training_only(name: str, options: dict[str, Any], sound: Any):
    sound.drops_while_training(made(name, dropout=0.5, **options).double(), rows(64))
    with pytest.raises(ConfigError, match="dropout=1"):
        made(name, dropout=1.0, **options)


@EVERY
def test_every_weight_learns(name: str, options: dict[str, Any], sound: Any):
    sound.learns_everywhere(made(name, **options), rows(64, torch.float32))


@pytest.mark.parametrize(("name", "options"), [MODELS[i] for i in (2, 5, 9)])
def test_exported_for_any_number_of_rows(name: str, options: dict[str, Any], sound: Any):
    sound.exports(made(name, **options), rows(3, torch.float32), rows(9, torch.float32))
