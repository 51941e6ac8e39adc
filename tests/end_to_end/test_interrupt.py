"""Ctrl-C: the exit code, what is said, no orphans, and a run that goes on to the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mdlora.cli.main import command
from mdlora.config import RunConfig
from mdlora.data import load_dataset
from mdlora.training import resume, train_config

INTERRUPTED = 130
ROOT = Path(__file__).parents[2]


def _wait_for(ready: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    for _ in range(12000):
        if ready():
            return
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.01)
    raise AssertionError("the process did not get there in two minutes")


def _alive(session: int) -> list[int]:
    """Processes of this session, zombies aside."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its = path.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(its) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def test_train_says_how_to_go_on(
    tmp_path: Path,
    folder: Path,
    start_command: list[str],
    tiny_options: list[str],
    make_config: Callable[..., RunConfig],
    assert_same_run: Callable[[Path, Path], None],
) -> None:
    config = make_config(training={"batch_size": 64}, plan={"patience": 10})
    run = tmp_path / "run"
    options = [*tiny_options, "--training.batch_size=64", "--plan.patience=10"]
    child = subprocess.Popen(
        [*start_command, "train", str(folder), "--out", str(run), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = run / "metrics.jsonl"
    _wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 2, child)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == INTERRUPTED
    assert out == ""
    assert err.endswith(f"mdlora train: interrupted. Go on with: mdlora train --resume {run}\n")
    assert "Traceback" not in err
    assert not (run / "backbone.safetensors").exists()
    resume(run)
    train_config(config, load_dataset(folder), tmp_path / "whole")
    assert_same_run(run, tmp_path / "whole")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_compare_leaves_no_orphans_and_goes_on(
    tmp_path: Path,
    folder: Path,
    start_command: list[str],
    tiny_options: list[str],
    mdlora: Callable[..., tuple[int, str, str]],
) -> None:
    asked = ["compare", folder, "--methods", "mlora", "--seeds", "1,2", *tiny_options]
    out = tmp_path / "stopped"
    child = subprocess.Popen(
        [*start_command, *map(str, asked), "--jobs", "2", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _wait_for(lambda: any(out.glob("runs/*/last/state.safetensors")), child)
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=90)
    assert child.returncode == INTERRUPTED, err
    assert "Traceback" not in err
    assert err.endswith("interrupted. Finished cells are kept: the same command goes on.\n")
    until = time.monotonic() + 10  # multiprocessing's own tracker goes a moment later
    while _alive(child.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert _alive(child.pid) == []
    assert not (out / "results.json").exists()

    assert mdlora(*asked, "--jobs", 1, "--out", out)[0] == 0
    assert mdlora(*asked, "--jobs", 1, "--out", tmp_path / "whole")[0] == 0
    assert _cells(out) == _cells(tmp_path / "whole")


def _cells(comparison: Path) -> list[dict[str, Any]]:
    result = json.loads((comparison / "results.json").read_text(encoding="utf-8"))
    return [{k: v for k, v in cell.items() if "seconds" not in k} for cell in result["cells"]]


def test_interrupt_before_anything_began(
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    mdlora: Callable[..., tuple[int, str, str]],
) -> None:
    def stop(path: str, domain: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mdlora.data.load_dataset", stop)  # there is no run yet to resume
    code, out, err = mdlora("train", folder, "--out", tmp_path / "run")
    assert (code, out, err) == (INTERRUPTED, "", "mdlora train: interrupted.\n")
    assert not (tmp_path / "run").exists()


# Ctrl-C while a module is imported.
STOP = """
import signal, sys
class Stop:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Stop())
from mdlora.cli.main import command
sys.exit(command())
"""

# Ctrl-C when Python has given its own handler up already, and takes down what is left.
LATE = """
import os, signal, sys
class Late:
    def __del__(self, kill=os.kill, own=os.getpid(), number=signal.SIGINT):
        kill(own, number)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.late = Late()
from mdlora.cli.main import command
sys.exit(command())
"""


@pytest.mark.parametrize("module", ["mdlora.config", "mdlora.cli.predict", "jsonargparse"])
def test_interrupt_while_modules_are_imported(module: str) -> None:
    asked = [sys.executable, "-c", STOP.format(module=module), "predict", "run", "rows.csv"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    told = (done.returncode, done.stdout, done.stderr)
    assert told == (INTERRUPTED, "", "mdlora predict: interrupted.\n")


def test_interrupt_after_the_last_word_changes_nothing() -> None:
    asked = [sys.executable, "-c", LATE, "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: mdlora")


def test_the_console_runs_what_bears_that() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"mdlora": "mdlora.cli.main:command"}


def test_a_second_interrupt_is_told_as_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("mdlora.cli.main.main", stop)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert command() == INTERRUPTED
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
