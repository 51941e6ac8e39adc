from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mdlora.config import (
    METHODS,
    BackboneConfig,
    DataConfig,
    MLoRA,
    MoEMLoRA,
    Phase,
    PlanConfig,
    RunConfig,
    TrainingConfig,
    config_from_dict,
    config_to_yaml,
    counted,
    held_out_share,
    load_config,
)
from mdlora.errors import ConfigError

OTHER = RunConfig(
    method="mlora-joint",
    seed=12,
    data=DataConfig(path="123", oov_rate=0.1, stream=True, window_rows=4096),
    backbone=BackboneConfig(
        name="deepfm", embed_dim=5, hidden=(7,), dropout=0.25, init_std=1e-4, options={"depth": [2]}
    ),
    adapter=MoEMLoRA(
        temperature=16, rank=3, max_adapter_parameters=1024, bias=False, targets="tower.*",
        experts_per_domain=2, expert_rows="clusters:user id", gate="input", gate_embed_dim=6,
        gate_shared=True, gate_detach=False, gate_init="uniform", gate_own_weight=0.5, top_k=2,
        unknown_domain="gate", layer_ranks={"head": 1},
    ),
    plan=PlanConfig(
        patience=1, max_epochs=0, metric="mean_auc", min_validation=7, rows="held_out:0.2",
        batches="by_domain", joint_start="pretrained", eval_every_steps=9, finetune_lr=1e-4,
        gate_lr=0.5,
    ),
    training=TrainingConfig(
        lr=1e-5, batch_size=7, eval_batch_size=8, betas=(0.5, 0.9), eps=1e-6, l2=0.0,
        embedding_optimizer="catch_up", threads=2, device="cpu", checkpoint_seconds=0.5,
    ),
)  # fmt: skip


def test_the_papers_protocol_is_the_default():
    config = RunConfig()
    assert config.backbone.hidden == (256, 128, 64)
    assert (config.backbone.embed_dim, config.backbone.dropout, config.backbone.init_std) == (
        None, 0.5, 0.01,  # 8, or the width of given vectors
    )  # fmt: skip
    training = config.training
    assert (training.lr, training.batch_size, training.betas, training.eps, training.l2) == (
        1e-3, 1024, (0.9, 0.999), 1e-8, 1e-5,
    )  # fmt: skip
    assert training.embedding_optimizer == "lazy"
    assert (config.plan.patience, config.plan.max_epochs, config.plan.min_validation) == (3, 50, 50)
    assert (config.plan.metric, config.plan.rows, config.plan.batches) == ("wauc", "all", "mixed")
    adapter = config.adapter
    assert (adapter.temperature, adapter.bias, adapter.max_adapter_parameters) == (32, True, None)
    assert (adapter.gate, adapter.gate_embed_dim, adapter.gate_init) == ("domain", 4, "own")
    assert not adapter.gate_shared


@pytest.mark.parametrize("config", [RunConfig(), OTHER], ids=["defaults", "all other"])
def test_yaml_there_and_back(config: RunConfig, tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(config_to_yaml(config), encoding="utf-8")
    assert load_config(path) == config


PHASES = (
    Phase(name="yes", train="backbone", route="none", rows="seen", patience=None, lr=1e-5),
    Phase(
        name="b", train="experts", route="own", stop="by_domain", rows="held_out",
        batches="by_domain", max_epochs=4,
    ),
)  # fmt: skip


def test_phases_there_and_back(tmp_path: Path):
    config = RunConfig(plan=PlanConfig(phases=PHASES, rows="held_out:0.2"))
    path = tmp_path / "config.yaml"
    path.write_text(config_to_yaml(config), encoding="utf-8")
    assert load_config(path) == config
    assert load_config(path).plan.phases == PHASES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patience", 1),
        ("max_epochs", 7),
        ("batches", "by_domain"),
        ("joint_start", "pretrained"),
        ("finetune_lr", 1e-4),
        ("gate_lr", 0.5),
    ],
)
def test_settings_that_phases_of_ones_own_do_not_follow(name: str, value: Any):
    phases = (Phase(name="a", train="all", route="own"),)
    settings: dict[str, Any] = {"phases": phases, name: value}
    with pytest.raises(
        ConfigError, match=rf"plan\.{name}={value} has no effect beside plan\.phases"
    ):
        PlanConfig(**settings)
    default = getattr(PlanConfig(), name)
    assert PlanConfig(**{**settings, name: default}).phases == phases
    others: dict[str, Any] = {"metric": "mean_auc", "min_validation": 3, "eval_every_steps": 5}
    assert PlanConfig(phases=phases, extra_epochs=2, **others).metric == "mean_auc"


