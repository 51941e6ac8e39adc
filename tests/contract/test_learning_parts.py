"""What a phase does not train stays as it is, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mdlora.config import MoEMLoRA, Phase, PlanConfig, RunConfig, TrainingConfig
from mdlora.data import Dataset
from mdlora.model import CTRModel
from mdlora.training.batches import PhaseRows
from mdlora.training.build import build_model
from mdlora.training.optimizers import PhaseOptimizer, trained_groups
from mdlora.training.phase import PhaseRunner
from mdlora.training.plan import make_plan
from mdlora.training.progress import SilentProgress
from mdlora.types import Batch

# The phases of moe-mlora are those of base and of mlora, and one more.
LEARNING = ["moe-mlora", "mlora-joint", "moe-mlora-joint", "full-finetuned", "base-finetuned"]


def config_of(contract: Any, backbone: str, method: str, **plan: Any) -> RunConfig:
    return RunConfig(
        method=method,
        backbone=contract.config(backbone, dropout=0.2),
        adapter=MoEMLoRA(temperature=2),
        plan=PlanConfig(**plan),
        training=TrainingConfig(lr=0.05, batch_size=128, l2=1e-4, device="cpu"),
    )


def may_move(model: CTRModel, phase: Phase) -> tuple[str, ...]:
    """Prefixes of the names of what a phase trains, buffers of the backbone among them."""
    prefixes = {
        "embeddings": ("embeddings.",),
        "backbone": ("backbone.",),
        "experts": ("adapted.banks.",),
        "gates": ("adapted.gates.",),
    }
    if phase.train == "targets":
        prefixes["targets"] = tuple(f"backbone.{name}." for name in model.target_names)
    return tuple(prefix for group in trained_groups(phase) for prefix in prefixes[group])


def snapshot(model: CTRModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state().items()}


def moved(model: CTRModel, before: dict[str, Tensor]) -> set[str]:
    return {name for name, t in model.state().items() if not torch.equal(t, before[name])}


def step(model: CTRModel, phase: Phase, config: RunConfig, batch: Batch) -> None:
    groups = trained_groups(phase)
    model.train_only(*groups)
    model.training_mode(groups)
    if model.adapted is not None:
        model.adapted.route_mode = phase.route
    optimizer = PhaseOptimizer(model, phase, config.training)
    optimizer.before_forward(batch)
    loss = F.binary_cross_entropy_with_logits(model(batch), batch.label)
    optimizer.zero_grad()
    extra = model.backbone.extra_loss()
    (loss if extra is None else loss + extra).backward()
    used = None if "experts" not in groups else model.adapted.experts_used()
    optimizer.step(batch, used)


def check_one_step(contract: Any, backbone: str, method: str, num_domains: int) -> None:
    data: Dataset = contract.log(num_domains, 640)
    config = config_of(contract, backbone, method)
    train = data.split("train")
    batch = train.batch(0, 200)._replace(label=train.label[:200])
    model = build_model(config, data.schema)
    for phase in make_plan(config):
        before = snapshot(model)
        step(model, phase, config, batch)
        names, allowed = moved(model, before), may_move(model, phase)
        stray = [name for name in names if not name.startswith(allowed)]
        assert not stray, (method, phase.name)
        still = [prefix for prefix in allowed if not any(n.startswith(prefix) for n in names)]
        # One gate's weights get no gradient while its adapters add nothing: none is expected to.
        assert not [prefix for prefix in still if "gates" not in prefix], (method, phase.name)
        if phase.train == "experts":
            for weight in model.group("experts"):
                torch.nn.init.normal_(weight, std=0.3)


def test_a_step_moves_only_what_its_phase_trains(adaptable: str, num_domains: int, contract: Any):
    for method in LEARNING if num_domains < 10 else LEARNING[:3]:
        check_one_step(contract, adaptable, method, num_domains)


def test_a_step_moves_only_what_its_phase_trains_where_adapters_reach_nothing(
    unreachable: str, num_domains: int, contract: Any
):
    check_one_step(contract, unreachable, "base", num_domains)


def phases(config: RunConfig, data: Dataset) -> Iterator[tuple[Phase, CTRModel, PhaseRunner]]:
    model = build_model(config, data.schema)
    train = data.split("train")
    rows = PhaseRows(
        train.categories, train.domain, train.label, dense=train.dense, lists=train.lists
    )
    for phase in make_plan(config):
        yield phase, model, PhaseRunner(
            model, phase, config, rows, data.split("validation"), record=lambda _: None,
            progress=SilentProgress(), checkpoint=lambda _: None, should_stop=lambda: False,
        )  # fmt: skip


# Running statistics, hooks in a tower, a step counter and an extra loss, lists, attention.
@pytest.mark.parametrize("method", ["moe-mlora", "moe-mlora-joint", "full-finetuned"])
@pytest.mark.parametrize("name", ["adasparse", "autoint", "din", "hamur", "star-shared"])
def test_whole_phases_move_only_what_they_train(name: str, method: str, contract: Any):
    data = contract.log(3, 640)
    config = config_of(contract, name, method, max_epochs=2, min_validation=5)
    ran = []
    for phase, model, runner in phases(config, data):
        if phase.train == "gate":  # adapters that are still fresh give a gate nothing to learn
            for bank_name, tensor in model.state().items():
                if bank_name.endswith(".up"):
                    tensor.normal_(std=0.1)
        before = snapshot(model)
        runner.start()
        runner.run()
        allowed = may_move(model, phase)
        last = {n for n, tensor in runner.last.items() if not torch.equal(tensor, before[n])}
        for names in (last, moved(model, before)):
            assert all(n.startswith(allowed) for n in names), phase.name
        assert last
        assert len(runner.position.frozen) == len(before) - len(runner.last)
        ran.append(phase.name)
    assert ran == [phase.name for phase in make_plan(config)]
