"""Seconds from the command `mdlora train` to the first step, each time in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdlora.bench.case import BenchCase
from mdlora.bench.results import cases_table, describe_run, make_case, spread_of
from mdlora.bench.rows import write_synthetic
from mdlora.config import check_count
from mdlora.errors import RunError
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress

__all__ = ["CASE", "run_start_bench", "start_table"]

_BAR = 4.0

# The command itself, which ends as soon as it tells of its first step.
_UNTIL_FIRST_STEP = """
import json, os, sys, time
from mdlora.training.progress import SilentProgress

def stop(self, rows):
    wall = time.time() - float(sys.argv[1])
    print(json.dumps({"cpu": time.process_time(), "wall": wall}), flush=True)
    os._exit(0)

SilentProgress.advance = stop
from mdlora.cli.main import main
sys.exit(main(["train", *sys.argv[2:], "--quiet"]))
"""


def run_start_bench(
    data: str | None = None,
    *,
    rows: int | None = None,
    runs: int = 5,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure `mdlora train` until its first step is done: imports, reading, a first evaluation.

    A start that is not measured goes first: it compiles kernels, where they are not on disk yet.

    Args:
        data: a data folder; None makes random rows of MovieLens-1M's shape.
        rows: of the made-up rows; default: as many as MovieLens-1M has.
        runs: starts; the medians count.
        progress: told of each measurement.

    Returns:
        {"cases": [...], "machine", "date", "versions", "runs", "spread"}. The bar, 4 s, is for CPU
        time, one thread's: on an idle machine it is that of the clock on the wall.

    Raises:
        ConfigError: a number is below 1.
        RunError: a start failed.
    """
    check_count("runs", runs, low=1)
    check_count("rows", rows, low=1, optional=True)
    progress = progress or SilentProgress()
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if data is None:
            write_synthetic(folder / "data", rows=rows)
        source = folder / "data" if data is None else Path(data)
        for run in range(-1, runs):
            found.append(_start(source, folder / f"run{run}"))
            name = f"start {run + 1} of {runs}" if run >= 0 else "warm-up"
            progress.note(f"{name}: {found[-1]['cpu']:.2f} CPU s, {found[-1]['wall']:.2f} s")
    spread = {kind: spread_of([start[kind] for start in found[1:]]) for kind in ("cpu", "wall")}
    name = "mdlora train to its first step"
    cpu, wall = spread["cpu"]["median"], spread["wall"]["median"]
    cases = [
        make_case(name, cpu, "bar", _BAR, "CPU seconds", bar=("at_most", 1)),
        make_case(name, wall, "bar", _BAR, "seconds"),
    ]
    return {
        "cases": [{**case, "threads": 1} for case in cases],
        **describe_run(1, "torch", "numpy", "pyarrow"),
        "runs": runs,
        "spread": spread,
    }


def start_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    caption = (
        f"From the command to the first step: medians of {result['runs']} runs "
        f"({result['machine']}, {result['date']})"
    )
    return cases_table(caption, result["cases"])


def _start(data: Path, out: Path) -> dict[str, float]:
    given = [str(data), "--out", str(out), "--threads", "1"]
    command = [sys.executable, "-c", _UNTIL_FIRST_STEP, repr(time.time()), *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        raise RunError(f"The start that is measured failed:\n{done.stderr.strip()}")
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


CASE = BenchCase(
    about="Seconds from the command `mdlora train` to the first step, imports included.",
    example="mdlora bench start --data data/ml-gender --json start.json",
    run=run_start_bench,
    table=start_table,
    options={
        "data": "a data folder (default: made-up rows of ML-1M's shape)",
        "rows": "of the made-up rows (default: as many as ML-1M has)",
        "runs": "starts; medians count",
    },
    small={"rows": 2000, "runs": 1},
)