@pytest.mark.parametrize("rows", ["held_out", "seen"])
def test_phases_on_rows_that_nobody_held_out(rows: Any):
    phases = (Phase(name="odd", train="backbone", route="none", rows=rows),)
    with pytest.raises(ConfigError, match=rf"Phase 'odd' has rows '{rows}', .*held_out:0\.2"):
        PlanConfig(phases=phases)
    assert PlanConfig(phases=phases, rows="held_out:0.2").phases == phases


def test_no_setting_of_the_round_trip_is_left_at_its_default():
    for section in (OTHER, *(getattr(OTHER, f.name) for f in dataclasses.fields(OTHER)[2:])):
        for field in dataclasses.fields(section):
            if field.name not in ("num_domains", "extra_epochs", "phases", "domain"):
                default = getattr(type(section)(), field.name)
                assert getattr(section, field.name) != default, field.name


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("method: mlora\ntraining:\n  lr: 1e-4\n", encoding="utf-8")
    # YAML reads 1e-4, without a dot, as text; it is meant as a number.
    assert load_config(path) == RunConfig(method="mlora", training=TrainingConfig(lr=1e-4))
    path.write_text("", encoding="utf-8")
    assert load_config(path) == RunConfig()


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"methd": "base"}, "No setting 'methd'. Did you mean 'method'"),
        ({"method": "mloar"}, "No method 'mloar'. Did you mean 'mlora'"),
        ({"training": {"learning": 1}}, "No setting of training 'learning'.*Known: lr, batch_size"),
        ({"training": {"bach_size": 1}}, "Did you mean 'batch_size'"),
        ({"plan": {"phases": [{"nam": "x"}]}}, "phases: No setting 'nam'. Did you mean 'name'"),
        ({"training": {"lr": "fast"}}, "(?s)training.*lr"),
        ({"training": {"batch_size": 1.5}}, "(?s)training.*batch_size"),
        ({"training": {"device": "tpu"}}, "(?s)training.*device"),
        ({"backbone": {"hidden": ["a"]}}, "(?s)backbone.*hidden"),
        ({"adapter": {"gate": "both"}}, "(?s)adapter.*gate"),
        ({"adapter": {"bias": "perhaps"}}, "(?s)adapter.*bias"),
        ({"training": 3}, "training is 3; give a mapping"),
        ({"seed": "one"}, "(?s)seed"),
        ({"training": {"lr": 0}}, r"training\.lr=0 is out of range; .* \(0, inf\)"),
        ({"backbone": {"dropout": 1}}, r"backbone\.dropout=1 is out of range; .*\[0, 1\)"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(plain: dict[str, Any], says: str):
    with pytest.raises(ConfigError, match=says):
        config_from_dict(plain)


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: [", "is not YAML"), ("- 1\n- 2\n", "must hold a mapping"), ("x: 1\n", "No setting 'x'")],
)
def test_a_wrong_file_is_named(text: str, says: str, tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"Cannot read the configuration .*none\.yaml"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (MLoRA, {"num_domains": 0}),
        (MLoRA, {"temperature": 0}),
        (MLoRA, {"rank": 0}),
        (MLoRA, {"max_adapter_parameters": 0}),
        (MoEMLoRA, {"rank": -1}),
        (MoEMLoRA, {"experts_per_domain": 0}),
        (MoEMLoRA, {"gate_embed_dim": 0}),
        (MoEMLoRA, {"gate_own_weight": 0}),
        (MoEMLoRA, {"gate_own_weight": 1}),
        (MoEMLoRA, {"top_k": 0}),
        (MoEMLoRA, {"expert_rows": "some"}),
        (MoEMLoRA, {"expert_rows": "clusters:"}),
        (BackboneConfig, {"embed_dim": 0}),
        (BackboneConfig, {"hidden": ()}),
        (BackboneConfig, {"hidden": (8, 0)}),
        (BackboneConfig, {"dropout": 1.0}),
        (BackboneConfig, {"init_std": 0}),
        (DataConfig, {"oov_rate": 1.0}),
        (DataConfig, {"oov_rate": -0.1}),
        (TrainingConfig, {"lr": float("nan")}),
        (TrainingConfig, {"batch_size": 0}),
        (TrainingConfig, {"eval_batch_size": 0}),
        (TrainingConfig, {"betas": (0.9,)}),
        (TrainingConfig, {"betas": (0.9, 1.0)}),
        (TrainingConfig, {"eps": 0}),
        (TrainingConfig, {"l2": -1}),
        (TrainingConfig, {"threads": 0}),
        (TrainingConfig, {"checkpoint_seconds": -1}),
        (PlanConfig, {"patience": 0}),
        (PlanConfig, {"max_epochs": -1}),
        (PlanConfig, {"min_validation": 0}),
        (PlanConfig, {"eval_every_steps": 0}),
        (PlanConfig, {"finetune_lr": 0}),
        (PlanConfig, {"gate_lr": -1}),
        (PlanConfig, {"phases": ()}),
        (RunConfig, {"seed": -1}),
    ],
)
def test_values_out_of_range_are_refused_at_once(
    make: Callable[..., Any], settings: dict[str, Any]
):
    (name,) = settings
    with pytest.raises(ConfigError, match=name):
        make(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"train": "experts", "route": "none"}, "no row would reach its adapters"),
        ({"train": "gate", "route": "none"}, "no row would reach its adapters"),
        ({"train": "all", "route": "none"}, "no row would reach its adapters"),
        ({"train": "gate", "route": "own"}, "its route must be 'gate'"),
        (
            {"train": "backbone", "route": "none", "stop": "by_domain"},
            "stops by domain, which only",
        ),
        ({"train": "experts", "route": "gate", "stop": "by_domain"}, "stops by domain, which only"),
        ({"train": "all", "route": "own", "stop": "by_domain"}, "stops by domain, which only"),
        ({"train": "all", "route": "own", "max_epochs": -1}, "max_epochs"),
        ({"train": "all", "route": "own", "patience": 0}, "patience"),
        ({"train": "all", "route": "own", "lr": 0}, "lr"),
    ],
)
def test_phases_that_make_no_sense_are_refused(settings: dict[str, Any], says: str):
    with pytest.raises(ConfigError, match=f"(?i)phase 'odd'.*{says}"):
        Phase(name="odd", **settings)


