"""Everybody trains the same network on the same rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mdlora.bench.deepctr import load_deepctr
from mdlora.bench.made import make_rows, make_schema
from mdlora.bench.network import Network
from mdlora.bench.ours import OurTraining
from mdlora.bench.peers import FASTEST
from mdlora.bench.plain import PlainModel, plain_epoch
from mdlora.bench.rechub import load_rechub
from mdlora.bench.sweep import WAYS, our_way
from mdlora.model import CTRModel

SCHEMA = make_schema([50, 7], domains=3, numbers=2)
ROWS = make_rows(SCHEMA, 90, skewed=True)


def network(backbone: str = "deepfm") -> Network:
    return Network(schema=SCHEMA, backbone=backbone, batch_size=40)


@pytest.mark.parametrize("backbone", ["deepfm", "wdl"])
def test_the_plain_loop_has_our_model(backbone: str) -> None:
    ours, plain = CTRModel(SCHEMA, backbone).eval(), PlainModel(network(backbone)).eval()
    table = ours.embeddings.table.detach()
    with torch.no_grad():
        plain.vectors.weight.copy_(table[:, :8])
        plain.linear.weight.copy_(table[:, 8:])
        own = list(ours.backbone.parameters())
        for theirs, weight in zip(plain.tower.parameters(), own, strict=True):
            theirs.copy_(weight)
        wanted = ours(ROWS.batch(0, 90))
        got = plain(ROWS.categories, ROWS.dense)
    torch.testing.assert_close(got, wanted)


def test_the_plain_loop_learns() -> None:
    epoch = plain_epoch(network(), ROWS)
    losses = [epoch.run() for _ in range(40)]
    assert losses[-1] < 0.8 * losses[0]  # type: ignore[operator]
    assert (epoch.rows, epoch.steps) == (90, 3)


def test_rechub_trains_all_rows_without_normalising(
    peers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers = load_rechub().trainers
    seen: dict[str, Any] = {"rows": 0}

    class Spy(trainers.CTRTrainer):  # type: ignore[misc,name-defined]
        def train_one_epoch(self, loader: Any) -> float:
            seen["kinds"] = {type(module).__name__ for module in self.model.modules()}
            seen["rows"] = sum(len(label) for _, label in loader)
            seen["decay"] = self.optimizer.param_groups[0]["weight_decay"]
            before = self.model.mlp.mlp[0].weight.clone()
            loss: float = super().train_one_epoch(loader)
            seen["moved"] = not torch.equal(before, self.model.mlp.mlp[0].weight)
            seen["width"] = before.shape[1]
            return loss

    monkeypatch.setattr(trainers, "CTRTrainer", Spy)
    FASTEST["torch-rechub"](network(), ROWS).run()
    assert seen["rows"] == 90
    assert seen["decay"] == 0
    assert seen["moved"]
    assert seen["width"] == 3 * 8 + 2
    assert {"Linear", "ReLU", "Dropout", "FM"} <= seen["kinds"]
    assert "BatchNorm1d" not in seen["kinds"]


def test_deepctr_trains_all_rows(peers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    models = load_deepctr().models
    seen: dict[str, Any] = {}
    fit = models.WDL.fit

    def spy(self: Any, inputs: Any, label: Any, **settings: Any) -> Any:
        before = self.dnn.linears[0].weight.clone()
        fit(self, inputs, label, **settings)
        seen["moved"] = not torch.equal(before, self.dnn.linears[0].weight)
        seen["rows"] = {len(column) for column in inputs.values()}
        seen["names"] = set(inputs)
        seen["batch"] = settings["batch_size"]
        seen["width"] = before.shape[1]

    monkeypatch.setattr(models.WDL, "fit", spy)
    epoch = FASTEST["DeepCTR-Torch"](network("wdl"), ROWS)
    epoch.run()
    epoch.run()  # its fit writes into what it is given; a second call must work too
    assert seen == {
        "moved": True,
        "rows": {90},
        "names": {"c1", "c2", "n1", "n2", "domain"},
        "batch": 40,
        "width": 3 * 8 + 2,
    }


@pytest.mark.parametrize("way", WAYS)
def test_our_epochs_go_on_where_the_last_one_ended(way: str) -> None:
    training = our_way(way, SCHEMA, ROWS, 40)
    training.touch_state()
    epoch = training.epoch
    epoch.run()
    first = training.runner.model.embeddings.table.detach().clone()
    training.settled_epoch.run()
    assert training.runner.position.step == 6
    assert training.runner.position.epoch == 2
    assert not torch.equal(first, training.runner.model.embeddings.table)
    assert (epoch.rows, epoch.steps) == (90, 3)


def test_our_optimizers_that_are_exact_agree() -> None:
    tables = []
    for way in ("mdlora dense", "mdlora catch_up"):
        training = our_way(way, SCHEMA, ROWS, 40)
        training.settled_epoch.run()
        tables.append(training.runner.model.embeddings.table.detach())
    torch.testing.assert_close(*tables, rtol=1e-4, atol=1e-6)


def test_a_step_trains_what_its_phase_says() -> None:
    training = OurTraining("mlora finetune", "wdl", SCHEMA, ROWS)
    model = training.runner.model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    training.epoch.run()
    moved = {n.split(".")[0] for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"adapted"}
