"""Runs that must not go on, adapters that do not fit, full disks, damaged files."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mdlora.config import RunConfig
from mdlora.data import load_dataset
from mdlora.errors import AdapterError, RunError
from mdlora.training import load, load_domain_adapter, load_run, resume, train_config
from mdlora.training.weights import read_tensors, write_tensors

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stopped(
    tmp_path: Path,
    folder: Path,
    make_config: Callable[..., RunConfig],
    kill_at: Callable[[str, int], Any],
    killed: type[BaseException],
) -> Path:
    """A run on a copy of the data, killed in its experts phase."""
    data = shutil.copytree(folder, tmp_path / "data")
    config = make_config()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(data)))
    with pytest.raises(killed):
        train_config(config, load_dataset(data), tmp_path / "run", progress=kill_at("experts", 12))
    return tmp_path / "run"


def _edit_state(run: Path, **made_with: Any) -> None:
    path = run / "last" / "state.safetensors"
    tensors, about = read_tensors(path)
    about["made_with"].update(made_with)
    write_tensors(path, tensors, about)


@pytest.mark.parametrize(
    ("key", "value"), [("torch", "1.0.0"), ("device", "cuda"), ("processor", "another")]
)
def test_resume_elsewhere_needs_inexact(
    stopped: Path,
    trained: Path,
    mdlora: Call,
    assert_same_run: Callable[[Path, Path], None],
    key: str,
    value: Any,
) -> None:
    _edit_state(stopped, **{key: value})
    before = (stopped / "metrics.jsonl").read_bytes()
    code, _, err = mdlora("train", "--resume", stopped)
    assert code == 1
    assert f"was running with {key} {value} (now " in err
    assert "--inexact" in err
    assert (stopped / "metrics.jsonl").read_bytes() == before
    assert mdlora("train", "--resume", stopped, "--inexact", "--quiet")[0] == 0
    assert_same_run(stopped, trained)  # nothing had changed in truth


def test_resume_with_changed_data(stopped: Path, tmp_path: Path, mdlora: Call) -> None:
    path = tmp_path / "data" / "train.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), path)
    code, _, err = mdlora("train", "--resume", stopped)
    assert code == 1
    assert f"The data in {tmp_path / 'data'} are not those that {stopped} was trained on" in err


def test_resume_without_data(stopped: Path, tmp_path: Path, mdlora: Call) -> None:
    shutil.rmtree(tmp_path / "data")
    code, _, err = mdlora("train", "--resume", stopped)
    assert (code, f"The data folder {tmp_path / 'data'} is not there" in err) == (1, True)


def test_resume_of_a_folder_that_is_no_run(folder: Path, tmp_path: Path, mdlora: Call) -> None:
    for path in (folder, tmp_path / "gone"):
        code, _, err = mdlora("train", "--resume", path)
        assert (code, f"{path} is not a run folder" in err) == (1, True)


@pytest.mark.parametrize(
    "extra", [["data"], ["--out", "x"], ["--plan.max_epochs", "9"], ["--backbone", "mlp"]]
)
def test_resume_takes_no_settings(trained: Path, mdlora: Call, extra: list[str]) -> None:
    code, _, err = mdlora("train", f"--resume={trained}", *extra)
    assert (code, "leave out" in err) == (2, True)


def test_out_is_not_empty(
    folder: Path, tmp_path: Path, mdlora: Call, tiny_options: list[str]
) -> None:
    (tmp_path / "precious.txt").write_text("mine", encoding="utf-8")
    code, _, err = mdlora("train", folder, "--out", tmp_path, *tiny_options)
    assert (code, f"{tmp_path} is there already" in err) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    code, _, err = mdlora("compare", folder, "--out", tmp_path, *tiny_options)
    assert (code, f"{tmp_path} is there and is no comparison" in err) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_evaluating_an_unfinished_run(stopped: Path, tmp_path: Path, mdlora: Call) -> None:
    for verb in (["evaluate", stopped], ["predict", stopped, "x", "--out", tmp_path / "y"]):
        code, out, err = mdlora(*verb)
        assert (code, out) == (1, "")
        assert f"mdlora train --resume {stopped}" in err
    assert not (tmp_path / "y").exists()
    assert mdlora("evaluate", stopped, "--which", "last")[0] == 0


@pytest.mark.parametrize("file", ["backbone.safetensors", "gate.safetensors", "adapters"])
@pytest.mark.parametrize("damage", ["cut", "flipped header", "gone"])
def test_damaged_weights(
    tmp_path: Path, trained: Path, mdlora: Call, file: str, damage: str
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    path = run / file if file != "adapters" else sorted((run / file).iterdir())[1]
    data = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(data[:-7])
    elif damage == "flipped header":
        path.write_bytes(b"\xff" * 8 + data[8:])
    code, out, err = mdlora("evaluate", run)
    assert (code, out) == (1, "")
    assert str(path if damage != "gone" or file != "backbone.safetensors" else run) in err
    assert "Traceback" not in err


def test_damaged_state(stopped: Path, mdlora: Call) -> None:
    path = stopped / "last" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    code, _, err = mdlora("train", "--resume", stopped)
    assert (code, f"{path} is damaged" in err) == (1, True)


def test_adapters_of_another_backbone(
    trained: Path, folder: Path, tmp_path: Path, make_config: Callable[..., RunConfig]
) -> None:
    other = train_config(
        make_config(seed=2, plan={"max_epochs": 0}), load_dataset(folder), tmp_path / "other"
    )
    before = {name: tensor.clone() for name, tensor in other.model.state().items()}
    path = sorted((trained / "adapters").iterdir())[0]
    with pytest.raises(AdapterError, match="works only on its own backbone"):
        load_domain_adapter(other.model, path)
    assert all(tensor.equal(before[name]) for name, tensor in other.model.state().items())
    assert load_domain_adapter(load(trained), path) == "domain_01"


class _FullDisk:
    """os.fsync that finds the disk full at its n-th call, and from then on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, good_calls: int) -> None:
        self.left = good_calls
        self.real = os.fsync
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, file: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.real(file)


def _count_writes(config: RunConfig, data: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        disk = _FullDisk(patch, 10**6)
        train_config(config, data, out)
    return 10**6 - disk.left


def test_full_disk_at_any_write(
    tmp_path: Path,
    folder: Path,
    trained: Path,
    make_config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    assert_same_run: Callable[[Path, Path], None],
) -> None:
    config, data = make_config(), load_dataset(folder)
    writes = _count_writes(config, data, tmp_path / "whole", monkeypatch)
    assert writes > 30
    # Early on; a metrics line or a state in the midst; and each file of the final weights.
    for good in (
        5,
        6,
        9,
        12,
        writes // 2,
        writes // 2 + 1,
        writes - 9,
        writes - 5,
        writes - 2,
        writes - 1,
    ):
        run = tmp_path / f"run{good}"
        with monkeypatch.context() as patch:
            _FullDisk(patch, good)
            with pytest.raises(RunError, match="No space left on device"):
                train_config(config, data, run)
        assert not list(run.rglob(".*"))
        if (run / "last").exists():
            read_tensors(run / "last" / "state.safetensors")
        resume(run)
        assert_same_run(run, trained)
        assert load_run(run).model.adapted is not None


def test_full_disk_before_the_run_began(
    tmp_path: Path,
    folder: Path,
    make_config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        _FullDisk(patch, 0)
        with pytest.raises(RunError, match="No space left on device"):
            train_config(make_config(), load_dataset(folder), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