def test_phases_of_one_name_are_refused():
    phase = Phase(name="a", train="all", route="own")
    with pytest.raises(ConfigError, match="repeats a name: a, a"):
        PlanConfig(phases=(phase, phase))


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (MoEMLoRA, "gate", "inputs"),
        (MoEMLoRA, "gate_init", "even"),
        (MoEMLoRA, "unknown_domain", "none"),
        (TrainingConfig, "embedding_optimizer", "sparse"),
        (TrainingConfig, "device", "tpu"),
        (PlanConfig, "metric", "auc"),
        (PlanConfig, "batches", "by-domain"),
        (PlanConfig, "joint_start", "later"),
    ],
)
def test_an_unknown_choice_is_refused_also_in_python(make: Any, field: str, value: str):
    with pytest.raises(ConfigError, match=rf"(?s){field}.*{value}|{value}.*{field}"):
        make(**{field: value})


@pytest.mark.parametrize("field", ["train", "route", "stop", "rows", "batches"])
def test_an_unknown_choice_of_a_phase_is_refused(field: str):
    with pytest.raises(ConfigError, match="odd"):
        Phase(**{"name": "a", "train": "all", "route": "own", field: "odd"})


def test_held_out_shares():
    assert held_out_share("all") is None
    assert held_out_share("held_out:0.25") == 0.25
    for text in (
        "held_out",
        "held_out:",
        "held_out:0",
        "held_out:1",
        "held_out:x",
        "some",
        "x:0.5",
    ):
        with pytest.raises(ConfigError, match=r"plan\.rows="):
            held_out_share(text)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_configured(method: str):
    assert RunConfig(method=method).method == method


def test_one_is_no_plural():
    told = [counted(number, "row") for number in (0, 1, 2, 1200)]
    assert told == ["0 rows", "1 row", "2 rows", "1,200 rows"]
    assert [counted(n, "key has", "keys have") for n in (1, 2)] == ["1 key has", "2 keys have"]


def test_settings_are_frozen_and_lists_become_tuples():
    config = BackboneConfig(hidden=[3, 4])
    assert config.hidden == (3, 4)
    assert TrainingConfig(betas=[0.5, 0.6]).betas == (0.5, 0.6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.hidden = (1,)


def test_an_option_called_on_survives_yaml_and_other_names_are_text(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("backbone:\n  options:\n    on: dcn\n    host: {cross_layers: 3}\n")
    config = load_config(file)
    assert config.backbone.options == {"on": "dcn", "host": {"cross_layers": 3}}
    file.write_text(config_to_yaml(config))
    assert load_config(file) == config
    with pytest.raises(ConfigError, match=r"backbone\.options names 3; give names of options"):
        BackboneConfig(options={3: 4})  # type: ignore[dict-item]


def test_mixture_settings_without_the_gate():
    assert MoEMLoRA(rank=3, bias=False, experts_per_domain=4).as_mlora() == MLoRA(
        rank=3, bias=False
    )
    assert MoEMLoRA(experts_per_domain=4).experts_in_a_domain == 4
    assert MLoRA().experts_in_a_domain == 1
