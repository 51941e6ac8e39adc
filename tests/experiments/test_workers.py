"""Worker processes that end before their work does, and pipes that are full."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mdlora.config import RunConfig
from mdlora.errors import RunError
from mdlora.experiments import compare, workers
from mdlora.training import Progress, SilentProgress


class Process:
    """Stands for a worker process."""

    def __init__(self, exitcode: int) -> None:
        self.exitcode = exitcode

    def join(self, timeout: float) -> None:
        assert timeout > 0


class Told(workers.SilentJobs):
    def __init__(self) -> None:
        self.cells: list[Any] = []

    def cell(self, cell: dict[str, Any]) -> None:
        self.cells.append(cell)


@pytest.mark.parametrize("code", [0, 130, -9])
def test_a_worker_that_never_said_end_is_dead_whatever_its_code(code: int) -> None:
    (ear, mouth), (other, talking) = (multiprocessing.Pipe(duplex=False) for _ in range(2))
    talking.send(("end", "", None))
    mouth.send(("cell", "job", {"seed": 1}))
    mouth.close()
    told = Told()
    with pytest.raises(RunError, match=f"ended early, with exit code {code} .* the same command"):
        workers._listen({ear: Process(code), other: Process(0)}, told)
    assert told.cells == [{"seed": 1}]


def test_a_worker_that_said_end_is_not() -> None:
    ear, mouth = multiprocessing.Pipe(duplex=False)
    for event in (("cell", "job", {"seed": 1}), ("end", "", None)):
        mouth.send(event)
    mouth.close()
    told = Told()
    workers._listen({ear: Process(1)}, told)
    assert told.cells == [{"seed": 1}]


def test_workers_with_much_to_tell_do_not_make_an_interrupt_wait() -> None:
    ear, mouth = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        for _ in range(50):
            mouth.send("x" * 100_000)  # a pipe holds less
        mouth.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    before = time.monotonic()
    workers._part({ear: Process(0)})
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert time.monotonic() - before < workers._PATIENCE / 2


def _blocked(pid: int) -> int:
    """The signals that a process holds back, bit n - 1 for signal n."""
    about = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in about if line.startswith("SigBlk:")), 16)


class Stopper(Told):
    """Sends one worker a SIGTERM, as soon as an epoch begins."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = 0
        self.blocked = 0

    def for_job(self, name: str) -> Progress:
        told = self

        class Part(SilentProgress):
            def phase(self, name: str, epoch: int, total_rows: int, done_rows: int) -> None:
                if not told.stopped:
                    told.stopped = next(iter(multiprocessing.active_children())).pid or 0
                    if Path("/proc/self/status").exists():
                        told.blocked = _blocked(told.stopped)
                    os.kill(told.stopped, signal.SIGTERM)

        return Part()


def test_compare_notices_a_stopped_worker_and_goes_on_later(
    tmp_path: Path, small_folder: Path, small_config: RunConfig
) -> None:
    def run(out: Path, **more: Any) -> dict[str, Any]:
        asked = {"backbones": ["wdl"], "methods": ["mlora"], "seeds": (1, 2), **more}
        return compare(str(small_folder), out=out, config=small_config, **asked)

    stopper = Stopper()
    with pytest.raises(RunError, match=r"worker process ended early, with exit code (130|-15)"):
        run(tmp_path / "stopped", processes=2, progress=stopper)
    assert stopper.stopped
    # From its start on Ctrl-C in a terminal does not reach a worker, and none is held back here.
    if Path("/proc/self/status").exists():
        assert stopper.blocked == 1 << (signal.SIGINT - 1)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    assert multiprocessing.active_children() == []
    again = run(tmp_path / "stopped")
    whole = run(tmp_path / "whole")
    for result in (again, whole):
        for cell in result["cells"]:
            del cell["seconds"], cell["cpu_seconds"]
    assert json.dumps(again["cells"]) == json.dumps(whole["cells"])
