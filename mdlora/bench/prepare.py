"""Time and memory of preparing a long CSV file, from start to end, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mdlora.bench.prepare_rows import write_clicks
from mdlora.config import check_count
from mdlora.errors import RunError
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress
from mdlora.training.environment import describe_environment

__all__ = ["prepare_bench_table", "run_prepare_bench"]

_SECONDS_BAR, _BAR_ROWS = 90.0, 10_000_000
_PEAK_BAR = 3.0


def run_prepare_bench(
    *, rows: int = 1_000_000, threads: int = 2, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure `mdlora prepare table` on a CSV file of 12 columns that is made first, unmeasured.

    The file is prepared with the default split in a fresh process; its start is measured too.

    Args:
        rows: of the file; a tenth as many users, a million at most.
        threads: threads of Arrow's pool, which parses and compresses.
        progress: told what is going on.

    Returns:
        {"cases": [...], "machine", "date", "versions", "rows", "users", "csv_gigabytes",
        "wall_seconds", "cpu_seconds", "peak_gigabytes"}. A case has "case", "ours",
        "competitor", "competitor_value", "unit", "ratio" (ours / competitor_value) and
        "threads". The bar for time is 90 s for 10 million rows, in proportion to `rows`; the bar
        for memory is 3 GB for any number of rows.

    Raises:
        ConfigError: rows is below 1,000, or threads below 1.
        RunError: the process that is measured failed.
    """
    check_count("rows", rows, low=1000)
    check_count("threads", threads, low=1)
    progress = progress or SilentProgress()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "clicks.csv"
        progress.note(f"writing {rows:,} rows of CSV")
        users = write_clicks(source, rows)
        progress.note("preparing them")
        measured = _prepare_apart(source, Path(folder) / "data", threads)
        gigabytes = source.stat().st_size / 1e9
    made_with = describe_environment(threads, torch.device("cpu"))
    limit = _SECONDS_BAR * rows / _BAR_ROWS
    cases = [
        _case("prepare table, wall time", measured["wall_seconds"], limit, "seconds"),
        _case("prepare table, peak memory", measured["peak_gigabytes"], _PEAK_BAR, "GB"),
    ]
    return {
        "cases": [{**case, "threads": threads} for case in cases],
        "machine": made_with["processor"],
        "date": made_with["date"],
        "versions": {
            "mdlora": made_with["mdlora"],
            "python": made_with["python"],
            **{name: version(name) for name in ("pyarrow", "numpy")},
        },
        "rows": rows,
        "users": users,
        "csv_gigabytes": gigabytes,
        **measured,
    }


def prepare_bench_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    rows = tuple(
        (c["case"], f"{c['ours']:.2f}", f"{c['competitor_value']:.2f}", c["unit"],
         f"{c['ratio']:.2f}")
        for c in result["cases"]
    )  # fmt: skip
    caption = (
        f"Preparing {result['rows']:,} rows of CSV, {result['users']:,} users, "
        f"{result['csv_gigabytes']:.2f} GB: {result['wall_seconds']:.1f} s, "
        f"{result['cpu_seconds']:.1f} CPU s ({result['machine']}, {result['date']})"
    )
    return Table(caption, ("case", "ours", "bar", "unit", "ratio"), rows)


def _prepare_apart(source: Path, out: Path, threads: int) -> dict[str, float]:
    """Prepare in a fresh process: its wall seconds, CPU seconds and peak memory in 10^9 bytes."""
    command = [
        sys.executable,
        "-m",
        "mdlora.bench.prepare_apart",
        str(source),
        str(out),
        str(threads),
    ]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if done.returncode:
        raise RunError(f"The preparation that is measured failed:\n{done.stderr.strip()}")
    return {"wall_seconds": wall, **json.loads(done.stdout)}


def _case(case: str, ours: float, bar: float, unit: str) -> dict[str, Any]:
    return {
        "case": case,
        "ours": ours,
        "competitor": "bar",
        "competitor_value": bar,
        "unit": unit,
        "ratio": ours / bar,
    }
