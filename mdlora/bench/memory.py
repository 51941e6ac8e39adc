"""Peak memory of a training run in a process of its own: `python -m mdlora.bench.memory DATA`."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path

from mdlora.bench.apart import run_apart
from mdlora.config import DataConfig, PlanConfig, RunConfig
from mdlora.data import load_dataset
from mdlora.training import train_config

__all__ = ["held_gigabytes", "peak_gigabytes", "training_peak"]


def peak_gigabytes() -> float:
    """Most memory that this process has held so far, in 10^9 bytes."""
    peak = _status("VmHWM")  # ru_maxrss of Linux also counts the process that started this one
    if peak is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def held_gigabytes() -> float:
    """Memory that this process holds, in 10^9 bytes; where that is unknown, its peak so far."""
    held = _status("VmRSS")
    return peak_gigabytes() if held is None else held


def _status(key: str) -> float | None:
    """A figure of this process as Linux tells it, in 10^9 bytes; None elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    found = (line for line in lines if line.startswith(f"{key}:"))
    return next((int(line.split()[1]) * 1024 / 1e9 for line in found), None)


def training_peak(data: Path) -> float:
    """Peak memory, in 10^9 bytes, of an MLoRA run: one epoch of each phase, and its evaluations.

    Raises:
        RunError: the run failed.
    """
    result = run_apart("mdlora.bench.memory", str(data), what="The run whose memory is measured")
    return float(result["peak_gigabytes"])


def _run(data: str) -> None:
    config = RunConfig(method="mlora", data=DataConfig(path=data), plan=PlanConfig(max_epochs=1))
    with tempfile.TemporaryDirectory() as folder:
        train_config(config, load_dataset(data), Path(folder) / "run")
    sys.stdout.write(json.dumps({"peak_gigabytes": peak_gigabytes()}))


if __name__ == "__main__":
    _run(sys.argv[1])
