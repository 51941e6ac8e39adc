"""Training speed by batch size, from a few hundred rows to tens of thousands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mdlora.bench.case import BenchCase
from mdlora.bench.made import make_rows, make_schema
from mdlora.bench.peers import FASTEST, PACKAGES, load_peers
from mdlora.bench.results import cases_table, compare_spreads, describe_run
from mdlora.bench.rows import MOVIES, USERS
from mdlora.bench.sweep import DEFAULT, WAYS, curves_of, our_way, spread_by, time_beside
from mdlora.config import check_count
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress
from mdlora.training.environment import use_threads

__all__ = ["CASE", "batches_table", "run_batches_bench"]


def run_batches_bench(
    *,
    batches: tuple[int, ...] = (256, 1024, 4096, 16_384, 65_536),
    rows: int = 65_536,
    runs: int = 5,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure DeepFM on rows of MovieLens-1M's shape (3 fields) for each batch size.

    Args:
        batches: rows of a batch.
        rows: of an epoch, but at least those of one batch.
        runs: rounds; the medians count.
        threads: CPU threads of everybody.
        progress: told of each measurement.

    Returns:
        As `run_train_bench`, with "curves".

    Raises:
        MissingExtraError: DeepCTR-Torch or torch-rechub is not installed.
        ConfigError: a number is below 1.
    """
    for size in batches:
        check_count("batches", size, low=1)
    check_count("rows", rows, low=1)
    check_count("runs", runs, low=1)
    check_count("threads", threads, low=1)
    load_peers()
    progress = progress or SilentProgress()
    with use_threads(threads):
        steps = {size: _measure(size, max(rows, size), runs, progress) for size in batches}
    return {
        "cases": [{**case, "threads": threads} for case in _cases(steps)],
        **describe_run(threads, "torch", "numpy", *PACKAGES),
        "runs": runs,
        "rows": rows,
        "spread": spread_by("batch {}", steps),
        "curves": curves_of("batches", "rows of a batch", "CPU ms of a step", steps),
    }


def batches_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    caption = (
        f"Steps by batch size: medians of {result['runs']} runs "
        f"({result['machine']}, {result['date']})"
    )
    return cases_table(caption, result["cases"])


def _measure(size: int, rows: int, runs: int, progress: Progress) -> dict[str, dict[str, Any]]:
    """CPU milliseconds of a step by name."""
    schema = make_schema([USERS, MOVIES], domains=2)
    chosen = make_rows(schema, rows, skewed=True)
    ours = {way: our_way(way, schema, chosen, size).epoch for way in WAYS}
    progress.note(f"batches of {size:,} rows")
    return time_beside(ours, schema, chosen, size, runs, progress)


def _cases(steps: Mapping[int, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for size, by_name in steps.items():
        for peer in FASTEST:
            own = by_name[DEFAULT]
            yield compare_spreads(f"step of {size:,} rows", own, peer, by_name[peer], "CPU ms")


CASE = BenchCase(
    about="DeepFM on made-up rows of MovieLens-1M's shape, in batches of 256 to 65,536 rows, "
    "beside DeepCTR-Torch, torch-rechub and a plain PyTorch loop.",
    example="mdlora bench batches --batches 256,4096 --json batches.json",
    run=run_batches_bench,
    table=batches_table,
    options={
        "batches": "rows of a batch",
        "rows": "rows of an epoch; one batch at least",
        "runs": "rounds; medians count",
        "threads": "CPU threads of everybody",
    },
    small={"batches": (256, 512), "rows": 512, "runs": 1},
)
