"""The few lines that a program of one's own needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import mdlora
from mdlora.data import Dataset


def test_ten_lines(folder: Path, tmp_path: Path) -> None:
    data = mdlora.load_dataset(folder)
    model = mdlora.CTRModel(data.schema, backbone="deepfm", adapter=mdlora.MoEMLoRA(temperature=32))
    run = mdlora.train(
        model, data, out=tmp_path / "first", plan=mdlora.PlanConfig(max_epochs=1, min_validation=10)
    )
    table = run.evaluate("test").to_markdown()
    assert "| WAUC |" in table
    assert "domain_05" in table
    assert run.config.method == "moe-mlora"
    assert run.config.backbone.name == "deepfm"
    best = mdlora.load(tmp_path / "first", which="best")
    assert all(a.equal(b) for a, b in zip(best.state().values(), model.state().values()))  # noqa: B905
    assert mdlora.load_run(tmp_path / "first").evaluate("test").to_markdown() == table
    assert isinstance(mdlora.load(tmp_path / "first", which="last"), mdlora.CTRModel)
    assert mdlora.resume(tmp_path / "first").evaluate("test").to_markdown() == table


def test_last_differs_from_best(trained: Path) -> None:
    best, last = mdlora.load(trained, which="best"), mdlora.load(trained, which="last")
    moved = [n for n, t in best.state().items() if not t.equal(last.state()[n])]
    assert moved
    assert all(name.startswith("adapted.gates.") for name in moved)  # the last phase's own part


@pytest.mark.parametrize(("adapter", "method"), [(None, "base"), (mdlora.MLoRA(rank=2), "mlora")])
def test_the_adapter_names_the_method(
    adapter: mdlora.MLoRA | None, method: str, tiny_data: Dataset, tmp_path: Path
) -> None:
    backbone = mdlora.BackboneConfig(name="mlp", embed_dim=4, hidden=(8,))
    model = mdlora.CTRModel(tiny_data.schema, backbone=backbone, adapter=adapter, seed=5)
    plan = mdlora.PlanConfig(max_epochs=1, min_validation=10)
    run = mdlora.train(model, tiny_data, out=tmp_path / "run", plan=plan)
    assert (run.config.method, run.config.seed) == (method, 5)


def test_synthetic_by_name() -> None:
    data = mdlora.load_dataset("synthetic")
    assert data.oracle_available
    assert data.schema.num_domains >= 5


def test_adapters_on_a_foreign_module() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 1))
    rows, domain = torch.randn(7, 6), torch.tensor([1, 2, 3, 10, 1, 0, 5])
    before = network(rows)
    adapted = mdlora.adapt(network, mdlora.MLoRA(num_domains=10), targets="*")
    assert torch.equal(adapted(rows, domain=domain), before)  # fresh adapters change nothing
    for name, parameter in adapted.banks.named_parameters():
        if not name.endswith("down"):
            nn.init.normal_(parameter)
    changed = (adapted(rows, domain=domain) != before).squeeze(1)
    assert changed.tolist() == [True, True, True, True, True, False, True]  # 0 is unknown
