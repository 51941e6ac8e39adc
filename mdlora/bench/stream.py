"""Speed, memory and mixing of streamed batches, beside pyarrow.dataset and a torch DataLoader."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdlora.bench.case import BenchCase
from mdlora.bench.results import cases_table, describe_run, make_case, spread_of
from mdlora.bench.stream_apart import BATCH_SIZE, WAYS, read_apart, share_statistic
from mdlora.bench.stream_rows import COLUMNS, NUM_FILES, write_stream_files
from mdlora.config import check_count
from mdlora.errors import ConfigError
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress

__all__ = ["CASE", "run_stream_bench", "stream_table"]

_OURS = "mdlora"
_LEAST_ROWS = 1000 * NUM_FILES
_LARGEST_GROUP = 131_072
_GROUPS_OF_A_FILE = 16
_RATE_BAR = 1_500_000
_MEMORY_BAR = 300
_SHARE_BATCHES = 64


def run_stream_bench(
    *,
    rows: int = 4_000_000,
    group_rows: int | None = None,
    runs: int = 3,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure one epoch of shuffled batches from 20 zstd files, each sorted by domain.

    The files (14 columns of int64) stand in a temporary folder for the time of the benchmark.
    Each round reads them once in every way, each time in a fresh process, in turn. Ours counts
    whole: listing the row groups, reading, shuffling, balancing the domains.

    Args:
        rows: of all files together, rounded down to a multiple of 20.
        group_rows: rows of a row group; default: 16 groups a file, 131,072 rows at most.
        runs: rounds; the medians count.
        progress: told of each measurement.

    Returns:
        As of `run_train_bench`: {"cases": [...], "machine", "date", "versions", "runs", "rows",
        "group_rows", "batch_size", "spread"}. The rates are rows per CPU second (all threads and
        processes) and per wall second; memory is the peak in 10^6 bytes above that after imports;
        the domain shares' case is chi-square per degree of freedom, 1 for rows drawn at random.

    Raises:
        ConfigError: rows is below 20,000, or another count below 1.
        RunError: a process failed.
    """
    check_count("rows", rows, low=1)
    check_count("group_rows", group_rows, low=1, optional=True)
    check_count("runs", runs, low=1)
    if rows < _LEAST_ROWS:
        raise ConfigError(f"rows={rows} is too few to measure; give {_LEAST_ROWS:,} or more.")
    rows -= rows % NUM_FILES
    if group_rows is None:
        group_rows = min(_LARGEST_GROUP, -(-rows // NUM_FILES // _GROUPS_OF_A_FILE))
    progress = progress or SilentProgress()
    measured: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        progress.note(f"writing {rows:,} rows")
        write_stream_files(folder, rows, group_rows)
        for run in range(runs):
            for way, results in measured.items():
                results.append(read_apart(way, folder))
                seconds = results[-1]["cpu_seconds"]
                progress.note(f"run {run + 1} of {runs}: {way}, {seconds:.2f} CPU s")
        chi_square, degrees = share_statistic(folder, _SHARE_BATCHES)
    spread = dict(_spread(measured))
    cases = [
        *_cases(spread),
        make_case("domain shares", chi_square / degrees, "chance", 1.0, "chi²/df"),
    ]
    return {
        "cases": [{**case, "threads": 1} for case in cases],
        **describe_run(1, "torch", "pyarrow"),
        "runs": runs,
        "rows": rows,
        "group_rows": group_rows,
        "batch_size": BATCH_SIZE,
        "spread": spread,
    }


def stream_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    caption = (
        f"Streaming: medians of {result['runs']} runs over {result['rows']:,} rows of "
        f"{len(COLUMNS)} columns ({result['machine']}, {result['date']})"
    )
    return cases_table(caption, result["cases"])


def _spread(
    measured: Mapping[str, list[dict[str, float]]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Median, min, max and all values of each figure of each way."""
    for way, results in measured.items():
        figures = {
            "rows per CPU second": [r["rows"] / r["cpu_seconds"] for r in results],
            "rows per second": [r["rows"] / r["wall_seconds"] for r in results],
            "MB above imports": [r["megabytes"] for r in results],
        }
        for figure, values in figures.items():
            yield f"{way}: {figure}", spread_of(values)


def _cases(spread: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for figure in ("rows per CPU second", "rows per second"):
        own = spread[f"{_OURS}: {figure}"]["median"]
        for rival in WAYS:
            if rival != _OURS:
                yield make_case(
                    "stream", own, rival, spread[f"{rival}: {figure}"]["median"], figure
                )
    rate = spread[f"{_OURS}: rows per CPU second"]["median"]
    unit = "rows per CPU second"
    yield make_case("stream", rate, "bar", _RATE_BAR, unit, bar=("at_least", 1.0))
    peak = spread[f"{_OURS}: MB above imports"]["max"]
    unit = "MB above imports"
    yield make_case("peak memory", peak, "bar", _MEMORY_BAR, unit, bar=("at_most", 1.0))


CASE = BenchCase(
    about="Read made-up files, each sorted by domain, into shuffled batches: beside "
    "pyarrow.dataset and a torch DataLoader, each time in a fresh process.",
    example="mdlora bench stream --rows 40000000 --json benchmarks/stream.json",
    run=run_stream_bench,
    table=stream_table,
    options={
        "rows": "rows of all files together",
        "group_rows": "rows of a row group (default: 16 groups a file, 131,072 rows at most)",
        "runs": "rounds; medians count",
    },
    small={"rows": _LEAST_ROWS, "runs": 1},
)
