"""Devices, threads, and what a run was made with."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mdlora.compiled import has_numba
from mdlora.errors import ConfigError
from mdlora.version import __version__

__all__ = ["describe_environment", "pick_device", "processor_name", "use_threads"]


def pick_device(name: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda".

    Raises:
        ConfigError: CUDA was asked for and is not there.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError(
            "training.device=cuda, but torch sees no CUDA device here. Choose auto or cpu."
        )
    return torch.device("cuda" if there and name != "cpu" else "cpu")


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let torch use this many CPU threads, and put the old number back after."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def processor_name() -> str:
    """The processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe_environment(threads: int, device: torch.device) -> dict[str, Any]:
    """Versions and machine, for env.json."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "mdlora": __version__,
        "torch": torch.__version__,
        "numba": version("numba") if has_numba() else None,
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": processor_name(),
        "device": device.type,
        "gpu": gpu,
        "threads": threads,
    }
