"""A small prepared data folder, settings of tiny models, and what the tests of runs share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mdlora.cli.main import main
from mdlora.config import RunConfig, config_from_dict
from mdlora.data import load_dataset
from mdlora.data.prepare import prepare_synthetic
from mdlora.training import train_config
from mdlora.training.weights import read_tensors

TINY: dict[str, dict[str, Any]] = {
    "data": {},
    "backbone": {"embed_dim": 4, "hidden": [16, 8]},
    "adapter": {"temperature": 4},
    "plan": {"max_epochs": 3, "min_validation": 10},
    "training": {"batch_size": 256, "lr": 0.01, "device": "cpu"},
}

# A child that pytest starts may inherit an ignored SIGINT; a shell's child does not.
START = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from mdlora.cli.main import command; sys.exit(command())"
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 rows of 5 domains: 1,800 to train on, 8 batches of 256."""
    out = tmp_path_factory.mktemp("data") / "tiny"
    prepare_synthetic(
        out,
        rows=3000,
        domains=5,
        users=60,
        items=40,
        user_fields=2,
        item_fields=2,
        field_values=5,
        size_ratio=5.0,
    )
    return out


@pytest.fixture(scope="session")
def make_config(folder: Path) -> Callable[..., RunConfig]:
    """make_config(method, seed, plan={...}, ...) -> RunConfig on the tiny data."""

    def make(method: str = "moe-mlora", seed: int = 1, **sections: dict[str, Any]) -> RunConfig:
        plain: dict[str, Any] = {n: {**TINY[n], **sections.get(n, {})} for n in TINY}
        plain["data"]["path"] = str(folder)
        return config_from_dict({"method": method, "seed": seed, **plain})

    return make


@pytest.fixture(scope="session")
def tiny_options() -> list[str]:
    """The same settings on a command line."""
    return [
        f"--{section}.{name}={json.dumps(value) if isinstance(value, list) else value}"
        for section, settings in TINY.items()
        for name, value in settings.items()
    ]


@pytest.fixture(scope="session")
def trained(
    folder: Path, make_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished moe-mlora run of the tiny settings. Read it, do not write to it."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    train_config(make_config(), load_dataset(folder), out)
    return out


@pytest.fixture(scope="session")
def start_command() -> list[str]:
    """Starts mdlora as a process; its arguments follow."""
    return [sys.executable, "-c", START]


@pytest.fixture
def mdlora(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """mdlora(*arguments) -> (exit code, standard output, standard error), in this process."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def _figures(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if "seconds" not in k} for line in lines]


def _weights(run: Path) -> dict[str, bytes]:
    files = [run / "backbone.safetensors", run / "gate.safetensors", *(run / "adapters").iterdir()]
    return {path.name: path.read_bytes() for path in files if path.exists()}


def _same_run(mine: Path, other: Path) -> None:
    """Weights byte for byte (best and last), and metrics but for the seconds."""
    assert _weights(mine).keys() == _weights(other).keys()
    moved = [name for name, data in _weights(mine).items() if data != _weights(other)[name]]
    assert not moved
    assert _figures(mine) == _figures(other)
    states = [read_tensors(run / "last" / "state.safetensors")[0] for run in (mine, other)]
    assert states[0].keys() == states[1].keys()
    assert [n for n, t in states[0].items() if not torch.equal(t, states[1][n])] == []


@pytest.fixture(scope="session")
def assert_same_run() -> Callable[[Path, Path], None]:
    return _same_run
