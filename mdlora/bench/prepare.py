"""Time and memory of preparing a long CSV file, from start to end, in a process of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdlora.bench.apart import run_apart
from mdlora.bench.case import BenchCase
from mdlora.bench.prepare_rows import write_clicks
from mdlora.bench.results import Bar, cases_table, describe_run, make_case
from mdlora.config import check_count
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress

__all__ = ["CASE", "prepare_bench_table", "run_prepare_bench"]

_SECONDS_BAR, _BAR_ROWS = 90.0, 10_000_000
_PEAK_BAR = 3.0
_BAR: Bar = ("at_most", 1.0)


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
        "competitor", "competitor_value", "unit", "ratio" (ours / competitor_value), "bar", "met"
        and "threads". The bar for time is 90 s for 10 million rows, in proportion to `rows`; that
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
    limit = _SECONDS_BAR * rows / _BAR_ROWS
    wall, peak = measured["wall_seconds"], measured["peak_gigabytes"]
    cases = [
        make_case("prepare table, wall time", wall, "bar", limit, "seconds", bar=_BAR),
        make_case("prepare table, peak memory", peak, "bar", _PEAK_BAR, "GB", bar=_BAR),
    ]
    return {
        "cases": [{**case, "threads": threads} for case in cases],
        **describe_run(threads, "pyarrow", "numpy"),
        "rows": rows,
        "users": users,
        "csv_gigabytes": gigabytes,
        **measured,
    }


def prepare_bench_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    caption = (
        f"Preparing {result['rows']:,} rows of CSV, {result['users']:,} users, "
        f"{result['csv_gigabytes']:.2f} GB: {result['wall_seconds']:.1f} s, "
        f"{result['cpu_seconds']:.1f} CPU s ({result['machine']}, {result['date']})"
    )
    return cases_table(caption, result["cases"])


def _prepare_apart(source: Path, out: Path, threads: int) -> dict[str, float]:
    """Prepare in a fresh process: its wall seconds, CPU seconds and peak memory in 10^9 bytes."""
    arguments = (str(source), str(out), str(threads))
    began = time.perf_counter()
    measured = run_apart(
        "mdlora.bench.prepare_apart", *arguments, what="The preparation that is measured"
    )
    return {"wall_seconds": time.perf_counter() - began, **measured}


CASE = BenchCase(
    about="Make a CSV file of 12 columns, then measure `mdlora prepare table` on it, from start to "
    "end in a fresh process.",
    example="mdlora bench prepare --rows 10000000 --json benchmarks/prepare.json",
    run=run_prepare_bench,
    table=prepare_bench_table,
    options={"rows": "rows of the file", "threads": "threads of Arrow's pool"},
    small={"rows": 2000},
)
