"""Step time and memory as the table of users grows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from mdlora.bench.case import BenchCase
from mdlora.bench.network import Network
from mdlora.bench.peers import FASTEST, PACKAGES, load_peers
from mdlora.bench.results import (
    Bar,
    cases_table,
    compare_spreads,
    describe_run,
    make_case,
    spread_of,
)
from mdlora.bench.sweep import BACKBONE, DEFAULT, WAYS, curves_of, spread_by
from mdlora.bench.tables_apart import BATCH, table_memory, table_rows, table_training
from mdlora.bench.timing import step_times, time_rounds
from mdlora.config import check_count
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress
from mdlora.training.environment import use_threads

__all__ = ["CASE", "run_tables_bench", "tables_table"]

_DENSE = "mdlora dense"
_LATE = "mdlora catch_up"
_FIRST = " at the first size"
_STEP = "CPU ms a step"
_BAR: Bar = ("at_most", 1.3)
_FEW_STEPS_ABOVE = 100_000
_FEWEST_STEPS = 2


def run_tables_bench(
    *,
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000, 5_000_000, 20_000_000),
    dense_rows: int = 5_000_000,
    steps: int = 20,
    runs: int = 5,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure steps of DeepFM on 3 fields, 8 wide, batches of 4096, for each size of a table.

    All users are equally likely, so that no cache helps. Every round of a size also measures ours
    at the first size, which its ratio is to. Steps are measured alone; what `catch_up` puts off
    until an evaluation is a figure of its own. Memory is that of a process of its own.

    Args:
        sizes: users, that is rows of the table; the first is what others are compared with.
        dense_rows: the largest table that the others, and our dense optimizer, are measured with.
            They pass over the whole table in each step: on tables above 100,000 rows they do
            fewer steps, two at least.
        steps: steps of a measurement.
        runs: rounds; the medians count.
        threads: CPU threads of everybody.
        progress: told of each measurement.

    Returns:
        As `run_train_bench`, with "curves".

    Raises:
        MissingExtraError: DeepCTR-Torch or torch-rechub is not installed.
        ConfigError: a number is below 1.
        RunError: a process whose memory is measured failed.
    """
    for size in sizes:
        check_count("sizes", size, low=1)
    check_count("dense_rows", dense_rows, low=1)
    for name, value in (("steps", steps), ("runs", runs), ("threads", threads)):
        check_count(name, value, low=1)
    load_peers()
    progress = progress or SilentProgress()
    found: dict[int, dict[str, dict[str, Any]]] = {}
    cases: list[dict[str, Any]] = []
    with use_threads(threads):
        for size in sizes:
            progress.note(f"{size:,} users")
            dense = size <= dense_rows
            found[size] = _measure(size, sizes[0], steps, dense, runs, progress)
            cases += _cases(size, found[size], barred=threads == 1)
    for way in WAYS:
        if way != _DENSE or sizes[-1] <= dense_rows:
            progress.note(f"memory, {sizes[-1]:,} users, {way}")
            cases.append(_memory_case(way, sizes[-1]))
    shown = {
        size: {name: taken for name, taken in by_name.items() if name in (*WAYS, *FASTEST)}
        for size, by_name in found.items()
    }
    return {
        "cases": [{**case, "threads": threads} for case in cases],
        **describe_run(threads, "torch", "numpy", *PACKAGES),
        "runs": runs,
        "batch_size": BATCH,
        "spread": spread_by("{} users", found),
        "curves": curves_of(
            "tables", "rows of the users' table", f"CPU ms of a step of {BATCH:,} rows", shown
        ),
    }


def tables_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    caption = (
        f"Steps of {result['batch_size']:,} rows as a table grows: medians of {result['runs']} "
        f"runs ({result['machine']}, {result['date']})"
    )
    return cases_table(caption, result["cases"])


def _measure(
    size: int, first: int, steps: int, dense: bool, runs: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """CPU milliseconds of a step by name, and of bringing `catch_up`'s table up to date."""
    few = max(_FEWEST_STEPS, min(steps, steps * _FEW_STEPS_ABOVE // size))
    ours = {
        way: table_training(way, size, few if way == _DENSE else steps)
        for way in WAYS
        if way != _DENSE or dense
    }
    if size != first:
        ours |= {way + _FIRST: table_training(way, first, steps) for way in list(ours)}
    epochs = {name: training.epoch for name, training in ours.items()}
    if dense:
        schema, rows = table_rows(size, few)
        network = Network(schema=schema, backbone=BACKBONE, batch_size=BATCH)
        epochs |= {name: build(network, rows) for name, build in FASTEST.items()}
    seconds = time_rounds(epochs, runs, progress, warm_up=True)
    found = {name: step_times(epochs[name], took, 1e3) for name, took in seconds.items()}
    started = time.process_time()
    ours[_LATE].runner.optimizer.settle()
    late = spread_of([1e3 * (time.process_time() - started)])
    return {**found, f"{_LATE}, before an evaluation": late}


def _cases(
    size: int, found: Mapping[str, Mapping[str, Any]], *, barred: bool
) -> Iterator[dict[str, Any]]:
    for way in WAYS:
        if way + _FIRST in found:
            yield compare_spreads(
                f"step, {size:,} users, {way}",
                found[way],
                "its own" + _FIRST,
                found[way + _FIRST],
                _STEP,
                bar=_BAR if barred and way != _DENSE else None,
            )
    for peer in FASTEST:
        if peer in found:
            yield compare_spreads(
                f"step, {size:,} users, {DEFAULT}", found[DEFAULT], peer, found[peer], _STEP
            )


def _memory_case(way: str, size: int) -> dict[str, Any]:
    memory = table_memory(way, size)
    return make_case(
        f"memory, {size:,} users, {way}",
        memory["megabytes"],
        "weights and optimizer state",
        memory["needed_megabytes"],
        "MB above imports",
    )


CASE = BenchCase(
    about="Steps of 4096 rows as the table of users grows from 10 thousand to 20 million rows, "
    "beside DeepCTR-Torch, torch-rechub and a plain PyTorch loop; memory of the largest.",
    example="mdlora bench tables --sizes 10000,1000000 --json tables.json",
    run=run_tables_bench,
    table=tables_table,
    options={
        "sizes": "users, that is rows of the table; others are compared with the first",
        "dense_rows": "the largest table for competitors and our dense optimizer",
        "steps": "steps of a measurement",
        "runs": "rounds; medians count",
        "threads": "CPU threads of everybody",
    },
    small={"sizes": (100, 1000), "steps": 1, "runs": 1},
)
