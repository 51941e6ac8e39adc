"""What is refused before anything is trained or written, and what an ended run remembers."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mdlora.adapters import adapt
from mdlora.config import MLoRA, MoEMLoRA, RunConfig
from mdlora.data import Dataset, Split
from mdlora.errors import AdapterError, ConfigError, DataError, RunError
from mdlora.model import CTRModel
from mdlora.training import SilentProgress, load_run, train, train_config
from mdlora.training.judging import check_validation

TinyConfig = Callable[..., RunConfig]


def test_validation_without_both_classes_in_a_domain_decides_nothing(tiny_data: Dataset):
    rows = tiny_data.split("validation")
    one_class = dataclasses.replace(rows, label=(rows.domain == 1).float())
    with pytest.raises(DataError, match="here: no domain's validation rows hold both"):
        check_validation(one_class, "here")
    label = one_class.label.clone()
    label[(rows.domain == 2).nonzero()[0]] = 1.0
    check_validation(dataclasses.replace(rows, label=label), "here")


def test_such_data_leave_no_run_folder(
    tiny_data: Dataset,
    tiny_config: TinyConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    real = tiny_data.split

    def one_class(name: str) -> Split:
        rows = real(name)
        return dataclasses.replace(rows, label=torch.ones_like(rows.label))

    monkeypatch.setattr(tiny_data, "split", one_class)
    with pytest.raises(DataError, match="both clicks and non-clicks"):
        train_config(tiny_config("base"), tiny_data, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "method", "message"),
    [
        (lambda s: CTRModel(s, "mlp").double(), None, "float64; runs are trained and saved"),
        (lambda s: CTRModel(s, "mlp"), "mlora", "method='mlora' does not fit this model"),
        (lambda s: CTRModel(s, "mlp"), "base-wide", "method='base-wide' does not fit"),
        (lambda s: CTRModel(s, "mlp", MLoRA()), "moe-mlora", "method='moe-mlora' does not fit"),
        (
            lambda s: CTRModel(
                s, "mlp", MoEMLoRA(experts_per_domain=2, expert_rows="clusters:colour")
            ),
            None,
            "clusters:colour' names no field",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused_at_once(
    model: Callable[..., CTRModel],
    method: str | None,
    message: str,
    tiny_data: Dataset,
    tmp_path: Path,
):
    with pytest.raises(ConfigError, match=message):
        train(model(tiny_data.schema), tiny_data, out=tmp_path / "run", method=method)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_no_beginning_is_refused_at_once(
    tiny_data: Dataset, tiny_config: TinyConfig, tmp_path: Path
):
    base = tiny_config("base", plan={"max_epochs": 1, "metric": "mean_auc"})
    train_config(base, tiny_data, tmp_path / "base")
    mlora = tiny_config("mlora", plan={"max_epochs": 1})
    with pytest.raises(RunError, match="is not the beginning of this run"):
        train_config(mlora, tiny_data, tmp_path / "run", start_from=tmp_path / "base")
    assert not (tmp_path / "run").exists()


def test_the_last_weights_keep_the_last_phases_route(
    tiny_data: Dataset, tiny_config: TinyConfig, tmp_path: Path
):
    # Even gates over experts that have learned their own domain: the state before may win.
    for seed in range(1, 6):
        config = tiny_config("moe-mlora", seed=seed, adapter={"gate_init": "uniform"})
        run = train_config(config, tiny_data, tmp_path / str(seed))
        assert load_run(run.path, "last").model.adapted.route_mode == "gate"
        kept = load_run(run.path, "best").model.adapted.route_mode
        assert kept == run.metrics()[-1]["route"]
        if kept == "own":
            return
    pytest.fail("no seed kept the state before the gate: choose others")


def test_a_gate_of_another_run_is_refused(
    tiny_data: Dataset, tiny_config: TinyConfig, tmp_path: Path
):
    for seed in (1, 2):
        config = tiny_config("moe-mlora", seed=seed, plan={"max_epochs": 1})
        train_config(config, tiny_data, tmp_path / str(seed))
    os.replace(tmp_path / "2" / "gate.safetensors", tmp_path / "1" / "gate.safetensors")  # noqa: PTH105
    with pytest.raises(AdapterError, match=r"gate\.safetensors was trained on backbone"):
        load_run(tmp_path / "1")


class _InterruptAtTheEnd(SilentProgress):
    """Asks to stop while the last evaluation of the last phase goes on."""

    def note(self, text: str) -> None:
        if text.startswith("backbone epoch 2:"):
            signal.raise_signal(signal.SIGINT)


def test_an_interrupt_in_the_last_evaluation_is_heard(
    tiny_data: Dataset, tiny_config: TinyConfig, tmp_path: Path
):
    config = tiny_config("base", plan={"max_epochs": 2})
    with pytest.raises(KeyboardInterrupt):
        train_config(config, tiny_data, tmp_path / "run", progress=_InterruptAtTheEnd())
    assert load_run(tmp_path / "run").evaluate("test", tiny_data).wauc > 0


def test_a_frozen_modules_statistics_stand_still():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Dropout(0.5))
    adapted = adapt(net, MLoRA(num_domains=2, rank=1), targets="0")
    adapted.train()
    assert net[1].training
    adapted.freeze("module")
    assert not net[1].training
    adapted.train()
    assert not net[1].training
    assert net[2].training
    before = net[1].running_mean.clone()
    adapted(torch.randn(8, 3), domain=torch.ones(8, dtype=torch.int64))
    assert torch.equal(net[1].running_mean, before)


def test_a_trained_backbones_statistics_move_even_without_parameters(tiny_data: Dataset):
    model = CTRModel(tiny_data.schema, "mlp")
    norm = nn.BatchNorm1d(256, affine=False)
    model.backbone.tower.activations[0] = norm
    model.training_mode(["embeddings", "backbone"])
    assert norm.training
    model.training_mode(["targets"])
    assert not norm.training


def test_an_untrained_unknown_domain_gets_the_gates_bias():
    layer = nn.Sequential(nn.Linear(3, 2))
    config = MoEMLoRA(num_domains=3, rank=1, unknown_domain="gate", gate_init="uniform")
    gate = adapt(layer, config, targets="0").gate_of(0)
    nn.init.normal_(gate.linear.weight)
    with torch.no_grad():
        gate.linear.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    found = gate.weights(torch.tensor([0]))[0]
    torch.testing.assert_close(found, torch.softmax(gate.linear.bias, 0))
