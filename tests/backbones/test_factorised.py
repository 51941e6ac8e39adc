"""NFM, AutoInt, PNN, AFM and FwFM: options, sizes, adapters, dropout, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mdlora.adapters import adapt, linear_names
from mdlora.backbones import Backbone, Inputs, build_backbone, get_backbone, idle_settings
from mdlora.config import BackboneConfig, MLoRA, RunConfig
from mdlora.data import Dataset
from mdlora.errors import AdapterError, ConfigError
from mdlora.training import train_config
from mdlora.training.build import check_widening
from mdlora.types import Embedded

G, E, N = 4, 3, 2
D = G * E + N  # of the flat input
A = G + N  # fields with those of numbers
TOWER = 6 * 5 + 5 + 6  # weights of a tower of 6 and 5 units and its head, but for the inputs'
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("nfm", {}),
    ("nfm", {"pool_dropout": 0.5}),
    ("autoint", {}),
    ("autoint", {"deep": False}),
    ("autoint", {"layers": 1, "residual": False, "scaled": True, "linear": False}),
    ("pnn", {}),
    ("pnn", {"product": "both"}),
    ("pnn", {"product": "outer", "kernel": "mat"}),
    ("pnn", {"product": "both", "kernel": "vec"}),
    ("afm", {}),
    ("afm", {"deep": True}),
    ("fwfm", {}),
    ("fwfm", {"linear": "values"}),
    ("fwfm", {"deep": True}),
]
EVERY = pytest.mark.parametrize(("name", "options"), MODELS)


def has_tower(name: str, options: dict[str, Any]) -> bool:
    return name in ("nfm", "pnn") or options.get("deep", name == "autoint")


def made(name: str, dropout: float = 0.0, **options: Any) -> Backbone:
    hidden: dict[str, Any] = {"hidden": (6, 5)} if has_tower(name, options) else {}
    config = BackboneConfig(name=name, dropout=dropout, options=options, **hidden)
    return build_backbone(config, Inputs.of_fields(G, E, num_dense=N))


def rows(num: int = 7, dtype: torch.dtype = torch.float64) -> Embedded:
    make = torch.Generator().manual_seed(5)
    sizes = ((num, G, E), (num,), (num, N))
    parts = (torch.randn(size, dtype=dtype, generator=make) for size in sizes)
    return Embedded(*parts, torch.ones(num, dtype=torch.int64))


@pytest.mark.parametrize(
    ("name", "options", "weights"),
    [
        ("nfm", {}, 6 * (E + N) + 6 + TOWER),
        # Vectors and weights of numbers, four maps a layer, the output map, the tower.
        (
            "autoint",
            {},
            N * E + N + 4 * 32 * E + 2 * 4 * 32 * 32 + A * 32 + 6 * D + 6 + TOWER,
        ),
        ("autoint", {"deep": False}, N * E + N + 4 * 32 * E + 2 * 4 * 32 * 32 + A * 32 + 1),
        (
            "autoint",
            {"layers": 2, "heads": 2, "head_size": 5, "residual": False, "linear": False},
            N * E + 3 * 10 * E + 3 * 10 * 10 + A * 10 + 6 * D + 6 + TOWER,
        ),
        ("pnn", {}, 6 * (D + 6) + 6 + TOWER),
        ("pnn", {"product": "outer"}, 6 * (D + 9) + 6 + TOWER),
        ("pnn", {"product": "both"}, 6 * (D + 6 + 9) + 6 + TOWER),
        ("pnn", {"product": "outer", "kernel": "mat"}, 6 * 9 + 6 * (D + 6) + 6 + TOWER),
        ("pnn", {"product": "both", "kernel": "vec"}, 6 * 3 + 6 * (D + 12) + 6 + TOWER),
        ("pnn", {"product": "both", "kernel": "num"}, 6 + 6 * (D + 12) + 6 + TOWER),
        # Vectors and weights of numbers, W, b and h, p and the bias.
        ("afm", {}, N * E + N + 3 * E + 3 + 3 + E + 1),
        ("afm", {"attention_width": 8}, N * E + N + 8 * E + 8 + 8 + E + 1),
        ("afm", {"deep": True}, N * E + N + 3 * E + 3 + 3 + E + 6 * D + 6 + TOWER),
        # Vectors of numbers, 15 pairs of 6 fields, the bias, the linear part.
        ("fwfm", {}, N * E + 15 + 1 + A * E),
        ("fwfm", {"linear": "values"}, N * E + 15 + 1 + N),
        ("fwfm", {"deep": True}, N * E + 15 + A * E + 6 * D + 6 + TOWER),
    ],
)
def test_number_of_weights(name: str, options: dict[str, Any], weights: int):
    assert sum(p.numel() for p in made(name, **options).parameters()) == weights


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nfm", {"pool_dropout": 1.0}, r"backbone.options.pool_dropout=1 is out of range"),
        ("nfm", {"pool_dropout": -0.1}, r"pool_dropout=-0.1 is out of range"),
        ("autoint", {"layers": 0}, r"backbone.options.layers=0 is out of range"),
        ("autoint", {"heads": 0}, r"backbone.options.heads=0 is out of range"),
        ("autoint", {"head_size": -8}, r"backbone.options.head_size=-8 is out of range"),
        ("autoint", {"attention_dropout": 1.5}, r"attention_dropout=1.5 is out of range"),
        ("autoint", {"deep": "no idea"}, "deep='no idea' is not of type bool"),
        ("pnn", {"product": "cross"}, "product='cross' is not of type"),
        ("pnn", {"product": "outer", "kernel": "matrix"}, "kernel='matrix' is not of type"),
        ("pnn", {"kernel": "mat"}, "kernel='mat' is for outer products: set .*product to 'outer'"),
        ("afm", {"attention_width": 0}, r"backbone.options.attention_width=0 is out of range"),
        ("afm", {"linear": "values"}, "no option 'linear'"),
        ("fwfm", {"linear": "FeLV"}, "linear='FeLV' is not of type"),
    ],
)
def test_values_that_do_not_fit_are_refused(name: str, options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        made(name, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [("pnn", {"product": "cross"}), ("pnn", {"kernel": "x"}), ("fwfm", {"linear": "FeLV"})],
)
def test_unknown_choices_are_refused_without_a_config_too(name: str, options: dict[str, Any]):
    kind: Any = get_backbone(name)
    with pytest.raises(ConfigError, match=rf"No backbone.options.{next(iter(options))} '"):
        kind(Inputs.of_fields(G, E), **options)


@pytest.mark.parametrize("name", ["afm", "fwfm", "pnn"])
def test_pairs_need_two_fields_and_numbers_count_as_some(name: str):
    config = BackboneConfig(name=name)
    with pytest.raises(ConfigError, match="Pairs need at least two fields, but there are 1"):
        build_backbone(config, Inputs.of_fields(1, E))
    if name == "pnn":  # its pairs are of embedded columns only
        return
    build_backbone(config, Inputs.of_fields(1, E, num_dense=1))


@pytest.mark.parametrize(
    ("name", "options", "setting", "value"),
    [
        ("afm", {}, "hidden", (8,)),
        ("fwfm", {}, "hidden", (256, 128)),
        ("fwfm", {"linear": "values"}, "dropout", 0.2),
        ("autoint", {"deep": False}, "hidden", (8, 4)),
    ],
)
def test_settings_of_a_tower_that_is_not_there_are_refused(
    name: str, options: dict[str, Any], setting: str, value: Any
):
    inputs = Inputs.of_fields(G, E)
    given: dict[str, Any] = {setting: value}
    with pytest.raises(ConfigError) as caught:
        build_backbone(BackboneConfig(name=name, options=options, **given), inputs)
    assert str(caught.value) == (
        f"backbone.{setting}={value!r} has no effect on {name!r} without a tower: set "
        "backbone.options.deep to true, or leave it out."
    )
    deep = BackboneConfig(name=name, options={**options, "deep": True}, **given)
    assert idle_settings(deep) == ()
    build_backbone(deep, inputs)
    with pytest.raises(ConfigError, match=f"base-wide widens hidden layers, and '{name}' has none"):
        check_widening(BackboneConfig(name=name, options=options))
    check_widening(deep)


def test_no_dropout_and_defaults_are_no_settings_of_a_tower():
    for dropout in (0.0, 0.5):
        build_backbone(BackboneConfig(name="fwfm", dropout=dropout), Inputs.of_fields(G, E))
    assert idle_settings(BackboneConfig(name="fwfm")) == ("hidden", "dropout")
    assert idle_settings(BackboneConfig(name="afm")) == ("hidden",)  # its pairs are dropped from
    assert idle_settings(BackboneConfig(name="wdl")) == ()


def test_comparisons_refuse_base_wide_where_nothing_can_be_widened(tmp_path: Path):
    from mdlora.experiments import compare

    asked = {"out": tmp_path / "out", "config": RunConfig(), "seeds": (1,)}
    with pytest.raises(ConfigError, match="leave base-wide out of the methods"):
        compare("synthetic", backbones=["wdl", "afm"], methods=["base", "base-wide"], **asked)
    assert not (tmp_path / "out").exists()


ATTENTION = [f"attention.{i}.{n}" for i in (0, 1, 2) for n in ("query", "key", "value", "residual")]
HIDDEN = ["tower.linears.0", "tower.linears.1"]


@pytest.mark.parametrize(
    ("name", "options", "targets", "names"),
    [
        ("nfm", {}, None, HIDDEN),
        ("pnn", {"product": "both"}, None, HIDDEN),
        ("autoint", {}, None, HIDDEN),
        ("autoint", {"deep": False}, None, ATTENTION),
        ("autoint", {}, "attention.*.query", ATTENTION[::4]),
        ("autoint", {}, "attention,attention_head", [*ATTENTION, "attention_head"]),
        ("autoint", {"layers": 1, "residual": False}, "attention", ATTENTION[:3]),
        ("afm", {}, None, ["attention.map", "attention.score"]),
        ("afm", {"deep": True}, None, HIDDEN),
        ("fwfm", {}, None, ["pairs", "linear"]),
        ("fwfm", {"linear": "values"}, None, ["pairs"]),
        ("fwfm", {"deep": True}, "tower,pairs", [*HIDDEN, "pairs"]),
    ],
)
def test_adapters_reach_what_they_say(
    name: str, options: dict[str, Any], targets: str | None, names: list[str], sound: Any
):
    net = made(name, **options).double().eval()
    assert set(linear_names(net, targets or net.adapter_targets)) == set(names)
    sound.adapts(net, rows(), targets)


@pytest.mark.parametrize("name", ["afm", "fwfm"])
def test_without_a_tower_there_is_none_to_adapt(name: str):
    with pytest.raises(AdapterError, match=r"targets='tower' matches no Linear layer of \w*FM, "):
        adapt(made(name), MLoRA(num_domains=2), targets="tower")


@EVERY
def test_a_rows_score_ignores_its_batch_mates(name: str, options: dict[str, Any], sound: Any):
    sound.ignores_batch_mates(made(name, dropout=0.5, **options).double(), rows())


@EVERY
def test_dropout_is_on_while_training_only(name: str, options: dict[str, Any], sound: Any):
    drops = name != "fwfm" or "deep" in options  # without a tower, it has nothing to drop
    net = made(name, dropout=0.5, **options).double()
    sound.drops_while_training(net, rows(64), drops=drops)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nfm", {"pool_dropout": 0.5}),
        ("autoint", {"attention_dropout": 0.5}),
        ("autoint", {"deep": False, "attention_dropout": 0.5}),
    ],
)
def test_dropout_of_its_own(name: str, options: dict[str, Any], sound: Any):
    sound.drops_while_training(made(name, dropout=0.0, **options).double(), rows(64))


def test_attention_without_a_tower_can_do_without_dropout():
    net, x = made("autoint", dropout=0.5, deep=False, attention_dropout=0.0).double(), rows(64)
    assert torch.equal(net(x), net(x))


@EVERY
def test_every_weight_learns(name: str, options: dict[str, Any], sound: Any):
    sound.learns_everywhere(made(name, **options), rows(64, torch.float32))


@pytest.mark.parametrize(("name", "options"), [MODELS[i] for i in (1, 2, 8, 10, 11)])
def test_exported_for_any_number_of_rows(name: str, options: dict[str, Any], sound: Any):
    sound.exports(made(name, **options), rows(3, torch.float32), rows(9, torch.float32))


@pytest.mark.parametrize("name", ["afm", "autoint", "fwfm"])
def test_models_without_a_tower_learn_on_every_kind_of_column(
    name: str, every_kind: Dataset, tmp_path: Path, tiny_config: Any
):
    backbone = {"name": name, "hidden": (256, 128, 64), "options": {"deep": False}}
    config = tiny_config("mlora-joint", backbone=backbone, plan={"max_epochs": 3})
    run = train_config(config, every_kind, tmp_path / "run")
    losses = [event["train_loss"] for event in run.metrics() if event.get("train_loss")]
    assert losses[-1] < losses[0]
    assert all(bank.up.any() for bank in run.model.adapted.banks)
