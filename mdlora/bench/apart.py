"""Measure in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from mdlora.errors import RunError

__all__ = ["run_apart"]


def run_apart(module: str, *arguments: str, what: str) -> dict[str, Any]:
    """The JSON that `python -m MODULE ARGUMENTS` prints.

    Raises:
        RunError: it failed; the message says `what` did, and why.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"{what} failed:\n{done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
