"""The same code on a CUDA device: close to the CPU, frozen tensors untouched, resumable."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mdlora.config import METHODS, RunConfig
from mdlora.data import Dataset
from mdlora.evaluation import score_rows
from mdlora.training import SilentProgress, load_run, train_config
from mdlora.training.build import build_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TinyConfig = Callable[..., RunConfig]


def on(device: str, config: RunConfig) -> RunConfig:
    training = dataclasses.replace(config.training, device=device)
    return dataclasses.replace(config, training=training)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_scores(
    method: str, tiny_config: TinyConfig, tiny_data: Dataset, tmp_path: Path
):
    run = train_config(on("cuda", tiny_config(method)), tiny_data, tmp_path / "run")
    assert run.model.embeddings.table.is_cuda
    assert run.evaluate("test", tiny_data).wauc > 0.5
    again = load_run(tmp_path / "run")
    assert again.evaluate("test", tiny_data) == run.evaluate("test", tiny_data)


@pytest.mark.parametrize("how", ["dense", "lazy", "catch_up"])
def test_two_runs_are_the_same(
    how: str, tiny_config: TinyConfig, tiny_data: Dataset, tmp_path: Path
):
    config = tiny_config("moe-mlora", training={"embedding_optimizer": how})
    config = on("cuda", config)
    first = train_config(config, tiny_data, tmp_path / "a").model.state()
    second = train_config(config, tiny_data, tmp_path / "b").model.state()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("mode", ["none", "own", "gate"])
def test_scores_equal_the_cpus(mode: str, tiny_config: TinyConfig, tiny_data: Dataset):
    model = build_model(tiny_config("moe-mlora"), tiny_data.schema).double()
    assert model.adapted is not None
    for bank in model.adapted.banks:
        torch.nn.init.normal_(bank.up)
    model.adapted.route_mode = mode  # type: ignore[assignment]
    rows = tiny_data.split("test")
    here = score_rows(model, rows)
    there = score_rows(copy.deepcopy(model).cuda(), rows)
    torch.testing.assert_close(there, here, rtol=1e-10, atol=1e-12)


def test_every_kind_of_column_scores_as_on_the_cpu_and_learns_alike_twice(
    tiny_config: TinyConfig, every_kind: Dataset, tmp_path: Path
):
    config = on("cuda", tiny_config("mlora"))
    first = train_config(config, every_kind, tmp_path / "a").model
    second = train_config(config, every_kind, tmp_path / "b").model.state()
    for name, tensor in first.state().items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-3, atol=1e-4, msg=name)
    rows = every_kind.split("test")
    there = score_rows(first.double(), rows)
    torch.testing.assert_close(score_rows(first.cpu(), rows), there, rtol=1e-10, atol=1e-12)


def test_dropout_keeps_its_share_on_the_device():
    from mdlora.layers import ReLUDropout

    layer = ReLUDropout(0.5)
    layer.generator = torch.Generator(device="cuda").manual_seed(1)
    kept = layer(torch.ones(1000, 1000, device="cuda"))
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert abs(float(kept.mean()) - 1) < 5 * 1000**-1


class _Stop(SilentProgress):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, rows: int) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_resumed_run_ends_close(tiny_config: TinyConfig, tiny_data: Dataset, tmp_path: Path):
    from mdlora.training.run_folder import RunFolder
    from mdlora.training.trainer import Trainer

    config = on("cuda", tiny_config("mlora", training={"checkpoint_seconds": 0.0}))
    whole = train_config(config, tiny_data, tmp_path / "whole").model.state()
    with pytest.raises(KeyboardInterrupt):
        train_config(config, tiny_data, tmp_path / "cut", progress=_Stop(7))
    model = build_model(config, tiny_data.schema)
    trainer = Trainer(config, tiny_data, RunFolder(tmp_path / "cut"), model, None)
    resumed = trainer.resume(False).model.state()
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
