"""One domain's adapters as plain weights; copies and saved weights; parameters by formula."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mdlora.adapters import AdaptedModel, merge_domain
from mdlora.config import (
    DomainAdapters,
    MLoRA,
    MoEMLoRA,
    PlanConfig,
    RunConfig,
    TrainingConfig,
)
from mdlora.evaluation import score_rows
from mdlora.reports import model_facts
from mdlora.training import load, train_config
from mdlora.training.build import build_model
from mdlora.types import Embedded

MERGED = ["mlora", "moe-mlora", "full-finetuned"]
SLOW_WITH_MANY = (
    "test_copies_and_saved_weights_give_the_same_bits",
    "test_copies_and_saved_weights_of_adapters_give_the_same_bits",
)


def test_merged_weights_score_a_domain_as_the_routed_model_does(
    reachable: str, num_domains: int, contract: Any
):
    network = contract.build(reachable, num_domains)
    targets = contract.targets(reachable, num_domains)
    x = contract.rows(30, num_domains)
    for name in MERGED:
        config = contract.adapters[name]
        adapted = contract.adapt(network, config, num_domains=num_domains, targets=targets)
        contract.shake(adapted)
        scores = []
        for domain in (0, num_domains):
            same = x._replace(domain=torch.full((30,), domain))
            merged = merge_domain(adapted, domain)
            assert type(merged) is type(network)
            assert not [m for m in merged.modules() if m._forward_hooks and _is_adapter(m)]
            routed = adapted(same, domain=same.domain).detach()
            scale = float(routed.abs().max())
            torch.testing.assert_close(merged(same), routed, rtol=1e-10, atol=1e-11 * scale)
            scores.append(merged(x._replace(domain=torch.ones(30, dtype=torch.int64))))
        assert not torch.allclose(*scores)  # the adapters matter
        adapted.unwrap()


def _is_adapter(module: nn.Module) -> bool:
    return any("AddUpdate" in type(hook).__name__ for hook in module._forward_hooks.values())


def check_copies(make: Callable[[], nn.Module], x: Embedded, **given: Any) -> None:
    one, other = make(), make()
    want = one(x, **given)
    assert not torch.equal(other(x, **given), want)  # other weights are drawn
    copied = copy.deepcopy(one)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for again in (copied, other):
        assert torch.equal(again(x, **given), want)
    with torch.no_grad():
        for weight in copied.parameters():
            weight.add_(0.1)
    assert torch.equal(one(x, **given), want)


def test_copies_and_saved_weights_give_the_same_bits(case: str, num_domains: int, contract: Any):
    x = contract.rows(40, num_domains)
    check_copies(lambda: contract.build(case, num_domains), x)


def test_copies_and_saved_weights_of_adapters_give_the_same_bits(
    reachable: str, num_domains: int, contract: Any
):
    x = contract.rows(40, num_domains)
    targets = contract.targets(reachable, num_domains)
    for config in contract.adapters.values():

        def make(config: DomainAdapters = config) -> nn.Module:
            network = contract.build(reachable, num_domains)
            return contract.shake(
                contract.adapt(network, config, num_domains=num_domains, targets=targets)
            )

        check_copies(make, x, domain=x.domain)


def check_run(case: str, method: str, contract: Any, folder: Path) -> None:
    data = contract.log(3, 640)
    config = RunConfig(
        method=method,
        backbone=contract.config(case),
        adapter=MoEMLoRA(temperature=2),
        plan=PlanConfig(max_epochs=1, min_validation=5),
        training=TrainingConfig(lr=0.05, batch_size=128, device="cpu"),
    )
    run = train_config(config, data, folder)
    rows = data.split("validation")
    assert torch.equal(score_rows(load(folder), rows), score_rows(run.model, rows))


# Clusters, a step counter, lists, a host, norms, and each kind of adapters; the rest is slow.
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("adaptdhm", "base"),
        ("adasparse", "mlora"),
        ("din", "full-finetuned"),
        ("hamur", "moe-mlora"),
        ("star-shared", "moe-mlora-joint"),
    ],
)
def test_a_run_is_loaded_with_the_same_bits(name: str, method: str, contract: Any, tmp_path: Path):
    check_run(name, method, contract, tmp_path / "run")


@pytest.mark.slow
def test_every_run_is_loaded_with_the_same_bits(case: str, contract: Any, tmp_path: Path):
    for method in ("base", "mlora", "moe-mlora") if contract.is_adaptable(case) else ("base",):
        check_run(case, method, contract, tmp_path / method)


def formula(config: DomainAdapters, adapted: AdaptedModel) -> tuple[int, int]:
    """Parameters of all adapters and of all gates, from the layers' shapes."""
    domains, experts = adapted.num_domains, adapted.num_domains * config.experts_in_a_domain
    banks = gates = 0
    for layer in adapted.target_layers:
        i, o = layer.in_features, layer.out_features
        if isinstance(config, MLoRA):
            rank = min(max(o // config.temperature, 1), i, o)
            banks += experts * (rank * (i + o) + o)
        else:
            banks += experts * (i * o + o)
        if isinstance(config, MoEMLoRA):
            wide = config.gate_embed_dim + (i if config.gate == "input" else 0)
            gates += (domains + 1) * config.gate_embed_dim + (wide + 1) * experts
    return banks, gates


def test_adapters_have_as_many_parameters_as_the_formula_says(
    reachable: str, num_domains: int, contract: Any
):
    network = contract.build(reachable, num_domains)
    targets = contract.targets(reachable, num_domains)
    own = sum(p.numel() for p in network.parameters())
    for config in contract.adapters.values():
        adapted = contract.adapt(network, config, num_domains=num_domains, targets=targets)
        found = [
            sum(p.numel() for p in part.parameters()) for part in (adapted.banks, adapted.gates)
        ]
        assert tuple(found) == formula(config, adapted)
        assert sum(p.numel() for p in adapted.parameters()) == own + sum(found)
        adapted.unwrap()


def test_mdlora_models_counts_what_is_trained(case: str, contract: Any):
    num_domains = 40
    schema = contract.log(num_domains, 640).schema
    settings = MoEMLoRA(temperature=2)
    backbone = contract.config(case)
    facts = model_facts(schema, backbone.name, backbone=backbone, adapter=settings)
    for method in ("base", "mlora", "moe-mlora", "full-finetuned"):
        if method != "base" and not contract.is_adaptable(case):
            continue
        config = RunConfig(method=method, backbone=backbone, adapter=settings)
        model = build_model(config, schema)
        assert model.num_parameters("backbone") == facts.parameters
        if method == "base":
            assert num_domains * model.num_parameters() == facts.separate
        if method != "base":
            size = facts.adapters[method]
            assert model.num_parameters("experts") == num_domains * size.of_domain
            assert model.num_parameters("gates") == size.gates
            assert model.num_parameters("experts", "gates") == size.total
        assert sum(p.numel() for p in model.parameters()) == model.num_parameters()
