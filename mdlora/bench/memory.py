"""Peak memory of a training run in a process of its own: `python -m mdlora.bench.memory DATA`."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from mdlora.config import DataConfig, PlanConfig, RunConfig
from mdlora.data import load_dataset
from mdlora.errors import RunError
from mdlora.training import train_config

__all__ = ["peak_gigabytes", "training_peak"]


def peak_gigabytes() -> float:
    """Most memory that this process has held so far, in 10^9 bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss of Linux also counts the process that started this one
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def training_peak(data: Path) -> float:
    """Peak memory, in 10^9 bytes, of an MLoRA run: one epoch of each phase, and its evaluations.

    Raises:
        RunError: the run failed.
    """
    command = [sys.executable, "-m", "mdlora.bench.memory", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"The run whose memory is measured failed:\n{done.stderr.strip()}")
    return float(json.loads(done.stdout)["peak_gigabytes"])


def _run(data: str) -> None:
    config = RunConfig(method="mlora", data=DataConfig(path=data), plan=PlanConfig(max_epochs=1))
    with tempfile.TemporaryDirectory() as folder:
        train_config(config, load_dataset(data), Path(folder) / "run")
    sys.stdout.write(json.dumps({"peak_gigabytes": peak_gigabytes()}))


if __name__ == "__main__":
    _run(sys.argv[1])
